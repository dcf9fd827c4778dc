"""Make the pictures of the gallery and the tutorial, by the commands that these pages show.

python tools/gallery.py -o docs/gallery

Needs torch, onnx and onnxscript, with which the tutorial trains a network. The pictures are made smaller, and
written with few colours.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from PIL import Image, ImageOps

import onnx_deconv

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("tutorial.md", "gallery.md")]
TRAINING = ("shapes.py", "train.py")
"""Files to save the first blocks of the tutorial as; the second, PyTorch's, trains."""
WIDTH = 720
COLOURS = 96
PARTS = """image,part,x0,y0,x1,y1
cat.png,left eye,135,82,213,148
mirrored.png,left eye,238,82,316,148
head.png,left eye,55,72,133,138
"""


def prepare(folder: Path) -> None:
    """Lay out the files that the page's commands name."""
    model, photo = onnx_deconv.example()
    shutil.copy(model, folder / "model.onnx")
    photos = folder / "photos"
    photos.mkdir()
    shutil.copy(photo, folder / "cat.png")
    shutil.copy(photo, photos / "cat.png")
    with Image.open(photo) as cat:
        ImageOps.mirror(cat).save(photos / "mirrored.png")
        cat.crop((80, 10, 380, 210)).save(photos / "head.png")
    (photos / "eyes.csv").write_text(PARTS, encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Return the page's commands, as lists of words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line]


def shrink(source: Path, target: Path) -> None:
    """Write a picture at most ``WIDTH`` pixels wide, with few colours."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDTH:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def train(page: str, folder: Path) -> None:
    """Follow the tutorial up to its network and its photographs."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for name, block in zip(TRAINING, blocks, strict=False):
        (folder / name).write_text(block, encoding="utf-8")
        subprocess.run([sys.executable, name], cwd=folder, check=True)


def chosen(folder: Path) -> Path:
    """Return the picture of a folder that shows most."""
    kinds = ("side-by-side.png", "-projections.webp", ".png")
    found = (sorted(folder.glob(f"*{kind}")) for kind in kinds)
    return next(files[0] for files in found if files)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "gallery")
def main(output: Path) -> None:
    """Run the pages' commands; write the pictures that they show."""
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        train(pages[0], folder)
        for program, *arguments in (words for page in pages for words in commands(page)):
            if program != "onnx-deconv":
                continue
            print("+", shlex.join(arguments), flush=True)
            subprocess.run([sys.executable, "-m", "onnx_deconv", *arguments], cwd=folder, check=True)
        for picture in sorted(set(re.findall(r"\]\(gallery/([^)]*)\)", "".join(pages)))):
            shrink(chosen(folder / Path(picture).stem), output / picture)


if __name__ == "__main__":
    main()
