"""Inputs of every kind, on networks whose explanations are known without running them."""

import json
import re
import sys
import wave

import numpy as np
import onnx
import pytest
from commands import picture, pixels, refused, run
from onnx import numpy_helper
from PIL import Image
from small_networks import labelled, model, network, random

from onnx_deconv import (
    Explainer,
    InputError,
    ModelError,
    RuleError,
    compile_pair,
    explain,
    explain_graph,
    load,
    with_inputs,
)
from onnx_deconv.errors import sizes_of
from onnx_deconv.imaging import has_fourth_band, heat_map, preprocess_for, read_image, read_numbers
from onnx_deconv.model.feature_maps import convolutions
from onnx_deconv.runtime import Session
from onnx_deconv.verification import random_feeds

PATTERN = np.array([1, -1, 1, -1, 1], np.float32)
PLANTED = slice(40, 45)
LENGTH = 96
BRIGHT, DARK = (heat_map(np.full((1, 1), v))[0, 0].tolist() for v in (1, 0))


def saved(proto, path):
    onnx.save(proto, path)
    return path


def of_inputs(inputs, body, **weights):
    """A model of several inputs, written as text."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({inputs}) => (float[N,2] y) {{ {body} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in weights.items())
    return proto


def pixels_of(path):
    """Pixels as they are, at the size they have."""
    return preprocess_for(load(path), "raw")[0].replace(fit="none")


def record(out):
    (path,) = out.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


# --- a detector of one pattern in a signal ----------------------------------------------------------


def listener(channels=1):
    """Fires where the pattern is, in the first channel: 5 of its correlation, less 4."""
    weight = np.zeros((1, channels, 5), np.float32)
    weight[0, 0] = PATTERN
    body = "c = Conv(x, w, b) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
    return model(body, {"w": weight, "b": np.array([-4], np.float32)}, f"N,{channels},{LENGTH}")


def planted_signal(channels=1):
    signal = np.zeros((channels, LENGTH), np.float32)
    signal[0, PLANTED] = PATTERN
    return signal


def expected_signal():
    """One position of the map fires, with 5 - 4, and hands the pattern back."""
    found = np.zeros((1, LENGTH), np.float32)
    found[0, PLANTED] = PATTERN
    return found


def write_wav(path, signal, width):
    scale = 2 ** (8 * width - 1) - 1
    whole = np.rint(signal.T.astype(np.float64) * scale).astype(np.int64)
    if width == 1:
        content = (whole + 128).astype(np.uint8).tobytes()
    else:
        content = whole.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(len(signal))
        sound.setsampwidth(width)
        sound.setframerate(8000)
        sound.writeframes(content)
    return path


def test_the_saliency_of_a_signal_lies_on_what_was_planted():
    one = explain(listener(), planted_signal()[0], method="gradient", providers="cpu")
    np.testing.assert_allclose(one.array, expected_signal(), rtol=1e-6)
    band = one.views()["heat"]
    step = band.shape[1] // LENGTH
    lit = [k for k in range(LENGTH) if band[0, k * step].tolist() == BRIGHT]
    dark = [k for k in range(LENGTH) if band[0, k * step].tolist() == DARK]
    assert (lit, len(dark)) == (list(range(LENGTH))[PLANTED], LENGTH - 5)
    line = one.views()["overlay"][:-24].astype(int)  # without the band
    red = (line[..., 0] > line[..., 1] + 50).any(axis=0)
    assert red[PLANTED.start * step : PLANTED.stop * step].all()
    assert not red[: PLANTED.start * step].any()
    assert not red[PLANTED.stop * step :].any()


def test_a_spectrogram_without_an_axis_for_channels_is_drawn_as_an_image():
    """The filter takes one number of the spectrogram, which the graph makes an image of one channel."""
    body = "t = Unsqueeze(x, one) c = Conv(t, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
    kernel = np.zeros((1, 1, 8, 12), np.float32)
    kernel[0, 0, 2, 5] = 3
    net = model(body, {"one": np.array([1]), "w": kernel}, "N,8,12")
    one = explain(net, np.ones((8, 12), np.float32), method="gradient", providers="cpu")
    heat = one.views()["heat"].astype(int).sum(axis=-1)
    high, wide = heat.shape[0] // 8, heat.shape[1] // 12
    rows, columns = np.nonzero(heat == heat.max())
    assert {*(rows // high)} == {2}
    assert {*(columns // wide)} == {5}


@pytest.mark.parametrize("kind", ["npy", "npz", "wav"])
def test_a_signal_is_read_from_a_file(kind, tmp_path):
    path, out = tmp_path / f"heart.{kind}", tmp_path / "out"
    if kind == "npy":
        np.save(path, planted_signal().astype(np.float64))
    elif kind == "npz":
        np.savez(path, other=np.zeros(3), signal=planted_signal())
    else:
        write_wav(path, planted_signal(), 4)
    net = saved(listener(), tmp_path / "net.onnx")
    named = f"{path}:signal" if kind == "npz" else path
    code, _, err = run("explain", net, named, "--rules", "gradient", "-o", out, "--view", "all")
    assert (code, err) == (0, "")
    (values,) = out.glob("*.npy")
    np.testing.assert_allclose(np.load(values), expected_signal(), rtol=1e-6)
    assert len(list(out.glob("*.png"))) == 4
    if kind == "npz":
        assert f"{path}:other" in refused("explain", net, path, "-o", out)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sounds_of_any_width_are_from_minus_one_to_one(width, tmp_path):
    signal = np.stack([np.linspace(-0.9, 0.9, 50), np.linspace(0.5, -0.5, 50)]).astype(np.float32)
    read = read_numbers(write_wav(tmp_path / "a.wav", signal, width))
    np.testing.assert_allclose(read.array, signal, atol=2.0 ** (1 - 8 * width) * 1.6)
    assert read.channels_first


def test_several_signals_have_a_table_and_a_page(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", planted_signal(2))
    net, out = saved(listener(2), tmp_path / "net.onnx"), tmp_path / "out"
    assert run("explain", net, tmp_path, "-o", out)[0] == 0
    assert (out / "summary.csv").read_text(encoding="utf-8").count(".npy") == 2
    assert len(list((out / "thumbnails").iterdir())) == 2


def test_a_signal_that_does_not_fit_is_refused_with_both_shapes(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 30), np.float32))
    said = refused("explain", saved(listener(), tmp_path / "net.onnx"), tmp_path / "s.npy")
    assert "N×1×96" in said
    assert "s.npy is 2×30" in said


# --- a detector of one cube in a volume -------------------------------------------------------------

CUBE = np.s_[2:5, 3:6, 5:8]


def cube_finder():
    """Fires where 27 ones are."""
    body = "c = Conv(x, w, b) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
    weights = {"w": np.ones((1, 1, 3, 3, 3), np.float32), "b": np.array([-26.5], np.float32)}
    return model(body, weights, "N,1,8,9,10")


def test_the_saliency_of_a_volume_lies_on_the_cube(tmp_path):
    volume = np.zeros((8, 9, 10), np.float32)
    volume[CUBE] = 1
    np.save(tmp_path / "v.npy", volume)
    expected = volume * (27 - 26.5)  # one position of the map fires, with that
    net, out = saved(cube_finder(), tmp_path / "net.onnx"), tmp_path / "out"
    code, _, err = run("explain", net, tmp_path / "v.npy", "--rules", "gradient", "--view", "all", "-o", out)
    assert (code, err) == (0, "")
    (values,) = out.glob("*.npy")
    np.testing.assert_allclose(np.load(values)[0], expected, rtol=1e-6)
    (heat,) = out.glob("*-heat.png")
    along = pixels(heat)[..., :3]
    factor = along.shape[0] // 9  # the highest of the maxima is 9 rows high, in a margin of 4 pixels
    middle = slice(4 + factor // 2, None, factor)
    depth = along[middle, middle][:9, :10]
    lit = (depth == BRIGHT).all(axis=-1)
    assert np.argwhere(lit).min(axis=0).tolist() == [3, 5]
    assert np.argwhere(lit).max(axis=0).tolist() == [5, 7]
    assert lit.sum() == 9


# --- images of other bands than photographs have ----------------------------------------------------


def of_one_band(bands, one):
    """The score is the sum of one band."""
    weight = np.zeros((2, bands, 1, 1), np.float32)
    weight[0, one] = 1
    return model("c = Conv(x, w) s = ReduceSum<keepdims=0>(c, axes) y = Identity(s)",
                 {"w": weight, "axes": np.array([2, 3])}, f"N,{bands},6,7")  # fmt: skip


def test_the_band_that_matters_alone_is_drawn_where_it_is_asked_for(tmp_path):
    image = random(6, 6, 7)
    np.save(tmp_path / "i.npy", image)
    net, out = saved(of_one_band(6, 4), tmp_path / "net.onnx"), tmp_path / "out"
    gradient = ("--rules", "gradient", "--seed", "one")
    common = ("explain", net, tmp_path / "i.npy", "--target", 0, "--view", "projection", *gradient)
    assert run(*common, "--bands", "1,4,0", "-o", out)[0] == 0
    (values,) = out.glob("*.npy")
    np.testing.assert_array_equal(np.load(values).any(axis=(1, 2)), [k == 4 for k in range(6)])
    assert record(out)["score"] == pytest.approx(image[4].sum(), rel=1e-5)
    (drawn,) = out.glob("*.png")
    assert np.unique(pixels(drawn).reshape(-1, 3), axis=0).tolist() == [[128, 255, 128]]
    assert "channels 0 to 5" in refused(*common, "--bands", "1,4,6", "-o", out)
    assert "three" in refused(*common, "--bands", "1,4", "-o", out)
    assert "--mean: no input of the model takes photographs" in refused(*common, "--mean", "1", "-o", out)


def test_bands_of_several_files_or_pages_are_joined(tmp_path):
    bands = np.random.default_rng(0).integers(0, 2**16, (5, 6, 7), np.uint16)
    pages = [Image.fromarray(band) for band in bands]
    pages[0].save(tmp_path / "all.tif", save_all=True, append_images=pages[1:])
    for k, page in enumerate(pages):
        page.save(tmp_path / f"{k}.tif")
    net = saved(of_one_band(5, 3), tmp_path / "net.onnx")
    several = [text for k in range(5) for text in ("--input", f"x={tmp_path / f'{k}.tif'}")]
    for name, given in (("pages", [tmp_path / "all.tif"]), ("files", several)):
        assert run("explain", net, *given, "--target", 0, "-o", tmp_path / name)[0] == 0
        assert record(tmp_path / name)["score"] == pytest.approx(
            float(bands[3].sum(dtype=np.int64)), rel=1e-6
        )


def test_bands_of_several_files_are_no_photograph(tmp_path):
    """An input of four channels takes photographs, which are preprocessed: each is one file."""
    net, band = saved(of_one_band(4, 3), tmp_path / "net.onnx"), np.zeros((6, 7), np.uint8)
    several = []
    for k in range(4):
        Image.fromarray(band).save(tmp_path / f"{k}.tif")
        several += ["--input", f"x={tmp_path / f'{k}.tif'}"]
    message = refused("explain", net, *several, "-o", tmp_path / "out")
    assert "input 'x' takes photographs, each in one file, and got 4" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("planar", ["separate", "contig"])
def test_a_tiff_of_many_bands_is_read_by_tifffile(planar, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    bands = np.random.default_rng(0).integers(0, 2**16, (7, 5, 6), np.uint16)
    stored = bands if planar == "separate" else bands.transpose(1, 2, 0)
    tifffile.imwrite(tmp_path / "b.tif", stored, planarconfig=planar, photometric="minisblack")
    np.testing.assert_array_equal(read_numbers(tmp_path / "b.tif").array, bands)


FOURS = {
    "nothing said of the fourth": {"photometric": "rgb", "extrasamples": [0]},
    "each band apart": {"photometric": "rgb", "extrasamples": [0], "planarconfig": "separate"},
    "no colours": {"photometric": "minisblack", "planarconfig": "contig"},
    "no colours, each band apart": {"photometric": "minisblack", "planarconfig": "separate"},
}


@pytest.mark.parametrize("kind", FOURS)
def test_a_fourth_band_that_is_no_opacity_is_read_by_tifffile(kind, tmp_path, monkeypatch):
    """As satellites' pictures have near infrared: Pillow reads the three before, or nothing."""
    tifffile = pytest.importorskip("tifffile")
    four = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    stored = four.transpose(2, 0, 1) if "planarconfig" in FOURS[kind] and "apart" in kind else four
    tifffile.imwrite(tmp_path / "four.tif", stored, **FOURS[kind])
    np.testing.assert_array_equal(read_image(tmp_path / "four.tif", bands=4), four)
    assert has_fourth_band(tmp_path / "four.tif")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"four\.tif: .*pip install 'onnx-deconv\[bands\]'"):
        read_image(tmp_path / "four.tif", bands=4)


