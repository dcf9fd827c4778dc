"""The command line: thin commands; what they do is done elsewhere."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from onnx_deconv import __version__
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.semantics import Semantics

EPILOG = """\b
Exit codes: 0 all went well; 1 a check fell short, or some of the photographs failed;
2 a mistake in what was asked, named in one line; 130 interrupted.

\b
Completion: eval "$(_ONNX_DECONV_COMPLETE=bash_source onnx-deconv)"  (or zsh_source, fish_source)
"""

FELL_SHORT, MISTAKE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; every expected error becomes one line and an exit code, here alone."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        sys.exit(cli.main(arguments, prog_name="onnx-deconv", standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(MISTAKE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_fail("interrupted", INTERRUPTED))
    except DeconvError as error:
        sys.exit(_fail(str(error), MISTAKE, verbose=verbose))
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        with suppress(OSError):
            sys.stdout.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  (the last resort: still one line)
        hint = "" if verbose else "; run again with -v for where, and report it"
        sys.exit(
            _fail(f"unexpected {type(error).__name__}: {_one_line(error)}{hint}", MISTAKE, verbose=verbose)
        )


def _fail(message: str, code: int, *, verbose: bool = False) -> int:
    click.echo(f"Error: {message}", err=True)
    if verbose:
        traceback.print_exc()
    return code


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Explain any CNN in an ONNX file: which parts of a picture excited a class, or any unit."""


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Join options that several commands share."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


MODEL = click.argument("model", type=click.Path(path_type=str))
JSON = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per result on stdout, nothing else."
)
LAYER = click.option("--layer", help="A value's or node's name; by default the scores.  [see: inspect]")
CHOICES = Semantics.choices()
SEMANTICS = _options(*[
    click.option(
        f"--{name}", type=click.Choice(choices), default=choices[0], show_default=True, help=text
    )
    for name, choices, text in (
        ("rules", CHOICES["rules"], "What rectifiers do to the signal."),
        ("activations", CHOICES["activations"], "Which activations count as rectifiers."),
        ("lrn", CHOICES["lrn"], "Local response normalisation."),
        ("unpool", CHOICES["unpool"], "Where pooling windows overlap."),
        ("precision", CHOICES["precision"], "What the companion computes in."),
    )
])  # fmt: skip
COMMON = _options(
    click.option(
        "--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Fix an input's sizes."
    ),
    click.option("-v", "--verbose", is_flag=True, help="Say more; tracebacks for errors."),
    click.option("--quiet", is_flag=True, help="Say nothing but errors."),
)
PROVIDERS = click.option(
    "--providers",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda,cpu",
    help="What to run on, in order.",
)


def _model(path: str, shapes: Iterable[str], *, verbose: bool, quiet: bool) -> Any:
    from onnx_deconv.model import load, parse_input_shape  # noqa: PLC0415

    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("onnx_deconv").setLevel(level)
    return load(path, dict(parse_input_shape(s) for s in shapes))


def _providers(text: str) -> Any:
    names = [name.strip() for name in text.split(",")]
    return names[0] if len(names) == 1 else names


def _semantics(options: dict[str, Any]) -> Semantics:
    return Semantics(**{name: options.pop(name) for name in CHOICES})


def _numbers(text: str | None, kind: Callable[[str], Any] = float, name: str = "") -> Any:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(f"{name} {text!r}: write numbers, separated by commas") from None


PICTURES = _options(
    click.option("--preset", help="imagenet, imagenet-caffe, imagenet-tf, unit or raw; else the metadata."),
    click.option("--size", help="Of the model's input: 224, or 224x320 (height first)."),
    click.option("--fit", type=click.Choice(["crop", "stretch", "pad", "none"]), help="How it is reached."),
    click.option("--mean", help="Per channel, after --scale: 0.485,0.456,0.406"),
    click.option("--std", help="Per channel: 0.229,0.224,0.225"),
    click.option("--scale", type=float, help="What 0..255 is multiplied by: 0.003921569"),
    click.option("--channels", type=click.Choice(["RGB", "BGR", "L"]), help="Their order."),
    click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Of the model's input."),
)  # fmt: skip


