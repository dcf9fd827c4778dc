"""Files as people have them: links, files that change while they are in use, and what is no model at all."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import picture, refused, run
from onnx import TensorProto, helper, numpy_helper

from onnx_deconv import Explainer, InputError, ModelError, compile_pair, load, load_pair, save
from onnx_deconv.cli.stopping import Stopping
from onnx_deconv.compiler.explain_graph import explain_graph
from onnx_deconv.compiler.package import ALL_FILES, DECONV, EXPLAIN, FORWARD, MANIFEST, WEIGHTS
from onnx_deconv.files import PREFIX, Spool, replacing, replacing_together
from onnx_deconv.runtime import Session, memory_needed
from onnx_deconv.verification import verify

posix = pytest.mark.skipif(sys.platform == "win32", reason="it has no such files, signals or processes")

X = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)


def network(scale=1.0, classes=10):
    """Conv → Relu → Conv → Relu → Flatten → Gemm; its results are proportional to `scale`."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (classes, 8 * 16 * 16)}
    arrays = {n: (scale * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
    weights = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(path, model=None, *, external=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0}
    onnx.save(model or network(), path, **(where if external else {}))
    return path


def explained(model, layer="r1"):
    (found,) = Explainer(model, providers="cpu")(X, 3, layer=layer)
    return found.reconstruction


EXPECTED = explained(network())


# Links


def hugging_face(home):
    """snapshots/REVISION/onnx/NAME -> ../../../blobs/HASH, for the model and its data alike."""
    real = saved(home / "blobs" / "m", external=True)
    where = home / "snapshots" / "1a2b" / "onnx"
    where.mkdir(parents=True)
    for name, blob in {"m": "0f3c", "m.data": "77ab"}.items():
        real.with_name(name).rename(real.with_name(blob))
        (where / name).symlink_to(f"../../../blobs/{blob}")
    return where / "m"


def dvc(home):
    """A cache that keeps each file in a folder of its own."""
    real = saved(home / "repository" / "m.onnx", external=True)
    for name, place in {"m.onnx": "ab/cdef", "m.onnx.data": "12/3456"}.items():
        (home / "cache" / place).parent.mkdir(parents=True)
        real.with_name(name).rename(home / "cache" / place)
        real.with_name(name).symlink_to(home / "cache" / place)
    return real


def kubernetes(home):
    """NAME -> ..data/NAME, ..data -> ..2026_01_01."""
    saved(home / "..2026_01_01" / "m.onnx", external=True)
    (home / "..data").symlink_to("..2026_01_01")
    for name in ("m.onnx", "m.onnx.data"):
        (home / name).symlink_to(f"..data/{name}")
    return home / "m.onnx"


def model_alone(home):
    """A link to the model; its data lie beside the real file only."""
    saved(home / "real" / "m.onnx", external=True)
    (home / "m.onnx").symlink_to("real/m.onnx")
    return home / "m.onnx"


def one_file(home):
    saved(home / "real" / "m")
    (home / "link.onnx").symlink_to("real/m")
    return home / "link.onnx"


@posix
@pytest.mark.parametrize("layout", [hugging_face, dvc, kubernetes, model_alone, one_file])
def test_a_linked_model_loads_with_every_command(tmp_path, layout):
    model = layout(tmp_path)
    np.testing.assert_array_equal(explained(model), EXPECTED)
    assert run("inspect", model)[0] == 0
    assert run("verify", model, "--rules", "gradient")[0] == 0
    assert run("convert", model, "-o", tmp_path / "pair", "--layer", "r1")[0] == 0
    np.testing.assert_array_equal(explained(tmp_path / "pair"), EXPECTED)


@posix
def test_the_files_of_a_pair_may_be_links(tmp_path):
    save(compile_pair(load(network()), "r1"), tmp_path / "real")
    (tmp_path / "pair").mkdir()
    for number, name in enumerate((FORWARD, DECONV, WEIGHTS, MANIFEST)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / "real" / name).rename(tmp_path / str(number) / name)
        (tmp_path / "pair" / name).symlink_to(tmp_path / str(number) / name)
    np.testing.assert_array_equal(explained(tmp_path / "pair"), EXPECTED)
    assert run("verify", tmp_path / "pair")[0] == 0


def with_places(path, **places):
    """Change what a model says of where its weights lie."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = places.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


@posix
@pytest.mark.parametrize(
    "location", ["../m.onnx.data", "/etc/hostname", "sub/../../m.onnx.data", "a\0b", "", ".", "x" * 5000]
)
def test_a_location_that_leaves_both_folders_or_is_none_is_refused(tmp_path, location):
    saved(tmp_path / "a" / "b" / "m.onnx", external=True)
    (tmp_path / "a" / "m.onnx.data").write_bytes(bytes(1 << 20))
    with_places(tmp_path / "a" / "b" / "m.onnx", location=location)
    (tmp_path / "m.onnx").symlink_to("a/b/m.onnx")
    for model in (tmp_path / "m.onnx", tmp_path / "a" / "b" / "m.onnx"):
        assert len(refused("inspect", model)) < 1000


def test_a_location_that_returns_to_the_folder_is_taken(tmp_path):
    path = with_places(saved(tmp_path / "m.onnx", external=True), location="sub/../m.onnx.data")
    np.testing.assert_array_equal(explained(path), EXPECTED)


@posix
def test_a_loop_of_links_is_refused(tmp_path):
    path = saved(tmp_path / "m.onnx", external=True)
    path.with_name("m.onnx.data").unlink()
    path.with_name("m.onnx.data").symlink_to("m.onnx.data")
    assert "missing" in refused("inspect", path)
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    refused("inspect", tmp_path / "loop.onnx")


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("text", ["-1", "ten", "1e3", "", "9" * 30, "9" * 18, "٣", "1_0"])
def test_a_place_that_is_none_is_refused(tmp_path, key, text):
    path = with_places(saved(tmp_path / "m.onnx", external=True), **{key: text})
    refused("inspect", path)


@posix
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "ordinary" in refused("inspect", tmp_path / "pipe.onnx")


def test_a_zero_byte_in_a_path_is_refused():
    with pytest.raises(ModelError, match="zero byte"):
        load("a\0b.onnx")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_of_any_bytes_work_under_any_locale(tmp_path, locale):
    name = os.fsencode(tmp_path) + b"/\xff\xfe \xc3\xa4\n.onnx"
    saved(tmp_path / "m.onnx").rename(os.fsdecode(name))
    command = [sys.executable, "-m", "onnx_deconv", "convert", name, "-o", os.fsencode(tmp_path) + b"/\xfc"]
    done = subprocess.run(command, env=os.environ | {"LC_ALL": locale}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_where_no_link_can_be_made_weights_are_copied_to_a_name_that_the_runtime_takes(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"\xff")
    (tmp_path / "plain" / "w").mkdir(parents=True)
    onnx.save(
        network(), tmp_path / "plain" / "m.onnx",
        save_as_external_data=True, location="w/m.data", size_threshold=0,
    )  # fmt: skip
    (tmp_path / "plain").rename(folder)
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    linked = Session(proto, folder, "cpu").run_plainly({"x": X})["y"]

    def refuse(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    copied = Session(proto, folder, "cpu").run_plainly({"x": X})["y"]
    np.testing.assert_array_equal(copied, linked)


ELSEWHERE = """
import importlib, os, signal, sys
for foreign in "click cmap onnx_graphsurgeon onnxruntime PIL.Image subprocess tempfile uvicorn".split():
    importlib.import_module(foreign)
gone = {
    os: "fork forkpty register_at_fork getuid geteuid getgid O_NOFOLLOW O_NONBLOCK O_DIRECTORY link symlink "
        "sysconf sched_getaffinity killpg getpgid setsid mkfifo pread nice getloadavg chown fchmod uname",
    signal: "SIGHUP SIGKILL SIGUSR1 SIGALRM SIGPIPE setitimer alarm pthread_kill",
}
for module, names in gone.items():
    for name in names.split():
        delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
sys.platform = "win32"
from onnx_deconv.cli import main
for command in sys.argv[1].split(","):
    print(command, flush=True)
    main(command.split(), standalone_mode=False)
"""
"""Takes away what only POSIX has, and calls the system by the name of one that has not."""


@pytest.mark.slow
@posix
def test_nothing_is_called_that_only_posix_has(tmp_path):
    saved(tmp_path / "m.onnx", external=True)
    picture(tmp_path / "p.png", 16, 16)
    commands = [
        "inspect m.onnx",
        "explain m.onnx p.png -o explained",
        "convert m.onnx -o pair",
        "verify pair",
        "convert m.onnx -o one --form explain",
        "occlude m.onnx p.png -o occluded",
        "sheet m.onnx p.png -o s.png",
        "atlas build m.onnx p.png -o atlas --layer r1",
        "atlas report atlas -o r.html",
        "evaluate m.onnx p.png -o e",
    ]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, ",".join(commands)],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = {"explained", "pair", "one", "occluded", "s.png", "atlas", "r.html", "e"}
    assert written < {path.name for path in tmp_path.iterdir()}
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(PREFIX)] == []


# Files that change


def replaced(path):
    """What a careful deployment does: another inode."""
    saved(path.with_name("new"), network(2.0))
    path.with_name("new").replace(path)


def cut_short(path):
    os.truncate(path, 4096)


def overwritten(path):
    """The same inode, other numbers."""
    path.write_bytes(network(2.0).SerializeToString())
    os.utime(path, ns=(0, 0))


def deleted(path):
    path.unlink()


CHANGES = [replaced, cut_short, overwritten, deleted]


@pytest.mark.parametrize("change", CHANGES)
def test_an_explainer_is_a_snapshot(tmp_path, change, caplog):
    path = saved(tmp_path / "m.onnx")
    explainer = Explainer(path, providers="cpu")
    explainer(X, 3, layer="y")
    change(path)
    (found,) = explainer(X, 3, layer="r1")
    np.testing.assert_array_equal(found.reconstruction, EXPECTED)
    explainer(X, 3, layer="r2")
    assert [record.getMessage().count("has changed") for record in caplog.records] == [1]


@pytest.mark.parametrize("change", CHANGES)
def test_a_pair_is_a_snapshot(tmp_path, change):
    save(compile_pair(load(network()), "r1"), tmp_path / "pair")
    explainer = Explainer(tmp_path / "pair", providers="cpu")
    expected = explainer(X, 3, layer="r2")[0].reconstruction
    explainer = Explainer(tmp_path / "pair", providers="cpu")
    for name in (FORWARD, DECONV, WEIGHTS):
        change(tmp_path / "pair" / name)
    np.testing.assert_array_equal(explainer(X, 3)[0].reconstruction, EXPECTED)
    np.testing.assert_array_equal(explainer(X, 3, layer="r2")[0].reconstruction, expected)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_snapshot_is_refused_when_it_changed(tmp_path, change):
    model = load(saved(tmp_path / "m.onnx"))
    change(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="changed"):
        model.constant("w3")
    with pytest.raises(ModelError, match="changed"):
        Explainer(model)


def test_without_room_for_a_copy_the_files_are_used_and_watched(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("onnx_deconv.model.model_files._ROOM", 1 << 60)
    path = saved(tmp_path / "m.onnx")
    explainer = Explainer(path, providers="cpu")
    np.testing.assert_array_equal(explainer(X, 3, layer="r1")[0].reconstruction, EXPECTED)
    assert "no private copy" in caplog.text
    replaced(path)
    with pytest.raises(ModelError, match="changed"):
        explainer(X, 3, layer="r2")


@posix
@pytest.mark.parametrize("form", ["m.onnx", "pair"])
def test_what_is_checked_is_a_snapshot(tmp_path, form):
    """Mapped weights of a file that was cut short would end the process (SIGBUS)."""
    path = saved(tmp_path / "m.onnx")
    save(compile_pair(load(path)), tmp_path / "pair")
    pair = load_pair(tmp_path / "pair") if form == "pair" else None
    model = load(path if pair is None else tmp_path / "pair" / FORWARD)
    checks = verify(model, {"x": X}, tables=["gradient"], saved=pair)
    found = [next(checks)]
    for each in (path, tmp_path / "pair" / FORWARD, tmp_path / "pair" / DECONV, tmp_path / "pair" / WEIGHTS):
        os.truncate(each, 0)
    found += checks
    assert {check.verdict for check in found} == {"ok"}


def test_weights_that_are_not_mapped_are_those_of_the_file(tmp_path):
    """What may be cut short at any moment is read, not mapped."""
    model = load(saved(tmp_path / "m.onnx"))
    read = model.constant("w3")
    assert not isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, numpy_helper.to_array(network().graph.initializer[2]))
    model.files.keep()
    assert isinstance(model.read(model.tensors["w3"]), np.memmap)


LARGE = """
import os, sys
import numpy as np
from onnx_deconv import Explainer
from test_files import cut_short, replaced
path, change = sys.argv[1:]
explainer = Explainer(path, providers="cpu")
x = np.ones((1, 3, 16, 16), np.float32)
before = explainer(x, 3, layer="y")[0].reconstruction
{"cut_short": cut_short, "replaced": replaced}[change](__import__("pathlib").Path(path))
assert (explainer(x, 3, layer="y")[0].reconstruction == before).all()
assert np.isfinite(explainer(x, 5, layer="f")[0].reconstruction).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize("change", ["cut_short", "replaced"])
def test_a_model_of_600_megabytes_is_a_snapshot(tmp_path, change):
    model = network(classes=2)
    row = np.tile(numpy_helper.to_array(model.graph.initializer[2]), (37_000, 1))
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(row, "w3"))
    del model.graph.output[0].type.tensor_type.shape.dim[1:]
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=74_000)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert (tmp_path / "m.onnx").stat().st_size > 600_000_000
    del model, row
    done = subprocess.run(
        [sys.executable, "-c", LARGE, tmp_path / "m.onnx", change],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_lies_beside_a_model_is_found_though_it_is_a_snapshot(tmp_path):
    assert Explainer(saved(tmp_path / "m.onnx"), providers="cpu").model.files.home == tmp_path


# Files that are written


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_explain_graph_takes_the_place_of_a_pair(tmp_path):
    path = saved(tmp_path / "m.onnx")
    run("convert", path, "-o", tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {FORWARD, DECONV, WEIGHTS, MANIFEST}
    run("convert", path, "-o", tmp_path / "out", "--form", "explain")
    assert set(contents(tmp_path / "out")) == {EXPLAIN, MANIFEST}


def test_files_of_another_maker_are_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / EXPLAIN).write_text("mine")
    run("convert", saved(tmp_path / "m.onnx"), "-o", tmp_path / "out")
    assert (tmp_path / "out" / EXPLAIN).read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "out" / MANIFEST / "inner").mkdir(parents=True)
    assert "folder" in refused("convert", saved(tmp_path / "m.onnx"), "-o", tmp_path / "out")
    assert (tmp_path / "out" / MANIFEST / "inner").is_dir()
    assert len(contents_of_all(tmp_path / "out")) == 1


