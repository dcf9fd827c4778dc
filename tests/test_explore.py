"""The page that explores a model: what it is told is what the library says, and it works in a browser."""

import asyncio
import base64
import io
import json
import re
import shlex
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import onnx
import pytest
from browsers import browser
from commands import runner
from faint import leftovers
from PIL import Image
from servers import answered, ask, serving
from small_networks import model

from onnx_deconv import Explainer
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.cli import main
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import preprocess_for
from onnx_deconv.receptive import receptive_field

for name in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(name, reason=f"{name}, of the extra 'explore', is not installed")

from starlette.exceptions import HTTPException  # noqa: E402 - after the skip
from starlette.requests import Request  # noqa: E402

from onnx_deconv.serving.application import gated  # noqa: E402 - after the skip
from onnx_deconv.serving.exploration import Exploration  # noqa: E402
from onnx_deconv.serving.explore_routes import HEADERS, ExploreRoutes  # noqa: E402
from onnx_deconv.serving.gate import Admission  # noqa: E402
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
    return gated(routes, Admission(Address(), Limits(), Metrics()), HEADERS)


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


def test_maps_that_are_equally_strong_are_counted():
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "b": np.float32([100, 1, 100, 100])}
    weights |= {"low": np.float32(0), "high": np.float32(6)}
    body = "c = Conv(x, w, b) r = Clip(c, low, high) g = GlobalAveragePool(r) y = Flatten(g)"
    explainer = Explainer(model(body, weights, "N,3,8,8"))
    exploration = Exploration(
        lambda method: Explainer(explainer.model, method), preprocess_for(explainer.model)[0], [CHELSEA]
    )
    found = exploration.maps("file0", "r")
    assert [one["channel"] for one in found["maps"]] == [0, 2, 3, 1]
    assert (found["equals"], found["told_apart"]) == (2, "c")
    assert [one["equals"] for one in found["maps"]][:3] == [63, 63, 63]
    assert exploration.maps("file0", "c")["equals"] == 2  # all three have the same weights
    assert exploration.maps("file0", "c")["told_apart"] is None


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
        {"target": "lion", "method": "guided*grad-cam@relu2_1"},
        {"layer": "relu2_1", "target": "7"},
        {"layer": "relu2_1", "target": "7", "position": "4,9", "method": "guided*grad-cam"},
    ],
    ids=["top", "class", "classes", "cam", "map", "unit"],
)
@pytest.mark.slow
def test_the_command_line_makes_the_same(server, asked, tmp_path):
    assert same_by_command(server[1], tmp_path, photograph="file0", **asked)


def same_by_command(port, tmp_path, **query):
    """Whether the command line that the page shows makes the numbers that it shows."""
    program, *words = shlex.split(told(port, "explanation", **query)["command"])
    assert program == "onnx-deconv"
    result = runner().invoke(main, [*words, "-o", str(tmp_path), "--json"])
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
def test_the_page_says_that_little_of_the_signal_is_left(tmp_path):
    onnx.save(leftovers(0.01), tmp_path / "net.onnx")
    with serving("explore", tmp_path / "net.onnx", CHELSEA, "--no-browser", "--preset", "unit") as found:
        _, port, _ = found
        words = "0.0033 % of the signal's energy passes the narrowest rectifier, 'r'"
        query = {"photograph": "file0", "target": "1", "method": "deconvnet"}
        assert told(port, "explanation", **query)["note_follows"]
        assert words in told(port, "note", **query)["note"]
        assert not told(port, "explanation", **query | {"method": "guided"})["note_follows"]
        with opened(port, "#photograph=file0&target=1&methods=deconvnet") as page:
            page.locator(".note", has_text=words).wait_for()


@pytest.mark.slow
def test_occlusion_is_what_the_command_says(server, tmp_path):
    _, port, _ = server
    query = {"photograph": "file0", "target": "lion", "method": "occlusion"}
    found = told(port, "explanation", **query)
    result = runner().invoke(main, [*shlex.split(found["command"])[1:], "-o", str(tmp_path), "--json"])
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
    for suffix, begin in (("svg", b"<svg "), ("pdf", b"%PDF-1.4")):
        for method in ("guided", "occlusion"):
            words = query.replace("guided", method)
            _, headers, body = ask(port, "GET", f"/api/explanation.{suffix}?{words}")
            assert headers["content-disposition"] == f'attachment; filename="explanation.{suffix}"'
            assert body.startswith(begin)


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


UNIT = {"photograph": "file0", "layer": "relu2_1", "target": "7", "position": "4,9"}


