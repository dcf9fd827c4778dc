"""Excitation Backprop and layer-wise relevance propagation by the papers' formulas, slowly.

Every linear layer is turned into the matrix of its connections, by sending one unit's activation at a time
through the standard's reference evaluator, and the formulas are written down on that matrix: Zhang et al.
2018, equation 5; Montavon et al. 2019, table 10.1, with contributions told apart by their sign. For one image
and small networks.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from oracle import session_of
from standard_evaluator import AMENDED

FILTERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
AVERAGES = {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"}
MOVES = {"Reshape", "Flatten", "Transpose", "Slice", "Pad", "Resize", "Squeeze", "Unsqueeze", "Expand"}
BOUNDED = {"Sigmoid", "HardSigmoid", "Tanh", "Softmax"}
NEVER_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax"}
KEEP_SIGN = {"MaxPool", "Concat", "Add", "Mul"} | AVERAGES | MOVES
LEAST, EPSILON = 1e-12, 1e-6


@dataclass
class Oracle:
    """One network on one image, and how a table divides.

    ``steepest`` tells, afterwards, how much the worst denominator amplified rounding errors; ``closest`` how
    near a decision (a pool's maximum, the sign of a result) was to going the other way.
    """

    model: onnx.ModelProto
    table: str
    steepest: float = 0.0
    closest: float = np.inf
    values: dict = field(default_factory=dict)

    def __post_init__(self):
        self.held = {t.name: wide(numpy_helper.to_array(t)) for t in self.model.graph.initializer}
        self.nodes = list(self.model.graph.node)
        self.source = {v: n for n in self.nodes for v in n.output}

    def relevance(self, x, seed):
        """Return what the image gets of a seed at the network's last value."""
        name = self.model.graph.input[0].name
        self.values = {**self.held, name: wide(x)}
        for node in self.nodes:
            self.values[node.output[0]] = self.compute(node, *(self.values[v] for v in node.input if v))
        arrived = {v: np.zeros_like(a) for v, a in self.values.items()}
        arrived[self.nodes[-1].output[0]] = wide(seed)
        for node in reversed(self.nodes):
            if not self.is_folded(node):
                for v, share in self.divided(node, arrived):
                    arrived[v] = arrived[v] + share
        return arrived[name]

    def compute(self, node, *inputs):
        """Run one node."""
        if node.op_type == "MaxPool":  # the evaluator takes padding at the ends for such at the beginning
            return maxima(node, *inputs)
        names = [v for v in node.input if v]
        given = dict(zip(names, inputs, strict=True))
        infos = [helper.make_tensor_value_info(v, helper.np_dtype_to_tensor_dtype(a.dtype), None)
                 for v, a in given.items()]  # fmt: skip
        graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(node.output[0])])
        proto = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=9)
        return ReferenceEvaluator(proto, new_ops=AMENDED).run(None, given)[0]

    # --- layers: a filter, the padding before it, and the scales and shifts after it ---

    def reader(self, value):
        readers = [n for n in self.nodes if value in n.input]
        return readers[0] if len(readers) == 1 else None

    def is_affine(self, node):
        scales = {"BatchNormalization", "Add", "Sub", "Mul"}
        return node is not None and node.op_type in scales and all(v in self.held for v in node.input[1:])

    def follows(self, node):
        """Return what is folded into a filter."""
        chain = []
        while self.is_affine(node := self.reader(chain[-1].output[0] if chain else node.output[0])):
            chain.append(node)
        return chain

    def is_folded(self, node):
        """Tell whether a filter before the node took it in."""
        while self.is_affine(node):
            node = self.source.get(node.input[0])
            if node is not None and node.op_type in FILTERS:
                return self.follows(node) != []
        reader = self.reader(node.output[0]) if node is not None and node.op_type == "Pad" else None
        return reader is not None and reader.op_type in FILTERS

    def layer(self, node):
        """Return the filter's chain, and the value that it reads."""
        before = self.source.get(node.input[0])
        pad = [before] if before is not None and before.op_type == "Pad" else []
        return [*pad, node, *self.follows(node)], (pad or [node])[0].input[0]

    def matrix(self, chain, read, *, ones=False):
        """Return W (results x inputs) and b of a chain; with ``ones``, as if the filter were of ones."""
        shape = self.values[read].shape
        size = int(np.prod(shape))
        images = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *shape[1:])
        for node in chain:
            more = [self.values[v] for v in node.input[1:] if v]
            if ones and node.op_type in FILTERS:
                more = [np.ones_like(a) if k == 0 else np.zeros_like(a) for k, a in enumerate(more)]
            images = self.compute(node, images, *more)
        rows = images.reshape(size + 1, -1)
        return (rows[1:] - rows[0]).T, rows[0]

    # --- how a node's share is divided ---

    def divided(self, node, arrived):
        share, op = arrived[node.output[0]], node.op_type
        if op in FILTERS:
            chain, read = self.layer(node)
            share = arrived[chain[-1].output[0]]
            yield read, self.through_filter(chain, read, share).reshape(self.values[read].shape)
        elif op in AVERAGES or op in MOVES or op == "MaxPool":
            read = node.input[0]
            yield read, self.through_map(node, read, share).reshape(self.values[read].shape)
        elif op in ("Add", "Sub") and not set(node.input) & set(self.held):
            yield from self.among_terms(node, share)
        elif op == "Concat":
            axis = helper.get_node_attr_value(node, "axis")
            ends = np.cumsum([self.values[v].shape[axis] for v in node.input])[:-1]
            yield from zip(node.input, np.split(share, ends, axis), strict=True)
        elif op == "Mul" and not set(node.input) & set(self.held):
            yield from self.through_gate(node, share)
        else:
            yield node.input[0], share

    def through_filter(self, chain, read, share):
        first = not self.has_filter_before(read)
        x, r = self.values[read].ravel(), share.ravel()
        w, b = self.matrix(chain, read)
        (middle,) = [n for n in chain if n.op_type in FILTERS]
        linked = self.matrix(chain[: chain.index(middle) + 1], read, ones=True)[0] != 0
        if self.table == "excitation":
            return self.excited(read, np.where(linked, np.maximum(w, LEAST), 0), r)
        dense = middle.op_type in ("Gemm", "MatMul")
        contributions = w * x
        if first and self.table == "lrp":
            return self.by(linked * 1.0, np.zeros_like(b), r)
        if first and self.table == "lrp-gamma":
            image = self.values[read]
            axes = tuple(range(2, image.ndim)) or (image.ndim - 1,)
            low, high = (
                (image - e).ravel() for e in (image.min(axes, keepdims=True), image.max(axes, keepdims=True))
            )
            return self.by(low * np.maximum(w, 0) + high * np.minimum(w, 0), np.zeros_like(b), r)
        if dense or self.table == "lrp-epsilon":
            return self.by(contributions, b, r)
        if self.table == "lrp":
            return self.by(np.maximum(contributions, 0), np.maximum(b, 0), r)
        z = contributions.sum(1) + b
        self.closest = min(self.closest, np.abs(z[r != 0]).min(initial=np.inf))
        total = np.zeros(len(x))
        for sign in (1, -1):
            favoured = [
                a + 0.25 * (np.maximum(a, 0) if sign > 0 else np.minimum(a, 0)) for a in (contributions, b)
            ]
            total += self.by(*favoured, np.where(np.sign(z) == sign, r, 0))
        return total

    def by(self, contributions, bias, r):
        """Divide in proportion to contributions, the bias keeping its share."""
        z = contributions.sum(1) + bias
        z = z + np.where(z < 0, -EPSILON, EPSILON)
        used = r != 0
        if used.any():
            gain = (np.abs(contributions).sum(1) + np.abs(bias))[used] / np.abs(z[used])
            self.steepest = max(self.steepest, (gain**2 * np.abs(r[used])).max())
        return contributions.T @ np.where(used, r / z, 0)

    def excited(self, read, weight, r):
        x = self.activations(read).ravel()
        z = weight @ x
        if not self.is_never_negative(read):  # what is left of a difference
            given = self.values[read].ravel()
            rounded = weight @ (np.abs(given) + abs(given.min()))
            gain = rounded[r != 0] / z[r != 0]
            self.steepest = max(self.steepest, (gain * np.abs(r[r != 0])).max(initial=0))
        return x * (weight.T @ np.divide(r, z, where=z > 0, out=np.zeros_like(r)))

    def through_map(self, node, read, share):
        r = share.ravel()
        if node.op_type == "MaxPool":
            return self.through_maxima(node, self.values[read], share)
        w, _ = self.matrix([node], read)
        if node.op_type in MOVES:
            return w.T @ r
        if self.table == "excitation":
            return self.excited(read, w, r)
        return self.by(w * self.values[read].ravel(), 0.0, r)

    def through_maxima(self, node, x, share):
        total = np.zeros_like(x)
        for n, c, *place in np.argwhere(share):
            rows, columns = window_at(node, place)
            window = x[n, c, rows, columns]
            ordered = np.unique(window)[::-1]
            self.closest = min([self.closest, *(ordered[0] - ordered[1:2])])
            k, j = np.unravel_index(window.argmax(), window.shape)
            total[n, c, rows.start + k, columns.start + j] += share[n, c, *place]
        return total.ravel()

    def among_terms(self, node, share):
        if self.table == "excitation":
            terms = [self.activations(v) for v in node.input]
            if node.op_type == "Sub":
                yield node.input[0], share
                return
            total = sum(terms)
        else:
            terms = [
                self.values[node.input[0]],
                self.values[node.input[1]] * (-1 if node.op_type == "Sub" else 1),
            ]
            total = sum(terms)
            gain = (sum(map(np.abs, terms)) / (np.abs(total) + EPSILON))[share != 0]
            self.steepest = max(self.steepest, (gain**2 * np.abs(share[share != 0])).max(initial=0))
            total = total + np.where(total < 0, -EPSILON, EPSILON)
        for v, term in zip(node.input, terms, strict=True):
            yield v, share * term / total

    def through_gate(self, node, share):
        whole = [v for v in node.input if self.values[v].shape == share.shape]
        bounded = [v for v in whole if v in self.source and self.source[v].op_type in BOUNDED]
        taking = [v for v in whole if v not in bounded] or whole
        for v in taking:
            yield v, share / len(taking)

    def has_filter_before(self, value):
        node = self.source.get(value)
        if node is None:
            return False
        return node.op_type in FILTERS or any(self.has_filter_before(v) for v in node.input)

    # --- activations ---

    def activations(self, value):
        """Return a value counted from its smallest number on, where it may be negative."""
        x = self.values[value]
        return np.maximum(x if self.is_never_negative(value) else x - x.min(), LEAST)

    def is_never_negative(self, value):
        if value in self.held:
            return self.held[value].dtype.kind != "f" or bool((self.held[value] >= 0).all())
        node = self.source.get(value)
        if node is None or node.op_type in NEVER_NEGATIVE:
            return node is not None
        if node.op_type == "Clip":
            return bool(self.held[node.input[1]] >= 0)
        return node.op_type in KEEP_SIGN and all(self.is_never_negative(v) for v in node.input if v)


