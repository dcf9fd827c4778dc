"""Evaluations of methods: on small networks whose answers are known, interrupted and gone on with."""

import copy
import importlib.util
import json
from dataclasses import replace
from html import escape
from math import isclose
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import runner
from onnx import TensorProto, numpy_helper
from small_networks import labelled, model, network, random

from onnx_deconv import Explainer, InputError, Labels, ModelError, Semantics, load
from onnx_deconv.attribution.method import CLASS_METHOD
from onnx_deconv.evaluation import (
    MEASURES,
    METHODS,
    Method,
    bench,
    draw_worst,
    evaluate,
    explanations,
    write_report,
)
from onnx_deconv.evaluation.cases import boxes_from, cases_of
from onnx_deconv.evaluation.catalogue import measures_named
from onnx_deconv.evaluation.journal import JOURNAL
from onnx_deconv.evaluation.perturbation import STEPS, mean_image
from onnx_deconv.evaluation.quantus import QuantusModel, explain_func
from onnx_deconv.evaluation.randomisation import depths, learnt_layers, randomised
from onnx_deconv.imaging import Preprocess, read_image, save_png

SIZE = (16, 16)
PREPROCESS = Preprocess(size=SIZE, fit="stretch", scale=1 / 255)


def photographs(folder, count=4, size=SIZE):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    paths = [folder / f"{name}.png" for name in ("ant", "bee", "cat", "dog", "emu")[:count]]
    for path in paths:
        save_png(path, rng.integers(0, 256, (*size, 3), np.uint8))
    return paths


def boxes_file(folder, text):
    path = folder / "boxes.csv"
    path.write_text("image,class,x0,y0,x1,y1\n" + text)
    return path


def run(tmp_path, methods=METHODS, *, proto=None, count=4, **options):
    explainer = Explainer(network() if proto is None else proto, providers="cpu")
    paths = photographs(tmp_path / "photos", count)
    return evaluate(explainer, paths, methods, **({"preprocess": PREPROCESS} | options))


# --- photographs, boxes and masks -----------------------------------------------------------------


def listed(paths, preprocess=PREPROCESS, **where):
    return cases_of(paths, preprocess, lambda _: 7, **where)


def test_a_photograph_without_boxes_has_its_top_class(tmp_path):
    assert [(c.name, c.target, c.inside) for c in listed(photographs(tmp_path, 2))] == [
        ("ant.png", 7, None),
        ("bee.png", 7, None),
    ]


def test_boxes_are_placed_on_the_models_grid(tmp_path):
    paths = photographs(tmp_path, 2, size=(32, 48))
    file = boxes_file(tmp_path, "ant.png,3,0,0,24,8\nphotos/ant.png,dog,24,16,48,32\nant.png,0,0,0,1,1\n")
    labels = Labels(("ant", "bee", "cat", "dog"))
    first, second, other = listed(paths, boxes=boxes_from(file, labels))
    assert [(c.name, c.target) for c in (first, second, other)] == [
        ("ant.png", 3),
        ("ant.png", 0),
        ("bee.png", 7),
    ]
    expected = np.zeros(SIZE, bool)
    expected[:4, :8] = expected[8:, 8:] = True
    np.testing.assert_array_equal(first.inside, expected)
    assert second.inside is None  # of no whole pixel of the model's input
    assert other.inside is None


def test_what_a_crop_cuts_off_is_no_object(tmp_path):
    paths = photographs(tmp_path, 1, size=(16, 64))
    cropped = replace(PREPROCESS, fit="crop", resize=16)
    (seen,) = listed(paths, cropped, boxes={"ant.png": {2: [(0, 20, 16, 28)]}})
    assert seen.inside[:, :4].all()
    assert not seen.inside[:, 4:].any()