def _preprocess(model: Any, options: dict[str, Any]) -> Any:
    from onnx_deconv.saliency import preprocess_for  # noqa: PLC0415

    size = _numbers(options.pop("size"), int, "--size")
    overrides = {
        "size": None if size is None else (size * 2)[:2] if len(size) == 1 else size,
        "mean": _numbers(options.pop("mean"), float, "--mean"),
        "std": _numbers(options.pop("std"), float, "--std"),
        **{name: options.pop(name) for name in ("fit", "scale", "channels", "layout")},
    }
    return preprocess_for(model, options.pop("preset"), overrides)


@cli.command(
    epilog="""\b
Examples:
  onnx-deconv explain squeezenet.onnx dog.jpg --preset imagenet-caffe --labels labels.txt
  onnx-deconv explain model.onnx photos/ --top 3 --rules guided -o pictures
  onnx-deconv explain model.onnx cat.png --layer conv4 --channel 17 --at 6,6
"""
)
@MODEL
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", default="onnx-deconv", show_default=True, help="Folder for the pictures.")
@click.option("--class", "class_", help="The class to explain: index or label; by default the top one.")
@click.option("--top", default=1, show_default=True, help="How many of the strongest classes or channels.")
@LAYER
@click.option("--channel", type=int, help="The layer's channel; by default the strongest.")
@click.option("--at", help="A position in the channel's map: 6,6 (row, column).")
@click.option(
    "--seed",
    type=click.Choice(["auto", "one", "value", "map", "strongest"]),
    default="auto",
    show_default=True,
)
@click.option("--labels", help="A file of class names: a line each, or JSON.")
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice(["sheet", "projection", "heat", "overlay", "all"]),
    help="Which pictures; several may be given.  [default: sheet and projection]",
)
@SEMANTICS
@PICTURES
@PROVIDERS
@COMMON
@JSON
def explain(model: str, images: tuple[str, ...], **options: Any) -> int:
    """Explain photographs: IMAGES are files, folders or patterns."""
    return _explain(model, images, options)


def _explain(model: str, images: tuple[str, ...], options: dict[str, Any], *, heading: str = "") -> int:
    from onnx_deconv.explainer import Explainer  # noqa: PLC0415
    from onnx_deconv.files import folder  # noqa: PLC0415
    from onnx_deconv.image import read_image  # noqa: PLC0415
    from onnx_deconv.labels import Labels  # noqa: PLC0415
    from onnx_deconv.package import FORWARD, is_pair  # noqa: PLC0415
    from onnx_deconv.saliency import VIEWS, Request, explain_photograph, photographs  # noqa: PLC0415

    shapes = options.pop("shapes")
    saved = is_pair(model)
    source = str(Path(model) / FORWARD) if saved else model
    loaded = _model(source, shapes, verbose=options["verbose"], quiet=options["quiet"])
    preprocess = _preprocess(loaded, options)
    labels = Labels.read(options["labels"]).names if options["labels"] else None
    asked = _semantics(options)
    explainer = Explainer(
        model if saved else loaded,
        None if saved and asked == Semantics() else asked,
        providers=_providers(options["providers"]),
        labels=labels,
    )
    views = VIEWS if "all" in options["views"] else options["views"] or ("sheet", "projection")
    channel = options["class_"] if options["channel"] is None else options["channel"]
    request = Request(
        channel,
        options["layer"],
        _numbers(options["at"], int, "--at"),
        options["top"],
        options["seed"],
        views,
    )
    paths, output = photographs(images), folder(options["output"])
    stems = _stems(paths)
    failed = 0
    if heading and not options["quiet"] and not options["as_json"]:
        click.echo(heading)
    for path in _progress(paths, "photographs", options):
        try:
            photo = read_image(path)
            for result in explain_photograph(explainer, preprocess, photo, stems[path], output, request):
                _report({"image": str(path), **result}, options)
        except InputError as error:
            if len(paths) == 1:
                raise
            failed += 1
            click.echo(f"Error: {error}", err=True)
    return FELL_SHORT if failed else 0