def test_a_fourth_band_of_sixteen_bits_is_no_picture_s(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "four.tif", np.zeros((6, 7, 4), np.uint16), photometric="rgb", extrasamples=[0]
    )
    with pytest.raises(InputError, match=r"its four bands are uint16, .* give an \.npy file"):
        read_image(tmp_path / "four.tif", bands=4)


def test_a_sound_of_fractions_is_read_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    sound = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    soundfile.write(tmp_path / "s.wav", sound, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_numbers(tmp_path / "s.wav").array, sound.T)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "s.flac").write_bytes(b"fLaC")
    with pytest.raises(InputError, match=r"onnx-deconv\[signals\]"):
        read_numbers(tmp_path / "s.flac")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_fourth_band_of_a_file_is_the_models_fourth_channel(suffix, tmp_path):
    four = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    Image.fromarray(four).save(tmp_path / f"four.{suffix}")
    Image.fromarray(four[..., :3]).save(tmp_path / f"three.{suffix}")
    fourth = saved(of_one_band(4, 3), tmp_path / "fourth.onnx")
    red = saved(of_one_band(4, 0), tmp_path / "red.onnx")
    out, how = tmp_path / "out", ("--preset", "raw", "--fit", "none", "--target", 0)
    scores = []
    for number, (net, name) in enumerate([(fourth, "four"), (red, "four"), (fourth, "three")]):
        code, _, err = run("explain", net, tmp_path / f"{name}.{suffix}", *how, "-o", out / str(number))
        assert (code, "has no fourth band" in err) == (0, name == "three")
        scores.append(record(out / str(number))["score"])
    # The colours are the file's own, not blended with white.
    sums = four.sum(axis=(0, 1), dtype=np.int64)
    assert scores == pytest.approx([sums[3], sums[0], 255 * 6 * 7], rel=1e-6)
    found = explain(fourth, Image.fromarray(four), 0, preprocess=pixels_of(fourth), providers="cpu")
    assert found.score == pytest.approx(sums[3], rel=1e-6)


