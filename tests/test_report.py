"""The report: everything of the atlas is in it, nothing is fetched, and it works in a browser."""

import base64
import json
import re
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnx
import pytest
from browsers import CHROMIUM, browser
from commands import runner
from onnx.reference import ReferenceEvaluator
from PIL import Image

from onnx_deconv import InputError
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.report import in_script, write_report
from onnx_deconv.cli import main

QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=8000",
]  # fmt: skip


def run(*args, code=0):
    result = runner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An atlas of a small network over ten pictures, and its report with two photographs explained."""
    home = tmp_path_factory.mktemp("report")
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 32, 32] x) => (float[N, 70] scores) {
            c = Conv <strides = [2, 2]> (x, w)
            first = Relu (c)
            d = Conv <pads = [1, 1, 1, 1]> (first, v)
            second = Relu (d)
            pooled = GlobalAveragePool (second)
            scores = Flatten (pooled)
        }
    """
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(5)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (70, 4, 3, 3))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, home / "net.onnx")
    (home / "in").mkdir()
    for k in range(10):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(home / "in" / f"picture{k}.png")
    options = ["--preset", "unit", "--size", 32, "--fit", "stretch"]
    run("atlas", "build", home / "net.onnx", home / "in", "-o", home / "atlas", "--top", 4, *options)
    photos = [home / "in" / f"picture{k}.png" for k in (1, 2)]
    more = ["--model", home / "net.onnx", "--layer", "first", "--top", 2]
    run("atlas", "report", home / "atlas", *photos, *more, "-o", home / "report.html")
    return home


