"""Comparison sheets, and the plain pictures of numbers that figures are made of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import labelled, network

from onnx_deconv import Explainer, InputError, Semantics
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.attribution.sessions import Sessions
from onnx_deconv.experiments.sheet import Column, across_layers, across_tables, compare, lay_out_sheet
from onnx_deconv.imaging import BLACK, Canvas, Photo, Preprocess, montage, scale_of
from onnx_deconv.imaging.axes import number, ticks
from onnx_deconv.imaging.charts import bar_chart, line_chart
from onnx_deconv.imaging.legends import COLOURS, coloured, with_colour_bar, with_legend

PREPROCESS = Preprocess(size=(16, 16), fit="stretch", scale=1 / 64, mean=(2.0,))
TABLES = ["deconvnet", "guided", "gradient"]


def photo(seed):
    picture = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    return Photo(picture, *PREPROCESS.apply(picture))


PHOTOS = [photo(1), photo(2)]


@pytest.fixture(scope="module")
def explainer():
    return Explainer(labelled(network()), providers="cpu")


def alone(rules, one, *arguments, **more):
    explainer = Explainer(labelled(network()), rules, providers="cpu")
    return explainer(one.tensor[None], *arguments, **more)


def test_tables_are_compared_on_one_target(explainer):
    rows = compare(across_tables(explainer, TABLES, Selection([2])), PHOTOS)
    for row, one in zip(rows, PHOTOS, strict=True):
        for cell, rules in zip(row, TABLES, strict=True):
            (expected,) = alone(rules, one, 2)
            np.testing.assert_array_equal(cell.explanation.reconstruction, expected.reconstruction)
            assert cell.caption == f"{rules}: cat, {number(expected.score)}"
    assert not np.array_equal(rows[0][0].explanation.reconstruction, rows[0][2].explanation.reconstruction)


def test_tables_keep_the_other_choices():
    one = Explainer(network(), Semantics(unpool="overwrite", activations="relu"), providers="cpu")
    for column, rules in zip(across_tables(one, TABLES, Selection()), TABLES, strict=True):
        assert column.explainer.semantics == Semantics(rules, unpool="overwrite", activations="relu")


def test_classes_are_each_photographs_own_strongest(explainer):
    rows = compare([Column(explainer, Selection(top=3))], PHOTOS)
    for row, one in zip(rows, PHOTOS, strict=True):
        expected = alone("deconvnet", one, top=3)
        assert [cell.explanation.channel for cell in row] == [e.channel for e in expected]
        assert row[0].explanation.score >= row[1].explanation.score >= row[2].explanation.score


def test_layers_show_their_strongest_map(explainer):
    ((first, second),) = compare(across_layers(explainer, ["r1", "r2"]), PHOTOS[:1])
    (expected,) = alone("deconvnet", PHOTOS[0], layer="r2")
    assert second.explanation.channel == expected.channel
    assert second.caption == f"r2 map {expected.channel}, {number(expected.score)}, {expected.made_by}"
    assert expected.made_by.startswith("deconvnet")
    assert first.caption.startswith("r1 map ")


def test_models_of_a_layer_are_made_once_however_few_are_kept(explainer, monkeypatch):
    made, make = [], Sessions._made
    monkeypatch.setattr(Sessions, "_made", lambda self, *key: made.append(key[0]) or make(self, *key))
    one_layer = Explainer(explainer.model, explainer.semantics, max_layers=1)
    compare(across_layers(one_layer, ["r1", "r2", "r1"]), PHOTOS)
    assert made == ["r1", "r2", "r1"]


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="nothing to compare"):
        compare([], PHOTOS)
    with pytest.raises(InputError, match="nothing to draw"):
        lay_out_sheet([], [], [], PREPROCESS)


def cells(sheet, rows, columns, height):
    """Cut a sheet without captions' lines into its pictures."""
    step = (len(sheet) - 8) // rows
    return [
        [sheet[8 + r * step :][:height, 8 + c * (height + 8) :][:, :height] for c in range(columns)]
        for r in range(rows)
    ]


