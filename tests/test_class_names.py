"""Names of classes that a model's own nodes hold, as converters of other tools' classifiers write them."""

import json

import numpy as np
import onnx
import pytest
from commands import refused, run
from onnx import helper, numpy_helper
from small_networks import model, random

from onnx_deconv import Explainer, InputError, Labels, compile_pair, load
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.serving.protocol import Request
from onnx_deconv.serving.served import Served

READER = random(72, 3)
IMAGES = np.abs(random(2, 3, 4, 6)) + 0.1
ML = {"domain": "ai.onnx.ml"}
NAMES = ["puppy", "cat, house cat", "espresso"]
TAILS = {"softmax": "p = Softmax(s)", "two": "q = Sigmoid(s) r = Sub(one, q) p = Concat<axis=1>(r, q)"}


def classifier(tail="softmax", outputs=("p",), **nodes):
    """A dense layer, probabilities `p`, the number `k` of the largest, and nodes behind these."""
    weights = {"reader": READER[:, :1] if tail == "two" else READER, "one": np.float32([1])}
    body = f"f = Flatten(x) s = MatMul(f, reader) {TAILS[tail]} k = ArgMax<axis=1, keepdims=0>(p)"
    proto = model(body, weights, "N,3,4,6", "p k")
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    for nodes_of_one in nodes.values():
        proto.graph.node.extend(nodes_of_one)
    del proto.graph.output[:]
    for name in outputs:
        proto.graph.output.add(name=name)
        if name == "p":
            proto.graph.output[-1].CopyFrom(helper.make_tensor_value_info("p", 1, ["N", None]))
    return proto


def zip_map(names):
    key = "classlabels_strings" if isinstance(names[0], str) else "classlabels_int64s"
    return [helper.make_node("ZipMap", ["p"], ["map"], **ML, **{key: names})]


def table(names, operator="ArrayFeatureExtractor"):
    """As Core ML's converter does: names in a constant, from which one is picked."""
    kind = onnx.TensorProto.STRING if isinstance(names[0], str) else onnx.TensorProto.INT64
    held = helper.make_tensor("held", kind, [len(names)], names)
    domain = ML if operator == "ArrayFeatureExtractor" else {}
    column = numpy_helper.from_array(np.array([-1]))
    return [
        helper.make_node("Constant", [], ["names"], value=held),
        helper.make_node("Constant", [], ["column"], value=column),
        helper.make_node("Unsqueeze", ["k", "column"], ["rows"]),
        helper.make_node(operator, ["names", "rows" if operator == "GatherND" else "k"], ["name"], **domain),
    ]


def encoder(names, **keys):
    given = keys or {"keys_int64s": list(range(len(names))), "values_strings": names}
    return [helper.make_node("LabelEncoder", ["k"], ["name"], **ML, **given)]


HOLDERS = {
    "a dictionary": (zip_map(NAMES), "map"),
    "a table": (table(NAMES), "name"),
    "a table, by Gather": (table(NAMES, "Gather"), "name"),
    "a table, by GatherND": (table(NAMES, "GatherND"), "name"),
    "a table, by GatherElements": (table(NAMES, "GatherElements"), "name"),
    "an encoder": (encoder(NAMES), "name"),
    "an encoder, in another order": (
        encoder(NAMES, keys_int64s=[2, 0, 1], values_strings=[NAMES[2], *NAMES[:2]]), "name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("among", ["alone", "beside the probabilities"])
def test_names_that_nodes_hold_are_the_classes(holder, among):
    nodes, output = HOLDERS[holder]
    proto = classifier(outputs=(output,) if among == "alone" else ("p", output), n=nodes)
    ask = Explainer(proto, "gradient", providers="cpu")
    assert ask.labels.names == tuple(NAMES)
    assert ask.head.kind == "classes"
    for target, channel in (("puppy", 0), ("house cat", 1), ("espresso", 2)):
        (found, _) = ask(IMAGES, target)
        assert (found.channel, found.label, found.layer) == (channel, NAMES[channel], "s")
        np.testing.assert_array_equal(found.reconstruction.ravel(), READER[:, channel])


@pytest.mark.parametrize("output", ["p", "map", "name"])
def test_of_two_classes_one_is_the_negative_of_the_only_score(output):
    nodes = [*zip_map(["no", "yes"]), *table(["no", "yes"])]
    proto = classifier("two", outputs=("p", "map", "name"), n=nodes)
    ask = Explainer(proto, "gradient", providers="cpu", output=output)
    assert ask.labels.names == ("no", "yes")
    scores = IMAGES.reshape(2, 72) @ READER[:, :1]
    for target, sign in (("no", -1), ("yes", 1)):
        (found, _) = ask(IMAGES, target)
        np.testing.assert_array_equal(found.reconstruction.ravel(), sign * READER[:, 0])
    assert [found.label for found in ask(IMAGES)] == [["no", "yes"][int(s > 0)] for s in scores.ravel()]


@pytest.mark.parametrize("tail", TAILS)
def test_the_probabilities_beside_a_label_are_its_scores(tail):
    names = NAMES if tail == "softmax" else ["no", "yes"]
    proto = classifier(tail, outputs=("name", "p"), n=table(names))
    images, ask = IMAGES / 20, Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.output, ask.labels.names) == ("p", tuple(names))
    scores = images.reshape(2, 72) @ (READER[:, :1] if tail == "two" else READER)
    whole = np.concatenate([-scores, scores], axis=1) / 2 if tail == "two" else scores
    shares = np.exp(whole) / np.exp(whole).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([each.score for each in ask(images)], shares.max(axis=1), rtol=1e-5)


def test_a_column_of_probabilities_has_its_own_name():
    proto = classifier(outputs=("name",), n=table(NAMES))
    places = {"first": [1], "last": [2], "along": [1]}
    for name, numbers in places.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(numbers), name))
    proto.graph.node.append(helper.make_node("Slice", ["p", "first", "last", "along"], ["cat"]))
    proto.graph.output.append(helper.make_tensor_value_info("cat", 1, ["N", 1]))
    ask = Explainer(proto, "gradient", providers="cpu", output="cat")
    assert ask.labels.names == ("cat, house cat",)
    np.testing.assert_array_equal(ask(IMAGES)[0].reconstruction.ravel(), READER[:, 1])