def contents_of_all(folder):
    return list(folder.iterdir())


@pytest.mark.parametrize("at", range(len(ALL_FILES) * 2))
def test_an_exchange_that_fails_anywhere_is_undone(tmp_path, monkeypatch, at):
    names = list(ALL_FILES)
    for name in names:
        (tmp_path / name).write_text("old")
    replace, moves = Path.replace, iter(range(100))

    def failing(self, target):
        if next(moves) == at:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    def exchange():
        with replacing_together(tmp_path, names) as stage:
            for name in names:
                (stage / name).write_text("new")
            monkeypatch.setattr(Path, "replace", failing)

    with pytest.raises(Exception, match="No space"):
        exchange()
    assert contents(tmp_path) == dict.fromkeys(names, b"old")


STOPPED = """
import sys, time
from onnx_deconv.compiler import package
def wait(*_):
    print("now", flush=True)
    time.sleep(60)
package._write_manifest = wait
from onnx_deconv.cli import main
main()
"""


def stopped(arguments, by):
    """Start a conversion, and stop it while it writes; return its exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "now\n"
    process.send_signal(by)
    _, stderr = process.communicate(timeout=30)
    return process.returncode, stderr


@posix
@pytest.mark.slow
@pytest.mark.parametrize("by", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_a_conversion_that_is_stopped_leaves_what_was_there(tmp_path, by):
    path, out = saved(tmp_path / "m.onnx"), tmp_path / "out"
    run("convert", path, "-o", out)
    before = contents(out)
    code, stderr = stopped(["convert", path, "-o", out, "--rules", "guided"], getattr(signal, by))
    if by != "SIGKILL":
        assert (code, stderr) == (130, "interrupted\n")
        assert contents(out) == before
        return
    (left,) = [file for file in out.iterdir() if file.name not in before]
    assert left.name.startswith(PREFIX)
    assert {name: (out / name).read_bytes() for name in before} == before
    os.utime(left, (0, 0))
    run_in_new_process("convert", path, "-o", out)
    assert set(contents(out)) == set(before)


def run_in_new_process(*arguments):
    command = [sys.executable, "-m", "onnx_deconv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@posix
def test_what_a_living_run_writes_is_left_alone(tmp_path):
    with replacing_together(tmp_path, ["a"]) as stage, replacing(tmp_path / "b") as temporary:
        (stage / "a").write_text("a")
        for each in (stage, temporary):
            os.utime(each, (0, 0))
        script = "import sys; from onnx_deconv.files import replacing\nwith replacing(sys.argv[1]): pass"
        subprocess.run([sys.executable, "-c", script, tmp_path / "c"], check=True)
        assert stage.is_dir()
        assert temporary.is_file()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "c"]


@posix
def test_a_spool_goes_with_its_owner_and_not_with_a_forked_process():
    spool = Spool()
    folder = spool.folder
    child = os.fork()
    if not child:
        del spool
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.is_dir()
    del spool
    assert not folder.exists()


# What is no ONNX model


def torch_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def keras_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")


def zip_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", network().SerializeToString())


def tar_file(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.onnx")


def safetensors(path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


FOREIGN = {
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n",
    "git annex get": b"/annex/objects/SHA256E-s5--0f.onnx\n",
    "dvc pull": b"outs:\n- md5: 0f\n  size: 5\n  path: model.onnx\n",
    "web page": b"\n<!DOCTYPE html>\n<html><title>404</title></html>",
    "gunzip": gzip.compress(b"x"),
    "onnxruntime's own format": b"\x18\0\0\0ORTM" + bytes(64),
    "--tflite": b"\x1c\0\0\0TFL3" + bytes(64),
    "TensorRT": b"ftrt" + bytes(64),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "pickle": pickle.dumps({"w": 1}),
    "format='json'": b'{"irVersion": "8", "graph": {}}',
    "format='textproto'": b"ir_version: 8\ngraph {\n}\n",
    "parse_model": b'<\n  ir_version: 8,\n  opset_import: ["" : 17]\n>\nnet (float[1] x) => (float[1] y) {}',
    "is empty": b"",
    ".pt": torch_file,
    ".keras": keras_file,
    "zip archive": zip_file,
    "tar archive": tar_file,
    "safetensors": safetensors,
}


@pytest.mark.parametrize("says", FOREIGN)
def test_what_is_no_onnx_model_is_told_with_the_way_out(tmp_path, says):
    path, content = tmp_path / "model.onnx", FOREIGN[says]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    message = refused("inspect", path)
    assert says in message
    assert str(path) in message


def test_the_ways_out_that_name_onnx_functions_work(tmp_path):
    """A model as JSON or as text becomes one that loads by what the message says."""
    for form in ("json", "textproto"):
        file = tmp_path / form
        onnx.save(network(), file, format=form)
        assert f"format='{form}'" in refused("inspect", file)
        onnx.save(onnx.load(file, format=form), tmp_path / "model.onnx")
        np.testing.assert_allclose(explained(tmp_path / "model.onnx"), EXPECTED, rtol=1e-5, atol=1e-5)


def test_a_folder_that_is_no_pair_is_told(tmp_path):
    assert "tf2onnx" in refused("inspect", tmp_path)


# Manifests


def spoilt(pair, change):
    """Change the manifest that both models of a pair carry."""
    for name in {FORWARD, DECONV, EXPLAIN} & {path.name for path in pair.iterdir()}:
        model = onnx.load(pair / name, load_external_data=False)
        (entry,) = [p for p in model.metadata_props if p.key == "onnx_deconv.manifest"]
        entry.value = change(entry.value)
        (pair / name).write_bytes(model.SerializeToString())


def without(*path):
    def change(text):
        manifest = inner = json.loads(text)
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return json.dumps(manifest)

    return change


def setting(value, *path):
    def change(text):
        manifest = inner = json.loads(text)
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return json.dumps(manifest)

    return change


TAMPERED = [
    lambda _: "",
    lambda text: text[:-5],
    lambda _: "[]",
    lambda _: "[" * 100_000,
    without("explained"),
    without("semantics"),
    without("deconv_inputs"),
    without("reconstructions"),
    without("deconv_inputs", 0, "name"),
    setting("nothing", "explained", "value"),
    setting([], "explained", "value"),
    setting([], "explained", "output"),
    setting(0, "scores"),
    without("scores"),
    setting({"rules": "none"}, "semantics"),
    setting({"rules": ["x"]}, "semantics"),
    setting({"colour": "red"}, "semantics"),
    setting({}, "deconv_inputs"),
    setting([1], "deconv_inputs"),
    setting(5, "deconv_inputs", 0, "name"),
    setting("x", "deconv_inputs", 0, "shape"),
    setting("nothing", "reconstructions", 0, "of"),
    setting(2, "format"),
]


@pytest.mark.parametrize("change", TAMPERED)
def test_a_tampered_manifest_is_one_line(tmp_path, change):
    save(compile_pair(load(network()), "r1"), tmp_path / "pair")
    spoilt(tmp_path / "pair", change)
    refused("verify", tmp_path / "pair")
    with pytest.raises(ModelError):
        load_pair(tmp_path / "pair")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "{",
        without("explained"),
        without("scores"),
        without("outputs"),
        without("target", "name"),
        setting([], "explained", "output"),
        setting([], "ranking"),
        setting([1], "inputs"),
        setting(5, "semantics"),
    ],
)
def test_a_tampered_manifest_of_an_explain_graph_is_one_line(tmp_path, change):
    explain_graph(compile_pair(load(network()))).save(tmp_path / "one")
    Explainer(tmp_path / "one", providers="cpu")
    spoilt(tmp_path / "one", change)
    refused("verify", tmp_path / "one")
    with pytest.raises(ModelError, match="make it again"):
        Explainer(tmp_path / "one", providers="cpu")


def test_models_of_two_conversions_are_told(tmp_path):
    for rules in ("guided", "gradient"):
        save(compile_pair(load(network()), "r1", semantics=rules), tmp_path / rules)
    (tmp_path / "guided" / DECONV).write_bytes((tmp_path / "gradient" / DECONV).read_bytes())
    assert "different conversions" in refused("verify", tmp_path / "guided")


# Processes


def reconstruction_of(explainer):
    return explainer(X, 3, layer="r1")[0].reconstruction


@pytest.mark.parametrize("source", ["path", "memory", "pair"])
def test_an_explainer_can_be_pickled(tmp_path, source):
    model = network()
    if source == "path":
        model = saved(tmp_path / "m.onnx")
    if source == "pair":
        model = tmp_path / "pair"
        save(compile_pair(load(network()), "r1"), model)
    copy = pickle.loads(pickle.dumps(Explainer(model, providers="cpu")))
    np.testing.assert_array_equal(reconstruction_of(copy), EXPECTED)
    again = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(reconstruction_of(again), EXPECTED)


def test_a_pickled_explainer_is_the_model_that_was_pickled_or_none(tmp_path):
    path = saved(tmp_path / "m.onnx")
    explainer = Explainer(path, providers="cpu")
    content = pickle.dumps(explainer)
    replaced(path)
    # As long as the first one lives, its copy is there.
    np.testing.assert_array_equal(reconstruction_of(pickle.loads(content)), EXPECTED)
    del explainer
    with pytest.raises(ModelError, match="pickled"):
        pickle.loads(content)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_an_explainer_works_in_other_processes(tmp_path, method):
    explainer = Explainer(saved(tmp_path / "m.onnx"), providers="cpu")
    reconstruction_of(explainer)  # has sessions, with threads
    script = tmp_path / "main.py"
    script.write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "m.onnx", method],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


PROCESSES = """
import multiprocessing, sys
import numpy as np
import warnings
from test_files import X, EXPECTED, reconstruction_of
from onnx_deconv import Explainer

