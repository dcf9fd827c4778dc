"""Invariance, evolution, correspondence: against naive loops and cases whose answer is known."""

from itertools import product

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from oracle import assert_close
from small_networks import labelled, model, network, random

from onnx_deconv import Explainer, InputError, UnknownLayerError
from onnx_deconv.experiments.common import default_layers
from onnx_deconv.experiments.correspondence import (
    RANDOM,
    correspondence,
    sign_distances,
)
from onnx_deconv.experiments.evolution import checkpoints_in, evolution, natural
from onnx_deconv.experiments.figures import draw_correspondence, draw_evolution, draw_invariance
from onnx_deconv.experiments.invariance import invariance, transformation
from onnx_deconv.experiments.parts import read_parts
from onnx_deconv.imaging import Geometry, Photo, Preprocess, moved
from onnx_deconv.labels import Labels

IMAGES = random(3, 3, 10, 12, seed=3)
OWN_SIZE = Preprocess(size=None)


def explainer(proto=None):
    return Explainer(network() if proto is None else proto, providers="cpu")


def values_of(proto, images, *names):
    return ReferenceEvaluator(proto).run(list(names), {"x": images})


# --- invariance -----------------------------------------------------------------------------------


def test_distances_are_those_of_a_naive_loop():
    amounts, layers = [0.5, 1.0, -2.0], ["r1", "c2", "scores"]
    found = invariance(explainer(), IMAGES, lambda a: IMAGES * np.float32(a), amounts, layers=layers)
    for i, (a, amount) in product(range(3), enumerate(amounts)):
        one = IMAGES[i : i + 1]
        before = values_of(network(), one, *layers)
        after = values_of(network(), one * np.float32(amount), *layers)
        for layer, x, y in zip(layers, before, after, strict=True):
            assert found.norms[layer][i] == pytest.approx(np.sqrt((x**2).sum()), rel=1e-4)
            distance = np.sqrt(((x - y) ** 2).sum())
            assert found.distances[layer][i, a] == pytest.approx(distance, rel=1e-4, abs=1e-4)
        unit = before[-1].argmax()
        assert found.targets[i] == unit
        (probability,) = values_of(network(), one * np.float32(amount), "y")
        assert found.scores[i, a] == pytest.approx(probability[0, unit], abs=1e-5)
        assert found.predictions[i, a] == probability.argmax()


def test_a_net_that_cannot_see_a_circular_shift_does_not_move():
    """1×1 filters and a global mean do not know where a pixel is; a layer of positions does."""
    proto = model("c = Conv(x, k) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)", {
        "k": random(4, 3, 1, 1),
    }, "N,3,H,W")  # fmt: skip
    shifted = lambda amount: np.roll(IMAGES, int(amount), axis=2)  # noqa: E731
    found = invariance(
        explainer(proto), IMAGES, shifted, range(10), layers=["r", "y"], targets=[0] * len(IMAGES)
    )
    np.testing.assert_allclose(found.distances["y"], 0, atol=1e-5)
    np.testing.assert_array_equal(found.distances["r"][:, 0], 0)
    assert (found.distances["r"][:, 1:] > 0.1 * found.norms["r"][:, None]).all()


def test_the_true_class_may_be_named():
    found = invariance(
        explainer(labelled(network())), IMAGES, lambda _: IMAGES, [0], targets=["dog", 0, "house cat"]
    )
    (probability,) = values_of(network(), IMAGES, "y")
    np.testing.assert_array_equal(found.targets, [3, 0, 2])
    np.testing.assert_allclose(found.scores[:, 0], probability[[0, 1, 2], [3, 0, 2]], atol=1e-5)


