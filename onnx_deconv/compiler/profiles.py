"""What each runtime takes: passes bring a graph there, and a table of forms that it must not have proves it.

A profile is data. What is said of a runtime was found with it (``tools/runtimes.py``), or, where it could not
be run (NNAPI, Core ML), is what its documentation says; of TensorRT it is what its parser takes.
docs/deploy.md tells which.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_deconv.compiler.passes import EXPLAIN
from onnx_deconv.errors import InputError, ModelError, sizes_of
from onnx_deconv.model.protos import attributes_of, stored_tensors
from onnx_deconv.model.shape_inference import infer_shapes
from onnx_deconv.operators import find, own_domain
from onnx_deconv.operators.traits import REPEATS, SHAPE_ONLY

RuntimeName = Literal["onnxruntime", "cuda", "tensorrt", "openvino", "web", "mobile", "tract"]
Sizes = Literal["any", "images", "all"]

_WITHOUT_INDICES = tuple("windows" if name == "batches" else name for name in EXPLAIN["cpu"])
"""The passes for CPUs, but that no pool is left its indices."""
_MOST_RANKED = 3840
"""Of how many TensorRT finds the largest."""
_SECOND = 2
"""The power whose mean TensorRT's pools take, beside the first."""
_SHOWN = 3
_STEPS = 4
"""Which input of a Slice holds its steps."""
_ANY = ""
_WHOLE = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}


class Facts:
    """What the checks of forms ask of a graph.

    Attributes
    ----------
    constants
        The stored tensors that no caller can replace, by name.
    types
        The element type of each value that has one.
    dims
        The shape of each value that has one, with 0 for what is not known.
    makers
        The operator that makes each value.
    sizes
        Values that are computed from shapes alone, which the CPU has.
    """

    def __init__(self, proto: ModelProto) -> None:
        graph = infer_shapes(proto).graph
        given = {i.name for i in graph.input}
        self.constants = {t.name: t for t in graph.initializer if t.name not in given}
        self.constants |= stored_tensors(graph.node)
        infos = (*graph.input, *graph.value_info, *graph.output)
        self.types = {i.name: i.type.tensor_type.elem_type for i in infos}
        self.types |= {name: t.data_type for name, t in self.constants.items()}
        shaped = [i for i in infos if i.type.tensor_type.HasField("shape")]
        self.dims = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in shaped}
        self.dims |= {name: list(t.dims) for name, t in self.constants.items()}
        self.makers = {value: node.op_type for node in graph.node for value in node.output}
        self.sizes = self._from_shapes(graph.node)

    def _from_shapes(self, nodes: Iterable[NodeProto]) -> set[str]:
        found: set[str] = set()
        for node in nodes:
            traits = find(node.op_type, node.domain).traits
            read = [v for v in node.input if v and v not in self.constants]
            reckoned = read and found.issuperset(read) and REPEATS not in traits
            if SHAPE_ONLY in traits or (reckoned and self.types.get(node.output[0]) in _WHOLE):
                found.update(node.output)
        return found

    def number(self, value: str) -> int | None:
        """Return the one whole number that a constant is."""
        tensor = self.constants.get(value)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        array = numpy_helper.to_array(tensor)
        return int(array.reshape(-1)[0]) if array.size == 1 else None


@dataclass(frozen=True)
class Form:
    """A form of an operator that a runtime does not take, or computes wrongly.

    Attributes
    ----------
    operator
        The operator's name; empty for any.
    why
        What is wrong with it, to follow the node's name.
    test
        Whether a node has the form; by default all have.
    """

    operator: str
    why: str
    test: Callable[[Facts, NodeProto], bool] = lambda *_: True


def _gives_indices(_: Facts, node: NodeProto) -> bool:
    return any(node.output[1:])


def _depth_varies(facts: Facts, node: NodeProto) -> bool:
    return node.input[1] not in facts.constants


def _ranks_many(facts: Facts, node: NodeProto) -> bool:
    count = facts.number(node.input[1])
    return count is None or count > _MOST_RANKED


def _of_bytes(facts: Facts, node: NodeProto) -> bool:
    return node.op_type not in {"Cast", "Identity"} and any(
        facts.types.get(v) == TensorProto.UINT8 for v in (*node.input, *node.output)
    )


def _pads_differ(_: Facts, node: NodeProto) -> bool:
    pads = attributes_of(node).get("pads", [])
    return pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def _adds(_: Facts, node: NodeProto) -> bool:
    return bool(attributes_of(node).get("reduction", b"none") != b"none")


def _dilated(_: Facts, node: NodeProto) -> bool:
    return any(d > 1 for d in attributes_of(node).get("dilations", ()))


def _of_high_power(_: Facts, node: NodeProto) -> bool:
    return bool(attributes_of(node).get("p", _SECOND) > _SECOND)


def _has_no_offset(_: Facts, node: NodeProto) -> bool:
    return attributes_of(node).get("beta") == 0


