"""The example programs that embed an explain graph: each, in its own runtime, finds what the library says.

``ONNX_DECONV_EXAMPLES`` names a folder with the runtimes, as ``tools/examples.sh`` makes it; without it the
examples in Python alone run.
"""

import os
import platform
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
from browsers import browser
from commands import run as command
from differences import close
from PIL import Image
from servers import serving
from small_networks import random
from triton_server import triton_server

from onnx_deconv import Explainer
from onnx_deconv.imaging import heat_map, preprocess_for, read_image, saliency

ROOT = Path(__file__).parents[1]
EXAMPLES, DEMO, CHELSEA = ROOT / "docs/examples/embed", ROOT / "models/demo.onnx", ROOT / "models/chelsea.png"
OPTIONS = ["--form", "explain", "--input-shape", "image:1,3,64,64", "--pictures", "--heat"]
OPTIONS += ["--rules", "guided", "--cam", "grad-cam^3"]
TABBY, OTHER = 30, 7
"""The photograph's strongest class, and one that it does not show."""


def runtimes(*needed):
    """The folder of runtimes, where it has all that is needed."""
    if "ONNX_DECONV_EXAMPLES" not in os.environ:
        pytest.skip("ONNX_DECONV_EXAMPLES names no folder of runtimes: tools/examples.sh makes one")
    home = Path(os.environ["ONNX_DECONV_EXAMPLES"]).absolute()
    for path in needed:
        if not (home / path).exists():
            pytest.skip(f"{home / path} is not there: tools/examples.sh puts it there, where it can be had")
    return home


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def converted(folder, *options):
    code, _, err = command("convert", DEMO, "-o", folder, *OPTIONS, *options)
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="module")
def explainer():
    return Explainer(DEMO, "guided*grad-cam^3", providers="cpu")


@pytest.fixture(scope="module")
def picture(explainer):
    """The photograph as the model sees it, in pixels."""
    photo = read_image(CHELSEA)
    return preprocess_for(explainer.model)[0].geometry(photo.shape[:2]).view(photo)


@pytest.fixture(scope="module")
def expected(explainer, picture):
    """What the library explains of the picture, by class."""
    x = preprocess_for(explainer.model)[0].normalise(picture)[None]
    return {target: explainer(x, target)[0].reconstruction for target in (TABBY, OTHER)}


def drawn(heat, expected):
    """Whether a heat map is that of a reconstruction, but for values at the border between two colours."""
    colours = heat_map(np.linspace(0, 1, 256)[None])[0].astype(int)
    level = np.abs(heat[..., None, :].astype(int) - colours).sum(axis=-1)
    assert not level.min(axis=-1).any(), "the heat map has colours of its own"
    return np.abs(level.argmin(axis=-1) - np.rint(saliency(expected) * 255)).max() <= 1