def test_masks_are_placed_on_the_models_grid(tmp_path):
    paths = photographs(tmp_path / "photos", 2, size=(32, 32))
    (tmp_path / "masks").mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:, :16] = 255
    save_png(tmp_path / "masks" / "ant.png", mask)
    first, second = listed(paths, masks=tmp_path / "masks")
    expected = np.zeros(SIZE, bool)
    expected[4:, :8] = True
    np.testing.assert_array_equal(first.inside, expected)
    assert second.inside is None


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"boxes": {"cow.png": {1: [(0, 0, 4, 4)]}}}, "none of the boxes belongs to one of the photographs"),
        ({"masks": "."}, "none of the masks in . belongs"),
        ({"masks": "nowhere"}, "nowhere: no masks can be read there"),
        ({"boxes": {}, "masks": "."}, "give one of them"),
    ],
)
def test_mistakes_about_objects_are_one_line(tmp_path, monkeypatch, where, message):
    monkeypatch.chdir(tmp_path)
    paths = photographs(tmp_path / "photos", 1)
    with pytest.raises(InputError, match=message):
        listed(paths, **where)


def test_photographs_have_names_of_their_own_and_masks_their_size(tmp_path):
    one, other = photographs(tmp_path, 1), photographs(tmp_path / "more", 1, size=(8, 8))
    with pytest.raises(InputError, match=r"2 photographs are called ant\.png"):
        listed([*one, *other])
    with pytest.raises(InputError, match="there are no photographs"):
        listed([])
    with pytest.raises(InputError, match="16×16 pixels; make the mask as large"):
        listed(one, masks=tmp_path / "more")


# --- random weights -------------------------------------------------------------------------------


def weights(proto):
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def test_layers_are_listed_from_the_last_one():
    found = [(layer.name, layer.tensors) for layer in learnt_layers(load(network()))]
    assert found == [("maps", ("w3",)), ("c2", ("w2",)), ("c1", ("w1", "b1"))]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_cascade_of_permutations_leaves_the_other_layers(depth):
    given = load(network())
    before, last = weights(network()), {"w3": 1, "w2": 2, "w1": 3, "b1": 3}
    copy = randomised(given, learnt_layers(given)[:depth], how="permute")
    for tensor in copy.proto.graph.initializer:
        found, own = copy.read(tensor), before[tensor.name]
        if last[tensor.name] <= depth:
            assert not np.array_equal(found, own)
            np.testing.assert_array_equal(np.sort(found, None), np.sort(own, None))
        else:
            np.testing.assert_array_equal(found, own)
    deeper = randomised(given, learnt_layers(given), how="permute")
    (w3,) = (t for t in copy.proto.graph.initializer if t.name == "w3")
    (same,) = (t for t in deeper.proto.graph.initializer if t.name == "w3")
    np.testing.assert_array_equal(copy.read(w3), deeper.read(same))
    assert [layer.name for layer in learnt_layers(given)] == ["maps", "c2", "c1"]


def test_redrawn_weights_have_the_same_spread_around_0():
    given = load(model("c = Conv(x, k) g = GlobalAveragePool(c) y = Flatten(g)", {
        "k": 3 + random(64, 3, 5, 5) / 2,
    }, "N,3,H,W"))  # fmt: skip
    copy = randomised(given, learnt_layers(given))
    own, found = (m.read(m.proto.graph.initializer[0]) for m in (given, copy))
    assert np.isin(found, own).mean() < 0.01
    assert found.mean() == pytest.approx(0, abs=0.05)
    assert found.std() == pytest.approx(own.std(), abs=0.05)


def test_weights_are_found_behind_other_nodes_and_in_constants():
    body = """
        w = DequantizeLinear(q, s, z) c = Conv(x, w) r = Relu(c) t = Transpose<perm=[1,0]>(v)
        g = GlobalAveragePool(r) f = Flatten(g) k = Constant<value = float[2,5] {1,2,3,4,5,6,7,8,9,10}>()
        p = MatMul(f, t) y = Gemm(p, k)
    """
    held = {
        "q": np.arange(4 * 3 * 9, dtype=np.int8).reshape(4, 3, 3, 3),
        "s": np.float32(0.1),
        "z": np.int8(2),
        "v": random(2, 4),
    }
    given = load(model(body, held, "N,3,8,8"))
    assert [layer.tensors for layer in learnt_layers(given)] == [("k",), ("v",), ("q",)]
    copy = randomised(given, learnt_layers(given))
    image = random(1, 3, 8, 8)
    before, after = (Explainer(m, providers="cpu").scores(image) for m in (given, copy))
    assert not np.allclose(before, after)