def test_what_is_given_and_the_metadata_come_before_the_nodes(tmp_path):
    proto = classifier(outputs=("map",), n=zip_map(NAMES))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "h", "1": "i", "2": "j"}}))
    onnx.save(proto, tmp_path / "net.onnx")
    assert Explainer(tmp_path / "net.onnx", providers="cpu").labels.names == tuple(NAMES)
    proto.metadata_props.add(key="labels", value=json.dumps(["a", "b", "c"]))
    onnx.save(proto, tmp_path / "net.onnx")
    assert Explainer(tmp_path / "net.onnx", providers="cpu").labels.names == ("a", "b", "c")
    given = Explainer(tmp_path / "net.onnx", providers="cpu", labels=["x", "y", "z"])
    assert given.labels.names == ("x", "y", "z")


@pytest.mark.parametrize("operator", ["Gather", "GatherND", "GatherElements", "ArrayFeatureExtractor"])
def test_numbers_of_labels_are_names_of_classes(operator):
    proto = classifier(outputs=("name",), n=table([10, 30, 20], operator))
    ask = Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.kind, ask.head.start, ask.labels.names) == ("classes", "s", ("10", "30", "20"))
    (found, _) = ask(IMAGES, "30")
    np.testing.assert_array_equal(found.reconstruction.ravel(), READER[:, 1])


def test_names_in_nodes_stand_in_the_manifest_and_are_counted():
    proto = classifier(outputs=("p", "map"), n=zip_map(NAMES))
    assert compile_pair(load(proto)).manifest["labels"] == NAMES
    assert inspect_model(load(proto)).labels == len(NAMES)


def test_names_in_nodes_do_not_steer_the_terminal():
    proto = classifier(outputs=("map",), n=zip_map(["\x1b[31mpuppy", "'cat'", "espresso\x07"]))
    assert Explainer(proto, providers="cpu").labels.names == ("puppy", "cat", "espresso")


@pytest.mark.parametrize(
    "nodes",
    [
        zip_map([0, 1, 2]),  # they count the classes, and name none
        table([0, 1, 2]),
        zip_map(["one", "two"]),  # not as many as there are classes
        encoder([], keys_strings=["a", "b", "c"], values_int64s=[1, 2, 3]),  # names no numbers
    ],
)
def test_what_names_no_class_gives_no_names(nodes):
    proto = classifier(outputs=("p", nodes[-1].output[0]), n=nodes)
    assert Explainer(proto, providers="cpu").labels.names == ()


def test_the_largest_scores_in_order_are_not_the_classes_own():
    """Of three classes TopK returns three numbers, of which the first is the largest, whichever class's."""
    body = "f = Flatten(x) s = MatMul(f, reader) p = Softmax(s) y, k = TopK<axis=1>(p, three)"
    proto = model(body, {"reader": READER, "three": np.array([3])}, "N,3,4,6", "y")
    found = Explainer(proto, "gradient", providers="cpu")(IMAGES)
    best = (IMAGES.reshape(2, 72) @ READER).argmax(axis=1)
    assert [each.channel for each in found] == best.tolist()
    assert set(best) != {0}


# --- names that are numbers -------------------------------------------------------------------------


def numbered(names):
    return Explainer(classifier(outputs=("map",), n=zip_map(names)), "gradient", providers="cpu")