def test_pages_and_frames_are_chosen(tmp_path):
    frames = [Image.new("L", (7, 6), grey) for grey in (10, 200)]
    net = saved(of_one_band(3, 1), tmp_path / "net.onnx")
    for name in ("a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        for page, grey in enumerate((10, 200)):
            out = tmp_path / f"{name}{page}"
            given = ("--preset", "raw", "--target", 0, "--page", page, "-o", out)
            assert run("explain", net, tmp_path / name, *given)[0] == 0
            assert record(out)["score"] == grey * 6 * 7
        assert "numbered from 0 to 1" in refused("explain", net, tmp_path / name, "--page", 2)
    assert read_image(tmp_path / "a.gif", page=1)[0, 0].tolist() == [200] * 3


@pytest.mark.parametrize("batch", ["N", "1", "3"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pictures_do_not_depend_on_the_layout_or_the_batch(layout, batch):
    photos = [np.random.default_rng(k).integers(0, 256, (40, 48, 3), np.uint8) for k in range(3)]
    for method in ("deconvnet", "gradient", "grad-cam"):
        first = Explainer(labelled(network(size="32,32")), method, providers="cpu")
        other = Explainer(labelled(network(batch, layout, size="32,32")), method, providers="cpu")
        for one, same in zip(first.explain(photos), other.explain(photos), strict=True):
            assert (one.label, one.position) == (same.label, same.position)
            drawn = [np.asarray(each.side_by_side, np.int16) for each in (one, same)]
            assert np.abs(drawn[0] - drawn[1]).max() <= 1  # a last digit may round to another level


# --- several inputs, scalars and flags --------------------------------------------------------------


def compared():
    """Scores: the mean of `left` less that of `right`, times `factor`; and its negative if `flip`."""
    body = """
        a = ReduceMean<keepdims=0>(left, axes) b = ReduceMean<keepdims=0>(right, axes)
        d = Sub(a, b) s = Mul(d, factor) n = Neg(s) f = Where(flip, n, s)
        z = Concat<axis=1>(s, f) y = Identity(z)
    """
    inputs = "float[N,1,4,5] left, float[N,1,4,5] right, float factor, bool flip"
    return of_inputs(inputs, body, axes=np.array([2, 3]))


def test_inputs_are_given_by_name(tmp_path):
    left = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    left[..., 1:] = left[..., :1]
    right = random(1, 4, 5)
    Image.fromarray(left).save(tmp_path / "left.png")
    np.save(tmp_path / "right.npy", right)
    net, out = saved(compared(), tmp_path / "net.onnx"), tmp_path / "out"
    given = ("--input", f"right={tmp_path / 'right.npy'}", "--input", "factor=0.5", "--input", "flip=true")
    how = ("--preset", "raw", "--fit", "none", "--target", 1, "--rules", "gradient", "-o", out)
    assert run("explain", net, tmp_path / "left.png", *given, *how)[0] == 0
    expected = -(left[..., 0].mean() - right.mean()) / 2
    told = record(out)
    assert told["score"] == pytest.approx(expected, rel=1e-5)
    # Flipped and halved: each of the 20 numbers of `left` counts -1/40, each of `right` 1/40.
    for name, slope in (("left", -1 / 40), ("right", 1 / 40)):
        (values,) = out.glob(f"*-{name}.npy")
        np.testing.assert_allclose(np.load(values), np.full((1, 4, 5), slope, np.float32), rtol=1e-6)
        assert len(list(out.glob(f"*-{name}-side-by-side.png"))) == 1
    assert told["inputs"]["flip"] == "True"


def test_what_is_not_given_is_named_with_the_way_to_give_it(tmp_path):
    net = saved(compared(), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", random(1, 4, 5))
    x = tmp_path / "x.npy"
    said = refused("explain", net, x, "--input", f"left={x}")
    assert "right N×1×4×5, factor scalar, flip scalar" in said
    assert "--input" in said
    assert "left, right, factor, flip" in refused("explain", net, x, "--input", "up=3")
    assert "NAME=FILE" in refused("explain", net, x, "--input", "3")
    explainer = Explainer(compared(), "gradient", providers="cpu")
    with pytest.raises(InputError, match=r"nothing is given for flip.*'flip'"):
        explainer.explain({"left": random(1, 4, 5), "right": random(1, 4, 5), "factor": 1})
    both = {"left": random(2, 1, 4, 5), "right": random(3, 1, 4, 5)}
    with pytest.raises(InputError, match="same number of samples"):
        explainer.explain(both | {"factor": 1, "flip": False})


@pytest.mark.parametrize("shape", ["", "[1]"])
def test_a_flag_that_decides_whether_a_dropout_drops_is_given(shape, tmp_path):
    # The score of class 1 is the mean of each channel times a number of the table's second column.
    flag = "mode = Identity(train)" if not shape else "none = Constant<value_ints=[0]>() "
    flag += "mode = Squeeze(train, none)" if shape else ""
    proto = of_inputs(
        f"float[N,3,4,5] x, bool{shape} train",
        f"a = ReduceMean<keepdims=0>(x, axes) {flag} d = Dropout(a, half, mode) y = MatMul(d, t)",
        axes=np.array([2, 3]), half=np.float32(0.5), t=TABLE,
    )  # fmt: skip
    net, out = saved(proto, tmp_path / "net.onnx"), tmp_path / "out"
    np.save(tmp_path / "x.npy", random(3, 4, 5))
    how = ("--rules", "gradient", "--target", 1, "-o", out)
    assert run("explain", net, tmp_path / "x.npy", "--input", "train=false", *how)[0] == 0
    expected = np.broadcast_to(TABLE[:, 1, None, None] / 20, (3, 4, 5))
    (values,) = out.glob("*.npy")
    np.testing.assert_allclose(np.load(values), expected, rtol=1e-6)
    assert record(out)["inputs"] == {"train": "False"}
    assert "training mode" in refused("explain", net, tmp_path / "x.npy", "--input", "train=true", *how)
    with pytest.raises(RuleError, match=r"--input .*with_inputs"):
        Explainer(proto, "gradient", providers="cpu")(
            {"x": random(1, 3, 4, 5), "train": np.zeros([1] if shape else [], bool)}, 1
        )


TABLE = np.float32([[1, -2], [3, 5], [0, 7]])
POOLED = "a = ReduceMean<keepdims=0>(x, axes)"
FLAT_TABLE = TABLE.ravel()


@pytest.mark.parametrize("batch", ["N", "2"])
@pytest.mark.parametrize(
    ("size", "table", "tail"),
    [
        ("3,2", TABLE, "y = MatMul(a, t)"),
        ("K,3", TABLE.T, "b = Transpose(t) y = MatMul(a, b)"),
        ("6", FLAT_TABLE, "b = Reshape(t, rows) y = MatMul(a, b)"),
    ],
)
def test_a_table_beside_the_images_has_no_axis_for_them(batch, size, table, tail):
    # The score of class 1 is the mean of each channel times a number of the table's second column.
    constants = {"axes": np.array([2, 3]), "rows": np.array([3, 2])}
    proto = of_inputs(f"float[{batch},3,2,2] x, float[{size}] t", f"{POOLED} {tail}", **constants)
    images = random(4, 3, 2, 2)
    expected = np.broadcast_to(TABLE[:, 1, None, None] / 4, images.shape)
    explainer = Explainer(proto, "gradient", providers="cpu")
    assert explainer.model.batch == (None if batch == "N" else 2)
    found = explainer({"x": images, "t": table}, 1)
    np.testing.assert_allclose([e.reconstruction for e in found], expected, rtol=1e-6)
    alone = Explainer(with_inputs(load(proto), {"t": table}), "gradient", providers="cpu")(images, 1)
    np.testing.assert_allclose([e.reconstruction for e in alone], expected, rtol=1e-6)


@pytest.mark.parametrize(("images", "texts"), [("N", "M"), ("?", "?"), ("N", "?")])
@pytest.mark.parametrize("squash", ["", "p = Softmax<axis=1>(y)"])
def test_texts_of_any_number_are_shared_by_all_images(images, texts, squash, tmp_path):
    """The score of a text is the mean of its words' rows of the table, times the means of the channels."""
    body = f"""{POOLED} e = Gather(words, ids) m = ReduceMean<keepdims=0>(e, along) t = Transpose(m)
        y = MatMul(a, t) {squash}"""
    proto = of_inputs(f"float[{images},3,2,2] x, int64[{texts},2] ids", body, axes=np.array([2, 3]),
        along=np.array([1]), words=TABLE.T)  # fmt: skip
    output = "p" if squash else "y"
    sizes = [images, texts] if (images, texts) == ("N", "M") else [None, None]
    replaced = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, sizes)
    proto.graph.output[0].CopyFrom(replaced)
    x, ids = random(2, 3, 2, 2), np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    for count in (4, 2):  # as many as there are images, too
        ask = Explainer(proto, "gradient", providers="cpu")
        found = ask({"x": x, "ids": ids[:count]}, 1)
        score = np.broadcast_to(TABLE.mean(axis=1)[:, None, None] / 4, x.shape)
        np.testing.assert_allclose([e.reconstruction for e in found], score, rtol=1e-6)
        given = with_inputs(load(proto), {"ids": ids[:count]})
        alone = Explainer(given, "gradient", providers="cpu")(x, 1)
        np.testing.assert_allclose([e.reconstruction for e in alone], score, rtol=1e-6)
    net, out = saved(proto, tmp_path / "net.onnx"), tmp_path / "out"
    np.save(tmp_path / "x.npy", x[:1])
    np.save(tmp_path / "ids.npy", ids)
    how = (f"--input=ids={tmp_path / 'ids.npy'}", "--rules", "gradient", "--target", 1, "-o", out)
    assert run("explain", net, tmp_path / "x.npy", *how)[0] == 0
    (values,) = out.glob("*.npy")
    np.testing.assert_allclose(np.load(values), score[0], rtol=1e-6)


def test_a_batch_for_one_input_is_refused_by_its_own_name(tmp_path):
    net, x = saved(compared(), tmp_path / "net.onnx"), tmp_path / "x.npy"
    np.save(x, random(1, 4, 5))
    np.save(tmp_path / "many.npy", random(3, 1, 4, 5))
    rest = ("--input", "factor=1", "--input", "flip=false")
    many = f"right={tmp_path / 'many.npy'}"
    assert "--input right: holds 3 samples" in refused("explain", net, x, "--input", many, *rest)
    said = refused("explain", net, tmp_path / "many.npy", "--input", f"right={x}", *rest)
    assert "many.npy: holds 3 samples" in said
    with pytest.raises(InputError, match="'right': 3×1×4×5 is a batch: give what one image gets"):
        with_inputs(load(compared()), {"right": random(3, 1, 4, 5)})


def test_an_input_that_nothing_reads_does_not_say_how_many_images_there_are():
    proto = of_inputs("float[N,3,2,2] x, float[7] spare", f"{POOLED} y = MatMul(a, t)", t=TABLE)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    images = random(2, 3, 2, 2)
    found = Explainer(proto, "gradient", providers="cpu")({"x": images, "spare": np.zeros(7, "f")}, 0)
    expected = np.broadcast_to(TABLE[:, 0, None, None] / 4, images.shape)
    np.testing.assert_allclose([e.reconstruction for e in found], expected, rtol=1e-6)


def test_what_is_given_once_counts_for_all_of_a_batch():
    left, right = random(3, 1, 4, 5), random(1, 4, 5, seed=1)
    explainer = Explainer(compared(), "gradient", providers="cpu")
    found = explainer.explain({"left": left, "right": right, "factor": 2, "flip": False}, 0)
    assert [one.image for one in found] == [0, 1, 2]
    expected = 2 * (left.mean(axis=(1, 2, 3)) - right.mean())
    np.testing.assert_allclose([one.score for one in found], expected, rtol=1e-5)


def test_all_inputs_may_be_given_by_name(tmp_path):
    np.save(tmp_path / "x.npy", random(1, 4, 5))
    net, out = saved(compared(), tmp_path / "net.onnx"), tmp_path / "out"
    given = [f"left={tmp_path / 'x.npy'}", f"right={tmp_path / 'x.npy'}", "factor=1", "flip=false"]
    options = [text for each in given for text in ("--input", each)]
    assert run("explain", net, *options, "--target", 0, "-o", out)[0] == 0
    assert record(out)["score"] == 0
    assert "leave this out" in refused("explain", net, tmp_path / "x.npy", *options)


def twins(batch="N"):
    """Ten classes of how two photographs agree: the same filters on both, multiplied; less a threshold."""
    body = """
        a = Conv(left, w) p = Relu(a) b = Conv(right, w) q = Relu(b) m = Mul(p, q) t = Sub(m, threshold)
        g = GlobalAveragePool(t) f = Flatten(g) z = MatMul(f, k) y = Softmax(z)
    """
    inputs = f"float[{batch},3,9,8] left, float[{batch},3,9,8] right, float threshold"
    proto = of_inputs(inputs, body, w=random(4, 3, 3, 3), k=random(4, 10))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto


GIVEN = {"right": random(3, 9, 8, seed=1), "threshold": np.float32(0.5)}


@pytest.mark.parametrize("batch", ["N", "1", "3"])
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_a_model_with_inputs_given_is_explained_as_with_all_of_them(batch, method):
    whole, left = load(twins(batch)), random(3, 3, 9, 8, seed=2)
    one = with_inputs(whole, GIVEN)
    assert (one.inputs, one.batch) == (["left"], None if batch == "N" else int(batch))
    right = np.repeat(GIVEN["right"][None], 3, 0)
    both = {"left": left, "right": right, "threshold": GIVEN["threshold"]}
    expected = Explainer(whole, method, providers="cpu")(both)
    for want, found in zip(expected, Explainer(one, method, providers="cpu")(left), strict=True):
        assert (found.channel, found.layer) == (want.channel, want.layer)
        assert found.score == pytest.approx(want.score, rel=1e-6)
        wanted = want.reconstructions["left"]
        np.testing.assert_allclose(found.reconstruction, wanted, atol=1e-6 * np.abs(wanted).max())


def test_a_path_stands_for_the_model_in_it(tmp_path):
    onnx.save(twins(), tmp_path / "twins.onnx")
    for path in (tmp_path / "twins.onnx", str(tmp_path / "twins.onnx")):
        assert with_inputs(path, GIVEN).inputs == ["left"]
        assert [i["name"] for i in compile_pair(path).manifest["inputs"]] == ["left", "right", "threshold"]
        assert explain_graph(path).manifest["model"] == "twins.onnx"
    for make in (Explainer, compile_pair, explain_graph, lambda model: with_inputs(model, GIVEN)):
        with pytest.raises(
            InputError, match="model: give a path, a serialised model or a ModelProto, not int"
        ):
            make(5)


def test_filters_of_a_given_input_alone_are_no_layers_to_explain():
    whole = load(twins())
    assert (convolutions(whole), convolutions(with_inputs(whole, GIVEN))) == (["p", "q"], ["p"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "double", "uint8"])
def test_inputs_of_any_type_are_given(dtype):
    body = """l = Cast<to=1>(left) r = Cast<to=1>(right) m = Mul(l, r) z = Cast<to=1>(m)
        f = Flatten(z) k = MatMul(f, w) y = Softmax(k)"""
    inputs = f"{dtype}[2,3,4,4] left, {dtype}[2,3,4,4] right"
    proto = of_inputs(inputs, body, w=random(48, 2))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    numbers = np.uint8 if dtype == "uint8" else np.float64 if dtype == "double" else np.float16
    numbers = np.float32 if dtype == "bfloat16" else numbers
    left, right = (np.abs(random(*shape) * 9).astype(numbers) for shape in ((2, 3, 4, 4), (3, 4, 4)))
    both = {"left": left, "right": np.repeat(right[None], 2, 0)}
    one = Explainer(with_inputs(load(proto), {"right": right}), "gradient", providers="cpu")
    for found, want in zip(one(left, 0), Explainer(proto, "gradient", providers="cpu")(both, 0), strict=True):
        np.testing.assert_array_equal(found.reconstruction, want.reconstructions["left"])


def test_inputs_of_old_models_are_given_too():
    proto = twins()
    proto.opset_import[0].version, proto.ir_version = 7, 3
    for tensor in proto.graph.initializer:  # as files of that time do
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, tensor.dims))
    left = random(2, 3, 9, 8, seed=2)
    old, new = (Explainer(with_inputs(load(p), GIVEN), "gradient", providers="cpu") for p in (proto, twins()))
    for one, same in zip(old(left), new(left), strict=True):
        np.testing.assert_array_equal(one.reconstruction, same.reconstruction)


def test_given_inputs_that_do_not_fit_are_refused():
    whole = load(twins())
    for given, message in (
        ({"middle": 1}, "no input 'middle' but left, right, threshold"),
        ({"right": random(1, 9, 8)}, "has shape N×3×9×8, not 1×1×9×8"),
        ({"threshold": random(2)}, "'threshold' has shape"),
        (GIVEN | {"left": GIVEN["right"]}, "none is left"),
    ):
        with pytest.raises(InputError, match=message):
            with_inputs(whole, given)


OTHERS = {
    "sheet": "sheet.json", "occlude": "p-occlusion.json", "atlas build": "atlas.json",
    "evaluate": "evaluation.json", "invariance": "invariance.json",
}  # fmt: skip


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_take_photographs_for_one_of_several_inputs(command, tmp_path):
    picture(tmp_path / "p.png")
    picture(tmp_path / "q.png")
    net, out = saved(twins(), tmp_path / "net.onnx"), tmp_path / "out"
    photograph, how = tmp_path / "p.png", ("--preset", "imagenet", "-o", out)
    wanted = refused(*command.split(), net, photograph, *how)
    assert "left, right, threshold" in wanted
    assert "--input threshold=FILE" in wanted
    given = ("--input", f"right={tmp_path / 'q.png'}", "--input", "threshold=0.5")
    few = ("--method", "gradient", "--measure", "weights") if command == "evaluate" else ()
    assert run(*command.split(), net, photograph, *given, *how, *few)[0] == 0
    told = json.loads((out / OTHERS[command]).read_text(encoding="utf-8"))
    told = told["made"] if command == "atlas build" else told
    assert told["inputs"] == {"right": str(tmp_path / "q.png"), "threshold": "0.5"}


def test_a_graph_of_pictures_has_its_other_inputs_within(tmp_path):
    photograph = picture(tmp_path / "p.png", 9, 8)
    net, out = saved(twins("1"), tmp_path / "net.onnx"), tmp_path / "out"
    how = ("--preset", "imagenet", "--fit", "none")
    given = ("--input", f"right={photograph}", "--input", "threshold=0.5")
    form = ("--form", "explain", "--rules", "gradient")
    assert run("convert", net, *given, *form, "--pictures", *how, "-o", out)[0] == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in manifest["inputs"]] == ["picture"]
    found = tmp_path / "found"
    assert run("explain", net, photograph, *given, *how, "--rules", "gradient", "-o", found)[0] == 0
    (values,) = found.glob("*-left.npy")
    session = Session(onnx.load(out / "explain.onnx"), out, "cpu")
    got = session.run_plainly({"picture": read_image(photograph)[None], "target": np.array([-1])})
    expected = np.load(values)
    np.testing.assert_allclose(got["reconstruction"][0], expected, atol=1e-5 * np.abs(expected).max())


