"""Many photographs explained by one command: what is kept, what is said, and how it goes on."""

import csv
import json
import os
import shutil
import sys
from collections import namedtuple
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import onnx
import pytest
from commands import picture, pixels, refused, run
from PIL import Image
from small_networks import labelled, network

from onnx_deconv.cli import outcomes
from onnx_deconv.cli.atlas.progress import Progress
from onnx_deconv.cli.batch import JOURNAL
from onnx_deconv.cli.console import Console
from onnx_deconv.errors import InputError
from onnx_deconv.runtime import limit_threads, session, workers

NAMES = ["a.png", "b.png", "c & <i>.png"]


@pytest.fixture
def model(tmp_path):
    onnx.save(labelled(network(size="32,32")), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def photos(tmp_path):
    for name in NAMES:
        picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def rows(out):
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """What a page shows: its links, pictures, elements and text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.tags, self.text = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.append(tag)
        self.links += [unquote(told["href"])] if tag == "a" else []
        self.pictures += [(unquote(told["src"]), told["alt"])] if tag == "img" else []

    def handle_data(self, data):
        self.text += data


def names_of(samples):
    return [shown.name for sample in samples for shown in sample.shown.values()]


def explained_in(monkeypatch):
    """Count the photographs that really are explained."""
    counted, real = [], outcomes.explain_samples

    def counting(explainer, samples, target):
        counted.extend(names_of(samples))
        return real(explainer, samples, target)

    monkeypatch.setattr(outcomes, "explain_samples", counting)
    return counted


# The table and the page


def test_several_photographs_have_a_table_and_a_page(model, photos, out):
    code, stdout, _ = run("explain", model, photos, "--top", 2, "-o", out)
    assert (code, str(out / "index.html") in stdout) == (0, True)
    table = rows(out)
    assert [Path(row["image"]).name for row in table] == [name for name in NAMES for _ in range(2)]
    for row in table:
        record = json.loads((out / row["picture"].replace("-side-by-side.png", ".json")).read_text())
        assert float(row["score"]) == pytest.approx(record["score"])
        assert row["standing"] == f"{row['rank']} of 5"
        assert row["label"] == record["label"]
        assert not row["error"]
    page = Page(out / "index.html")
    assert page.links == [row["picture"] for row in table]
    for (thumbnail, alternative), row in zip(page.pictures, table, strict=True):
        assert max(pixels(out / thumbnail).shape[:2]) <= 160
        assert row["label"] in alternative
    assert "i" not in page.tags
    assert "c & <i>.png" in page.text


def test_one_photograph_has_neither(model, photos, out):
    run("explain", model, photos / "a.png", "-o", out)
    assert not {"summary.csv", "index.html", JOURNAL, "thumbnails"} & {f.name for f in out.iterdir()}


def test_photographs_that_fail_stand_in_the_table(model, photos, out):
    (photos / "b.png").write_bytes(b"no picture")
    code, _, _ = run("explain", model, photos, "-o", out)
    assert code == 1
    a, b, c = rows(out)
    assert (a["error"], c["error"]) == ("", "")
    assert "not a picture" in b["error"]
    assert "not a picture" in Page(out / "index.html").text


def test_no_cell_is_a_formula(photos, out, tmp_path):
    proto = network(size="32,32")
    proto.metadata_props.add(key="labels", value=json.dumps(["=1+1", "+1", "-1", "@x", "=2"]))
    proto.metadata_props.add(key="preset", value="imagenet")
    onnx.save(proto, tmp_path / "net.onnx")
    run("explain", tmp_path / "net.onnx", photos, "-o", out)
    assert {row["label"][0] for row in rows(out)} == {"'"}


# Going on


def test_the_same_command_goes_on(model, photos, out, monkeypatch):
    real = outcomes.explain_samples

    def interrupted(explainer, samples, target):
        if names_of(samples) == ["b.png"]:
            raise KeyboardInterrupt
        return real(explainer, samples, target)

    monkeypatch.setattr(outcomes, "explain_samples", interrupted)
    assert run("explain", model, photos, "-o", out)[0] == 130
    assert [Path(row["image"]).name for row in rows(out)] == ["a.png"]
    monkeypatch.setattr(outcomes, "explain_samples", real)
    counted = explained_in(monkeypatch)
    code, stdout, _ = run("explain", model, photos, "-o", out)
    assert (code, counted) == (0, NAMES[1:])
    assert "1 photograph explained already" in stdout
    assert [Path(row["image"]).name for row in rows(out)] == NAMES
    whole = rows(out)
    shutil.rmtree(out)
    run("explain", model, photos, "-o", out)
    assert rows(out) == whole


def test_what_is_done_is_reported_to_programs_again(model, photos, out):
    first = run("explain", model, photos, "-o", out, "--json")[1]
    again = run("explain", model, photos, "-o", out, "--json")[1]
    assert [json.loads(line) for line in again.splitlines()] == [
        json.loads(line) for line in first.splitlines()
    ]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda **_: None, []),
        (lambda photos, **_: picture(photos / "b.png", 41), ["b.png"]),
        (lambda out, **_: next(out.glob("a-*.npy")).unlink(), ["a.png"]),
        (lambda out, **_: next((out / "thumbnails").glob("b-*")).unlink(), ["b.png"]),
        (lambda photos, **_: picture(photos / "d.png"), ["d.png"]),
        (lambda out, **_: (out / JOURNAL).unlink(), NAMES),
        (lambda out, **_: os.truncate(out / JOURNAL, (out / JOURNAL).stat().st_size - 9), NAMES[2:]),
    ],
    ids=["nothing", "a photograph", "a result", "a thumbnail", "a new one", "the journal", "cut off"],
)
def test_only_what_changed_is_explained_again(model, photos, out, monkeypatch, change, left):
    run("explain", model, photos, "-o", out)
    counted = explained_in(monkeypatch)
    change(photos=photos, out=out)
    assert run("explain", model, photos, "-o", out)[0] == 0
    assert counted == left
    assert len(rows(out)) == len(list(photos.iterdir()))
    counted.clear()
    run("explain", model, photos, "-o", out)
    assert counted == []


@pytest.mark.parametrize(
    "more",
    [
        ("--rules", "gradient"),
        ("--target", "dog"),
        ("--view", "heat"),
        ("--max-size", 40),
        ("--preset", "unit"),
    ],
)
def test_other_options_begin_anew(model, photos, out, monkeypatch, more):
    run("explain", model, photos, "-o", out)
    counted = explained_in(monkeypatch)
    run("explain", model, photos, "-o", out, *more)
    assert counted == NAMES


def test_another_model_begins_anew(model, photos, out, monkeypatch):
    run("explain", model, photos, "-o", out)
    onnx.save(labelled(network(size="32,32", seed=1)), model)
    counted = explained_in(monkeypatch)
    run("explain", model, photos, "-o", out)
    assert counted == NAMES


# The disk


@pytest.fixture
def many(photos):
    for k in range(12):
        picture(photos / f"{k}.png")
    return photos


def test_what_it_takes_is_said(model, many, out):
    _, stdout, _ = run("explain", model, many, "-o", out)
    (line,) = (line for line in stdout.splitlines() if "more will take about" in line)
    assert line.startswith("14 photographs more")
    first = [f for f in out.iterdir() if f.name.startswith("0-")]
    assert f"{14 * sum(f.stat().st_size for f in first) / 1000:.0f} kB" in line or "MB" in line


def test_a_cluster_is_judged_by_what_follows_the_first(model, many, out, monkeypatch):
    """Ray takes 100 seconds to start, then a photograph comes every 4 seconds."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def together(_console, job, names, groups, _address):
        explaining = outcomes.Explaining(job, names)
        for number, group in enumerate(groups):
            clock.now += 4.0 if number else 100.0
            yield explaining.explain(group)

    monkeypatch.setattr("onnx_deconv.cli.explaining.together", together)
    monkeypatch.setattr("onnx_deconv.cli.batch.time", clock)
    monkeypatch.setattr("onnx_deconv.cli.console.os.getloadavg", lambda: (0.0, 0.0, 0.0))
    _, stdout, _ = run("explain", model, many, "-o", out, "--ray", "local")
    said = [line for line in stdout.splitlines() if "more will" in line]
    assert len(said) == 2
    assert said[0].startswith("14 photographs more will take about")
    assert said[1] == "11 photographs more will last about 0:44"  # 3 in 12 seconds
    assert "of memory" not in "".join(said)  # which actors have, and the driver does not know


def test_too_little_room_is_a_mistake_at_the_beginning(model, many, out, monkeypatch):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr("onnx_deconv.files.shutil.disk_usage", lambda _: usage(10, 10, 1000))
    code, _, stderr = run("explain", model, many, "-o", out)
    assert code == 2
    assert "the other 14 take about" in stderr
    assert "choose another folder, fewer --view" in stderr
    assert len(rows(out)) == 1


# Formats


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_pictures_are_written_in_the_format_asked_for(model, photos, out, suffix, kind):
    asked = ("--view", "all", "--format", suffix, "--max-size", 30)
    _, stdout, _ = run("explain", model, photos / "a.png", "-o", out, *asked, "--json")
    files = json.loads(stdout)["files"]
    for view in ("projection", "heat", "overlay", "side-by-side"):
        with Image.open(files[view]) as opened:
            assert opened.format == kind
            assert max(opened.size) == 30
            assert files[view].endswith(f"-{view}.{suffix}")


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_vectors_are_for_sheets(model, photos, out, suffix):
    _, stdout, _ = run("explain", model, photos / "a.png", "-o", out, "--format", suffix, "--json")
    files = json.loads(stdout)["files"]
    assert set(files) == {"side-by-side", "values", "record"}
    assert Path(files["side-by-side"]).read_bytes().startswith({"svg": b"<svg ", "pdf": b"%PDF"}[suffix])
    command = ("explain", model, photos / "a.png", "-o", out, "--format", suffix)
    assert "other views are pixels" in refused(*command, "--view", "heat")
    assert "--max-size counts pixels" in refused(*command, "--max-size", 100)


def test_classes_of_one_photograph_share_their_scale(model, photos, out):
    _, stdout, _ = run("explain", model, photos / "a.png", "--top", 3, "-o", out, "--json")
    records = [
        json.loads(Path(json.loads(line)["files"]["record"]).read_text()) for line in stdout.splitlines()
    ]
    assert len({record["projection"]["scale"] for record in records}) == 1
    assert len({record["saliency"]["scale"] for record in records}) == 1


# Threads


@pytest.fixture
def _no_limit():
    yield
    limit_threads(None)


@pytest.mark.usefixtures("_no_limit")
def test_threads_are_limited(model, photos, out, monkeypatch):
    made, real = [], session.execution_providers.onnxruntime

    class Runtime:
        def __getattr__(self, name):
            return getattr(real(), name)

        def SessionOptions(self):  # noqa: N802
            made.append(real().SessionOptions())
            return made[-1]

    monkeypatch.setattr(session.execution_providers, "onnxruntime", Runtime)
    assert run("explain", model, photos / "a.png", "-o", out, "--threads", 3)[0] == 0
    assert made
    assert {options.intra_op_num_threads for options in made} == {3}
    limit_threads(1)
    assert workers("cpu") == 1
    with pytest.raises(InputError, match="give at least 1"):
        limit_threads(0)
    assert "0 is not in the range" in refused("explain", model, photos / "a.png", "--threads", 0)


@pytest.fixture
def loaded(monkeypatch):
    """Pretend that the machine has two cores, and so many programs that want one."""

    def set_to(load):
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0), raising=False)

    return set_to