def test_it_says_how_long_a_large_atlas_lasts(made, tmp_path, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    asked = "atlas", "report", made / "atlas", "-o", tmp_path / "r.html"
    assert "will last" not in run(*asked).stdout  # over soon
    monkeypatch.setattr("onnx_deconv.cli.atlas.report.SECONDS", 60.0)
    said, _ = run(*asked).stdout.splitlines()
    units = sum(
        len(ranks) for layer in contents(tmp_path / "r.html")[1]["layers"] for ranks in layer["units"]
    )
    assert said == f"{units} units will last about {units // 60}:{units % 60:02}:00"


def contents(path):
    page = path.read_text(encoding="utf-8")
    parts = dict(re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', page))
    parts = {name: json.loads(text) for name, text in parts.items()}
    found = parts["atlas"]
    found["layers"] = [layer | parts[f"layer{n}"] for n, layer in enumerate(found["layers"])]
    for one in found["explanations"]:
        one["pictures"] = [(caption, parts[name]) for caption, name, *_ in one["pictures"]]
    return page, found


@pytest.mark.slow
def test_everything_is_in_it(made):
    page, found = contents(made / "report.html")
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert not re.search(r"https?://", page)
    atlas = Reader(made / "atlas").atlas
    assert [layer["layer"] for layer in found["layers"]] == list(atlas.layers) == ["first", "second"]
    for layer in found["layers"]:
        table = atlas.layers[layer["layer"]]
        for channel, units in enumerate(layer["units"]):
            names = [found["images"][image] for _, image, *_ in units]
            assert names == [atlas.images[k] for k in table.images[channel]]
        assert [len(s) for s in layer["sprites"].values()] == [-(-layer["channels"] // 64)] * 2
    picked = {(one["photo"], one["layer"], one["rules"]) for one in found["explanations"]}
    assert len(picked) == 2 * 2 * 3


def test_a_sprite_holds_the_blocks_in_order(made):
    _, found = contents(made / "report.html")
    layer = found["layers"][1]
    path = made / "sprite.webp"
    path.write_bytes(base64.b64decode(layer["sprites"]["patches"][1]))
    with Image.open(path) as picture:
        sprite = np.array(picture.convert("RGB")).astype(int)
    height, width = layer["block"]
    assert sprite.shape == (height, 6 * width, 3)  # 70 feature maps: the last six
    arrays = Reader(made / "atlas").files("second")
    first = sprite[:height, width : width + width // 2][: height // 2].mean((0, 1))
    assert np.abs(first - arrays.patches[65][0].mean((0, 1))).max() < 6


def test_names_cannot_break_out_of_the_page(made, tmp_path):
    reader = Reader(made / "atlas")
    reader.atlas.images[0] = "</script><script>alert(1)</script>"
    write_report(tmp_path / "report.html", reader)
    _, found = contents(tmp_path / "report.html")
    assert found["images"][0] == reader.atlas.images[0]


@pytest.mark.slow
def test_it_is_made_small_enough_or_refused(made, tmp_path):
    reader = Reader(made / "atlas")
    whole = write_report(tmp_path / "a.html", reader)
    assert write_report(tmp_path / "b.html", reader, largest=whole - 1) < whole
    with pytest.raises(InputError, match="fewer layers"):
        write_report(tmp_path / "c.html", reader, largest=20_000)
    assert not (tmp_path / "c.html").exists()


def test_pictures_that_are_too_large_are_not_all_made(made, tmp_path):
    shown = []
    with pytest.raises(InputError, match="fewer layers"):
        write_report(tmp_path / "a.html", Reader(made / "atlas"), largest=1, show=shown.append)
    sizes = list(dict.fromkeys(line.rpartition(" pictures of ")[2] for line in shown))
    assert sizes == ["48 pixels", "40 pixels", "32 pixels", "24 pixels", "16 pixels"]
    assert {line.partition(",")[0] for line in shown} == {"1/2 first"}  # the second is never begun


def test_mistakes_are_one_line(made, tmp_path):
    photo, out = made / "in" / "picture0.png", tmp_path / "report.html"
    assert "no finished atlas" in run("atlas", "report", tmp_path, "-o", out, code=2).stderr
    assert "--model" in run("atlas", "report", made / "atlas", photo, "-o", out, code=2).stderr
    other = onnx.load(made / "net.onnx")
    other.graph.name = "other"
    onnx.save(other, tmp_path / "other.onnx")
    args = ["atlas", "report", made / "atlas", photo, "--model", tmp_path / "other.onnx", "-o", out]
    assert "not the model of the atlas" in run(*args, code=2).stderr


# In a browser

_LISTEN = """<script>
window.faults = [];
addEventListener("error", (event) => window.faults.push(String(event.message)));
addEventListener("unhandledrejection", (event) => window.faults.push(String(event.reason)));
console.error = (...args) => window.faults.push(args.join(" "));
</script>"""

_PLAY = """<script>
(async () => {
  const out = {}, $ = (id) => document.getElementById(id);
  const loads = async (element) => {
    const image = new Image();
    image.src = element.style.backgroundImage.slice(5, -2);
    await image.decode();
    return [image.naturalWidth, image.naturalHeight];
  };
  const change = (id, index) => {
    $(id).selectedIndex = index;
    $(id).dispatchEvent(new Event("change"));
    return [...document.querySelectorAll("#shown figcaption")].map((c) => c.textContent);
  };
  const key = (element, name) =>
    element.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  out.maps = $("maps").children.length;
  out.sprite = await loads($("maps").querySelector(".sprite"));
  document.querySelectorAll("#layers button")[1].click();
  out.second = $("maps").children.length;
  out.current = document.querySelector("#layers [aria-current=true]").textContent;
  $("maps").children[3].focus();
  key(document.activeElement, "ArrowRight");
  out.focused = document.activeElement.textContent.split(" ")[0];
  document.activeElement.click();
  out.open = $("one").open;
  out.heading = $("heading").textContent;
  out.rows = $("units").children.length;
  key($("one"), "ArrowRight");
  out.next = $("heading").textContent;
  $("close").click();
  out.closed = !$("one").open;
  const before = $("maps").querySelector(".sprite").offsetWidth;
  $("zoom").value = 2;
  $("zoom").dispatchEvent(new Event("input"));
  out.zoomed = $("maps").querySelector(".sprite").offsetWidth / before;
  $("search").value = "first 2";
  $("search").dispatchEvent(new Event("input"));
  const listed = document.querySelectorAll("#layers li:not([hidden])").length;
  out.found = [$("name").textContent, $("maps").children.length, listed];
  out.choices = ["photo", "layer", "class", "rules"].map((id) => $(id).options.length);
  const images = [...document.querySelectorAll("#shown img")];
  await Promise.all(images.map((image) => image.decode()));
  out.pictures = images.map((image) => image.naturalHeight);
  out.rules = change("rules", 1);
  out.photo = change("photo", 1);
  out.layer = change("layer", 1);
  out.faults = window.faults;
  return out;
})().catch((error) => ({ faults: [String(error.stack)] })).then((out) => {
  document.body.innerHTML = `<pre id="played">${btoa(JSON.stringify(out))}</pre>`;
});
</script>"""


@pytest.fixture(scope="module")
def played(made, tmp_path_factory):
    """What a reader who clicks and types gets to see."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    page = (made / "report.html").read_text(encoding="utf-8")
    page = page.replace("<head>", "<head>" + _LISTEN, 1).replace("</body>", _PLAY + "</body>", 1)
    home = tmp_path_factory.mktemp("browser")
    (home / "played.html").write_text(page, encoding="utf-8")
    args = [
        CHROMIUM,
        *QUIET,
        f"--user-data-dir={home / 'profile'}",
        "--dump-dom",
        f"file://{home / 'played.html'}",
    ]
    for _ in range(3):  # on a busy machine the page may be read before it has played
        done = subprocess.run(
            args, capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
        found = re.search(r'<pre id="played">([\w+/=]+)</pre>', done.stdout)
        if found is not None:
            return json.loads(base64.b64decode(found[1]))
    pytest.fail(done.stderr[-2000:] or "the page has not played")


def test_it_loads_without_an_error(played):
    assert played["faults"] == []


def test_the_grids_show(played):
    assert (played["maps"], played["second"]) == (4, 70)
    assert min(played["sprite"]) > 60
    assert played["current"].startswith("second")


def test_the_keyboard_moves_between_maps(played):
    assert played["focused"] == "4"
    assert (played["open"], played["closed"], played["rows"]) == (True, True, 4)
    assert (played["heading"], played["next"]) == ("second, feature map 4", "second, feature map 5")


def test_search_and_zoom(played):
    assert played["zoomed"] == pytest.approx(2, rel=0.01)
    assert played["found"] == ["first", 1, 1]


def test_the_pickers_change_the_pictures(played):
    assert played["choices"] == [2, 2, 2, 3]
    assert played["pictures"] == [288] * 3
    assert played["layer"][1].startswith("first channel ")
    assert len(played["photo"]) == 3


@pytest.mark.slow
def test_the_address_leads_to_a_map_and_the_browser_back(made):
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        page.goto((made / "report.html").as_uri())
        page.locator("#layers button").nth(1).click()
        page.locator("#maps button").nth(4).click()
        assert page.locator("#heading").inner_text() == "second, feature map 4"
        link = page.get_by_role("link", name="Link to this map").get_attribute("href")
        page.keyboard.press("Escape")
        page.wait_for_function("!location.hash.includes('map=')")
        page.go_back()
        page.locator("#one[open]").wait_for()
        page.go_back()
        page.locator("#one[open]").wait_for(state="detached")
        page.locator("#name", has_text="second").wait_for()
        page.go_back()
        page.locator("#name", has_text="first").wait_for()
        page.goto("about:blank")
        page.goto(link)
        assert page.locator("#heading").inner_text() == "second, feature map 4"
        assert page.locator("#one[open]").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@contextmanager
def halting(page, cut):
    """Serve a page; what comes after `cut` is sent when the event that is yielded says so."""
    go_on = threading.Event()

    class Halting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page[:cut])
            go_on.wait(60)
            self.wfile.write(page[cut:])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Halting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", go_on
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_what_has_come_is_shown_before_the_rest_of_the_file(made):
    page = (made / "report.html").read_bytes()
    painted = "[...document.querySelectorAll('#maps .sprite')].filter((e) => e.style.backgroundImage).length"
    with browser() as chromium, halting(page, page.index(b'id="layer1"')) as (home, go_on):
        shown = chromium.new_page()
        shown.goto(home, wait_until="commit")
        shown.wait_for_function(f"{painted} === 2 * 4")
        shown.locator("#layers button").nth(1).click()
        shown.locator("#maps button").nth(69).click()
        assert shown.evaluate(painted) == shown.locator("#units tr").count() == 0
        go_on.set()
        shown.locator("#units tr").nth(3).wait_for()
        assert shown.evaluate(painted) == 2 * 70


@pytest.mark.slow
def test_a_search_for_an_image_finds_what_comes_later(made):
    page, name = (made / "report.html").read_bytes(), Reader(made / "atlas").atlas.image_of("second", 0, 0)
    with browser() as chromium, halting(page, page.index(b'id="layer0"')) as (home, go_on):
        shown = chromium.new_page()
        shown.goto(f"{home}#search={name}", wait_until="commit")
        shown.locator("#count", has_text="0 of 4").wait_for()
        go_on.set()
        shown.locator("#layers button", has_text="second").click()
        assert shown.locator("#maps .name").first.inner_text().startswith("0 ")


@pytest.mark.slow
def test_scores_of_classes_are_told_and_chosen(made):
    _, found = contents(made / "report.html")
    chosen = [
        one for one in found["explanations"] if one["photo"] == "picture1.png" and one["layer"] == "classes"
    ]
    scores = {one["class"]: one["score"] for one in chosen}
    with Image.open(made / "in" / "picture1.png") as picture:
        x = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255
    answer = ReferenceEvaluator(onnx.load(made / "net.onnx")).run(None, {"x": x})[0][0]
    best = np.argsort(-answer)[:2]
    assert scores == pytest.approx({f"class {k}": float(answer[k]) for k in best}, rel=1e-2)
    with browser() as chromium:
        page = chromium.new_page()
        page.goto((made / "report.html").as_uri())
        page.locator("#scores button").nth(1).click()
        assert page.locator("#scores button").nth(1).get_attribute("aria-pressed") == "true"
        assert page.locator("#shown figcaption").nth(1).inner_text().startswith(f"class {best[1]}, ")


@pytest.mark.parametrize("name", ["<!--<script>", "</script><img src=x onerror=alert(1)>", "\u2028&lt;"])
def test_nothing_in_the_record_is_markup(name):
    written = in_script(json.dumps({"model": name}, ensure_ascii=False))
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"model": name}
