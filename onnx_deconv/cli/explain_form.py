"""``onnx-deconv convert --form explain``: one graph that answers and explains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from onnx import ModelProto

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli.console import in_bytes, sizes, table
from onnx_deconv.cli.conversion import Conversion, check_lines, in_turn, named, shape_of
from onnx_deconv.cli.options import option, whole
from onnx_deconv.compiler.explain_graph import ExplainGraph, explain_graph
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.package import EXPLAIN as EXPLAIN_FILE
from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.compiler.passes import EXPLAIN, PASSES
from onnx_deconv.compiler.profiles import RuntimeName
from onnx_deconv.compiler.seed_graph import GraphSeed, TargetKind
from onnx_deconv.compiler.telephones import shares
from onnx_deconv.imaging import ImageInput, Preprocess
from onnx_deconv.model import Array
from onnx_deconv.runtime import Session, first_nan, numpy_of
from onnx_deconv.verification import Check, Question, prove, questions, same_but_for_rounding, same_outputs

TargetInput = Literal["optional", "required"]
_SHOWN = 4
"""Of how many operators that a provider leaves to the CPU the user hears."""


def _passes(given: str | None) -> Sequence[str] | None:
    if given is None:
        return None
    return EXPLAIN.get(given) or tuple(filter(None, given.split(",")))


@dataclass(frozen=True)
class GraphOptions:
    """What the graph explains, takes and returns."""

    top: Annotated[
        int,
        whole(
            "--top",
            "With --form explain: return reconstructions of the K strongest classes, or units, of "
            "each image.",
            metavar="K",
            least=1,
        ),
    ] = 1
    seed: Annotated[
        GraphSeed,
        option(
            "--seed",
            "With --form explain: what an explanation starts from: one is 1 at the channel's "
            "strongest unit, contrast a class less the mean of all others, map the channel's whole feature "
            "map, present what is positive in it, strongest its strongest activation alone, unit the unit "
            "whose index in the layer 'target' gives. auto: a class starts from its own feature map where "
            "the model has one.",
        ),
    ] = "auto"
    target_input: Annotated[
        TargetInput,
        option(
            "--target-input",
            "With --form explain: whether a caller must give the input 'target', -1 for the strongest, or "
            "may leave it out. Some runtimes take an optional input for a constant and ignore what is given: "
            "choose optional for onnxruntime in Python, C++, C# or Java alone.",
        ),
    ] = "required"
    target_kind: Annotated[
        TargetKind,
        option(
            "--target-kind",
            "With --form explain: what the input 'target' holds: the index of a class; a weight for each "
            "class, whose weighted sum is explained: 1 and -1 for the difference of two; or an array of the "
            "explained value's shape that is sent back as it is: a position, a region, a mask or a box.",
        ),
    ] = "index"
    pictures: Annotated[
        bool,
        option(
            "--pictures",
            "With --form explain: take images as uint8 N×H×W×3, RGB, of the input's size, and "
            "preprocess them in the graph as the options below say.",
            is_flag=True,
        ),
    ] = False
    heat: Annotated[
        bool,
        option("--heat", "With --form explain: return heat maps too, uint8 N×H×W×3.", is_flag=True),
    ] = False
    runtime: Annotated[
        RuntimeName,
        option(
            "--for",
            "What will run the graph. It is brought to the forms that this takes; what cannot be is "
            "named. A pair runs in onnxruntime and cuda alone. cuda: onnxruntime on NVIDIA GPUs; web: "
            "onnxruntime for JavaScript; "
            "mobile: onnxruntime on telephones.",
        ),
    ] = "onnxruntime"
    passes: Annotated[
        Sequence[str] | None,
        option(
            "--passes",
            "With --form explain: the optimisation passes to apply, those for a device or by name ("
            + ", ".join(PASSES)
            + "), '' for none.  [default: those for the runtime]",
            metavar="cpu|cuda|NAMES",
            default=None,
            callback=lambda *given: _passes(given[-1]),
        ),
    ] = None


def write(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> dict[str, Any]:
    """Write the explain graph and check it; return its record."""
    graph, _, record = written(
        conversion,
        options,
        preprocess,
        EXPLAIN_FILE,
        lambda graph, look: graph.save(conversion.output, check=look),
    )
    if options.runtime == "mobile":
        record["providers"] = [asdict(share) for share in shares(graph.proto)]
    return record


def written(
    conversion: Conversion,
    options: GraphOptions,
    preprocess: Preprocess | None,
    file: str,
    save: Callable[[ExplainGraph, Callable[[Path], None]], list[Path]],
) -> tuple[ExplainGraph, list[Path], dict[str, Any]]:
    """Make the explain graph, write it in some form, and check it; return it, the files and the record.

    Parameters
    ----------
    conversion, options, preprocess
        What is converted, and how.
    file
        The graph's file, in the folder that is checked.
    save
        Writes the graph, and calls its second argument with the folder before anything old is touched.
    """
    graph = _graph_of(conversion, options, preprocess)
    original, checks = conversion.original(), list[Check]()

    def look(folder: Path) -> None:
        checks.extend(_checks_of(conversion, options, preprocess, graph, folder / file, original))
        conversion.refuse_failures(checks)

    with conversion.timed("save"):
        files = conversion.written(lambda: save(graph, look))
    keys = ("explained", "semantics", "image_dependence", "inputs", "target", "outputs")
    return graph, files, conversion.record(files, checks, **{key: graph.manifest[key] for key in keys})


def _graph_of(conversion: Conversion, options: GraphOptions, preprocess: Preprocess | None) -> ExplainGraph:
    """Make the explain graph.

    It starts where an explanation by the library does: a class from its own map where the model has one.
    """
    model, semantics = conversion.model, conversion.semantics
    explainer = Explainer(model, semantics, **conversion.of_output)
    layer, seed, ranking = conversion.layer, options.seed, None
    if seed == "auto":
        start = explainer.start(layer)
        seed = cast(GraphSeed, start.seed)  # no place was asked for, whose value would be the seed
        if explainer.explains_classes(layer) and start.layer != explainer.scores_layer:
            layer, ranking = start.layer, explainer.scores_layer
    with conversion.timed("compile"):
        pair = compile_pair(model, layer, semantics=semantics, **conversion.of_output)
        return explain_graph(
            pair,
            top=options.top,
            seed=seed,
            ranking=ranking,
            target_input=options.target_input,
            target=options.target_kind,
            preprocess=preprocess if options.pictures else None,
            runtime=options.runtime,
            passes=options.passes,
            rendering=ImageInput.of(model, preprocess.layout).layout if options.heat and preprocess else None,
        )


def _checks_of(
    conversion: Conversion,
    options: GraphOptions,
    preprocess: Preprocess | None,
    graph: ExplainGraph,
    file: Path,
    original: tuple[Session, list[dict[str, Array]]] | None,
) -> list[Check]:
    """Run the graph that was written, and compare its answers: with the original's, and those of its runtime.

    No check is made where none was asked for.
    """
    checks: list[Check] = []
    if original is None:
        return checks
    session = Session(ModelProto.FromString(file.read_bytes()), file.parent, conversion.providers)
    asked_more = list[Iterator[Question]]()
    with conversion.timed("check"):
        for k, batch in enumerate(in_turn(original[1])):
            own, asked = _feeds(graph, options, preprocess, batch, k)
            expected, found = original[0].run(own), session.run_plainly(asked)
            checks.append(_same_outputs(conversion, file, (own, asked), (expected, found)))
            checks += _finite(graph, asked, found)
            rng = np.random.default_rng(k)
            asked_more.append(
                questions(conversion.model, graph.manifest, asked, found, session.run_plainly, rng)
            )
    with conversion.timed("proof"):
        return checks + prove(conversion.model, options.runtime, file, chain.from_iterable(asked_more))


def _feeds(
    graph: ExplainGraph,
    options: GraphOptions,
    preprocess: Preprocess | None,
    batch: Mapping[str, Array],
    k: int,
) -> tuple[Mapping[str, Array], dict[str, Array]]:
    """Make one batch of random inputs: for the model itself, and for the graph."""
    own, asked = batch, dict(batch)
    if options.pictures and preprocess is not None:
        ((name, array),) = batch.items()
        n, h, w = (array.shape[axis] for axis in ((0, 2, 3) if preprocess.layout == "NCHW" else (0, 1, 2)))
        pictures = np.random.default_rng(k).integers(0, 256, (n, h, w, 3), np.uint8)
        own = {name: np.stack([preprocess.normalise(picture) for picture in pictures])}
        asked = {graph.manifest["inputs"][0]["name"]: pictures}
    return own, asked | own_top(graph.manifest)


def _same_outputs(
    conversion: Conversion,
    file: Path,
    feeds: tuple[Mapping[str, Array], Mapping[str, Array]],
    results: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Check:
    """Check that the outputs are the original's, given what both models take, and what they give."""
    model = conversion.model

    def unoptimised() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        made = ModelProto.FromString(file.read_bytes()), file.parent
        both = zip(((model.proto, model.folder), made), feeds, strict=True)
        run = [Session(*each, conversion.providers, optimised=False).run(given) for each, given in both]
        return run[0], run[1]

    check = same_outputs(model, *results, "explain")
    return same_but_for_rounding(check, model, results[0], unoptimised)