@pytest.mark.parametrize("view", ["projection", "heat", "overlay"])
def test_a_shared_scale_lets_brightness_be_compared(explainer, view):
    """Of two maps of one layer the one twice as strong has to look twice as bright."""
    rows = compare([Column(explainer, Selection([0, 1], layer="r1"))], PHOTOS)
    of = {"projection": scale_of}.get(view, lambda values: scale_of(np.abs(values).max(0), 99))
    scales = np.array([[of(c.explanation.reconstruction) for c in row] for row in rows])
    assert len(set(scales.ravel())) == 4
    drawn = {
        scale: cells(
            lay_out_sheet(rows, PHOTOS, ["a", "b"], PREPROCESS, view=view, scale=scale, height=64).picture(),
            2,
            3,
            64,
        )
        for scale in ("own", "row", "column", "sheet")
    }
    strongest = np.unravel_index(scales.argmax(), scales.shape)
    for r, c in np.ndindex(2, 2):
        own, row, column, sheet = (drawn[scale][r][c + 1] for scale in ("own", "row", "column", "sheet"))
        assert np.array_equal(own, row) == (scales[r, c] == scales[r].max())
        assert np.array_equal(own, column) == (scales[r, c] == scales[:, c].max())
        assert np.array_equal(column, sheet) == (c == strongest[1])
    np.testing.assert_array_equal(drawn["own"][0][0], drawn["sheet"][0][0])


# --- captions -------------------------------------------------------------------------------------


def ink(picture):
    return np.argwhere((picture != 255).any(-1))


@pytest.mark.parametrize(("width", "size"), [(100, 12), (256, 16), (300, 18), (2000, 20)])
def test_captions_grow_with_their_cell(width, size):
    black = np.zeros((20, width, 3), np.uint8)
    sheet = montage([black], 1, ["Mg"], gap=0)
    rows = ink(sheet[20:])[:, 0]
    assert 0.7 * size <= rows.max() - rows.min() + 1 <= 1.2 * size


def test_a_caption_is_broken_between_words_and_shortened_in_its_last_line():
    black = np.zeros((10, 90, 3), np.uint8)
    text = "one two three four five six seven eight nine ten"
    one, two, three = (montage([black], 1, [text], gap=0, lines=n) for n in (1, 2, 3))
    assert [len(sheet) for sheet in (one, two, three)] == [10 + 18, 10 + 36, 10 + 54]
    for sheet in (one, two, three):
        assert ink(sheet[10:])[:, 1].max() < 90
    np.testing.assert_array_equal(two[:28], three[:28])
    assert not np.array_equal(one[:28], two[:28])  # ends in dots


def test_lines_that_no_caption_needs_take_no_room():
    black = np.zeros((10, 90, 3), np.uint8)
    np.testing.assert_array_equal(montage([black], 1, ["a"], lines=3), montage([black], 1, ["a"]))


# --- plots ----------------------------------------------------------------------------------------

reals = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: 0.0 if abs(value) < 1e-9 else value)


@given(low=reals, width=st.floats(1e-6, 1e9))
def test_ticks_are_round_few_and_enclose_the_range(low, width):
    high = low + width
    found = ticks(low, high)
    step = found[1] - found[0]
    slack = 1e-6 * max(step, abs(low) * 1e-6)
    assert found[0] <= low + slack + 1e-6 * step
    assert found[-1] >= high - slack - 1e-6 * step
    assert 2 <= len(found) <= 8
    if abs(low) < 1e3 * step:
        assert f"{step:.0e}"[0] in "1235"
        np.testing.assert_allclose(np.diff(found), step, rtol=1e-6)


def test_a_range_of_nothing_has_ticks():
    assert ticks(0, 0)[0] == 0
    assert ticks(5, 5)[0] <= 5 < ticks(5, 5)[-1]


def test_numbers_have_three_digits():
    told = [number(v) for v in (0, 1, 0.12345, 123456, -2.5, 1e-9, 3e12, 0.5831)]
    assert told == ["0", "1", "0.123", "123000", "-2.5", "1e-09", "3e+12", "0.583"]


def where(chart, colour):
    """Rows and columns where a colour is seen, smoothed edges left out."""
    return np.argwhere((np.abs(chart.astype(int) - colour) <= 2).all(-1))


