"""Occlusion: equal to hiding one square after another by hand, and aligned with the photograph."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from oracle import assert_close
from small_networks import labelled, model, network, random
from zoo_files import ZOO

from onnx_deconv import Explainer, InputError, ModelError, RuntimeUnavailableError, UnknownLayerError
from onnx_deconv.attribution.features import Features, feature_layers, last_convolution
from onnx_deconv.experiments.figures import draw_occlusion
from onnx_deconv.experiments.hiding import fill_values, square_grid
from onnx_deconv.experiments.occlusion import occlusion
from onnx_deconv.imaging import PRESETS, Geometry, Photo, Preprocess, preprocess_for
from onnx_deconv.labels import Labels


def naive(proto, image, layout, size, stride, fill, layer):
    """Run the standard's reference on one hidden place after another, pixel by pixel."""
    height, width = image.shape[1:] if layout == "NCHW" else image.shape[:2]
    evaluator = ReferenceEvaluator(proto)
    rows, columns = -(-height // stride), -(-width // stride)
    found = [[None] * columns for _ in range(rows)]
    for r in range(rows):
        for c in range(columns):
            hidden = image.copy()
            top, left = (k * stride + (stride - size) // 2 for k in (r, c))
            for y in range(height):
                for x in range(width):
                    if top <= y < top + size and left <= x < left + size:
                        hidden[(slice(None), y, x) if layout == "NCHW" else (y, x)] = fill
            found[r][c] = evaluator.run(["scores", "y", layer], {"x": hidden[None]})
    return found


def assert_probable(found, expected, scores):
    """Equal as far as the scores are: a softmax changes by no more than half of their largest change."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.5e-5 * np.abs(scores).max())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("height", "width", "size", "stride", "layer"),
    [(12, 9, 4, 2, "r2"), (11, 13, 5, 3, "r1"), (8, 8, 3, 4, "c1"), (9, 10, 7, 5, "r2")],
)
def test_equals_the_naive_loop(layout, height, width, size, stride, layer):
    image = random(3, height, width, seed=5)
    image = image if layout == "NCHW" else np.ascontiguousarray(image.transpose(1, 2, 0))
    proto, fill = network(layout=layout), [0.5, -0.25, 1.5]
    preprocess = Preprocess(size=None, layout=layout)
    found = occlusion(
        Explainer(proto, providers="cpu"), image, size=size, stride=stride, fill=fill, layer=layer,
        preprocess=preprocess, batch=5,
    )  # fmt: skip
    scores, probabilities, maps = ReferenceEvaluator(proto).run(["scores", "y", layer], {"x": image[None]})
    assert found.target == found.prediction == scores[0].argmax()
    assert found.channel == maps[0].sum((1, 2)).argmax()
    assert (found.layer, found.size, found.stride) == (layer, size, stride)
    expected = naive(proto, image, layout, size, stride, fill, layer)
    s, p, m = (np.array([[value[what][0] for value in row] for row in expected]) for what in range(3))
    assert_close(found.scores, s[..., found.target])
    assert_probable(found.probabilities, p[..., found.target], s)
    np.testing.assert_array_equal(found.predictions, s.argmax(-1))
    assert_close(found.activations, m[:, :, found.channel].sum((2, 3)))
    assert found.score == pytest.approx(scores[0, found.target], rel=1e-5)
    assert_probable(found.probability, probabilities[0, found.target], scores)
    assert found.activation == pytest.approx(maps[0, found.channel].sum(), rel=1e-5)


def test_a_linear_model_loses_what_the_square_held():
    """The score's change is the sum of weight × (fill - value) over the square."""
    weight, image = random(2, 3 * 8 * 10), random(3, 8, 10, seed=1)
    proto = model("c = Conv(x, k) f = Flatten(c) y = Gemm<transB=1>(f, w)", {
        "w": weight, "k": np.eye(3, dtype=np.float32)[..., None, None],
    }, "N,3,8,10")  # fmt: skip
    found = occlusion(Explainer(proto, providers="cpu"), image, size=3, stride=1, fill=0.75, target=1)
    change = weight[1].reshape(3, 8, 10) * (0.75 - image)
    padded = np.pad(change.sum(0, dtype=np.float64), 1)
    filtered = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).sum((2, 3))
    slack = 1e-5 * np.abs(found.scores).max()
    np.testing.assert_allclose(found.scores - found.score, filtered, rtol=0, atol=slack)
    assert found.probability is None
    assert found.probabilities is None
    np.testing.assert_array_equal(found.probabilities_or_scores, found.scores)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_size_changes_nothing(batch):
    image = random(3, 9, 9, seed=2)
    free, fixed = (
        occlusion(Explainer(network(n), providers="cpu"), image, size=3, stride=2) for n in ("N", batch)
    )
    assert_close(fixed.scores, free.scores)
    assert_close(fixed.activations, free.activations)
    np.testing.assert_array_equal(fixed.predictions, free.predictions)


def test_a_model_will_do_and_a_class_may_have_a_name():
    found = occlusion(labelled(network()), random(3, 8, 8), size=2, stride=4, target="dog")
    assert (found.target, found.label) == (3, "dog")


@settings(max_examples=300)
@given(
    extent=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 30),
    stride=st.integers(1, 20),
)
def test_each_piece_of_the_image_has_a_square_centred_on_it(extent, size, stride):
    if size >= 2 * max(extent):
        return
    places = square_grid(extent, size, stride)
    assert places.shape == (-(-extent[0] // stride), -(-extent[1] // stride), 4)
    for (r, c), box in ((at, places[at]) for at in np.ndindex(places.shape[:2])):
        for start, stop, piece, length in ((box[0], box[2], r, extent[0]), (box[1], box[3], c, extent[1])):
            middle = piece * stride + stride / 2 - ((stride - size) % 2) / 2
            assert start == min(max(middle - size / 2, 0), length)
            assert stop == min(max(middle + size / 2, 0), length)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("layout", "channels"), [("NCHW", "RGB"), ("NHWC", "BGR"), ("NCHW", "L")])
def test_grey_is_128_before_preprocessing(preset, layout, channels):
    preprocess = PRESETS[preset].replace(size=(4, 4), layout=layout, channels=channels)
    grey = preprocess.normalise(np.full((4, 4, 3), 128, np.uint8))
    image = np.zeros_like(grey)
    image[:] = fill_values("grey", preprocess, image)
    np.testing.assert_array_equal(image, grey)


def test_only_the_square_is_hidden_and_the_image_is_left_as_it_was():
    image = random(3, 6, 6)
    before = image.copy()
    occlusion(Explainer(network(), providers="cpu"), image, size=2, stride=2)
    np.testing.assert_array_equal(image, before)


def test_progress_is_told_of_every_place():
    seen = []

    def watch(steps):
        for step in steps:
            seen.extend(map(tuple, step))
            yield step

    found = occlusion(
        Explainer(network(), providers="cpu"), random(3, 8, 8), size=2, stride=3, batch=4, watch=watch
    )
    assert seen == [tuple(box) for box in found.boxes.reshape(-1, 4)]


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"target": 5}, InputError, "there is no class 5: the model has 0 to 4"),
        ({"target": -1}, InputError, "there is no class -1"),
        ({"target": "cat"}, InputError, "no labels"),
        ({"target": "1 - 2"}, InputError, "here one class is followed, no sum"),
        ({"target": "-dog"}, InputError, "here one class is followed, no sum"),
        ({"layer": "r3"}, UnknownLayerError, "no layer is named 'r3'"),
        ({"size": 0}, InputError, "at least 1"),
        ({"stride": 0}, InputError, "at least 1"),
        ({"size": 16}, InputError, "hides all of an image of 8×8"),
        ({"fill": [1, 2]}, InputError, "has 2 numbers: give one, or 3"),
        ({"fill": "gray"}, InputError, "write grey"),
        ({"fill": float("nan")}, InputError, "finite"),
    ],
)
def test_what_does_not_fit_is_named(more, error, match):
    with pytest.raises(error, match=match):
        occlusion(Explainer(network(), providers="cpu"), random(3, 8, 8), **more)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (8, 8), (4, 8, 8)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InputError, match="shape"):
        occlusion(Explainer(network(), providers="cpu"), random(*shape), size=2)


