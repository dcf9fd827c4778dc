"""Receptive fields against the set of pixels whose change alters the unit.

The networks have positive weights and no biases: shown one bright pixel on black, a unit is positive
exactly where it can see that pixel. So one batch of all such images tells every unit's whole field.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper
from random_networks import HEIGHT, WIDTH, Net, nets

from onnx_deconv import InputError, ModelError, UnknownLayerError, load
from onnx_deconv.receptive import receptive_field
from onnx_deconv.runtime import Session, numpy_of

ZOO = Path(os.environ.get("ONNX_DECONV_ZOO", Path(__file__).parents[2] / "shared" / "zoo"))
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def seen(proto, layer, shape=(1, HEIGHT, WIDTH)):
    """Which pixels each unit sees: booleans, (H, W, *positions of the layer)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if layer not in {o.name for o in copy.graph.output}:
        copy.graph.output.append(helper.make_empty_tensor_value_info(layer))
    channel = int(np.argmin(shape))
    height, width = (d for k, d in enumerate(shape) if k != channel)
    bright = np.eye(height * width, dtype=np.float32).reshape(-1, 1, height, width)
    found = numpy_of(Session(copy, Path(), "cpu").run({"image": np.moveaxis(bright, 1, channel + 1)})[layer])
    return found.any(axis=1).reshape(height, width, *found.shape[2:])


def hull(pixels):
    """The box (y0, x0, y1, x1) of a set of pixels."""
    if not pixels.any():
        return (0, 0, 0, 0)
    (y0, *_, y1), (x0, *_, x1) = ([k[0], k[-1]] for k in map(np.flatnonzero, (pixels.any(1), pixels.any(0))))
    return (y0, x0, y1 + 1, x1 + 1)


def check(proto, layer, shape=(1, HEIGHT, WIDTH), **options):
    field = receptive_field(load(proto), layer, **options)
    pixels = seen(proto, layer, shape)
    for position in np.ndindex(*pixels.shape[2:]):
        assert field.box(position) == hull(pixels[(..., *position)]), position
    return field


def check_covers(proto, layer):
    """No pixel that alters a unit is outside its box."""
    field, pixels = receptive_field(load(proto), layer), seen(proto, layer)
    for position in np.ndindex(*pixels.shape[2:]):
        y0, x0, y1, x1 = field.box(position)
        outside = pixels[(..., *position)].copy()
        outside[y0:y1, x0:x1] = False
        assert not outside.any(), position


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
    assert receptive_field(load(net.model()), gate).box((0, 0)) == (0, 0, HEIGHT, WIDTH)


def test_a_pool_sees_no_further_than_its_windows():
    net = Net((1, 12, 12))
    net.conv((3, 3), strides=[4, 4])
    net.add("GlobalMaxPool")
    # Filters at 0, 4 and 8 of 12 pixels: the last pixel is seen by none.
    assert check(net.model(), net.last, (1, 12, 12)).box((0, 0)) == (0, 0, 11, 11)


def test_an_unknown_operator_is_named():
    net = Net()
    net.add("CumSum", net.const(np.array(2)))
    field = receptive_field(load(net.model()), net.last)
    assert "CumSum" in field.note
    assert field.box((0, 0)) == (0, 0, HEIGHT, WIDTH)


def test_sizes_that_the_model_leaves_open():
    net = Net((1, "H", "W"))
    net.conv((3, 3))
    with pytest.raises(InputError, match="--input-shape image:"):
        receptive_field(load(net.model()), net.last)
    assert receptive_field(load(net.model()), net.last, size=(9, 8)).box((6, 5)) == (6, 5, 9, 8)


def test_mistakes():
    net = Net()
    net.conv((3, 3))
    field = receptive_field(load(net.model()), net.last)
    with pytest.raises(InputError, match="no unit at"):
        field.box((HEIGHT, 0))
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
