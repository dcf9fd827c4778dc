"""Print whether saliency maps are about the photograph and about the class: networks, methods, measures.

    python tools/faithfulness.py ZOO -o FOLDER --quick

ZOO holds ``models``, and ``ilsvrc-val`` with photographs and ``boxes.csv`` (image, class, x0, y0, x1, y1 in
pixels of the photograph). Each network gets a table: a line for each number, a column for each method, means
with their 95 % confidence intervals over photographs. FOLDER keeps what was measured: an interrupted run goes
on, and methods and measures can be added. ``--quick`` takes 20 photographs, and half the steps of insertion
and deletion.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from onnx_deconv import Explainer, load
from onnx_deconv.evaluation import BASELINES, MEASURES, Method, Step, evaluate, explanations
from onnx_deconv.evaluation.catalogue import CASCADE
from onnx_deconv.imaging import preprocess_for
from onnx_deconv.operators import rule_tables

NETWORKS = {
    "SqueezeNet 1.1": ("squeezenet1.1-caffe2-fp32.onnx", "imagenet-caffe"),
    "MobileNetV2": ("mobilenetv2-tflite.onnx", "imagenet-tf"),
    "EfficientNet-lite0": ("efficientnet-lite0-pytorch.onnx", "imagenet-tf"),
}
METHODS = ("auto", *rule_tables(), "grad-cam", "layer-cam", "guided*grad-cam", *BASELINES)
FEW, FEW_STEPS, STEPS = 20, 14, 28


def photographs(folder: Path, count: int | None) -> list[Path]:
    """Return the photographs that have boxes, in the order of the table."""
    with (folder / "boxes.csv").open(newline="") as file:
        names = dict.fromkeys(row["image"] for row in csv.DictReader(file))
    return [folder / name for name in names][:count]


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
@click.option("--quick", is_flag=True)
def main(
    zoo: Path,
    output: Path,
    *,
    networks: Sequence[str],
    methods: Sequence[str],
    measures: Sequence[str],
    quick: bool,
) -> None:
    """Print a table for each network."""
    data = zoo / "ilsvrc-val"
    for name in networks or NETWORKS:
        file, preset = NETWORKS[name]
        model = load(zoo / "models" / file)
        found = evaluate(
            Explainer(model),
            photographs(data, FEW if quick else None),
            [method_with_seed(text) for text in methods or METHODS],
            boxes=data / "boxes.csv",
            measures=measures or tuple(MEASURES),
            output=output / Path(file).stem,
            preprocess=preprocess_for(model, preset)[0],
            steps=FEW_STEPS if quick else STEPS,
            watch=watch,
        )
        made = found.made
        print(f"\n{name}, {made['photographs']} photographs, {len(found.cases)} classes in them\n")
        print(found.table(), flush=True)


if __name__ == "__main__":
    main()