def test_a_model_of_a_flag_is_verified(tmp_path):
    code, out, _ = run("verify", saved(twins(), tmp_path / "net.onnx"), "--rules", "gradient")
    assert (code, "FAILED" in out) == (0, False)


def test_what_cannot_be_drawn_has_numbers_and_is_said_to(tmp_path):
    proto = of_inputs("float[N,2,3,2,3,2] x", "f = Flatten(x) y = Gemm(f, w)", w=random(72, 2))
    net, out = saved(proto, tmp_path / "net.onnx"), tmp_path / "out"
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random(2, 3, 2, 3, 2))
    code, _, err = run("explain", net, tmp_path / "a.npy", tmp_path / "b.npy", "--top", 2, "-o", out)
    assert (code, err.count("no pictures")) == (0, 4)
    assert len(list(out.glob("*.npy"))) == 4
    assert not list(out.rglob("*.png"))
    assert run("explain", net, tmp_path / "a.npy", tmp_path / "b.npy", "--top", 2, "-o", out)[0] == 0


# --- what a model does to pixels itself -------------------------------------------------------------


def test_an_input_of_bytes_gets_pixels_whatever_the_metadata_say():
    body = """
        f = Cast<to=1>(x) t = Transpose<perm=[0,3,1,2]>(f) c = Conv(t, w) y = ReduceMean<keepdims=0>(c, axes)
    """
    proto = of_inputs("uint8[N,6,7,3] x", body, w=np.eye(2, 3, dtype=np.float32)[:, :, None, None],
                      axes=np.array([2, 3]))  # fmt: skip
    proto.metadata_props.add(key="preset", value="imagenet")
    picture = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    how = preprocess_for(load(proto))[0].replace(fit="none")
    found = explain(proto, picture, [0, 1], method="gradient", preprocess=how, providers="cpu")
    assert [one.score for one in found] == pytest.approx(picture.mean(axis=(0, 1))[:2].tolist(), rel=1e-6)
    assert how.layout == "NHWC"


