"""The atlas against brute force: the strongest of all, and each projected on its whole image."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import model_of, numbers
from PIL import Image
from random_networks import Net, nets
from zoo_files import ZOO

from onnx_deconv import Explainer, InputError, ModelError, RuntimeUnavailableError, load
from onnx_deconv.atlas import Atlas, Projector, images_of, merge, scan
from onnx_deconv.atlas.forward_values import ForwardValues
from onnx_deconv.atlas.resume import JOURNAL, load_partial, save_partial
from onnx_deconv.atlas.writer import Writer
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.cli import main
from onnx_deconv.imaging import Preprocess, preprocess_for, read_image
from onnx_deconv.model.heads import convolutions

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
    explainer, source = Explainer(network()), pictures(60)
    layers = convolutions(explainer.model)

    def interrupt(atlas):
        save_partial(tmp_path, atlas)
        if atlas.seen >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(explainer, images_of(source), PREPROCESS, Atlas(3), layers, after_batch=interrupt)
    left = load_partial(tmp_path, {}, 3)
    assert left.seen == 32
    resumed = scan(explainer, images_of(source), PREPROCESS, left, layers)
    assert rows(resumed) == rows(atlas_of(explainer, source))
    with pytest.raises(InputError, match="other options"):
        load_partial(tmp_path, {"model": "another"}, 3)


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


def test_crops_are_smaller_where_units_see_little():
    explainer = Explainer(network(64))
    projector = Projector(explainer, ["r1", "r2"], PREPROCESS.replace(size=(64, 64)))
    assert projector.window("r1") == (3, 3)
    crops = {layer: one.crop((4, 4)) for layer, one in projector._layers.items()}
    assert max(crops["r1"].size) < 8 < max(crops["r2"].size) < 32
    at_the_corner = projector._layers["r2"].crop((0, 0))
    assert at_the_corner.origin == (0, 0) < crops["r2"].origin
    assert max(at_the_corner.size) < max(crops["r2"].size)


def errors_of_crops(explainer, layer, positions):
    """Project units of a network of one channel on crops and on the whole image, 40×36; compare."""
    image = np.random.default_rng(0).random((1, 40, 36), np.float32)
    made = [Projector(explainer, [layer], Preprocess(size=(40, 36)), crops=crops) for crops in (True, False)]
    projectors = [(each._layers[layer], ForwardValues(each._forward_values(image))) for each in made]
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
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


def test_the_command_and_its_files(tmp_path, model):
    folder = saved(tmp_path / "in", pictures(7))
    (folder / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    result = run("atlas", "build", model, folder, "-o", out, "--top", 4, *PREPARED, code=1)
    record = json.loads(result.stdout)
    assert (record["images"], list(record["failed"])) == (8, ["broken.png"])
    assert "broken.png" in result.stderr
    assert not list(out.glob("*partial*"))
    index = json.loads((out / "atlas.json").read_text(encoding="utf-8"))
    assert [layer["layer"] for layer in index["layers"]] == ["r1", "r2", "r3"]
    explainer, preprocess = Explainer(model, "auto"), PREPROCESS
    for layer in index["layers"]:
        values = np.load(out / f"{layer['files']}-values.npy")
        for unit in layer["units"]:
            picture = read_image(folder / unit["image"])
            batch = preprocess.apply(picture)[0][None]
            (whole,) = explainer(batch, unit["channel"], layer=layer["layer"], position=unit["position"])
            assert whole.score == pytest.approx(unit["activation"], rel=1e-4, abs=1e-5)
            if unit["activation"]:
                y0, x0, y1, x1 = unit["window"]
                found = values[unit["channel"], unit["rank"]].astype(np.float32) * unit["scale"]
                expected = whole.reconstruction[:, y0:y1, x0:x1]
                assert np.abs(found - expected).max() <= 1e-3 * max(unit["scale"], 1e-9)
        for kind in ("projections", "patches"):
            assert read_image(out / f"{layer['files']}-{kind}.png").shape[1] > 100


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

    def interrupted(writer, one):
        add(writer, one)
        added.append(one.unit)
        if len(added) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "add", interrupted)
    run("atlas", "build", model, folder, "-o", tmp_path / "one", "--top", 3, *PREPARED, code=130)
    assert not (tmp_path / "one" / "atlas.json").exists()
    with (tmp_path / "one" / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write('{"place": ["r1", 0')  # killed while it wrote
    result = run("atlas", "build", model, folder, "-o", tmp_path / "one", "--top", 3, *PREPARED)
    assert "continuing after 20 projections" in result.stderr
    assert len(set(added)) == len(added) > 20
    run("atlas", "build", model, folder, "-o", tmp_path / "other", "--top", 3, *PREPARED)
    files = sorted(path.name for path in (tmp_path / "other").iterdir())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_merged_folders_are_the_folder_of_one_run(tmp_path, model):
    source = pictures(9)
    everything = saved(tmp_path / "all", source)
    shards = [saved(tmp_path / f"in{k}", source[k::2]) for k in range(2)]
    for k, folder in enumerate(shards):
        run(
            "atlas",
            "build",
            model,
            folder,
            "-o",
            tmp_path / f"part{k}",
            "--layer",
            "conv2",
            "--layer",
            "r3",
            *PREPARED,
        )
    run(
        "atlas",
        "build",
        model,
        everything,
        "-o",
        tmp_path / "one",
        "--layer",
        "conv2",
        "--layer",
        "r3",
        *PREPARED,
    )
    run("atlas", "merge", tmp_path / "part0", tmp_path / "part1", "-o", tmp_path / "merged", "--json")
    merged, one = (json.loads((tmp_path / n / "atlas.json").read_text("utf-8")) for n in ("merged", "one"))
    assert merged == one
    for file in sorted((tmp_path / "one").glob("*.np[yz]")):
        assert (np.load(file) == np.load(tmp_path / "merged" / file.name)).all(), file.name


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
