"""The atlas against brute force: the strongest of all, and each projected on its whole image."""

import io
import json
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import commands
import h5py
import numpy as np
import onnx
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import model_of, numbers
from pictures import as_png
from PIL import Image
from random_networks import Net, nets
from zoo_files import ZOO

from onnx_deconv import Explainer, InputError, ModelError, RuntimeUnavailableError, load
from onnx_deconv.atlas import Atlas, Projector, images_of, merge, scan
from onnx_deconv.atlas.forward_values import ForwardValues
from onnx_deconv.atlas.index import FORMAT
from onnx_deconv.atlas.jobs import batches
from onnx_deconv.atlas.means import means
from onnx_deconv.atlas.projector import Costs
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.resume import JOURNAL, load_partial, save_partial
from onnx_deconv.atlas.values_file import chunk_of, write_values
from onnx_deconv.atlas.writer import Writer, plans
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.imaging import Preprocess, preprocess_for, read_image
from onnx_deconv.model import Model
from onnx_deconv.model.feature_maps import convolutions
from onnx_deconv.model.protos import copy_of

PREPROCESS = Preprocess(size=(32, 32), fit="none", scale=1 / 64, mean=(2.0,))


def network(size=32, batch="N", steps=(2, 2, 1)):
    """Three convolutions with their rectifiers, an overlapping pool between, and a classifier."""
    rng, nodes, weights, last, width = np.random.default_rng(3), [], [], "image", 3

    def weight(name, *shape):
        array = rng.standard_normal(shape).astype(np.float32)
        weights.append(numpy_helper.from_array(array, name))
        return name

    for n, (step, channels) in enumerate(zip(steps, (6, 8, 5), strict=True), 1):
        names = weight(f"w{n}", channels, width, 3, 3), weight(f"b{n}", channels)
        nodes.append(helper.make_node("Conv", [last, *names], [f"c{n}"], pads=[1] * 4, strides=[step] * 2))
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"r{n}"]))
        last, width = f"r{n}", channels
        if n == 1:
            pool = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
            nodes.append(helper.make_node("MaxPool", [last], ["p1"], **pool))
            last = "p1"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["scores"]))
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, [batch, 3, size, size])]
    outputs = [value("scores", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def pictures(count, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return [(f"{k:03}.png", rng.integers(0, 256, (size, size, 3), np.uint8)) for k in range(count)]


def atlas_of(explainer, source, top=3, preprocess=PREPROCESS, **more):
    layers = convolutions(explainer.model)
    return scan(explainer, images_of(source), preprocess, Atlas(top, **more), layers)


def rows(atlas):
    """Every entry of an atlas, in plain numbers."""
    return {
        (layer, channel, rank): (
            float(table.activations[channel, rank]),
            atlas.images[table.images[channel, rank]],
            tuple(table.positions[channel, rank].tolist()),
        )
        for layer, table in atlas.layers.items()
        for channel, rank in table.ranks()
    }


def brute_force(explainer, source, top, preprocess=PREPROCESS):
    """Sort all maxima of all images."""
    expected = {}
    for layer in convolutions(explainer.model):
        session = explainer.session(layer)
        found = []
        for name, picture in source:
            batch = preprocess.apply(picture)[0][None]
            found.append((name, Pass(session, layer, {explainer.model.inputs[0]: batch}).explained[0]))
        for channel in range(len(found[0][1])):
            maps = [(name, values[channel]) for name, values in found]
            strongest = sorted(maps, key=lambda each: (-each[1].max(), each[0]))[:top]
            for rank, (name, values) in enumerate(strongest):
                position = tuple(int(k) for k in np.unravel_index(values.argmax(), values.shape))
                expected[layer, channel, rank] = (float(values.max()), name, position)
    return expected


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, (activation, *where) in expected.items():
        assert found[key][1:] == tuple(where), key
        assert found[key][0] == pytest.approx(activation, rel=1e-5, abs=1e-6)


def test_the_strongest_of_all():
    explainer, source = Explainer(network()), pictures(40)
    same(rows(atlas_of(explainer, source)), brute_force(explainer, source, 3))


def test_a_fixed_batch_and_fewer_images_than_places():
    explainer, source = Explainer(network(batch=4)), pictures(5)
    found = rows(atlas_of(explainer, source, top=9))
    same(found, brute_force(Explainer(network()), source, 9))
    assert {rank for _, _, rank in found} == set(range(5))


def bounded(how, bound=0.5):
    """The network whose last rectifier has an upper bound, written in some way."""
    proto = network()
    (number,) = (k for k, node in enumerate(proto.graph.node) if "r3" in node.output)
    rest = [copy_of(node) for node in proto.graph.node[number + 1 :]]
    del proto.graph.node[number:]
    bounds = {"low": np.float32(0), "high": np.float32(bound)}
    proto.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in bounds.items())
    nodes = {
        "Clip": [("Clip", ["c3", "low", "high"], "r3")],
        "Min and Max": [("Max", ["c3", "low"], "r3/low"), ("Min", ["r3/low", "high"], "r3")],
        "Relu and Min": [("Relu", ["c3"], "r3/low"), ("Min", ["r3/low", "high"], "r3")],
        "Clip below and Min": [("Clip", ["c3", "low"], "r3/low"), ("Min", ["r3/low", "high"], "r3")],
    }[how]
    proto.graph.node.extend(helper.make_node(op, inputs, [output]) for op, inputs, output in nodes)
    proto.graph.node.extend(rest)
    return proto


@pytest.mark.parametrize("how", ["Clip", "Min and Max", "Relu and Min", "Clip below and Min"])
def test_units_are_ranked_and_placed_before_an_upper_bound(how):
    """Below the bound the network is the one without it, whose order and places it must have."""
    source, layers = pictures(12), ["r1", "r3"]
    free, capped = (Explainer(each, "guided") for each in (network(), bounded(how)))
    tensors = np.stack([PREPROCESS.apply(picture)[0] for _, picture in source])
    values = Pass(capped.session("r3"), "r3", {"image": tensors}).explained
    assert {*values.max(axis=(2, 3)).ravel()} == {0, 0.5}  # by itself the layer tells no image from another
    found = []
    for explainer in (free, capped):
        atlas = scan(explainer, images_of(source), PREPROCESS, Atlas(4), layers)
        projector = Projector(explainer, layers, PREPROCESS.replace(size=(32, 32)))
        units = {(one.layer, one.channel, one.rank): one for one in projector.run(atlas, images_of(source))}
        again = scan(explainer, images_of(source), PREPROCESS, Atlas(4), layers, positions=False)
        list(projector.run(again, images_of(source), lambda _: False, locate=True))
        assert rows(again) == rows(atlas)
        found.append((rows(atlas), units))
    (expected, projected), (ranked, units) = found
    same(ranked, expected)
    assert units.keys() == projected.keys()
    for key, one in units.items():
        largest = np.abs(projected[key].values).max()
        np.testing.assert_allclose(one.values, projected[key].values, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("wanted", [lambda _: True, lambda unit: unit[1] == 1, lambda _: False])
def test_projections_find_the_positions_on_their_way(wanted):
    explainer, source = Explainer(network()), pictures(12)
    layers = convolutions(explainer.model)
    found = scan(explainer, images_of(source), PREPROCESS, Atlas(3), layers, positions=False)
    projector = Projector(explainer, layers, PREPROCESS.replace(size=(32, 32)))
    made = list(projector.run(found, images_of(source), wanted, locate=True))
    expected = brute_force(Explainer(network()), source, 3)
    same(rows(found), expected)
    positions = {(one.layer, one.channel, one.rank): one.position for one in made}
    assert positions == {key: expected[key][2] for key in expected if expected[key][0] and wanted(key)}
    gone = [each for each in source if each[0] != found.images[0]]
    with pytest.raises(InputError, match=f"1 images of the atlas are missing, '{found.images[0]}'"):
        list(projector.run(found, images_of(gone), wanted, locate=True))


def test_an_atlas_of_some_of_its_images_keeps_their_ranks():
    atlas = atlas_of(Explainer(network()), pictures(12))
    chosen = {*atlas.images[::2]}
    part = atlas.of_images(chosen)
    assert rows(part) == {key: row for key, row in rows(atlas).items() if row[1] in chosen}
    assert part.images == sorted(chosen)


def test_the_strongest_are_those_that_python_sorts_first():
    rng = np.random.default_rng(0)
    several = np.array([-np.inf, -2.5, -1e-30, -0.0, 0.0, 1e-45, 1.0, 3e38], np.float32)
    names = [f"{n:02}" for n in rng.permutation(40)]
    found = rng.choice(several, (40, 6))  # many ties
    atlas = Atlas(5)
    for k in range(0, 40, 10):
        at = np.arange(k, k + 10)[:, None, None] * np.ones((1, 6, 1), int)  # each position tells its image
        atlas.add(names[k : k + 10], {"layer": (found[k : k + 10], at)})
    table = atlas.layers["layer"]
    for channel in range(6):
        expected = sorted(range(40), key=lambda k: (-float(found[k, channel]), names[k]))[:5]
        assert [atlas.images[n] for n in table.images[channel]] == [names[k] for k in expected]
        assert table.positions[channel, :, 0].tolist() == expected
        np.testing.assert_array_equal(table.activations[channel], found[expected, channel])


def test_ties_go_to_the_earlier_name_whatever_the_order():
    explainer = Explainer(network())
    ((_, picture),) = pictures(1)
    source = [(name, picture) for name in "ebdac"]
    found = rows(atlas_of(explainer, source))
    for (_, _, rank), (_, name, _) in found.items():
        assert name == "abc"[rank]


@pytest.mark.parametrize(("between", "last"), [("", "c"), ("n = BatchNormalization(c, s, s, s, s)", "n")])
@pytest.mark.parametrize(
    "rectifier",
    [
        "Relu(@)", "LeakyRelu(@)", "PRelu(@, slope)", "ThresholdedRelu(@)", "Clip(@, zero)", "Elu(@)",
        "Selu(@)", "Celu(@)", "Softplus(@)", "Swish(@)", "HardSwish(@)", "Gelu(@)", "Mish(@)",
    ],
)  # fmt: skip
def test_a_convolution_is_shown_rectified_whatever_rectifies_it(rectifier, between, last):
    body = f"c = Conv(x, w) {between} r = {rectifier.replace('@', last)} y = GlobalAveragePool(r)"
    weights = {
        "w": numbers((4, 3, 3, 3)),
        "s": np.ones(4, "f"),
        "zero": np.float32(0),
        "slope": np.float32([0.1]),
    }
    model = load(model_of(body, {"x": (1, 3, 8, 8)}, weights, opset=24))
    assert convolutions(model) == ["r"]


@pytest.mark.parametrize("follower", ["MaxPool<kernel_shape = [2, 2]>(c)", "Softmax(c)"])
def test_what_follows_a_convolution_but_is_no_rectifier_is_not_shown_in_its_place(follower):
    body = f"c = Conv(x, w) r = {follower} y = Relu(r)"
    model = load(model_of(body, {"x": (1, 3, 8, 8)}, {"w": numbers((4, 3, 3, 3))}))
    assert convolutions(model) == ["c"]


@given(st.lists(st.integers(0, 2), min_size=12, max_size=12), st.integers(1, 5))
@settings(max_examples=25)
def test_merging_shards_is_one_run(shard_of, top):
    explainer = Explainer(network())
    source = pictures(12)
    source[7] = "007.png", source[2][1]  # the same picture twice: a tie between shards
    whole = atlas_of(explainer, source, top)
    parts = [
        atlas_of(explainer, chosen, top)
        for shard in range(3)
        if (chosen := [s for s, k in zip(source, shard_of, strict=True) if k == shard])
    ]
    merged = merge(parts)
    assert rows(merged) == rows(whole)
    assert merged.images == whole.images
    assert merged.seen == whole.seen == 12


def test_atlases_of_different_making_are_not_merged():
    with pytest.raises(InputError, match="differ in model"):
        merge([Atlas(3, {"model": "a"}), Atlas(3, {"model": "b"})])
    with pytest.raises(InputError, match="differ in top"):
        merge([Atlas(3), Atlas(4)])
    with pytest.raises(InputError, match="image b is in more than one atlas"):
        merge([Atlas(3, images=["a", "b"]), Atlas(3, images=["b"])])


def test_what_is_kept_does_not_grow_with_the_images():
    atlas = Atlas(2)
    rng = np.random.default_rng(0)
    for k in range(0, 5000, 50):
        names = [f"{n:05}" for n in range(k, k + 50)]
        atlas.add(names, {"a": (rng.random((50, 4), np.float32), np.zeros((50, 4, 2), int))})
    assert len(atlas.images) <= 2 * 4


def test_an_interrupted_run_goes_on(tmp_path):
    explainer, source = Explainer(network()), pictures(150)
    layers = convolutions(explainer.model)

    def interrupt(atlas):
        save_partial(tmp_path, atlas)
        if atlas.seen >= 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(explainer, images_of(source), PREPROCESS, Atlas(3), layers, after_batch=interrupt)
    left = load_partial(tmp_path, {}, 3)
    assert left.seen == 128
    resumed = scan(explainer, images_of(source), PREPROCESS, left, layers)
    assert rows(resumed) == rows(atlas_of(explainer, source))
    with pytest.raises(InputError, match="other options"):
        load_partial(tmp_path, {"model": "another"}, 3)
    others = images_of([("new.png", source[0][1]), *source[1:]])
    with pytest.raises(InputError, match="first 128 images are not those"):
        scan(explainer, others, PREPROCESS, load_partial(tmp_path, {}, 3), layers)


def projections(explainer, atlas, source, preprocess=PREPROCESS, **options):
    projector = Projector(explainer, list(atlas.layers), preprocess, **options)
    return {(p.layer, p.channel, p.rank): p for p in projector.run(atlas, images_of(source))}


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("size", [32, 45])
def test_projections_are_those_of_whole_images(rules, size):
    explainer, source = Explainer(network(size), rules), pictures(10, size)
    preprocess = PREPROCESS.replace(size=(size, size))
    atlas = atlas_of(explainer, source, preprocess=preprocess)
    tensors = {name: preprocess.apply(picture)[0] for name, picture in source}
    found = projections(explainer, atlas, source, preprocess)
    expected = {key: row for key, row in rows(atlas).items() if row[0]}
    assert found.keys() == expected.keys()
    for (layer, channel, rank), (_, image, at) in expected.items():
        one = found[layer, channel, rank]
        (whole,) = explainer(tensors[image][None], channel, layer=layer, position=at)
        y0, x0, y1, x1 = one.window
        scale = np.abs(whole.reconstruction).max() or 1
        assert np.abs(one.values - whole.reconstruction[:, y0:y1, x0:x1]).max() <= 1e-5 * scale
        outside = whole.reconstruction.copy()
        y0, x0, y1, x1 = one.box
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()


@pytest.mark.cuda
def test_an_atlas_made_on_cuda_is_the_cpus():
    source, found = pictures(6), {}
    try:
        explainers = {device: Explainer(network(), providers=device) for device in ("cuda", "cpu")}
        explainers["cuda"].session()
    except RuntimeUnavailableError as error:
        pytest.skip(f"onnxruntime has no usable CUDA device: {error}")
    atlas = atlas_of(explainers["cpu"], source)
    same(rows(atlas_of(explainers["cuda"], source)), rows(atlas))
    for device, explainer in explainers.items():
        found[device] = projections(explainer, atlas, source)
    for key, one in found["cuda"].items():
        expected = found["cpu"][key].values
        assert np.abs(one.values - expected).max() <= 1e-4 * np.abs(expected).max()


def test_time_is_that_of_all_images_units_and_sheets(monkeypatch):
    monkeypatch.setattr("onnx_deconv.atlas.means.SHEET", 0.5)
    explainer = Explainer(network(), "auto")
    plan = plans({"r1": (6, 4), "r3": (5, 4)}, {"r1": (3, 3), "r3": (31, 31)}, 3)
    costs = Costs({"r1": 1.0, "r3": 2.0}, image=10.0, bytes_read=0)
    few = means(explainer.model, costs, plan, 3, scan_seconds=100.0)
    assert few.seconds == pytest.approx(3 * 100 + 3 * 10 + 6 * 3 * 1.5 + 5 * 3 * 2.5)  # 3 of 4 ranks
    many = means(explainer.model, costs, plan, 1000, scan_seconds=100.0)
    units = 6 * 4, 5 * 4
    assert many.seconds == pytest.approx(1000 * 100 + sum(units) * 10 + units[0] * 1.5 + units[1] * 2.5)
    assert means(explainer.model, costs, plan, None, 1.0).seconds is None


def test_costs_count_what_is_done_with_each_projection():
    explainer, layers = Explainer(network(), "auto"), ["r1", "r3"]
    projector, seen = Projector(explainer, layers, PREPROCESS), []
    ((_, picture),) = pictures(1)
    costs = projector.costs(("p", picture), seen.append)
    assert [one.layer for one in seen] == ["r1", "r1", "r3", "r3"]  # the second time counts
    for one in (seen[1], seen[3]):
        y, x = one.position
        (whole,) = explainer(PREPROCESS.apply(picture)[0][None], 0, layer=one.layer, position=(y, x))
        y0, x0, y1, x1 = one.window
        expected = whole.reconstruction[:, y0:y1, x0:x1]
        factor = whole.score or 1.0  # its seed is the activation, that of what was measured is one
        np.testing.assert_allclose(one.values * factor, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    assert min(*costs.seconds.values(), costs.image) > 0


def test_units_that_wait_hold_no_more_than_their_crops(monkeypatch):
    held, made = [], []

    def watched(found):
        for jobs in batches(seen(found)):
            held.extend(job for job in jobs[:-1] if isinstance(job.values, dict))  # the last came just now
            yield jobs

    def seen(found):
        for jobs in found:  # all of an image at once: copies of each crop would be far more than the image
            made.extend(jobs)
            yield jobs

    monkeypatch.setattr("onnx_deconv.atlas.projector.batches", watched)
    explainer = Explainer(network(steps=(1, 1, 1)), "guided")
    source, layers = pictures(3), convolutions(explainer.model)
    atlas = atlas_of(explainer, source)
    assert list(Projector(explainer, layers, PREPROCESS).run(atlas, images_of(source)))
    assert len(held) > 20
    for job in held:
        assert all(array.base is None for array in (job.patch, *job.values.values()))  # slices keep the whole
    assert any(array.size for job in held for array in job.values.values())
    assert all(job.patch.base is not None for job in made)


def test_crops_are_smaller_where_units_see_little():
    explainer = Explainer(network(64))
    projector = Projector(explainer, ["r1", "r2"], PREPROCESS.replace(size=(64, 64)))
    assert projector.window("r1") == (3, 3)
    crops = {layer: one.crop((4, 4)) for layer, one in projector._layers.items()}
    assert max(crops["r1"].size) < 8 < max(crops["r2"].size) < 32
    at_the_corner = projector._layers["r2"].crop((0, 0))
    assert at_the_corner.origin == (0, 0) < crops["r2"].origin
    assert max(at_the_corner.size) < max(crops["r2"].size)


def test_the_model_is_read_as_often_for_many_layers_as_for_few(monkeypatch):
    read, init = [], Model.__init__
    explainer, preprocess = Explainer(network(64)), PREPROCESS.replace(size=(64, 64))

    def counted(model, *arguments, **options):
        read.append(model)
        init(model, *arguments, **options)

    monkeypatch.setattr(Model, "__init__", counted)
    counts = []
    for layers in (["r1"], ["c1", "r1", "p1", "c2", "r2", "c3", "r3"]):
        read.clear()
        Projector(explainer, layers, preprocess)
        counts.append(len(read))
    assert counts[0] == counts[1] > 0


def test_a_layer_that_does_not_go_with_crops_leaves_the_others_theirs():
    """What is reshaped to numbers that the file states has no other size: its layers take whole images."""
    net = Net((1, 64, 64))
    first = net.conv((3, 3), kernel_shape=[3, 3])
    net.add("Reshape", net.const(np.array([-1, 62 * 62], np.int64)))
    net.add("Reshape", net.const(np.array([-1, 1, 62, 62], np.int64)))
    net.conv((3, 3), kernel_shape=[3, 3])
    explainer, preprocess = Explainer(net.model()), Preprocess(size=(64, 64), fit="none")
    projector = Projector(explainer, [first, net.last], preprocess)
    assert max(projector._layers[first].crop((9, 9)).size) < 8
    assert projector._layers[net.last].crop((9, 9)).size == (64, 64)


def errors_of_crops(explainer, layer, positions):
    """Project units of a network of one channel on crops and on the whole image, 40×36; compare."""
    image = np.random.default_rng(0).random((1, 40, 36), np.float32)
    made = [Projector(explainer, [layer], Preprocess(size=(40, 36)), crops=crops) for crops in (True, False)]
    projectors = [(each._layers[layer], ForwardValues(each._values(each._forward, image))) for each in made]
    for position in positions:
        found = []
        for one, values in projectors:
            crop = one.crop(position)
            (top, left), (height, width) = crop
            whole = np.zeros((1, 40, 36), np.float32)
            (piece,) = one.project([crop], [(0, position, 1.0)], [one.cut(crop, values)])
            whole[:, top : top + height, left : left + width] = piece
            found.append(whole)
        yield np.abs(found[0] - found[1]).max() / (np.abs(found[1]).max() or 1e-30)


@pytest.mark.slow
@given(nets((1, 40, 36)), st.sampled_from(["deconvnet", "gradient"]), st.data())
@settings(max_examples=100)
def test_crops_are_exact_whatever_the_geometry(net, rules, data):
    """A unit's projection on its crop is the whole image's, which is zero beside the crop."""
    try:
        explainer = Explainer(net.model(), rules)
        explainer.session(net.last).run_forward({"image": np.zeros((1, 1, 40, 36), np.float32)})
        sizes = [d for d in explainer.model.type_of(net.last).shape[2:] if d]
        assume(len(sizes) == 2)
    except (InputError, ModelError):
        reject()  # nothing is left of the image
    position = tuple(data.draw(st.integers(0, size - 1)) for size in sizes)
    assert max(errors_of_crops(explainer, net.last, [position])) <= 1e-6


def sliced(first, last, step):
    net = Net((1, 40, 36))
    net.add("Slice", *map(net.const, ([first], [last], [2], [step])))
    net.conv((3, 1), kernel_shape=[3, 1], pads=[1, 0, 1, 0])
    return net


def with_pads(first, last):
    net = Net((1, 40, 36))
    net.conv((1, 1), kernel_shape=[1, 1])
    net.add("Pad", net.const(np.array([0, 0, first, 0, 0, 0, last, 0])))
    net.conv((2, 1), kernel_shape=[2, 1], strides=[2, 1])
    return net


@pytest.mark.parametrize(
    "net",
    [
        sliced(2, 99, 2),
        sliced(5, -8, 1),
        sliced(0, -9, 3),
        with_pads(3, 0),
        with_pads(0, 3),
        with_pads(-3, -4),
    ],
    ids=["slice-2", "slice-5", "slice-end", "pad-first", "pad-last", "crop"],
)
def test_crops_are_exact_where_layers_add_or_drop_rows(net):
    """What a layer drops at the image's border it drops in a crop too; some units see only padding."""
    explainer = Explainer(net.model())
    rows, _ = explainer.model.type_of(net.last).shape[2:]
    assert max(errors_of_crops(explainer, net.last, [(row, 7) for row in range(rows)])) <= 1e-6


def test_pads_that_the_file_computes_are_no_hindrance():
    """Older exporters compute pads by nodes; ONNX's inference then forgets which axis is the batch."""
    model = with_pads(3, 0).model()
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    halves = [numpy_helper.from_array(np.array([0, 0, n, 0]), f"half{n}") for n in (3, 0)]
    model.graph.initializer.extend(halves)
    joined = helper.make_node("Concat", [half.name for half in halves], ["computed"], axis=0)
    model.graph.node.insert(0, joined)
    pad.input[1] = "computed"
    explainer, layer = Explainer(model), model.graph.output[0].name
    projector = Projector(explainer, [layer], Preprocess(size=(40, 36)))
    assert max(projector._layers[layer].crop((9, 9)).size) <= 4
    assert max(errors_of_crops(explainer, layer, [(0, 7), (9, 9)])) <= 1e-6


def test_a_value_of_unknown_shape_that_nothing_reads_is_no_hindrance():
    """Shape inference does not say how large the mask of an old Dropout is."""
    net = Net((1, 40, 36), opset=9)
    net.conv((3, 3), kernel_shape=[3, 3])
    net.last, mask = net.add("Dropout", count=2)
    net.conv((3, 1), kernel_shape=[3, 1])
    explainer = Explainer(net.model())
    assert explainer.model.type_of(mask).shape is None
    projector = Projector(explainer, [net.last], Preprocess(size=(40, 36)))
    assert max(projector._layers[net.last].crop((9, 9)).size) == 5
    assert max(errors_of_crops(explainer, net.last, [(9, 9)])) <= 1e-6


def test_a_generator_cannot_be_gone_through_twice():
    with pytest.raises(InputError, match="list, not a generator"):
        images_of((n, p) for n, p in pictures(2))


def saved(folder, source):
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in source:
        Image.fromarray(picture).save(folder / name)
    return folder


def archived(kind, path, folder):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.iterdir(), reverse=True):
                archive.write(file, file.name)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in sorted(folder.iterdir(), reverse=True):
                archive.add(file, file.name)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "txt", "folder"])
def test_sources_give_the_same(tmp_path, kind):
    source = pictures(8)
    folder = path = saved(tmp_path / "in", source)
    if kind == "txt":
        path = tmp_path / "list.txt"
        path.write_text("\n".join(f"in/{name}" for name, _ in source), encoding="utf-8")
    elif kind != "folder":
        path = archived(kind, tmp_path / f"in.{kind}", folder)
    explainer = Explainer(network())
    found, expected = rows(atlas_of(explainer, path)), rows(atlas_of(explainer, source))
    assert {k: (a, Path(n).name, p) for k, (a, n, p) in found.items()} == expected


def test_no_images(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"no such file|no pictures"):
            images_of(path)


# The command


@pytest.fixture
def model(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


PREPARED = ["--fit", "none", "--scale", 1 / 64, "--mean", 2, "--std", 1, "--json"]


def run(*args, code=0):
    exit_code, stdout, stderr = commands.run(*args)
    assert exit_code == code, stdout + stderr
    return Said(stdout, stderr)


class Said(NamedTuple):
    stdout: str
    stderr: str


def test_the_command_and_its_files(tmp_path, model):
    folder = saved(tmp_path / "in", pictures(7))
    (folder / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    result = run("atlas", "build", model, folder, "-o", out, "--top", 4, "--values", *PREPARED, code=1)
    record = json.loads(result.stdout)
    assert (record["images"], list(record["failed"])) == (8, ["broken.png"])
    assert "broken.png" in result.stderr
    assert not list(out.glob("*partial*"))
    index = json.loads((out / "atlas.json").read_text(encoding="utf-8"))
    assert [layer["layer"] for layer in index["layers"]] == ["r1", "r2", "r3"]
    explainer, preprocess = Explainer(model, "auto"), PREPROCESS
    for layer in index["layers"]:
        with h5py.File(out / f"{layer['files']}-values.h5") as file:
            values = file["values"][:]
            np.testing.assert_array_equal(Reader(out).files(layer["layer"]).values(0), values[0])
        units = np.load(out / f"{layer['files']}-units.npy")
        assert units.shape == (layer["channels"], 4)
        for channel, rank in np.argwhere(units["image"] >= 0).tolist():
            unit = units[channel, rank]
            picture = read_image(folder / index["images"][unit["image"]])
            batch = preprocess.apply(picture)[0][None]
            (whole,) = explainer(batch, channel, layer=layer["layer"], position=unit["position"].tolist())
            assert whole.score == pytest.approx(unit["activation"], rel=1e-4, abs=1e-5)
            assert np.isnan(unit["scale"]) == (unit["activation"] == 0)
            if unit["activation"]:
                y0, x0, y1, x1 = unit["window"]
                found = values[channel, rank].astype(np.float32) * unit["scale"]
                expected = whole.reconstruction[:, y0:y1, x0:x1]
                assert np.abs(found - expected).max() <= 1e-3 * max(unit["scale"], 1e-9)
            else:
                assert not values[channel, rank].any()
        for kind in ("projections", "patches"):
            assert read_image(out / f"{layer['files']}-{kind}.webp").shape[1] > 100


@pytest.mark.parametrize(
    ("steps", "methods"),
    [
        ((1, 1, 1), {"r1": "guided", "r2": "deconvnet", "r3": "deconvnet"}),
        ((2, 2, 1), dict.fromkeys(("r1", "r2", "r3"), "guided")),  # of three halvings one is the pool's
    ],
)
def test_layers_that_no_pool_ties_to_the_image_are_projected_by_their_values(tmp_path, steps, methods):
    onnx.save(network(steps=steps), tmp_path / "net.onnx")
    folder, out = saved(tmp_path / "in", pictures(3)), tmp_path / "out"
    run("atlas", "build", tmp_path / "net.onnx", folder, "-o", out, "--top", 2, *PREPARED)
    made = json.loads((out / "atlas.json").read_text(encoding="utf-8"))["made"]
    assert {layer: each["method"] for layer, each in made["methods"].items()} == methods
    chosen = tmp_path / "chosen"
    run("atlas", "build", tmp_path / "net.onnx", folder, "-o", chosen, "--rules", "gradient", *PREPARED)
    made = json.loads((chosen / "atlas.json").read_text(encoding="utf-8"))["made"]
    assert {each["method"] for each in made["methods"].values()} == {"gradient"}


def test_interrupted_projections_go_on(tmp_path, model, monkeypatch):
    folder, add, added = saved(tmp_path / "in", pictures(6)), Writer.add, []
    options = "--top", 3, "--values", *PREPARED

    def interrupted(writer, one):
        add(writer, one)
        added.append(one.unit)
        if len(added) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "add", interrupted)
    run("atlas", "build", model, folder, "-o", tmp_path / "one", *options, code=130)
    assert not (tmp_path / "one" / "atlas.json").exists()
    with (tmp_path / "one" / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write('{"place": ["r1", 0')  # killed while it wrote
    result = run("atlas", "build", model, folder, "-o", tmp_path / "one", *options)
    assert "continuing after 20 projections" in result.stderr
    assert len(set(added)) == len(added) > 20
    run("atlas", "build", model, folder, "-o", tmp_path / "other", *options)
    files = sorted(path.name for path in (tmp_path / "other").iterdir())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_who_replaces_a_finished_atlas_is_told(tmp_path, model):
    for name in "ab":
        saved(tmp_path / name, [(f"{name}{key}", each) for key, each in pictures(3)])
    options, said = ("--layer", "r3", *PREPARED), "the finished atlas there will be replaced"
    build, merge = ("atlas", "build", model), ("atlas", "merge", tmp_path / "one", tmp_path / "two")
    assert said not in run(*build, tmp_path / "a", "-o", tmp_path / "one", *options).stderr
    assert said in run(*build, tmp_path / "b", "-o", tmp_path / "one", *options).stderr
    assert set(Reader(tmp_path / "one").atlas.images) == {path.name for path in (tmp_path / "b").iterdir()}
    run(*build, tmp_path / "a", "-o", tmp_path / "two", *options)
    assert said not in run(*merge, "-o", tmp_path / "both").stderr
    assert said in run(*merge, "-o", tmp_path / "both").stderr


def test_projections_of_an_older_format_are_made_again(tmp_path, model, monkeypatch):
    folder, options = saved(tmp_path / "in", pictures(3)), ("--layer", "r3", *PREPARED)

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "finish", interrupted)
        run("atlas", "build", model, folder, "-o", tmp_path / "one", *options, code=130)
    head, *lines = (tmp_path / "one" / JOURNAL).read_text(encoding="utf-8").splitlines()
    old = json.dumps(json.loads(head) | {"format": FORMAT - 1})
    (tmp_path / "one" / JOURNAL).write_text("\n".join([old, *lines, ""]), encoding="utf-8")
    result = run("atlas", "build", model, folder, "-o", tmp_path / "one", *options)
    assert len(lines) > 3
    assert "projections" not in result.stderr
    run("atlas", "build", model, folder, "-o", tmp_path / "other", *options)
    for file in (tmp_path / "other").iterdir():
        assert file.read_bytes() == (tmp_path / "one" / file.name).read_bytes(), file.name


def test_merged_folders_are_the_folder_of_one_run(tmp_path, model):
    source = pictures(9)
    options = "--layer", "conv2", "--layer", "r3", "--values", *PREPARED
    homes = {"one": source, "part0": source[::2], "part1": source[1::2]}
    for name, each in homes.items():
        run("atlas", "build", model, saved(tmp_path / f"in-{name}", each), "-o", tmp_path / name, *options)
    run("atlas", "merge", tmp_path / "part0", tmp_path / "part1", "-o", tmp_path / "merged", "--json")
    merged, one = (json.loads((tmp_path / n / "atlas.json").read_text("utf-8")) for n in ("merged", "one"))
    assert merged == one
    files = sorted((tmp_path / "one").iterdir())
    assert sum(file.name.endswith("-values.h5") for file in files) == 2
    for file in files:
        assert file.read_bytes() == (tmp_path / "merged" / file.name).read_bytes(), file.name


def test_a_merge_that_was_interrupted_goes_on(tmp_path, model, monkeypatch):
    homes = [tmp_path / "part0", tmp_path / "part1"]
    for k, home in enumerate(homes):
        folder = saved(tmp_path / f"in{k}", pictures(6)[k::2])
        run("atlas", "build", model, folder, "-o", home, "--layer", "r3", *PREPARED)
    run("atlas", "merge", *homes, "-o", tmp_path / "whole")
    copy, copied = Writer.copy, []

    def interrupted(writer, reader, layer, unit, source):
        if len(copied) == 7:
            copied.append(None)
            raise KeyboardInterrupt
        copy(writer, reader, layer, unit, source)
        copied.append((layer, unit))

    monkeypatch.setattr(Writer, "copy", interrupted)
    run("atlas", "merge", *homes, "-o", tmp_path / "again", code=130)
    said = run("atlas", "merge", *homes, "-o", tmp_path / "again").stdout
    units = sum(int(table.filled.sum()) for table in Reader(tmp_path / "whole").atlas.layers.values())
    assert said.startswith(f"{units} units will take about ")
    assert len(copied) == len({*copied}) == units + 1  # none twice
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_an_atlas_is_not_merged_into_itself(tmp_path, model):
    home = tmp_path / "part"
    run("atlas", "build", model, saved(tmp_path / "in", pictures(2)), "-o", home, "--layer", "r3", *PREPARED)
    files = {file.name: file.read_bytes() for file in home.iterdir()}
    told = commands.refused("atlas", "merge", home, "-o", tmp_path / "in" / ".." / "part")
    assert "is one of the atlases that are merged; choose another folder" in told
    assert {file.name: file.read_bytes() for file in home.iterdir()} == files


def test_numbers_are_dropped_where_one_of_the_merged_keeps_none(tmp_path, model):
    for k, more in enumerate((["--values"], [])):
        folder = saved(tmp_path / f"in{k}", pictures(6)[k::2])
        run("atlas", "build", model, folder, "-o", tmp_path / f"part{k}", "--layer", "r3", *more, *PREPARED)
    run("atlas", "merge", tmp_path / "part0", tmp_path / "part1", "-o", tmp_path / "merged")
    assert Reader(tmp_path / "merged").files("r3").values(0) is None
    assert Reader(tmp_path / "part0").files("r3").values(0).any()


def test_without_h5py_numbers_are_refused_before_the_model_is_read(tmp_path, model, monkeypatch):
    folder, kept = saved(tmp_path / "in", pictures(3)), tmp_path / "kept"
    run("atlas", "build", model, folder, "-o", kept, "--layer", "r3", "--values", *PREPARED)
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(ModelOptions, "explainer", None)  # whoever reads the model fails
    out = tmp_path / "out"
    assert "pip install 'onnx-deconv[values]'" in commands.refused(
        "atlas", "build", model, folder, "-o", out, "--values"
    )
    assert "pip install 'onnx-deconv[values]'" in commands.refused("atlas", "merge", kept, "-o", out)
    assert not out.exists()
    with pytest.raises(InputError, match="onnx-deconv\\[values\\]"):
        plans({"r3": (5, 9)}, {"r3": (31, 31)}, 3, values=True)
    reader = Reader(kept)  # its pictures need no h5py
    assert reader.files("r3").patches[:].any()
    with pytest.raises(InputError, match="is read by h5py: pip install"):
        reader.files("r3").values(0)


def test_numbers_that_the_disk_cannot_hold_are_one_line_and_leave_nothing(tmp_path):
    resource, rng = pytest.importorskip("resource"), np.random.default_rng(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    shape = (9, 1, 3, 50, 50)  # 13 kB a unit, random
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))  # to a program, what a full disk is
    try:
        with pytest.raises(InputError, match=r"x.h5: cannot be written \(File too large\); choose another"):
            write_values(
                tmp_path / "x.h5",
                shape,
                [(k, 0) for k in range(9)],
                lambda _: chunk_of(rng.random(shape[2:])),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def rewritten(file, **changes):
    """Write a file's numbers anew, in another way."""
    with h5py.File(file) as old:
        numbers = old["values"][:]
    with h5py.File(file, "w") as new:
        kept = {"chunks": (1, 1, *numbers.shape[2:]), "compression": "gzip", "shuffle": True}
        new.create_dataset("values", data=numbers[changes.pop("part", slice(None))], **kept | changes)


def linked(file):
    file.rename(file.with_suffix(".other"))
    with h5py.File(file, "w") as new:
        new["values"] = h5py.ExternalLink(file.with_suffix(".other"), "values")


def empty(file):
    with h5py.File(file, "w") as new:
        new["values"] = 1.0


def garbled(file):
    """Change a byte in the middle of a unit's numbers."""
    content = bytearray(file.read_bytes())
    with h5py.File(file) as old:
        found = old["values"].id.get_chunk_info(0)
    content[found.byte_offset + found.size // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no numbers" * 100),
        lambda file: file.write_bytes(file.read_bytes()[:-3000]),
        lambda file: rewritten(file, part=slice(1, None)),
        lambda file: rewritten(file, chunks=(1, 2, 3, 31, 31)),
        lambda file: rewritten(file, dtype=np.float32),
        lambda file: rewritten(file, compression="lzf"),
        lambda file: h5py.File(file, "w").close(),
        empty,
        linked,
    ],
)
def test_damaged_numbers_are_one_line(finished, tmp_path, damage):
    home = with_numbers(finished, tmp_path / "out")
    (file,) = home.glob("*-values.h5")
    damage(file)
    told = commands.refused("atlas", "merge", home, "-o", tmp_path / "merged")
    assert f"{file}: is damaged" in told
    assert not (tmp_path / "merged").exists()


def test_a_damaged_unit_s_numbers_are_one_line(finished, tmp_path):
    home = with_numbers(finished, tmp_path / "out")
    (file,) = home.glob("*-values.h5")
    garbled(file)
    told = run("atlas", "merge", home, "-o", tmp_path / "merged", code=2).stderr
    assert f"{file}: is damaged" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "merged" / "atlas.json").exists()