def test_weights_in_other_files_stay_there(tmp_path):
    proto = network()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    given = load(tmp_path / "m.onnx")
    copy = randomised(given, learnt_layers(given)[:1])
    external = {t.name for t in copy.proto.graph.initializer if t.data_location == TensorProto.EXTERNAL}
    assert external == {"w1", "b1", "w2"}
    assert Explainer(copy, providers="cpu").scores(random(1, 3, 9, 9)).shape == (1, 5)


def test_a_layer_that_two_nodes_share_is_one():
    given = load(model("a = Conv(x, k) r = Relu(a) b = Conv(r, k) g = GlobalAveragePool(b) y = Flatten(g)", {
        "k": random(3, 3, 1, 1),
    }, "N,3,H,W"))  # fmt: skip
    assert [layer.name for layer in learnt_layers(given)] == ["b"]


def test_a_model_without_weights_has_nothing_to_randomise():
    given = load(model("r = Relu(x) y = GlobalAveragePool(r)", {}, "N,3,H,W"))
    with pytest.raises(ModelError, match="no weights to randomise"):
        randomised(given, learnt_layers(given))


def test_depths_go_from_one_layer_to_all():
    assert depths(26) == [1, 2, 5, 12, 26]
    assert depths(3) == [1, 2, 3]
    assert depths(1) == [1]
    assert depths(0) == []


# --- what is known of a method --------------------------------------------------------------------


def test_baselines_read_neither_weights_nor_class(tmp_path):
    found = run(
        tmp_path, ["centre", "edges", "random"], measures=["weights", "class", "image", "jpeg", "noise"]
    )
    for method in found.methods:
        assert found.mean(method, "weights_pearson")[:3] == pytest.approx((1, 1, 1))
    assert found.mean("centre", "class_spearman")[:3] == pytest.approx((1, 1, 1))
    assert found.mean("centre", "image_spearman")[:3] == pytest.approx((1, 1, 1))
    assert found.mean("centre", "noise_pearson")[:3] == pytest.approx((1, 1, 1))
    assert found.mean("edges", "image_pearson").mean < 0.5 < found.mean("edges", "jpeg_pearson").mean
    for number in ("class_pearson", "image_spearman", "noise_pearson"):
        assert abs(found.mean("random", number).mean) < 0.2


def test_a_deconvnet_without_pools_draws_one_picture_for_all_photographs(tmp_path):
    proto = model("c = Conv<pads=[1,1,1,1]>(x, k) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g)"
                  " logits = Gemm(f, v)", {"k": random(6, 3, 3, 3), "v": random(6, 5)},
                  "N,3,16,16", "logits")  # fmt: skip
    found = run(tmp_path, ["deconvnet", "gradient"], proto=proto, measures=["image", "class"])
    assert found.mean("deconvnet", "image_pearson").low > 0.999
    assert found.mean("deconvnet", "class_pearson").high < 0.99
    assert found.mean("gradient", "image_pearson").high < 0.9


def test_a_map_that_follows_the_picture_follows_its_shift(tmp_path):
    brightness = Method("brightness", lambda *_: lambda images, _: images.sum(axis=1))
    place = Method(
        "place", lambda *_: lambda images, _: np.broadcast_to(random(*SIZE) ** 2, (len(images), *SIZE))
    )
    found = run(tmp_path, [brightness, place], measures=["shift"])
    assert found.mean("brightness", "shift_pearson")[:3] == pytest.approx((1, 1, 1))
    assert found.mean("place", "shift_spearman").high < 0.5