def explains(start, graph, picture, expected, folder):
    """Whether a program that reads and writes raw files says what the library says."""
    (folder / "picture.rgb").write_bytes(picture.tobytes())
    for target, explained in ((-1, TABBY), (OTHER, OTHER)):
        answer = subprocess.run(
            [*start, graph, folder / "picture.rgb", str(target), folder],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.split()[0] == str(explained)
        found = np.fromfile(folder / "reconstruction.f32", "<f4").reshape(3, 64, 64)
        heat = np.fromfile(folder / "heat.rgb", np.uint8).reshape(64, 64, 3)
        if not (close(found, expected[explained]) and drawn(heat, expected[explained])):
            return False
    return True


@pytest.mark.slow
def test_python(graph, picture, expected, tmp_path):
    start = [sys.executable, EXAMPLES / "explain.py"]
    assert explains(start, graph, picture, expected, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explain.py", "explain.mjs"])
def test_a_model_without_labels(name, explainer, picture, expected, tmp_path):
    stripped = onnx.load(DEMO)
    del stripped.metadata_props[:]
    onnx.save(stripped, tmp_path / "stripped.onnx")
    said = preprocess_for(explainer.model)[0]
    numbers = [f"--{key}={','.join(map(str, getattr(said, key)))}" for key in ("mean", "std")]
    options = [*OPTIONS, "--size", "64", "--scale", said.scale, *numbers]
    code, _, err = command("convert", tmp_path / "stripped.onnx", "-o", tmp_path / "graph", *options)
    assert code == 0, err
    if name == "explain.py":
        start = [sys.executable, EXAMPLES / name]
    else:
        (tmp_path / "node_modules").symlink_to(runtimes("node_modules/onnxruntime-node") / "node_modules")
        start = [program("node"), shutil.copy(EXAMPLES / name, tmp_path)]
    assert explains(start, tmp_path / "graph", picture, expected, tmp_path)


@pytest.mark.slow
def test_node(graph, picture, expected, tmp_path):
    modules = runtimes("node_modules/onnxruntime-node") / "node_modules"
    # A program finds its modules beside itself.
    (tmp_path / "node_modules").symlink_to(modules)
    start = [program("node"), shutil.copy(EXAMPLES / "explain.mjs", tmp_path)]
    assert explains(start, graph, picture, expected, tmp_path)


@pytest.mark.slow
def test_cpp(graph, picture, expected, tmp_path):
    home = runtimes("include/onnxruntime_cxx_api.h", "node_modules/onnxruntime-node")
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    libraries = sorted(home.glob(f"node_modules/onnxruntime-node/bin/*/linux/{machine}/libonnxruntime.so.1"))
    if sys.platform != "linux" or not libraries:
        pytest.skip("onnxruntime-node has no shared library for this machine")
    compiled = tmp_path / "explain"
    call = [program("g++"), "-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", home / "include"]
    call += [EXAMPLES / "explain.cpp", "-o", compiled, libraries[0], f"-Wl,-rpath,{libraries[0].parent}"]
    subprocess.run(call, check=True)
    assert explains([compiled], graph, picture, expected, tmp_path)


@pytest.mark.slow
def test_java(graph, picture, expected, tmp_path):
    """One file is compiled as it is started."""
    jar = runtimes("onnxruntime.jar") / "onnxruntime.jar"
    start = [program("java"), "-cp", jar, EXAMPLES / "Explain.java"]
    assert explains(start, graph, picture, expected, tmp_path)


@pytest.mark.slow
def test_csharp(graph, picture, expected, tmp_path):
    home = runtimes("Microsoft.ML.OnnxRuntime.dll", "node_modules/com.github.asus4.onnxruntime")
    library, native = "Microsoft.ML.OnnxRuntime.dll", "com.github.asus4.onnxruntime/Plugins/Linux/x64"
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the package has no shared library for this machine")
    shutil.copy(home / library, tmp_path)
    compiled = tmp_path / "explain.exe"
    call = [program("mcs"), "-warnaserror", f"-r:{tmp_path / library}", f"-out:{compiled}"]
    subprocess.run([*call, EXAMPLES / "Explain.cs"], check=True)
    start = ["env", f"LD_LIBRARY_PATH={home / 'node_modules' / native}", program("mono"), compiled]
    assert explains(start, graph, picture, expected, tmp_path)


@pytest.mark.slow
def test_rust(graph, picture, expected, tmp_path):
    """The folder has a cargo project that can be built offline: the crate ort, and what it needs."""
    home = runtimes("rust/Cargo.toml")
    (home / "rust/src").mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "explain.rs", home / "rust/src/main.rs")
    start = [
        program("cargo"),
        "run",
        "--quiet",
        "--offline",
        "--manifest-path",
        home / "rust/Cargo.toml",
        "--",
    ]
    assert explains(start, graph, picture, expected, tmp_path)


@pytest.mark.slow
def test_a_client_of_triton(tmp_path):
    """The program asks a real server that speaks Triton's protocol: this package's own."""
    for name in ("tritonclient.http", "starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    explainer = Explainer(DEMO, "auto", providers="cpu")
    image, out = tmp_path / "image.npy", tmp_path / "out.npy"
    x = preprocess_for(explainer.model)[0].apply(read_image(CHELSEA))[0][None]
    np.save(image, x)
    with serving("serve", DEMO) as (_, port, _):
        start = [sys.executable, EXAMPLES / "triton_client.py", f"127.0.0.1:{port}", "demo", image]
        answer = subprocess.run([*start, str(OTHER), out], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == f"[{OTHER}]"
    assert close(np.load(out)[0], explainer(x, OTHER)[0].reconstruction)


@pytest.mark.slow
def test_triton_itself(tmp_path):
    """The server takes the repository, but for what runs the files, and puts requests together."""
    client = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    home, explainer = runtimes("triton"), Explainer(DEMO, providers="cpu")
    code, _, err = command("convert", DEMO, "-o", tmp_path / "repository", "--form", "triton")
    assert code == 0, err
    x = random(8, 3, 64, 64)
    expected = [explainer(x[k : k + 1], k)[0].reconstruction for k in range(8)]
    image, out = tmp_path / "image.npy", tmp_path / "out.npy"
    np.save(image, x[:1])

    def asked(k):
        """Ask as a client of its own, again and again: for one image, then for two."""
        with client.InferenceServerClient(address) as server:
            for images in ([k], [k, (k + 3) % 8], [k], [(k + 1) % 8, k]):
                given = {"image": x[images], "target": np.array(images, np.int64)[:, None]}
                kinds = zip(given, ("FP32", "INT64"), strict=True)
                inputs = [client.InferInput(name, given[name].shape, kind) for name, kind in kinds]
                for each, array in zip(inputs, given.values(), strict=True):
                    each.set_data_from_numpy(array)
                answer = server.infer("demo_explain", inputs)
                assert answer.as_numpy("explained").ravel().tolist() == images
                found = answer.as_numpy("reconstruction")
                assert all(close(one, expected[i]) for one, i in zip(found, images, strict=True))

    with triton_server(home / "triton", tmp_path / "repository", tmp_path / "backends") as address:
        start = [sys.executable, EXAMPLES / "triton_client.py", address, "demo_explain", image, "0", out]
        answer = subprocess.run(start, check=True, capture_output=True, text=True)
        assert answer.stdout.strip() == "[[0]]"
        assert close(np.load(out)[0], expected[0])
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(asked, range(8)))
        with client.InferenceServerClient(address) as server:
            (told,) = server.get_inference_statistics("demo_explain")["model_stats"]
    assert told["inference_count"] == 1 + 1 + 8 * 6  # the first warms up
    assert told["execution_count"] < 1 + 1 + 8 * 4  # requests of several clients ran together


@contextmanager
def served_from_disk(folder):
    """A plain file server, as ``python -m http.server`` is."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


READ = "(canvas) => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"


def canvas(page, name):
    return np.array(page.locator(name).evaluate(READ), np.uint8).reshape(64, 64, 4)[..., :3]


@pytest.mark.slow
def test_browser(picture, expected, tmp_path):
    modules = runtimes("node_modules/onnxruntime-web") / "node_modules"
    home = converted(tmp_path / "page", "--for", "web")
    (home / "node_modules").symlink_to(modules)
    shutil.copy(EXAMPLES / "page.html", home)
    Image.fromarray(picture).save(tmp_path / "fitted.png")
    with served_from_disk(home) as address, browser() as chromium:
        page, wrong = chromium.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address + "page.html")
        page.locator("#answer", has_text="Choose a photograph.").wait_for()
        # No pixel of a picture that fits is changed, so that the library is given the same.
        page.get_by_label("Photograph").set_input_files(tmp_path / "fitted.png")
        page.locator("#answer", has_text="Explained: tabby").wait_for()
        assert np.array_equal(canvas(page, "#picture"), picture)
        assert drawn(canvas(page, "#heat"), expected[TABBY])
        page.get_by_label("Class").select_option(str(OTHER))
        label = page.locator(f"#target option[value='{OTHER}']").inner_text()
        page.locator("#answer", has_text=f"Explained: {label}").wait_for()
        assert drawn(canvas(page, "#heat"), expected[OTHER])
        page.get_by_label("Class").select_option("-1")
        page.get_by_label("Photograph").set_input_files(CHELSEA)
        page.locator("#answer", has_text="Explained: tabby").wait_for()
        assert not np.array_equal(canvas(page, "#picture"), picture)
        assert not wrong
