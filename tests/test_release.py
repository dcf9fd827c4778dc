"""What is released: the archives' contents, and the page that the package index shows."""

import email
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import onnx_deconv

ROOT = Path(__file__).parents[1]
HOME = "https://example.org/some/project"


@pytest.fixture(scope="module")
def hook():
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative_links(text):
    return [path for path in re.findall(r"\]\(([^)]*)\)", text) if not re.match(r"https?:|#", path)]


def test_links_become_absolute(hook):
    text = "![a [b]](docs/x.png) [c](docs/y.md#z), [d](https://e.org/f) [g](#h) [![i](j.png)](k.md)"
    assert hook.absolute(text, HOME, "v1") == (
        f"![a [b]]({HOME}/raw/v1/docs/x.png) [c]({HOME}/blob/v1/docs/y.md#z), [d](https://e.org/f) [g](#h) "
        f"[![i]({HOME}/raw/v1/j.png)]({HOME}/blob/v1/k.md)"
    )


def heading_anchors(path):
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]*)\)", text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in heading_anchors(target), link


def built(source, out):
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The archives of a copy of the project that knows its address."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    home = tmp_path_factory.mktemp("release")
    source = home / "source"
    kept = shutil.ignore_patterns(".git", "*cache*", "dist", "build", ".hypothesis")
    shutil.copytree(ROOT, source, ignore=kept)
    settings = (source / "pyproject.toml").read_text(encoding="utf-8")
    assert 'home = "' in settings
    settings = re.sub(r'^home = ".*"$', f'home = "{HOME}"', settings, flags=re.MULTILINE)
    (source / "pyproject.toml").write_text(settings, encoding="utf-8")
    return built(source, home / "dist")


@pytest.mark.slow
def test_the_index_gets_links_that_work_there(archives):
    with zipfile.ZipFile(archives[0]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(wheel.read(name))
    assert told["Version"] == onnx_deconv.__version__
    assert told["Description-Content-Type"] == "text/markdown"
    assert f"Source, {HOME}" in told.get_all("Project-URL")
    page = told.get_payload(decode=True).decode()
    assert relative_links(page) == []
    assert f"({HOME}/raw/v{onnx_deconv.__version__}/docs/demo.png)" in page


@pytest.mark.slow
def test_archives_hold_what_a_user_needs(archives):
    wheel, sdist = archives
    with zipfile.ZipFile(wheel) as opened:
        files = set(opened.namelist())
    assert {name.partition("/")[0] for name in files} == {
        "onnx_deconv",
        f"onnx_deconv-{onnx_deconv.__version__}.dist-info",
    }
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "onnx_deconv").rglob("*.py")}
    models = {f"onnx_deconv/models/{name}" for name in ("demo.onnx", "chelsea.png", "README.md")}
    assert modules | models | {"onnx_deconv/py.typed", "onnx_deconv/atlas/report.html"} <= files
    with tarfile.open(sdist) as opened:
        sources = {name.partition("/")[2] for name in opened.getnames()}
    needed = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "docs/python.md",
        "hatch_build.py",
        "tests/test_release.py",
    }
    assert needed <= sources
    assert not any(name.startswith((".ci", ".pre-commit")) for name in sources)