def _dilated_and_larger(_: Facts, node: NodeProto) -> bool:
    given = attributes_of(node)
    return any(d > 1 for d in given.get("dilations", ())) and any(given.get("output_padding", ()))


def _joins_in_groups(facts: Facts, node: NodeProto) -> bool:
    """Tell whether each of several groups makes one channel of several."""
    groups, dims = attributes_of(node).get("group", 1), facts.dims.get(node.input[1])
    return groups > 1 and (dims is None or (dims[1] == 1 and dims[0] > groups))


def _of_int64(facts: Facts, node: NodeProto) -> bool:
    return facts.types.get(node.input[0]) == TensorProto.INT64 and node.input[0] not in facts.constants


def _of_whole_numbers(facts: Facts, node: NodeProto) -> bool:
    return facts.types.get(node.input[0]) in _WHOLE


def _of_sizes(facts: Facts, node: NodeProto) -> bool:
    return node.input[0] in facts.sizes and facts.types.get(node.output[0]) not in _WHOLE


def _counts_what_is_found(facts: Facts, node: NodeProto) -> bool:
    """Tell whether how far a Range goes is computed from numbers that a GPU has, not from sizes alone."""
    return any(value not in facts.constants and value not in facts.sizes for value in node.input)


def _of_another_domain(_: Facts, node: NodeProto) -> bool:
    return own_domain(node.domain) != ""


def _of_int32(facts: Facts, node: NodeProto) -> bool:
    return facts.types.get(node.input[0]) == TensorProto.INT32


def _adds_in_float16(facts: Facts, node: NodeProto) -> bool:
    """Tell whether a product of float16 matrices has a third input."""
    return facts.types.get(node.input[0]) == TensorProto.FLOAT16 and any(node.input[2:])


def _takes_away(facts: Facts, node: NodeProto) -> bool:
    tensor = facts.constants.get(node.input[1])
    return tensor is None or bool((numpy_helper.to_array(tensor) < 0).any())


def _steps_over_a_filter(facts: Facts, node: NodeProto) -> bool:
    """Tell whether a Slice takes some of what a convolution gives, and leaves others between them."""
    steps = facts.constants.get(node.input[_STEPS]) if len(node.input) > _STEPS else None
    strides = steps is not None and bool((np.abs(numpy_helper.to_array(steps)) > 1).any())
    return strides and facts.makers.get(node.input[0]) in {"Conv", "ConvTranspose"}


def _into_equal_parts(facts: Facts, node: NodeProto) -> bool:
    """Tell whether a Split gives the sizes of its parts, which are equal or not known."""
    if not any(node.input[1:]):
        return False
    tensor = facts.constants.get(node.input[1])
    return tensor is None or len({*numpy_helper.to_array(tensor).tolist()}) == 1


_INDICES = Form("MaxPool", "gives the indices of its maxima", _gives_indices)
_BY_SWITCHES = Form("MaxUnpool", "is not known there")
_ELSEWHERE = Form(
    _ANY, "is not one of the standard's operators, which alone are known there", _of_another_domain
)


@dataclass(frozen=True)
class Profile:
    """What a runtime takes, and how a graph is brought there.

    Attributes
    ----------
    passes
        The passes for it, in order.
    optional_target
        Whether it lets a caller replace the default of an input.
    sizes
        What must be known before it runs: nothing, the images' channels and sizes, or the batch too.
    refused
        Forms that a graph for it may not have.
    companion
        The passes for a pair's companion; ``None`` where pairs do not run.
    spelled
        Whether operators of onnxruntime's own are not known there, and are spelled out.
    """

    passes: tuple[str, ...]
    optional_target: bool = False
    sizes: Sizes = "any"
    refused: tuple[Form, ...] = ()
    companion: tuple[str, ...] | None = None
    spelled: bool = False