def with_numbers(finished, home):
    """Build an atlas of one layer that keeps its numbers."""
    options = "--layer", "r3", "--top", 2, "--values", *PREPARED
    run("atlas", "build", finished / "net.onnx", finished / "in", "-o", home, *options)
    return home


def test_mistakes_are_one_line(tmp_path, model):
    folder = saved(tmp_path / "in", pictures(2))
    for args, said in (
        (("build", model, tmp_path / "nowhere"), "no such file"),
        (("build", model, folder, "--layer", "r9"), "r9"),
        (("build", model, folder, "--size", "photo"), "one size"),
        (("merge", tmp_path), "no finished atlas"),
    ):
        result = run("atlas", *args, "-o", tmp_path / "out", code=2)
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_what_it_takes_is_said_and_refused_where_there_is_no_room(tmp_path, model, monkeypatch):
    folder, out = saved(tmp_path / "in", pictures(9)), tmp_path / "out"
    options = [each for each in PREPARED if each != "--json"]
    said = run("atlas", "build", model, folder, "-o", out, *options).stdout.replace(",", "")
    maps, layers, disk, unit = re.search(
        r"(\d+) feature maps in (\d+) layers .* (\d+) (k?B) of disk", said
    ).groups()
    assert (int(maps), int(layers)) == (6 + 8 + 5, 3)
    real = sum(file.stat().st_size for file in out.iterdir())
    assert real / 3 < int(disk) * {"B": 1, "kB": 1000}[unit] < 3 * real
    real_usage, full = shutil.disk_usage, shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full if path == tmp_path else real_usage(path))
    result = run("atlas", "build", model, folder, "-o", tmp_path / "none", *options, code=2)
    assert "0 MB are free: choose another folder" in result.stderr
    assert result.stderr.count("\n") == 1
    result = run("atlas", "merge", out, "-o", tmp_path / "none", code=2)
    assert "are free: choose another folder" in result.stderr
    assert not (tmp_path / "none").exists()