MEANS, SPREADS = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
PREPARED = {
    "tensorflow": ("a = Mul(x, k) p = Add(a, m)", {"k": 1 / 127.5, "m": -1.0}, 1),
    "torch": ("a = Div(x, k) b = Sub(a, m) p = Div(b, s)", {"k": 255.0, "m": MEANS, "s": SPREADS}, 1),
    "caffe": ("p = Sub(x, m)", {"m": 255 * MEANS}, 1),
    "of 0..1": ("a = Sub(x, m) p = Div(a, s)", {"m": MEANS, "s": SPREADS}, 1 / 255),
    "nothing": ("p = Identity(x)", {}, None),
    "a factor": ("p = Mul(x, k)", {"k": 2.0}, None),
}


@pytest.mark.parametrize("kind", PREPARED)
def test_a_model_that_prepares_pixels_itself_is_given_them_as_it_takes_them(kind):
    body, weights, scale = PREPARED[kind]
    weights = {name: np.float32(w).reshape((1, -1, 1, 1)) for name, w in weights.items()}
    weights |= {"w": np.eye(2, 3, dtype=np.float32)[:, :, None, None], "axes": np.array([2, 3])}
    net = model(f"{body} c = Conv(p, w) y = ReduceMean<keepdims=0>(c, axes)", weights, "N,3,6,7")
    how, assumed = preprocess_for(load(net))
    if scale is None:
        assert assumed == "imagenet"
        return
    assert (assumed, how.mean, how.std) == (None, (0.0,), (1.0,))
    assert how.scale == pytest.approx(scale)
    net.metadata_props.add(key="preset", value="imagenet")  # who says it has the last word
    assert preprocess_for(load(net))[0].mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("target_input", ["required", "optional"])
