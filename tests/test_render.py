"""Reconstructions as pictures: symmetric about mid-grey, never louder than they are."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pictures import refused

from onnx_deconv.imaging import (
    Preprocess,
    heat_map,
    outlined,
    overlay,
    projection,
    saliency,
    scale_of,
)

MID_GREY = 128

finite = st.floats(-1e6, 1e6, width=32)
reconstructions = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda size: (3, *size)),
    elements=finite,
)


# Scale


def test_a_scale_is_the_percentile_of_the_magnitudes():
    values = np.arange(-100, 101, dtype=np.float32).reshape(1, 3, 67)  # |x|: 1, 1, ..., 100, 100
    assert scale_of(values, 100) == 100
    assert scale_of(values, 50) == 50.5


def test_an_outlier_does_not_dim_the_rest():
    values = np.ones((3, 100, 100))
    values[0, 5, 5] = 1000
    assert scale_of(values) == 1


@pytest.mark.parametrize("side", [1, 3, 11])
def test_a_patch_of_a_few_pixels_has_the_scale_of_the_patch_alone(side):
    patch = np.random.default_rng(side).normal(size=(3, side, side))
    alone = scale_of(patch)
    values = np.zeros((3, 224, 224))
    values[:, 100 : 100 + side, 7 : 7 + side] = patch
    assert alone > 0
    assert scale_of(values) == alone
    shown = projection(values)
    np.testing.assert_array_equal(shown[100 : 100 + side, 7 : 7 + side], projection(patch))
    outside = np.ones((224, 224), bool)
    outside[100 : 100 + side, 7 : 7 + side] = False
    assert (shown[outside] == MID_GREY).all()
    assert shown.min() == 1 or shown.max() == 255


def test_what_rounding_leaves_of_zeros_does_not_set_the_scale():
    values = np.full((3, 224, 224), 1e-9)
    values[:, 50:60, 50:60] = 1
    assert scale_of(values) == 1
    assert (projection(values)[0, 0] == MID_GREY).all()


@pytest.mark.parametrize("percentile", [0, -1, 101, math.nan])
def test_a_percentile_out_of_range_is_refused(percentile):
    for measure in (scale_of, saliency, projection):
        refused(measure, np.ones((3, 2, 2)), percentile=percentile, match="percentile")


# Projection


def test_a_projection_is_symmetric_about_mid_grey():
    row = np.array([[-4, -2, -1, 0, 1, 2, 4]], np.float32)
    shown = projection(row, scale=2)
    assert shown.shape == (1, 7, 3)
    assert shown.dtype == np.uint8
    # 128 + 127 x / 2, clipped; 63.5 is rounded to the even 64
    assert shown[0, :, 0].tolist() == [1, 1, 64, MID_GREY, 192, 255, 255]


@settings(max_examples=50, deadline=None)
@given(reconstructions)
def test_the_opposite_reconstruction_has_the_opposite_picture(values):
    shown, opposite = projection(values), projection(-values)
    assert (shown.astype(int) + opposite == 2 * MID_GREY).all()


@settings(max_examples=50, deadline=None)
@given(reconstructions, st.sampled_from([2.0**-90, 0.25, 8.0, 2.0**90]))
def test_brightness_is_relative(values, factor):
    scaled = values.astype(np.float64) * factor  # a power of two: no rounding
    np.testing.assert_array_equal(projection(scaled), projection(values))
    np.testing.assert_array_equal(saliency(scaled), saliency(values))


@settings(max_examples=50, deadline=None)
@given(reconstructions)
def test_the_scale_measured_is_the_scale_used(values):
    scale = scale_of(values)
    if scale:
        np.testing.assert_array_equal(projection(values, scale=scale), projection(values))


def test_extreme_numbers_neither_overflow_nor_warn():
    values = np.array([[-1e308, 1e308, 5e-324]])
    assert projection(values)[0, :, 0].tolist() == [1, 255, MID_GREY]
    assert projection(np.array([[5e-324, -5e-324]]))[0, :, 0].tolist() == [255, 1]
    # The smallest normal number: dividing anything by a smaller one overflows, says NumPy 1.26.
    tiny = np.finfo(np.float64).tiny
    assert projection(values, scale=tiny)[0, :, 0].tolist() == [1, 255, MID_GREY]


@pytest.mark.parametrize("scale", [None, 0.0, 3.0])
def test_a_zero_reconstruction_is_flat_mid_grey(scale):
    assert (projection(np.zeros((3, 5, 4)), scale=scale) == MID_GREY).all()


def test_channels_are_shown_as_the_colours_they_are():
    values = np.zeros((4, 1, 1))
    values[0] = 1
    assert projection(values[:3])[0, 0].tolist() == [255, 128, 128]
    assert projection(values[:3], channels="BGR")[0, 0].tolist() == [128, 128, 255]
    assert projection(values, channels="BGRA")[0, 0].tolist() == [128, 128, 255]
    assert projection(values[:1], channels="L")[0, 0].tolist() == [255, 255, 255]


def test_half_precision_is_shown_too():
    values = np.array([[-1, 0, 1]], np.float16)
    assert projection(values)[0, :, 0].tolist() == [1, MID_GREY, 255]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    refused(projection, np.ones((3, 2, 2)), scale=scale, match="scale is")


@pytest.mark.parametrize("show", [projection, saliency, scale_of])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(show, poison):
    values = np.ones((3, 2, 2))
    values[1, 1, 0] = poison
    refused(show, values, match="1 values of the reconstruction are not finite")


@pytest.mark.parametrize("shape", [(3,), (1, 3, 2, 2), (3, 0, 2)])
def test_an_array_that_is_no_image_is_refused(shape):
    refused(projection, np.zeros(shape), match="no image")


@pytest.mark.parametrize(("count", "channels"), [(2, "RGB"), (4, "RGB"), (3, "RGBA"), (3, "L")])
def test_channels_that_are_no_colours_are_refused(count, channels):
    refused(projection, np.ones((count, 2, 2)), channels=channels, match="no picture in")


# Saliency


def test_saliency_is_the_largest_magnitude_of_any_channel():
    values = np.zeros((5, 1, 3), np.float32)
    values[:, 0, 0] = [1, -2, 0, 0, 1]
    values[3, 0, 1] = 4
    found = saliency(values, percentile=100)
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 1, 0]]


def test_saliency_above_the_percentile_is_one():
    values = np.arange(1, 102, dtype=np.float32)[None]  # the 90th percentile of 1..101 is 91
    found = saliency(values, percentile=90)
    assert found[0, 90:].tolist() == [1] * 11
    assert found[0, 45] == pytest.approx(46 / 91)


@settings(max_examples=50, deadline=None)
@given(reconstructions)
def test_saliency_lies_between_zero_and_one(values):
    found = saliency(values)
    assert found.min() >= 0
    assert found.max() == (1 if values.any() else 0)


# Heat map and overlay


@pytest.mark.parametrize(
    ("colormap", "low", "high"),
    [
        # first and last colour of matplotlib's tables
        ("viridis", (68, 1, 84), (253, 231, 37)),
        ("inferno", (0, 0, 4), (252, 255, 164)),
        ("gray", (0, 0, 0), (255, 255, 255)),
    ],
)
def test_a_heat_map_runs_from_the_first_colour_to_the_last(colormap, low, high):
    heat = heat_map(np.array([[0, 1]], np.float32), colormap)
    assert heat.dtype == np.uint8
    np.testing.assert_allclose(heat[0], [low, high], atol=1)


def test_heat_grows_brighter():
    heat = heat_map(np.linspace(0, 1, 256)[None])[0].astype(float)
    luma = heat @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > -0.5).all()
    assert luma[-1] - luma[0] > 200


def test_an_unknown_colour_map_is_refused_with_the_closest():
    refused(heat_map, np.zeros((2, 2)), "infernal", match="did you mean .*inferno")
    refused(heat_map, np.zeros((2, 2)), "§", match="try inferno")


@pytest.mark.parametrize("wrong", [[[-0.5]], [[1.5]], [[math.nan]], [0.5], [[[0.5]]]])
def test_a_map_that_is_no_saliency_is_refused(wrong):
    refused(heat_map, np.array(wrong), match="from 0 to 1")


def test_an_overlay_hides_the_photograph_where_it_is_salient():
    photo = np.full((1, 3, 3), 200, np.uint8)
    shown = overlay(photo, np.array([[0, 0.5, 1]]), colormap="gray", opacity=1)
    # Grey map: saliency s is the grey 255 s, over 200 with weight s.
    assert shown[0, 0].tolist() == [200] * 3
    assert shown[0, 1].tolist() == [164] * 3  # 200 / 2 + 128 / 2
    assert shown[0, 2].tolist() == [255] * 3


def test_opacity_is_that_of_the_most_salient():
    photo = np.zeros((1, 1, 3), np.uint8)
    shown = overlay(photo, np.ones((1, 1)), colormap="gray", opacity=0.4)
    assert shown.ravel().tolist() == [102] * 3  # 0.4 x 255
    untouched = overlay(photo + 9, np.ones((1, 1)), opacity=0)
    assert untouched.ravel().tolist() == [9] * 3


def test_an_overlay_of_nothing_is_the_photograph():
    photo = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    nothing = saliency(np.zeros((3, 5, 4)))
    np.testing.assert_array_equal(overlay(photo, nothing), photo)


def test_an_overlay_that_does_not_fit_is_refused():
    photo = np.zeros((4, 6, 3), np.uint8)
    refused(overlay, photo, np.zeros((4, 4)), match=r"Geometry\.to_photo")
    refused(overlay, photo, np.zeros((4, 6)), opacity=1.5, match="opacity is 1.5")
    refused(overlay, photo / 255, np.zeros((4, 6)), match="uint8")


def test_saliency_of_a_crop_is_laid_over_the_part_that_the_model_saw():
    photo = np.full((30, 50, 3), 10, np.uint8)
    _, geometry = Preprocess(size=(14, 14), resize=15).apply(photo)
    found = saliency(np.ones((3, 14, 14)))
    shown = overlay(photo, geometry.to_photo(found), colormap="gray", opacity=1)
    # 30x50 resized to 15x25: half a pixel, rounded to 0, is cropped above and 5 or 6 at each side.
    assert (shown[:28, 12:38] == 255).all()
    assert (shown[:, :8] == 10).all()
    assert (shown[:, 42:] == 10).all()


@pytest.mark.parametrize("box", [(20, 30, 40, 44), (0, 0, 60, 80), (0, 70, 9, 80), (30, 30, 31, 31)])
def test_an_outline_surrounds_its_box(box):
    picture, inside = np.full((60, 80, 3), 9, np.uint8), np.zeros((60, 80), bool)
    y0, x0, y1, x1 = box
    inside[y0:y1, x0:x1] = True
    drawn = outlined(picture, inside)
    lined = (drawn == (255, 220, 0)).all(-1)
    assert lined.any()
    assert (picture == 9).all()
    # Inside nothing is drawn but along the picture's own edge, outside nothing further than the line.
    assert (drawn[max(y0, 4) : min(y1, 56), max(x0, 4) : min(x1, 76)] == 9).all()
    rows, columns = np.nonzero((drawn != 9).any(-1))
    assert rows.min() == max(0, y0 - 4)
    assert columns.max() == min(80, x1 + 4) - 1


def test_an_outline_surrounds_each_part_of_a_mask():
    inside = np.zeros((60, 80), bool)
    inside[10:20, 10:20] = inside[30:40, 50:60] = True
    drawn = outlined(np.full((60, 80, 3), 9, np.uint8), inside)
    assert (drawn[inside] == 9).all()
    assert (drawn[24:26, 35] == 9).all()  # between both
    assert {tuple(map(int, drawn[15, x])) for x in (6, 9, 20, 23)} == {(0, 0, 0)}
    assert {tuple(map(int, drawn[35, x])) for x in (47, 48, 61, 62)} == {(255, 220, 0)}


def test_colour_maps_are_loaded_only_for_colours():
    script = "import sys, onnx_deconv.imaging; sys.exit('cmap' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