if __name__ == "__main__":
    explainer = Explainer(sys.argv[1], providers="cpu")
    assert (reconstruction_of(explainer) == EXPECTED).all()
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        for found in pool.map(reconstruction_of, [explainer] * 4):
            np.testing.assert_array_equal(found, EXPECTED)
    if sys.argv[2] == "fork":
        import os
        child = os.fork()
        if not child:
            os._exit(int(not (reconstruction_of(explainer) == EXPECTED).all()))
        assert os.waitpid(child, 0)[1] == 0
        assert (reconstruction_of(explainer) == EXPECTED).all()
"""


# Memory


def test_the_layers_used_last_are_kept():
    explainer = Explainer(network(), providers="cpu", max_layers=2)
    first = explainer.session("r1")
    explainer.session("r2")
    assert explainer.session("r1") is first
    explainer.session("y")
    assert explainer.session("r1") is first
    second = explainer.session("r2")
    assert explainer.session("r2") is second
    assert explainer.session("r1") is first
    np.testing.assert_array_equal(reconstruction_of(explainer), EXPECTED)


def test_at_least_one_layer_is_kept():
    with pytest.raises(Exception, match="max_layers"):
        Explainer(network(), max_layers=0)


# Numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_an_image_is_named(value):
    batch = np.zeros((2, 3, 16, 16), np.float32)
    batch[1, 2, 5, 7] = value
    with pytest.raises(InputError, match=rf"'x': image 1 holds {value} at \[2, 5, 7\]"):
        Explainer(network(), providers="cpu")(batch)


def test_what_is_not_finite_in_the_weights_is_named():
    model = network()
    weights = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weights[3, 2, 1, 1] = np.nan
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weights, "w2"))
    (found,) = Explainer(model, providers="cpu")(X, 3, layer="y", seed="one")
    assert "not finite" in found.note
    assert "'c2'" in found.note


@pytest.mark.parametrize("target", [3, np.int64(3), np.array(3), np.array([3]), [np.int32(3)], (3,)])
def test_whole_numbers_of_any_kind_are_targets(target):
    (found,) = Explainer(network(), providers="cpu")(X, target, layer="r1")
    np.testing.assert_array_equal(found.reconstruction, EXPECTED)


@pytest.mark.parametrize("target", [1.5, None, [], object(), np.array([1.0])])
def test_what_is_no_target_is_refused(target):
    with pytest.raises(InputError):
        Explainer(network(), providers="cpu")(X, [target], layer="r1")


class Tensor:
    """What any library's tensor is to NumPy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("wrap", [np.ndarray.tolist, Tensor, lambda x: {"x": Tensor(x)}, np.float64])
