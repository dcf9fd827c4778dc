"""From Python: images however a program holds them, in; explanations that can be looked at, out."""

import io
import json

import numpy as np
import onnx
import pytest
from commands import run
from pictures import as_png, noise
from PIL import Image
from small_networks import labelled, model, network, random

import onnx_deconv
from onnx_deconv import Explainer, Explanation, Explanations, explain, load
from onnx_deconv.attribution.images import preprocessing
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import CustomPreprocess, Preprocess, preprocess_for, read_source, save_png

SIZE = "32,32"
HOW = preprocess_for(onnx_deconv.load(labelled(network(size=SIZE))))[0]


@pytest.fixture(scope="module")
def explainer():
    return Explainer(labelled(network(size=SIZE)), "auto", providers="cpu")


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def expected(explainer, picture, **asked):
    """What the explainer gives for the array that the picture becomes."""
    return explainer(HOW.apply(picture)[0][None], **asked)


# What is one image


def as_a_tensor(picture):
    return pytest.importorskip("torch").from_numpy(picture.transpose(2, 0, 1).copy())


def as_preprocessed(picture):
    return HOW.apply(picture)[0]


def opened(picture):
    return io.BytesIO(as_png(picture))


@pytest.mark.parametrize(
    "held",
    [
        Image.fromarray,
        np.asarray,
        as_png,
        opened,
        pytest.param(as_a_tensor, marks=pytest.mark.slow),  # importing PyTorch takes seconds
        as_preprocessed,
        pytest.param(
            lambda picture: pytest.importorskip("torch").from_numpy(as_preprocessed(picture)),
            marks=pytest.mark.slow,
        ),
        lambda picture: {"image": Image.fromarray(picture), "label": 3},
        lambda picture: {"img": {"bytes": as_png(picture), "path": None}, "label": 3},
        lambda picture: {"pixel_values": as_preprocessed(picture), "id": "a"},
        lambda picture: np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
        lambda picture: as_preprocessed(picture).astype(np.float64),
    ],
)
def test_one_image_gives_one_explanation_however_it_is_held(explainer, held):
    found = explainer.explain(held(noise()))
    assert isinstance(found, Explanation)
    (known,) = expected(explainer, noise())
    np.testing.assert_allclose(found.array, known.reconstruction, rtol=1e-5, atol=1e-7)
    assert (found.channel, found.score, found.image) == (known.channel, known.score, 0)


def test_three_lines_are_enough(tmp_path, photo):
    onnx.save(labelled(network(size=SIZE)), tmp_path / "model.onnx")
    found = explain(tmp_path / "model.onnx", photo)
    assert found.method == "guided*grad-cam^3"  # what the command line takes by default
    assert found.overlay.size == found.heat.size == found.projection.size == (50, 40)
    assert explain(str(tmp_path / "model.onnx"), str(photo), method="deconvnet").method == "deconvnet"


def test_grey_pictures_are_read_as_grey(explainer):
    grey = noise()[..., 0]
    colours = np.repeat(grey[..., None], 3, axis=-1)
    for held in (grey, grey[..., None]):
        np.testing.assert_array_equal(explainer.explain(held).array, explainer.explain(colours).array)