@pytest.mark.skipif(sys.platform != "linux", reason="tells memory in other units, or not at all")
def test_how_long_the_rest_lasts_is_said_after_the_first_step(capsys, monkeypatch, loaded):
    loaded(0.5)
    now = iter([100.0, 130.0])  # at the beginning, and after the first step
    monkeypatch.setattr("onnx_deconv.cli.console.time.monotonic", lambda: next(now))
    assert list(Console().progress(["a", "b", "c"], str)) == ["a", "b", "c"]
    said, memory = capsys.readouterr().out.split(", with about ")
    assert said == "2 steps more will last about 1:00"
    resource = pytest.importorskip("resource")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    assert memory.endswith(" MB of memory\n")
    assert float(memory.split()[0]) == pytest.approx(most * 1.024, rel=0.05)


def test_steps_of_several_kinds_are_judged_by_one_of_each(capsys, monkeypatch, loaded):
    loaded(0.5)
    now = iter([100.0, 160.0])  # at the beginning, and after two of six steps
    monkeypatch.setattr("onnx_deconv.cli.console.time.monotonic", lambda: next(now))
    steps = Console().progress("abcdef", str, 2)
    assert [next(steps), next(steps)] == ["a", "b"]
    assert not capsys.readouterr().out
    assert list(steps) == ["c", "d", "e", "f"]
    assert capsys.readouterr().out.startswith("4 steps more will last about 2:00")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(["r1", "r2"], "2 steps more will last about 0:30"), (["r1"], "1 step more will")],
)
def test_verify_says_how_long_the_rest_lasts(model, monkeypatch, loaded, layers, expected):
    loaded(0.0)
    clock = iter(range(0, 3000, 30))  # seconds at the beginning, and after one of each table
    monkeypatch.setattr("onnx_deconv.cli.console.time.monotonic", lambda: next(clock))
    named = [word for layer in layers for word in ("--layer", layer)]
    _, stdout, _ = run("verify", model, *named, "--rules", "guided", "--rules", "gradient")
    (said,) = [line for line in stdout.splitlines() if "more will" in line]
    assert said.startswith(expected)
    assert stdout.splitlines()[-1] == "all checks passed"


