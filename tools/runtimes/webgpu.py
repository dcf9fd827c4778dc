# ruff: noqa: ANN001, ANN201, ANN202, ANN002, S101 - it is read by whoever has that runtime alone
"""Run one model on WebGPU in headless Chromium, which computes it in software where there is no GPU.

    python webgpu.py FOLDER RUNS         (where npm install onnxruntime-web was done)

What goes in and comes out is as run.py has it; the time is the clock's, as a browser has many processes.
"""

import base64
import json
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
HERE = Path(__file__).parent


def served(places):
    """A server of folders, each under its own name."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path):
            first, _, rest = path.split("?")[0].lstrip("/").partition("/")
            return str(places.get(first, HERE) / rest)

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def main(folder, runs):
    """Run, and write down what came out."""
    folder = Path(folder)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no Chromium is on the path"
    address = served({"folder": folder, "node_modules": Path("node_modules").absolute(), "page": HERE})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.goto(address + "/page/")  # a list of files: any page of that origin will do
        page.set_default_timeout(500_000)
        script = f"import('/page/page.mjs').then((page) => page.run({int(runs)}))"
        told = page.evaluate(script)
        browser.close()
    for k, output in enumerate(told["outputs"]):
        output["file"] = f"output{k}.bin"
        (folder / output["file"]).write_bytes(base64.b64decode(output.pop("data")))
    (folder / "outputs.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
