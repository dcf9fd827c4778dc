"""What a model is made of and which rule each node would get, before any work is done."""

from typing import Any

from onnx import TensorProto

from onnx_deconv.compile import Walk, scores_value
from onnx_deconv.model import Model
from onnx_deconv.rules import rows, rule_table
from onnx_deconv.rules.site import label
from onnx_deconv.semantics import Semantics


def inspect_model(
    model: Model, layer: str | None = None, semantics: Semantics | None = None
) -> dict[str, Any]:
    """Describe a model as plain JSON data.

    Parameters
    ----------
    model
        The model.
    layer
        What to explain; by default the scores.
    semantics
        Which rule table.

    Returns
    -------
    dict
        ``inputs``, ``outputs``, ``explained`` and what is cut off behind it, ``layers`` (one entry per node
        on the path, with its rule), ``pools`` and whether their windows overlap, ``missing`` rules.
    """
    semantics = semantics or Semantics()
    value, cut = scores_value(model) if layer is None else (model.layer(layer), [])
    table = rule_table(semantics)
    walk = Walk(model, value, semantics, None, table)
    return {
        "model": model.name,
        "opset": model.opset,
        "ir": model.proto.ir_version,
        "producer": f"{model.proto.producer_name} {model.proto.producer_version}".strip(),
        "inputs": [_value(model, name) for name in model.inputs],
        "outputs": [_value(model, name) for name in model.outputs],
        "explained": {**_value(model, value), "cut": cut},
        "rules": semantics.rules,
        "nodes": len(walk.path),
        "layers": [_layer(model, node, table) for node in walk.path],
        "pools": [_pool(node) for node in walk.path if node.op == "MaxPool"],
        "missing": [{"operator": operator, "node": name} for operator, name in walk.missing()],
    }


def describe(report: dict[str, Any]) -> list[str]:
    """Write an inspection for reading."""
    lines = [
        f"{report['model']}: opset {report['opset']}, IR {report['ir']}, made by {report['producer'] or '?'}"
    ]
    for side in ("inputs", "outputs"):
        lines += [f"  {side[:-1]} {v['name']}: {v['dtype']} {_sizes(v['shape'])}" for v in report[side]]
    explained = report["explained"]
    cut = f" (cut off: {', '.join(explained['cut'])})" if explained["cut"] else ""
    lines.append(f"explanations start at {explained['name']} {_sizes(explained['shape'])}{cut}")
    lines.append("")
    widths = [max((len(str(row[k])) for row in report["layers"]), default=0) for k in ("layer", "operator")]
    for row in report["layers"]:
        names = "  ".join(str(row[k]).ljust(w) for k, w in zip(("layer", "operator"), widths, strict=True))
        lines.append(f"  {names}  {_sizes(row['shape']):<18}  {row['rule'] or 'NO RULE'}")
    for pool in report["pools"]:
        overlap = "windows overlap: signals add up" if pool["overlap"] else "windows do not overlap"
        lines.append(f"  {pool['node']}: {overlap}")
    return lines


def operator_table_markdown() -> str:
    """Write the operator table as Markdown, sorted by domain and operator."""
    head = [
        "# Which operators have a rule?",
        "",
        "Made by `onnx-deconv ops --markdown`. A *rectifier* has a row in each of the three tables.",
        "",
        "| operator | what happens to the signal | family | rectifier |",
        "|---|---|---|---|",
    ]
    body = [
        f"| {f'{r.domain}::' if r.domain else ''}{r.operator} | {_escaped(r.says)} | {r.family} "
        f"| {'yes' if r.rectifier else ''} |"
        for r in rows()
    ]
    return "\n".join([*head, *body]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _value(model: Model, name: str) -> dict[str, Any]:
    types = model.type_of(name)
    return {"name": name, "dtype": TensorProto.DataType.Name(types.dtype).lower(), "shape": types.dims}


def _layer(model: Model, node: Any, table: Any) -> dict[str, Any]:
    """Describe one node on the path and the rule that it gets."""
    value = node.outputs[0].name
    found = table.get((node.domain or "", node.op))
    says = None if found is None else (found.__doc__ or found.__name__).strip().partition("\n")[0]
    return {
        "layer": value,
        "node": label(node),
        "operator": node.op,
        "shape": model.type_of(value).dims,
        "rule": says,
    }


def _pool(node: Any) -> dict[str, Any]:
    """Tell whether a MaxPool's windows overlap: where a kernel reaches further than its stride."""
    kernel = node.attrs["kernel_shape"]
    strides = node.attrs.get("strides", [1] * len(kernel))
    dilations = node.attrs.get("dilations", [1] * len(kernel))
    overlap = any((k - 1) * d + 1 > s for k, d, s in zip(kernel, dilations, strides, strict=True))
    return {"node": label(node), "kernel": list(kernel), "strides": list(strides), "overlap": overlap}


def _sizes(dims: Any) -> str:
    return "?" if dims is None else "×".join("?" if d is None else str(d) for d in dims) or "scalar"