def test_the_first_and_the_last_convolution_and_the_scores_are_followed():
    assert default_layers(explainer()) == ["r1", "r2", "scores"]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"targets": [1]}, "1 classes for 3 images"),
        ({"targets": [0, 1, 5]}, "there is no class 5: the model has 0 to 4"),
        ({"amounts": []}, "no amounts"),
        ({"images": IMAGES[0]}, "has shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(more, match):
    arguments = {"images": IMAGES, "amounts": [1.0]} | more
    with pytest.raises(InputError, match=match):
        invariance(explainer(), transformed=lambda _: IMAGES, **arguments)


def test_pictures_are_transformed_before_they_become_numbers():
    view = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    preprocess = Preprocess(size=(8, 8), scale=1 / 255, mean=(0.5,), layout="NHWC")
    found = transformation("shift", [view, view[::-1].copy()], preprocess)(0.25)
    assert found.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(found[0, 2:], view[:-2] / 255 - 0.5, atol=1e-6)
    np.testing.assert_allclose(found[:, :2], 128 / 255 - 0.5, atol=1e-6)
    with pytest.raises(InputError, match="no transformation 'mirror': choose one of shift, scale, rotation"):
        transformation("mirror", [view], preprocess)


# --- transformed pictures -------------------------------------------------------------------------

NOISE = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_quarter_turns_are_anticlockwise(quarters):
    np.testing.assert_array_equal(moved(NOISE, angle=90 * quarters), np.rot90(NOISE, quarters))


@given(down=st.integers(-12, 12))
def test_a_shift_moves_rows_and_leaves_grey(down):
    found = moved(NOISE, down=down, fill=7)
    for y in range(9):
        np.testing.assert_array_equal(found[y], NOISE[y - down] if 0 <= y - down < 9 else 7)


def test_scaling_keeps_the_centre():
    """Twice the size: each pixel becomes 2×2, the middle ones stay in the middle."""
    blocks = np.random.default_rng(2).integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    larger = moved(blocks, scale=2)
    np.testing.assert_array_equal(larger[2:6, 2:6], np.broadcast_to(blocks[5, 5], (4, 4, 3)))
    np.testing.assert_array_equal(larger[10:14, 10:14], np.broadcast_to(blocks[9, 9], (4, 4, 3)))
    smaller = moved(blocks, scale=0.5, fill=9)
    assert (smaller[:3] == 9).all()
    assert (smaller[6:10, 6:10] != 9).any()
    with pytest.raises(InputError, match="scale is 0"):
        moved(blocks, scale=0)


# --- evolution ------------------------------------------------------------------------------------


def saved(folder, seeds):
    folder.mkdir(exist_ok=True)
    for epoch, seed in seeds.items():
        onnx.save(network(seed=seed), folder / f"epoch{epoch}.onnx")
    return checkpoints_in(folder)


def test_each_checkpoint_shows_its_strongest_activation(tmp_path):
    files = saved(tmp_path, {1: 0, 2: 1, 10: 2})
    assert [path.name for path in files] == ["epoch1.onnx", "epoch2.onnx", "epoch10.onnx"]
    images, channels = random(5, 3, 10, 10, seed=9), {"r1": [0, 3], "scores": [4]}
    inside, scores = evolution(files, images, channels, batch=2)
    assert inside.checkpoints == ("epoch1", "epoch2", "epoch10")
    assert (inside.layer, inside.channels, scores.layer) == ("r1", (0, 3), "scores")
    for t, seed in enumerate((0, 1, 2)):
        proto = network(seed=seed)
        values, logits = values_of(proto, images, "r1", "scores")
        for k, channel in enumerate((0, 3)):
            best = max(np.ndindex(5, 10, 10), key=lambda at: values[at[0], channel, at[1], at[2]])
            assert inside.images[t, k] == best[0]
            np.testing.assert_array_equal(inside.positions[t, k], best[1:])
            assert inside.equals[t, k] == 0
            assert inside.activations[t, k] == pytest.approx(values[:, channel].max(), rel=1e-5)
            (one,) = explainer(proto)(images[best[0] : best[0] + 1], channel, layer="r1", position=best[1:])
            assert_close(inside.projections[t, k], one.reconstruction)
        assert scores.images[t, 0] == logits[:, 4].argmax()
    assert scores.positions.shape == (3, 1, 0)
    assert inside.projections.shape == (3, 2, 3, 10, 10)


def test_activations_that_equal_the_strongest_are_counted(tmp_path):
    """A ReLU6 of two and one times an image, then a pool: each number above 6 is as strong as all others."""
    weights = {
        "w": np.float32([2, 1]).reshape(2, 1, 1, 1),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    body = "c = Conv(x, w) k = Clip(c, low, high) r = MaxPool<kernel_shape=[1,1]>(k) y = Flatten(r)"
    onnx.save(model(body, weights, "N,1,2,2"), tmp_path / "a.onnx")
    dark, one = np.zeros((1, 1, 2, 2), np.float32), np.float32([[[[1, 5], [4, 0]]]])
    for images, expected in (
        ([one], [(0, 0, 1, 1), (0, 0, 1, 0)]),
        ([dark, one, one], [(1, 0, 1, 3), (1, 0, 1, 1)]),
        ([dark, one, 2 * one], [(1, 0, 1, 3), (2, 0, 1, 1)]),
    ):
        batch = np.concatenate(images)
        (found,) = evolution(checkpoints_in(tmp_path), batch, {"r": [0, 1]}, batch=2)
        told = zip(found.images[0], *found.positions[0].T, found.equals[0], strict=True)
        assert [tuple(map(int, each)) for each in told] == expected


def test_a_fixed_batch_size_shows_the_same(tmp_path):
    for name, batch in (("free", "N"), ("fixed", 2)):
        (tmp_path / name).mkdir()
        onnx.save(network(batch), tmp_path / name / "a.onnx")
    images = random(3, 3, 10, 10)
    (free,), (fixed,) = (
        evolution(checkpoints_in(tmp_path / name), images, {"r2": [0, 5]}) for name in ("free", "fixed")
    )
    np.testing.assert_array_equal(free.images, fixed.images)
    assert_close(free.projections, fixed.projections)


def test_what_has_an_upper_bound_is_followed_by_the_value_before_it(tmp_path):
    """As without the bound, which all images reach; below the layer both networks are the same."""
    images, found = random(4, 3, 10, 10), []
    for name, bounds in (("free", "low"), ("bounded", "low, high")):
        body = f"c1 = Conv<pads=[1,1,1,1]>(x, w1) r1 = Clip(c1, {bounds}) y = GlobalAveragePool(r1)"
        weights = {"w1": random(4, 3, 3, 3), "low": np.float32(0), "high": np.float32(0.25)}
        (tmp_path / name).mkdir()
        onnx.save(model(body, weights, "N,3,H,W"), tmp_path / name / "a.onnx")
        found += evolution(checkpoints_in(tmp_path / name), images, {"r1": [0, 3]})
    free, bounded = found
    assert free.activations.min() > 0.25
    assert bounded.layer == "r1"
    for name in ("activations", "images", "positions"):
        np.testing.assert_array_equal(getattr(bounded, name), getattr(free, name))
    share = 0.25 / free.activations[..., None, None, None]  # what is sent back is the layer's own activation
    assert_close(bounded.projections, free.projections * share)


def test_numbers_in_names_sort_by_size():
    names = ["e10", "e9-b", "E1", "e9-a", "e", "e100", "7", "x1y2", "x1y10"]
    expected = ["7", "e", "E1", "e9-a", "e9-b", "e10", "e100", "x1y2", "x1y10"]
    assert sorted(names, key=natural) == expected


def test_what_cannot_be_followed_is_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoints"):
        checkpoints_in(tmp_path)
    files, images = saved(tmp_path, {1: 0}), random(2, 3, 8, 8)
    with pytest.raises(InputError, match="channels 0 to 3, not all of"):
        evolution(files, images, {"r1": [4]})
    with pytest.raises(UnknownLayerError, match="'r9'"):
        evolution(files, images, {"r9": [0]})
    for arguments in (
        ([], images, {"r1": [0]}),
        (files, images[:0], {"r1": [0]}),
        (files, images, {"r1": []}),
    ):
        with pytest.raises(InputError, match="nothing to follow"):
            evolution(*arguments)


# --- correspondence -------------------------------------------------------------------------------

BOX = np.array([[2, 3, 6, 7], [0, 0, 4, 4], [5, 8, 9, 12]])


def test_signs_are_compared_pair_by_pair():
    changes = np.array([[0.5, 0, -2, 3], [1, 0, 2, 3], [-1, 1, -1, 0]])
    # 1 and 2 differ in the third; 1 and 3 in all but the third; 2 and 3 in all.
    np.testing.assert_array_equal(sign_distances(changes), [1 / 4, 3 / 4, 1])


@settings(max_examples=50)
@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 1000))
def test_delta_is_the_papers_sum(images, features, seed):
    changes = np.random.default_rng(seed).integers(-2, 3, (images, features))
    delta = sum(
        sum(np.sign(a) != np.sign(b) for a, b in zip(changes[i], changes[j], strict=True))
        for i in range(images)
        for j in range(images)
        if i != j
    )
    assert 2 * sign_distances(changes).sum() * features == pytest.approx(delta)