def both(net, x, table):
    """Explain a network's strongest unit by the companion and by the oracle; return the seed, too."""
    proto = net.model()
    pair = session_of(proto, net.last, rules=table)
    values = pair.run_forward({"image": x})
    y = values[net.last].numpy()
    seed = np.zeros_like(y)
    seed.flat[y.argmax()] = 1
    (found,) = pair.run_deconv(values, seed).values()
    oracle = Oracle(proto, table)
    return found, oracle.relevance(x, seed), oracle, seed


def window_at(pool, place):
    """Return the rows and the columns that a pool's result at some place is taken from."""
    how = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
    begins = [p * s - b for p, s, b in zip(place, how["strides"], how["pads"][:2], strict=True)]
    return [slice(max(b, 0), b + k) for b, k in zip(begins, how["kernel_shape"], strict=True)]


def maxima(pool, x):
    """Compute a MaxPool of two axes."""
    how = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
    padded = np.add(x.shape[2:], np.reshape(how["pads"], (2, 2)).sum(0))
    result = np.empty((*x.shape[:2], *((padded - how["kernel_shape"]) // how["strides"] + 1)))
    for place in np.ndindex(result.shape[2:]):
        rows, columns = window_at(pool, place)
        result[:, :, *place] = x[:, :, rows, columns].max((2, 3))
    return result


def wide(array):
    """Return real numbers in double precision."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype == np.float32 else array