def test_pictures_are_read_one_by_one_and_the_same_as_all_together(tmp_path, model):
    folder, out = saved(tmp_path / "in", pictures(3)), tmp_path / "out"
    run("atlas", "build", model, folder, "-o", out, "--layer", "r3", "--top", 4, *PREPARED)
    reader = Reader(out)
    patches = reader.files("r3").patches
    whole = patches[:]
    assert patches.shape == whole.shape == (5, 4, 31, 31, 3)  # 3, then 7, 15 and 31 pixels
    np.testing.assert_array_equal(patches[3], whole[3])
    np.testing.assert_array_equal(patches[[4, 1]], whole[[4, 1]])
    assert (whole[:, 3] == 128).all()  # of three images there is no fourth
    for unit in map(tuple, np.argwhere(reader.atlas.layers["r3"].active).tolist()):
        y0, x0, y1, x1 = reader.projection("r3", unit)["window"]
        seen = read_image(folder / reader.atlas.image_of("r3", *unit))[y0:y1, x0:x1]
        np.testing.assert_array_equal(whole[unit], seen)  # without loss, as there are few pixels


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all"])
def test_damaged_archives_are_one_line(tmp_path, model, content):
    folder, out = saved(tmp_path / "in", pictures(2)), tmp_path / "out"
    run("atlas", "build", model, folder, "-o", out, "--layer", "r3", *PREPARED)
    (out / "001-r3-pictures.zip").write_bytes(content)
    result = run("atlas", "report", out, "-o", tmp_path / "r.html", code=2)
    assert "no whole atlas" in result.stderr
    assert result.stderr.count("\n") == 1


