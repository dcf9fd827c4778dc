"""The page that explores a model: what it is told is what the library says, and it works in a browser."""

import base64
import io
import json
import re
import shlex
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import onnx
import pytest
from browsers import browser
from click.testing import CliRunner
from PIL import Image
from servers import answered, ask, serving

from onnx_deconv import Explainer
from onnx_deconv.cli import main
from onnx_deconv.imaging import preprocess_for
from onnx_deconv.receptive import receptive_field

for name in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(name, reason=f"{name}, of the extra 'explore', is not installed")

from onnx_deconv.serving.application import gated  # noqa: E402 - after the skip
from onnx_deconv.serving.exploration import Exploration  # noqa: E402
from onnx_deconv.serving.explore_routes import HEADERS, ExploreRoutes  # noqa: E402
from onnx_deconv.serving.limits import Address, Limits  # noqa: E402
from onnx_deconv.serving.metrics import Metrics  # noqa: E402

MODELS = Path(__file__).parents[1] / "models"
DEMO, CHELSEA = MODELS / "demo.onnx", MODELS / "chelsea.png"


@pytest.fixture(scope="module")
def server():
    with serving("explore", DEMO, CHELSEA, "--no-browser", "--max-body", 1) as found:
        yield found


@pytest.fixture(scope="module")
def app():
    """What the server answers with, in this process."""
    explainer = Explainer(DEMO)
    preprocess = preprocess_for(explainer.model)[0]
    exploration = Exploration(lambda method: Explainer(explainer.model, method), preprocess, [CHELSEA])
    routes = ExploreRoutes(exploration, Limits(), lambda *_: "the command").all()
    return gated(routes, Limits(), Address(), Metrics(), HEADERS)


def test_the_page_gets_what_it_asks_for(app):
    for path in ("/", "/page.js", "/page.css", "/api/seen.png?photograph=file0"):
        assert answered(app, "GET", path)[0] == 200
    told = {p: json.loads(answered(app, "GET", f"/api/{p}?photograph=file0&layer=relu1")[1]) for p in PATHS}
    assert told["photographs"] == [{"id": "file0", "name": "chelsea.png"}]
    assert "relu1" in [one["layer"] for one in told["model"]["layers"]]
    assert told["classes"][0]["label"] == "tabby"
    assert told["maps"]["count"] == 32
    assert told["explanation"]["name"].startswith("relu1 channel")
    taken = json.loads(answered(app, "POST", "/api/photographs?name=x", CHELSEA.read_bytes())[1])["id"]
    classes = json.loads(answered(app, "GET", f"/api/classes?photograph={taken}")[1])
    assert classes == told["classes"]


PATHS = ("model", "photographs", "classes", "maps", "explanation")


def get(port, path, **query):
    status, _, body = ask(port, "GET", f"/api/{path}?{urlencode(query)}")
    assert status == 200, body
    return body


def told(port, path, **query):
    return json.loads(get(port, path, **query))


def values(port, **query):
    return np.load(io.BytesIO(get(port, "explanation.npy", **query)))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"target": "lion", "method": "guided"},
        {"target": "tabby - lion", "method": "gradient"},
        {"layer": "relu2_1", "target": "7"},
        {"layer": "relu2_1", "target": "7", "position": "4,9", "method": "guided*grad-cam"},
    ],
    ids=["top", "class", "classes", "map", "unit"],
)
@pytest.mark.slow
def test_the_command_line_makes_the_same(server, asked, tmp_path):
    assert same_by_command(server[1], tmp_path, photograph="file0", **asked)


