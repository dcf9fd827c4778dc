"""Photographs in, arrays out, and back on the photograph's own grid."""

import errno
import io
import math
import os
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pictures import noise, refused
from PIL import Image, ImageFont

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging import (
    PRESETS,
    Preprocess,
    at_height,
    check_picture,
    lattice_of,
    montage,
    preprocess_from_metadata,
    preset,
    read_image,
    save_npy,
    save_png,
    size_of,
)
from onnx_deconv.imaging.montage import _shortened
from onnx_deconv.imaging.read import _rgb

BLACK, GREY, WHITE, RED = (0, 0, 0), (100, 100, 100), (255, 255, 255), (255, 0, 0)

# A picture with no symmetry: each pixel differs from all others.
ASYMMETRIC = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3) * 5


# Reading: every mode


def of_mode(mode, pixel, palette=None):
    picture = Image.new(mode, (2, 1), pixel)
    if palette is not None:
        picture.putpalette(palette)
    return picture


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        pytest.param(of_mode("1", 1), WHITE, id="1"),
        pytest.param(of_mode("L", 100), GREY, id="L"),
        pytest.param(of_mode("LA", (100, 255)), GREY, id="LA opaque"),
        pytest.param(of_mode("LA", (100, 0)), WHITE, id="LA transparent"),
        pytest.param(of_mode("La", (100, 255)), GREY, id="La premultiplied, opaque"),
        pytest.param(of_mode("La", (0, 0)), WHITE, id="La premultiplied, transparent"),
        pytest.param(of_mode("P", 1, [9, 9, 9, *RED]), RED, id="P"),
        pytest.param(of_mode("PA", (1, 255), [9, 9, 9, *RED]), RED, id="PA opaque"),
        pytest.param(of_mode("PA", (1, 0), [9, 9, 9, *RED]), WHITE, id="PA transparent"),
        pytest.param(of_mode("RGB", RED), RED, id="RGB"),
        pytest.param(of_mode("RGBA", (*RED, 255)), RED, id="RGBA opaque"),
        pytest.param(of_mode("RGBA", (*RED, 0)), WHITE, id="RGBA transparent"),
        # Black at 128/255 over white leaves 127/255 of the white.
        pytest.param(of_mode("RGBA", (0, 0, 0, 128)), (127, 127, 127), id="RGBA half"),
        pytest.param(of_mode("RGBa", (*RED, 255)), RED, id="RGBa premultiplied"),
        pytest.param(of_mode("RGBX", (*RED, 0)), RED, id="RGBX"),
        pytest.param(of_mode("CMYK", (0, 255, 255, 0)), RED, id="CMYK"),
        pytest.param(of_mode("CMYK", (0, 0, 0, 255)), BLACK, id="CMYK black"),
        pytest.param(of_mode("YCbCr", (100, 128, 128)), GREY, id="YCbCr"),
        pytest.param(of_mode("HSV", (0, 255, 255)), RED, id="HSV"),
        pytest.param(of_mode("I", 65535), WHITE, id="I, white of 16 bits"),
        pytest.param(of_mode("I", 257 * 100), GREY, id="I"),
        pytest.param(of_mode("I", -5), BLACK, id="I negative"),
        pytest.param(of_mode("I", 2**30), WHITE, id="I beyond 16 bits"),
        pytest.param(of_mode("I;16", 257 * 100), GREY, id="I;16"),
        pytest.param(of_mode("I;16B", 257 * 100), GREY, id="I;16B"),
        pytest.param(of_mode("F", 100 / 255), GREY, id="F 0..1"),
        pytest.param(of_mode("F", 100.0), GREY, id="F 0..255"),
        pytest.param(of_mode("F", 25700.0), GREY, id="F 0..65535"),
        pytest.param(of_mode("F", 1e9), WHITE, id="F beyond"),
        pytest.param(of_mode("F", 0.0), BLACK, id="F zero"),
    ],
)
def test_every_mode_becomes_the_rgb_it_shows(picture, colour):
    assert np.asarray(_rgb(picture)).tolist() == [[list(colour)] * 2]