def test_a_batch_of_pictures_or_numbers_is_several(explainer):
    pictures = np.stack([noise(seed=k) for k in range(3)])
    numbers = np.stack([as_preprocessed(p) for p in pictures])
    known = explainer(numbers)
    for held in (pictures, numbers, numbers[:1]):
        found = explainer.explain(held)
        assert isinstance(found, Explanations)
        assert [one.image for one in found] == list(range(len(held)))
        for one, other in zip(found, known, strict=False):
            np.testing.assert_allclose(one.array, other.reconstruction, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (noise().astype(np.float32), "picture is uint8, H×W×3"),
        (np.zeros((3, 33, 32), np.float32), r"float32 3×33×32 is taken as the model takes it"),
        (np.zeros((32, 32, 3), np.int64), "int64 32×32×3"),
        (noise().transpose(2, 0, 1), "uint8 array of shape 3×40×50 is no picture"),
        (
            {"left": Image.new("RGB", (9, 9)), "right": Image.new("RGB", (9, 9))},
            r"several images \(left, right\)",
        ),
        ({"label": 3}, "a row with label holds no image"),
        (3.5, "float is no image"),
        ([[1, 2]], "list is no image"),
        ("no such file.png", "no such file"),
        (b"abc", "not a picture"),
        (io.BytesIO(b"abc"), "not a picture"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(explainer, held, said):
    with pytest.raises(InputError, match=said) as caught:
        explainer.explain(held)
    assert "\n" not in str(caught.value)


def test_a_type_that_numpy_lacks_is_refused_in_one_line(explainer):
    class Tensor:
        def __array__(self, *_, **__):
            raise TypeError("unsupported ScalarType BFloat16")

    with pytest.raises(InputError, match="no array can be made of Tensor"):
        explainer.explain(Tensor())


def test_a_preprocessing_that_is_none_is_refused(explainer):
    with pytest.raises(InputError, match="preprocess=3: give the name of a preset"):
        explainer.explain(noise(), preprocess=3)


@pytest.mark.slow
def test_another_size_than_the_models_own_is_refused_with_both():
    net = onnx_deconv.load(labelled(network(size=SIZE)))
    with pytest.raises(
        InputError, match=r"^size 16×32: .* takes pictures of 32×32 alone: leave the size out$"
    ):
        preprocess_for(net, size=(16, 32))
    assert preprocess_for(net, size=(32, 32))[0].size == (32, 32)
    assert preprocess_for(net, size=None)[0].size is None  # each photograph's own, which may fit


def test_a_tensor_of_bytes_has_its_channels_first():
    torch = pytest.importorskip("torch")
    (picture,) = read_source(torch.from_numpy(noise().transpose(2, 0, 1).copy())).pictures
    np.testing.assert_array_equal(picture, noise())
    with pytest.raises(InputError, match="channels first"):
        read_source(torch.from_numpy(noise()))


def test_a_model_of_bytes_takes_its_own_numbers():
    body = "f = Cast<to=1>(x) c = Conv(f, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
    proto = model(body, {"w": random(4, 3, 3, 3)}, "N,3,16,16")
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    explainer = Explainer(proto, "guided", providers="cpu")
    picture = noise(16, 16)
    as_it_is = Preprocess(size=(16, 16), fit="none", dtype="uint8")
    own = explainer.explain(np.ascontiguousarray(picture.transpose(2, 0, 1)), preprocess=as_it_is)
    np.testing.assert_array_equal(own.array, explainer.explain(picture, preprocess=as_it_is).array)


# Several images


def test_a_list_gives_a_list_and_a_generator_a_generator(explainer):
    pictures = [noise(seed=k) for k in range(6)]
    found = explainer.explain(pictures)
    assert isinstance(found, Explanations)
    assert [one.image for one in found] == list(range(6))
    read = []

    def stream():
        for number, picture in enumerate(pictures):
            read.append(number)
            yield picture

    later = explainer.explain(stream())
    assert read == []
    first = next(later)
    assert read == [0, 1, 2, 3, 4]  # a batch, and the image that did not fit into it
    for one, other in zip([first, *later], found, strict=True):
        np.testing.assert_array_equal(one.array, other.array)


def test_a_data_set_is_read_as_it_is_iterated(explainer):
    class Rows:
        def __len__(self):
            return 2

        def __iter__(self):
            return ({"image": Image.fromarray(noise(seed=k)), "label": k} for k in range(2))

    found = explainer.explain(Rows())
    assert [one.image for one in found] == [0, 1]


def test_a_row_may_have_a_column_that_is_called_as_the_models_input(explainer):
    (name,) = explainer.model.inputs
    found = explainer.explain({name: Image.fromarray(noise()), "label": 3})
    (known,) = expected(explainer, noise())
    np.testing.assert_array_equal(found.array, known.reconstruction)


@pytest.mark.parametrize("batch", ["1", "3"])
def test_a_fixed_batch_size_is_filled_up(batch):
    fixed = Explainer(labelled(network(size=SIZE, batch=batch)), providers="cpu")
    loose = Explainer(labelled(network(size=SIZE)), providers="cpu")
    pictures = [noise(seed=k) for k in range(4)]
    for one, other in zip(fixed.explain(pictures), loose.explain(pictures), strict=True):
        np.testing.assert_allclose(one.array, other.array, rtol=1e-5, atol=1e-6)


def test_photographs_in_their_own_sizes(explainer):
    del explainer
    free = Explainer(labelled(network()), providers="cpu")
    own = Preprocess(size=None, scale=1 / 255)
    found = free.explain([noise(24, 30), noise(24, 30, 1), noise(20, 20)], preprocess=own)
    assert [one.array.shape for one in found] == [(3, 24, 30), (3, 24, 30), (3, 20, 20)]
    assert [one.overlay.size for one in found] == [(30, 24), (30, 24), (20, 20)]


def test_several_targets_are_each_explained_in_every_image(explainer):
    found = explainer.explain([noise(), noise(seed=1)], ["dog", 0])
    assert [(one.image, one.label) for one in found] == [(0, "dog"), (0, "ant"), (1, "dog"), (1, "ant")]
    assert isinstance(explainer.explain(noise(), ["dog"]), Explanations)
    assert explainer.explain(noise(), 0).label == "ant"
    top = explainer.explain(noise(), top=5)
    assert [one.standing.rank for one in top] == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="leave out target"):
        explainer.explain(noise(), "dog", top=2)


def test_layers_and_positions_reach_the_explanation(explainer):
    one = explainer.explain(noise(), 2, layer="r2", position=(3, 4))
    (known,) = expected(explainer, noise(), target=2, layer="r2", position=(3, 4))
    np.testing.assert_array_equal(one.array, known.reconstruction)
    assert one.name == "r2 channel 2 at 3,4"
    # p1 reads 2×2 of a 3×3 convolution with padding 1, c2 3×3 of those: pixels 2·3 − 1 to 2·3 + 7.
    assert one.shown.box == (5, 7, 13, 15)


def test_a_model_of_two_inputs_takes_a_mapping_of_arrays():
    body = """
        a = Conv(x, w) b = Conv(z, w) s = Add(a, b) r = Relu(s) g = GlobalAveragePool(r) y = Flatten(g)
    """
    proto = model(body, {"w": random(4, 3, 3, 3)}, "N,3,8,8")
    proto.graph.input.append(onnx.helper.make_tensor_value_info("z", 1, ["N", 3, 8, 8]))
    explainer = Explainer(proto, "gradient", providers="cpu")
    feeds = {"x": random(2, 3, 8, 8), "z": random(2, 3, 8, 8, seed=1)}
    found = explainer.explain(feeds, [0, 1])
    assert [(one.image, one.channel) for one in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    np.testing.assert_array_equal(found[2].array, explainer(feeds, 0)[1].reconstruction)
    assert found[0].shown is found[0].drawn["x"]
    other = found[2].of_input("z")
    np.testing.assert_array_equal(other.array, found[2].reconstructions["z"])
    assert other.side_by_side.size[0] > 8
    with pytest.raises(InputError, match="x, z"):
        found[0].of_input("w")


def test_the_explainer_says_what_it_is(explainer):
    told = repr(explainer)
    for each in ("x N×3×32×32", "y N×5", "auto", "cpu"):
        assert each in told


# How photographs become the model's input


def test_numbers_become_the_picture_they_were_made_from():
    for channels in ("RGB", "BGR", "RGBA", "BGRA"):
        how = HOW.replace(channels=channels)
        np.testing.assert_array_equal(how.undone(how.normalise(noise(32, 32))), noise(32, 32))
    grey = np.repeat(noise(32, 32)[..., :1], 3, axis=-1)
    how = HOW.replace(channels="L", layout="NHWC")
    np.testing.assert_array_equal(how.undone(how.normalise(grey)), grey)


def beside(folder, name, config, proto=None):
    proto = network(size=SIZE) if proto is None else proto
    onnx.save(proto, folder / "model.onnx")
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    return preprocessing(onnx_deconv.load(folder / "model.onnx"))


def by_hand(resized, crop, mean, std, resample):
    """Resize, crop the centre, scale and normalise, as Hugging Face's and timm's code does."""
    picture = Image.fromarray(noise(60, 80)).resize((resized[1], resized[0]), resample)
    top, left = (resized[0] - crop) // 2, (resized[1] - crop) // 2
    pixels = np.asarray(picture, np.float64)[top : top + crop, left : left + crop] / 255
    return ((pixels - mean) / std).transpose(2, 0, 1)


HUGGING_FACE = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}
TIMM = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    },
}


