"""Measures of saliency maps, against cases computed by hand and independent arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import random

from onnx_deconv.evaluation.blur import blurred
from onnx_deconv.evaluation.bootstrap import mean_interval, paired_difference
from onnx_deconv.evaluation.concentration import gini, is_blank
from onnx_deconv.evaluation.localisation import pointing_game, rank_accuracy, share_inside
from onnx_deconv.evaluation.methods import centre_map, edge_map, random_map
from onnx_deconv.evaluation.perturbation import (
    area_under,
    blurred_image,
    mean_image,
    order_of,
    transition,
)
from onnx_deconv.imaging.similarity import pearson, ranks, spearman

NOTHING = np.zeros((4, 5), np.float32)
NUMBERS = st.lists(st.integers(0, 9), min_size=2, max_size=30)


def rng():
    return np.random.default_rng(0)


def peak_at(y, x, size=(20, 30)):
    saliency = np.zeros(size, np.float32)
    saliency[y, x] = 1
    return saliency


def box(top, left, bottom, right, size=(20, 30)):
    inside = np.zeros(size, bool)
    inside[top:bottom, left:right] = True
    return inside


# --- how alike two maps are -----------------------------------------------------------------------


def test_correlations_of_four_pixels():
    one, other = np.array([[1, 2], [2, 3]]), np.array([[1, 2], [3, 10]])
    assert ranks(one).tolist() == [0, 1.5, 1.5, 3]
    # Deviations of the ranks: -1.5 0 0 1.5, and -1.5 -0.5 0.5 1.5.
    assert spearman(one, other) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    # Deviations of the numbers: -1 0 0 1, and -3 -2 -1 6.
    assert pearson(one, other) == pytest.approx(9 / np.sqrt(2 * 50))


@given(NUMBERS, st.randoms())
def test_ranks_are_those_of_a_naive_count(numbers, shuffle):
    others = list(numbers)
    shuffle.shuffle(others)
    naive = [sum(b < a for b in numbers) + (sum(b == a for b in numbers) - 1) / 2 for a in numbers]
    assert ranks(np.array(numbers)).tolist() == naive
    assert sorted(ranks(np.array(others))) == sorted(naive)


def test_correlation_is_numpys():
    one, other = random(30, 20), random(30, 20, seed=1) ** 3
    assert pearson(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_scale_and_offset_do_not_matter_to_pearson_nor_any_growth_to_spearman():
    one = np.abs(random(8, 9))
    assert pearson(one, 3 * one + 2) == pytest.approx(1)
    assert pearson(one, -one) == pytest.approx(-1)
    assert spearman(one, np.exp(one)) == pytest.approx(1)


@pytest.mark.parametrize("flat", [NOTHING, NOTHING + 3, NOTHING + np.float32(0.1)])
def test_a_map_without_a_pattern_is_like_nothing(flat):
    assert pearson(flat, random(4, 5)) is None
    assert spearman(random(4, 5), flat) is None


# --- how much a map says --------------------------------------------------------------------------


def test_gini_of_two_pixels():
    # 1 - 2 (1/4 · (2-1+½)/2 + 3/4 · (2-2+½)/2)
    assert gini(np.array([3.0, 1.0])) == pytest.approx(0.25)


def test_gini_is_nought_where_even_and_almost_one_on_one_pixel():
    assert gini(np.ones((5, 4))) == pytest.approx(0)
    assert gini(peak_at(3, 4)) == pytest.approx(1 - 1 / 600)
    assert gini(NOTHING) is None


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs(numbers):
    values = np.array(numbers, float)
    differences = np.abs(values[:, None] - values).mean()
    assert gini(values) == pytest.approx(differences / (2 * values.mean()))


def test_blank():
    assert is_blank(NOTHING)
    assert not is_blank(peak_at(0, 0))


# --- does it lie on the object --------------------------------------------------------------------


def test_the_pointing_game_is_won_inside_and_lost_outside():
    inside = box(5, 5, 15, 20)
    assert pointing_game(peak_at(5, 19), inside) == 1
    assert pointing_game(peak_at(4, 19), inside, smoothing=0) == 0


def test_tolerance_is_a_distance_to_the_nearest_pixel_of_the_object():
    inside = box(5, 5, 15, 20)
    assert pointing_game(peak_at(2, 23), inside, tolerance=5, smoothing=0) == 1  # 3 up, 4 to the right
    assert pointing_game(peak_at(2, 23), inside, tolerance=4.9, smoothing=0) == 0


def test_smoothing_prefers_many_pixels_to_one():
    saliency = peak_at(2, 2)
    saliency[12:15, 22:25] = 0.9
    inside = box(10, 20, 18, 28)
    assert pointing_game(saliency, inside, smoothing=0) == 0
    assert pointing_game(saliency, inside, smoothing=0.05) == 1


def test_equal_peaks_share_the_hit():
    saliency = peak_at(6, 6) + peak_at(0, 0)
    assert pointing_game(saliency, box(5, 5, 15, 20), smoothing=0) == 0.5


def test_a_blank_map_misses():
    inside = box(0, 0, 2, 2, (4, 5))
    assert (
        pointing_game(NOTHING, inside) == share_inside(NOTHING, inside) == rank_accuracy(NOTHING, inside) == 0
    )


def test_share_and_ranks_of_six_pixels():
    saliency = np.array([[5, 1, 0], [3, 3, 4]], np.float32)
    inside = np.array([[True, True, False], [True, False, False]])
    assert share_inside(saliency, inside) == 9 / 16
    # The three strongest: 5 (inside), 4 (outside), and one of two threes, of which one is inside.
    assert rank_accuracy(saliency, inside) == pytest.approx((1 + 0.5) / 3)


# --- blur -----------------------------------------------------------------------------------------


def test_blur_is_a_convolution_with_mirrored_borders():
    values, sigma, reach = random(9, 12), 1.3, 5
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(values, reach, mode="symmetric")
    expected = [
        [(padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1] * kernel).sum() for x in range(12)]
        for y in range(9)
    ]
    np.testing.assert_allclose(blurred(values, sigma), expected, atol=1e-5)


def test_blur_keeps_the_mean_even_where_it_reaches_beyond_the_image_and_nought_changes_nothing():
    values = random(3, 6, 7)
    np.testing.assert_allclose(blurred(values, 40).mean(axis=(1, 2)), values.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_array_equal(blurred(values, 0), values)


# --- insertion and deletion -----------------------------------------------------------------------


def test_the_most_salient_pixels_come_first():
    assert order_of(np.array([[2.0, 9.0], [5.0, 7.0]]), rng()).tolist() == [1, 3, 2, 0]


def test_equal_pixels_come_in_random_order_and_the_same_one_each_time():
    order = order_of(np.zeros((10, 10)), rng())
    assert sorted(order) == list(range(100)) != order.tolist()
    np.testing.assert_array_equal(order, order_of(np.zeros((10, 10)), rng()))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_transition_changes_pixels_in_order(layout):
    start, end = np.zeros((3, 2, 3), np.float32), np.arange(18, dtype=np.float32).reshape(3, 2, 3) + 1
    axes = (0, 1, 2) if layout == "NCHW" else (1, 2, 0)
    order = np.array([4, 0, 5, 1, 2, 3])
    images = transition(start.transpose(axes), end.transpose(axes), order, layout, steps=3)
    assert images.shape == (4, *start.transpose(axes).shape)
    planes = images if layout == "NCHW" else images.transpose(0, 3, 1, 2)
    for k, image in enumerate(planes):
        changed = (image != 0).reshape(3, 6)
        assert (changed == changed[0]).all()
        assert set(np.flatnonzero(changed[0])) == set(order[: 2 * k])
        np.testing.assert_array_equal(image[image != 0], end[image != 0])


@pytest.mark.parametrize("steps", [1, 4, 7, 35])
def test_a_transition_goes_all_the_way_in_any_number_of_steps(steps):
    start, end = random(3, 5, 7), random(3, 5, 7, seed=1)
    images = transition(start, end, rng().permutation(35), "NCHW", steps)
    np.testing.assert_array_equal(images[[0, -1]], [start, end])
    changes = (images[1:] != images[:-1]).any(axis=1).sum(axis=(1, 2))
    assert set(changes) <= {35 // steps, -(-35 // steps)}


def test_the_area_under_a_curve():
    assert area_under(np.array([0.0, 1.0, 1.0])) == 0.75
    assert area_under(np.array([0.2, 0.2])) == pytest.approx(0.2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_images_without_content_keep_the_colours(layout, dtype):
    image = (40 * np.abs(random(3, 20, 24)) + 50).astype(dtype)
    axes = (0, 1, 2) if layout == "NCHW" else (1, 2, 0)
    means = image.reshape(3, -1).mean(axis=1)
    for contentless, spread in ((mean_image, 0), (blurred_image, 0.75 * np.ptp(image))):
        found = contentless(image.transpose(axes), layout)
        assert found.dtype == image.dtype
        planes = found if layout == "NCHW" else found.transpose(2, 0, 1)
        assert planes.shape == image.shape
        np.testing.assert_allclose(planes.reshape(3, -1).mean(axis=1), means, atol=0.6)
        assert np.ptp(planes.reshape(3, -1), axis=1).max() <= spread + 1e-4


# --- baselines ------------------------------------------------------------------------------------


def test_the_centre_is_at_the_centre():
    saliency = centre_map(random(3, 9, 15), 0)
    assert np.unravel_index(saliency.argmax(), saliency.shape) == (4, 7)
    np.testing.assert_allclose(saliency, saliency[::-1, ::-1], rtol=1e-6)


def test_edges_are_where_brightness_changes():
    image = np.zeros((3, 8, 10), np.float32)
    image[:, :, 5:] = 1
    saliency = edge_map(image, 0)
    assert (saliency[1:-1, 4:6] == 4).all()
    saliency[1:-1, 4:6] = 0
    assert not saliency.any()


def test_noise_differs_by_image_and_class_alone():
    one, other = random(3, 8, 9), random(3, 8, 9, seed=1)
    np.testing.assert_array_equal(random_map(one, 3), random_map(one.copy(), 3))
    assert abs(pearson(random_map(one, 3), random_map(one, 4))) < 0.5
    assert abs(pearson(random_map(one, 3), random_map(other, 3))) < 0.5


# --- how sure a mean is ---------------------------------------------------------------------------


def test_equal_values_leave_no_doubt():
    assert mean_interval([0.5] * 7) == (0.5, 0.5, 0.5, 7)
    assert mean_interval([]) is None


def test_an_interval_is_that_of_the_normal_approximation():
    values = random(400).astype(float)
    found = mean_interval(values)
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert mean_interval(values) == found != mean_interval(values, random_state=1)


def test_many_values_are_drawn_in_pieces():
    values = np.arange(2_000_000) % 2
    found = mean_interval(values, resamples=3)
    assert found.mean == 0.5
    assert 0.499 < found.low <= found.high < 0.501


def test_a_paired_difference_ignores_what_makes_a_photograph_hard():
    hard = 10 * random(50)
    found = paired_difference([*(hard + 1), None, 3.0], [*hard, 2.0, None])
    assert found.size == 50
    assert found[:3] == pytest.approx((1, 1, 1))
    assert paired_difference([None], [1.0]) is None
