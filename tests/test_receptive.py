"""Receptive fields against the set of pixels whose change alters the unit.

The networks have positive weights and no biases: shown one bright pixel on black, a unit is positive
exactly where it can see that pixel. So one batch of all such images tells every unit's whole field.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper
from oracle import model_of
from random_networks import HEIGHT, WIDTH, Net, nets
from zoo_files import ZOO

from onnx_deconv import InputError, ModelError, UnknownLayerError, load
from onnx_deconv.receptive import Crop, CropError, CropGrid, rasters, receptive_field
from onnx_deconv.runtime import Session, numpy_of

PIXELS = HEIGHT * WIDTH
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def seen(proto, layer, shape=(1, HEIGHT, WIDTH)):
    """Which pixels each unit sees: booleans, (H, W, *positions of the layer)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if layer not in {o.name for o in copy.graph.output}:
        copy.graph.output.append(helper.make_empty_tensor_value_info(layer))
    channel = int(np.argmin(shape))
    height, width = (d for k, d in enumerate(shape) if k != channel)
    bright = np.eye(height * width + 1, height * width, dtype=np.float32).reshape(-1, 1, height, width)
    found = numpy_of(Session(copy, Path(), "cpu").run({"image": np.moveaxis(bright, 1, channel + 1)})[layer])
    changed = found[:-1] != found[-1:]  # the last image is black
    return changed.any(axis=1).reshape(height, width, *found.shape[2:])


def hull(pixels):
    """The box (y0, x0, y1, x1) of a set of pixels."""
    if not pixels.any():
        return (0, 0, 0, 0)
    (y0, *_, y1), (x0, *_, x1) = ([k[0], k[-1]] for k in map(np.flatnonzero, (pixels.any(1), pixels.any(0))))
    return (y0, x0, y1 + 1, x1 + 1)


def check(proto, layer, shape=(1, HEIGHT, WIDTH), **options):
    field = receptive_field(load(proto), layer, **options)
    pixels = seen(proto, layer, shape)
    for axis, bounds in zip(field.axes, field.bounds, strict=True):
        assert axis is None or len(bounds) == pixels.shape[2 + axis]
    for position in np.ndindex(*pixels.shape[2:]):
        assert field.box(position) == hull(pixels[(..., *position)]), position
        if any(field.box(position)):
            first, last = np.transpose(field.reach(position))
            assert (first <= field.box(position)[:2]).all()
            assert (last >= field.box(position)[2:]).all()
    return field


def check_covers(proto, layer):
    """No pixel that alters a unit is outside its box."""
    field, pixels = receptive_field(load(proto), layer), seen(proto, layer)
    for position in np.ndindex(*pixels.shape[2:]):
        y0, x0, y1, x1 = field.box(position)
        outside = pixels[(..., *position)].copy()
        outside[y0:y1, x0:x1] = False
        assert not outside.any(), position


def check_closed_form(field, lengths=(HEIGHT, WIDTH)):
    """Size, jump and offset say what a unit sees that no border cuts off; in whole steps, to the pixel."""
    for bounds, size, jump, offset, length in zip(
        field.bounds, field.size, field.jump, field.offset, lengths, strict=True
    ):
        assert jump or len({*map(tuple, bounds.tolist())}) == 1
        within = int(jump != int(jump) or offset != int(offset))
        for position, (first, last) in enumerate(bounds.tolist()):
            start = position * jump + offset
            if 0 <= start <= length - size and first < last and len(bounds) > 1:
                assert abs(first - start) <= within
                assert abs(last - (start + size)) <= 1.5 * within  # the size is rounded up


@pytest.mark.slow
@given(nets())
@settings(max_examples=120)
def test_random_networks(net):
    proto, operators = net.model(), {n.op_type for n in net.nodes}
    try:
        seen(proto, net.last)
    except (InputError, ModelError):
        return  # nothing is left of the image
    if "Pad" in operators and operators & {"Add", "Concat"}:
        # A branch sees nothing from a padded column, another sees beside it: no product of intervals.
        check_covers(proto, net.last)
    else:
        check(proto, net.last)