# A real model


@pytest.mark.slow
def test_squeezenet_on_crops():
    path = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
    if not path.is_file():
        pytest.skip(f"no zoo at {ZOO}")
    explainer = Explainer(path)
    preprocess, _ = preprocess_for(explainer.model, "imagenet-caffe")
    images = images_of(ZOO / "photos")
    source = [(name, load()) for _, (name, load) in zip(range(4), images, strict=False)]
    layers = ["conv1_2", "fire3/expand3x3_2", "fire5/squeeze1x1_2", "fire7/expand3x3_2", "fire8/squeeze1x1_2"]
    atlas = scan(explainer, images_of(source), preprocess, Atlas(1), layers)
    for table in atlas.layers.values():
        table.activations[6:] = 0  # enough to see
    on_crops = projections(explainer, atlas, source, preprocess)
    whole = projections(explainer, atlas, source, preprocess, crops=False)
    assert on_crops.keys() == whole.keys()
    for key, one in on_crops.items():
        scale = np.abs(whole[key].values).max()
        assert scale > 0 or "fire" in key[0]
        assert np.abs(one.values - whole[key].values).max() <= 1e-5 * max(scale, 1e-30)


def test_archives_are_read_one_picture_at_a_time(tmp_path):
    content = io.BytesIO()
    Image.fromarray(pictures(1)[0][1]).save(content, "PNG")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}.png", content.getvalue() if k != 1 else b"broken")
    for name, read in images_of(tmp_path / "many.zip"):
        if name == "1.png":
            with pytest.raises(InputError, match=r"1\.png: not a picture"):
                read()
        else:
            assert (read() == pictures(1)[0][1]).all()


