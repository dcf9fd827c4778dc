"""Names of classes, as the tools write them."""

import json

import numpy as np
import onnx
import pytest
from commands import run
from small_networks import LABELS, model, network, random

from onnx_deconv import Explainer, InputError, Labels, load
from onnx_deconv.compiler.inspection import inspect_model

PETS = ("cat", "dog", "hen", "cow")
FIVE = tuple(LABELS.split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nhen\ncow\n",
        "\ufeffcat\r\ndog\r\n\r\nhen\r\ncow",
        '"cat"\n\'dog\'\n"hen"\ncow',
        "{0: 'cat', 1: 'dog', 2: 'hen', 3: 'cow'}",  # Ultralytics
        "['cat', 'dog', 'hen', 'cow']",
        '["cat", "dog", "hen", "cow"]',
        '{"0": "cat", "1": "dog", "2": "hen", "3": "cow"}',
        '{"3": "cow", "1": "dog", "2": "hen", "0": "cat"}',
        '{"cat": 0, "dog": 1, "hen": 2, "cow": 3}',  # label2id
        '{"architecture": "net", "id2label": {"0": "cat", "1": "dog", "2": "hen", "3": "cow"}}',
        '{"names": ["cat", "dog", "hen", "cow"]}',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "hen"], "3": ["n04", "cow"]}',  # Keras
        "n02121808 cat\nn02084071 dog\nn01514859 hen\nn01887787 cow",  # WordNet's numbers before them
        "0  cat\n1  dog\n2  hen\n3  cow\n",
        "0: cat\n1: dog\n2: hen\n3: cow\n",
        "0,cat\n1,dog\n2,hen\n3,cow\n",
        '"cat",\n"dog",\n"hen",\n"cow"\n',
        '{"categories": ["cat", "dog", "hen", "cow"], "min_size": [1, 1]}',  # torchvision's weights.meta
        json.dumps({"categories": [{"id": k, "name": PETS[k]} for k in (3, 0, 1, 2)]}),  # COCO
        '{"num_classes": 4, "label_names": ["cat", "dog", "hen", "cow"]}',  # timm
        '{"pretrained_cfg": {"label_names": ["cat", "dog", "hen", "cow"]}}',
        json.dumps({"label_names": ["n1", *PETS[1:]], "label_descriptions": {"n1": "cat"}}),
        "c\x1b[31mat\n\x1b]0;title\x07dog\nhen\x00\n\u202ecow",
    ],
)
def test_names_are_read_as_tools_write_them(tmp_path, text):
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    assert Labels.read(tmp_path / "names.txt").names == PETS
    assert Labels.of(None, {"names": text}).names == PETS


@pytest.mark.parametrize(
    "text",
    [
        "0,cat\n1,dog\n2,hen\n3,cow\n",
        "name,index\ncow,3\ndog,1\nhen,2\ncat,0\n",
        '0,"cat"\n1,dog\n2,hen\n3,cow',
        "index;name\r\n3;cow\r\n1;dog\r\n2;hen\r\n0;cat\r\n",
        "n\tid\tlabel\n7\ta\tcat\n8\tb\tdog\n9\tc\then\n10\td\tcow\n".replace("7", "0")
        .replace("8", "1").replace("9", "2").replace("10", "3"),
        "kind,class_name\npet,cat\npet,dog\nbird,hen\nfarm,cow\n",
        'name\n"cat"\ndog\nhen\ncow\n',
        "cat\ndog\nhen\ncow\n",
    ],
)  # fmt: skip
def test_names_are_found_in_a_table(tmp_path, text):
    (tmp_path / "names.csv").write_text(text, encoding="utf-8")
    assert Labels.read(tmp_path / "names.csv").names == PETS


def test_names_in_a_table_may_have_commas_and_quotes(tmp_path):
    for text in ('name\n"hen, ""Lea"""\n"cow, Ida"\n', 'hen, "Lea"\ncow, Ida\n'):
        (tmp_path / "names.csv").write_text(text, encoding="utf-8")
        assert Labels.read(tmp_path / "names.csv").names == ('hen, "Lea"', "cow, Ida")


@pytest.mark.parametrize(
    "names",
    [
        "names:\n  0: cat\n  1: dog\n  2: hen\n  3: cow\n",
        "names:\n- cat\n- dog\n- 'hen'\n- cow",
        "names: ['cat', 'dog', 'hen', 'cow']  # four\n",
        "names: [cat, dog, hen, cow]\n",
        'names: {0: "cat", 1: "dog", 2: "hen", 3: "cow"}\n',
    ],
)
def test_names_are_found_in_what_describes_a_data_set(tmp_path, names):
    for text in (names, f"path: pets\nnc: 4\n{names}\ndownload: |\n  names: none\n"):
        (tmp_path / "pets.yaml").write_text(text, encoding="utf-8")
        assert Labels.read(tmp_path / "pets.yaml").names == PETS


