"""What can be looked at of an explanation, and what its pictures say of themselves."""

import base64
import io
import re
import zlib
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pictures import noise
from PIL import Image
from small_networks import labelled, network

from onnx_deconv import Explainer, Explanations
from onnx_deconv.attribution.standing import Standing
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    VIEWS,
    Photo,
    Preprocess,
    Scales,
    Views,
    at_height,
    lattice_of,
    projection,
    saliency,
    save_sheet,
)
from onnx_deconv.imaging.canvas import banner
from onnx_deconv.imaging.lattice import smoothed
from onnx_deconv.imaging.layout import PlacedBox, PlacedLine, PlacedPicture, PlacedText, SheetLayout
from onnx_deconv.imaging.vector import pdf, svg

NASTY = "<b>&\"'cat"


@pytest.fixture(scope="module")
def explainer():
    return Explainer(labelled(network(size="32,32")), "guided", providers="cpu")


@pytest.fixture
def one(explainer):
    return explainer.explain(noise(64, 80))


# Pictures


def test_pictures_have_the_size_of_the_photograph(one):
    for picture in (one.heat, one.overlay, one.projection):
        assert picture.size == (80, 64)
        assert picture.mode == "RGB"


def test_the_projection_lies_where_the_model_looked(one):
    # 64×80 resized to 37×46 (shorter side 32·256/224), of which the centre 32×32 is shown.
    grey = np.asarray(one.projection) == 128
    assert grey[:3].all()
    assert grey[:, :10].all()
    assert not grey[8:-8, 16:-16].all()


def test_views_are_those_of_the_array(one):
    how = Preprocess(size=(32, 32))
    views = Views(Photo(noise(64, 80), *how.apply(noise(64, 80))), one.array, how)
    for view in ("heat", "overlay", "projection"):
        np.testing.assert_array_equal(one.views()[view], views[view])


def test_an_unknown_view_is_refused(one):
    with pytest.raises(InputError, match="no view is named 'glow': choose one of projection, heat"):
        one.views()["glow"]


def test_arrays_alone_have_numbers_but_no_pictures(explainer):
    (bare,) = explainer(np.zeros((1, 3, 32, 32), np.float32) + noise(32, 32).transpose(2, 0, 1)[None] / 255)
    for picture in (lambda: bare.heat, bare.show, lambda: Explanations([bare]).grid):
        with pytest.raises(InputError, match="arrays alone have no photograph"):
            picture()
    assert bare._repr_png_() is None
    assert Explanations([bare])._repr_png_() is None
    for shown in (bare._repr_html_(), Explanations([bare])._repr_html_()):
        assert "<img" not in shown
        assert bare.name in shown


# In a notebook


def cells(page):
    """The table of an explanation, by its row's name; the page must be well-formed."""
    root = ET.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", page))
    return {row[0].text: row[1].text for row in root.iter("tr")}, [image.attrib for image in root.iter("img")]


def test_a_notebook_shows_the_picture_and_what_it_is(one):
    told, (image,) = cells(one._repr_html_())
    assert told["explained"] == f"{one.label} (class {one.channel})"
    assert float(told["probability"]) == pytest.approx(one.score, rel=1e-2)
    assert told["rank"] == "1 of 5"
    assert told["method"] == f"guided, seed {one.seed}, from {one.layer}"
    with Image.open(io.BytesIO(one._repr_png_())) as opened:
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(one.side_by_side))
    packed = base64.b64decode(image["src"].removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(packed)) as opened:
        difference = np.asarray(opened.convert("RGB"), float) - np.asarray(one.side_by_side, float)
    assert abs(difference).mean() < 6  # it is packed with loss


def test_no_label_becomes_markup():
    proto = network(size="32,32")
    explainer = Explainer(proto, labels=[NASTY] * 5, providers="cpu")
    found = explainer.explain([noise(64, 80), noise(64, 80, seed=1)], preprocess="imagenet")
    for page in (found[0]._repr_html_(), found._repr_html_()):
        assert "<b>" not in page
        _, images = cells(page)
        assert all(NASTY in image["alt"] for image in images)
    told, _ = cells(found[0]._repr_html_())
    assert told["explained"].startswith(NASTY)


def test_several_show_as_a_grid(explainer):
    found = explainer.explain([noise(64, 80, seed=k) for k in range(3)])
    _, images = cells(found._repr_html_())
    assert len(images) == 3
    with Image.open(io.BytesIO(found._repr_png_())) as opened:
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(found.grid))
    sheet = found.sheet("heat", columns=3)
    assert len({each.top for each in placed(PlacedPicture, sheet)}) == 1
    for shown, each in zip(placed(PlacedPicture, sheet), found, strict=True):
        np.testing.assert_array_equal(shown.picture, at_height(each.views()["heat"], 256))
    with pytest.raises(InputError, match="no explanation"):
        Explanations().save("x.png")