def test_whatever_numpy_can_read_is_a_batch(wrap):
    (found,) = Explainer(network(), providers="cpu")(wrap(X), 3, layer="r1")
    np.testing.assert_array_equal(found.reconstruction, EXPECTED)


def test_tensors_of_torch_are_batches_and_targets():
    torch = pytest.importorskip("torch")
    batch = torch.from_numpy(X).requires_grad_()
    for target in (torch.tensor(3), torch.tensor([3])):
        (found,) = Explainer(network(), providers="cpu")(batch, target, layer="r1")
        np.testing.assert_array_equal(found.reconstruction, EXPECTED)


@pytest.mark.parametrize("batch", [None, "cat.jpg", [[1.0], [1.0, 2.0]], object(), {"x": None}, {"z": X}, 5])
def test_what_is_no_batch_is_refused_in_one_line(batch):
    with pytest.raises(InputError) as error:
        Explainer(network(), providers="cpu")(batch)
    assert "\n" not in str(error.value)


def test_the_need_of_a_large_photograph_is_estimated_from_its_values():
    """Twice the area, twice the memory; and at least what the forward model hands to the companion."""
    model = network()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = f"size{dim.dim_value}"
    del model.graph.node[4:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("r2", TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("Relu", ["c2"], ["r2"]))
    pair = compile_pair(load(model), "r2", semantics="guided")
    small, large = (memory_needed(pair, {"x": (1, 3, 500, size)}) for size in (500, 1000))
    assert large == 2 * small
    # c1 and c2 (or masks of theirs in floats) go to the companion, 8 channels of 4 bytes each.
    assert small >= 2 * 8 * 500 * 500 * 4


def test_a_photograph_that_does_not_fit_into_the_memory_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr("onnx_deconv.attribution.room.memory_free", lambda: 1)
    monkeypatch.setattr("onnx_deconv.attribution.room._LARGE", 1)
    with pytest.raises(InputError, match=r"takes about .* GB of memory, and 0\.0 GB are free"):
        Explainer(network(), providers="cpu")(X)


FULL = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from onnx_deconv.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
@pytest.mark.parametrize("limit", [100, 5_000])
def test_a_disk_that_is_full_is_one_line(tmp_path, limit):
    """Files of at most so many bytes: to the program that is what a full disk is."""
    model, photo = saved(tmp_path / "m.onnx"), picture(tmp_path / "p.png")
    command = [
        "atlas",
        "build",
        model,
        photo,
        "-o",
        tmp_path / "atlas",
        "--size",
        "16",
        "--preset",
        "imagenet",
    ]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), *map(str, command)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert not [line for line in done.stderr.splitlines()[:-1] if not line.startswith("Warning: ")]
    assert not (tmp_path / "atlas" / "atlas.json").exists()