def test_integers_are_not_taken_for_real_numbers():
    with pytest.raises(InputError, match="takes float32 numbers, not uint8"):
        occlusion(Explainer(network(), providers="cpu"), np.zeros((3, 8, 8), np.uint8), size=2)


class Tensor:
    """Holds numbers as another library does."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __len__(self):
        return len(self.array)

    def __array__(self, *_, **__):
        return self.array


def test_a_tensor_is_an_image_and_a_path_is_none():
    asked, image = Explainer(network(), providers="cpu"), random(3, 8, 8)
    (of_array, of_tensor) = (occlusion(asked, given, size=2).scores for given in (image, Tensor(image)))
    np.testing.assert_array_equal(of_tensor, of_array)
    own, given = (Features(asked, ["r1"])(each).scores for each in (image[None], Tensor(image[None])))
    np.testing.assert_array_equal(given, own)
    with pytest.raises(InputError, match="give an array of numbers"):
        occlusion(asked, Path("photo.png"), size=2)


# --- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_activations_are_those_of_the_reference_for_any_number_of_images(batch):
    proto, images = network(batch), random(7, 3, 8, 8)
    values = Features(Explainer(proto, providers="cpu"), ["r1", "c2"])(images)
    expected = ReferenceEvaluator(network()).run(["r1", "c2", "scores", "y"], {"x": images})
    for mine, theirs in zip(
        [values.features["r1"], values.features["c2"], values.scores], expected, strict=False
    ):
        assert_close(mine, theirs)
    assert_probable(values.probabilities, expected[-1], values.scores)


def test_the_default_layer_is_the_last_convolution_below_the_class_maps_rectified():
    explainer = Explainer(network(), providers="cpu")
    assert feature_layers(explainer) == ["r1", "r2"]
    assert last_convolution(explainer) == "r2"


@pytest.mark.parametrize(
    ("behind", "layer"),
    [
        ("y = Identity(c)", "c"),
        ("r = Relu(c) y = Identity(r)", "r"),
        ("a = Add(c, b) r = LeakyRelu(a) y = Identity(r)", "r"),
        ("a = Mul(b, c) y = Identity(a)", "a"),
        ("d = Conv(x, k) a = Add(c, d) r = Relu(a) y = Identity(r)", "d"),  # where two paths meet
        ("s = HardSigmoid<alpha=0.16666667>(c) y = Mul(c, s)", "y"),  # a hard swish, spelled out
    ],
)
def test_a_convolution_is_looked_at_behind_its_rectifier(behind, layer):
    proto = model(f"c = Conv(x, k) {behind}", {"k": random(4, 3, 1, 1), "b": random(4, 1, 1)}, "N,3,8,8")
    assert last_convolution(Explainer(proto, providers="cpu")) == layer


def test_a_log_softmax_gives_probabilities():
    proto = model("c = Conv(x, k) g = GlobalMaxPool(c) s = Flatten(g) y = LogSoftmax(s)", {
        "k": random(4, 3, 1, 1),
    }, "N,3,H,W")  # fmt: skip
    values = Features(Explainer(proto, providers="cpu"))(random(2, 3, 4, 4))
    np.testing.assert_allclose(values.probabilities.sum(1), 1, atol=1e-6)


def test_a_model_without_convolutions_needs_a_layer():
    proto = model("f = Flatten(x) y = Gemm<transB=1>(f, w)", {"w": random(4, 48)}, "N,3,4,4")
    with pytest.raises(ModelError, match="has no convolution: name a layer"):
        occlusion(Explainer(proto, providers="cpu"), random(3, 4, 4), size=1)


@pytest.mark.cuda
def test_cuda_sees_what_the_cpu_sees():
    image = random(3, 12, 12)
    try:
        found = occlusion(Explainer(network(), providers="cuda"), image, size=4, stride=2)
    except RuntimeUnavailableError as error:
        pytest.skip(f"onnxruntime has no usable CUDA device: {error}")
    expected = occlusion(Explainer(network(), providers="cpu"), image, size=4, stride=2)
    for values in ("scores", "probabilities", "activations"):
        np.testing.assert_allclose(getattr(found, values), getattr(expected, values), rtol=1e-3, atol=1e-4)


def test_long_batches_are_cut():
    images = random(70, 3, 6, 6)
    values = Features(Explainer(network(), providers="cpu"), ["r1"])(images)
    expected = ReferenceEvaluator(network()).run(["r1", "scores"], {"x": images})
    assert_close(values.features["r1"], expected[0])
    assert_close(values.scores, expected[1])


# --- the figure -----------------------------------------------------------------------------------


def test_the_figure_is_brightest_over_what_the_class_hangs_on():
    """Of 24×40 pixels the class sees those from (4, 20) to (10, 26): the overlay lights up there."""
    weight = np.zeros((2, 3, 24, 40), np.float32)
    weight[1, :, 4:10, 20:26] = 1
    proto = model("c = Conv(x, k) f = Flatten(c) y = Gemm<transB=1>(f, w)", {
        "w": weight.reshape(2, -1), "k": np.eye(3, dtype=np.float32)[..., None, None],
    }, "N,3,24,40")  # fmt: skip
    picture = np.full((24, 40, 3), 200, np.uint8)
    preprocess = Preprocess(size=(24, 40), fit="none")
    photo = Photo(picture, *preprocess.apply(picture))
    assert photo.geometry == Geometry((24, 40), (24, 40), (24, 40), (0, 0))
    found = occlusion(Explainer(proto, providers="cpu"), photo.tensor, size=6, stride=2, target=1)
    sheet = draw_occlusion(found, photo, photo.tensor, "deconvnet", preprocess, Labels()).picture()
    times = 14  # 24 pixels become at least 320
    cell = sheet[8 : 8 + 24 * times, :, :]
    starts = np.flatnonzero((cell != 255).any(axis=(0, 2)))
    lefts = starts[np.flatnonzero(np.diff(starts, prepend=-9) > 8)]
    overlay = cell[:, lefts[-1] : lefts[-1] + 40 * times].astype(int)
    heat = np.abs(overlay - 200).sum(-1)
    assert heat.shape == (24 * times, 40 * times)
    centre = np.argwhere(heat > 0.9 * heat.max()).mean(0) / times
    np.testing.assert_allclose(centre, [7, 23], atol=0.75)
    assert not heat[16 * times :].any()


# --- a real model ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (ZOO / "ilsvrc-val").exists(), reason=f"no photographs in {ZOO}")
def test_hiding_the_object_hurts_most():
    """Where the square lowers the true class's score most, there is the object, more often than by chance."""
    explainer = Explainer(ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx", providers="cpu")
    preprocess, _ = preprocess_for(explainer.model, "imagenet-caffe")
    with (ZOO / "ilsvrc-val" / "boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    hits, shares = [], []
    for name, unit in list(dict.fromkeys((row["image"], row["class"]) for row in rows))[:12]:
        photo = Photo.read(ZOO / "ilsvrc-val" / name, preprocess)
        found = occlusion(explainer, photo.tensor, target=unit, size=48, stride=32, preprocess=preprocess)
        place = np.unravel_index(found.scores.argmin(), found.scores.shape)
        inside = np.zeros((224, 224), bool)
        for row in rows:
            if row["image"] == name:
                box = tuple(float(row[key]) for key in ("y0", "x0", "y1", "x1"))
                top, left, bottom, right = photo.geometry.box_in_input(box)
                inside[top:bottom, left:right] = True
        hits.append(inside[place[0] * 32 + 16, place[1] * 32 + 16])
        shares.append(inside.mean())
    assert np.mean(hits) > np.mean(shares) + 0.2