@pytest.mark.parametrize("method", ["auto", "gradient", "guided*grad-cam"])
def test_pointing_at_a_unit_shows_what_explaining_it_does(app, method):
    query = urlencode(UNIT | {"method": method})
    status, body = answered(app, "GET", f"/api/glance?{query}")
    assert status == 200, body
    glance = json.loads(body)
    explained = json.loads(answered(app, "GET", f"/api/explanation?{query}")[1])
    assert glance["projection"] == explained["pictures"]["projection"]
    assert glance["field"] == explained["field"]
    assert explained["caption"].endswith(f", {glance['activation']:.3g}")


@pytest.mark.parametrize(
    "change",
    [
        {"layer": None}, {"position": None}, {"target": None}, {"target": "tabby"}, {"target": "999"},
        {"position": "999,0"}, {"position": "1"}, {"layer": "x"}, {"photograph": "x"},
    ],
)  # fmt: skip
def test_pointing_at_nothing_is_answered_in_one_line(app, change):
    query = {name: value for name, value in (UNIT | change).items() if value is not None}
    status, body = answered(app, "GET", f"/api/glance?{urlencode(query)}")
    assert status == 400
    assert "\n" not in json.loads(body)["error"]


def test_a_map_is_drawn_in_its_own_pixels(app):
    query = urlencode({"photograph": "file0", "layer": "relu2_1"})
    size = json.loads(answered(app, "GET", f"/api/maps?{query}")[1])["size"]
    _, body = answered(app, "GET", f"/api/map.png?{query}&target=7")
    with Image.open(io.BytesIO(body)) as picture:
        assert list(picture.size[::-1]) == size
        brightness = np.asarray(picture).astype(int).sum(-1)
    explainer = Explainer(DEMO)
    preprocess = preprocess_for(explainer.model)[0]
    with Image.open(CHELSEA) as picture:
        tensor = preprocess.apply(np.asarray(picture.convert("RGB")))[0]
    values = explainer.forward(tensor[None], "relu2_1").explained[0, 7]
    assert brightness[np.unravel_index(values.argmax(), values.shape)] == brightness.max()
    assert (brightness[values <= 0] == brightness.min()).all()
    for target in ("999", "x", ""):
        assert answered(app, "GET", f"/api/map.png?{query}&target={target}")[0] == 400


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """An atlas of the model over six pieces of a photograph."""
    home = tmp_path_factory.mktemp("atlas")
    with Image.open(CHELSEA) as picture:
        for k in range(6):
            picture.crop((40 * k, 20 * k, 40 * k + 120, 20 * k + 120)).save(home / f"{k}.png")
    words = ["atlas", "build", DEMO, home, "--layer", "relu2_1", "--no-values", "-o", home / "atlas"]
    result = runner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return home / "atlas"


def exploration(model, atlas):
    explainer = Explainer(model)
    preprocess = preprocess_for(explainer.model)[0]
    return Exploration(
        lambda method: Explainer(explainer.model, method), preprocess, [CHELSEA], atlas=Reader(atlas)
    )


def test_the_atlas_is_shown_beside_a_map(atlas, tmp_path):
    explored = exploration(DEMO, atlas)
    assert explored.model()["atlas"]
    table = Reader(atlas).atlas.layers["relu2_1"]
    found = explored.nine("relu2_1", 7)
    assert len(found) == 6
    assert [one["activation"] for one in found] == pytest.approx(table.activations[7][:6].tolist())
    assert {one["image"].rpartition("/")[2] for one in found} == {f"{k}.png" for k in range(6)}
    assert explored.nine("conv2_1", 7) == found  # what a convolution computes, rectified
    assert explored.nine("relu1", 7) == explored.nine("relu2_1", 9999) == []
    other = onnx.load(DEMO)
    other.graph.node[-1].name = "another"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="is not the model of the atlas"):
        exploration(tmp_path / "other.onnx", atlas)


def test_a_frame_takes_the_place_of_the_last(app):
    def sent(colour, query):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (colour, 0, 0)).save(file, "PNG")
        status, body = answered(app, "POST", f"/api/photographs?name=webcam{query}", file.getvalue())
        assert status == 200
        return json.loads(body)["id"]

    def known():
        return [one["id"] for one in json.loads(answered(app, "GET", "/api/photographs")[1])]

    first = sent(1, "")
    second = sent(2, f"&instead={first}")
    assert second in known()
    assert first not in known()
    sent(3, "&instead=file0")  # what was given on the command line stays
    assert "file0" in known()


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
def opened(port, address="", flags=(), script="", **options):
    """Open the page; whatever it logs, and every request that leaves the server, is an error."""
    with browser(*flags) as chromium:
        page = chromium.new_page(**options)
        wrong = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        home = f"http://127.0.0.1:{port}/"
        page.on("request", lambda r: None if r.url.startswith((home, "data:")) else wrong.append(r.url))
        page.add_init_script(script)
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