@pytest.mark.parametrize(
    ("suffix", "mode", "values", "greys"),
    [
        ("png", "I;16", [0, 128, 129, 257 * 7, 65535], [0, 0, 1, 7, 255]),
        ("tif", "I;16", [0, 257 * 200], [0, 200]),
        ("tif", "I", [0, 257 * 200, 65535], [0, 200, 255]),
        ("tif", "F", [0, 0.2, 1], [0, 51, 255]),
        ("tif", "F", [0, 51, 200], [0, 51, 200]),
        ("tif", "1", [False, True], [0, 255]),
        ("png", "L", [0, 51, 255], [0, 51, 255]),
    ],
)
def test_bit_depths_keep_black_white_and_the_greys_between(tmp_path, suffix, mode, values, greys):
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32, "1": bool, "L": np.uint8}[mode]
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(np.array([values], dtype)).save(path)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.tolist() == [[[grey] * 3 for grey in greys]]


def test_a_16_bit_pgm_is_read(tmp_path):
    (tmp_path / "grey.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 257 * 200, 65535))
    assert read_image(tmp_path / "grey.pgm").tolist() == [[[200] * 3, [255] * 3]]


def test_a_transparent_palette_entry_is_white(tmp_path):
    picture = of_mode("P", 0, [*RED, *GREY])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[list(WHITE), list(GREY)]]


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [of_mode("RGB", colour) for colour in (RED, GREY)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").tolist() == [[list(RED)] * 2]


# What the eight orientations mean (EXIF 2.32, table 6): how the stored rows and columns are shown.
SHOWN = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ASYMMETRIC).save(tmp_path / "o.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "o.png"), SHOWN[orientation](ASYMMETRIC))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_no_harm(tmp_path):
    # One directory entry is announced, its orientation cut off.
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03"
    Image.new("RGB", (3, 2), WHITE).save(tmp_path / "e.jpg", exif=broken)
    assert read_image(tmp_path / "e.jpg").tolist() == np.full((2, 3, 3), 255).tolist()


# Reading what cannot be read


def test_a_missing_file_is_named(tmp_path):
    refused(read_image, tmp_path / "cat.png", match=r"cat\.png: no such file")


def test_a_folder_is_no_picture(tmp_path):
    refused(read_image, tmp_path, match="is a folder")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_another_kind_is_no_picture(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    refused(read_image, str(tmp_path / "x.png"), match=r"x\.png: not a picture")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(read_image, path, match=rf"cut\.{suffix}: ")


@pytest.mark.parametrize("limit", [50, 99], ids=["Pillow's error", "Pillow's warning"])
def test_a_decompression_bomb_is_refused_with_the_limit(tmp_path, monkeypatch, limit):
    Image.new("L", (12, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    refused(read_image, tmp_path / "bomb.png", match=rf"more than {limit} pixels")


def test_a_picture_within_the_limit_is_no_bomb(tmp_path, monkeypatch):
    Image.new("L", (12, 10)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 120)
    assert read_image(tmp_path / "big.png").shape == (10, 12, 3)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "nan.tif")
    refused(read_image, tmp_path / "nan.tif", match="infinite or not a number")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "secret.png"
    Image.new("L", (2, 2)).save(path)
    path.chmod(0)
    refused(read_image, path, match="permission to read it is denied")


def encoded(suffix):
    buffer = io.BytesIO()
    Image.fromarray(noise(9, 13)).convert("P" if suffix == "gif" else "RGB").save(buffer, suffix)
    return buffer.getvalue()


FILES = {suffix: encoded(suffix) for suffix in ("png", "jpeg", "gif", "tiff", "bmp")}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_damaged_file_is_read_or_refused_but_never_breaks(tmp_path_factory, suffix, draw):
    content = bytearray(FILES[suffix])
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"x.{suffix}"
    path.write_bytes(content)
    try:
        with pytest.MonkeyPatch.context() as patch:  # a damaged size shall not cost memory
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
            check_picture(read_image(path))
    except InputError as error:
        refusal = str(error)
    else:
        return
    assert refusal.startswith(f"{path}: ")
    assert "\n" not in refusal


# Preprocessing: the numbers


def constant(colour, size=(8, 8)):
    return np.full((*size, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("name", "colour", "planes"),
    [
        # (p / 255 - mean) / std of torchvision's documentation
        ("imagenet", RED, [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        ("imagenet-caffe", RED, [-103.939, -116.779, 255 - 123.68]),
        ("imagenet-tf", (0, 51, 255), [-1, -0.6, 1]),
        ("unit", (0, 51, 255), [0, 0.2, 1]),
        ("raw", (0, 51, 255), [0, 51, 255]),
    ],
)
def test_presets_give_the_numbers_of_their_convention(name, colour, planes):
    tensor, _ = preset(name).replace(size=(2, 3)).apply(constant(colour))
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor.transpose(1, 2, 0), np.tile(planes, (2, 3, 1)), atol=1e-6)


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["imagenet"] = Preprocess()
    with pytest.raises(FrozenInstanceError):
        PRESETS["imagenet"].scale = 2


def test_an_unknown_preset_is_refused_with_the_closest():
    refused(preset, "imagnet", match="did you mean imagenet")
    refused(preset, "zzz", match="imagenet, imagenet-caffe, imagenet-tf, unit, raw")


@pytest.mark.parametrize(
    ("channels", "planes"),
    [
        ("RGB", [10, 20, 30]),
        ("BGR", [30, 20, 10]),
        ("RGBA", [10, 20, 30, 255]),
        ("BGRA", [30, 20, 10, 255]),
        ("L", [18]),  # 0.299 R + 0.587 G + 0.114 B = 18.15
    ],
)
def test_channels_are_ordered_as_the_model_wants_them(channels, planes):
    photo = constant((10, 20, 30), (2, 2))
    tensor, _ = Preprocess(size=None, channels=channels, dtype="uint8").apply(photo)
    assert tensor[:, 0, 0].tolist() == planes


def test_layouts_differ_in_their_axes_alone():
    photo = noise(5, 7)
    first, _ = Preprocess(size=None).apply(photo)
    last, _ = Preprocess(size=None, layout="NHWC").apply(photo)
    assert first.shape == (3, 5, 7)
    np.testing.assert_array_equal(last, photo)
    np.testing.assert_array_equal(first, photo.transpose(2, 0, 1))
    assert first.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("float16", -300, 300)]
)
def test_integers_are_rounded_and_kept_in_their_range(dtype, low, high):
    pixels = np.array([[[0, 150, 151]]], np.uint8)
    tensor, _ = Preprocess(size=None, mean=(150,), scale=1, std=(0.5,), dtype=dtype).apply(pixels)
    assert tensor.dtype == dtype
    assert tensor.ravel().tolist() == [low, 0, 2]
    bright, _ = Preprocess(size=None, std=(0.85,), dtype=dtype).apply(constant(WHITE, (1, 1)))
    assert bright.ravel()[0] == high
    half, _ = Preprocess(size=None, scale=0.3, dtype="uint8").apply(constant((2, 2, 2), (1, 1)))
    assert half.ravel()[0] == 1  # 0.6


def test_statistics_follow_their_colours():
    base = Preprocess(mean=(1.0, 2.0, 6.0), std=(1.0, 2.0, 3.0))
    assert base.replace(channels="BGR").mean == (6, 2, 1)
    assert base.replace(channels="BGRA").mean == (6, 2, 1, 0)
    assert base.replace(channels="RGBA").std == (1, 2, 3, 1)
    assert base.replace(channels="L").mean == (3,)
    opaque = Preprocess(channels="RGBA", mean=(1.0, 2.0, 6.0, 9.0))
    assert opaque.replace(channels="BGRA").mean == (6, 2, 1, 9)
    assert opaque.replace(channels="L").mean == (3,)
    assert base.replace(channels="BGR").replace(channels="RGB") == base
    assert base.replace(channels="BGR", mean=(7.0,)).mean == (7,)
    assert base.replace(size=(5, 5)).mean == (1, 2, 6)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"mean": (1.0, 2.0)}, "mean has 2 values: channels RGB need 1 or 3"),
        ({"std": (1.0, 1.0, 1.0), "channels": "L"}, "std has 3 values: channels L need 1$"),
        ({"std": (1.0, 0.0, 1.0)}, "cannot be 0"),
        ({"scale": 0.0}, "cannot be 0"),
        ({"scale": math.nan}, "finite"),
        ({"mean": (math.inf,)}, "finite"),
        ({"size": (0, 5)}, "size is"),
        ({"size": (5, -1)}, "size is"),
        ({"size": (224, 300), "resize": 256}, "at least 300"),
        ({"fit": "stretch", "resize": 0}, "at least 1"),
        ({"fill": 256}, "fill is 256"),
        ({"fit": "squeeze"}, "choose one of crop, stretch, pad, none"),
        ({"channels": "GBR"}, "choose one of RGB, BGR, L, RGBA, BGRA"),
        ({"layout": "CHW"}, "choose one of NCHW, NHWC"),
        ({"interpolation": "lanczos"}, "choose one of nearest"),
        ({"dtype": "float17"}, "choose one of float32, float16"),
    ],
)
def test_what_cannot_be_is_refused(wrong, match):
    refused(Preprocess, **wrong, match=match)
    refused(Preprocess().replace, **wrong, match=match)


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_photograph_is_refused(photo):
    refused(Preprocess().apply, photo, match="picture")


