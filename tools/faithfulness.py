"""Print whether saliency maps are about the photograph and about the class: networks, methods, measures.

    python tools/faithfulness.py ZOO -o FOLDER --quick

ZOO holds ``models``, ``ilsvrc-val`` with photographs and ``boxes.csv`` (image, class, x0, y0, x1, y1 in
pixels of the photograph), and ``train/tiny-imagenet-100.zip`` with pictures and boxes for the embedded model.
Networks whose files are not there are looked for in ``--models`` (``tools/zoo/pretrained.py`` writes them),
and left out. Each network gets a table: a line for each number, a column for each method, means
with their 95 % confidence intervals over photographs. FOLDER keeps what was measured: an interrupted run goes
on, and methods and measures can be added. ``--quick`` takes 20 photographs, and half the steps of insertion
and deletion.
"""

import csv
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from onnx_deconv import Explainer, load
from onnx_deconv.evaluation import BASELINES, MEASURES, Method, Step, evaluate, explanations
from onnx_deconv.evaluation.catalogue import CASCADE
from onnx_deconv.imaging import preprocess_for
from onnx_deconv.operators import rule_tables

DEMO = Path(__file__).parent.parent / "models" / "demo.onnx"
NETWORKS = {
    "SqueezeNet 1.0": ("squeezenet1.0-compressed.onnx", "imagenet-caffe"),
    "SqueezeNet 1.1": ("squeezenet1.1-caffe2-fp32.onnx", "imagenet-caffe"),
    "MobileNetV1 0.75": ("mobilenetv1-0.75-tflite.onnx", "imagenet-tf"),
    "MobileNetV2": ("mobilenetv2-tflite.onnx", "imagenet-tf"),
    "EfficientNet-lite0": ("efficientnet-lite0-pytorch.onnx", "imagenet-tf"),
    "EfficientNet-lite1": ("efficientnet-lite1-pytorch.onnx", "imagenet-tf"),
    "EfficientNet-lite2": ("efficientnet-lite2-pytorch.onnx", "imagenet-tf"),
    "embedded model": (DEMO.name, None),
}
METHODS = ("auto", *rule_tables(), "grad-cam", "layer-cam", "guided*grad-cam", *BASELINES)
FEW, FEW_STEPS, STEPS = 20, 14, 28
SMALL, SIDE, SPECK, COVERED = 120, 64, 0.05, 0.45


def photographs(folder: Path, count: int | None) -> list[Path]:
    """Return the photographs that have boxes, in the order of the table."""
    with (folder / "boxes.csv").open(newline="") as file:
        names = dict.fromkeys(row["image"] for row in csv.DictReader(file))
    return [folder / name for name in names][:count]


def small_photographs(archive: Path, folder: Path) -> Path:
    """Unpack pictures for the embedded model, of objects that are not too large; return the folder."""
    with zipfile.ZipFile(archive) as file:
        classes = [line.split("\t")[0] for line in file.read("classes.tsv").decode().splitlines()]
        lines = [line.split("\t") for line in file.read("val_boxes.tsv").decode().splitlines()]
        chosen = [
            (name, classes.index(name.split("/")[0]), *(int(x0), int(y0), int(x1) + 1, int(y1) + 1))
            for name, x0, y0, x1, y1 in lines
            if SPECK < (int(x1) + 1 - int(x0)) * (int(y1) + 1 - int(y0)) / SIDE**2 < COVERED
        ]
        every = len(chosen) // SMALL
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "boxes.csv").open("w", newline="") as table:
            rows = csv.writer(table)
            rows.writerow(("image", "class", "x0", "y0", "x1", "y1"))
            for name, *box in chosen[: every * SMALL : every]:
                (folder / Path(name).name).write_bytes(file.read(f"val/{name}"))
                rows.writerow((Path(name).name, *box))
    return folder


def method_with_seed(text: str) -> Method | str:
    """Read a method such as ``deconvnet:one``: its name, and the seed that it starts from."""
    name, _, seed = text.partition(":")
    return explanations(name, seed=seed) if seed else name


def watch(steps: Sequence[Step]) -> Iterator[Step]:
    """Say on a terminal what is measured."""
    for number, step in enumerate(steps, 1):
        if sys.stderr.isatty():
            told = f"{number}/{len(steps)} {step.method.name}: {step.measure.name}"
            print(f"\r{told:<79}", end="", file=sys.stderr, flush=True)
        yield step


@click.command(help=__doc__)
@click.argument("zoo", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default="faithfulness", show_default=True)
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)))
@click.option("--method", "methods", multiple=True, help="NAME, or NAME:SEED.")
@click.option("--measure", "measures", multiple=True, type=click.Choice([*MEASURES, CASCADE]))
@click.option("--models", type=click.Path(exists=True, path_type=Path), help="A folder with more models.")
@click.option("--photographs", "count", type=int, help="How many; by default all.")
@click.option("--quick", is_flag=True)
def main(
    zoo: Path,
    output: Path,
    *,
    networks: Sequence[str],
    methods: Sequence[str],
    measures: Sequence[str],
    models: Path | None,
    count: int | None,
    quick: bool,
) -> None:
    """Print a table for each network."""
    folders = [zoo / "models", DEMO.parent, *([models] if models else [])]
    for name in networks or NETWORKS:
        file, preset = NETWORKS[name]
        path = next((folder / file for folder in folders if (folder / file).exists()), None)
        if path is None:
            print(f"\n{name}: there is no {file}", flush=True)
            continue
        model = load(path)
        data = zoo / "ilsvrc-val"
        if path == DEMO:
            data = small_photographs(zoo / "train" / "tiny-imagenet-100.zip", output / "small")
        found = evaluate(
            Explainer(model),
            photographs(data, FEW if quick else count),
            [method_with_seed(text) for text in methods or METHODS],
            boxes=data / "boxes.csv",
            measures=measures or tuple(MEASURES),
            output=output / path.stem,
            preprocess=preprocess_for(model, preset)[0],
            steps=FEW_STEPS if quick else STEPS,
            watch=watch,
        )
        made = found.made
        print(f"\n{name}, {made['photographs']} photographs, {len(found.cases)} classes in them\n")
        print(found.table(), flush=True)


if __name__ == "__main__":
    main()
