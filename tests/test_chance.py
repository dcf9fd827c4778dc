"""Whether what is explained is there at all, by what the model itself says, and how it is told."""

import json
import math

import numpy as np
import pytest
from commands import run
from small_networks import model

from onnx_deconv import Explainer

ODDS = math.log(3)
"""The logarithm of the odds of a probability of 3/4; its negative is that of 1/4."""
SAME = {"same": np.eye(3, dtype=np.float32)[:, :, None, None]}
DOUBT = "its probability is 25 %: more likely than not, it is not there"
BELOW = "its score is below 0: before a sigmoid that says that, more likely than not, it is not there"
BOXES = {
    "pick": np.eye(1, dtype=np.float32)[:, :, None, None],
    "zero": np.float32([0]),
    "box": np.tile(np.float32([[2], [2], [1], [1]]), (1, 1, 16)),
    "flat": np.array([0, 1, 16]),
}


def explainer(proto, *labels):
    if labels:
        proto.metadata_props.add(key="labels", value=json.dumps(labels))
    return Explainer(proto, "gradient", providers="cpu")


def image(best, channels=3):
    """The first channel is the strongest at one pixel, and everything else is far below it."""
    found = np.full((1, channels, 4, 4), -9, np.float32)
    found[0, 0, 1, 2] = best
    return found


def boxes(tail, outputs="y"):
    body = "c = Conv(x, pick) s = Reshape(c, flat) z = Mul(s, zero) around = Add(z, box)"
    return model(f"{body} {tail}", BOXES, "N,1,4,4", outputs)


@pytest.mark.parametrize("tail", ["y = Sigmoid(c)", "t = Transpose<perm=[0,2,3,1]>(c) y = Sigmoid(t)"])
def test_a_map_before_a_sigmoid_tells_the_probability_and_whether_anything_is_there(tail):
    explain = explainer(model(f"c = Conv(x, same) {tail}", SAME, "N,3,4,4"))
    (there,), (missing,) = explain(image(ODDS)), explain(image(-ODDS))
    assert (there.channel, missing.channel) == (0, 0)
    assert (there.score, there.standing.probability) == pytest.approx((ODDS, 0.75))
    assert (missing.score, missing.standing.probability) == pytest.approx((-ODDS, 0.25))
    assert (there.note or "").count("not there") == 0
    assert missing.note.split("; ")[0] == DOUBT
    assert there.caption == "class 0, 1.1 (probability 0.75)"
    assert there._facts()["score"] == "1.1 (probability 0.75)"


def test_among_classes_that_a_softmax_compares_the_first_is_not_called_missing():
    """Scores of 0, 0 and 0 at its best position: the class has the odds of 1 to 2."""
    explain = explainer(model("c = Conv(x, same) y = Softmax<axis=1>(c)", SAME, "N,3,4,4"))
    (one,) = explain(np.zeros((1, 3, 4, 4), np.float32), 1)
    assert (one.score, one.standing.probability) == pytest.approx((math.log(0.5), 1 / 3))
    assert "not there" not in (one.note or "")


@pytest.mark.parametrize(
    ("tail", "outputs", "said", "probability"),
    [
        ("p = Sigmoid(s) y = Concat<axis=1>(around, p)", "y", DOUBT, 0.25),
        ("a = Identity(around) y = Identity(s)", "a y", BELOW, None),
    ],
)
@pytest.mark.parametrize("target", [None, 0, "thing#1"])
def test_a_detector_that_finds_nothing_says_so(tail, outputs, said, probability, target):
    explain = explainer(boxes(tail, outputs), "thing")
    assert (explain.head.kind, explain.head.output) == ("detections", "y")
    (there,), (missing,) = explain(image(ODDS, 1), target), explain(image(-ODDS, 1), target)
    assert missing.note.split("; ")[0] == said
    assert "not there" not in (there.note or "")
    assert missing.standing.probability == (None if probability is None else pytest.approx(probability))


@pytest.mark.parametrize("layout", ["y = Sigmoid(c)", "f = Flatten(c) y = Sigmoid(f)"])
def test_so_does_the_first_of_several_classes_with_a_sigmoid_each(layout):
    """One that stands alone may be one of two, as cat or dog."""
    found = []
    for count in (1, 3):
        mean = np.full((count, 1, 4, 4), 1 / 16, np.float32)
        mean[1:] *= 9
        explain = explainer(model(f"c = Conv(x, mean) {layout}", {"mean": mean}, "N,1,4,4"))
        found += explain(np.full((1, 1, 4, 4), -ODDS, np.float32))
    alone, first = found
    assert "not there" not in (alone.note or "")
    assert first.note.split("; ")[0] == DOUBT
    assert first.score == first.standing.probability == pytest.approx(0.25)


def test_the_command_tells_it_once_and_records_it(tmp_path):
    proto = model("c = Conv(x, same) y = Sigmoid(c)", SAME, "N,3,4,4")
    (tmp_path / "map.onnx").write_bytes(proto.SerializeToString())
    np.save(tmp_path / "nothing.npy", image(-ODDS)[0])
    given = [str(tmp_path / each) for each in ("map.onnx", "nothing.npy")]
    code, stdout, stderr = run("explain", *given, "--output", tmp_path / "out")
    assert code == 0, stderr
    assert (stdout + stderr).count(DOUBT) == 1
    assert "class 0, score -1.1 (probability 0.25)" in stdout
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert record["probability"] == pytest.approx(0.25)
    assert record["note"].startswith(DOUBT)