# Preprocessing: the geometry


@pytest.mark.parametrize(
    ("photo", "size", "resize", "resized", "offset"),
    [
        # torchvision: int(256 * 500 / 375) = 341; round((341 - 224) / 2) = round(58.5) = 58
        ((375, 500), (224, 224), None, (256, 341), (-16, -58)),
        ((500, 375), (224, 224), 232, (309, 232), (-42, -4)),
        ((100, 100), (299, 299), None, (342, 342), (-22, -22)),  # Inception v3's own 342
        ((64, 64), (64, 64), 64, (64, 64), (0, 0)),
    ],
)
def test_crops_are_torchvisions(photo, size, resize, resized, offset):
    geometry = Preprocess(size=size, resize=resize).geometry(photo)
    assert (geometry.resized, geometry.offset) == (resized, offset)


def torchvision_crop(photo, short, size):
    """Resize(short) and CenterCrop(size) as torchvision 0.20 writes them for PIL images."""
    height, width = photo.shape[:2]
    if width <= height:
        width, height = short, int(short * height / width)
    else:
        width, height = int(short * width / height), short
    picture = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 9))
def test_the_view_is_torchvisions_to_the_bit(height, width, size, margin):
    photo = noise(height, width)
    tensor, geometry = Preprocess(
        size=(size, size), resize=size + margin, layout="NHWC", dtype="uint8"
    ).apply(photo)
    np.testing.assert_array_equal(tensor, torchvision_crop(photo, size + margin, size))
    np.testing.assert_array_equal(tensor, geometry.view(photo))