# Files that anybody may have written


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("finished")
    onnx.save(network(), home / "net.onnx")
    saved(home / "in", pictures(3))
    run("atlas", "build", home / "net.onnx", home / "in", "-o", home / "atlas", "--top", 2, *PREPARED)
    return home


def copied(finished, tmp_path):
    return Path(shutil.copytree(finished / "atlas", tmp_path / "atlas"))


def with_index(home, change):
    index = json.loads((home / "atlas.json").read_text())
    change(index)
    (home / "atlas.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.clear(),
        lambda index: index.update(top=10**12),
        lambda index: index.update(layers={}),
        lambda index: index["layers"][0].update(channels=10**15),
        lambda index: index["layers"][0].update(axes=-1),
        lambda index: index["layers"][0].update(files="../atlas/001-r1"),
        lambda index: index.update(images=["a", ["b"]]),
        lambda index: index.update(made=[]),
        lambda index: index.update(format=2),
        lambda index: index["layers"][0].update(tile=[0, 3]),
        lambda index: index["layers"].append(index["layers"][0]),
    ],
)
def test_a_tampered_index_is_one_line(finished, tmp_path, change):
    home = copied(finished, tmp_path)
    with_index(home, change)
    assert "no finished atlas" in commands.refused("atlas", "report", home, "-o", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def changed(field, value):
    def change(units):
        units[field].flat[0] = value
        return units

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("image", 3),
        changed("image", -2),
        changed("position", -1),
        changed("activation", np.nan),
        changed("scale", np.inf),
        lambda units: units[:, :1],
        lambda units: units["image"],
        lambda _: np.array([{"a": 1}], object),
    ],
)
def test_tampered_units_are_one_line(finished, tmp_path, change):
    home = copied(finished, tmp_path)
    file = home / "001-r1-units.npy"
    np.save(file, change(np.load(file)))
    for told in (("atlas", "query", home), ("atlas", "report", home, "-o", tmp_path / "r.html")):
        assert "001-r1-units.npy: cannot be read" in commands.refused(*told)
    whole = file.read_bytes()
    for content in (b"no array", whole.replace(b"}", b" ", 1), whole[:90], b""):
        file.write_bytes(content)
        assert "make the atlas again" in commands.refused("atlas", "query", home)
    file.unlink()
    assert "make the atlas again" in commands.refused("atlas", "query", home)


