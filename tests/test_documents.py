"""What the pages and notebooks tell is followed to the letter."""

import ast
import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import operator_cases
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle import assert_close, differences, model_of, numbers, plain, reconstruction
from servers import answered

import onnx_deconv
from onnx_deconv import load
from onnx_deconv.evaluation import MEASURES
from onnx_deconv.operators import elementwise, fields, operator, registry, rule_tables, tables
from onnx_deconv.receptive import receptive_field

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "tests" / "plugin"


def blocks(page):
    """The Python blocks of a page, without the indentation of a list."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def run(code, names):
    exec(compile(code, "a block of a page", "exec"), names)


NOTEBOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))


def shown_by(source, names):
    """Run a cell of a notebook, as Jupyter does; return the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "a cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "a cell", "eval"), names)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_pictures(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"__name__": "__main__"}
    shown = [shown_by(source, names) for source in sources]
    pages = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert pages
    assert all("<img" in page for page in pages)


def test_the_page_on_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models", tmp_path, dirs_exist_ok=True)
    (tmp_path / "demo.onnx").rename("model.onnx")
    (tmp_path / "chelsea.png").rename("photo.jpg")
    names = {}
    for block in blocks("python.md"):
        run(block, names)
    assert (tmp_path / "photo-explained.png").is_file()


USUAL = ROOT / "docs" / "examples" / "usual"


