"""Every form of every operator that the reference is checked on: the body of a graph that computes y.

Weights are given as shapes (random numbers) or as arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper


def model_of(text, inputs, weights=None, opset=17):
    """A model from the body of its graph, y being what it computes."""
    declared = ", ".join(
        f"double[{','.join(map(str, np.shape(value)))}] {name}" for name, value in inputs.items()
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g ({declared}) => (double[] y) {{ {text} }}'
    )
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


@dataclass(frozen=True)
class Row:
    """One form of an operator. Weights are given as shapes (random numbers) or as arrays."""

    text: str
    x: tuple[int, ...] = (2, 4, 5, 6)
    z: tuple[int, ...] | None = None
    opset: int = 17
    low: float = -2.0
    high: float = 2.0
    weights: Mapping[str, object] = field(default_factory=dict)
    same_as: str = ""
    """The same in words of opset 17, where onnx.reference cannot evaluate the row or does it wrongly."""

    def __str__(self):
        return f"{self.text} {'x'.join(map(str, self.x))} opset {self.opset}"

    def draw(self):
        """The model, its inputs and a generator for more numbers."""
        rng = np.random.default_rng(len(self.text))
        shapes = {"x": self.x} | ({} if self.z is None else {"z": self.z})
        feeds = {name: rng.uniform(self.low, self.high, shape) for name, shape in shapes.items()}
        weights = {
            name: rng.uniform(0.5, 1.5, held) if isinstance(held, tuple) else held
            for name, held in self.weights.items()
        }
        return model_of(self.text, feeds, weights, self.opset), feeds, rng


def ints(*numbers):
    return np.array(numbers, np.int64)


CONV = {"w": (6, 4, 3, 3), "b": (6,)}
CONV1 = {"w": (4, 4, 3)}
TRANSPOSED = {"w": (4, 3, 3, 2), "b": (3,)}
STATISTICS = {"s": (4,), "b": (4,), "m": (4,), "v": (4,)}

REGIONS = {
    "r": np.array([[0.2, 0, 5, 6], [1.3, 0.2, 3.9, 2.1], [-4, -3, 2, 9], [4, 3, 20, 14], [3, 4, 1, 2]]),
    "i": ints(0, 1, 0, 1, 0),
}
LINEAR = [
    Row(
        "y = RoiAlign<sampling_ratio=2, output_height=2, output_width=3, spatial_scale=0.7>(x, r, i)",
        opset=16,
        weights=REGIONS,
    ),
    Row(
        'y = RoiAlign<coordinate_transformation_mode="output_half_pixel", output_width=2>(x, r, i)',
        opset=16,
        weights=REGIONS,
    ),
    Row("y = Conv(x, w, b)", weights=CONV),
    Row("y = Conv<kernel_shape=[3,3], strides=[2,1], pads=[1,0,2,1]>(x, w)", weights=CONV),
    Row("y = Conv<strides=[2,2]>(x, w)", x=(1, 4, 10, 10), weights=CONV),
    Row("y = Conv<strides=[3,4]>(x, w)", x=(1, 4, 10, 11), weights=CONV),
    Row("y = Conv<dilations=[1,2], pads=[0,2,0,3]>(x, w)", weights=CONV),
    Row("y = Conv<group=2>(x, w)", weights={"w": (6, 2, 3, 3)}),
    Row("y = Conv<group=4, strides=[2,2]>(x, w)", weights={"w": (8, 1, 2, 2)}),
    Row('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', weights={"w": (2, 4, 2, 3)}),
    Row('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', weights={"w": (2, 4, 2, 3)}),
    Row('y = Conv<auto_pad="SAME_UPPER">(x, w)', weights={"w": (2, 4, 4, 2)}),
    Row('y = Conv<auto_pad="SAME_LOWER">(x, w)', weights={"w": (2, 4, 4, 2)}),
    Row('y = Conv<auto_pad="VALID", strides=[1,3]>(x, w)', weights=CONV),
    Row("y = Conv<strides=[2], pads=[2,1]>(x, w)", x=(2, 4, 9), weights=CONV1),
    Row("y = Conv<pads=[1,0,1,0,1,1]>(x, w)", x=(1, 2, 3, 4, 3), weights={"w": (2, 2, 2, 3, 2)}),
    Row("y = ConvTranspose(x, w, b)", weights=TRANSPOSED),
    Row("y = ConvTranspose<strides=[2,3], pads=[1,0,0,1]>(x, w)", weights=TRANSPOSED),
    Row("y = ConvTranspose<strides=[3,3], output_padding=[2,1]>(x, w)", weights=TRANSPOSED),
    Row("y = ConvTranspose<dilations=[2,3], pads=[1,1,2,0]>(x, w)", weights=TRANSPOSED),
    Row(
        "y = ConvTranspose<strides=[2,2], output_shape=[10,12]>(x, w)",
        same_as="y = ConvTranspose<strides=[2,2], pads=[1,0,0,0]>(x, w)",
        weights=TRANSPOSED,
    ),
    Row(
        "y = ConvTranspose<strides=[2,2], output_shape=[12,14]>(x, w)",
        same_as="a = ConvTranspose<strides=[2,2]>(x, w) y = Pad(a, p)",
        weights=TRANSPOSED | {"p": ints(0, 0, 0, 0, 0, 0, 1, 2)},
    ),
    Row(
        "y = ConvTranspose<group=2, strides=[2,2]>(x, w)",
        same_as="x1, x2 = Split<axis=1>(x) w1, w2 = Split<axis=0>(w)"
        " a = ConvTranspose<strides=[2,2]>(x1, w1) b = ConvTranspose<strides=[2,2]>(x2, w2)"
        " y = Concat<axis=1>(a, b)",
        weights=TRANSPOSED,
    ),
    Row(
        'y = ConvTranspose<strides=[2,2], output_shape=[8,11], auto_pad="SAME_UPPER">(x, w)',
        same_as="y = ConvTranspose<strides=[2,2], pads=[1,0,2,1]>(x, w)",
        weights=TRANSPOSED,
    ),
    Row('y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', weights=TRANSPOSED),
    Row('y = ConvTranspose<strides=[2,1], auto_pad="SAME_LOWER">(x, w)', weights=TRANSPOSED),
    Row("y = ConvTranspose<strides=[2]>(x, w)", x=(1, 4, 5), weights=CONV1),
    Row("y = ConvTranspose(x, w)", x=(1, 2, 3, 2, 2), weights={"w": (2, 3, 2, 2, 3)}),
    Row("y = Gemm(x, w, b)", x=(3, 4), weights={"w": (4, 5), "b": (5,)}),
    Row(
        "y = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(x, w, b)",
        x=(4, 3),
        opset=11,
        weights={"w": (5, 4), "b": (3, 1)},
    ),
    Row("y = Gemm<transA=1, beta=3.0>(w, w2, x)", x=(5,), weights={"w": (4, 3), "w2": (4, 5)}),
    Row("y = MatMul(x, w)", x=(3, 4), weights={"w": (4, 5)}),
    Row("y = MatMul(x, w)", x=(2, 3, 4), weights={"w": (4, 5)}),
    Row("y = MatMul(x, w)", x=(3, 4), weights={"w": (2, 4, 5)}),
    Row("y = MatMul(w, x)", x=(1, 4, 5), weights={"w": (2, 3, 4)}),
    Row("y = MatMul(x, w)", x=(4,), weights={"w": (4,)}),
    Row("y = MatMul(x, w)", x=(4,), weights={"w": (2, 4, 5)}),
    Row("y = MatMul(w, x)", x=(4,), weights={"w": (4, 5)[::-1]}),
    Row("y = MatMul(w, x)", x=(2, 4, 5), weights={"w": (4,)}),
    Row("y = AveragePool<kernel_shape=[2,3], strides=[2,1]>(x)"),
    Row("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,2]>(x)"),
    Row("y = AveragePool<kernel_shape=[3,3], pads=[1,0,1,2], count_include_pad=1>(x)"),
    Row('y = AveragePool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_UPPER">(x)'),
    Row('y = AveragePool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_LOWER">(x)'),
    Row("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", opset=19),
    Row("y = AveragePool<kernel_shape=[2,2], dilations=[2,3]>(x)", opset=19),
    Row(
        "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,1,1,1],"
        " count_include_pad=1>(x)",
        opset=19,
    ),
    Row("y = AveragePool<kernel_shape=[3], strides=[2], pads=[1,1]>(x)", x=(1, 2, 7)),
    Row("y = AveragePool<kernel_shape=[2,2,2]>(x)", x=(1, 2, 3, 3, 4)),
    Row("y = GlobalAveragePool(x)"),
    Row("y = GlobalAveragePool(x)", x=(2, 3, 4)),
    Row('y = Einsum<equation = "bij, kj -> ikb">(x, w)', x=(2, 3, 4), weights={"w": (5, 4)}),
    Row('y = Einsum<equation = "...ij,jk">(w, x)', x=(3, 5), weights={"w": (2, 4, 3)}),
    Row('y = Einsum<equation = "abc->b">(x)', x=(2, 3, 4)),
    Row('y = Einsum<equation = "b...->...">(x)', x=(2, 3, 4)),
    Row(
        "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(x, i)",
        x=(1, 1, 2, 2),
        weights={"i": np.array([[[[1, 6], [8, 15]]]])},
    ),
    Row("y = Neg(x)"),
    Row("y = Add(x, w)", weights={"w": (4, 1, 6)}),
    Row("y = Add(w, x)", x=(4, 1, 6), weights={"w": (2, 1, 5, 1)}),
    Row("y = Sub(w, x)", x=(4, 1, 6), weights={"w": (2, 1, 5, 1)}),
    Row("y = Mul(x, w)", weights={"w": (4, 1, 1)}),
    Row("y = Mul(w, x)", x=(5, 1), weights={"w": (2, 4, 5, 6)}),
    Row("y = Div(x, w)", weights={"w": (1,)}),
    Row("y = Sum(x, w, x)", weights={"w": (5, 1)}),
    Row("y = Mean(w, x)", x=(6,), weights={"w": (5, 6)}),
    Row("y = BatchNormalization(x, s, b, m, v)", weights=STATISTICS),
    Row("y = BatchNormalization<epsilon=0.1>(x, s, b, m, v)", x=(3, 4), weights=STATISTICS),
    Row("y = BatchNormalization(x, s, b, m, v)", opset=9, weights=STATISTICS),
    Row("y = Concat<axis=1>(x, w, x)", weights={"w": (2, 3, 5, 6)}),
    Row("y = Concat<axis=-1>(w, x)", x=(2, 4), weights={"w": (2, 3)}),
    Row("a, b = Split<axis=1>(x) y = Sub(a, b)"),
    Row("a, b, y = Split<axis=1, split=[1,1,2]>(x)", opset=11),
    Row("a, y, c = Split<axis=-1>(x, w)", weights={"w": ints(1, 3, 2)}),
    Row("a, b = Split<axis=-2, num_outputs=2>(x) y = Concat<axis=2>(b, a)", opset=18),
    Row("y = Slice<starts=[1,-3], ends=[3,99], axes=[1,3]>(x)", opset=9),
    Row("y = Slice<starts=[1,2], ends=[2,-1]>(x)", opset=9),
    Row("y = Slice(x, b, e)", weights={"b": ints(0, 1), "e": ints(1, 9)}),
    Row(
        "y = Slice(x, b, e, a, s)",
        weights={"b": ints(-1, 5), "e": ints(-99, 0), "a": ints(2, -1), "s": ints(-2, -1)},
    ),
    Row("y = Slice(x, b, e, a, s)", weights={"b": ints(-99), "e": ints(2**62), "a": ints(3), "s": ints(4)}),
    Row("y = Gather<axis=1>(x, i)", weights={"i": ints(0, 3, 3, -1)}),
    Row("y = Gather<axis=-1>(x, i)", weights={"i": np.array(2)}),
    Row("y = GatherElements<axis=1>(x, i)", x=(2, 4), weights={"i": np.array([[0, -1, 3], [1, 1, 2]])}),
    Row("y = GatherElements<axis=-2>(x, i)", x=(3, 4), weights={"i": np.array([[2, 2, 0, 1], [0, 2, 0, 1]])}),
    Row("y = GatherND(x, i)", x=(2, 3, 4), weights={"i": np.array([[0, 1], [1, -2], [0, 1]])}),
    Row("y = GatherND(x, i)", x=(2, 3), weights={"i": np.array([[[0, 1]], [[1, 2]]])}),
    Row("y = GatherND<batch_dims=1>(x, i)", x=(2, 3, 4), weights={"i": np.array([[[1]], [[0]]])}),
    Row("y = GatherND<batch_dims=2>(x, i)", x=(2, 2, 3), weights={"i": np.array([[[1], [0]], [[2], [2]]])}),
    Row("y = ScatterElements<axis=1>(x, i, w)", x=(2, 4), weights={"i": np.array([[0, -1]]), "w": (1, 2)}),
    Row("y = ScatterElements(w, i, x)", x=(1, 4), weights={"i": np.array([[2, 0, 1, 1]]), "w": (3, 4)}),
    Row("y = ScatterND(x, i, w)", x=(4, 3), weights={"i": np.array([[2], [-4]]), "w": (2, 3)}),
    Row("y = ScatterND(w, i, x)", x=(2,), weights={"i": np.array([[2, 1], [0, 0]]), "w": (4, 3)}),
    Row("y = Gather(x, i)", weights={"i": np.array([[0, 1], [1, 1]])}),
    Row("y = Pad<pads=[0,0,1,2,0,0,0,3]>(x)", opset=7),
    Row('y = Pad<pads=[0,0,1,2,0,0,2,3], mode="reflect">(x)', opset=10),
    Row("y = Pad(x, p)", weights={"p": ints(0, 1, 0, 2, 0, 0, 3, 1)}),
    Row('y = Pad<mode="edge">(x, p)', weights={"p": ints(0, 0, 2, 2, 0, 0, 3, 1)}),
    Row('y = Pad<mode="wrap">(x, p)', opset=19, weights={"p": ints(0, 0, 2, 2, 0, 0, 3, 1)}),
    Row('y = Pad<mode="reflect">(x, p, , a)', opset=18, weights={"p": ints(2, 1, 0, 3), "a": ints(-1, 2)}),
    Row("y = Reshape(x, s)", weights={"s": ints(0, -1, 3)}),
    Row("y = Flatten<axis=2>(x)"),
    Row("y = Flatten<axis=0>(x)"),
    Row("y = Squeeze<axes=[1,3]>(x)", x=(2, 1, 3, 1), opset=11),
    Row("y = Squeeze(x, a)", x=(2, 1, 3, 1), weights={"a": ints(-1)}),
    Row("y = Squeeze(x)", x=(2, 1, 3, 1)),
    Row("y = Unsqueeze<axes=[0,2]>(x)", x=(3, 4), opset=11),
    Row("y = Unsqueeze(x, a)", x=(3, 4), weights={"a": ints(-1, 0)}),
    Row("y = Transpose(x)"),
    Row("y = Transpose<perm=[0,3,1,2]>(x)"),
    Row("y = Expand(x, s)", x=(3, 1), weights={"s": ints(2, 1, 4)}),
    Row("y = Tile(x, r)", x=(2, 3), weights={"r": ints(3, 2)}),
    Row("y = DepthToSpace<blocksize=2>(x)", x=(1, 8, 2, 3), opset=9),
    Row('y = DepthToSpace<blocksize=2, mode="CRD">(x)', x=(1, 8, 2, 3)),
    Row("y = SpaceToDepth<blocksize=2>(x)", x=(1, 2, 4, 6)),
    Row("y = ReduceMean<axes=[2,-1]>(x)", opset=13),
    Row("y = ReduceMean<keepdims=0, axes=[1]>(x)", opset=11),
    Row("y = ReduceMean(x, a)", opset=18, weights={"a": ints(-2)}),
    Row("y = ReduceMean(x)", opset=13),
    Row("y = ReduceSum<keepdims=0>(x, a)", opset=13, weights={"a": ints(0, 3)}),
    Row("y = ReduceSum<axes=[1]>(x)", opset=11),
    Row("y = ReduceSum<noop_with_empty_axes=1>(x)", opset=13),
    Row("y = Identity(x)"),
    Row("y = CastLike(x, w)", weights={"w": (1,)}),
    Row("y = Dropout(x)", opset=7),
    Row("y, mask = Dropout(x)"),
    Row("y = Cast<to=11>(x)"),
    Row("y = Where(c, x, w)", x=(4, 1, 6), weights={"c": np.eye(5, 6) > 0, "w": (1,)}),
    Row("y = Resize(x, , s)", opset=13, weights={"s": np.float32([1, 1, 2, 1.5])}),
    Row("y = Resize(x, , , n)", opset=13, weights={"n": ints(2, 4, 3, 13)}),
    *(
        Row(
            f'y = Resize<mode="linear", coordinate_transformation_mode="{kind}">(x, , , n)',
            opset=19,
            weights={"n": ints(2, 4, 9, 4)},
        )
        for kind in (
            "half_pixel",
            "asymmetric",
            "align_corners",
            "pytorch_half_pixel",
            "half_pixel_symmetric",
        )
    ),
    *(
        Row(
            f'y = Resize<mode="cubic", coordinate_transformation_mode="{kind}", {more}>(x, , , n)',
            opset=19,
            weights={"n": ints(2, 4, 10, 3)},
        )
        for kind in ("half_pixel", "asymmetric")
        for more in ("cubic_coeff_a=-0.5", "exclude_outside=1")
    ),
    *(
        Row(
            f'y = Resize<mode="{mode}", antialias=1>(x, , , n)',
            x=(1, 2, 5, 8),
            opset=19,
            weights={"n": ints(1, 2, 10, 4)},
        )
        for mode in ("linear", "cubic")
    ),
    *(
        Row(
            f'y = Resize<mode="{mode}", coordinate_transformation_mode="tf_crop_and_resize", axes=[3,2],'
            ' nearest_mode="floor">(x, r, , n)',
            opset=18,
            weights={"n": ints(5, size), "r": np.float32([0.25, -0.25, 1.125, 0.75])},
        )
        for mode in ("linear", "nearest")
        for size in (1, 4)
    ),
    *(
        Row(
            f'y = Resize<nearest_mode="{to}", coordinate_transformation_mode="asymmetric">(x, , s)',
            opset=13,
            weights={"s": np.float32([1, 1, 0.5, 2])},
        )
        for to in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    Row("y = Resize<axes=[3]>(x, , s)", opset=18, weights={"s": np.float32([3])}),
    Row(
        "y = Resize(x, s)",
        opset=10,
        same_as='y = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
        weights={"s": np.float32([1, 1, 1.5, 3])},
    ),
    Row(
        'y = Upsample<mode="linear", scales=[1.0,1.0,2.0,3.0]>(x)',
        opset=7,
        same_as='y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , s)',
        weights={"s": np.float32([1, 1, 2, 3])},
    ),
    Row("y = Upsample(x, s)", opset=9, weights={"s": np.float32([1, 1, 2, 3])}),
    Row("y = ImageScaler<scale=0.5, bias=[1.0,2.0,3.0,4.0]>(x)", opset=7),
    Row("y = Affine<alpha=0.5, beta=3.0>(x)", opset=7),
    Row("y = Crop<border=[1,2,1,0]>(x)", opset=7),
    Row("y = Crop<border=[1,2,0,0], scale=[2,3]>(x)", opset=7),
]

ACTIVATIONS = [
    Row("y = Relu(x)"),
    Row("y = LeakyRelu<alpha=0.3>(x)"),
    Row("y = LeakyRelu(x)"),
    Row("y = PRelu(x, w)", weights={"w": (4, 1, 1)}),
    Row("y = ThresholdedRelu<alpha=0.5>(x)"),
    Row("y = ThresholdedRelu(x)"),
    Row("y = Clip<min=0.0, max=1.5>(x)", opset=10),
    Row("y = Clip<max=1.5>(x)", opset=7),
    Row("y = Clip(x, l, h)", weights={"l": np.array(-1.0), "h": np.array(1.5)}),
    Row("y = Clip(x, , h)", weights={"h": np.array(1.5)}),
    Row("y = Elu<alpha=0.7>(x)"),
    Row("y = Selu(x)"),
    Row("y = Selu<alpha=2.0, gamma=0.5>(x)"),
    Row("y = Celu<alpha=0.7>(x)"),
    Row("y = Softplus(x)"),
    Row("y = Sin(x)"),
    Row("y = Cos(x)"),
    Row("y = Softsign(x)"),
    Row("y = Sigmoid(x)"),
    Row("y = HardSigmoid(x)", low=-4, high=4),
    Row("y = HardSigmoid<alpha=0.3, beta=0.4>(x)"),
    Row("y = Tanh(x)"),
    Row("y = HardSwish(x)", low=-5, high=5),
    Row("y = Mish(x)", opset=18),
    Row("y = Gelu(x)", opset=20),
    Row('y = Gelu<approximate="tanh">(x)', opset=20),
    Row("y = Swish<alpha=1.7>(x)", opset=24),
    Row("y = Erf(x)"),
    Row("y = Exp(x)"),
    Row("y = Log(x)", low=0.5),
    Row("y = Sqrt(x)", low=0.5),
    Row("y = Reciprocal(x)", low=0.5),
    Row("y = Abs(x)"),
    Row("y = Floor(x)"),
]

OTHERS = [
    Row("y = Gemm(x, z)", x=(3, 4), z=(4, 5)),
    Row("y = Gemm<transA=1, transB=1, alpha=2.0>(x, z)", x=(4, 3), z=(5, 4)),
    Row("y = Gemm<transB=1>(x, x, z)", x=(4, 3), z=(1, 4)),
    Row("y = MatMul(x, z)", x=(2, 1, 3, 4), z=(5, 4, 2)),
    Row("y = MatMul(x, z)", x=(4,), z=(3, 4, 2)),
    Row("y = MatMul(x, z)", x=(3, 2, 4), z=(4,)),
    Row("y = MatMul(x, z)", x=(4,), z=(4,)),
    Row("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)"),
    Row("y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(x)", x=(1, 2, 7, 9)),
    Row("y = MaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,2,1]>(x)"),
    Row("y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", x=(1, 2, 6, 8)),
    Row("y = MaxPool<kernel_shape=[2,3], dilations=[2,2], pads=[0,1,0,1]>(x)"),
    Row('y = MaxPool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_UPPER">(x)'),
    Row(
        'y = MaxPool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_LOWER">(x)',
        same_as="y = MaxPool<kernel_shape=[2,3], strides=[2,2], pads=[1,1,0,0]>(x)",
    ),
    Row('y = MaxPool<kernel_shape=[3,2], strides=[2,2], auto_pad="VALID">(x)', opset=7),
    Row("y, i = MaxPool<kernel_shape=[2,2], storage_order=1>(x)"),
    Row("y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,1]>(x)", x=(2, 3, 8)),
    Row("y = MaxPool<kernel_shape=[2,2,3], strides=[1,2,2]>(x)", x=(1, 2, 3, 4, 5)),
    Row("y = GlobalMaxPool(x)"),
    Row("y = LpPool<kernel_shape=[2,3], strides=[1,2], pads=[0,1,1,1]>(x)", opset=18),
    Row("y = LpPool<kernel_shape=[2,2], p=1>(x)", opset=11),
    Row("y = LpPool<kernel_shape=[3], p=3, dilations=[2]>(x)", x=(2, 3, 7), opset=18),
    Row("y = GlobalLpPool(x)", same_as="y = ReduceL2<axes=[2,3]>(x)"),
    Row("y = GlobalLpPool<p=1>(x)", same_as="y = ReduceL1<axes=[2,3]>(x)"),
    Row(
        "y = GlobalLpPool<p=3>(x)",
        x=(1, 2, 3),
        low=0.5,
        same_as="c = Mul(x, x) d = Mul(c, x) s = ReduceSum(d, last) y = Pow(s, third)",
        weights={"last": ints(2), "third": np.array(1 / 3)},
    ),
    Row("y, i = TopK<axis=1>(x, k)", weights={"k": ints(3)}),
    Row("y, i = TopK<largest=0>(x, k)", weights={"k": ints(2)}),
    Row("y = ScatterElements(x, i, z)", x=(3, 2), z=(2, 1), weights={"i": np.array([[2], [0]])}),
    Row(
        'y = ScatterElements<reduction="add">(x, i, z)',
        x=(3, 2),
        z=(2, 1),
        opset=18,
        weights={"i": np.array([[2], [2]])},
    ),
    Row(
        "y = Scatter<axis=1>(x, i, z)",
        x=(2, 3),
        z=(2, 1),
        opset=9,
        weights={"i": np.array([[2], [0]])},
        same_as="y = ScatterElements<axis=1>(x, i, z)",
    ),
    Row("y = ScatterND(x, i, z)", x=(4, 3), z=(2, 3), weights={"i": np.array([[2], [0]])}),
    Row(
        'y = ScatterND<reduction="add">(x, i, z)',
        x=(4, 3),
        z=(2,),
        opset=18,
        weights={"i": np.array([[1, 1], [1, 1]])},
    ),
    Row('y = Einsum<equation = "bij, bjk -> bik">(x, z)', x=(2, 3, 4), z=(2, 4, 5)),
    Row('y = Einsum<equation = "i,ij,j->">(x, w, z)', x=(3,), z=(4,), weights={"w": (3, 4)}),
    Row('y = Einsum<equation = "...ij,...jk">(x, z)', x=(2, 3, 4), z=(2, 4, 5)),
    Row(
        "y = MeanVarianceNormalization(x)",
        same_as="m = ReduceMean<axes=[0,2,3]>(x) c = Sub(x, m)"
        " q = Mul(c, c) v = ReduceMean<axes=[0,2,3]>(q) d = Sqrt(v) y = Div(c, d)",
    ),
    Row(
        "y = MeanVarianceNormalization<axes=[1,-1]>(x)",
        same_as="m = ReduceMean<axes=[1,3]>(x)"
        " c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes=[1,3]>(q) d = Sqrt(v) y = Div(c, d)",
    ),
    Row("y = RMSNormalization(x, s)", opset=23, weights={"s": (6,)}),
    Row("y = RMSNormalization<axis=2, epsilon=0.1>(x, s)", opset=23, weights={"s": (5, 6)}),
    Row("y = LpNormalization(x)"),
    Row("y = LpNormalization<axis=1, p=1>(x)", same_as="n = ReduceL1<axes=[1]>(x) y = Div(x, n)"),
    Row("y = ReduceL1<axes=[1]>(x)", opset=13),
    Row("y = ReduceL2<axes=[1,-2], keepdims=0>(x)", opset=13),
    Row("y = ReduceSumSquare(x, a)", opset=18, weights={"a": ints(3)}),
    Row("y = ReduceLogSum<axes=[2]>(x)", opset=13, low=0.5),
    Row("y = ReduceLogSumExp<axes=[3,1], keepdims=0>(x)", opset=13),
    Row("y = ReduceProd<axes=[3]>(x)", opset=13),
    Row("y = ReduceMax<axes=[1,3]>(x)", opset=13),
    Row("y = ReduceMax<keepdims=0>(x)", opset=13),
    Row("y = ReduceMin<keepdims=0>(x, a)", opset=18, weights={"a": ints(-1, 0)}),
    Row("y = InstanceNormalization<epsilon=0.01>(x, s, b)", weights=STATISTICS),
    Row("y = InstanceNormalization(x, s, b)", x=(2, 4, 7), weights=STATISTICS),
    Row("y = LayerNormalization(x, s, b)", x=(2, 3, 4), weights=STATISTICS),
    Row(
        "a, m, d = LayerNormalization<axis=1>(x, w) b = Mul(a, m) y = Add(b, d)",
        x=(2, 3, 4),
        weights={"w": (3, 4)},
    ),
    Row("a, m, y = LayerNormalization(x, w)", x=(2, 3, 4), weights={"w": (4,)}),
    Row("y = LayerNormalization<axis=1, epsilon=0.1>(x, s)", x=(2, 3, 4), weights={"s": (3, 4)}),
    Row("y = GroupNormalization<num_groups=2, stash_type=11>(x, s, b)", opset=21, weights=STATISTICS),
    Row("y = LRN<size=3, alpha=0.8, beta=0.6, bias=1.5>(x)", x=(2, 7, 2, 3)),
    Row("y = LRN<size=4, alpha=0.8, beta=0.6, bias=1.5>(x)", x=(2, 7, 2, 3)),
    Row("y = LRN<size=2, alpha=5.0>(x)", x=(2, 7, 2, 3)),
    Row("y = LRN<size=9, alpha=5.0>(x)", x=(2, 4, 2, 3)),
    Row("y = Softmax(x)", x=(2, 3, 4), opset=11),
    Row("y = Softmax<axis=2>(x)", x=(2, 3, 4), opset=7),
    Row("y = Softmax(x)", x=(2, 3, 4)),
    Row("y = Softmax<axis=1>(x)"),
    Row("y = LogSoftmax<axis=-1>(x)", x=(2, 3, 4)),
    Row("y = LogSoftmax<axis=1>(x)", x=(2, 3, 4), opset=11),
    Row("y = Sub(x, z)", x=(2, 3, 1), z=(4,)),
    Row("y = Mul(x, z)", x=(2, 3, 1), z=(4,)),
    Row("y = Mul(x, x)"),
    Row("y = Div(x, z)", x=(2, 3, 1), z=(4,), low=0.5),
    Row("y = Div(x, x)", low=0.5),
    Row("y = Pow(x, w)", weights={"w": np.array(2.0)}),
    Row("y = Pow(x, w)", weights={"w": np.array([0.0, 1.0, 3.0, -2.0, 2.0, 1.0])}),
    Row("y = Pow(x, z)", x=(3, 4), z=(1, 4), low=0.5),
    Row("y = Sum(x, z, x)", x=(3, 1), z=(2, 1, 4)),
    Row("y = Mean(x, z)", x=(3, 1), z=(2, 1, 4)),
    Row("y = Max(x, z)", x=(3, 1), z=(2, 1, 4)),
    Row("y = Min(x, z, w)", x=(3, 1), z=(2, 1, 4), weights={"w": (4,)}),
    Row("y = Concat<axis=0>(x, z)", x=(3, 2), z=(1, 2)),
    Row("y = Where(c, x, z)", x=(3, 1), z=(4,), weights={"c": np.eye(3, 4) > 0}),
    # Several nodes: paths that part and meet, and spelled activations at their true gradient.
    Row("a = Relu(x) b = Conv(a, w) c = Add(b, a) y = Mul(c, x)", weights={"w": (4, 4, 1, 1)}),
    Row("g = GlobalAveragePool(x) s = HardSigmoid(g) y = Mul(x, s)"),
    Row("s = Sigmoid(x) y = Mul(x, s)"),
    Row("a = Shape(x) y = Reshape(x, a)"),
    Row("a = Floor(x) b = Cast<to=7>(a) c = Cast<to=11>(b) y = Add(x, c)"),
]