def test_equals_the_naive_loop():
    layers, fill = ["c1", "r2", "scores"], 0.25
    found = correspondence(
        explainer(), IMAGES, {"eye": BOX, "nose": BOX[::-1]}, layers=layers, draws=3, fill=fill,
        preprocess=OWN_SIZE,
    )  # fmt: skip
    assert found.parts == ("eye", "nose", RANDOM)
    assert found.features == {"c1": 4 * 10 * 12, "r2": 6 * 3 * 4, "scores": 5}
    assert found.boxes[RANDOM].shape == (3, 3, 4)

    def naive(boxes, layer):
        hidden = IMAGES.copy()
        for image, (top, left, bottom, right) in zip(hidden, boxes, strict=True):
            image[:, top:bottom, left:right] = fill
        (before,), (after,) = (values_of(network(), x, layer) for x in (IMAGES, hidden))
        change = np.where(np.abs(before - after) < 1e-6, 0, before - after)
        signs = np.sign(change.reshape(3, -1))
        return [(signs[i] != signs[j]).sum() for i in range(3) for j in range(3) if i != j]

    for layer in layers:
        for part in ("eye", "nose"):
            counts = naive(found.boxes[part], layer)
            assert found.delta(layer, part) == pytest.approx(sum(counts))
            shares = np.array(counts) / found.features[layer]
            assert found.mean(layer, part) == pytest.approx(shares.mean())
            assert found.std(layer, part) == pytest.approx(shares.std())
        draws = np.array([naive(boxes, layer) for boxes in found.boxes[RANDOM]])
        assert found.delta(layer, RANDOM) == pytest.approx(draws.sum(1).mean())
        assert found.std(layer, RANDOM) == pytest.approx((draws / found.features[layer]).std())