def test_a_cell_that_runs_shows_it(one, monkeypatch):
    shown = []

    class IPython:
        class display:  # noqa: N801
            display = staticmethod(shown.append)

        @staticmethod
        def get_ipython():
            return type("Shell", (), {"kernel": object()})()

    monkeypatch.setitem(__import__("sys").modules, "IPython", IPython)
    one.show()
    assert shown == [one]


# In files


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")]
)
def test_the_suffix_says_the_format(one, tmp_path, suffix, kind):
    for view in VIEWS:
        one.save(tmp_path / f"{view}.{suffix}", view)
        with Image.open(tmp_path / f"{view}.{suffix}") as opened:
            assert opened.format == kind
            assert opened.size == one.views()[view].shape[1::-1]


def test_numbers_are_saved_too(one, tmp_path):
    one.save(tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), one.array)


@pytest.mark.parametrize("name", ["x", "x.gif", "x.svgz", "x.png.bak"])
def test_other_suffixes_are_refused(one, explainer, tmp_path, name):
    several = explainer.explain([noise(64, 80)])
    for save in (one.save, several.save, lambda path: one.save(path, "heat")):
        with pytest.raises(InputError, match=r"written as \.png, \.jpg.*choose one of these suffixes"):
            save(tmp_path / name)
    with pytest.raises(InputError, match="written as"):
        one.save(tmp_path / "heat.svg", "heat")  # one picture has nothing that is not pixels
    assert list(tmp_path.iterdir()) == []


SHEET = SheetLayout(
    (60, 90),
    [
        PlacedPicture(4, 5, noise(20, 30)),
        PlacedPicture(30, 50, noise(10, 12, 1)),
        PlacedText(26, 5, "a <b> & (c)\\", 12),
        PlacedText(42, 50, "née", 12),
        PlacedLine([(10, 50), (30, 40)], (0, 114, 178), 2),
        PlacedBox(2, 60, 12, 85, fill=(230, 159, 0)),
        PlacedBox(14, 60, 24, 85),
    ],
)


def placed(kind, sheet=SHEET):
    return [mark for mark in sheet.marks if isinstance(mark, kind)]


def test_svg_holds_pictures_and_texts():
    root = ET.fromstring(svg(SHEET))
    assert (root.attrib["width"], root.attrib["height"]) == ("90", "60")
    images = [e for e in root if e.tag.endswith("image")]
    for image, each in zip(images, placed(PlacedPicture), strict=True):
        (href,) = (value for key, value in image.attrib.items() if key.endswith("href"))
        with Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))) as opened:
            np.testing.assert_array_equal(np.asarray(opened), each.picture)
        where = [int(image.attrib[key]) for key in ("y", "x", "height", "width")]
        assert where == [each.top, each.left, *each.picture.shape[:2]]
    texts = [e for e in root if e.tag.endswith("text")]
    assert [e.text for e in texts] == [each.text for each in placed(PlacedText)]
    (line,) = (e for e in root if e.tag.endswith("polyline"))
    assert (line.attrib["points"], line.attrib["stroke"]) == ("10,50 30,40", "#0072b2")
    filled, hollow = [e for e in root if e.tag.endswith("rect")][1:]  # after the ground
    assert [filled.attrib[key] for key in ("x", "y", "width", "height", "fill")] == [
        "60", "2", "25", "10", "#e69f00",
    ]  # fmt: skip
    assert hollow.attrib["fill"] == "none"