def test_only_the_layers_that_are_asked_for_are_read(finished, tmp_path):
    home = copied(finished, tmp_path)
    asked = "atlas", "query", home, "layer=r2 channel=1", "--json"
    expected = run(*asked).stdout
    for file in home.glob("*-r[13]-units.npy"):
        file.unlink()
    assert run(*asked).stdout == expected
    assert expected.count('"layer": "r2"') == 2


@pytest.mark.parametrize("size", [(3, 4), (200, 200)])
def test_pictures_of_another_atlas_are_told(finished, tmp_path, size):
    home, picture = copied(finished, tmp_path), io.BytesIO()
    Image.new("RGB", size).save(picture, "WEBP")
    file = home / "001-r1-pictures.zip"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, picture.getvalue())
    assert file.name in commands.refused("atlas", "report", home, "-o", tmp_path / "r.html")


def test_a_picture_that_unpacks_to_far_too_much_is_told(finished, tmp_path):
    home = copied(finished, tmp_path)
    file = home / "001-r1-pictures.zip"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(1 << 22))
    assert file.name in commands.refused("atlas", "report", home, "-o", tmp_path / "r.html")


@pytest.mark.parametrize("made_by", [FORMAT, FORMAT - 1])
def test_an_atlas_takes_the_place_of_an_old_one_whole(finished, tmp_path, made_by):
    home = copied(finished, tmp_path)
    stranger = home / "notes.txt"
    stranger.write_text("mine")
    for old in ("values.npz", "values.h5"):
        (home / f"001-r1-{old}").write_bytes(b"what another run left")
    with_index(home, lambda index: index.update(format=made_by))
    model, images = finished / "net.onnx", finished / "in"
    layer = json.loads((home / "atlas.json").read_text())["layers"][-1]["layer"]
    run("atlas", "build", model, images, "-o", home, "--top", 1, "--layer", layer, *PREPARED)
    (stem,) = [each["files"] for each in json.loads((home / "atlas.json").read_text())["layers"]]
    kept = {f"{stem}-{what}" for what in ("patches.webp", "projections.webp", "pictures.zip", "units.npy")}
    assert {file.name for file in home.iterdir()} == {*kept, "atlas.json", "notes.txt"}