def test_the_same_change_in_all_images_has_no_distance():
    same = np.repeat(IMAGES[:1], 3, axis=0)
    found = correspondence(explainer(), same, {"eye": BOX[[0, 0, 0]]}, draws=5, preprocess=OWN_SIZE)
    for layer in found.layers:
        assert found.delta(layer, "eye") == found.mean(layer, "eye") == found.std(layer, "eye") == 0
    assert found.mean("r1", RANDOM) > 0


def test_random_boxes_have_the_parts_sizes_and_stay_where_they_may():
    within = np.array([[0, 0, 6, 6], [2, 4, 10, 12], [0, 0, 10, 12]])
    wide = np.array([[0, 0, 2, 5]] * 3)
    found = correspondence(
        explainer(), IMAGES, {"eye": BOX, "mouth": wide}, within=within, draws=40, preprocess=OWN_SIZE,
        layers=["r1"],
    )  # fmt: skip
    boxes = found.boxes[RANDOM]
    sizes = boxes[..., 2:] - boxes[..., :2]
    assert {tuple(size) for size in sizes[::2].reshape(-1, 2)} == {(4, 4)}
    assert {tuple(size) for size in sizes[1::2].reshape(-1, 2)} == {(2, 5)}
    assert (boxes[..., :2] >= within[:, :2]).all()
    assert (boxes[..., 2:] <= within[:, 2:]).all()
    # Every place that the room leaves is drawn: here 3×3 for the first image and the eye.
    assert {tuple(box[:2]) for box in boxes[::2, 0]} == set(product(range(3), repeat=2))