def test_a_letterbox_keeps_proportions_and_is_filled():
    geometry = Preprocess(size=(64, 64), fit="pad", fill=7).geometry((100, 51))
    assert geometry.resized == (64, 33)
    assert geometry.padding == (0, 15, 0, 16)
    assert geometry.box == (0, 0, 100, 51)
    view = geometry.view(constant(RED, (100, 51)))
    assert (view[:, :15] == 7).all()
    assert (view[:, 48:] == 7).all()
    assert (view[:, 15:48] == RED).all()


def test_stretching_and_nothing_fill_the_whole_input():
    stretched = Preprocess(size=(6, 9), fit="stretch").geometry((20, 10))
    assert (stretched.resized, stretched.offset, stretched.box) == ((6, 9), (0, 0), (0, 0, 20, 10))
    photo = noise(6, 9)
    for same in (Preprocess(size=(6, 9), fit="none"), Preprocess(size=None)):
        np.testing.assert_array_equal(same.geometry((6, 9)).view(photo), photo)


def test_a_size_that_does_not_fit_is_refused():
    refused(Preprocess(size=(6, 9), fit="none").apply, noise(9, 6), match="is 9×6 but 6×9 is expected")
    geometry = Preprocess(size=(6, 6)).geometry((20, 10))
    refused(geometry.view, noise(10, 20), match="10×20")
    refused(geometry.to_photo, np.zeros((20, 10)), match="20×10")


def test_a_very_long_photograph_is_refused_before_it_is_enlarged():
    refused(Preprocess().apply, noise(1, 50_000), match="1×50000 would be resized to 256×12800000")
    assert Preprocess(fit="pad").apply(noise(1, 50_000))[0].shape == (3, 224, 224)


