"""Questions to an atlas whose answers can be counted by hand."""

import csv
import json
import re

import numpy as np
import onnx
import pytest
from commands import refused, run
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from onnx_deconv.atlas import Atlas, TopActivations
from onnx_deconv.atlas.query import Query, ask, classes_from
from onnx_deconv.errors import InputError

IMAGES = ["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png", "e.png"]


def table(*maps):
    """A layer whose feature maps have these images among their strongest, by number."""
    layer = TopActivations.empty(len(maps), 3, 2)
    for channel, images in enumerate(maps):
        for rank, image in enumerate(images):
            layer.activations[channel, rank] = 10 - rank + channel / 10
            layer.images[channel, rank] = image
            layer.positions[channel, rank] = channel, rank
    return layer


ATLAS = Atlas(
    3, {}, IMAGES, {"conv1": table((0, 1, 2), (2, 3, 4)), "conv2/relu": table((1, 0), (4,), (3, 2, 0))}, 5
)


def answers(question, **options):
    columns = ask(ATLAS, Query.parse(question), **options)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_the_maps_that_a_class_excites_most_come_first():
    found = answers("class=CAT")
    assert [(r["layer"], r["channel"], r["images"], r["of"]) for r in found] == [
        ("conv2/relu", 0, 2, 2),
        ("conv1", 0, 2, 3),
        ("conv2/relu", 2, 1, 3),
    ]
    assert (found[2]["image"], round(found[2]["activation"], 4)) == ("cat/a.png", 8.2)  # its third
    assert answers("class=cat layer=conv1 top=5") == found[1:2]
    assert answers("class=cat top=1") == found[:1]


def test_a_number_that_is_a_name_and_an_index_is_no_class_of_a_table():
    assert classes_from({"a": "2", "b": "9"}, ["2", "4", "2"])("a") == "2"
    with pytest.raises(InputError, match="class '1' is a name, and the index of '2': leave the labels out"):
        classes_from({"a": "1"}, ["1", "2", "3"])


def test_classes_from_a_table():
    class_of = classes_from({"a": "0", "e.JPEG": "1", "dog/c.png": "wolf"}, ["tabby cat", "emu"])
    assert [class_of(image) for image in IMAGES] == ["tabby cat", "", "wolf", "", "emu"]
    (found,) = answers("class='tabby cat' layer=conv2 channel=0", class_of=class_of)
    assert (found["images"], found["of"]) == (1, 2)


def test_the_nearest_maps_share_most_images():
    found = answers("near=conv1:0")  # a, b, c
    assert [(r["layer"], r["channel"], r["shared"], r["similarity"]) for r in found] == [
        ("conv2/relu", 0, 2, 2 / 3),
        ("conv2/relu", 2, 2, 2 / 4),
        ("conv1", 1, 1, 1 / 5),
    ]
    assert answers("layer=conv1 near=conv1:0") == found[2:]
    assert answers("near=conv1:0 layer=conv2 top=1") == found[:1]


def test_units_are_listed_with_where_they_are():
    assert len(answers("")) == 3 + 3 + 2 + 1 + 3
    found = answers("layer=RELU channel=2 image=dog/c.png")
    assert found == [
        {
            "layer": "conv2/relu", "channel": 2, "rank": 1, "activation": pytest.approx(9.2),
            "image": "dog/c.png", "class": "dog", "position": [2, 1],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("colour=red", "layer=…, channel=…"),
        ("layer", "layer=…"),
        ("layer=CONV", "several layers are called that; there are conv1, conv2/relu"),
        ("layer=pool", "no such layer; there are conv1, conv2/relu"),
        ("layer=conv1 channel=2", "has 2 feature maps"),
        ("channel=99", "the layer with the most has 3 feature maps"),
        ("near=conv1", "near=LAYER:CHANNEL"),
        ("near=conv1:2", "'conv1' has 2 feature maps"),
        ("near=conv1:0 class=cat", "near= and class= are two questions"),
        ("near=conv1:0 channel=1", "near= and channel= are two questions"),
        ("class=cat image=dog/c.png", "class= and image= are two questions"),
        ("layer=conv1 layer=conv2", "'layer=conv2': layer is given twice"),
        ("top=0", "above 0"),
        ("channel=-1", "no channel"),
        ("class=fish", "classes: cat, dog"),
        ("image=z.png", "not among the strongest"),
        ("image='z", "No closing quotation"),
    ],
)
def test_what_cannot_be_answered_is_told(question, said):
    with pytest.raises(InputError, match=re.escape(said)):
        answers(question)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An atlas of one layer: its two maps are the images' red and blue."""
    home = tmp_path_factory.mktemp("query")
    weights = numpy_helper.from_array(np.array([[1, 0, 0], [0, 0, 1]], np.float32)[..., None, None], "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalMaxPool", ["r"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [scores], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), home / "net.onnx"
    )
    for name, colour in (("warm/1", (250, 0, 9)), ("warm/2", (200, 0, 8)), ("cold/3", (1, 0, 240))):
        (home / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(home / "in" / f"{name}.png")
    code, _, err = run(
        "atlas", "build", home / "net.onnx", home / "in", "-o", home / "atlas", "--preset", "unit", "--top", 1
    )
    assert code == 0, err
    return home


def test_the_command_prints_and_writes_the_answer(made, tmp_path):
    _, out, _ = run("atlas", "query", made / "atlas", "class=warm", "--json")
    assert [json.loads(line)["channel"] for line in out.splitlines()] == [0]
    _, out, _ = run("atlas", "query", made / "atlas", "class=cold")
    head, row = out.splitlines()
    assert head.split() == ["layer", "channel", "images", "of", "activation", "image"]
    assert row.split()[:4] == ["r", "1", "1", "1"]
    assert run("atlas", "query", made / "atlas", "layer=conv1 class=cold")[1] == out
    assert run("atlas", "query", made / "atlas", "", "-o", tmp_path / "units.csv")[0] == 0
    with (tmp_path / "units.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["warm/1.png", "cold/3.png"]
    classes = tmp_path / "classes.csv"
    classes.write_text("image,class\n1,0\n3,1\n", encoding="utf-8")
    labels = tmp_path / "labels.txt"
    labels.write_text("fire\nice\n", encoding="utf-8")
    _, out, _ = run(
        "atlas", "query", made / "atlas", "class=ice", "--classes", classes, "--labels", labels, "--json"
    )
    assert json.loads(out)["channel"] == 1


def test_mistakes_are_one_line(made, tmp_path):
    atlas = made / "atlas"
    assert "no finished atlas" in refused("atlas", "query", made, "")
    assert ".parquet" in refused("atlas", "query", atlas, "", "-o", tmp_path / "units.xlsx")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("name\nx\n", encoding="utf-8")
    assert "has no column 'image'" in refused("atlas", "query", atlas, "class=x", "--classes", wrong)
    assert not (tmp_path / "units.xlsx").exists()


def test_tables_for_pandas_and_others(made, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("parquet", "feather"):
        file = tmp_path / f"units.{suffix}"
        assert run("atlas", "query", made / "atlas", "", "-o", file)[0] == 0
    found = parquet.read_table(tmp_path / "units.parquet").to_pydict()
    assert found["image"] == ["warm/1.png", "cold/3.png"]
    assert found["position"] == [[0, 0], [0, 0]]