def test_closed_form_far_from_the_border():
    net = Net((1, 64, 64))
    net.conv((7, 7), strides=[2, 2], pads=[3] * 4)
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.conv((3, 3), pads=[1] * 4)
    field = check(net.model(), net.last, (1, 64, 64))
    # ResNet's stem: 7, then 7 + 2·2 = 11, then 11 + 2·4 = 19 pixels, in steps of 4.
    assert (field.size, field.jump, field.offset) == ((19, 19), (4, 4), (-9, -9))
    y0, x0, y1, x1 = field.box((8, 8))
    assert (y0, x0) == (8 * 4 - 9, 8 * 4 - 9)
    assert (y1 - y0, x1 - x0) == (19, 19)
    assert field.box((0, 15)) == (0, 51, 10, 64)
    assert field.reach((0, 15)) == [(-9, 10), (51, 70)]


def test_closed_form_of_a_transposed_convolution():
    net = Net()
    net.conv((4, 5), operator="ConvTranspose", strides=[2, 1], pads=[1, 2, 1, 2])
    field = check(net.model(), net.last)
    # Row o gets what row i sends to 2·i - 1 .. 2·i + 2: two rows, of row 0 rows -1 and 0.
    assert (field.size, field.jump, field.offset) == ((2, 5), (0.5, 1), (-1, -2))


def test_a_joined_value_says_what_either_could_not_follow():
    body = "c = Concat<axis = 2>(image, image) g = GlobalMaxPool(c) y = Add(image, g) z = Add(g, image)"
    model = load(model_of(body, {"image": (1, 1, HEIGHT, WIDTH)}, outputs=("y", "z")))
    for value in "yz":
        assert "Concat" in receptive_field(model, value).note


