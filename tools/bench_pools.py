"""Measure ways to pool and to unpool a signal to each window's first maximum.

    python tools/bench_pools.py

CPU time of one thread in milliseconds (which other programs disturb little), the pool included. Each way is
checked to give what the switches give, on rectified numbers, of whose windows many are ties.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import click
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from onnx_deconv.compiler.passes import apply_passes
from onnx_deconv.operators.builder import Emitter, Signal

GEOMETRIES = {
    "VGG 64×224×224, 2×2 with stride 2": (64, 224, 2, 2, 0),
    "VGG 256×56×56, 2×2 with stride 2": (256, 56, 2, 2, 0),
    "SqueezeNet 64×111×111, 3×3 with stride 2": (64, 111, 3, 2, 0),
    "ResNet 64×112×112, 3×3 with stride 2, padded": (64, 112, 3, 2, 1),
    "Inception 192×71×71, 3×3 with stride 2": (192, 71, 3, 2, 0),
}
Way = Callable[["Pool"], tuple[Signal, Signal]]


class Pool:
    """One geometry: a picture and a signal, and what the ways have in common."""

    def __init__(self, channels: int, size: int, kernel: int, step: int, pad: int) -> None:
        self.op = Emitter(np.dtype(np.float32))
        self.op.origin = "pool"
        self.c, self.size, self.kernel, self.step, self.pad = channels, size, kernel, step, pad
        self.out = (size + 2 * pad - kernel) // step + 1
        # Both from convolutions, as in a network: in onnxruntime's blocked layout.
        one = np.ones((channels, 1, 1, 1), np.float32)
        x = self.op.input("x", [1, channels, size, size])
        self.x = self.op.Relu(self.op.Conv(x, one, group=channels))
        signal = self.op.input("signal", [1, channels, self.out, self.out])
        self.signal = self.op.Conv(signal, one, group=channels)
        self.window = {"kernel_shape": [kernel] * 2, "strides": [step] * 2, "pads": [pad] * 4}

    @property
    def shape(self) -> list[int]:
        """Of the picture."""
        return [1, self.c, self.size, self.size]

    def taken(self, values: Sequence[Signal], maximum: Signal, signal: Signal) -> Iterator[Signal]:
        """Yield what each position of the windows takes: the first that is the maximum takes all."""
        op, left = self.op, signal
        for value in values[:-1]:
            mine = op.Mul(op.Cast(op.Equal(value, maximum), to=TensorProto.FLOAT), left)
            yield mine
            left = op.Sub(left, mine)
        yield left


def plain(pool: Pool) -> tuple[Signal, Signal]:
    """The pool alone."""
    return pool.op.MaxPool(pool.x, **pool.window), pool.signal


def scatter(pool: Pool) -> tuple[Signal, Signal]:
    """Switches, added up by ScatterElements."""
    op = pool.op
    y, switches = op.MaxPool(pool.x, outputs=2, **pool.window)
    empty = op.ConstantOfShape([int(np.prod(pool.shape))])
    flat = op.Reshape(switches, [-1]), op.Reshape(pool.signal, [-1])
    return y, op.Reshape(op.ScatterElements(empty, *flat, reduction="add"), pool.shape)


def blocked(pool: Pool) -> tuple[Signal, Signal]:
    """What the pass `blocked` makes of the switches."""
    return scatter(pool)


def unpool(pool: Pool) -> tuple[Signal, Signal]:
    """Switches, and MaxUnpool (windows side by side)."""
    y, switches = pool.op.MaxPool(pool.x, outputs=2, **pool.window)
    ones = {"kernel_shape": [1, 1], "strides": [1, 1]}
    return y, pool.op.MaxUnpool(pool.signal, switches, pool.shape, **ones)


def blocks(pool: Pool) -> tuple[Signal, Signal]:
    """SpaceToDepth, compare, DepthToSpace (windows side by side)."""
    op, k = pool.op, pool.kernel
    y = op.MaxPool(pool.x, **pool.window)
    values = op.Split(op.SpaceToDepth(pool.x, blocksize=k), axis=1, num_outputs=k * k, outputs=k * k)
    parts = pool.taken(values, y, pool.signal)
    return y, op.DepthToSpace(op.Concat(*parts, axis=1), blocksize=k)


def enlarged(pool: Pool) -> tuple[Signal, Signal]:
    """Compare with the enlarged maximum; the first of equals by a second pool over ranks (side by side)."""
    op, k = pool.op, pool.kernel
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

    def large(value: Signal) -> Signal:
        return op.Resize(value, None, np.array([1, 1, k, k], np.float32), **nearest)

    y = op.MaxPool(pool.x, **pool.window)
    equal = op.Cast(op.Equal(pool.x, large(y)), to=TensorProto.FLOAT)
    ranks = np.arange(k * k, 0, -1, dtype=np.float32).reshape(1, 1, k, k)
    ranked = op.Mul(equal, np.tile(ranks, (1, 1, pool.size // k, pool.size // k)))
    first = op.Equal(ranked, large(op.MaxPool(ranked, **pool.window)))
    return y, op.Mul(op.Cast(first, to=TensorProto.FLOAT), large(pool.signal))


def slices(pool: Pool) -> tuple[Signal, Signal]:
    """Every position of the windows by a Slice in steps, compare, put together by a transposed filter."""
    op, k, n = pool.op, pool.kernel, pool.out
    y = op.MaxPool(pool.x, **pool.window)
    around = [0, 0, pool.pad, pool.pad] * 2
    wide = op.Pad(pool.x, around, -np.inf) if pool.pad else pool.x
    reach = [(n - 1) * pool.step + 1] * 2
    values = [
        op.Slice(wide, [a, b], [a + reach[0], b + reach[1]], [2, 3], [pool.step] * 2)
        for a, b in product(range(k), repeat=2)
    ]
    parts = [op.Reshape(part, [pool.c, 1, n, n]) for part in pool.taken(values, y, pool.signal)]
    one_each = np.eye(k * k, dtype=np.float32).reshape(k * k, 1, k, k)
    spare = pool.size + 2 * pool.pad - (reach[0] + k - 1)
    placed = op.ConvTranspose(
        op.Concat(*parts, axis=1), one_each, strides=[pool.step] * 2, pads=[pool.pad] * 4,
        output_padding=[spare] * 2,
    )  # fmt: skip
    return y, op.Reshape(placed, pool.shape)


def phases(pool: Pool) -> tuple[Signal, Signal]:
    """As `blocks`, for 3×3 with stride 2: of SpaceToDepth's four maps each position is a slice."""
    op, n, steps = pool.op, pool.out, list(product(range(pool.kernel), repeat=2))
    y = op.MaxPool(pool.x, **pool.window)
    more = 2 * (n + 1) - pool.size - pool.pad
    wide = op.Pad(pool.x, [0, 0, pool.pad, pool.pad, 0, 0, more, more], -np.inf)
    quarter = op.Split(op.SpaceToDepth(wide, blocksize=2), axis=1, num_outputs=4, outputs=4)
    values = [
        op.Slice(quarter[2 * (a % 2) + b % 2], [a // 2, b // 2], [a // 2 + n, b // 2 + n], [2, 3])
        for a, b in steps
    ]
    sums: list[list[Signal]] = [[], [], [], []]
    for (a, b), part in zip(steps, pool.taken(values, y, pool.signal), strict=True):
        around = [0, 0, a // 2, b // 2, 0, 0, 1 - a // 2, 1 - b // 2]
        sums[2 * (a % 2) + b % 2].append(op.Pad(part, around))
    placed = op.DepthToSpace(op.Concat(*map(op.sum, sums), axis=1), blocksize=2)
    end = pool.pad + pool.size
    return y, op.Slice(placed, [pool.pad] * 2, [end] * 2, [2, 3])


WAYS: dict[str, Way] = {
    "pool alone": plain, "switches, ScatterElements": scatter, "switches, MaxUnpool": unpool,
    "blocks": blocks, "enlarged": enlarged, "slices": slices,
    "phases": phases, "blocked": blocked,
}  # fmt: skip
OVERLAPPING = {"phases"}
SIDE_BY_SIDE = {"switches, MaxUnpool", "blocks", "enlarged"}


def session(way: Way, geometry: tuple[int, int, int, int, int]) -> onnxruntime.InferenceSession:
    """Make a session of one thread."""
    pool = Pool(*geometry)
    results = zip(("y", "reconstruction"), way(pool), strict=True)
    outputs = [(name, value, helper.make_empty_tensor_value_info(name)) for name, value in results]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = pool.op.export(outputs, [], "pool")
    proto = apply_passes(proto, ["blocked"]) if way is blocked else proto
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@click.command(help=__doc__)
@click.option("--runs", default=15, show_default=True)
def main(runs: int) -> None:
    """Print the table."""
    click.echo(f"| | {' | '.join(WAYS)} |\n|{'---|' * (len(WAYS) + 1)}")
    for name, geometry in GEOMETRIES.items():
        channels, size, kernel, step, pad = geometry
        rng = np.random.default_rng(0)
        out = (size + 2 * pad - kernel) // step + 1
        x = np.maximum(rng.standard_normal((1, channels, size, size)), 0).astype(np.float32)
        feeds = {"x": x, "signal": rng.standard_normal((1, channels, out, out)).astype(np.float32)}
        cells, expected = [], None
        for title, way in WAYS.items():
            if (title in SIDE_BY_SIDE and kernel != step) or (title in OVERLAPPING and kernel == step):
                cells.append("–")
                continue
            run = session(way, geometry)
            times = []
            for _ in range(runs):
                start = time.thread_time()
                _, found = run.run(None, feeds)
                times.append(time.thread_time() - start)
            cells.append(f"{1e3 * float(np.median(times)):.1f}")
            if way is scatter:
                expected = found
            elif way is not plain:
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