def test_a_method_may_take_a_layer_a_seed_and_any_semantics(tmp_path):
    methods = [
        "auto",
        explanations("guided", seed="one"),
        explanations("gradient", layer="r1", name="early"),
        explanations(Semantics(unpool="overwrite", cam="grad-cam")),
        "grad-cam@r1",
    ]
    found = run(tmp_path, methods, measures=["blank", "sparsity"])
    named = ["auto", "guided, seed one", "early", "deconvnet*grad-cam, unpool overwrite", "grad-cam@r1"]
    assert found.methods == named
    assert found.mean("early", "blank").mean == 0
    own = run(tmp_path, [explanations(CLASS_METHOD)], measures=["sparsity"])
    assert own.methods == ["guided*grad-cam^3, head class-map"]
    assert own.values(own.methods[0], "gini") == found.values("auto", "gini")


def test_what_is_not_finite_counts_as_blank(tmp_path):
    proto = network()
    weight = proto.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 3), 3e38, np.float32), weight.name))
    found = run(tmp_path, ["gradient"], proto=proto, measures=["blank", "sparsity", "image"])
    assert found.mean("gradient", "blank").mean == 1
    assert found.mean("gradient", "gini") is None
    assert found.mean("gradient", "image_pearson") is None


def test_where_one_map_is_blank_two_maps_have_nothing_in_common(tmp_path):
    first_class = Method("first class", lambda *_: lambda images, targets: (
        images[:, 0] * (np.array(targets) == 0)[:, None, None]))  # fmt: skip
    boxes = {f"{name}.png": {0: [(0, 0, 8, 8)]} for name in ("ant", "bee", "cat", "dog")}
    found = run(tmp_path, [first_class], measures=["class"], boxes=boxes)
    assert found.mean("first class", "class_pearson") == (0, 0, 0, 4)


def test_insertion_and_deletion_of_a_pixel_that_decides(tmp_path):
    """The probability is 1 with the pixel as it is, and 0 with its blurred neighbourhood or a mean."""
    weights = {"k": np.zeros((2, 3, *SIZE), np.float32), "b": np.float32([-150, 0])}
    weights["k"][0, :, 5, 6] = 100
    proto = model("c = Conv(x, k, b) f = Flatten(c) y = Softmax(f)", weights, "N,3,16,16")
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[5, 6] = 255
    save_png(tmp_path / "dot.png", picture)
    first = np.zeros((1, *SIZE), np.float32)
    first[0, 5, 6] = 1
    methods = [Method("first", lambda *_: lambda *_: first), Method("last", lambda *_: lambda *_: 1 - first)]
    found = evaluate(
        Explainer(proto, providers="cpu"),
        [tmp_path / "dot.png"],
        methods,
        preprocess=PREPROCESS,
        measures=["insertion", "deletion"],
    )
    half_a_step = 0.5 / STEPS
    for number in found.numbers:
        soon, late = (found.values(name, number)[0] for name in ("first", "last"))
        if number.startswith("insertion"):
            soon, late = late, soon
        assert (soon, late) == pytest.approx((half_a_step, 1 - half_a_step))


def test_steps_are_those_of_the_curves(tmp_path):
    options = {"measures": ["insertion"], "count": 1}
    coarse, fine, same = (run(tmp_path, ["guided"], steps=n, **options) for n in (1, 256, 256))
    assert list(fine.rows()) == list(same.rows())
    image, _ = PREPROCESS.apply(read_image(tmp_path / "photos" / "ant.png"))
    ends = Explainer(network(), providers="cpu").scores(np.stack([image, mean_image(image, "NCHW")]))
    assert coarse.values("guided", "insertion_mean")[0] == pytest.approx(ends[:, ends[0].argmax()].mean())
    assert fine.made["steps"] == 256


# --- evaluations ----------------------------------------------------------------------------------


def test_batches_of_any_size_give_the_same_numbers(tmp_path):
    one, many = (run(tmp_path, ["guided", "random"], batch=batch) for batch in (1, 3))
    for first, second in zip(one.rows(), many.rows(), strict=True):
        assert (first.method, first.photograph, first.number) == (
            second.method,
            second.photograph,
            second.number,
        )
        assert first.value == pytest.approx(second.value, abs=1e-4)