def same_by_command(port, tmp_path, **query):
    """Whether the command line that the page shows makes the numbers that it shows."""
    program, *words = shlex.split(told(port, "explanation", **query)["command"])
    assert program == "onnx-deconv"
    result = CliRunner().invoke(main, [*words, "-o", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    written = np.load(json.loads(result.stdout)["files"]["values"])
    return np.abs(written - values(port, **query)).max() <= 1e-5 * np.abs(written).max()


@pytest.mark.slow
def test_the_command_line_has_the_options_that_were_given(tmp_path):
    labels = tmp_path / "labels of mine.txt"
    labels.write_text("".join(f"class no. {k}\n" for k in range(100)), encoding="utf-8")
    options = ["--size", "80x96", "--fit", "stretch", "--mean", "0.4,0.5,0.6", "--labels", labels]
    options += ["--input-shape", "image:1,3,80,96", "--providers", "cpu"]
    with serving("explore", DEMO, CHELSEA, "--no-browser", *options) as (_, port, _):
        assert same_by_command(port, tmp_path / "out", photograph="file0", target="class no. 7")
        assert values(port, photograph="file0").shape == (3, 80, 96)


@pytest.mark.slow
def test_occlusion_is_what_the_command_says(server, tmp_path):
    _, port, _ = server
    query = {"photograph": "file0", "target": "lion", "method": "occlusion"}
    found = told(port, "explanation", **query)
    result = CliRunner().invoke(main, [*shlex.split(found["command"])[1:], "-o", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert np.allclose(np.load(record["files"]["scores"]), values(port, **query), atol=1e-4)
    assert f"{record['probability']:.3g}" in found["caption"]
    status, _, body = ask(port, "GET", f"/api/explanation?{urlencode(query | {'layer': 'conv1'})}")
    assert status == 400
    assert "class" in json.loads(body)["error"]


@pytest.mark.slow
def test_pictures_are_files(server):
    _, port, _ = server
    query = urlencode({"photograph": "file0", "target": "lion", "method": "guided", "view": "heat"})
    _, headers, body = ask(port, "GET", f"/api/explanation.png?{query}")
    assert headers["content-disposition"] == 'attachment; filename="explanation-heat.png"'
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.size == tuple(reversed(told(port, "explanation", photograph="file0")["size"]))
    assert ask(port, "GET", f"/api/explanation.png?{query}x")[0] == 400


@pytest.mark.slow
def test_browsers_give_the_token_as_a_password():
    with serving("explore", DEMO, "--no-browser", ONNX_DECONV_TOKEN="secret") as (_, port, _):
        assert "Basic" in ask(port, "GET", "/")[1]["www-authenticate"]
        for password, status in (("secret", 200), ("Secret", 401), ("", 401)):
            shown = base64.b64encode(f"me:{password}".encode()).decode()
            assert ask(port, "GET", "/", headers={"Authorization": f"Basic {shown}"})[0] == status
        assert ask(port, "GET", "/", headers={"Authorization": "Basic ?"})[0] == 401


@pytest.mark.slow
def test_a_unit_is_shown_with_its_receptive_field(server):
    _, port, _ = server
    explainer = Explainer(DEMO, "deconvnet")
    found = told(port, "explanation", photograph="file0", layer="relu2_1", target=7, position="4,9")
    field = receptive_field(explainer.model, "relu2_1", size=found["size"])
    assert tuple(found["field"]) == field.box((4, 9))
    y0, x0, y1, x1 = found["field"]
    outside = values(port, photograph="file0", layer="relu2_1", target=7, position="4,9")
    assert outside.any()
    outside[:, y0:y1, x0:x1] = 0
    assert not outside.any()


@pytest.mark.slow
def test_maps_come_strongest_first(server):
    _, port, _ = server
    found = told(port, "maps", photograph="file0", layer="conv2")
    explainer = Explainer(DEMO)
    assert found["layer"] == explainer.model.layer("conv2")
    strengths = [one["strength"] for one in found["maps"]]
    assert strengths == sorted(strengths, reverse=True)
    assert sorted(one["channel"] for one in found["maps"]) == list(range(found["count"]))
    best = found["maps"][0]
    unit = explainer.explain(CHELSEA, best["channel"], layer="conv2", position=best["position"])
    assert unit.score == pytest.approx(best["strength"], rel=1e-4)


@pytest.mark.slow
def test_photographs_are_taken_and_limited(server):
    _, port, _ = server
    taken = json.loads(ask(port, "POST", "/api/photographs?name=a%3Cb%3E.png", CHELSEA.read_bytes())[2])
    assert taken["name"] == "a<b>.png"
    assert np.array_equal(values(port, photograph=taken["id"]), values(port, photograph="file0"))
    assert ask(port, "POST", "/api/photographs", b"GIF89a")[0] == 400
    assert ask(port, "POST", "/api/photographs", bytes(2 << 20))[0] == 413


@pytest.mark.parametrize(
    "query",
    [
        {"photograph": "x"},
        {"photograph": "file0", "method": "x"},
        {"photograph": "file0", "layer": "x"},
        {"photograph": "file0", "target": "x"},
        {"photograph": "file0", "layer": "conv1", "target": "7", "position": "1;2"},
        {"photograph": "file0", "layer": "conv1", "target": "7", "position": "999,0"},
        {},
    ],
)
def test_a_mistake_is_answered_in_one_line(app, query):
    status, body = answered(app, "GET", f"/api/explanation?{urlencode(query)}")
    assert status == 400
    assert "\n" not in json.loads(body)["error"]


@pytest.mark.slow
def test_nothing_but_the_page_runs_in_it(server):
    _, port, _ = server
    for path in ("/", "/page.js", "/page.css"):
        _, headers, body = ask(port, "GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(rb"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", body)
    assert ask(port, "GET", "/", headers={"Host": "attacker.example"})[0] == 403


# In a browser


@contextmanager
def opened(port, address="", **options):
    """Open the page; whatever it logs, and every request that leaves the server, is an error."""
    with browser() as chromium:
        page = chromium.new_page(**options)
        wrong = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        home = f"http://127.0.0.1:{port}/"
        page.on("request", lambda r: None if r.url.startswith((home, "data:")) else wrong.append(r.url))
        page.goto(home + address)
        ready(page)
        yield page
        assert not wrong


def ready(page):
    page.locator("#status", has_text="Ready.").wait_for()


def captions(page):
    return page.locator(".card figcaption strong").all_inner_texts()


@pytest.mark.slow
def test_layers_maps_units_and_classes_are_clicked(server):
    _, port, _ = server
    with opened(port) as page:
        assert captions(page)[0].startswith("tabby")
        page.get_by_label("Search layers").fill("relu relu2_1")
        assert page.locator("#layers button:visible").count() == 1
        page.locator("#layers button:visible").click()
        page.locator("#maps button").nth(63).wait_for()
        strongest = told(port, "maps", photograph="file0", layer="relu2_1")["maps"][0]["channel"]
        page.locator("#maps button").first.click()
        page.locator("#large").wait_for()
        size = page.locator("#large").bounding_box()
        rows, columns = told(port, "maps", photograph="file0", layer="relu2_1")["size"]
        place = {"x": size["width"] * 9.5 / columns, "y": size["height"] * 4.5 / rows}
        page.locator("#large").click(position=place)
        page.locator("figcaption", has_text=f"relu2_1 channel {strongest} at 4,9").wait_for()
        assert page.locator("#field").is_visible()
        page.get_by_role("button", name="lion", exact=False).first.click()
        page.locator("figcaption", has_text="lion").wait_for()
        assert not page.locator("#field").is_visible()
        page.get_by_label("guided", exact=True).check()
        page.locator(".card").nth(1).wait_for()
        address = page.url
        page.go_back()
        page.locator(".card").nth(1).wait_for(state="detached")
    with opened(port, address.partition("/#")[2] and "#" + address.partition("/#")[2]) as page:
        assert page.locator(".card").count() == 2
        assert all(caption.startswith("lion") for caption in captions(page))


@pytest.mark.parametrize("way", ["drop", "paste"])
@pytest.mark.slow
def test_a_photograph_is_dropped_or_pasted(server, tmp_path, way):
    _, port, _ = server
    rng = np.random.default_rng(0)
    name = "<img src=x onerror=alert(1)>.png"
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(file, "PNG")
    with opened(port) as page:
        given = page.evaluate_handle(
            """([bytes, name]) => {
                const held = new DataTransfer();
                held.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
                return held;
            }""",
            [list(file.getvalue()), name],
        )
        if way == "drop":
            page.dispatch_event("#drop", "drop", {"dataTransfer": given})
        else:
            page.evaluate(
                "(held) => dispatchEvent(new ClipboardEvent('paste', { clipboardData: held }))", given
            )
        page.get_by_role("button", name=name).wait_for()
        ready(page)
        assert page.get_by_role("button", name=name).get_attribute("aria-pressed") == "true"
        assert page.locator("img[src=x]").count() == 0
        path = tmp_path / "cat.png"
        shutil.copy(CHELSEA, path)
        page.get_by_label("Choose a photograph").set_input_files(path)
        page.locator("figcaption", has_text="tabby").wait_for()
        ready(page)


@pytest.mark.slow
def test_the_keyboard_is_enough(server):
    _, port, _ = server
    with opened(port) as page:
        page.get_by_label("Search layers").focus()
        for key in ("Tab", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        page.locator("#maps button").first.wait_for()
        chosen = page.locator("#layers [aria-current=true]")
        assert chosen.inner_text() == page.locator("#layers button").nth(1).inner_text()
        page.locator("#maps button").nth(0).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.locator("#unit").wait_for()
        page.get_by_label("Row").fill("3")
        page.get_by_label("Column").fill("5")
        page.keyboard.press("Enter")
        page.locator("figcaption", has_text="at 3,5").wait_for()
        ready(page)


@pytest.mark.parametrize("width", [390, 1400, 3840])
@pytest.mark.slow
def test_it_fits_on_the_screen(server, width):
    _, port, _ = server
    with opened(
        port, "#photograph=file0&layer=relu2_1&target=7", viewport={"width": width, "height": 900}
    ) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('button, input, img')].every((e) => "
            "e.getAttribute('alt') || e.getAttribute('aria-label') || e.labels?.length || e.innerText.trim())"
        )


@pytest.mark.slow
def test_names_in_a_model_are_no_markup(tmp_path):
    model = onnx.load(DEMO)
    evil = "<img src=x onerror=alert(1)>"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name == "relu1":
                    names[k] = evil
    onnx.save(model, tmp_path / "net.onnx")
    with (
        serving("explore", tmp_path / "net.onnx", CHELSEA, "--no-browser") as (_, port, _),
        opened(port) as page,
    ):
        page.get_by_role("button", name=evil).click()
        page.locator("#maps button").first.wait_for()
        ready(page)
        assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.01, 0.05])
def test_a_server_that_is_stopped_as_soon_as_it_says_where_it_is_stops(seconds):
    with serving("explore", DEMO, CHELSEA, "--no-browser") as (process, _, _):
        time.sleep(seconds)
        process.terminate()
        assert process.wait(60) == 0


def test_a_folder_that_is_not_there_is_told_before_the_page_opens(tmp_path):
    missing = tmp_path / "photos"
    result = CliRunner().invoke(main, ["explore", str(DEMO), str(missing), "--no-browser", "--port", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{missing}: no such file or folder of photographs" in result.stderr