def test_a_readers_characters_stand_between_the_blank_and_the_space():
    assert Labels.of(None, {"character": "'\n疗\n7"}).names == ("blank", "'", "疗", "7", "space")
    assert Labels.of(None, {"character": "x", "names": "['cat']"}).names == ("cat",)


@pytest.mark.parametrize(
    "names", [("1 euro", "2 euro"), ("0 stars", "many stars"), ("0 stars", "5 stars", "3 stars"), ("7",)]
)
def test_numbers_that_are_parts_of_names_stay(tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names))
    assert Labels.read(tmp_path / "names.txt").names == names


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    (tmp_path / "names.txt").write_text("bébé\nдом\n", encoding=encoding)
    assert Labels.read(tmp_path / "names.txt").names == ("bébé", "дом")


def test_a_text_in_an_old_encoding_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("bébé\n", encoding="latin-1")
    with pytest.raises(InputError, match=r"names\.txt: the labels are no text in UTF-8 .*: save it as such"):
        Labels.read(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broken.json", '["cat", "dog",'),
        ("none.json", "{}"),
        ("other.yaml", "train: images\n"),
        ("empty.txt", "\n"),
    ],
)
def test_a_file_without_names_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}: no names of classes can be read"):
        Labels.read(tmp_path / name)


def test_names_with_commas_stay_whole(tmp_path):
    (tmp_path / "names.txt").write_text("tench, Tinca tinca\ngoldfish, Carassius auratus\n")
    assert Labels.read(tmp_path / "names.txt").names == ("tench, Tinca tinca", "goldfish, Carassius auratus")


def test_an_index_that_is_left_out_has_no_name():
    assert Labels.of(None, {"names": "{0: 'cat', 2: 'hen'}"}).names == ("cat", "", "hen")


@pytest.mark.parametrize(
    "text", ["{0: __import__('os').getcwd(), 1: 'dog'}", "[" * 100_000, "{0: 'cat', 0.5: 'dog'}"]
)
def test_what_is_no_list_of_names_is_never_run(text):
    names = Labels.of(None, {"names": text}).names
    assert len(names) <= 1
    assert not any("/" in name for name in names)


def test_names_beside_the_model_are_taken_where_they_fit(tmp_path):
    (tmp_path / "onnx").mkdir()
    path = tmp_path / "onnx" / "model.onnx"
    path.write_bytes(network().SerializeToString())
    assert Explainer(path, providers="cpu").labels.names == ()
    names = LABELS.split("\n")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    assert Explainer(path, providers="cpu").labels.names == tuple(names)
    assert Explainer(path, providers="cpu", labels=["a"] * 5).labels.names == ("a",) * 5
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names[:4]))}))
    assert Explainer(path, providers="cpu").labels.names == ()
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "net", "label_names": list(names)}))
    assert Explainer(path, providers="cpu").labels.names == tuple(names)


@pytest.mark.parametrize("numbers", [range(1, 6), (1, 2, 3, 5, 90), range(5)])
def test_categories_whose_numbers_have_gaps_name_as_many_classes_in_order(tmp_path, numbers):
    categories = [{"id": k, "name": name} for k, name in zip(numbers, FIVE, strict=True)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"categories": categories}))
    given = Labels.read(path).names
    assert Explainer(network(), labels=given, providers="cpu").labels.names == FIVE
    in_file = network()
    in_file.metadata_props.add(
        key="labels", value=json.dumps({each["id"]: each["name"] for each in categories})
    )
    assert Explainer(in_file, providers="cpu").labels.names == FIVE
    assert inspect_model(load(in_file)).names_differ is None


def test_a_class_may_have_no_name():
    names = ("", *FIVE[1:])
    assert Explainer(network(), labels=names, providers="cpu").labels.names == names
    assert (
        Explainer(network(), labels=names[:4], providers="cpu").labels.names == names[:4]
    )  # fit neither way


def test_names_in_a_file_do_not_steer_the_terminal(tmp_path):
    proto = network()
    for node in proto.graph.node:
        node.name = f"\x1b[2J\u202e{node.op_type}"
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    code, stdout, stderr = run("inspect", tmp_path / "model.onnx")
    assert code == 0
    assert "\x1b" not in stdout + stderr
    assert "\\x1b[2J\\u202eConv" in stdout


def test_a_name_as_it_is_spelled_comes_before_one_of_other_case():
    """A text reader has a class for each of H and h; whoever types a class's name need not know its case."""
    reader = Labels(("h", "H", "Tabby, tabby cat", "e"))
    assert [reader.index(name) for name in ("h", "H", "TABBY", "tabby cat", "E")] == [0, 1, 2, 2, 3]
    with pytest.raises(InputError, match="names several classes: 0, 1"):
        Labels(("Hen", "hEn")).index("hen")