@pytest.mark.parametrize(
    ("name", "config", "resized", "resample"),
    [
        ("preprocessor_config.json", HUGGING_FACE, (36, 48), 3),
        (
            "preprocessor_config.json",
            HUGGING_FACE | {"size": 36, "crop_size": 32, "resample": 2},
            (36, 48),
            2,
        ),
        (
            "preprocessor_config.json",
            HUGGING_FACE | {"size": {"height": 32, "width": 32}, "do_center_crop": False},
            (32, 32),
            3,
        ),
        (
            "preprocessor_config.json",
            HUGGING_FACE | {"size": {"shortest_edge": 32}, "crop_pct": 0.8, "do_center_crop": False},
            (40, 53),
            3,
        ),
        ("config.json", TIMM, (36, 48), 3),
        ("config.json", TIMM["pretrained_cfg"], (36, 48), 3),
    ],
)
def test_a_file_beside_the_model_says_how_to_preprocess(tmp_path, name, config, resized, resample):
    how, assumed = beside(tmp_path, name, config)
    assert assumed is None
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    tensor, _ = how.apply(noise(60, 80))
    np.testing.assert_allclose(tensor, by_hand(resized, 32, mean, std, resample), rtol=0, atol=1e-5)


def test_metadata_come_before_a_file_and_a_choice_before_both(tmp_path):
    told = labelled(network(size=SIZE))
    how, _ = beside(tmp_path, "preprocessor_config.json", HUGGING_FACE, told)
    assert how.mean == (0.485, 0.456, 0.406)
    onnx.save(network(size=SIZE), tmp_path / "model.onnx")
    loaded = onnx_deconv.load(tmp_path / "model.onnx")
    assert preprocessing(loaded)[0].mean == (0.5, 0.4, 0.3)
    assert preprocessing(loaded, "unit")[0].mean == (0.0,)
    elsewhere = tmp_path / "other.json"
    elsewhere.write_text(json.dumps(TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | {"mean": [0, 0, 0]}}))
    assert preprocessing(loaded, elsewhere)[0].mean == (0.0, 0.0, 0.0)
    assert preprocessing(loaded, str(elsewhere))[0].mean == (0.0, 0.0, 0.0)


