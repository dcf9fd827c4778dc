"""What a Ray cluster makes is to the byte what one process makes, also if an actor is killed meanwhile."""

import math
import socket
import sys
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from commands import refused, run
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from onnx_deconv.atlas import Atlas, images_of, scan
from onnx_deconv.atlas.scan import BATCH
from onnx_deconv.atlas.writer import Writer, plans
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.distributed import Cluster, Job, Workers
from onnx_deconv.distributed.cluster import blocks
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Preprocess

OPTIONS = ["--preset", "unit", "--fit", "none", "--top", 3]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A network of two convolutions with a pool between them, and 70 pictures."""
    home, rng = tmp_path_factory.mktemp("distributed"), np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w", (6, 3, 3, 3)), ("v", (5, 6, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "v"], ["d"]),
        helper.make_node("Relu", ["d"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 24, 24])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, home / "net.onnx")
    (home / "in").mkdir()
    for k in range(70):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(home / "in" / f"{k:03}.png")
    (home / "in" / "035.png").write_bytes(b"no picture")
    return home


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    yield ray
    ray.shutdown()


def test_without_ray_the_way_out_is_named(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ("atlas", "build", inputs / "net.onnx", inputs / "in", "-o", tmp_path / "out", *OPTIONS)
    assert "pip install 'onnx-deconv[ray]'" in refused(*arguments, "--ray", "auto")


def test_an_address_where_nobody_listens_is_refused_at_once(inputs, tmp_path, monkeypatch):
    """Ray itself would wait for minutes; it is not asked."""
    with socket.socket() as bound:  # its port is taken, and nobody accepts there
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
        arguments = ("atlas", "build", inputs / "net.onnx", inputs / "in", "-o", tmp_path / "out", *OPTIONS)
        for given in (address, f"ray://{address}"):
            assert f"--ray {given}: no cluster answers" in refused(*arguments, "--ray", given)


class Asked:
    """What is asked of Ray where the cluster has some cores and GPUs."""

    def __init__(self, **resources):
        self.resources, self.shares = resources, []

    def cluster_resources(self):
        return self.resources

    def put(self, thing):
        return thing

    def remote(self, num_gpus, **_):
        self.shares.append(num_gpus)
        return lambda of: type("Remote", (), {"remote": staticmethod(lambda *_: of)})


@pytest.mark.parametrize(
    ("cores", "gpus", "on_gpu", "share"),
    [(4, 1, True, 1 / 4), (4, 2, True, 1 / 2), (5, 2, True, 1 / 3), (4, 2, False, 0)],
)
def test_actors_share_the_gpus(monkeypatch, cores, gpus, on_gpu, share):
    asked = Asked(CPU=cores, GPU=gpus)
    monkeypatch.setattr("onnx_deconv.distributed.workers._connected", lambda _: asked)
    assert len(Workers(Asked, (), on_gpu=on_gpu).actors) == cores
    assert asked.shares == [share]


def test_a_cluster_without_the_gpu_that_was_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr("onnx_deconv.distributed.workers._connected", lambda _: Asked(CPU=2))
    with pytest.raises(InputError, match="no GPU"):
        Workers(Asked, (), on_gpu=True)


@pytest.mark.parametrize("actors", [1, 2, 7, 256])
@pytest.mark.parametrize("total", [0, 1, 5, 120, 1000, 12345])
def test_blocks_are_all_images_in_whole_batches_and_get_smaller(total, actors):
    parts = blocks(total, actors)
    assert [image for part in parts for image in range(*part)] == list(range(total))
    sizes = [last - first for first, last in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert not any(size % BATCH for size in sizes[:-1])
    assert min(sizes[:-1], default=BATCH) >= BATCH
    loads = [0] * actors  # where a block goes to whoever is free first, nobody is waited for long
    for size in sizes:
        loads[loads.index(min(loads))] += size
    assert max(loads) - min(loads) <= max(BATCH, total / actors / 8 / 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_makes_the_same_files(cluster, inputs, tmp_path):  # noqa: ARG001 - it runs
    homes = {"one": [], "many": ["--ray", "local"]}
    for name, more in homes.items():
        code, _, err = run(
            "atlas",
            "build",
            inputs / "net.onnx",
            inputs / "in",
            "-o",
            tmp_path / name,
            "--values",
            *OPTIONS,
            *more,
        )
        assert code == 1, err  # one picture cannot be read
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert sorted(file.name for file in (tmp_path / "many").iterdir()) == files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_that_are_killed_are_replaced(cluster, inputs):
    explainer, preprocess = Explainer(inputs / "net.onnx", "deconvnet"), Preprocess(size=(24, 24), fit="none")
    layers = ["r", "s"]
    plan = plans({"r": (6, 3), "s": (5, 3)}, {"r": (3, 3), "s": (8, 8)}, 3)
    source = partial(images_of, str(inputs / "in"))
    images, killed = source(), threading.Event()
    made = Cluster(Job(explainer, preprocess, source, plan, {}, 3), "local", actors=2)

    def kill(_):
        if not killed.is_set():
            killed.set()
            cluster.kill(made.actors[0], no_restart=False)
            cluster.kill(made.actors[1], no_restart=False)

    atlas = made.scan(images, kill)
    assert killed.is_set()
    drawn = list(made.project(atlas, ()))
    expected = scan(explainer, images, preprocess, Atlas(3), layers)
    assert atlas.images == expected.images
    assert (atlas.seen, list(atlas.failed)) == (expected.seen, list(expected.failed)) == (70, ["035.png"])
    for layer, table in expected.layers.items():
        np.testing.assert_array_equal(atlas.layers[layer].activations, table.activations)
        np.testing.assert_array_equal(atlas.layers[layer].images, table.images)
        np.testing.assert_array_equal(atlas.layers[layer].positions, table.positions)
    assert len({one.unit for one in drawn}) == sum(
        int(table.active.sum()) for table in expected.layers.values()
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_driver_that_was_stopped_goes_on(cluster, inputs, tmp_path, monkeypatch):  # noqa: ARG001 - it runs
    add, added = Writer.add, []

    def interrupted(writer, one):
        add(writer, one)
        added.append(one.unit)
        if len(added) == 7:
            raise KeyboardInterrupt

    def scanned_again(*_):
        raise AssertionError

    build = ("atlas", "build", inputs / "net.onnx", inputs / "in", *OPTIONS, "-o")
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "add", interrupted)
        assert run(*build, tmp_path / "many", "--ray", "local")[0] == 130
        patched.setattr(Cluster, "scan", scanned_again)
        code, _, err = run(*build, tmp_path / "many", "--ray", "local")
        assert code == 1, err
    assert "continuing after 7 projections" in err
    assert len(added) == len(set(added))
    assert run(*build, tmp_path / "one")[0] == 1
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "many" / file.name).read_bytes(), file.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_explains_the_same(cluster, inputs, tmp_path, monkeypatch):  # noqa: ARG001 - it runs
    monkeypatch.setattr("onnx_deconv.cli.console._LONG", math.inf)  # a slow run says how long it will last
    photos = [inputs / "in" / f"{k:03}.png" for k in (3, 35, 36, 37)]  # the second cannot be read
    asked = ("explain", inputs / "net.onnx", *photos, "--preset", "unit", "--fit", "none", "--top", 2)
    # Both write to the same folder: what is written names it.
    said, homes = {}, {"one": (), "many": ("--ray", "local")}
    for name, more in homes.items():
        code, out, err = run(*asked, "-o", tmp_path / "out", *more)
        assert code == 1, err
        said[name] = out, [line for line in err.splitlines() if "INFO" not in line]
        (tmp_path / "out").rename(tmp_path / name)
    assert said["one"] == said["many"]
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 3 * 2 * 4
    assert sorted(file.relative_to(tmp_path / "many") for file in (tmp_path / "many").rglob("*.*")) == files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes(), file


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_lost_and_an_actor_that_is_killed_change_nothing(inputs, tmp_path, monkeypatch):
    ray, several = pytest.importorskip("ray"), pytest.importorskip("ray.cluster_utils")
    if ray.is_initialized():
        ray.shutdown()
    nodes, lost = several.Cluster(initialize_head=True, head_node_args={"num_cpus": 1}), []
    second = nodes.add_node(num_cpus=1)
    ray.init(nodes.address, log_to_driver=False, configure_logging=False)
    results = Workers.results

    def losing(workers, submit, tasks):
        for number, each in enumerate(results(workers, submit, tasks)):
            if number == 1 and not lost:
                lost.append(second)
                nodes.remove_node(second, allow_graceful=False)
                ray.kill(workers.actors[0], no_restart=False)
                nodes.add_node(num_cpus=1)
            yield each

    monkeypatch.setattr(Workers, "results", losing)
    build = ("atlas", "build", inputs / "net.onnx", inputs / "in", *OPTIONS, "-o")
    try:
        code, _, err = run(*build, tmp_path / "many", "--ray", nodes.address)
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert code == 1, err
    assert lost
    assert run(*build, tmp_path / "one")[0] == 1
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "many" / file.name).read_bytes(), file.name