def test_maps_whose_images_are_equally_strong_are_counted(tmp_path):
    """Each filter is one channel of the image; two of the pictures are alike in the first."""
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["scores"]),
    ]
    value = helper.make_tensor_value_info
    image = value("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    graph = helper.make_graph(nodes, "net", [image], [value("scores", TensorProto.FLOAT, None)], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "n.onnx",
    )
    colours = [(200, 50, 0), (200, 60, 0), (90, 70, 0)]
    folder = saved(
        tmp_path / "in", [(f"{k}.png", np.full((8, 8, 3), c, np.uint8)) for k, c in enumerate(colours)]
    )
    options = "--fit", "none", "--scale", 1, "--mean", 0, "--std", 1, "--json", "--size", 8
    asked = "atlas", "build", tmp_path / "n.onnx", folder, *options
    result = run(*asked, "-o", tmp_path / "two", "--top", 2)
    assert json.loads(result.stdout)["tied"] == 1  # of green the second is weaker, blue is dark
    assert "in 1 of 3 feature maps all 2 images are equally strong" in result.stderr
    for more in (("--top", 3), ("--top", 1)):
        result = run(*asked, "-o", tmp_path / "more", *more)
        assert json.loads(result.stdout)["tied"] == 0
        assert "equally strong" not in result.stderr