@pytest.fixture
def usual(tmp_path, monkeypatch):
    """A folder with a network of 300 classes and four convolutions, and photographs, to work in."""
    rng, names = np.random.default_rng(0), ["x", "a", "b", "c", "d"]
    widths = [3, 8, 8, 20, 300]
    nodes, weights = [], []
    for k in range(4):
        kernel = rng.standard_normal((widths[k + 1], widths[k], 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{k}"))
        nodes.append(helper.make_node("Conv", [names[k], f"w{k}"], [f"conv{k}"], strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"conv{k}"], [names[k + 1]]))
    nodes.append(helper.make_node("GlobalAveragePool", ["d"], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["scores"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])
    y = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 300])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "model.onnx",
    )
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.png", "photos/b.png"):
        shutil.copy(ROOT / "models" / "chelsea.png", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("task", "written"),
    [
        ("overlay", ["overlay.png"]),
        ("compare", ["compare.png"]),
        ("unit", ["unit.png"]),
        ("folder", ["summary.csv", "a-overlay.png", "b-overlay.png"]),
    ],
)
def test_a_usual_task(usual, task, written):
    runpy.run_path(str(USUAL / f"{task}_here.py"))
    assert {path.name for path in usual.iterdir()} == {"model.onnx", "photo.jpg", "photos", *written}
    if task == "folder":
        with (usual / "summary.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert [Path(row[0]).name for row in rows] == ["a.png", "b.png"]
        assert rows[0][1:] == rows[1][1:]


@pytest.mark.usefixtures("usual")
def test_the_usual_service():
    pytest.importorskip("starlette", reason="starlette, which the program is written for, is not installed")
    app = runpy.run_path(str(USUAL / "service_here.py"))["app"]
    status, body = answered(app, "POST", "/explain", Path("photo.jpg").read_bytes())
    assert status == 200
    assert body.startswith(b"\x89PNG")
    assert answered(app, "POST", "/explain?target=999", Path("photo.jpg").read_bytes())[0] == 400
    assert answered(app, "POST", "/explain", b"no photograph")[0] == 400


def test_the_page_tells_how_many_lines_the_usual_tasks_take():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from usual_tasks import LIBRARIES, TASKS, lines  # noqa: PLC0415
    finally:
        sys.path.pop(0)
    page = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    for task, words in TASKS.items():
        (row,) = re.findall(rf"^\| {words} \|(.*)\|$", page, re.MULTILINE)
        for library, cell in zip(LIBRARIES, row.split("|"), strict=True):
            program = USUAL / f"{task}_{library}.py"
            told = re.match(r" (\d+) lines", cell)
            assert (told is not None) == program.exists(), (task, library)
            assert told is None or int(told[1]) == lines(program), (task, library)


def test_the_first_page_lists_every_page():
    docs = ROOT / "docs"
    pages = [*docs.glob("*.md"), *docs.glob("examples/*.ipynb"), *docs.glob("examples/*/*.md")]
    listed = re.findall(
        r"^\* \[[^]]*\]\(([^)]*)\)", (docs / "index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted({p.relative_to(docs).as_posix() for p in pages} - {"index.md"})


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    for name in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(name, reason=f"{name}, which builds the site, is not installed")
    build = [
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-b",
        "html",
        "-d",
        tmp_path / "kept",
        ROOT / "docs",
        tmp_path / "site",
    ]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in set(onnx_deconv.__all__) - {"__version__"}:
        assert f'id="onnx_deconv.{name}"' in told, name
    assert 'id="onnx_deconv.Explainer.explain"' in told
    told = (tmp_path / "site" / "cli.html").read_text(encoding="utf-8")
    for name in ("explain", "atlas-build", "atlas-merge", "verify"):
        assert f'id="onnx-deconv-{name}"' in told
    assert "--rules" in told
    assert "that says which image" in told
    told = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for page in (tmp_path / "site").glob("*.html"):
        assert page.stem in ("genindex", "search", "index") or f'href="{page.name}"' in told, page.name


@pytest.mark.slow
def test_the_tutorial(tmp_path):
    for name in ("torch", "onnxscript"):
        pytest.importorskip(name, reason=f"{name}, with which the tutorial makes a model, is not installed")
    pictures, training, _keras, _jax, python = blocks("tutorial.md")
    # So small a net takes longer on several threads.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, block in (("shapes.py", pictures), ("train.py", training), ("look.py", python)):
        (tmp_path / name).write_text(block, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, name],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cross ")
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for line in re.findall(r"^onnx-deconv (.*)$", page, re.MULTILINE):
        done = command(tmp_path, *line.split())
        assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "pictures" / "summary.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert (
        [Path(row["image"]).stem for row in rows]
        == [row["label"] for row in rows]
        == ["cross", "disc", "square"]
    )


def test_the_papers_that_are_followed_can_be_cited():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert set(re.findall(r"^ *version: (.*)$", text, re.MULTILINE)) == {onnx_deconv.__version__}
    papers = set(re.findall(r"year: (\d+),.*?family-names: (\w+)", text))
    sources = [table.doc for table in rule_tables().values()]
    sources += [measure.source for measure in MEASURES.values()]
    named = re.findall(r"(\w+) (?:et al\.|& [A-Z]\w+|& van der \w+) (\d{4})", " ".join(sources))
    assert len(named) > 10
    assert {(year, author) for author, year in named} <= papers


@pytest.fixture
def extended(monkeypatch):
    """Let entries and tables be added that are gone afterwards."""
    monkeypatch.setattr(registry, "_OPERATORS", dict(registry._OPERATORS))
    monkeypatch.setattr(tables, "_TABLES", dict(tables._TABLES))
    monkeypatch.setattr(tables, "_REGISTERED", set(tables._REGISTERED))


@pytest.mark.usefixtures("extended")
def test_the_page_on_operators():
    derivative, rule, rows = blocks("add-an-operator.md")
    names = vars(elementwise) | {"operator": operator, "fields": fields, "Signals": tables.Signals}
    run(derivative, names)
    run(rule, names)
    before = len(operator_cases.CASES)
    run(rows, vars(operator_cases))
    try:
        added = operator_cases.CASES[before:]
        assert [next(iter(case.proto().graph.node)).op_type for case in added] == ["Atan", "CumSum"]
        for case in added:
            seed = numbers(plain(case.proto(), case.feeds())["y"].shape)
            got = reconstruction(case.proto(), case.feeds(), seed, rules="gradient", inputs=["x"])
            assert_close(got, differences(case.exact(), case.feeds(), seed), 1e-4)
    finally:
        del operator_cases.CASES[before:]


@pytest.mark.usefixtures("extended")
def test_the_page_on_plug_ins():
    table, registered, package = blocks("plug-in.md")
    names = {"model": small_model()}
    run(table, names)
    image = numbers((2, 3, 8, 8))
    (one, other) = names["explainer"](image)
    assert one.reconstruction.shape == other.reconstruction.shape == (3, 8, 8)
    assert names["explainer"].semantics.as_dict()["rules"] == "softened"
    run(registered, names)
    assert rule_tables()["softened"] is names["softened"]
    run(package, {"__name__": "deconv_expand_dims"})
    assert "leaky" in rule_tables()
    assert package.strip() in (PLUGIN / "deconv_expand_dims.py").read_text(encoding="utf-8")
    assert receptive_field(load(with_expanded_axis()), "s", size=(8, 8)).box((0, 1, 1)) == (0, 0, 7, 7)


def small_model():
    body = "c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) g = GlobalAveragePool(r) scores = Flatten(g)"
    return model_of(body, {"x": ("N", 3, 8, 8)}, {"w": numbers((4, 3, 3, 3))}, outputs=["scores"])


def with_expanded_axis():
    """A network whose maps become volumes of one plane by an operator of onnxruntime's own."""
    weights = {"w": numbers((4, 3, 3, 3)), "v": numbers((5, 4, 1, 3, 3))}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("ExpandDims", ["p", "axis"], ["e"], domain="com.microsoft"),
        node("Conv", ["e", "v"], ["d"], pads=[0, 1, 1, 0, 1, 1]),
        node("Relu", ["d"], ["s"]),
        node("GlobalAveragePool", ["s"], ["g"]),
        node("Flatten", ["g"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    constants = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    constants.append(numpy_helper.from_array(np.array(2, np.int32), "axis"))
    graph = helper.make_graph(nodes, "net", [given], [result], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plug-in installed as a user's pip does it, beside this package."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the plug-in, is not installed")
    home = tmp_path_factory.mktemp("plugin")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--no-build-isolation", "--target", str(home / "site"), str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    onnx.save(with_expanded_axis(), home / "model.onnx")
    return home


def command(home, *arguments):
    path = os.pathsep.join(filter(None, [str(home / "site"), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "onnx_deconv", *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_installed_plug_in_is_found(installed):
    listed = command(installed, "ops", "--json").stdout.splitlines()
    entry = next(row for row in map(json.loads, listed) if row["operator"] == "com.microsoft::ExpandDims")
    assert "leaky" in entry["rules"]
    assert command(installed, "inspect", "model.onnx", "--rules", "leaky").returncode == 0
    checked = command(installed, "verify", "model.onnx")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    made = command(installed, "convert", "model.onnx", "--rules", "leaky", "-o", "pair")
    assert made.returncode == 0, made.stderr
    manifest = json.loads((installed / "pair" / "manifest.json").read_text(encoding="utf-8"))
    assert {manifest["rules"][key] for key in ("name", "parent")} == {"leaky", "deconvnet"}


def test_without_it_the_operator_is_named(tmp_path):
    onnx.save(with_expanded_axis(), tmp_path / "model.onnx")
    failed = command(tmp_path, "convert", "model.onnx", "-o", "pair")
    assert failed.returncode == 2
    assert "no rule for com.microsoft::ExpandDims" in failed.stderr
    assert not (tmp_path / "pair").exists()


def test_a_plug_in_that_cannot_be_imported_is_named(tmp_path):
    site = tmp_path / "site"
    (site / "broken-1.0.dist-info").mkdir(parents=True)
    (site / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    entry = "[onnx_deconv.plugins]\nbroken = no_such_module\n"
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_text(entry)
    failed = command(tmp_path, "ops")
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "plug-in 'broken' of broken cannot be loaded" in failed.stderr
