"""How much memory a run will take, and how much there is."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from onnx_deconv.compiler.pair import Pair

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def memory_needed(pair: Pair, shapes: Mapping[str, Sequence[int]]) -> int:
    """Estimate the bytes that an explanation takes beside the weights, from the sizes of its values.

    What the companion reads is kept until the end; beside it there are, at the widest place of either
    model, a node's inputs and outputs, and as much again for what their layout is changed to. Of a
    VGG-style network of free size, this was 0.81 to 0.85 of the memory measured; hence the quarter more.

    Parameters
    ----------
    pair
        The pair.
    shapes
        The shapes of the inputs.
    """
    proto = ModelProto()
    proto.CopyFrom(pair.forward)
    for info in proto.graph.input:
        if info.name in shapes:
            tensor = info.type.tensor_type
            info.CopyFrom(helper.make_tensor_value_info(info.name, tensor.elem_type, list(shapes[info.name])))
    for info in proto.graph.output:  # what they say of free sizes may be wrong for these
        info.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(proto).graph
    sizes = {info.name: _bytes_of(info) for info in (*graph.input, *graph.value_info, *graph.output)}
    kept = sum(sizes.get(info.name, 0) for info in graph.output)
    widest = max(sum(sizes.get(v, 0) for v in (*node.input, *node.output)) for node in graph.node)
    return (kept + 2 * widest) * 5 // 4


def _bytes_of(info: onnx.ValueInfoProto) -> int:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return 0
    return (
        math.prod(d.dim_value for d in tensor.shape.dim)
        * helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    )


if sys.platform == "win32":

    def peak_memory() -> int:
        """Return 0: the system does not tell how many bytes this process took so far."""
        return 0

else:
    import resource

    def peak_memory() -> int:
        """Return the most bytes that this process took so far."""
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def memory_free() -> int | None:
    """Return the bytes that this process may still take; ``None`` where the system does not say."""
    return min(_free(), default=None)


def _free() -> Iterator[int]:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        yield int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10
    for limit, used in _CGROUPS:
        with suppress(OSError, ValueError):  # "max" is no number
            yield int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii"))