def test_the_summary_counts_what_was_read(finished, tmp_path):
    images = saved(tmp_path / "in", pictures(3))
    (images / "broken.png").write_bytes(b"no picture")
    arguments = [each for each in PREPARED if each != "--json"]
    said = run(
        "atlas", "build", finished / "net.onnx", images, "-o", tmp_path / "out", *arguments, code=1
    ).stdout
    assert "the strongest 3 of 3 images" in said


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(40)])
def test_a_damaged_state_is_one_line(finished, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "atlas.partial.npz").write_bytes(content)
    command = ("atlas", "build", finished / "net.onnx", finished / "in", "-o", tmp_path / "out", *PREPARED)
    assert "delete it to begin again" in commands.refused(*command)


def test_a_state_that_would_fill_the_memory_is_refused(finished, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "atlas.partial.npz"
    np.savez_compressed(path, meta=np.zeros(1 << 20, np.uint8))
    monkeypatch.setattr("onnx_deconv.atlas.resume._LARGEST", 1 << 20)
    command = ("atlas", "build", finished / "net.onnx", finished / "in", "-o", tmp_path / "out", *PREPARED)
    assert "memory" in commands.refused(*command)


# Archives


def encrypted(path, name):
    """Set the bit that says that a member is encrypted, in both of its headers."""
    content = bytearray(path.read_bytes())
    for signature, flags, start in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = content.find(signature)
        while content[at + start : at + start + len(name)] != name.encode():
            at = content.find(signature, at + 1)
        content[at + flags] |= 1
    path.write_bytes(content)


def read(images):
    """Return the names of the pictures that can be read, and what is said of the others."""
    fine, failed = [], {}
    for name, load_picture in images:
        try:
            load_picture()
            fine.append(name)
        except InputError as error:
            failed[name] = str(error)
    return fine, failed


PNG = as_png(np.zeros((4, 4, 3), np.uint8))


def test_an_encrypted_and_a_damaged_member_of_a_zip_are_named_and_left_out(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.writestr(name, PNG)
    content = path.read_bytes()
    at = content.find(b"b.png") + 40
    path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    encrypted(path, "a.png")
    fine, failed = read(images_of(path))
    assert fine == ["c.png"]
    assert all(name in failed[name] for name in ("a.png", "b.png"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_unpacks_to_far_too_much_is_named_and_left_out(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("onnx_deconv.atlas.archives.MOST_BYTES", 1 << 16)
    path, large = tmp_path / f"in.{kind}", bytes(1 << 20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", large)
            archive.writestr("b.png", PNG)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in (("a.png", large), ("b.png", PNG)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    fine, failed = read(images_of(path))
    assert fine == ["b.png"]
    assert "MB" in failed["a.png"]


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_a_tar_that_is_cut_short_gives_what_comes_before(tmp_path, kind):
    path = tmp_path / "in.tar"
    rng = np.random.default_rng(0)
    with tarfile.open(path, f"w:{kind}") as archive:
        for name in ("a.png", "b.png"):
            content = PNG if name == "a.png" else rng.bytes(1 << 20)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(path.read_bytes()[: 1 << 19])
    fine, failed = read(images_of(path))
    assert fine == ["a.png"]
    (reason,) = failed.values()
    assert "damaged" in reason


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path):
    member = tarfile.TarInfo("a.png")
    member.type, member.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "in.tar").write_bytes(member.tobuf() + bytes(1 << 16))
    with pytest.raises(InputError):
        read(images_of(tmp_path / "in.tar"))