def test_an_explain_graph_is_explained_as_the_model_it_was_made_of(target_input, tmp_path):
    proto = labelled(network(size="32,32"))
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    expected = explain(proto, picture, method="deconvnet", providers="cpu")
    how, _ = preprocess_for(load(proto))
    graph = explain_graph(compile_pair(load(proto)), preprocess=how, target_input=target_input)
    graph.save(tmp_path)
    for source in (tmp_path, tmp_path / "explain.onnx", graph.proto):
        found = explain(source, picture, "bee", providers="cpu")
        assert found.score == pytest.approx(explain(proto, picture, "bee", providers="cpu").score, rel=1e-5)
        best = explain(source, picture, providers="cpu")
        assert (best.label, best.method) == (expected.label, "deconvnet")
        assert best.score == pytest.approx(expected.score, rel=1e-5)
    Image.fromarray(picture).save(tmp_path / "p.png")
    out = tmp_path / "out"
    assert run("explain", tmp_path, tmp_path / "p.png", "-o", out)[0] == 0
    assert record(out)["score"] == pytest.approx(expected.score, rel=1e-5)
    assert run("inspect", tmp_path)[0] == 0


def test_two_possible_layouts_are_refused_with_the_option():
    proto = model("c = Mul(x, w) y = ReduceMean<keepdims=0>(c, axes)",
                  {"w": random(1), "axes": np.array([2, 3])}, "N,3,8,3")  # fmt: skip
    photograph = np.zeros((8, 3, 3), np.uint8)
    with pytest.raises(InputError, match=r"choose NCHW or NHWC by preprocess=Preprocess\(layout"):
        explain(proto, photograph, providers="cpu")
    how, _ = preprocess_for(load(proto), layout="NCHW")
    assert explain(proto, photograph, 0, preprocess=how, providers="cpu").shown.layout == "NCHW"