def _report(result: dict[str, Any], options: dict[str, Any]) -> None:
    if options["as_json"]:
        click.echo(json.dumps(result))
    elif not options["quiet"]:
        name = result["label"] or f"{result['layer']} channel {result['class']}"
        click.echo(f"{result['image']}: {name} {result['score']:.3g} -> {', '.join(result['files'])}")
        if result["note"]:
            click.echo(f"  note: {result['note']}")


def _stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Name files after photographs; those of one name in different folders are told apart by a number."""
    stems: dict[Path, str] = {}
    for path in paths:
        stem, number = path.stem, 2
        while stem in stems.values():
            stem, number = f"{path.stem}-{number}", number + 1
        stems[path] = stem
    return stems


def _progress(items: Sequence[Any], label: str, options: dict[str, Any]) -> Iterable[Any]:
    """Show how far we are: on stderr, and only on a terminal."""
    if len(items) < 3 or options["quiet"] or not sys.stderr.isatty():  # noqa: PLR2004
        yield from items
        return
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield from bar


@cli.command()
@click.option(
    "-o", "--output", default="onnx-deconv-demo", show_default=True, help="Folder for the pictures."
)
@click.option("--rules", type=click.Choice(CHOICES["rules"]), default="deconvnet", show_default=True)
@PROVIDERS
@COMMON
@JSON
def demo(**options: Any) -> int:
    """Explain the embedded photograph with the embedded model."""
    home = _embedded()
    defaults = {name: choices[0] for name, choices in CHOICES.items() if name != "rules"}
    nothing = dict.fromkeys(("preset", "size", "fit", "mean", "std", "scale", "channels", "layout", "class_",
                             "layer", "channel", "at", "labels"))  # fmt: skip
    heading = f"explaining {home / 'chelsea.png'} with {home / 'demo.onnx'} ({options['rules']}):"
    rest = {"views": ("all",), "top": 2, "seed": "auto"}
    images = (str(home / "chelsea.png"),)
    return _explain(
        str(home / "demo.onnx"), images, {**nothing, **defaults, **rest, **options}, heading=heading
    )


def _embedded() -> Path:
    """Find the embedded files: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return next(
        (p for p in (here / "models", here.parent / "models") if (p / "demo.onnx").is_file()), here / "models"
    )


@cli.command(
    epilog="""\b
Examples:
  onnx-deconv convert model.onnx -o pair
  onnx-deconv convert model.onnx -o pair --layer conv4 --rules guided
"""
)
@MODEL
@click.option(
    "-o", "--output", required=True, help="Folder for forward.onnx, deconv.onnx, weights.bin, manifest.json."
)
@LAYER
@SEMANTICS
@click.option("--check", default=1, show_default=True, help="Check the result on this many random inputs.")
@COMMON
@JSON
def convert(model: str, **options: Any) -> int:
    """Write the pair: the model with its switches, and the companion that explains it."""
    from onnx_deconv.compile import compile_pair  # noqa: PLC0415
    from onnx_deconv.package import load_pair, save  # noqa: PLC0415

    start = time.perf_counter()
    loaded = _model(model, options["shapes"], verbose=options["verbose"], quiet=options["quiet"])
    pair = compile_pair(loaded, options["layer"], semantics=_semantics(options))
    files = save(pair, options["output"])
    seconds = time.perf_counter() - start
    checks: list[Any] = []
    if options["check"]:
        from onnx_deconv.verify import check_saved  # noqa: PLC0415

        checks = list(check_saved(loaded, load_pair(options["output"]), options["check"]))
    kinds = [i["kind"] for i in pair.manifest["deconv_inputs"]]
    result = {
        "model": model,
        "explained": pair.manifest["explained"]["value"],
        "cut": pair.manifest["explained"]["cut"],
        "rules": pair.manifest["semantics"]["rules"],
        "nodes": {"forward": len(pair.forward.graph.node), "deconv": len(pair.deconv.graph.node)},
        "switches": kinds.count("switches"),
        "taps": len(kinds) - kinds.count("switches") - 1,
        "files": {str(f): f.stat().st_size for f in files},
        "seconds": round(seconds, 3),
        "checks": [c.as_dict() for c in checks],
    }
    _say(result, options, _convert_lines)
    return 0 if all(c.passed for c in checks) else FELL_SHORT