def _finite(graph: ExplainGraph, feeds: Mapping[str, Array], found: Mapping[str, Any]) -> Iterator[Check]:
    """Check that reconstructions are finite."""
    for entry in graph.manifest["outputs"]:
        if "of" not in entry:
            continue
        result = numpy_of(found[entry["name"]])
        bad = int((~np.isfinite(result)).sum())
        node = first_nan(graph.proto, graph.folder, feeds, companion=True) if bad else None
        detail = sizes(result.shape) + (f" (the first NaN is at {node})" if node else "")
        yield Check("companion", entry["name"], float(bad), 0.0, detail)


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Describe what was written."""
    if not record["passed"]:
        yield from check_lines(record)
        return
    yield f"{record['folder']}: " + ", ".join(f"{n} {in_bytes(b)}" for n, b in record["bytes"].items())
    explained, target = record["explained"], record["target"]
    rows = [
        ("explains", f"{explained['value']} ({sizes(explained['shape'])})"),
        *(("takes", f"{shape_of(i)} {i['dtype']}") for i in record["inputs"]),
        ("", f"{shape_of(target)} {target['dtype']}, {target['input']}"),
        *(("returns", f"{shape_of(o)} {o['dtype']}") for o in record["outputs"]),
        ("choices", named(record["semantics"])),
    ]
    yield table(rows, indent="  ")
    yield from map(_share_line, record.get("providers", ()))
    yield from check_lines(record)


def _share_line(share: Mapping[str, Any]) -> str:
    """Say how much of a graph a provider takes, and what it leaves to the CPU."""
    most = ", ".join(f"{count} {name}" for name, count in list(share["left"].items())[:_SHOWN])
    taken = f"{share['provider']} takes {share['taken']} of {share['nodes']} nodes"
    return f"  {taken} by its published table" + (f"; not {most}" if most else "")