def test_curves_lie_where_their_numbers_say():
    """One curve along the bottom, one along the top, over the whole width of the frame."""
    chart = line_chart([0, 1, 2], [[0, 0, 0], [10, 10, 10]], size=(200, 300)).picture()
    low, high = where(chart, COLOURS[0]), where(chart, COLOURS[1])
    assert low[:, 0].min() > high[:, 0].max() + 100
    assert np.ptp(low[:, 0]) <= 2
    chart = line_chart([0, 1, 2], [[0, 5, 10]], size=(200, 300)).picture().astype(int)
    rising = np.argwhere(chart[..., 2] - chart[..., 0] > 60)
    slope, _ = np.polyfit(rising[:, 1], rising[:, 0], 1)
    span = (low[:, 0].mean() - high[:, 0].mean()) / (np.ptp(low[:, 1]))
    assert slope == pytest.approx(-span, rel=0.03)


def test_what_is_not_finite_leaves_a_gap():
    whole = where(line_chart([0, 1, 2, 3], [[1, 1, 1, 1]]).picture(), COLOURS[0])
    gap = where(line_chart([0, 1, 2, 3], [[1, 1, math.nan, 1]]).picture(), COLOURS[0])
    assert 0 < len(gap) < len(whole) / 2
    assert len(where(line_chart([0, 1], [[math.nan, math.inf]]).picture(), COLOURS[0])) == 0


def test_bars_are_as_high_as_their_numbers():
    chart = bar_chart(["a"], ["x", "y"], np.array([[1.0, 4.0]]), np.zeros((1, 2)), size=(200, 300)).picture()
    chart = chart[:, :300]
    low, high = (np.ptp(where(chart, colour)[:, 0]) + 1 for colour in COLOURS[:2])
    assert high == pytest.approx(4 * low, abs=8)
    whisker = bar_chart(["a"], ["x"], np.array([[2.0]]), np.array([[1.0]]), size=(200, 300)).picture()
    whisker = whisker[:, :300]
    bar = where(whisker, COLOURS[0])
    middle = int(bar[:, 1].mean())
    top = bar[:, 0].min()
    assert (whisker[top - 10, middle - 1 : middle + 2] < 140).any()


def test_maps_are_coloured_from_dark_to_bright_and_their_bar_is_too():
    picture = coloured(np.array([[0.0, 5.0, 10.0]]), 0, 10)
    brightness = picture.astype(int).sum(-1)[0]
    assert brightness[0] < brightness[1] < brightness[2]
    assert len({tuple(p) for p in coloured(np.ones((2, 2)), 1, 1).reshape(-1, 3)}) == 1
    wide = with_colour_bar(picture.repeat(100, 0).repeat(100, 1), 0, 10).picture()
    np.testing.assert_array_equal(wide[:, :300], picture.repeat(100, 0).repeat(100, 1))
    bar = wide[:, 300 + 10].astype(int).sum(-1)
    assert bar[0] == brightness[2]
    assert bar[-1] == brightness[0]


def test_a_legend_tells_each_colour():
    picture = np.zeros((100, 50, 3), np.uint8)
    found = with_legend(picture, {"cat": COLOURS[0], "dog": COLOURS[1]}).picture()
    np.testing.assert_array_equal(found[:, :50], picture)
    first, second = where(found, COLOURS[0]), where(found, COLOURS[1])
    assert len(first) > 50
    assert first[:, 0].max() < second[:, 0].min()
    np.testing.assert_array_equal(with_legend(picture, {}).picture()[:, :50], picture)


def test_a_canvas_leaves_the_picture_as_it_was():
    picture = np.full((10, 10, 3), 200, np.uint8)
    canvas = Canvas(picture)
    canvas.box((2, 3, 6, 8), BLACK, fill=(1, 2, 3))
    canvas.box((4, 4, 4, 9), BLACK)  # of no height: nothing
    drawn = canvas.picture()
    assert (picture == 200).all()
    np.testing.assert_array_equal(np.argwhere((drawn != 200).any(-1)).min(0), [2, 3])
    np.testing.assert_array_equal(np.argwhere((drawn != 200).any(-1)).max(0), [5, 7])
