"""``onnx-deconv evaluate``: whether saliency maps are about the photograph and about the class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, table
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Failures, Study, on_photographs
from onnx_deconv.errors import InputError
from onnx_deconv.evaluation import (
    MEASURES,
    METHODS,
    Evaluation,
    Step,
    WorstCase,
    draw_worst,
    evaluate,
    method_of,
    write_report,
)
from onnx_deconv.evaluation.catalogue import CASCADE
from onnx_deconv.evaluation.results import ARROWS, written

_ABOUT = {name: each.about + ARROWS[each.better] for name, each in MEASURES.items()}
_MEASURES = table(list((_ABOUT | {CASCADE: "as weights, after more and more layers ↓"}).items()), "  ")
_EPILOG = f"""\b
Examples:
  onnx-deconv evaluate squeezenet.onnx photos/ --preset imagenet-caffe --boxes photos/boxes.csv
  onnx-deconv evaluate model.onnx photos/ --method guided --method grad-cam --method centre -o results
  onnx-deconv evaluate model.onnx photos/ --measure weights --measure cascade --masks masks/

Writes evaluation.json, and evaluation.html with the table, confidence intervals and the worst cases. What
has been measured is kept in evaluation.jsonl: run the same command again to go on after an interruption,
or with more methods and measures to add to it.

\b
Measures:
{_MEASURES}
"""
_WORST_BY = ("energy", "insertion_blur")
"""What cases are worst by, if it was measured: the first that was."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated, and on what."""

    methods: Annotated[
        Sequence[str],
        option(
            "--method",
            "A method that makes saliency maps: auto, a rule table, a class activation map (grad-cam, "
            "layer-cam, cam; grad-cam@conv3: made of that layer), a product of both (guided*grad-cam), or a "
            "baseline (centre, edges, random); "
            f"may be repeated.  [default: {', '.join(METHODS)}]",
            multiple=True,
            metavar="NAME",
        ),
    ] = ()
    measures: Annotated[
        Sequence[str],
        option(
            "--measure",
            f"What is measured; may be repeated.  [default: everything but {CASCADE}]",
            multiple=True,
            type=click.Choice([*MEASURES, CASCADE]),
            metavar="NAME",
        ),
    ] = ()
    boxes: Annotated[
        Path | None,
        option(
            "--boxes",
            "Where objects are: a CSV file with the columns image,class,x0,y0,x1,y1, in pixels of the "
            "photographs. That class is explained.  [default: the most probable class is explained]",
            type=PATH,
            metavar="FILE",
        ),
    ] = None
    masks: Annotated[
        Path | None,
        option(
            "--masks",
            "Where objects are: a folder of pictures with the photographs' names and sizes, white on the "
            "object.",
            type=PATH,
            metavar="FOLDER",
        ),
    ] = None
    steps: Annotated[int, whole("--steps", "In how many steps pixels are put in or taken out.", least=1)] = 28
    worst: Annotated[
        int,
        whole("--worst", "How many of each method's worst cases the page shows.", least=0),
    ] = 3
    random_state: Annotated[
        int,
        groups.random_state("make weights, noise and unrelated classes random"),
    ] = 0


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.photographs
@groups.output("onnx-deconv-evaluation", "Folder for the results.")
@takes("options", EvaluationOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, options: EvaluationOptions,
    fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Measure whether saliency maps of MODEL are about the photograph and about the class.

    Each method is compared with baselines that know neither: do its maps lie on the object, do they change
    with the photograph, the class and the model's weights, and do they stay as they are otherwise?
    """
    study = Study.of(console, run.explainer(fixed.model(model, run, images)), images, fixed)
    study.explainer.prepare()
    files = find_pictures(paths)
    tell_assumed(console, study.explainer.head)
    failures = Failures(console, len(files))
    readable = list(_readable(study, files, failures))
    if not readable:
        return failures.exit_code()
    found = evaluate(
        study.explainer,
        readable,
        options.methods or METHODS,
        boxes=options.boxes,
        masks=options.masks,
        measures=options.measures or tuple(MEASURES),
        output=output,
        preprocess=study.preprocess,
        random_state=options.random_state,
        steps=options.steps,
        watch=lambda steps: console.progress(steps, _told, len({step.measure.name for step in steps})),
    )
    _write(console, study, found, output, options.worst)
    return failures.exit_code()


def _readable(study: Study, paths: Sequence[Path], failures: Failures) -> Iterator[Path]:
    for path in paths:
        try:
            study.read([path])
        except InputError as error:
            failures.note(error)
        else:
            yield path


def _told(step: Step) -> str:
    return f"{step.method.name}: {step.measure.name}, {step.cases[0].name}"


def _write(console: Console, study: Study, found: Evaluation, output: Path, count: int) -> None:
    page, description = output / "evaluation.html", output / "evaluation.json"
    by = next((number for number in [*_WORST_BY, *found.numbers] if number in found.numbers), "")
    write_report(page, found, _worst(study, found, by, count), by)
    record = found.as_dict()
    save_json(description, record | study.made_by())
    brief = {"page": page, "record": description, "means": record["means"]}
    console.result(brief, lambda: f"{page}\n{_table(found)}")


def _worst(study: Study, found: Evaluation, number: str, count: int) -> list[WorstCase]:
    drawn = []
    for name in found.methods if count else ():
        method = method_of(name, study.explainer)
        maps = method.on(study.explainer.model, study.preprocess.layout)
        drawn += draw_worst(found, number, name, maps, study.preprocess, study.explainer.labels, count)
    return drawn


def _table(found: Evaluation) -> str:
    rows = [["", *found.methods]]
    for number, measure in found.numbers.items():
        means = [written(found.mean(method, number)) for method in found.methods]
        rows.append([number + ARROWS[measure.better], *means])
    return table(rows)