ENDED = """
import signal, sys, onnx_deconv.cli
from onnx_deconv.__main__ import main
from onnx_deconv.cli.stopping import Stopping

def program():
    {}

onnx_deconv.cli.main = program
main()
"""


@posix
@pytest.mark.parametrize(
    "body",
    [
        "raise KeyboardInterrupt",  # while handlers are put in place or back
        # Python notes an interruption of text that is executed, whoever catches it.
        """
    try:
        with Stopping().heeded():
            exec("signal.raise_signal(signal.SIGTERM)")
    except KeyboardInterrupt:
        sys.exit(130)""",
        "signal.raise_signal(signal.SIGTERM)",  # before a command begins
        "signal.raise_signal(signal.SIGHUP)",
    ],
)
def test_a_stop_at_any_time_has_the_exit_code_of_a_stop(body):
    done = subprocess.run([sys.executable, "-c", ENDED.format(body)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_stop_while_a_compiled_module_is_imported_comes_after_it(tmp_path):
    """Such a module takes the interruption for an error of its own: onnxruntime prints it and goes on."""

    loaded = []

    class Loader(ExtensionFileLoader):
        def create_module(self, spec):
            signal.raise_signal(signal.SIGINT)
            loaded.append(spec)

    def loading():
        with Stopping().heeded():
            Loader("name", str(tmp_path)).create_module("spec")
            time.sleep(60)
            loaded.append("never")

    with pytest.raises(KeyboardInterrupt):
        loading()
    assert loaded == ["spec"]
