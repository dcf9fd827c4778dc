"""Composite operators: the same numbers and the same explanation as the plain operators they stand for.

Each row writes one network twice; onnxruntime runs both, so that the plain form is known to be right.
"""

import numpy as np
import onnx
import pytest
from oracle import assert_close, model_of, numbers, plain, reconstruction

from onnx_deconv import MissingRuleError
from onnx_deconv.model.decompositions import composites

SIZES = {"x": (2, 3, 6, 5)}


def integers(shape, dtype, name="w"):
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.interp(numbers(shape, name), [-2, 2], [lowest, highest]).round().astype(dtype)


def seven_bits(*shape):
    """Weights of seven bits, whose products with bytes are exact on any CPU.

    Where a CPU has no VNNI, onnxruntime adds two such products in int16 (vpmaddubsw), which saturates:
    2 × 255 × 64 = 32640 still fits.
    """
    return np.interp(numbers(shape, "w"), [-2, 2], [-64, 64]).round().astype("i1")


FILTER = {"w": numbers((4, 3, 3, 2), "w"), "b": numbers((4,), "b")}
MATRIX = {"w": numbers((5, 4), "w"), "b": numbers((4,), "b")}
SCALES = {"one": np.array(0.02, "f"), "two": np.array(0.015, "f"), "out": np.array(0.04, "f")}
ZEROS = {"zx": np.array(128, "u1"), "zw": np.array(0, "i1"), "zy": np.array(120, "u1")}
PER_CHANNEL = {"two": np.float32([0.015, 0.03, 0.01, 0.04]), "zw": np.zeros(4, "i1")}
QUANTISED = SCALES | ZEROS | {"w": seven_bits(4, 3, 3, 2), "b": integers((4,), "i4") // 10**7}
QUANTISE, BACK = "q = QuantizeLinear(x, one, zx)", "y = DequantizeLinear(r, out, zy)"
SAME = "y = DequantizeLinear(r, one, zx)"
FLOAT_AGAIN = f"{QUANTISE} d = DequantizeLinear(q, one, zx)"
NORM = {"g": numbers((5,), "g", 0.5, 1.5), "h": numbers((5,), "h")}
NHWC = "t = Transpose<perm = [0, 2, 3, 1]>"

ROWS = {
    "FusedConv": (
        'y = com.microsoft.FusedConv<activation = "Relu", strides = [2, 1], pads = [1, 0, 1, 1]>(x, w, b)',
        "c = Conv<strides = [2, 1], pads = [1, 0, 1, 1]>(x, w, b) y = Relu(c)",
        FILTER,
    ),
    "FusedConv without activation": (
        "y = com.microsoft.FusedConv<dilations = [2, 1]>(x, w)", "y = Conv<dilations = [2, 1]>(x, w)", FILTER
    ),
    "FusedConv and a sum": (
        'k = Conv(x, v) y = com.microsoft.FusedConv<activation = "Relu">(x, w, b, k)',
        "k = Conv(x, v) c = Conv(x, w, b) s = Add(c, k) y = Relu(s)",
        FILTER | {"v": numbers((4, 3, 3, 2), "v")},
    ),
    "FusedConv, leaky": (
        'y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.2]>(x, w, b)',
        "c = Conv(x, w, b) y = LeakyRelu<alpha = 0.2>(c)",
        FILTER,
    ),
    "FusedConv, clipped": (
        'y = com.microsoft.FusedConv<activation = "Clip", activation_params = [0.0, 1.5]>(x, w, b)',
        "c = Conv(x, w, b) y = Clip(c, low, high)",
        FILTER | {"low": np.array(0, "f"), "high": np.array(1.5, "f")},
    ),
    "FusedConv, hard": (
        'y = com.microsoft.FusedConv<activation = "HardSigmoid", activation_params = [0.3, 0.4]>(x, w, b)',
        "c = Conv(x, w, b) y = HardSigmoid<alpha = 0.3, beta = 0.4>(c)",
        FILTER,
    ),
    "FusedGemm": (
        'f = Flatten<axis = 3>(x) y = com.microsoft.FusedGemm<activation = "Tanh", alpha = 0.5>(f, w, b)',
        "f = Flatten<axis = 3>(x) g = Gemm<alpha = 0.5>(f, w, b) y = Tanh(g)",
        MATRIX,
    ),
    "FusedMatMul": (
        "y = com.microsoft.FusedMatMul<transA = 1, transB = 1, alpha = 0.25>(x, w)",
        "a = Transpose<perm = [0, 1, 3, 2]>(x) b = Transpose(w) m = MatMul(a, b) y = Mul(m, quarter)",
        {"w": numbers((4, 6), "w"), "quarter": np.array(0.25, "f")},
    ),
    "Gelu": (
        "y = com.microsoft.Gelu(x)",
        "r = Mul(x, root) e = Erf(r) p = Add(e, one) h = Mul(x, half) y = Mul(h, p)",
        {"root": np.array(2**-0.5, "f"), "one": np.array(1, "f"), "half": np.array(0.5, "f")},
    ),
    "BiasGelu": (
        "y = com.microsoft.BiasGelu(x, h)",
        "a = Add(x, h) r = Mul(a, root) e = Erf(r) p = Add(e, one) k = Mul(a, half) y = Mul(k, p)",
        {"root": np.array(2**-0.5, "f"), "one": np.array(1, "f"), "half": np.array(0.5, "f")} | NORM,
    ),
    "FastGelu": (
        "y = com.microsoft.FastGelu(x, h)", 'a = Add(x, h) y = Gelu<approximate = "tanh">(a)', NORM, 20
    ),
    "QuickGelu": (
        "y = com.microsoft.QuickGelu<alpha = 1.5>(x)",
        "a = Mul(x, k) s = Sigmoid(a) y = Mul(x, s)",
        {"k": np.array(1.5, "f")},
    ),
    "SkipLayerNormalization": (
        ("k = Abs(x) a = Reshape(x, s) c = Reshape(k, s)"
        " n, , , m = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(a, c, g, h) y = Add(n, m)"),
        ("k = Abs(x) a = Reshape(x, s) c = Reshape(k, s) m = Add(a, c)"
        " n = LayerNormalization<epsilon = 0.001>(m, g, h) y = Add(n, m)"),
        NORM | {"s": np.array([2, 18, 5])},
    ),
    "SkipSimplifiedLayerNormalization": (
        ("k = Abs(x) a = Reshape(x, s) c = Reshape(k, s)"
        " y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 0.001>(a, c, g)"),
        ("k = Abs(x) a = Reshape(x, s) c = Reshape(k, s) m = Add(a, c)"
        " y = RMSNormalization<epsilon = 0.001>(m, g)"),
        NORM | {"s": np.array([2, 18, 5])},
        23,
    ),
    "QLinearConv": (
        (f"{QUANTISE} r = QLinearConv<strides = [2, 1], pads = [1, 0, 1, 1]>"
        f"(q, one, zx, w, two, zw, out, zy, b) {BACK}"),
        (f"{FLOAT_AGAIN} k = DequantizeLinear(w, two, zw) u = Mul(one, two) v = DequantizeLinear(b, u)"
        f" c = Conv<strides = [2, 1], pads = [1, 0, 1, 1]>(d, k, v) r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED,
    ),
    "QLinearConv, a scale for each channel": (
        f"{QUANTISE} r = QLinearConv(q, one, zx, w, two, zw, out, zy) {BACK}",
        (f"{FLOAT_AGAIN} k = DequantizeLinear<axis = 0>(w, two, zw) c = Conv(d, k)"
        f" r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED | PER_CHANNEL,
    ),
    "QLinearConv in place of a Relu": (
        f"{QUANTISE} r = QLinearConv(q, one, zx, w, two, zw, out, zy) {BACK}",
        (f"{FLOAT_AGAIN} k = DequantizeLinear(w, two, zw) c = Conv(d, k) e = Relu(c)"
        f" r = QuantizeLinear(e, out, zy) {BACK}"),
        QUANTISED | {"zy": np.array(0, "u1")},
    ),
    "QLinearConv, channels last": (
        (f"t = Transpose<perm = [0, 2, 3, 1]>(x) {QUANTISE.replace('(x', '(t')}"
        f" r = com.microsoft.QLinearConv<channels_last = 1>(q, one, zx, w, two, zw, out, zy) {BACK}"),
        (f"{FLOAT_AGAIN} k = DequantizeLinear(w, two, zw) c = Conv(d, k)"
        f" l = Transpose<perm = [0, 2, 3, 1]>(c) r = QuantizeLinear(l, out, zy) {BACK}"),
        QUANTISED,
    ),
    "QLinearMatMul": (
        f"{QUANTISE} r = QLinearMatMul(q, one, zx, w, two, zw, out, zy) {BACK}",
        (f"{FLOAT_AGAIN} k = DequantizeLinear<axis = 1>(w, two, zw) c = MatMul(d, k)"
        f" r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED | PER_CHANNEL | {"w": seven_bits(5, 4)},
    ),
    "QGemm": (
        (f"f = Flatten<axis = 3>(x) {QUANTISE.replace('(x', '(f')}"
        f" r = com.microsoft.QGemm<transB = 1>(q, one, zx, w, two, zw, b, out, zy) {BACK}"),
        (f"f = Flatten<axis = 3>(x) {FLOAT_AGAIN.replace('(x', '(f')} k = DequantizeLinear(w, two, zw)"
        " u = Mul(one, two) v = DequantizeLinear(b, u) c = Gemm<transB = 1>(d, k, v)"
        f" r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED | {"w": seven_bits(4, 5)},
    ),
    "QLinearAdd": (
        f"{QUANTISE} r = com.microsoft.QLinearAdd(q, one, zx, k, two, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} e = DequantizeLinear(k, two, zx) c = Add(d, e) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED | {"k": integers((3, 1, 5), "u1")},
    ),
    "QLinearMul": (
        f"{QUANTISE} r = com.microsoft.QLinearMul(q, one, zx, q, one, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} c = Mul(d, d) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED,
    ),
    "QLinearGlobalAveragePool": (
        f"{QUANTISE} r = com.microsoft.QLinearGlobalAveragePool(q, one, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} c = GlobalAveragePool(d) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED,
    ),
    "QLinearAveragePool": (
        (f"{QUANTISE} r = com.microsoft.QLinearAveragePool<kernel_shape = [3, 2], strides = [2, 1]>"
        f"(q, one, zx, out, zy) {BACK}"),
        (f"{FLOAT_AGAIN} c = AveragePool<kernel_shape = [3, 2], strides = [2, 1]>(d)"
        f" r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED,
    ),
    "QLinearConcat": (
        f"{QUANTISE} r = com.microsoft.QLinearConcat<axis = 1>(out, zy, q, one, zx, q, two, zx) {BACK}",
        (f"{FLOAT_AGAIN} e = DequantizeLinear(q, two, zx) c = Concat<axis = 1>(d, e)"
        f" r = QuantizeLinear(c, out, zy) {BACK}"),
        QUANTISED,
    ),
    "QLinearLeakyRelu": (
        f"{QUANTISE} r = com.microsoft.QLinearLeakyRelu<alpha = 0.3>(q, one, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} c = LeakyRelu<alpha = 0.3>(d) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED,
    ),
    "QLinearSigmoid": (
        f"{QUANTISE} r = com.microsoft.QLinearSigmoid(q, one, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} c = Sigmoid(d) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED,
    ),
    "QLinearSoftmax": (
        f"{QUANTISE} r = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(q, one, zx, out, zy) {BACK}",
        f"{FLOAT_AGAIN} c = Softmax<axis = 1>(d) r = QuantizeLinear(c, out, zy) {BACK}",
        QUANTISED | {"out": np.array(1 / 256, "f"), "zy": np.array(0, "u1")},
    ),
    "MaxPool of quantised numbers": (
        f"{QUANTISE} r = MaxPool<kernel_shape = [3, 2], strides = [2, 2]>(q) {SAME}",
        f"{FLOAT_AGAIN} y = MaxPool<kernel_shape = [3, 2], strides = [2, 2]>(d)",
        QUANTISED,
    ),
    "NhwcMaxPool": (
        (f"{NHWC}(x) {QUANTISE.replace('(x', '(t')}"
        f" r = com.microsoft.NhwcMaxPool<kernel_shape = [3, 2], strides = [2, 2]>(q) {SAME}"),
        (f"{FLOAT_AGAIN} p = MaxPool<kernel_shape = [3, 2], strides = [2, 2]>(d)"
        " y = Transpose<perm = [0, 2, 3, 1]>(p)"),
        QUANTISED,
    ),
    "ConvInteger": (
        ("q, s, z = DynamicQuantizeLinear(x) i = ConvInteger<strides = [2, 1]>(q, w, z, zw)"
        " f = Cast<to = 1>(i)"
        " u = Mul(s, two) y = Mul(f, u)"),
        ("q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) k = DequantizeLinear(w, two, zw)"
        " y = Conv<strides = [2, 1]>(d, k)"),
        # Weights of int8 are only known to newer versions of onnxruntime (not to 1.23).
        QUANTISED | {"w": (seven_bits(4, 3, 3, 2) + 64).astype("u1"), "zw": np.array(64, "u1")},
    ),
    # As onnxruntime's quantize_dynamic writes it below opset 11.
    "a range that the graph computes": (
        ("least = ReduceMin<keepdims = 0>(x) most = ReduceMax<keepdims = 0>(x) range = Sub(most, least)"
        " s = Div(range, span) shift = Sub(nought, least) steps = Div(shift, s) whole = Floor(steps)"
        " z = Cast<to = 2>(whole)"
        " q = QuantizeLinear(x, s, z) i = ConvInteger<strides = [2, 1]>(q, w, z, zw) f = Cast<to = 1>(i)"
        " u = Mul(s, two) y = Mul(f, u)"),
        ("q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) k = DequantizeLinear(w, two, zw)"
        " y = Conv<strides = [2, 1]>(d, k)"),
        QUANTISED
        | {"w": (seven_bits(4, 3, 3, 2) + 64).astype("u1"), "zw": np.array(64, "u1")}
        | {"span": np.array(255, "f"), "nought": np.array(0, "f")},
    ),
    "MatMulInteger": (
        ("q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z) f = Cast<to = 1>(i)"
        " u = Mul(s, two) y = Mul(f, u)"),
        ("q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) k = DequantizeLinear(w, two)"
        " y = MatMul(d, k)"),
        QUANTISED | {"w": seven_bits(5, 4)},
    ),
    "MatMulIntegerToFloat": (
        "q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, s, two, z, zw, h)",
        ("q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) k = DequantizeLinear(w, two, zw)"
        " m = MatMul(d, k) y = Add(m, h)"),
        QUANTISED | {"w": seven_bits(5, 4), "h": numbers((4,), "h")},
    ),
    "DynamicQuantizeMatMul": (
        "y = com.microsoft.DynamicQuantizeMatMul(x, w, two, zw, h)",
        ("q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) k = DequantizeLinear(w, two, zw)"
        " m = MatMul(d, k) y = Add(m, h)"),
        QUANTISED | {"w": seven_bits(5, 4), "h": numbers((4,), "h")},
    ),
    "com.microsoft's QuantizeLinear": (
        "q = com.microsoft.QuantizeLinear(x, one, zx) y = com.microsoft.DequantizeLinear(q, out, zx)",
        "q = QuantizeLinear(x, one, zx) y = DequantizeLinear(q, out, zx)",
        QUANTISED,
    ),
    "Crop": (
        "y = Crop<border = [1, 2, 1, 1]>(x)",
        "y = Slice<starts = [2, 1], ends = [-1, -1], axes = [2, 3]>(x)",
        {},
        9,
    ),
}  # fmt: skip
FOUND_IN_OPTIMISED_FILES_ALONE = {"NhwcConv", "NhwcFusedConv", "QLinearReduceMean", "QLinearWhere", "BiasAdd",
                                  "TransposeMatMul", "SimplifiedLayerNormalization"}  # fmt: skip
ELSEWHERE = {"Affine", "ImageScaler"}


def build(body, weights, opset):
    used = {
        name: array for name, array in weights.items() if name in body.replace("(", " ").replace(",", " ")
    }
    proto = model_of(body, SIZES, used, opset)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("row", ROWS)
def test_a_composite_is_explained_as_what_it_stands_for(row):
    composite, spelled, weights, *opset = ROWS[row]
    x = {"x": numbers(SIZES["x"], "x")}
    written, meant = (build(body, weights, *(opset or [17])) for body in (composite, spelled))
    got, expected = plain(written, x)["y"], plain(meant, x)["y"]
    quantum = float(weights["out"]) if "out" in weights else 1e-5
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1.01 * quantum)
    seed = numbers(got.shape, "seed")
    for rules in ("deconvnet", "guided", "gradient"):
        # By default an explanation starts before a final Transpose, which the seed here stands behind.
        explained, right = (
            reconstruction(p, x, seed, "y", inputs=["x"], rules=rules) for p in (written, meant)
        )
        assert np.any(right)
        assert_close(explained, right)


def test_every_composite_has_a_row():
    written = " ".join(row[0] for row in ROWS.values())
    for _, operator, says in composites():
        assert says
        named = operator in FOUND_IN_OPTIMISED_FILES_ALONE | ELSEWHERE or f"{operator}<" in written
        assert named or f"{operator}(" in written, operator


def test_a_form_that_is_not_known_is_refused_by_its_own_name():
    body = "y = com.microsoft.FusedMatMul<transBatchA = 1>(x, w)"
    proto = build(body, {"w": numbers((2, 3, 5, 4), "w")}, 17)
    with pytest.raises(MissingRuleError, match=r"com\.microsoft::FusedMatMul"):
        reconstruction(proto, {"x": numbers(SIZES["x"], "x")})