def test_what_does_not_fit_into_memory_is_made_again(tmp_path, monkeypatch):
    options = {"measures": ["blank", "image", "weights"], "batch": 3}
    expected = run(tmp_path, ["guided"], **options)
    monkeypatch.setattr(bench, "_KEPT", 1)
    assert list(run(tmp_path, ["guided"], **options).rows()) == list(expected.rows())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_fixed_batch_size_and_either_layout_give_the_same_numbers(tmp_path, layout):
    expected = run(tmp_path, ["guided"])
    preprocess = replace(PREPROCESS, layout=layout)
    fixed = run(tmp_path, ["guided"], proto=network(3, layout, size="16,16"), preprocess=preprocess)
    for first, second in zip(expected.rows(), fixed.rows(), strict=True):
        if not first.number.startswith("noise"):  # other pixels get the same noise
            assert first.value == pytest.approx(second.value, abs=1e-4), first


def test_a_cascade_goes_as_deep_as_the_model(tmp_path):
    found = run(tmp_path, ["gradient"], measures=["cascade"], count=2)
    assert list(found.numbers) == [
        f"{name}_{kind}" for name in ("weights", "weights-2", "weights-3") for kind in ("pearson", "spearman")
    ]
    again = run(tmp_path, ["gradient"], measures=["weights"], count=2)
    assert found.values("gradient", "weights_pearson") == again.values("gradient", "weights_pearson")


def test_one_photograph_has_no_other_to_compare_with(tmp_path):
    found = run(tmp_path, ["gradient"], measures=["image", "class"], count=1)
    assert found.mean("gradient", "image_pearson") is None
    assert found.mean("gradient", "class_pearson").size == 1
    assert "–" in found.table()


def test_the_table_and_the_record(tmp_path):
    boxes = {"ant.png": {2: [(0, 0, 8, 8)]}}
    found = run(tmp_path, ["guided", "centre"], boxes=boxes)
    lines = found.table(["energy", "gini"]).splitlines()
    assert lines[0] == "|  | guided | centre |"
    energy = found.values("centre", "energy")[0]
    assert lines[2].startswith("| energy ↑ |")
    assert lines[2].endswith(f"| {energy:.2f} ({energy:.2f} to {energy:.2f}) |")
    assert lines[3].startswith("| gini |")
    record = json.loads(json.dumps(found.as_dict()))
    assert record["made"]["photographs"] == 4
    assert record["means"]["centre"]["energy"] == {"mean": energy, "low": energy, "high": energy, "size": 1}
    assert record["reference"] == "guided"
    assert list(record["differences"]) == ["centre"]
    gap = energy - found.values("guided", "energy")[0]
    assert isclose(record["differences"]["centre"]["energy"]["mean"], gap)
    assert len(record["rows"]) == 2 * 4 * len(found.numbers)
    assert set(record["measures"]) == set(MEASURES)


def test_the_worst_cases_come_first(tmp_path):
    found = run(tmp_path, ["guided"])
    for number, sign in (("noise_pearson", 1), ("deletion_blur", -1)):
        values = dict(zip([c.name for c in found.cases], found.values("guided", number), strict=True))
        worst = [case.name for case in found.worst("guided", number, 3)]
        assert worst == sorted(values, key=lambda name: sign * values[name])[:3]


class StoppedError(Exception):
    pass


def interrupting(after):
    def watch(steps):
        for number, step in enumerate(steps):
            if number == after:
                raise StoppedError
            yield step

    return watch


def test_an_interrupted_run_goes_on(tmp_path):
    options = {"measures": ["blank", "image", "weights", "insertion"], "batch": 2}
    whole = run(tmp_path, ["guided", "random"], **options)
    options["output"] = tmp_path / "results"
    with pytest.raises(StoppedError):
        run(tmp_path, ["guided", "random"], watch=interrupting(5), **options)
    with (tmp_path / "results" / JOURNAL).open("a") as file:
        file.write('{"method": "guided", "mea')  # killed while writing
    left = []
    rest = run(tmp_path, ["guided", "random"], watch=lambda steps: left.extend(steps) or steps, **options)
    assert len(left) == 2 * 4 * 2 - 5
    assert list(rest.rows()) == list(whole.rows())
    again = run(
        tmp_path,
        ["guided", "random"],
        watch=lambda steps: left.clear() or left.extend(steps) or steps,
        **options,
    )
    assert not left
    assert list(again.rows()) == list(whole.rows())