def test_a_crop_returns_to_its_place():
    # 8x16 resized to 4x8; columns 2..5 of 8 are seen, which are columns 4..11 of 16.
    geometry = Preprocess(size=(4, 4), resize=4).geometry((8, 16))
    assert geometry.box == (0, 4, 8, 12)
    assert geometry.padding == (0, 0, 0, 0)
    back = geometry.to_photo(np.ones((4, 4)))
    assert back.dtype == np.float32
    expected = np.zeros((8, 16))
    expected[:, 4:12] = 1
    np.testing.assert_array_equal(back, expected)


def test_a_map_of_the_photographs_own_size_is_unchanged():
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    back = Preprocess(size=None).geometry((7, 5)).to_photo(values)
    np.testing.assert_array_equal(back, values)


def test_what_lies_in_the_padding_does_not_leak_into_the_photograph():
    geometry = Preprocess(size=(32, 32), fit="pad").geometry((90, 41))
    padding = np.full((32, 32), 1e6)
    rows, columns = slice(0, 32), slice(geometry.offset[1], geometry.offset[1] + 15)
    padding[rows, columns] = 0
    assert geometry.resized == (32, 15)
    assert not geometry.to_photo(padding).any()


def test_a_single_pixel_survives_on_a_smaller_photograph():
    # One input pixel is 1/7 of a photograph's pixel wide: its mean over 7x7 is 1/49.
    geometry = Preprocess(size=(224, 224), fit="stretch").geometry((32, 32))
    values = np.zeros((224, 224))
    values[101, 50] = 1
    back = geometry.to_photo(values)
    assert np.unravel_index(back.argmax(), back.shape) == (101 // 7, 50 // 7)
    assert back.sum() == pytest.approx(1 / 49, rel=0.05)


fits = st.sampled_from(["crop", "stretch", "pad"])
sides = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(fits, st.tuples(sides, sides), st.tuples(sides, sides))
@example("crop", (10, 7), (3, 2))
@example("crop", (1, 1), (5, 9))
@example("pad", (1, 70), (5, 5))
def test_a_constant_map_covers_the_box_and_nothing_else(fit, photo, size):
    geometry = Preprocess(size=size, fit=fit).geometry(photo)
    assert geometry.padding == (0, 0, 0, 0) or fit == "pad"
    back = geometry.to_photo(np.full(size, 3.0))
    top, left, bottom, right = geometry.box
    assert -1e-9 <= top < bottom <= photo[0] + 1e-9
    assert -1e-9 <= left < right <= photo[1] + 1e-9
    y, x = np.mgrid[: photo[0], : photo[1]] + 0.5
    inside = (top <= y) & (y < bottom) & (left <= x) & (x < right)
    np.testing.assert_allclose(back[inside], 3, rtol=1e-6)
    assert not back[~inside].any()


@settings(max_examples=60, deadline=None)
@given(fits, st.tuples(sides, sides), st.tuples(sides, sides))
def test_every_pixel_of_the_photograph_gets_the_place_the_model_saw(fit, photo, size):
    """Linear interpolation keeps linear maps: photograph coordinates come back as they were."""
    geometry = Preprocess(size=size, fit=fit).geometry(photo)
    for axis in (0, 1):
        pitch = photo[axis] / geometry.resized[axis]  # of the input's grid, in photograph pixels
        places = (np.arange(size[axis]) + 0.5 - geometry.offset[axis]) * pitch
        ramp = np.broadcast_to(places[:, None] if axis == 0 else places, size)
        back = geometry.to_photo(ramp)
        centres = np.arange(photo[axis]) + 0.5
        reach = pitch + 1  # nearer to an edge there is no neighbour to interpolate with
        start, stop = geometry.box[axis], geometry.box[axis + 2]
        inner = (centres > start + reach) & (centres < stop - reach)
        across = math.floor((geometry.box[1 - axis] + geometry.box[3 - axis]) / 2)
        line = back[:, across] if axis == 0 else back[across]
        # Exact where the photograph is the finer grid; an average over whole pixels otherwise.
        slack = 1e-3 if pitch >= 1 else pitch / 8
        if line.any():  # a crop of less than a pixel's breadth may miss the centre across
            np.testing.assert_allclose(line[inner], centres[inner], rtol=1e-5, atol=slack)


def centroid(values):
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] + 0.5
    return (values * y).sum() / values.sum(), (values * x).sum() / values.sum()