def test_what_a_command_says_of_the_rest_itself_is_not_said_again(capsys, monkeypatch, loaded):
    loaded(0.5)
    clock = iter(range(0, 3000, 30))
    monkeypatch.setattr("onnx_deconv.cli.console.time.monotonic", lambda: next(clock))
    console = Console()
    for item in console.progress(["a", "b", "c"], str):
        if item == "a":
            console.say_the_rest(2, "photograph", 30.0)
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("2 photographs more will last about 1:00")


def test_on_a_busy_machine_the_rest_lasts_between_two_times(capsys, loaded):
    loaded(15.0)
    console = Console()
    assert console.slower() == 8.5  # two threads of seventeen on two cores
    assert console.slower(threads=1) == 8
    console.say_the_rest(17, "photograph", 10.0)
    said = capsys.readouterr().out
    assert said.startswith("17 photographs more will last 0:20 to 2:50 (with a load of 15.0)")


def test_one_thread_has_a_core_of_its_own_beside_one_other(loaded):
    loaded(1.0)
    assert Console().slower(threads=1) == 1


def test_how_long_is_left_is_judged_by_the_last_minutes(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr("onnx_deconv.cli.atlas.progress.time.monotonic", lambda: now[0])
    console = Console()
    monkeypatch.setattr(console, "status", said.append)
    progress, done = Progress(console, "images", 2000, first=400), 400
    for rate, seconds in ((1, 400), (2, 300)):  # a core gets free
        for _ in range(seconds):
            now[0], done = now[0] + 1, done + rate
            progress.show(done)
    assert said[0] == "401 of 2000 images, 1.0 per second, 26:39 left"
    assert said[399] == "800 of 2000 images, 1.0 per second, 20:00 left"
    assert said[-1] == "1400 of 2000 images, 2.0 per second, 5:00 left"


def test_what_is_over_soon_is_not_announced(capsys):
    list(Console().progress(["a", "b", "c"], str))
    Console().say_the_rest(0, "photograph", 1e6)
    assert not capsys.readouterr().out


def test_a_command_whose_files_the_disk_cannot_hold_is_refused_before_it_begins(
    model, photos, out, monkeypatch
):
    usage = shutil.disk_usage
    full = usage(model.parent)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full if path == out.parent else usage(path))
    checkpoints = model.parent / "checkpoints"
    checkpoints.mkdir()
    onnx.save(onnx.load(model), checkpoints / "1.onnx")
    for command in (("sheet", model), ("evolution", checkpoints)):
        said = refused(*command, photos, "-o", out, "--preset", "unit")
        assert "0 MB are free: choose another folder" in said
    assert not out.exists()