@pytest.mark.slow
def test_the_layer_of_a_class_activation_map_is_chosen(server):
    _, port, _ = server
    with opened(port, "#photograph=file0&methods=grad-cam") as page:
        last = page.locator(".card > img").get_attribute("src")
        page.get_by_label("Layer of the class activation map").select_option("relu2_1")
        page.locator("figcaption", has_text="grad-cam@relu2_1").wait_for()
        ready(page)
        expected = told(port, "explanation", photograph="file0", method="grad-cam@relu2_1")["pictures"]
        assert page.locator(".card > img").get_attribute("src") == expected["overlay"] != last
        page.reload()
        page.locator("figcaption", has_text="grad-cam@relu2_1").wait_for()
        assert page.locator("#cam-layer").input_value() == "relu2_1"
        page.get_by_label("guided", exact=True).check()
        page.get_by_label("grad-cam", exact=True).uncheck()
        page.locator("#cam").wait_for(state="hidden")
        ready(page)


@pytest.mark.slow
def test_of_many_quick_clicks_the_last_is_shown_and_the_server_is_not_swamped(server):
    """More clicks than the server takes requests at once: it would answer 429, and log an error."""
    _, port, _ = server
    with opened(port) as page:
        labels = page.locator("#classes button:not(.versus) .name").all_inner_texts()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        last = page.evaluate("""() => {
            const all = [...document.querySelectorAll("#classes button:not(.versus)")];
            for (let k = 0; k < 103; k++) all[k % all.length].click();
            return 102 % all.length;
        }""")
        name = labels[last].split("\n")[0].rstrip("0123456789.e-")
        page.locator("figcaption strong", has_text=name).wait_for()
        ready(page)
        assert sum("api/explanation" in url for url in asked) < 20  # of 103, however slow the machine
        page.go_back()
        page.locator("figcaption strong", has_text=name).wait_for(state="detached")
        ready(page)


def test_what_nobody_waits_for_is_not_made():
    made, exploration = [], SimpleNamespace(photographs=list)
    exploration.classes = lambda identifier: made.append(identifier) or []
    routes = ExploreRoutes(exploration, Limits(), lambda *_: "")

    def request(message):
        async def receive():
            return {"type": message}

        return Request(
            {"type": "http", "query_string": b"photograph=" + message.encode(), "headers": []}, receive
        )

    with pytest.raises(HTTPException) as caught:
        asyncio.run(routes.classes(request("http.disconnect")))
    assert caught.value.status_code == 499
    assert asyncio.run(routes.classes(request("http.request"))).status_code == 200
    assert made == ["http.request"]


@pytest.fixture(scope="module")
def odd_photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    Image.open(CHELSEA).save(folder / "a.gif", save_all=True, append_images=[Image.new("RGB", (451, 300))])
    (folder / "b.jpg").write_bytes(b"")
    with serving("explore", DEMO, folder, "--no-browser", "--max-pixels", 451 * 300) as found:
        yield found


def test_files_of_this_machine_may_be_any_picture_and_are_called_by_name(odd_photographs):
    _, port, _ = odd_photographs
    assert told(port, "classes", photograph="file0")[0]["label"] == "tabby"
    status, _, body = ask(port, "GET", "/api/classes?photograph=file1")
    assert status == 400
    assert "b.jpg: " in json.loads(body)["error"]


@pytest.mark.slow
def test_nothing_of_another_photograph_stays_beside_one_that_cannot_be_read(odd_photographs):
    _, port, _ = odd_photographs
    with browser() as chromium:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        ready(page)
        page.locator("#photographs button").nth(1).click()
        page.locator("#status", has_text="b.jpg: ").wait_for()
        assert "unreadable" in page.locator("#photographs button").nth(1).inner_text()
        assert page.locator("#classes button").count() == 0
        assert not page.locator("#stage").is_visible()
        page.locator("#photographs button").first.click()
        ready(page)
        assert page.locator("#stage").is_visible()
        assert captions(page)[0].startswith("tabby")


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
        page.get_by_label("Row", exact=True).fill("3")
        page.get_by_label("Column", exact=True).fill("5")
        page.keyboard.press("Enter")
        page.locator("figcaption", has_text="at 3,5").wait_for()
        ready(page)