@settings(max_examples=60, deadline=None)
@given(fits, st.tuples(st.integers(60, 131), st.integers(60, 131)), st.integers(31, 80), st.data())
def test_a_mark_on_the_photograph_is_seen_in_its_place_and_returns_there(fit, photo, size, draw):
    geometry = Preprocess(size=(size, size), fit=fit, fill=0).geometry(photo)
    top, left, bottom, right = (math.ceil(edge) for edge in geometry.box)
    mark = 9
    assume(bottom - top > 3 * mark)
    assume(right - left > 3 * mark)
    y = draw.draw(st.integers(top + mark, bottom - 2 * mark))
    x = draw.draw(st.integers(left + mark, right - 2 * mark))
    marked = constant(BLACK, photo)
    marked[y : y + mark, x : x + mark] = 255
    seen = geometry.view(marked)[..., 0].astype(float)
    expected = [
        (place + mark / 2 - edge) * side / (stop - edge) + pad
        for place, edge, stop, side, pad in zip(
            (y, x),
            geometry.box[:2],
            geometry.box[2:],
            (size - geometry.padding[0] - geometry.padding[2],
             size - geometry.padding[1] - geometry.padding[3]),
            geometry.padding[:2],
            strict=True,
        )
    ]  # fmt: skip
    assert centroid(seen) == pytest.approx(expected, abs=0.25)
    assert centroid(geometry.to_photo(seen)) == pytest.approx((y + mark / 2, x + mark / 2), abs=0.5)


# Preprocessing: the model's own word


@pytest.mark.parametrize(
    ("span", "black", "white"),
    [
        ("NominalRange_0_255", 0, 255),
        ("Normalized_0_1", 0, 1),
        ("Normalized_1_1", -1, 1),
        ("NominalRange_16_235", 16, 235),
    ],
)
def test_a_nominal_pixel_range_is_met_by_black_and_white(span, black, white):
    metadata = {"Image.NominalPixelRange": span, "Image.ColorSpaceGamma": "SRGB"}
    found = preprocess_from_metadata(metadata, preset("imagenet").replace(size=None))
    photo = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(found.apply(photo)[0], [[[black, white]]] * 3, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "channels"),
    [("Gray8", "L"), ("Rgb8", "RGB"), ("Bgr8", "BGR"), ("Rgba8", "RGBA"), ("Bgra8", "BGRA")],
)
def test_a_pixel_format_orders_the_channels_and_their_statistics(pixels, channels):
    base = preset("imagenet")
    found = preprocess_from_metadata({"Image.BitmapPixelFormat": pixels}, base)
    assert found == base.replace(channels=channels)
    assert found.channels == channels


def test_metadata_that_say_nothing_change_nothing():
    base = preset("imagenet").replace(size=(5, 6), layout="NHWC")
    silent = {
        "author": "me",
        "Image.BitmapPixelFormat": "Rgb16",
        "Image.NominalPixelRange": "?",
        "Image.ColorSpaceGamma": "Linear",
    }
    assert preprocess_from_metadata(silent, base) == base
    assert preprocess_from_metadata({}, base) == base


def test_a_one_channel_model_stays_one():
    base = preset("unit").replace(channels="L", size=(28, 28))
    found = preprocess_from_metadata({"preset": "imagenet", "Image.BitmapPixelFormat": "Rgb8"}, base)
    assert found.channels == "L"
    assert found.mean == pytest.approx((0.449,))  # the mean of the three, as timm takes it


def test_a_preset_in_the_metadata_keeps_what_the_model_fixes():
    base = Preprocess(size=(96, 128), layout="NHWC", dtype="float16", fit="stretch")
    found = preprocess_from_metadata(
        {"preset": "imagenet-caffe", "Image.NominalPixelRange": "Normalized_0_1"}, base
    )
    wanted = preset("imagenet-caffe").replace(size=(96, 128), layout="NHWC", dtype="float16")
    assert found == wanted


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("224x320", (224, 320)), (" 224, 320 ", (224, 320))]
)
def test_a_size_in_the_metadata_is_height_first(text, size):
    assert preprocess_from_metadata({"size": text}, Preprocess()).size == size