def test_a_model_in_a_folder_onnx_has_its_file_above(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HUGGING_FACE), encoding="utf-8")
    onnx.save(network(size=SIZE), tmp_path / "onnx" / "model.onnx")
    assert preprocessing(onnx_deconv.load(tmp_path / "onnx" / "model.onnx"))[0].mean == (0.5, 0.4, 0.3)


def test_other_files_of_the_same_name_say_nothing(tmp_path):
    for text in ('{"model_type": "resnet"}', "[1]", "{ no JSON"):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        onnx.save(network(size=SIZE), tmp_path / "model.onnx")
        assert preprocessing(onnx_deconv.load(tmp_path / "model.onnx"))[1] == "imagenet"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (HUGGING_FACE | {"resample": 1}, "resampling 1 is none of"),
        ({k: v for k, v in HUGGING_FACE.items() if k != "image_std"}, "'image_std' is missing"),
        (HUGGING_FACE | {"size": {"longest_edge": 9}, "do_center_crop": False}, "'height' is missing"),
    ],
)
def test_a_file_that_says_what_cannot_be_done_is_named(tmp_path, config, said):
    with pytest.raises(InputError, match=said) as caught:
        beside(tmp_path, "preprocessor_config.json", config)
    assert "preprocess=" in str(caught.value)


def test_what_was_assumed_is_said(tmp_path):
    onnx.save(network(size=SIZE), tmp_path / "model.onnx")
    found = explain(tmp_path / "model.onnx", noise())
    assert "imagenet, which was assumed" in found._repr_html_()
    assert "assumed" not in explain(tmp_path / "model.onnx", noise(), preprocess="unit")._repr_html_()