@pytest.mark.parametrize(
    ("target", "channel"),
    [
        ("7", 1),
        ("label 7", 1),
        ("index 1", 1),
        ("1", 1),
        (1, 1),
        ("0", 0),
        ("9", 2),
        ("2", 2),
        ("label 3", 0),
    ],
)
def test_a_number_is_an_index_or_a_name_where_it_can_be_one_alone(target, channel):
    found = numbered([3, 7, 9])(IMAGES, target)[0]
    assert (found.channel, found.label) == (channel, ["3", "7", "9"][channel])
    np.testing.assert_array_equal(found.reconstruction.ravel(), READER[:, channel])


def test_a_number_that_is_one_class_s_name_and_another_s_index_is_asked_about():
    ask = numbered([1, 2, 3])
    with pytest.raises(InputError, match=r"'2' is the name of class 1 and the index of another \(3\)"):
        ask(IMAGES, "2")
    for target, channel in (("label 2", 1), ("index 2", 2), (2, 2), (np.int64(2), 2), ("3", 2), ("0", 0)):
        assert ask(IMAGES, target)[0].channel == channel
    words = ask(IMAGES, "label 2 - 0.5*index 2")[0]
    np.testing.assert_array_equal(words.reconstruction.ravel(), READER[:, 1] - np.float32(0.5) * READER[:, 2])


def test_a_negative_number_that_is_a_name_is_asked_about():
    ask = numbered([-1, 0, 1])
    with pytest.raises(InputError, match=r"'-1' is the name of class 0 and the negative of class 1"):
        ask(IMAGES, "-1")
    np.testing.assert_array_equal(ask(IMAGES, "label -1")[0].reconstruction.ravel(), READER[:, 0])
    np.testing.assert_array_equal(ask(IMAGES, "-index 1")[0].reconstruction.ravel(), -READER[:, 1])
    np.testing.assert_array_equal(ask(IMAGES, "-label 1")[0].reconstruction.ravel(), -READER[:, 2])


def test_a_name_that_is_written_like_an_index_is_a_name():
    assert Labels(("index 1", "b", "label b")).index("index 1") == 0
    assert Labels(("index 1", "b", "label b")).index("label b") == 2


def test_the_command_line_asks_which_number_is_meant(tmp_path):
    onnx.save(classifier(outputs=("map",), n=zip_map([1, 2, 3])), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", IMAGES[0])
    stderr = refused(
        "explain", tmp_path / "net.onnx", tmp_path / "x.npy", "--target", "2", "-o", tmp_path / "o"
    )
    assert "give 'label 2' or 'index 2'" in stderr
    code, stdout, _ = run(
        "explain", tmp_path / "net.onnx", tmp_path / "x.npy", "--target", "label 2", "-o", tmp_path / "o"
    )
    assert code == 0
    assert "x.npy: 2 (class 1), score " in stdout


def test_the_negative_of_a_class_has_files_of_its_own(tmp_path):
    onnx.save(classifier(outputs=("map",), n=zip_map(NAMES)), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", IMAGES[0])
    for target in ("puppy", "-puppy"):
        run("explain", tmp_path / "net.onnx", tmp_path / "x.npy", f"--target={target}", "-o", tmp_path / "o")
    values = {path.name: np.load(path) for path in (tmp_path / "o").glob("*.npy")}
    assert set(values) == {"x-puppy-guided.npy", "x-minus-puppy-guided.npy"}
    np.testing.assert_array_equal(values["x-minus-puppy-guided.npy"], -values["x-puppy-guided.npy"])


def test_a_server_leaves_out_what_is_no_tensor_and_knows_the_names():
    proto = classifier(outputs=("map", "p", "name"), n=[*zip_map(NAMES), *table(NAMES)])
    proto.graph.output[-1].CopyFrom(helper.make_tensor_value_info("name", onnx.TensorProto.STRING, [1, "N"]))
    served = Served("net", Explainer(proto, "gradient", providers="cpu"), None, 1)
    assert [each.name for each in served.outputs][:2] == ["p", "name"]
    assert served.own_outputs == ["p", "name"]
    target = np.array(["house cat"], object)
    job, _, names = served.job(Request({"x": IMAGES[:1], served.target: target}))
    found = job.run(job.feeds)
    assert found["name"].ravel().tolist() == [NAMES[(IMAGES[0].ravel() @ READER).argmax()]]
    np.testing.assert_array_equal(found[served.reconstruction].ravel(), READER[:, 1])
    assert "map" not in names


def test_triton_is_given_no_output_that_is_no_tensor(tmp_path):
    onnx.save(classifier(outputs=("p", "map"), n=zip_map(NAMES)), tmp_path / "net.onnx")
    stderr = refused("convert", tmp_path / "net.onnx", "--form", "triton", "-o", tmp_path / "out")
    assert "output 'map' is no tensor, as a ZipMap's, and Triton's backend" in stderr
    assert not (tmp_path / "out").exists()