def test_more_methods_and_measures_are_added_to_what_was_measured(tmp_path):
    output = tmp_path / "results"
    run(tmp_path, ["guided"], measures=["blank"], output=output)
    left = []
    found = run(tmp_path, ["gradient", "guided"], measures=["blank", "sparsity"], output=output,
                watch=lambda steps: left.extend(steps) or steps)  # fmt: skip
    assert [(s.method.name, s.measure.name) for s in left] == [
        ("gradient", "blank"), ("gradient", "sparsity"), ("guided", "sparsity"),
    ]  # fmt: skip
    assert found.methods == ["gradient", "guided"]


@pytest.mark.parametrize(
    "other",
    [
        {"count": 3},
        {"random_state": 1},
        {"proto": network(seed=2)},
        {"preprocess": replace(PREPROCESS, scale=1.0)},
    ],
)
def test_a_journal_of_another_evaluation_is_refused(tmp_path, other):
    options = {"measures": ["blank"], "output": tmp_path / "results"}
    run(tmp_path, ["guided"], **options)
    with pytest.raises(InputError, match="belongs to an evaluation with other photographs or options"):
        run(tmp_path, ["guided"], **(options | other))


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ([], {}, "there is no method to evaluate"),
        (["guided", "guided"], {}, "two methods are called 'guided'"),
        (["lime"], {}, "lime"),
        (["guided"], {"preprocess": replace(PREPROCESS, size=None)}, "in their own sizes cannot be compared"),
        (["guided"], {"measures": ["beauty"]}, "there is no measure 'beauty': choose from blank, pointing"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, methods, options, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, methods, **options)


def test_each_measure_says_what_it_is():
    for measure in measures_named([*MEASURES, "cascade"], 3):
        assert measure.about
        assert measure.better in {"higher", "lower", "neither"}
        assert measure.numbers


# --- the page ---------------------------------------------------------------------------------------


def test_the_page_shows_means_differences_and_the_worst_cases_and_no_name_becomes_markup(tmp_path):
    evil = "<script>alert(1)</script>&amp;"
    brightness = Method(evil, lambda *_: lambda images, _: images.sum(axis=1))
    paths = photographs(tmp_path / "photos", 3)
    paths[0] = paths[0].rename(paths[0].with_name("<b>ant$about.png"))
    labels = Labels(tuple(f"<i>{k}" for k in range(5)))
    explainer = Explainer(network(), providers="cpu", labels=labels.names)
    boxes = {path.name: {1: [(0, 0, 8, 8)]} for path in paths[:2]}
    found = evaluate(explainer, paths, ["centre", brightness], boxes=boxes, preprocess=PREPROCESS, steps=3)
    maps = brightness.on(explainer.model, "NCHW")
    worst = draw_worst(found, "energy", evil, maps, PREPROCESS, labels, count=3)
    assert [w.caption.partition(",")[0] for w in worst] == [c.name for c in found.worst(evil, "energy", 3)]
    assert len(worst) == 2  # the third has no box
    write_report(tmp_path / "page.html", found, worst, "energy")
    page = (tmp_path / "page.html").read_text("utf-8")
    for text in ("<script", "<b>", "<i>"):
        assert text not in page
    assert escape(evil) in page
    assert escape("<b>ant$about.png, <i>1: energy") in page
    assert page.count('src="data:image/webp;base64,') == 2
    assert "http" not in page
    mean, gap = found.mean(evil, "energy"), found.difference("energy", evil, "centre")
    for each in (mean, gap):
        assert f"{each.mean:.2f} <small>({each.low:.2f} to {each.high:.2f}; 2)</small>" in page


def test_a_page_needs_no_worst_cases(tmp_path):
    found = run(tmp_path, ["centre"], measures=["blank"])
    write_report(tmp_path / "page.html", found)
    assert "None were asked for." in (tmp_path / "page.html").read_text("utf-8")