@pytest.mark.parametrize(
    ("images", "parts", "match"),
    [
        (IMAGES[:1], {"eye": BOX[:1]}, "two images or more"),
        (IMAGES, {}, "a part hidden in each"),
        (IMAGES, {RANDOM: BOX}, "cannot be named 'random'"),
        (IMAGES, {"eye": BOX[:2]}, "part 'eye': boxes of shape"),
        (IMAGES, {"eye": BOX + 20}, "part 'eye' of image 0 hides nothing"),
        (IMAGES, {"eye": BOX[:, [2, 3, 0, 1]]}, "hides nothing"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(images, parts, match):
    with pytest.raises(InputError, match=match):
        correspondence(explainer(), images, parts, preprocess=OWN_SIZE)


def test_parts_are_read_from_a_table(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text("part,image,y0,x0,y1,x1,who\neye,a.png,1,2,3.5,4,me\n nose , a.png,5,6,7,8,me\n")
    assert read_parts(path) == {"eye": {"a.png": (1, 2, 3.5, 4)}, "nose": {"a.png": (5, 6, 7, 8)}}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image,part,x0,y0,x1\n", "no column y1"),
        ("", "no column image, part"),
        ("image,part,x0,y0,x1,y1\na,eye,1,2,3,four\n", "line 2: x0, y0, x1 and y1 have to be numbers"),
        ("image,part,x0,y0,x1,y1\na,eye,1,2,3\n", "line 2: x0, y0, x1 and y1 have to be numbers"),
        ("image,part,x0,y0,x1,y1\na,eye,1,2,3,4\na,eye,1,2,3,4\n", "line 3: eye of a is given twice"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path, text, match):
    path = tmp_path / "parts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read_parts(path)
    with pytest.raises(InputError, match="no boxes can be read there"):
        read_parts(tmp_path / "absent.csv")


def test_a_box_of_the_photograph_is_found_in_the_input():
    """100×200 pixels, halved, of which columns 25 to 75 are seen."""
    geometry = Geometry((100, 200), (50, 50), (50, 100), (0, -25))
    assert geometry.box_in_input((10, 60, 30, 100)) == (5, 5, 15, 25)
    assert geometry.box_in_input((0, 0, 100, 200)) == (0, 0, 50, 50)
    assert geometry.point_in_input(11, 61) == (5.5, 5.5)


# --- figures --------------------------------------------------------------------------------------


def test_the_figure_of_invariance_has_a_row_per_transformation_and_a_chart_per_layer():
    views = [NOISE, NOISE[::-1].copy()]
    preprocess = Preprocess(size=(9, 9))
    images = np.stack([preprocess.normalise(view) for view in views])
    found = {
        kind: invariance(explainer(), images, transformation(kind, views, preprocess), [0.5, 1.0])
        for kind in ("scale", "rotation")
    }
    two = draw_invariance(found, views, ["a", "b"], Labels()).picture()
    one = draw_invariance({"scale": found["scale"]}, views, ["a", "b"], Labels()).picture()
    assert len(two) == 2 * len(one)
    np.testing.assert_array_equal(two[: len(one), : one.shape[1]], one)


def test_the_figure_of_evolution_cuts_all_projections_to_one_size(tmp_path):
    (found,) = evolution(saved(tmp_path, {1: 0, 2: 1}), random(3, 3, 40, 40), {"r1": [0, 1, 2]})
    sheet = draw_evolution(found, Preprocess(size=(40, 40))).picture()
    # Units that see 3×3 pixels are shown 8×8, of 160 pixels: 20 for one.
    assert sheet.shape[1] == 8 + 2 * 168
    cell = sheet[8:168, 8:168]
    grey = (cell == 128).all(-1)
    assert 0 < (~grey).sum() <= 9 * 20 * 20


def test_the_figure_of_correspondence_hides_what_was_hidden():
    pictures = [np.full((32, 32, 3), 250, np.uint8)] * 3
    preprocess = Preprocess(size=(32, 32))
    photos = [Photo(picture, *preprocess.replace(resize=32).apply(picture)) for picture in pictures]
    found = correspondence(
        explainer(), np.stack([p.tensor for p in photos]), {"eye": [[8, 16, 16, 32]] * 3}, draws=2,
        preprocess=preprocess,
    )  # fmt: skip
    sheet = draw_correspondence(found, photos, ["a", "b", "c"]).picture()
    cell = sheet[8:208, 8 + 208 : 8 + 408].astype(int)
    hidden = np.abs(cell - 128).max(-1) <= 1
    rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [50, 100], atol=2)
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [100, 200], atol=2)