@pytest.mark.parametrize("text", ["", "big", "0", "224x", "1x2x3", "-5", "9" * 5000])
def test_a_malformed_size_is_refused(text):
    refused(preprocess_from_metadata, {"size": text}, Preprocess(), match="size is")


def test_an_unknown_preset_in_the_metadata_is_refused():
    refused(preprocess_from_metadata, {"preset": "caffe"}, Preprocess(), match="imagenet-caffe")


# Writing


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    with replacing(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_picture, temporary, **_options):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    refused(save_png, tmp_path / "x.png", noise(2, 2), match=r"x\.png: cannot be written \(No space")
    assert not list(tmp_path.iterdir())


def test_folders_are_not_created(tmp_path):
    refused(save_png, tmp_path / "no" / "x.png", noise(2, 2), match="No such file or directory")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_replaced(tmp_path):
    refused(save_npy, tmp_path, np.zeros(3), match="no ordinary file")
    assert tmp_path.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no paths")
def test_a_device_is_not_replaced(tmp_path):
    # A pipe stands for it: were the guard to fail, a test run by root would replace /dev/null.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(save_npy, pipe, np.zeros(3), match="no ordinary file")
    assert pipe.is_fifo()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_link_is_followed(tmp_path):
    target = tmp_path / "far" / "real.npy"
    target.parent.mkdir()
    link = tmp_path / "link.npy"
    link.symlink_to(target)
    save_npy(link, np.arange(3))
    assert link.is_symlink()
    assert np.load(target).tolist() == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="no access bits")
def test_the_file_has_the_usual_access_rights(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    save_npy(tmp_path / "x.npy", np.zeros(3))
    assert (tmp_path / "x.npy").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    refused(save_npy, tmp_path / "x.npy", np.zeros(3), match=r"x\.npy: cannot be written")
    tmp_path.chmod(0o700)


def test_pictures_are_saved_without_loss(tmp_path):
    for name, picture in (("c.png", noise(5, 7)), ("g.PNG", noise(5, 7)[..., 0])):
        save_png(tmp_path / name, picture)
        with Image.open(tmp_path / name) as saved:
            assert saved.format == "PNG"
            np.testing.assert_array_equal(np.asarray(saved), picture)


def test_floats_are_not_saved_as_a_picture(tmp_path):
    for array in (np.zeros((2, 2)), np.zeros((2, 2, 3)), np.zeros(4, np.uint8)):
        refused(save_png, tmp_path / "x.png", array, match="a picture is a uint8 array")
    assert not list(tmp_path.iterdir())


def test_arrays_are_saved_under_the_name_given(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    save_npy(tmp_path / "reconstruction", array)
    loaded = np.load(tmp_path / "reconstruction")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, array)


# Sheets


def test_pictures_stand_in_rows_on_white():
    red, grey, black = (
        constant(RED, (2, 3)),
        np.full((4, 2), 100, np.uint8),
        constant(BLACK, (1, 1)),
    )
    sheet = montage([red, grey, black], columns=2, gap=1)
    # Cells of 4x3 and of 1x3, gaps of 1: rows at 1 and 6, columns at 1 and 5.
    assert sheet.shape == (1 + 5 + 2, 1 + 2 * 4, 3)
    expected = np.full(sheet.shape, 255)
    expected[1:3, 1:4] = RED
    expected[1:5, 5:7] = 100
    expected[6, 1] = 0
    np.testing.assert_array_equal(sheet, expected)


def test_there_are_no_more_columns_than_pictures():
    assert montage([noise(4, 6)], columns=5, gap=0).shape == (4, 6, 3)


@pytest.mark.parametrize("caption", ["cat", "a caption much too long for its cell\nof two lines"])
def test_captions_stand_under_their_picture_and_within_its_cell(caption):
    pictures = [constant(RED, (20, 60)), constant(GREY, (30, 60))]
    bare = montage(pictures, columns=2, gap=4)
    sheet = montage(pictures, columns=2, captions=[caption, ""], gap=4)
    assert sheet.shape[1] == bare.shape[1]
    np.testing.assert_array_equal(sheet[:24], bare[:24])
    ink = np.argwhere((sheet[:, :68] != 255).any(-1) & (np.arange(len(sheet)) >= 24)[:, None])
    assert len(ink) > 10
    assert ink[:, 1].min() >= 4
    assert ink[:, 1].max() < 64
    assert ink[:, 0].max() < 24 + 18
    assert (sheet[34:, 68:] == 255).all()  # the empty caption of the other


def test_long_captions_end_in_dots():
    font = ImageFont.load_default(12)
    short = _shortened("a caption much too long", font, 60)
    assert short.endswith("...")
    assert "a caption much too long".startswith(short[:-3])
    assert font.getlength(short) <= 60
    assert _shortened("cat", font, 60) == "cat"
    assert _shortened("cat", font, 3) == ""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"pictures": [], "columns": 1}, "at least one picture"),
        ({"pictures": [noise(2, 2)], "columns": 0}, "0 columns"),
        ({"pictures": [noise(2, 2)], "columns": 1, "gap": -1}, "-1 pixels"),
        ({"pictures": [noise(2, 2)], "columns": 1, "captions": ["a", "b"]}, "2 captions for 1"),
        ({"pictures": [np.zeros((2, 2))], "columns": 1}, "a picture is a uint8 array"),
    ],
)
def test_impossible_sheets_are_refused(arguments, match):
    refused(montage, **arguments, match=match)