# --- Quantus --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_quantus_gets_predictions_and_maps(layout):
    explainer = Explainer(labelled(network("N", layout)), "guided", providers="cpu")
    images = np.abs(random(2, 3, 12, 14))
    given = images if layout == "NCHW" else images.transpose(0, 2, 3, 1)
    quantus = QuantusModel(explainer, softmax=True, layout=layout)
    np.testing.assert_allclose(quantus.predict(images), explainer.scores(given), rtol=1e-5)
    assert QuantusModel(explainer, layout=layout).predict(images).sum() != pytest.approx(2)
    assert quantus.shape_input(images[0], images[0].shape, channel_first=True).shape == (1, 3, 12, 14)
    maps = explain_func(
        quantus.get_model(), inputs=images, targets=np.array([1, 4]), method="guided", device="cpu"
    )
    expected = [
        np.abs(e.reconstruction).max(axis=0 if layout == "NCHW" else 2) for e in explainer(given, [1, 4])
    ]
    for found, own in zip(maps, expected, strict=True):
        np.testing.assert_allclose(found[0], own / own.max(), atol=1e-6)
    again = quantus.explain_func("guided")(None, images, [1, 4])
    np.testing.assert_array_equal(again, maps)


def test_layers_of_a_module_are_given_random_weights_one_by_one_as_mprt_does():
    torch = pytest.importorskip("torch")
    images = np.abs(random(2, 3, 12, 14))
    own = QuantusModel(Explainer(labelled(network("N")), providers="cpu"))
    module = own.module()
    x = torch.from_numpy(images)
    np.testing.assert_allclose(module(x), own.predict(images))

    def explained(by):
        return explain_func(by, images, [1, 4], method="gradient")

    changed = copy.deepcopy(module)
    layers = [each for _, each in changed.named_modules() if hasattr(each, "reset_parameters")]
    learnt = learnt_layers(own.explainer.model)
    assert [name for name, _ in changed.named_children()] == [f"layer/{each.name}" for each in learnt[::-1]]
    torch.manual_seed(5)
    layers[-1].reset_parameters()
    state = int(layers[-1].state)
    alike = randomised(own.explainer.model, learnt[:1], state)
    np.testing.assert_allclose(changed(x), QuantusModel(Explainer(alike, providers="cpu")).predict(images))
    assert not np.allclose(explained(changed), explained(own))
    layers[0].reset_parameters()
    both = randomised(alike, learnt[-1:], int(layers[0].state))
    np.testing.assert_allclose(changed(x), QuantusModel(Explainer(both, providers="cpu")).predict(images))
    changed.load_state_dict(module.state_dict())  # as Quantus does before each layer of its own
    np.testing.assert_array_equal(explained(changed), explained(own))


# --- the tool -------------------------------------------------------------------------------------


def test_the_tool_prints_a_table_for_each_network(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "tools" / "faithfulness.py"
    spec = importlib.util.spec_from_file_location("faithfulness", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / "models").mkdir()
    for name in ("one", "two"):
        onnx.save(network("N", size="16,16"), tmp_path / "models" / f"{name}.onnx")
    monkeypatch.setattr(tool, "NETWORKS", {"One": ("one.onnx", "unit"), "Two": ("two.onnx", "unit")})
    photographs(tmp_path / "ilsvrc-val", 2)
    boxes_file(tmp_path / "ilsvrc-val", "ant.png,1,0,0,8,8\nbee.png,2,3,3,16,16\n")
    options = ["--quick", "--method", "guided:one", "--method", "centre", "--measure", "energy"]
    result = runner().invoke(tool.main, [str(tmp_path), "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    blocks = result.stdout.strip().split("\n\n")
    assert blocks[0] == "One, 2 photographs, 2 classes in them"
    assert blocks[1].splitlines()[0] == "|  | guided, seed one | centre |"
    assert blocks[3] == blocks[1]
    assert (tmp_path / "out" / "two" / JOURNAL).exists()