def _convert_lines(result: dict[str, Any]) -> Iterable[str]:
    cut = f" (cut off: {', '.join(result['cut'])})" if result["cut"] else ""
    yield f"explains   {result['explained']}{cut} by {result['rules']}"
    yield f"nodes      {result['nodes']['forward']} forward, {result['nodes']['deconv']} deconv"
    yield f"passes     {result['switches']} switches, {result['taps']} other taps"
    for path, size in result["files"].items():
        yield f"{size / 1e6:8.2f} MB  {path}"
    yield from _check_lines(result["checks"])
    yield f"{result['seconds']:.2f} s without the checks"


def _check_lines(checks: Iterable[dict[str, Any]]) -> Iterable[str]:
    for check in checks:
        verdict = "ok  " if check["passed"] else "FAIL"
        yield f"{verdict}  {check['name']}: {check['error']:.2g} (at most {check['tolerance']:.2g})"


def _say(
    result: dict[str, Any], options: dict[str, Any], lines: Callable[[dict[str, Any]], Iterable[str]]
) -> None:
    if options["as_json"]:
        click.echo(json.dumps(result))
    elif not options.get("quiet"):
        click.echo("\n".join(lines(result)))


@cli.command()
@MODEL
@LAYER
@SEMANTICS
@COMMON
@JSON
def inspect(model: str, **options: Any) -> int:
    """Show inputs, outputs, layers, and which rule each node gets; before any work is done."""
    from onnx_deconv.inspection import describe, inspect_model  # noqa: PLC0415

    loaded = _model(model, options["shapes"], verbose=options["verbose"], quiet=options["quiet"])
    report = inspect_model(loaded, options["layer"], _semantics(options))
    _say(report, options, describe)
    return FELL_SHORT if report["missing"] else 0


@cli.command()
@click.option("--markdown", is_flag=True, help="As the page of the documentation.")
@JSON
def ops(*, markdown: bool, as_json: bool) -> None:
    """List the operators that have a rule."""
    from dataclasses import asdict  # noqa: PLC0415

    from onnx_deconv.inspection import operator_table_markdown  # noqa: PLC0415
    from onnx_deconv.rules import rows  # noqa: PLC0415

    if markdown:
        click.echo(operator_table_markdown(), nl=False)
        return
    for row in rows():
        click.echo(json.dumps(asdict(row)) if as_json else f"{row.operator:<26} {row.family:<12} {row.says}")


@cli.command(
    epilog="""\b
Examples:
  onnx-deconv verify model.onnx
  onnx-deconv verify model.onnx --image photo.jpg --preset imagenet --rules gradient
"""
)
@MODEL
@LAYER
@click.option(
    "--rules", "tables", multiple=True, type=click.Choice(CHOICES["rules"]), help="[default: all three]"
)
@click.option("--image", help="A photograph in place of random numbers.")
@click.option("--random-seed", default=0, show_default=True, help="Of the random numbers.")
@PICTURES
@COMMON
@JSON
def verify(model: str, **options: Any) -> int:
    """Check exactness against an independent, slow reference (NumPy, float64)."""
    from onnx_deconv.verify import image_feeds, random_feeds, verify_model  # noqa: PLC0415

    loaded = _model(model, options["shapes"], verbose=options["verbose"], quiet=options["quiet"])
    if options["image"]:
        feeds = image_feeds(loaded, _preprocess(loaded, options), options["image"])
    else:
        feeds = random_feeds(loaded, options["random_seed"])
    tables = list(options["tables"]) or list(CHOICES["rules"])
    passed = True
    for check in verify_model(loaded, feeds, tables, options["layer"]):
        passed &= check.passed
        _say(check.as_dict(), options, lambda c: _check_lines([c]))
    return 0 if passed else FELL_SHORT