LAST = np.iinfo(np.int64).max
SLICE = "y = Slice(image, b, e, a, s)"
SHIFTED = "coordinate_transformation_mode"
FORMS = {
    "convolution": (
        "y = Conv<strides = [2, 3], dilations = [2, 1], pads = [1, 2, 0, 3]>(image, w)",
        {"w": (1, 1, 3, 2)},
    ),
    "convolution, SAME_LOWER": (
        'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(image, w)',
        {"w": (1, 1, 4, 2)},
    ),
    "transposed convolution": (
        (
            "y = ConvTranspose<strides = [3, 2], pads = [1, 0, 2, 1], dilations = [1, 2],"
            " output_padding = [1, 0]>(image, w)"
        ),
        {"w": (1, 1, 2, 3)},
    ),
    "transposed convolution to a size": (
        "y = ConvTranspose<strides = [2, 2], output_shape = [25, 23]>(image, w)",
        {"w": (1, 1, 3, 4)},
    ),
    "transposed convolution, SAME_LOWER": (
        'y = ConvTranspose<strides = [2, 3], auto_pad = "SAME_LOWER">(image, w)',
        {"w": (1, 1, 5, 7)},
    ),
    "transposed convolution, SAME_UPPER": (
        'y = ConvTranspose<strides = [2, 3], auto_pad = "SAME_UPPER">(image, w)',
        {"w": (1, 1, 5, 4)},
    ),
    "average": ("y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1]>(image)", {}),
    "Lp": ("y = LpPool<kernel_shape = [2, 3], strides = [1, 2], pads = [0, 1, 1, 1]>(image)", {}),
    "padded": ("y = Pad(image, p)", {"p": [0, 0, 2, 1, 0, 0, 3, 0]}),
    "cropped": ("y = Pad(image, p)", {"p": [0, 0, -2, 1, 0, 0, -3, -4]}),
    "padded by reflection": ('y = Pad<mode = "reflect">(image, p)', {"p": [0, 0, 2, 1, 0, 0, 3, 4]}),
    "padded by the edge": ('y = Pad<mode = "edge">(image, p)', {"p": [0, 0, 2, 1, 0, 0, 3, 4]}),
    "padded along named axes": ("y = Pad(image, p, , a)", {"p": [1, 2, 3, 4], "a": [-1, 2]}),
    "sliced": (SLICE, {"b": [-2, 1], "e": [-9, LAST], "a": [2, -1], "s": [-2, 3]}),
    "sliced without axes": ("y = Slice(image, b, e)", {"b": [0, 0, 3], "e": [LAST, LAST, -2]}),
    "reversed": (SLICE, {"b": [LAST], "e": [-LAST], "a": [3], "s": [-1]}),
    "reversed to the first": (SLICE, {"b": [5], "e": [-14], "a": [2], "s": [-1]}),
    "transposed": ("y = Transpose<perm = [0, 1, 3, 2]>(image)", {}),
    "transposed by default": ("a = Transpose(image) y = Transpose<perm = [3, 2, 0, 1]>(a)", {}),
    "unsqueezed and squeezed": ("a = Unsqueeze(image, first) y = Squeeze(a, first)", {"first": [0]}),
    "reshaped": (
        "a = Reshape(image, s) b = Conv(a, w) y = Reshape(b, t)",
        {"s": [-1, 1, HEIGHT, WIDTH], "w": (1, 1, 2, 3), "t": [0, 1, HEIGHT - 1, WIDTH - 2]},
    ),
    "channels reshaped to the last": (
        "a = Reshape(image, s) y = Transpose<perm = [0, 3, 1, 2]>(a)",
        {"s": [-1, HEIGHT, WIDTH, 1]},
    ),
    "split after a global pool": (
        "c = Conv(image, w) g = GlobalAveragePool(c) a, b = Split<axis = 1>(g) y = Add(a, b)",
        {"w": (4, 1, 3, 3)},
        13,
    ),
    "reshaped to rows": ("y = Reshape(image, s)", {"s": [-1, PIXELS]}),
    "flattened": ("y = Flatten(image)", {}),
    "mean of columns": ("y = ReduceMean<axes = [3]>(image)", {}, 17),
    "mean of columns, dropped": ("y = ReduceMean<axes = [-1], keepdims = 0>(image)", {}, 17),
    "mean of rows, dropped": ("y = ReduceMean<axes = [2], keepdims = 0>(image)", {}, 17),
    "sum along an input's axes": ("y = ReduceSum(image, a)", {"a": [-2]}),
    "sum along an input's axes, dropped": ("y = ReduceSum<keepdims = 0>(image, a)", {"a": [2]}),
    "divided by the length of a row": ("a = Add(image, k) y = LpNormalization(a)", {"k": (1,)}),
    "divided by the length of a column": ("a = Add(image, k) y = LpNormalization<axis = 2>(a)", {"k": (1,)}),
    "divided by the sum of a row": (
        "a = Add(image, k) y = LpNormalization<axis = -1, p = 1>(a)",
        {"k": (1,)},
    ),
    "space to depth": (
        "p = Pad(image, p0) y = SpaceToDepth<blocksize = 2>(p)",
        {"p0": [0, 0, 0, 0, 0, 0, 1, 1]},
    ),
    "depth to space": ("c = Conv(image, w) y = DepthToSpace<blocksize = 2>(c)", {"w": (4, 1, 3, 3)}),
    "maximum of all": ("y = ReduceMax<axes = [1, 2, 3]>(image)", {}, 17),
    "softmax": ("y = Softmax<axis = 2>(image)", {}),
    "softmax by default": ("y = Softmax(image)", {}),
    "softmax before opset 13": ("y = Softmax<axis = 2>(image)", {}, 11),
    "softmax before opset 13, by default": ("y = Softmax(image)", {}, 11),
    "softmax before opset 13, of columns": ("y = LogSoftmax<axis = 3>(image)", {}, 11),
    "layer normalisation": ("y = LayerNormalization(image, s)", {"s": (WIDTH,)}),
    "layer normalisation of rows": ("y = LayerNormalization<axis = 2>(image, s)", {"s": (HEIGHT, WIDTH)}),
    "instance normalisation": ("y = InstanceNormalization(image, s, s)", {"s": (1,)}),
    "product with a matrix": ("y = MatMul(image, w)", {"w": (WIDTH, 4)}),
    "product of a matrix with it": ("y = MatMul(w, image)", {"w": (4, HEIGHT)}),
    "split channels": ("c = Conv(image, w) a, b = Split<axis = 1>(c) y = Mul(a, b)", {"w": (4, 1, 3, 3)}, 13),
    "split channels, counted from the last": (
        "c = Conv(image, w) a, b = Split<axis = -3>(c) y = Add(a, b)",
        {"w": (4, 1, 3, 3)},
        13,
    ),
    "split along the batch": ("a, b = Split(image) y = Concat<axis = 0>(a, b)", {}, 13),
    "joined channels": (
        "c = Conv<pads = [1, 1, 1, 1]>(image, w) y = Concat<axis = -3>(image, c)",
        {"w": (2, 1, 3, 3)},
    ),
    "scaled by a constant": ("c = Conv(image, w) y = Mul(c, k)", {"w": (1, 1, 3, 3), "k": (1, 1, 9)}),
    "scaled by a computed constant": ("n = Neg(k) y = Mul(n, image)", {"k": (1,)}),
    "reshaped to its own shape": ("s = Shape(image) y = Reshape(image, s)", {}),
    "a sum of unlike shapes": ("c = ReduceMean<axes = [2]>(image) y = Add(c, image)", {}, 17),
    "interpolated in opset 10": (
        'y = Resize<mode = "linear">(image, s)',
        {"s": np.float32([1, 1, 1.6, 0.7])},
        10,
    ),
    "nearest in opset 10, unevenly": ("y = Resize(image, s)", {"s": np.float32([1, 1, 1.7, 0.7])}, 10),
    "interpolated in opset 11": (
        'y = Resize<mode = "linear">(image, none, s)',
        {"none": np.float32([]), "s": np.float32([1, 1, 1.6, 0.7])},
        11,
    ),
    "interpolated": ('y = Resize<mode = "linear">(image, , , t)', {"t": [PIXELS + 1, 1, 26, 22]}),
    "made smaller without aliasing": (
        'y = Resize<mode = "linear", antialias = 1>(image, , , t)',
        {"t": [PIXELS + 1, 1, 6, 5]},
    ),
    "nearest before opset 10": ("y = Upsample(image, s)", {"s": np.float32([1, 1, 2, 3])}, 9),
    "nearest in opset 10": ("y = Resize(image, s)", {"s": np.float32([1, 1, 2, 3])}, 10),
    "nearest, floor": ('y = Resize<nearest_mode = "floor">(image, , s)', {"s": np.float32([1, 1, 1.5, 0.7])}),
    "nearest, ceil": ('y = Resize<nearest_mode = "ceil">(image, , s)', {"s": np.float32([1, 1, 1.5, 0.7])}),
    "nearest, the larger of two": (
        f'y = Resize<nearest_mode = "round_prefer_ceil", {SHIFTED} = "asymmetric">(image, , s)',
        {"s": np.float32([1, 1, 2, 0.5])},
    ),
    "nearest, the smaller of two": (
        f'y = Resize<nearest_mode = "round_prefer_floor", {SHIFTED} = "asymmetric">(image, , s)',
        {"s": np.float32([1, 1, 2, 0.5])},
    ),
    "interpolated about the centre": (
        f'y = Resize<mode = "linear", {SHIFTED} = "half_pixel_symmetric">(image, , s)',
        {"s": np.float32([1, 1, 1.6, 0.7])},
    ),
    "interpolated to one row": (
        f'y = Resize<mode = "linear", {SHIFTED} = "pytorch_half_pixel">(image, , , t)',
        {"t": [PIXELS + 1, 1, 1, 4]},
    ),
}
"""What computes y from an image of 13×11 pixels: the graph, the constants
(of tuples, weights of that shape), and the opset."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_operator(form):
    body, given, *opset = FORMS[form]
    weights = {
        name: np.full(value, 0.25, np.float32) if isinstance(value, tuple) else np.array(value)
        for name, value in given.items()
    }
    proto = model_of(body, {"image": (PIXELS + 1, 1, HEIGHT, WIDTH)}, weights, *(opset or [18]))
    field = check(proto, "y")
    assert field.note is None
    check_closed_form(field)


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.5, 0.75), (1.5, 0.75)])
def test_resize(mode, how, scales):
    net = Net()
    net.add("Resize", "", net.const(np.array([1, 1, *scales], np.float32)), mode=mode,
            coordinate_transformation_mode=how)  # fmt: skip
    field = receptive_field(load(net.model()), net.last)
    pixels = seen(net.model(), net.last)
    for position in np.ndindex(*pixels.shape[2:]):
        box, exact = field.box(position), hull(pixels[(..., *position)])
        if mode == "cubic":  # its weights are negative too, and zero at whole numbers
            assert box[0] <= exact[0]
            assert exact[2] <= box[2]
        else:
            assert box == exact, position


def test_channels_last():
    net = Net((HEIGHT, WIDTH, 1))
    net.add("Transpose", perm=[0, 3, 1, 2])
    inner = net.conv((3, 5), pads=[1, 2, 1, 2], strides=[2, 1])
    net.add("Transpose", perm=[0, 2, 3, 1])
    outer = net.add("Relu")
    proto = net.model()
    check(proto, inner, (HEIGHT, WIDTH, 1), layout="NHWC")
    field = receptive_field(load(proto), outer, layout="NHWC")
    assert "channels" in field.note
    assert field.box((0, 0)) == (0, 0, HEIGHT, WIDTH)


def test_shuffled_channels_keep_their_positions():
    net = Net()
    net.conv((3, 3), (4, 1), pads=[1] * 4)
    net.add("Reshape", net.const(np.array([-1, 2, 2, HEIGHT, WIDTH])))
    net.add("Transpose", perm=[0, 2, 1, 3, 4])
    net.add("Reshape", net.const(np.array([-1, 4, HEIGHT, WIDTH])))
    check(net.model(), net.last)


@pytest.mark.parametrize("block", ["SpaceToDepth", "DepthToSpace"])
def test_pixels_into_channels(block):
    net = Net((1, 12, 8))
    net.conv((3, 3), (4, 1), pads=[1] * 4)
    net.add(block, blocksize=2)
    check(net.model(), net.last, (1, 12, 8))


def test_gates_and_global_pools_see_everything():
    net = Net()
    start = net.conv((3, 3), pads=[1] * 4)
    net.add("GlobalAveragePool")
    gate = net.add("Sigmoid")
    gated = net.add("Mul", inputs=[start, gate])
    field = receptive_field(load(net.model()), gated)
    assert field.note is None
    assert field.box((4, 4)) == (0, 0, HEIGHT, WIDTH)
    everything = receptive_field(load(net.model()), gate)
    assert everything.box((0, 0)) == (0, 0, HEIGHT, WIDTH)
    assert (everything.size, everything.jump, everything.offset) == ((HEIGHT, WIDTH), (0, 0), (0, 0))
    assert everything.reach((0, 0)) == [(0, HEIGHT), (0, WIDTH)]


def test_a_pool_sees_no_further_than_its_windows():
    net = Net((1, 12, 12))
    net.conv((3, 3), strides=[4, 4])
    net.add("GlobalMaxPool")
    # Filters at 0, 4 and 8 of 12 pixels: the last pixel is seen by none.
    assert check(net.model(), net.last, (1, 12, 12)).box((0, 0)) == (0, 0, 11, 11)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"), [(4, 2, 2, (0, 1)), (11, 2, 3, (1, 1)), (11, 2, 3, (0, 1))]
)
def test_a_window_that_would_start_in_the_padding_behind_the_input_is_not_counted(size, kernel, stride, pads):
    net = Net((1, size, size))
    pool = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": 1}
    pooled = net.add("MaxPool", **pool, pads=[pads[0]] * 2 + [pads[1]] * 2)
    # Rounded up there would be one more: it starts at size + begin or beyond.
    count = (size + sum(pads) - kernel) // stride + 1
    assert count * stride >= size + pads[0]
    assert check(net.model(), pooled, (1, size, size)).bounds[0].shape == (count, 2)
    net.conv((2, 2), pads=[0, 0, 1, 1])
    check(net.model(), net.last, (1, size, size))


def test_an_unknown_operator_is_named():
    net = Net()
    net.add("CumSum", net.const(np.array(2)))
    field = receptive_field(load(net.model()), net.last)
    assert "CumSum" in field.note
    assert field.box((0, 0)) == (0, 0, HEIGHT, WIDTH)


@pytest.mark.parametrize("sum_", ["Add(c, image)", "Add(image, c)"])
def test_one_row_added_to_all_is_seen_by_all(sum_):
    body = f"c = Conv<strides = [20, 1]>(image, w) y = {sum_}"
    check(
        model_of(body, {"image": (PIXELS + 1, 1, HEIGHT, WIDTH)}, {"w": np.full((1, 1, 3, 1), 0.25, "f")}),
        "y",
    )


def test_rows_multiplied_by_rows_see_both():
    body = "a = Add(image, one) t = Transpose<perm = [0, 1, 3, 2]>(a) y = MatMul(a, t)"
    check_covers(model_of(body, {"image": (PIXELS + 1, 1, HEIGHT, WIDTH)}, {"one": np.float32(1)}), "y")


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Concat<axis = 2>(image, image)", {}),
        ("y = Concat<axis = -1>(image, image)", {}),
        ("a, y = Split<axis = 3, num_outputs = 2>(image)", {}),
        ("y = Reshape(image, s)", {"s": [-1, 1, WIDTH, HEIGHT]}),
        ("y = Resize<axes = [2, 3]>(image, , , s)", {"s": [26, 22]}),
        ("r = Reshape(image, row) t = Cast<to = 7>(r) y = Pad(image, t)", {"row": [-1]}),
        ("r = Reshape(image, row) t = Cast<to = 7>(r) y = Slice(image, t, t)", {"row": [-1]}),
        ("t = NonZero(image) r = Reshape(t, row) y = Reshape(image, r)", {"row": [-1]}),
    ],
)
def test_what_cannot_be_followed_is_named_and_sees_everything(body, constants):
    arrays = {name: np.array(value) for name, value in constants.items()}
    proto = model_of(body, {"image": (1, 1, HEIGHT, WIDTH)}, arrays, 18)
    field = receptive_field(load(proto), "y")
    assert proto.graph.node[-1].op_type in field.note
    assert field.box((0, 0)) == (0, 0, HEIGHT, WIDTH)


def test_sizes_that_the_model_leaves_open():
    net = Net((1, "H", "W"))
    net.conv((3, 3))
    with pytest.raises(InputError, match=r"input_shapes=.'image':"):
        receptive_field(load(net.model()), net.last)
    assert receptive_field(load(net.model()), net.last, size=(9, 8)).box((6, 5)) == (6, 5, 9, 8)


def test_mistakes():
    net = Net()
    net.conv((3, 3))
    field = receptive_field(load(net.model()), net.last)
    with pytest.raises(InputError, match="no unit at"):
        field.box((HEIGHT, 0))
    with pytest.raises(InputError, match="no unit at"):
        field.box((0, -1))
    with pytest.raises(InputError, match="no unit at"):
        field.box(())
    with pytest.raises(UnknownLayerError):
        receptive_field(load(net.model()), "nowhere")


def positive(proto):
    """Make all weights positive and small, all biases zero."""
    rng = np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            fan_in = max(1, array[0].size)
            new = rng.uniform(0.5, 1, array.shape) / fan_in if array.ndim > 1 else np.zeros(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(new.astype(np.float32), tensor.name))
    return proto


def rows_seen(proto, layer, size, axis):
    """Which rows (axis 2) or columns (3) of the image each position sees, by one bright row at a time."""
    proto.graph.output.append(helper.make_empty_tensor_value_info(layer))
    name = next(i.name for i in proto.graph.input if i.name not in {t.name for t in proto.graph.initializer})
    session, found = Session(proto, Path(), "cpu"), []
    for k in range(size):
        image = np.zeros((1, 3, size, size), np.float32)
        image[(..., k, slice(None)) if axis == 2 else (..., k)] = 1e6
        value = numpy_of(session.run({name: image})[layer])[0]
        found.append(value.any(axis=(0, 4 - axis)))
    return np.array(found)


def bounds_of(seen_by):
    some = seen_by.any(axis=0)
    last = len(seen_by) - seen_by[::-1].argmax(axis=0)
    return np.where(some[:, None], np.stack([seen_by.argmax(axis=0), last], axis=1), 0)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["conv1_2", "fire4/concat_1", "fire6/squeeze1x1_2", "conv10_2"])
def test_squeezenet(layer):
    path = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
    if not path.is_file():
        pytest.skip(f"no zoo at {ZOO}")
    proto = positive(onnx.load(path))
    field = receptive_field(load(path), layer)
    for k in (0, 1):
        assert (field.bounds[k] == bounds_of(rows_seen(positive(onnx.load(path)), layer, 224, 2 + k))).all()
    del proto


# --- sums and shapes ------------------------------------------------------------------------------


def test_a_sum_of_values_that_are_spaced_otherwise_is_not_evenly_spaced():
    body = "a = Slice(image, none, half, both) b = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(image)"
    held = {"none": np.array([0, 0]), "half": np.array([7, 6]), "both": np.array([2, 3])}
    field = check(model_of(f"{body} y = Add(a, b)", {"image": (144, 1, HEIGHT, WIDTH)}, held), "y")
    assert field.size == (HEIGHT, WIDTH)
    assert field.jump == (0, 0)


def test_one_position_still_lies_along_the_images_axes():
    weights = {"w": np.full((1, 1, HEIGHT, WIDTH), 0.25, np.float32)}
    proto = model_of("a = Conv(image, w) y = Add(a, a)", {"image": (144, 1, HEIGHT, WIDTH)}, weights)
    assert check(proto, "y").axes == (0, 1)


def test_an_axis_that_a_reshape_does_away_with_is_noted_and_in_a_row_of_numbers_expected():
    proto = model_of(
        "y = Reshape(image, s)", {"image": (144, 1, HEIGHT, WIDTH)}, {"s": np.array([144, 1, -1])}
    )
    assert "Reshape" in receptive_field(load(proto), "y").note
    proto = model_of("y = Reshape(image, s)", {"image": (144, 1, HEIGHT, WIDTH)}, {"s": np.array([144, -1])})
    assert receptive_field(load(proto), "y").note is None


# --- crops ----------------------------------------------------------------------------------------

CONV = "Conv<strides = [2, 2], pads = [1, 1, 1, 1]>"
CROPPED = {
    "strides and padding": f"a = {CONV}(image, w) r = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(r, w)",
    "a pool": f"""a = {CONV}(image, w) p = MaxPool<kernel_shape = [3, 2], strides = [2, 1]>(a)
        y = Conv(p, w)""",
    "enlarged again": f"""a = {CONV}(image, w)
        u = ConvTranspose<strides = [2, 2], kernel_shape = [2, 2]>(a, v)
        y = Conv<pads = [1, 1, 1, 1]>(u, w)""",
    "cut off": "s = Slice(image, three, last, both) y = Conv<strides = [2, 3]>(s, w)",
    "padding alone": "y = Conv<pads = [4, 4, 4, 4]>(image, w)",
}
SIZE = 25, 22


def cropped(name):
    held = {
        "w": np.random.default_rng(0).standard_normal((1, 1, 3, 3)).astype(np.float32),
        "v": np.random.default_rng(1).standard_normal((1, 1, 2, 2)).astype(np.float32),
        "three": np.array([3, 3]), "last": np.array([-2, -4]), "both": np.array([2, 3]),
    }  # fmt: skip
    used = {k: a for k, a in held.items() if f", {k}" in CROPPED[name]}
    return model_of(CROPPED[name], {"image": (1, 1, "H", "W")}, used, 13)


def grid_of(proto, size=SIZE):
    model = load(proto, {"image": (1, 1, *size)})
    below = {v: raster for v, raster in rasters(model).items() if v != "image"}
    shapes = {v: model.type_of(v).shape for v in below}
    return CropGrid(receptive_field(model, "y"), below, shapes, size), shapes


def values_of(proto, image):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    shown = {o.name for o in copy.graph.output}
    names = [n.output[0] for n in copy.graph.node]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in names if v not in shown)
    return {v: numpy_of(a) for v, a in Session(copy, Path(), "cpu").run({"image": image}).items()}


@pytest.mark.parametrize("name", CROPPED)
def test_a_unit_is_on_its_crop_what_it_is_on_the_whole_image(name):
    proto = cropped(name)
    grid, shapes = grid_of(proto)
    image = np.random.default_rng(2).standard_normal((1, 1, *SIZE)).astype(np.float32)
    whole, smaller = values_of(proto, image), 0
    for position in np.ndindex(*whole["y"].shape[2:]):
        crop = grid.crop(position)
        (top, left), (height, width) = crop
        smaller += (height, width) != SIZE
        assert height > 0
        assert width > 0
        found = values_of(proto, image[:, :, top : top + height, left : left + width])
        assert {v: found[v].shape for v in shapes} == {v: tuple(grid.shape(v, crop)) for v in shapes}
        there = np.array([0, 0, *position]) - grid.start("y", crop)
        np.testing.assert_allclose(
            found["y"][tuple(there)], whole["y"][0, 0, *position], rtol=1e-5, atol=1e-6
        )
    assert smaller


def test_a_crop_of_several_units_holds_what_each_sees():
    grid, _ = grid_of(cropped("strides and padding"))
    ends = [grid.crop(position) for position in ((2, 3), (6, 5))]
    whole = grid.around((2, 3), (6, 5))
    assert whole.origin == ends[0].origin
    assert np.add(*whole).tolist() == np.add(*ends[1]).tolist()


def test_a_sample_is_smaller_by_a_multiple_of_the_steps_where_a_field_fits():
    proto = cropped("a pool")
    assert grid_of(proto, (70, 90))[0].sample() == Crop((0, 0), (38, 58))
    for size in ((40, 90), (90, 40)):  # less than the field of 11 x 9 would be left
        grid, _ = grid_of(proto, size)
        assert grid.sample() == grid.crop((0, 0))


def test_what_is_not_evenly_spaced_or_of_unknown_shape_has_no_crops():
    model = load(cropped("a pool"), {"image": (1, 1, *SIZE)})
    field, below = receptive_field(model, "y"), rasters(model)
    uneven = below["y"]._replace(jumps=(2.0, 2**0.5))
    with pytest.raises(CropError, match="not evenly spaced"):
        CropGrid(field, {"y": uneven}, {"y": (1, 1, 4, 8)}, SIZE)
    grid = CropGrid(field, {"y": below["y"], "mask": below["a"]}, {"y": (1, 1, 4, 8), "mask": ()}, SIZE)
    with pytest.raises(CropError, match="'mask' is known only when the model runs"):
        grid.shape("mask", grid.crop((0, 0)))
    assert grid.shape("y", Crop((0, 0), SIZE)) == [1, 1, 4, 8]
