"""Pictures from Parquet files, tar files and places that pyarrow reads are those of a folder."""

import io
import json
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
from commands import refused, run
from onnx import TensorProto, helper, numpy_helper
from pictures import as_png, noise

from onnx_deconv.atlas import images_of
from onnx_deconv.atlas.stored import address
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import read_image

NAMES = ["a.png", "b.png", "c.png", "d.png", "e.png"]


def picture(k):
    return noise(5, 4, seed=k)


CONTENT = {name: as_png(picture(k)) if name != "c.png" else b"no picture" for k, name in enumerate(NAMES)}


def read(images):
    """Return what each name's picture is, or why it cannot be read."""
    found = {}
    for name, load in images:
        try:
            found[name] = load()
        except InputError as error:
            found[name] = str(error)
    return found


def check(found, names):
    """The third picture is damaged, and said to be; the others are those that were written."""
    assert list(found) == names
    for k, each in enumerate(found.values()):
        if k == 2:
            assert isinstance(each, str)
            assert "c.png" in each
        else:
            np.testing.assert_array_equal(each, picture(k))


def table(path, columns, **how):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), path, **how)
    return path


def zipped(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tar(path, content, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_of_a_data_set_are_named_by_class_number_and_file(tmp_path, rows):
    structures = [{"bytes": data, "path": f"train/{name}"} for name, data in CONTENT.items()]
    path = table(tmp_path / "x.parquet", {"label": [7, 7, 8, 8, 8], "image": structures}, row_group_size=rows)
    images = images_of(path)
    assert images.count == 5
    labels = [7, 7, 8, 8, 8]
    check(read(images), [f"{labels[k]}/{k:08}-{name}" for k, name in enumerate(NAMES)])
    assert list(read(images.numbered(3, 4))) == ["8/00000003-d.png"]


def test_rows_may_be_bytes_alone(tmp_path):
    path = table(tmp_path / "x.parquet", {"id": [1, 2], "data": [CONTENT["a.png"], None]})
    first, second = read(images_of(path)).items()
    assert first[0] == "00000000"
    np.testing.assert_array_equal(first[1], picture(0))
    assert "no picture in this row" in second[1]


def test_a_table_without_pictures_names_its_columns(tmp_path):
    path = table(tmp_path / "x.parquet", {"label": [1], "text": ["a"]})
    with pytest.raises(InputError, match="no column holds pictures; there are label, text"):
        images_of(path)


def test_a_damaged_table_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="no whole Parquet file"):
        images_of(tmp_path / "x.parquet")


def test_a_damaged_group_of_rows_is_named_and_the_others_are_read(tmp_path):
    path = table(
        tmp_path / "x.parquet", {"image": [CONTENT["a.png"], CONTENT["b.png"]]},
        row_group_size=1, compression="none", use_dictionary=False, write_statistics=False,
    )  # fmt: skip
    whole = path.read_bytes()
    start = whole.find(CONTENT["a.png"]) - 30
    path.write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
    first, second = read(images_of(path)).values()
    assert isinstance(first, str)
    np.testing.assert_array_equal(second, picture(1))


def test_a_group_of_rows_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_deconv.atlas.parquet._MOST_OF_GROUP", 100)
    (said,) = read(images_of(table(tmp_path / "x.parquet", {"image": [bytes(1000)]}))).values()
    assert "smaller groups" in said


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_folder_of_shards_is_one_collection(tmp_path, kind):
    halves = [dict(list(CONTENT.items())[:3]), dict(list(CONTENT.items())[3:])]
    names = []
    for k, half in enumerate(halves):
        path = tmp_path / f"shard-{k}.{kind}"
        if kind == "tar":
            tar(path, {**half, "a.cls": b"7"})
        else:
            table(path, {"image": [{"bytes": data, "path": name} for name, data in half.items()]})
        inside = half if kind == "tar" else [f"{n:08}-{name}" for n, name in enumerate(half)]
        names += [f"{path.name}/{name}" for name in inside]
    images = images_of(tmp_path)
    assert images.count == 5
    check(read(images), names)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_read_in_any_order_if_it_is_not_compressed(tmp_path, mode):
    images = images_of(tar(tmp_path / "x.tar", CONTENT, mode))
    assert images.count == (5 if mode == "w" else None)
    check(read(images), NAMES)
    backwards = read(reversed(list(images)))
    check(dict(reversed(backwards.items())), NAMES)


def stored(home, content, kind):
    """Store pictures so that they are listed, in one archive, or in several."""
    (home / "in").mkdir()
    halves = {"a.tar": dict([*content.items()][:2]), "b.tar": dict([*content.items()][2:])}
    if kind in {"tars", "gzipped"}:
        for name, half in halves.items():
            tar(home / "in" / name, half, "w:gz" if kind == "gzipped" else "w")
        return home / "in"
    if kind == "tar":
        return tar(home / "x.tar", content)
    with zipfile.ZipFile(home / "x.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
            (home / "in" / name).write_bytes(data)
    (home / "list.txt").write_text("\n".join(f"in/{name}" for name in content))
    return home / {"zip": "x.zip", "list": "list.txt", "folder": "in"}[kind]


@pytest.mark.parametrize("kind", ["folder", "list", "zip", "tar", "tars", "gzipped"])
def test_some_of_the_pictures_are_those_of_all(tmp_path, kind):
    images = images_of(stored(tmp_path, {f"{k}.png": as_png(picture(k)) for k in range(3)}, kind))
    every = [name for name, _ in images]
    assert len(every) == 3
    for first in range(4):
        for last in range(first, 5):
            assert [name for name, _ in images.numbered(first, last)] == every[first:last]
    for chosen in (every[1:], every[::2], []):
        found = [(name, load()) for name, load in images.named({*chosen})]
        assert [name for name, _ in found] == chosen
        for name, shown in found:
            np.testing.assert_array_equal(shown, picture(int(name[-5])))


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet", "zip", "picture"])
def test_a_filesystem_of_pyarrow_gives_what_the_disk_gives(tmp_path, kind):
    pytest.importorskip("pyarrow")
    here = tmp_path / "in"
    here.mkdir()
    for name, data in CONTENT.items():
        (here / name).write_bytes(data)
    names = NAMES
    if kind == "tar":
        here = tar(tmp_path / "x.tar", CONTENT)
    elif kind == "parquet":
        rows = [{"bytes": data, "path": name} for name, data in CONTENT.items()]
        here = table(tmp_path / "x.parquet", {"image": rows})
        names = [f"{n:08}-{name}" for n, name in enumerate(NAMES)]
    elif kind == "zip":
        here = zipped(tmp_path / "x.zip", CONTENT)
    elif kind == "picture":
        ((name, load),) = images_of((here / "a.png").as_uri())
        assert name == "a.png"
        np.testing.assert_array_equal(load(), read_image(here / "a.png"))
        return
    check(read(images_of(here.as_uri())), names)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_explain_takes_the_folders_of_a_folder_that_has_no_pictures_itself(tmp_path, scheme):
    if scheme:
        pytest.importorskip("pyarrow")
    onnx.save(network(), tmp_path / "net.onnx")
    names = ["cat/a.png", "dog/b.png", "dog/old/d.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(CONTENT[name[-5:]])
    asked = "explain", tmp_path / "net.onnx", f"{scheme}{tmp_path / 'in'}", "--preset", "unit", "--json"
    code, out, err = run(*asked, "-o", tmp_path / "out")
    assert code == 0, err
    assert [json.loads(line)["image"] for line in out.splitlines()] == [
        f"{asked[2]}/{name}" for name in names
    ]
    for name in ("a", "b", "d"):
        picture_alone = tmp_path / name
        whole = next((tmp_path / "in").rglob(f"{name}.png"))
        run("explain", tmp_path / "net.onnx", whole, "--preset", "unit", "-o", picture_alone)
        (array,), (found,) = picture_alone.glob("*.npy"), (tmp_path / "out").glob(f"{name}-*.npy")
        np.testing.assert_array_equal(np.load(array), np.load(found))
    if not scheme:  # what lies directly in a folder is all that is meant where there is any
        (tmp_path / "in" / "e.png").write_bytes(CONTENT["e.png"])
        _, out, _ = run(*asked, "-o", tmp_path / "direct")
        assert [json.loads(line)["image"] for line in out.splitlines()] == [f"{asked[2]}/e.png"]


@pytest.mark.parametrize("kind", ["zip", "tar", "parquet", "uri", "uri of a tar"])
def test_explain_takes_collections_as_it_takes_folders(tmp_path, kind):
    onnx.save(network(), tmp_path / "net.onnx")
    folder = tmp_path / "photographs of today"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    source = folder
    if kind == "zip":
        source = zipped(tmp_path / "x.zip", CONTENT)
    elif kind == "tar":
        source = tar(tmp_path / "x.tar", CONTENT)
    elif kind == "parquet":
        source = table(tmp_path / "x.parquet", {"jpg": list(CONTENT.values()), "path": list(CONTENT)})
    elif kind == "uri":
        pytest.importorskip("pyarrow")
        source = f"file://{folder}"
    elif kind == "uri of a tar":
        pytest.importorskip("pyarrow")
        source = f"file://{tar(tmp_path / 'x.tar', CONTENT)}"
    options = ("--preset", "unit", "--json")
    code, out, err = run("explain", tmp_path / "net.onnx", source, "-o", tmp_path / "a", *options)
    assert code == 1, err  # one picture is damaged
    assert "c.png" in err
    assert run("explain", tmp_path / "net.onnx", folder, "-o", tmp_path / "b", *options)[0] == 1
    expected = {file.stem[:1]: np.load(file) for file in (tmp_path / "b").glob("*.npy")}
    assert sorted(expected) == ["a", "b", "d", "e"]
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 4
    for record in records:
        name = record["image"].removesuffix(".png")[-1]
        assert kind == "parquet" or record["image"] == f"{source}/{name}.png"
        np.testing.assert_array_equal(np.load(record["files"]["values"]), expected[name])
    _, again, _ = run("explain", tmp_path / "net.onnx", source, "-o", tmp_path / "a", *options)
    assert [json.loads(line) for line in again.splitlines()] == records  # not explained again
    assert len(list((tmp_path / "a").glob("*.npy"))) == 4


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.TGZ"])
def test_a_compressed_tar_is_not_explained(tmp_path, name):
    onnx.save(network(), tmp_path / "net.onnx")
    path = tar(tmp_path / name, CONTENT, "w:gz")
    assert "unpack it" in refused("explain", tmp_path / "net.onnx", path, "-o", tmp_path / "a")


def test_what_is_said_of_an_archive_in_a_bucket_names_no_password(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    onnx.save(network(), tmp_path / "net.onnx")
    path = tar(tmp_path / "x.tar", CONTENT, "w:gz")
    monkeypatch.setattr("onnx_deconv.atlas.stored.address", lambda _: "bucket://x.tar")
    told = refused("explain", tmp_path / "net.onnx", f"file://{path}", "-o", tmp_path / "a")
    assert told.startswith("Error: bucket://x.tar: is read from its beginning")


def network():
    """A convolution and its mean."""
    weights = numpy_helper.from_array(
        np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32), "w"
    )
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 5, 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [scores], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_passwords_and_options_of_a_uri_are_not_shown():
    assert address("s3://key:secret@bucket/a b?endpoint_override=here") == "s3://bucket/a b"
    assert address("gs://anonymous@bucket") == "gs://bucket"
    assert address("file:///tmp/x") == "file:///tmp/x"


def test_what_is_not_there_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="no such file"):
        images_of((tmp_path / "nowhere").as_uri())
    with pytest.raises(InputError, match="cannot be reached"):
        images_of("nothing://bucket/x")