def test_nothing_is_assumed_of_numbers_that_the_model_takes_as_they_are(tmp_path):
    onnx.save(network(size=SIZE), tmp_path / "model.onnx")
    save_png(tmp_path / "a.png", noise())
    np.save(tmp_path / "a.npy", preprocess_for(load(tmp_path / "model.onnx"))[0].apply(noise())[0])
    for name, assumed in (("a.png", True), ("a.npy", False)):
        assert ("assumed" in explain(tmp_path / "model.onnx", tmp_path / name)._repr_html_()) == assumed
        code, _, stderr = run("explain", tmp_path / "model.onnx", tmp_path / name, "-o", tmp_path / "out")
        assert (code, "imagenet was assumed" in stderr) == (0, assumed), stderr


# A function as preprocessing


def fitted(how):
    """A function that does what a preprocessing does, as far as its pictures tell."""
    return lambda image: how.apply(np.asarray(image))[0]


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (300, 200), (31, 33)])
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_where_a_function_puts_the_photograph_is_measured(size, fit, channels):
    how = Preprocess(size=(48, 64), fit=fit, scale=1 / 255).replace(channels=channels)
    custom = CustomPreprocess(fitted(how), "NCHW", "float32")
    tensor, measured = custom.apply(noise(*size))
    exact = how.geometry(size)
    np.testing.assert_array_equal(tensor, how.apply(noise(*size))[0])
    assert custom.channels == channels
    assert measured.size == exact.size
    np.testing.assert_allclose(measured.resized, exact.resized, rtol=0.02, atol=1)
    np.testing.assert_allclose(measured.offset, exact.offset, atol=2)


@pytest.mark.parametrize(
    "function",
    [
        lambda image: np.asarray(image.resize((32, 32)).rotate(45), np.float32).transpose(2, 0, 1),
        lambda image: np.asarray(image.resize((32, 32)))[:, ::-1].transpose(2, 0, 1).astype(np.float32),
        lambda image: np.zeros((3, *image.size), np.float32),
    ],
    ids=["turned", "flipped", "blind"],
)
def test_a_function_that_does_more_is_refused(explainer, function):
    with pytest.raises(InputError, match="does more than resize, crop and pad"):
        explainer.explain(noise(), preprocess=function)


def test_a_function_that_is_random_is_refused(explainer):
    """What it does to the ramps would not be what it did to the photograph."""
    rng = np.random.default_rng(3)

    def cropped(image):
        left = int(rng.integers(0, 9))
        return as_preprocessed(np.asarray(image.crop((left, 0, left + 32, 32))))

    def flipped(image):
        picture = np.asarray(image.resize((32, 32)))
        return as_preprocessed(picture[:, ::-1] if rng.random() < 0.5 else picture)

    for function in (cropped, flipped):
        with pytest.raises(InputError, match="preprocess is random: one photograph gave different inputs"):
            explainer.explain(noise(64, 80), preprocess=function)


def test_rows_of_images_and_classes_say_what_to_give(explainer):
    for row in ((Image.fromarray(noise()), 3), [np.zeros((2, 3, 32, 32), np.float32), np.zeros(2)]):
        with pytest.raises(InputError, match=r"is no image: of rows \(image, class\), give the images"):
            list(explainer.explain(iter([row])))


def test_a_function_that_returns_a_picture_is_told_what_the_model_takes(explainer):
    with pytest.raises(InputError, match=r"returned shape \(64, 80, 3\): the model takes C×H×W, as floats"):
        explainer.explain(noise(64, 80), preprocess=lambda image: image)


@pytest.mark.slow
def test_a_function_with_a_batch_axis_and_a_tensor(explainer):
    torch = pytest.importorskip("torch")

    def function(image):
        return torch.from_numpy(as_preprocessed(np.asarray(image))[None])

    np.testing.assert_array_equal(
        explainer.explain(noise(), preprocess=function).array, explainer.explain(noise()).array
    )
    with pytest.raises(InputError, match="preprocessed already"):
        explainer.explain(as_preprocessed(noise()), preprocess=function)
