"""Several seeds for one image share its forward pass; what belongs to the image is repeated for them."""

from pathlib import Path

import numpy as np
import pytest
from oracle import assert_close

from onnx_deconv import InputError, Semantics, compile_pair, load
from onnx_deconv.runtime import PairSession, numpy_of

DEMO = Path(__file__).parents[1] / "models" / "demo.onnx"


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
@pytest.mark.parametrize("images", [1, 3])
def test_many_seeds_at_once_are_many_seeds_one_by_one(rules, images):
    model = load(DEMO)
    session = PairSession(compile_pair(model, "relu4_2", semantics=Semantics(rules=rules)), "cpu")
    x = np.random.default_rng(1).standard_normal((images, 3, 64, 48)).astype(np.float32)
    values = session.run_forward({"image": x})
    explained = numpy_of(values["relu4_2"])
    seeds = np.random.default_rng(2).standard_normal((images, 4, *explained.shape[1:])).astype(np.float32)
    found = session.run_deconv(values, seeds.reshape(-1, *explained.shape[1:]))["reconstruction"]
    expected = [session.run_deconv(values, seeds[:, k])["reconstruction"] for k in range(4)]
    assert_close(found.reshape(images, 4, *x.shape[1:]), np.stack(expected, axis=1))


def test_a_number_of_seeds_that_does_not_fit_is_refused():
    session = PairSession(compile_pair(load(DEMO)), "cpu")
    values = session.run_forward({"image": np.zeros((2, 3, 64, 64), np.float32)})
    with pytest.raises(InputError, match="3 seeds for 2 images"):
        session.run_deconv(values, np.ones((3, 100), np.float32))