def drawn(page, name):
    """What stands on a canvas of the page."""
    return page.evaluate(f"document.getElementById('{name}').toDataURL()")


@pytest.mark.slow
def test_pointing_shows_a_unit_and_leaving_shows_the_chosen_one_again(server):
    _, port, _ = server
    with opened(port, "#photograph=file0&layer=relu2_1&target=7&position=4,9&view=projection") as page:
        words = page.locator("#glance-words")
        words.filter(has_text="channel 7 at 4,9").wait_for()
        before, field = drawn(page, "inside-photo"), page.locator("#field-words").inner_text()
        chosen = page.locator(".card > img").get_attribute("src")
        size = page.locator("#large").bounding_box()
        rows, columns = told(port, "maps", photograph="file0", layer="relu2_1")["size"]
        place = {"x": size["width"] * 20.5 / columns, "y": size["height"] * 30.5 / rows}
        page.locator("#large").hover(position=place)
        words.filter(has_text="channel 7 at 30,20").wait_for()
        y0, x0, y1, x1 = told(port, "glance", **UNIT | {"position": "30,20"})["field"]
        said = f"Receptive field: rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1}"
        assert page.locator("#field-words").inner_text() == said != field
        assert drawn(page, "inside-photo") != before
        assert page.locator(".card > img").get_attribute("src") != chosen
        page.locator("#maps canvas").nth(3).hover()
        words.filter(has_text=re.compile(r"channel (?!7 at)\d+ at")).wait_for()
        page.mouse.move(2, 2)
        words.filter(has_text="channel 7 at 4,9").wait_for()
        assert page.locator("#field-words").inner_text() == field
        assert drawn(page, "inside-photo") == before
        assert page.locator(".card > img").get_attribute("src") == chosen
        page.locator("#map-stage").focus()
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        words.filter(has_text="channel 7 at 5,11").wait_for()
        page.keyboard.press("Enter")
        page.locator("figcaption", has_text="channel 7 at 5,11").wait_for()
        ready(page)


@pytest.mark.slow
def test_a_camera_is_explained_until_its_picture_is_kept(server):
    _, port, _ = server
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with opened(port, "#photograph=file0&layer=relu2_1", flags) as page:
        before = told(port, "photographs")
        page.get_by_role("button", name="Webcam").click()
        page.locator("#status", has_text="Live.").wait_for()
        first = page.locator("#seen").get_attribute("src")
        page.wait_for_function(
            "(src) => document.getElementById('seen').getAttribute('src') !== src", arg=first
        )
        assert page.locator("#maps button").count() > 0
        page.get_by_role("button", name="Keep this picture").click()
        kept = page.get_by_role("button", name="webcam", exact=True).first
        kept.wait_for()
        ready(page)
        added = [one for one in told(port, "photographs") if one not in before]
        assert [one["name"] for one in added] == ["webcam"]
        assert kept.get_attribute("aria-pressed") == "true"


@pytest.mark.slow
def test_the_atlas_stands_beside_the_map(atlas):
    with (
        serving("explore", DEMO, CHELSEA, "--no-browser", "--atlas", atlas) as (_, port, _),
        opened(port, "#photograph=file0&layer=conv2_1&target=7") as page,
    ):
        page.locator("#nine li").nth(5).wait_for()
        assert page.locator("#nine li").count() == 6
        page.locator("#classes button").first.click()
        page.locator("#beside").wait_for(state="hidden")
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
            "[...document.querySelectorAll('button, input, img:not(button img)')].every((e) => "
            "e.getAttribute('alt') || e.getAttribute('aria-label') || e.labels?.length || e.innerText.trim())"
        )


MOVED = """
window.moved = 0;
new PerformanceObserver((list) => { for (const each of list.getEntries()) window.moved += each.value; })
  .observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize(
    "address", ["", "#photograph=file0&layer=relu2_1&target=7&position=4,9&methods=auto guided"]
)
@pytest.mark.parametrize("width", [390, 1000, 1400])
@pytest.mark.slow
def test_nothing_moves_when_what_was_asked_for_comes(server, width, address):
    _, port, _ = server
    with opened(port, address, script=MOVED, viewport={"width": width, "height": 900}) as page:
        page.wait_for_timeout(300)  # the strongest position is still drawn, and observers are told late
        assert page.locator(".card figcaption strong").first.is_visible()
        # Below 0.1 is called good (web.dev/cls); only a line of text may be longer than its room.
        assert page.evaluate("moved") < 0.05


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
    result = runner().invoke(main, ["explore", str(DEMO), str(missing), "--no-browser", "--port", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{missing}: no such file or folder of photographs" in result.stderr