def test_pixels_are_repeated_to_enlarge_and_averaged_to_reduce():
    small = noise(3, 5)
    np.testing.assert_array_equal(at_height(small, 6), small.repeat(2, 0).repeat(2, 1))
    checkers = np.indices((40, 40)).sum(0)[..., None].repeat(3, -1) % 2 * 255
    reduced = at_height(checkers.astype(np.uint8), 10)
    assert reduced.shape == (10, 10, 3)
    assert np.abs(reduced[2:-2, 2:-2].astype(int) - 127).max() <= 2
    refused(at_height, small, 0, match="height is 0")


def test_reading_leaves_the_warning_filters_as_they_were(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    before = list(warnings.filters)
    read_image(tmp_path / "x.png")
    assert warnings.filters == before


def test_a_16_bit_png_is_what_its_header_says(tmp_path):
    """The 16-bit cases above rest on files of 16 bits."""
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "x.png")
    depth = struct.unpack("B", (tmp_path / "x.png").read_bytes()[24:25])
    assert depth == (16,)


@pytest.mark.parametrize("name", ["EPS", "WMF"])
def test_formats_that_other_programs_decode_are_not_opened(tmp_path, name, monkeypatch):
    content = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
        "WMF": b"\xd7\xcd\xc6\x9a\0\0"
        + struct.pack("<4hHIH", 0, 0, 8, 8, 72, 0, 0)
        + b"\x01\0\t\0"
        + bytes(30),
    }[name]
    Image.init()
    monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("it was opened"), Image.OPEN[name][1]))
    (tmp_path / "p.png").write_bytes(content)
    refused(read_image, tmp_path / "p.png", match="not a picture in a format that is read")
    refused(size_of, tmp_path / "p.png", match="not a picture in a format that is read")


def test_the_limit_of_pixels_holds_in_threads_and_leaves_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30)).save(tmp_path / "large.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    before = list(warnings.filters)

    def read(name):
        try:
            return read_image(tmp_path / name).shape
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, ["large.png", "small.png"] * 50))
    assert all("pixels" in each for each in found[::2])
    assert found[1::2] == [(10, 10, 3)] * 50
    assert list(warnings.filters) == before


@pytest.mark.parametrize("read", [read_image, size_of])
def test_what_cannot_be_read_from_memory_is_no_folder(read):
    """It has no path, and nothing is looked for at an empty one."""
    refused(read, io.BytesIO(b"no picture"), match="^a file: not a picture in a format that is read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(read_image, tmp_path / "pipe.png", match="no ordinary file")


def test_what_is_not_finite_has_no_lattice():
    magnitude = np.ones((32, 32))
    magnitude[3, 4] = np.nan
    assert lattice_of(magnitude) is None