def pdf_objects(content):
    """Every object of a PDF by its number, found through the table at its end."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF", content)[1])
    table = content[start:].split(b"\n")
    count = int(table[1].split()[1])
    assert table[2] == b"0000000000 65535 f "
    offsets = [int(line.split()[0]) for line in table[3 : 2 + count]]
    for number, offset in enumerate(offsets, 1):
        assert content[offset:].startswith(f"{number} 0 obj\n".encode())
    return {n: content[o:].split(b"\nendobj")[0] for n, o in enumerate(offsets, 1)}


def stream(thing):
    head, _, rest = thing.partition(b"\nstream\n")
    length = int(re.search(rb"/Length (\d+)", head)[1])
    assert rest[length:] == b"\nendstream"
    return zlib.decompress(rest[:length])


def test_pdf_holds_pictures_and_texts():
    objects = pdf_objects(pdf(SHEET))
    assert b"/MediaBox [0 0 90 60]" in objects[3]
    for number, each in enumerate(placed(PlacedPicture)):
        drawn = objects[int(re.search(rf"/P{number} (\d+) 0 R".encode(), objects[3])[1])]
        assert stream(drawn) == each.picture.tobytes()
        assert f"/Width {each.picture.shape[1]} /Height {each.picture.shape[0]}".encode() in drawn
    steps = stream(objects[4]).decode("cp1252")
    # A page's origin is at its bottom: the first picture covers rows 4 to 24 of 60.
    assert "q 30 0 0 20 5 36 cm /P0 Do Q" in steps
    assert r"(a <b> & \(c\)\\) Tj" in steps
    assert "(née) Tj" in steps
    assert "10 10 m 30 20 l S" in steps  # the page is 60 high
    assert "60 48 25 10 re f" in steps
    assert "60 36 25 10 re S" in steps


def test_a_sheet_with_lines_keeps_the_pixels_of_its_pictures():
    drawn = SheetLayout(
        SHEET.size, [mark for mark in SHEET.marks if mark not in placed(PlacedText)]
    ).picture()
    for each in placed(PlacedPicture):
        height, width = each.picture.shape[:2]
        there = drawn[each.top : each.top + height, each.left : each.left + width]
        np.testing.assert_array_equal(there, each.picture)
    np.testing.assert_array_equal(drawn[4:10, 62:80], np.broadcast_to((230, 159, 0), (6, 18, 3)))
    np.testing.assert_array_equal(drawn[45, 20], (0, 114, 178))


def test_letters_that_a_pdf_font_lacks_do_no_harm():
    sheet = SheetLayout((20, 20), [PlacedText(0, 0, "猫 cat", 12)])
    assert b"(? cat) Tj" in stream(pdf_objects(pdf(sheet))[4])


def test_sheets_are_saved_with_their_captions(one, explainer, tmp_path):
    one.save(tmp_path / "one.svg")
    texts = [e.text for e in ET.parse(tmp_path / "one.svg").getroot() if e.tag.endswith("text")]
    assert texts[0] == "photograph"
    assert any(one.caption in text for text in texts)
    explainer.explain([noise(64, 80), noise(64, 80, seed=1)]).save(tmp_path / "grid.pdf")
    assert (tmp_path / "grid.pdf").read_bytes().startswith(b"%PDF-1.4")
    with pytest.raises(InputError, match="cannot be written"):
        save_sheet(tmp_path / "no folder" / "x.pdf", SHEET)


# What a picture says of itself


def test_rank_and_probability_are_those_of_the_scores(explainer):
    batch = noise(32, 32).transpose(2, 0, 1)[None].astype(np.float32) / 255
    scores = explainer.scores(batch)[0]
    order = list(np.argsort(-scores))
    for k in range(5):
        (one,) = explainer(batch, k)
        assert one.standing.rank == order.index(k) + 1
        assert one.standing.among == 5
        assert one.standing.probability == pytest.approx(float(scores[k]), rel=1e-5)
        assert one.standing.improbable == (scores[k] < scores.max() / 100)
    (unit,) = explainer(batch, 2, layer="r2")
    assert (unit.standing.of_class, unit.standing.probability) == (False, None)


def test_what_has_no_softmax_has_no_probability():
    proto = network(size="32,32")
    del proto.graph.node[-1]
    proto.graph.output[0].name = "scores"
    explainer = Explainer(proto, providers="cpu")
    (one,) = explainer(noise(32, 32).transpose(2, 0, 1)[None].astype(np.float32))
    assert one.standing.probability is None
    assert not one.standing.improbable
    assert "score" in cells(one._repr_html_())[0]


def of_class(rank, probability=None, *, improbable=False):
    return Standing("scores", True, rank, 1000, probability, improbable)


def test_without_probabilities_the_rank_decides():
    head = Explainer(network(size="32,32"), providers="cpu").head
    scores = np.arange(9.0, 0.0, -1.0) + 100  # no probabilities, whatever the model ends in
    told = [Standing.of_a_class(head, "scores", scores, k).improbable for k in range(9)]
    assert told == [False] * 5 + [True] * 4


def test_a_class_that_is_not_there_is_marked_in_every_picture(explainer):
    found = explainer.explain(noise(400, 500), top=5)
    unseen = [one for one in found if one.standing.improbable]
    assert unseen
    assert not found[0].standing.improbable
    for one in unseen:
        assert f"rank {one.standing.rank} of 5" in one.caption
        assert "the model hardly sees this class" in one._repr_html_()
        views = one.views()
        plain = Views(views.photo, one.array, one.shown)
        for view in ("heat", "overlay", "projection-on-photo"):
            marked, bare = views[view], plain[view]
            assert (marked[:370] == bare[:370]).all()
            assert (marked[370:] != bare[370:]).any()


def test_a_banner_is_left_out_where_nobody_could_read_it():
    small = noise(10, 20)
    np.testing.assert_array_equal(banner(small, "rank 400 of 1000"), small)
    large = np.full((100, 300, 3), 200, np.uint8)
    marked = banner(large, "rank 400 of 1000")
    changed = np.nonzero((marked != large).any(axis=(1, 2)))[0]
    assert changed.min() > 70
    assert changed.max() == 99
    assert marked[changed].max() > 240  # white letters
    assert large.min() == 200  # the picture itself is not drawn on


def test_what_is_compared_shares_its_scale(explainer):
    found = explainer.explain(noise(64, 80), top=3)
    scales = [one.views().scales.saliency for one in found]
    assert len(set(scales)) == 3
    for shown, one in zip(placed(PlacedPicture, found.sheet("heat")), found, strict=True):
        drawn = at_height(one.views(type(one.views().scales)(1.0, max(scales)))["heat"], 256)
        np.testing.assert_array_equal(shown.picture, drawn)
    others = explainer.explain([noise(64, 80), noise(64, 80, seed=1)])
    for shown, one in zip(placed(PlacedPicture, others.sheet("heat")), others, strict=True):
        np.testing.assert_array_equal(shown.picture, at_height(one.views()["heat"], 256))


def test_a_single_unit_is_shown_inside_its_receptive_field(explainer):
    unit = explainer.explain(noise(64, 80), 2, layer="r2", position=(3, 4))
    (y0, x0, y1, x1) = unit.shown.box
    sheet = unit.views().sheet()
    assert len(placed(PlacedPicture, sheet)) == 6
    factor = 10  # 32 pixels are shown as 320
    inside = projection(unit.array)[y0:y1, x0:x1]
    drawn = placed(PlacedPicture, sheet)[5].picture
    enlarged = at_height(inside.repeat(factor, 0).repeat(factor, 1), drawn.shape[0])
    np.testing.assert_array_equal(drawn, enlarged)
    assert max(drawn.shape[:2]) == 320
    assert not unit.array[:, :y0].any()
    assert not unit.array[:, :, x1:].any()
    assert len(placed(PlacedPicture, explainer.explain(noise(64, 80), 2, layer="r2").views().sheet())) == 4


# The lattice of strided layers


def hill(side=128):
    at = (np.arange(side) - side / 2) / (side / 5)
    return np.exp(-(at[:, None] ** 2) - at**2)


def tiled(pattern, side=128):
    count = -(-side // len(pattern))
    return np.tile(pattern, (count, count))[:side, :side]


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_lattice_is_found_and_averaged_away(period):
    pattern = np.random.default_rng(period).random((period, period)) + 0.1
    magnitude = hill() * tiled(pattern)
    found = lattice_of(magnitude)
    assert found.period == period
    assert found.share > 0.8
    np.testing.assert_allclose(
        smoothed(magnitude, period), hill() * pattern.mean(), atol=0.06 * pattern.mean()
    )
    # Of the pattern alone nothing is left, at the borders neither.
    np.testing.assert_allclose(smoothed(tiled(pattern), period), pattern.mean(), rtol=1e-12)


def test_a_lattice_in_noise_is_still_found():
    pattern = np.random.default_rng(0).random((4, 4)) + 0.1
    noisy = hill() * (tiled(pattern) + 0.2 * np.random.default_rng(1).random((128, 128)))
    assert lattice_of(noisy).period == 4


@pytest.mark.parametrize("seed", range(5))
def test_no_lattice_is_seen_where_there_is_none(seed):
    rng = np.random.default_rng(seed)
    few = np.zeros((128, 128))
    few[rng.integers(0, 128, 30), rng.integers(0, 128, 30)] = rng.random(30)
    patch = np.zeros((128, 128))
    patch[40:55, 60:75] = rng.random((15, 15))
    for magnitude in (
        rng.random((128, 128)),
        hill() * rng.random((128, 128)),
        few,
        patch,
        hill(),
        few * 0,
        few[:3, :3],
    ):
        assert lattice_of(magnitude) is None


def test_the_lattice_is_named_and_left_in_the_projection():
    how = Preprocess(size=(128, 128), fit="none")
    photo = Photo(noise(128, 128), *how.apply(noise(128, 128)))
    values = np.repeat((hill() * tiled(np.array([[1.0, 0.1], [0.1, 0.1]])))[None], 3, axis=0)
    views = Views(photo, values, how)
    assert views.lattice.period == 2
    assert "lattice of 2 pixels" in " ".join(text.text for text in placed(PlacedText, views.sheet()))
    np.testing.assert_array_equal(views["projection"], projection(values))
    plain = saliency(smoothed(np.abs(values).max(axis=0), 2))
    np.testing.assert_array_equal(
        views["heat"], Views(photo, plain[None].repeat(3, 0), how, scales=Scales(1, 1))["heat"]
    )
