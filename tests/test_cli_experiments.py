"""The commands occlude, evaluate, sheet, invariance, evolution and correspondence: files, words, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import picture, pixels, refused, run
from PIL import Image
from small_networks import labelled, network, random
from small_networks import model as small_model

from onnx_deconv import Explainer
from onnx_deconv.evaluation import evaluate
from onnx_deconv.experiments.occlusion import occlusion
from onnx_deconv.imaging import PRESETS, Photo

SIZE = ("--size", 24)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(labelled(network()), path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for k, name in enumerate(("a.png", "b.png")):
        picture(folder / name, 40 + 3 * k, 50)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def results(*arguments):
    code, stdout, stderr = run(*arguments, "--json")
    assert (code, stderr) == (0, ""), stderr
    return [json.loads(line) for line in stdout.splitlines()]


def test_occlude_writes_the_maps_that_the_library_measures(model, photos, out):
    (record,) = results("occlude", model, photos / "a.png", *SIZE, "--square", 6, "--stride", 4, "-o", out)
    preprocess = PRESETS["imagenet"].replace(size=(24, 24))
    photo = Photo.read(photos / "a.png", preprocess)
    expected = occlusion(Explainer(model), photo.tensor, size=6, stride=4, preprocess=preprocess)
    for what, values in {
        "scores": expected.scores,
        "probabilities": expected.probabilities,
        "predictions": expected.predictions,
        "activations": expected.activations,
    }.items():
        np.testing.assert_allclose(np.load(record["files"][what]), values, rtol=1e-6)
    assert np.load(record["files"]["projection"]).shape == (3, 24, 24)
    assert record["class"] == expected.target
    assert record["least"] == pytest.approx(expected.probabilities.min())
    told = json.loads((out / "a-occlusion.json").read_text())
    np.testing.assert_array_equal(told["boxes"], expected.boxes)
    np.testing.assert_allclose(told["fill"], preprocess.normalise(np.full((1, 1, 3), 128, np.uint8)).ravel())
    assert told["preprocess"]["size"] == [24, 24]
    # Above the max pool a deconvnet is about the photograph: classes alone are explained by something else.
    method = told["method"], told["semantics"]["rules"], told["semantics"]["cam"]
    assert method == ("deconvnet", "deconvnet", "none")
    assert pixels(record["files"]["sheet"]).shape[2] == 3


def test_occlude_refuses_a_disk_that_holds_the_first_photograph_alone(model, photos, out, monkeypatch):
    usage = shutil.disk_usage
    full = usage(model.parent)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full if path == out else usage(path))
    code, _, said = run("occlude", model, photos, "-o", out, "--preset", "unit")
    assert code == 2
    others = len(list(photos.iterdir())) - 1
    assert f"the other {others} take about" in said
    assert "0 MB are free: choose another folder" in said
    assert len(list(out.glob("*-occlusion.json"))) == 1


def test_occlude_tells_what_it_found(model, photos, out):
    code, stdout, stderr = run(
        "occlude", model, photos, *SIZE, "--target", "dog", "--fill", "0,0,1", "-o", out
    )
    assert (code, stderr) == (0, "")
    assert stdout.count(": dog, probability ") == 2
    assert {path.name for path in out.glob("*.png")} == {"a-occlusion.png", "b-occlusion.png"}


def test_a_photograph_that_cannot_be_read_does_not_stop_the_others(model, photos, out):
    (photos / "broken.png").write_bytes(b"nothing")
    code, stdout, stderr = run("occlude", model, photos, *SIZE, "-o", out)
    assert code == 1
    assert stdout.count("lowest with the square") == 2
    assert "broken.png: not a picture" in stderr


@pytest.mark.parametrize(
    ("across", "more", "columns"),
    [
        ("tables", [], 3),
        ("tables", ["--layer", "r2"], 3),
        ("tables", ["--layer", "r2", "--target", "1"], 3),
        ("classes", [], 3),
        ("classes", ["--top", "2"], 2),
        ("classes", ["--target", "ant", "--target", "4", "--target", "bee", "--target", "dog"], 4),
        ("layers", [], 2),
        ("layers", ["--layer", "c1", "--layer", "maps", "--layer", "scores", "--view", "heat"], 3),
    ],
)
def test_a_sheet_has_a_row_per_photograph(model, photos, tmp_path, across, more, columns):
    sheet = tmp_path / "new" / "folder" / "sheet.png"
    (record,) = results(
        "sheet", model, photos, *SIZE, "--across", across, *more, "--height", "50", "-o", sheet.parent
    )
    assert pixels(sheet).shape[1] == 8 + 58 * (columns + 1)
    told = json.loads(sheet.with_suffix(".json").read_text())
    assert told["across"] == across
    assert [len(row) for row in told["rows"].values()] == [columns] * 2
    assert record["rows"] == told["rows"]


@pytest.mark.parametrize("suffix", ["svg", "pdf", "webp"])
def test_a_sheet_in_another_format(model, photos, tmp_path, suffix):
    made = ["sheet", model, photos, *SIZE, "--across", "classes", "-o", tmp_path / "made"]
    code, out, _ = run(*made, "--format", suffix, "--json")
    told = json.loads(out)
    assert (code, told["brightness"]) == (0, "row")
    begins = {"svg": b"<svg ", "pdf": b"%PDF-1.4", "webp": b"RIFF"}[suffix]
    assert Path(told["sheet"]).name == f"sheet.{suffix}"
    assert Path(told["sheet"]).read_bytes().startswith(begins)
    assert "'gif' is not one of 'png', 'jpg', 'webp', 'svg', 'pdf'" in refused(*made, "--format", "gif")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--rules", "guided"], "--across tables compares all rule tables"),
        (["--top", "2"], "--top takes the strongest classes"),
        (["--target", "0", "--target", "1"], "one --target"),
        (["--layer", "c1", "--layer", "r1"], "one --layer"),
        (["--across", "classes", "--layer", "r1"], "leave out --layer"),
        (["--across", "layers", "--target", "1"], "leave out --target"),
        (["--across", "classes", "--target", "cow"], "no class is named 'cow'"),
        (["--across", "layers", "--layer", "r7"], "no layer is named 'r7'"),
    ],
)
def test_a_sheet_of_nothing_sensible_is_refused(model, photos, tmp_path, more, match):
    assert match in refused("sheet", model, photos, *more, "-o", tmp_path / "sheet")


def test_invariance_follows_each_photograph(model, photos, out):
    (record,) = results(
        "invariance", model, photos, *SIZE, "--transform", "shift", "--transform", "rotation", "--steps", 5,
        "--layer", "r2", "--target", "dog", "-o", out,
    )  # fmt: skip
    told = json.loads((out / "invariance.json").read_text())
    shift = told["shift"]
    np.testing.assert_allclose(shift["amounts"], np.linspace(-60, 60, 5) / 224)
    assert np.shape(shift["distances"]["r2"]) == np.shape(shift["scores"]) == (2, 5)
    assert np.allclose(np.array(shift["distances"]["r2"])[:, 2], 0)
    assert shift["targets"] == [3, 3]
    turned = np.array(told["rotation"]["distances"]["r2"])
    assert np.allclose(turned[:, [0, 4]], 0, atol=1e-4)
    assert (turned[:, 1:4] > 0).all()
    assert set(record["largest"]) == {"shift", "rotation"}
    assert (out / "invariance.png").exists()


def test_evolution_follows_the_checkpoints_of_a_folder(photos, tmp_path, out):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for epoch in (1, 2, 10):
        onnx.save(labelled(network(seed=epoch)), folder / f"epoch{epoch}.onnx")
    found = results(
        "evolution", folder, photos, *SIZE, "--layer", "r1", "--layer", "r2", "--maps", 3, "-o", out
    )
    assert [one["layer"] for one in found] == ["r1", "r2"]
    told = json.loads((out / "r2-evolution.json").read_text())
    assert told["checkpoints"] == ["epoch1", "epoch2", "epoch10"]
    assert np.shape(told["activations"]) == (3, 3)
    before = json.loads((out / "r1-evolution.json").read_text())  # the max pool, whose switches tie r2 to it
    for one, method in ((before, "guided"), (told, "deconvnet")):
        assert (one["method"], one["semantics"]["rules"], one["semantics"]["cam"]) == (method, method, "none")
    assert np.load(out / "r2-evolution.npy").shape == (3, 3, 3, 24, 24)
    (again,) = results("evolution", folder, photos, *SIZE, "--target", 5, "-o", out)
    assert (again["layer"], again["channels"]) == ("r2", [5])


def parts(folder, rows):
    path = folder / "parts.csv"
    path.write_text("image,part,x0,y0,x1,y1\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_figures_keep_texts_curves_and_bars(model, photos, tmp_path, suffix):
    epochs = tmp_path / "epochs"
    epochs.mkdir()
    onnx.save(labelled(network(seed=1)), epochs / "epoch1.onnx")
    rows = [f"{name}.png,{part},5,5,30,30" for name in "ab" for part in ("eye", "object")]
    made = {
        "occlude": (model, photos / "a.png", "--stride", 8),
        "invariance": (model, photos, "--steps", 2),
        "evolution": (epochs, photos),
        "correspondence": (model, parts(photos, rows), "--draws", 2),
    }
    written = {}
    for name, words in made.items():
        told, *_ = results(name, *words, *SIZE, "--format", suffix, "-o", tmp_path / name)
        sheet = Path(told["sheet"] if "sheet" in told else told["files"]["sheet"])
        assert sheet.suffix == f".{suffix}"
        written[name] = sheet.read_bytes()
        assert written[name].startswith({"svg": b"<svg ", "pdf": b"%PDF-1.4"}[suffix])
    if suffix == "svg":
        assert all(b"</text>" in each for each in written.values())
        assert b"<polyline" in written["invariance"]
        assert b'fill="#0072b2"' in written["correspondence"]


def test_correspondence_tells_the_papers_table(model, photos, out):
    rows = [
        "a.png,eye,10,10,20,20",
        "b.png,eye,20,15,30,25",
        "a.png,object,5,5,40,40",
        "b.png,object,5,5,45,40",
    ]
    table = parts(photos, rows)
    (record,) = results("correspondence", model, table, *SIZE, "--draws", 4, "-o", out)
    told = json.loads((out / "correspondence.json").read_text())
    assert told["images"] == ["a.png", "b.png"]
    assert told["parts"] == ["eye", "random"]
    assert record["table"] == told["table"]
    assert set(told["table"]) == {"r1", "r2", "scores"}
    assert np.shape(told["boxes"]["random"]) == (4, 2, 4)
    code, stdout, _ = run("correspondence", model, table, *SIZE, "-o", out)
    assert code == 0
    assert (
        len([line for line in stdout.splitlines() if line.startswith(("eye", "random")) and "±" in line]) == 2
    )


def test_correspondence_needs_each_part_in_each_photograph(model, photos, out):
    table = parts(photos, ["a.png,eye,10,10,20,20", "b.png,nose,20,15,30,25"])
    assert "part 'eye' has no box in b.png" in refused("correspondence", model, table, *SIZE, "-o", out)
    table = parts(photos, ["a.png,object,10,10,20,20"])
    assert "two images or more" in refused("correspondence", model, table, *SIZE, "-o", out)


EVALUATE = (*SIZE, "--steps", 2, "--method", "guided", "--method", "guided*grad-cam", "--method", "centre")


def boxes(folder, *lines):
    path = folder / "boxes.csv"
    path.write_text("image,class,x0,y0,x1,y1\n" + "\n".join(lines))
    return path


def test_evaluate_writes_what_the_library_measures(model, photos, out):
    table = boxes(photos, "a.png,dog,0,0,25,20", "b.png,1,10,10,40,40")
    (record,) = results("evaluate", model, photos, *EVALUATE, "--boxes", table, "-o", out)
    preprocess = PRESETS["imagenet"].replace(size=(24, 24))
    expected = evaluate(
        Explainer(model),
        [photos / "a.png", photos / "b.png"],
        ["guided", "guided*grad-cam", "centre"],
        boxes=table,
        preprocess=preprocess,
        steps=2,
    )
    assert record["means"] == expected.as_dict()["means"]
    saved = json.loads((out / "evaluation.json").read_text())
    assert saved["rows"] == [vars(row) for row in expected.rows()]
    assert {row["target"] for row in saved["rows"] if row["photograph"] == "a.png"} == {3}
    assert saved["preprocess"]["size"] == [24, 24]
    page = (out / "evaluation.html").read_text()
    assert page.count("<img") == 3 * 2
    assert "a.png, dog: energy" in page


def test_evaluate_goes_on_and_tells_its_table(model, photos, out):
    assert run("evaluate", model, photos, *EVALUATE, "--measure", "blank", "-o", out)[0] == 0
    journal = (out / "evaluation.jsonl").read_text()
    code, stdout, _ = run("evaluate", model, photos, *EVALUATE, "--measure", "sparsity", "-o", out)
    assert code == 0
    assert (out / "evaluation.jsonl").read_text().startswith(journal)
    assert stdout.splitlines()[0] == str(out / "evaluation.html")
    assert stdout.splitlines()[1].split() == ["guided", "guided*grad-cam", "centre"]
    assert stdout.splitlines()[2].startswith("gini")
    message = refused("evaluate", model, photos, *EVALUATE, "--random-state", 3, "-o", out)
    assert "belongs to an evaluation with other photographs or options" in message


def test_evaluate_passes_over_what_is_no_picture(model, photos, out):
    (photos / "c.png").write_bytes(b"no picture")
    code, stdout, stderr = run("evaluate", model, photos, *EVALUATE, "--measure", "cascade", "-o", out)
    assert code == 1
    assert "c.png: not a picture" in stderr
    assert "weights-3_spearman" in stdout


def test_evaluate_takes_masks(model, photos, tmp_path, out):
    for k, name in enumerate(("a.png", "b.png")):
        picture(tmp_path / "masks" / name, 40 + 3 * k, 50)
    more = ("--measure", "rank", "--masks", tmp_path / "masks", "--worst", 1, "-o", out)
    (record,) = results("evaluate", model, photos, *EVALUATE, *more)
    assert record["means"]["centre"]["rank"]["size"] == 2
    assert "give one of them" in refused(
        "evaluate",
        model,
        photos,
        *SIZE,
        "--masks",
        tmp_path,
        "--boxes",
        boxes(photos, "a.png,1,0,0,9,9"),
        "-o",
        out,
    )
    assert "'lime'" in refused("evaluate", model, photos, *SIZE, "--method", "lime", "-o", out)
    new = tmp_path / "new"
    for wrong in ("grad-cam@nowhere", "guided*cam@logits"):
        told = refused("evaluate", model, photos, *SIZE, "--method", "centre", "--method", wrong, "-o", new)
        assert repr(wrong.partition("@")[2]) in told
    assert "nope.csv" in refused("evaluate", model, photos, *SIZE, "--boxes", "nope.csv", "-o", new)
    assert not new.exists()


@pytest.mark.parametrize(
    "command", ["occlude", "evaluate", "sheet", "invariance", "evolution", "correspondence"]
)
def test_paths_that_lead_nowhere_are_named(model, photos, tmp_path, command):
    absent = tmp_path / "absent"
    second = parts(photos, ["a.png,eye,1,1,9,9"]) if command == "correspondence" else photos
    assert "absent" in refused(command, absent, second)
    if command != "evolution":
        assert "absent" in refused(command, model, absent)


@pytest.mark.parametrize("command", ["evaluate", "invariance", "evolution"])
def test_photographs_in_their_own_sizes_cannot_be_compared(model, photos, tmp_path, command):
    first = tmp_path if command == "evolution" else model
    assert "give a --size" in refused(command, first, photos, "--size", "photo")


def test_grey_photographs_of_a_fixed_batch_are_occluded_too(tmp_path, out):
    body = "c = Conv(x, w) r = Relu(c) f = Flatten(r) y = Gemm<transB=1>(f, v)"
    weights = {"w": random(2, 1, 3, 3), "v": random(4, 2 * 14 * 14)}
    onnx.save(small_model(body, weights, "2,1,16,16"), tmp_path / "grey.onnx")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(noise).save(tmp_path / "grey.png")
    how = ("--preset", "unit", "--kind", "classes", "-o", out)
    (record,) = results("occlude", tmp_path / "grey.onnx", tmp_path / "grey.png", *how)
    assert record["probability"] is None
    assert record["fill"] == [pytest.approx(128 / 255)]
    assert np.load(record["files"]["scores"]).shape == (16, 16)