PROFILES: Mapping[str, Profile] = {
    "onnxruntime": Profile(("sizes", *EXPLAIN["cpu"]), optional_target=True, companion=()),
    "cuda": Profile(
        ("sizes", *EXPLAIN["cuda"]),
        optional_target=True,
        refused=(
            _BY_SWITCHES,
            Form("ConvTranspose", "has other pads before than after, which the CPU computes", _pads_differ),
            Form("ReduceProd", "is of whole numbers, which only the CPU computes", _of_int64),
            Form("MatMul", "is of whole numbers, which only the CPU computes", _of_whole_numbers),
            Form("Cast", "makes real numbers of sizes, which only the CPU has", _of_sizes),
            Form("Range", "goes as far as a number that is not of sizes alone", _counts_what_is_found),
        ),
        companion=("sizes", "pads", "shapes"),
    ),
    "tensorrt": Profile(
        ("sizes", "uniform", "pools", "windows", "crops", "axes", "bytes"),
        sizes="images",
        refused=(
            _INDICES,
            _BY_SWITCHES,
            Form("OneHot", "has a depth that is not constant", _depth_varies),
            Form("TopK", f"finds more than {_MOST_RANKED}, or a number that is not constant", _ranks_many),
            Form(_ANY, "is of uint8, which only casts take", _of_bytes),
            Form("ScatterElements", "adds up what meets at one place, for which a plugin is needed", _adds),
            *(Form(name, "is dilated", _dilated) for name in ("MaxPool", "AveragePool", "LpPool")),
            Form("LpPool", f"is of a higher power than {_SECOND}", _of_high_power),
            Form("RoiAlign", "is computed by a plugin, which is needed there"),
            _ELSEWHERE,
            *(Form(name, "is not known there") for name in ("QLinearConv", "QLinearMatMul")),
            *(Form(name, "is not known there") for name in ("ConvInteger", "MatMulInteger")),
            Form("DequantizeLinear", "is of int32, as biases are quantised", _of_int32),
        ),
    ),
    "openvino": Profile(
        ("sizes", "levels", "norms", *_WITHOUT_INDICES, "copies", "apart"),
        spelled=True,
        refused=(
            Form("LpNormalization", "adds something to the norm there"),
            Form("GlobalLpPool", "is of a higher power than 2, and not known there of any number of images"),
            Form("QuantizeLinear", "is of a form that is not written as arithmetic, and moves scales there"),
            Form("HardSigmoid", "has an offset of 0, which is taken for 0.5 there", _has_no_offset),
            Form("ConvTranspose", "is dilated, and larger by an output padding", _dilated_and_larger),
        ),
    ),
    "web": Profile(
        ("sizes", *_WITHOUT_INDICES),
        sizes="images",
        refused=(
            _INDICES,
            _BY_SWITCHES,
            Form(
                "ConvTranspose",
                "makes one channel of several in each group, which WebGPU computes wrongly",
                _joins_in_groups,
            ),
        ),
    ),
    "mobile": Profile(
        ("sizes", "uniform", "pools", "windows", "parts"),
        sizes="all",
        refused=(
            _INDICES,
            _BY_SWITCHES,
            Form("Split", "gives sizes of equal parts, on which NNAPI's provider dies", _into_equal_parts),
        ),
    ),
    "tract": Profile(
        ("sizes", "levels", "norms", "crops"),
        sizes="images",
        spelled=True,
        refused=(
            _BY_SWITCHES,
            Form("Pad", "takes away, or by how much is not constant", _takes_away),
            _ELSEWHERE,
            Form("Gemm", "adds in float16, which it does not there", _adds_in_float16),
            Form("LpPool", "is not known there"),
            Form("RoiAlign", "is not known there"),
            Form("GlobalLpPool", "is computed wrongly there"),
            Form("Slice", "steps over what a convolution gives, which is wrong there", _steps_over_a_filter),
        ),
    ),
}  # fmt: skip
"""What is known of each runtime, by its name.

``cuda`` is onnxruntime's CUDA provider, ``web`` onnxruntime for JavaScript (WebAssembly and WebGPU),
``mobile`` onnxruntime's formats and providers for telephones.
"""

assert set(PROFILES) == set(get_args(RuntimeName))  # noqa: S101


def profile(runtime: str) -> Profile:
    """Return what is known of a runtime.

    Raises
    ------
    InputError
        If nothing is.
    """
    if runtime not in PROFILES:
        raise InputError(f"runtime={runtime!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[runtime]


def check_sizes(runtime: str, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Check that what a runtime must know before it runs is known of a model's inputs.

    Raises
    ------
    InputError
        If a size is not.
    """
    needs = profile(runtime).sizes
    for entry in inputs if needs != "any" else ():
        shape = entry["shape"] or [None]
        open_ = [d for d in (shape if needs == "all" else shape[1:]) if not isinstance(d, int)]
        if open_ or entry["shape"] is None:
            what = "all sizes" if needs == "all" else "all sizes but the batch"
            raise InputError(
                f"a graph for {runtime} needs {what} of {entry['name']!r} to be known: "
                f"{sizes_of(entry['name'], entry['shape'])}"
            )


def check(proto: ModelProto, runtime: str) -> None:
    """Prove that a graph has no form that a runtime does not take.

    Raises
    ------
    ModelError
        If it has; some of the nodes are named.
    """
    found = list(dict.fromkeys(_refused(proto, profile(runtime))))
    if found:
        more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ModelError(f"{runtime} cannot run this graph: {'; '.join(found[:_SHOWN])}{more}")


def _refused(proto: ModelProto, what: Profile) -> Iterator[str]:
    if not what.refused:
        return
    facts = Facts(proto)
    for node in proto.graph.node:
        for form in what.refused:
            is_named = form.operator == node.op_type and own_domain(node.domain) == ""
            if (is_named or form.operator == _ANY) and form.test(facts, node):
                yield f"{node.op_type} {node.name or node.output[0]!r} {form.why}"