@pytest.mark.parametrize(("classes", "cat"), [(1000, 281), (1001, 282)])
def test_imagenets_names_are_built_in(classes, cat):
    labels = Labels.imagenet(classes)
    assert len(labels.names) == classes
    assert labels.index("tabby") == cat
    assert len(set(labels.names)) == classes
    with pytest.raises(InputError, match="the model has 5"):
        Labels.imagenet(5)


@pytest.mark.parametrize(
    ("count", "kind"), [(5, "detections"), (4, "detections"), (9, "class map"), (3, "class map")]
)
def test_a_map_that_only_the_number_of_labels_makes_boxes_is_told(caplog, count, kind):
    """Nine channels may be nine classes, or four numbers of a box and five classes, or an objectness too."""
    proto = model("y = Conv<strides=[2,2]>(x, k)", {"k": random(9, 3, 1, 1)}, "N,3,8,8")
    names = [f"class {k}" for k in range(count)]
    asked = Explainer(proto, labels=names, providers="cpu")
    assert asked.head.kind == kind
    message = (
        f"the given model: output 'y' is taken for a detector's boxes, as {count} labels for 9 channels "
        "tell, and nothing else: if its channels are classes, give 9 labels, or none"
    )
    told = [r.getMessage() for r in caplog.records if "boxes" in r.getMessage()]
    assert told == ([message] if kind == "detections" else [])
    inspected = inspect_model(load(proto), labels=names).names_differ or ""
    assert (inspected == message.partition(": ")[2]) == (kind == "detections")


@pytest.mark.parametrize(
    ("channels", "tail", "told"),
    [
        (24, "", True),
        (68, "", True),
        (23, "", False),
        (24, "p = Softmax<axis=1>(y)", False),  # of pixels, of which each is of one class
        (24, "p = AveragePool<kernel_shape=[1,1]>(y)", False),  # no other size beside it
    ],
)
def test_maps_that_may_be_a_detectors_levels_are_told_where_there_are_no_labels(caplog, channels, tail, told):
    half = "z = AveragePool<kernel_shape=[2,2], strides=[2,2]>(y)"
    output, other = ("p", half) if "Softmax" in tail else ("y", tail.replace("p =", "z =") or half)
    body = f"y = Conv<strides=[2,2]>(x, k) {tail if output == 'p' else ''} {other}"
    proto = model(body, {"k": random(channels, 3, 1, 1)}, "N,3,8,8", f"{output} z")
    Explainer(proto, providers="cpu")
    message = (
        "the given model: output 'y' is taken for a map of classes, but has the channels of a detector's"
    )
    assert [r.getMessage().startswith(message) for r in caplog.records] == [True] * told
    caplog.clear()
    Explainer(proto, providers="cpu", labels=[f"class {k}" for k in range(3)] if channels == 24 else None)
    assert not [r for r in caplog.records if channels == 24 and message in r.getMessage()]


LARGER = {"twice": np.float32([1, 1, 2, 2]), "k": random(9, 3, 1, 1)}
PIXELS = {
    "as large as the image": ("y = Conv(x, k)", "N,3,8,8"),
    "as large, NHWC": (
        "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, k) y = Transpose<perm=[0,2,3,1]>(c)",
        "N,8,8,3",
    ),
    "drawn larger": ('s = Conv<strides=[4,4]>(x, k) y = Resize<mode="linear">(s, , twice)', "N,3,8,8"),
    "drawn larger, any size": ("s = Conv<strides=[4,4]>(x, k) r = Resize(s, , twice) y = Relu(r)", "N,3,H,W"),
}


@pytest.mark.parametrize("made", PIXELS)
def test_no_number_of_labels_makes_boxes_of_pixels(caplog, made):
    """A detector has a box for each cell of many pixels; a segmenter a class for each pixel."""
    body, shape = PIXELS[made]
    proto = model(body, LARGER, shape)
    asked = Explainer(proto, labels=[f"class {k}" for k in range(5)], providers="cpu")
    assert (asked.head.kind, asked.classes) == ("class map", 9)
    assert ["names may be wrong" in r.getMessage() for r in caplog.records] == [True]


def test_another_number_of_names_than_of_classes_is_told_wherever_it_is_noticed(tmp_path, caplog):
    """In the library as by the commands: a program reads the log, and inspect tells of the file's own."""
    given = ["one", "two"]
    for names in (None, LABELS.split("\n")):
        Explainer(network(), labels=names, providers="cpu")
    assert not caplog.records
    Explainer(network(), labels=given, providers="cpu")
    assert [r.getMessage() for r in caplog.records] == [
        "the given model: 2 labels for 5 classes: names may be wrong"
    ]
    proto = network()
    proto.metadata_props.add(key="labels", value="\n".join(given))
    onnx.save(proto, tmp_path / "net.onnx")
    assert (
        "2 in the file; 2 labels for 5 classes: names may be wrong"
        in run("inspect", tmp_path / "net.onnx")[1]
    )
    (tmp_path / "net.onnx").write_bytes(network().SerializeToString())
    assert "names may be wrong" not in run("inspect", tmp_path / "net.onnx")[1]