def of_type(dtype, body="f = Cast<to=1>(x) h = Flatten(f) y = MatMul(h, w)", **weights):
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 19]> g ({dtype}[N,3,4,4] x) => (float[N,10] y) {{ {body} }}'
    )
    for name, array in (weights or {"w": random(48, 10)}).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def test_inputs_of_bfloat16_get_rounded_numbers(tmp_path):
    net = saved(of_type("bfloat16"), tmp_path / "net.onnx")
    values = random(2, 3, 4, 4)
    rounded = ((values.view(np.uint32) + 0x7FFF + (values.view(np.uint32) >> 16 & 1)) >> 16 << 16).view("f4")
    assert (rounded != values).any()
    same = Explainer(of_type("float"), "gradient", providers="cpu")(rounded)
    for one, two in zip(Explainer(net, "gradient", providers="cpu")(values), same, strict=True):
        assert (one.channel, one.score) == (two.channel, two.score)
        np.testing.assert_array_equal(one.reconstruction, two.reconstruction)
    assert run("convert", net, "-o", tmp_path / "out", "--form", "explain")[0] == 0
    assert run("verify", net, "--rules", "gradient")[0] == 0


def test_what_runtimes_do_not_compute_with_is_said():
    weights = {"w": random(48, 10).astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))}
    proto = of_type("bfloat16", "h = Flatten(x) z = MatMul(h, w) y = Cast<to=1>(z)", **weights)
    with pytest.raises(ModelError, match=r"refuses the model: .*; few operators take bfloat16.*to float32"):
        explain(proto, random(1, 3, 4, 4), providers="cpu")


def test_numbers_that_numpy_does_not_have_are_refused_with_the_way_out(tmp_path):
    net = saved(of_type("float8e4m3fn"), tmp_path / "net.onnx")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "p.png")
    for command in (("verify", net), ("explain", net, tmp_path / "p.png"),
                    ("convert", net, "-o", tmp_path / "out", "--form", "explain")):  # fmt: skip
        code, _, err = run(*command)
        assert code == 2
        assert "float8" in err
        assert "a Cast from float32" in err
    with pytest.raises(InputError, match="a Cast from float32"):
        explain(net, np.zeros((1, 3, 4, 4), np.float32), providers="cpu")


@pytest.mark.parametrize("command", ["occlude", "sheet", "evaluate", "verify", "inspect", "explore", "serve"])
@pytest.mark.parametrize("option", ["--page=1", "--bands=0,1,2"])
def test_options_of_other_inputs_than_photographs_are_explains(command, option, tmp_path):
    code, _, err = run(command, saved(of_one_band(3, 0), tmp_path / "net.onnx"), option)
    assert code == 2
    assert f"{option.partition('=')[0]} is an option of explain" in err


# --- examples in messages are taken by the model they are about ------------------------------------------

OPEN = {
    "a signal": ("1,2,L", "c = Conv(x, w1) g = GlobalAveragePool(c) y = Flatten(g)", "1,2,224"),
    "a volume": ("N,2,D,4,5", "c = Conv(x, w3) g = GlobalAveragePool(c) y = Flatten(g)", "1,2,64,4,5"),
    "bands": ("N,2,H,W", "c = Conv(x, w2) g = GlobalAveragePool(c) y = Flatten(g)", "1,2,224,224"),
    "bands last": (
        "N,H,W,2",
        "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w2) g = GlobalAveragePool(c) y = Flatten(g)",
        "1,224,224,2",
    ),
    "one image": (
        "2,H,W",
        "u = Unsqueeze(x, none) c = Conv(u, w2) g = GlobalAveragePool(c) y = Flatten(g)",
        "1,2,224,224",
    ),
}


@pytest.mark.parametrize("case", OPEN)
def test_sizes_in_a_message_are_taken_by_the_model(case, tmp_path):
    """They have as many axes as the input, and its own sizes where it has any."""
    sizes, body, example = OPEN[case]
    weights = {"w1": random(3, 2, 1), "w2": random(3, 2, 1, 1), "w3": random(3, 2, 1, 1, 1)}
    proto = model(body, weights | {"none": np.array([0])}, sizes)
    net = saved(proto, tmp_path / "net.onnx")
    assert f"--input-shape x:{example}" in refused("verify", net)
    assert run("verify", net, "--input-shape", f"x:{example}")[0] == 0
    given = tuple(map(int, example.split(",")))
    with pytest.raises(InputError, match=re.escape(f"input_shapes={{'x': {given}}}")):
        random_feeds(load(proto), np.random.default_rng(0))
    assert random_feeds(load(proto, {"x": given}), np.random.default_rng(0))["x"].shape == given


@pytest.mark.parametrize(
    ("shape", "example"),
    [
        (None, (1, 3, 224, 224)),
        (("N",), (1,)),
        (("N", None), (1, 224)),
        ((None, None, None, None), (1, 3, 224, 224)),
        (("N", None, None, 3), (1, 224, 224, 3)),
        ((4, None, 30, None), (4, 3, 30, 224)),
        (("N", 1, 8, None, None), (1, 1, 8, 64, 64)),
    ],
)
def test_an_example_of_sizes_has_those_that_are_known(shape, example):
    assert sizes_of("x", shape) == f"give it, as in input_shapes={{'x': {example}}}"


def test_sizes_with_an_axis_that_the_file_lacks_are_refused_where_it_has_one():
    with pytest.raises(InputError, match="has 4 axes, not 5"):
        load(model("y = Relu(x)", {}, "1,3,4,4"), {"x": (1, 1, 3, 4, 4)})


@pytest.mark.parametrize(
    ("size", "fit", "told"),
    [
        ((12, 96), "crop", "44% of the photograph's width"),
        ((48, 24), "crop", "11% of the photograph's height"),
        ((12, 96), "stretch", ""),
        ((24, 96), "pad", ""),
    ],
)
def test_a_line_that_is_read_is_not_cropped_without_a_word(size, fit, told, tmp_path):
    """A reader of 24×96: at a height of 24, a line of 12×96 is 192 wide, and 96 · 224/256 of that are fed."""
    body = "c = Conv(x, w) a = ReduceMean<keepdims=0>(c, rows) y = Softmax<axis=1>(a)"
    proto = model(body, {"w": random(4, 3, 1, 1), "rows": np.array([2])}, "N,3,24,96")
    net = saved(proto, tmp_path / "net.onnx")
    photo = tmp_path / "line.png"
    Image.fromarray(np.arange(3 * size[0] * size[1], dtype=np.uint8).reshape(*size, 3)).save(photo)
    code, _, err = run("explain", net, photo, "--preset", "unit", "--fit", fit, "-o", tmp_path / "out")
    assert code == 0
    assert ("the model sees" in err) == bool(told)
    assert told in err
