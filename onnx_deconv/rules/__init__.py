"""One rule per operator: how a signal passes a forward node backwards. One file per family."""

from onnx_deconv.rules import (
    elementwise,
    index,
    join,
    linear,
    normalize,
    pooling,
    quantise,
    rectify,
    reduce,
    resample,
    reshape,
    sample,
)
from onnx_deconv.rules.registry import Row, Rule, RuleTable, Signals, rows, rule, rule_table
from onnx_deconv.rules.site import Site

FAMILIES = (
    elementwise,
    index,
    join,
    linear,
    normalize,
    pooling,
    quantise,
    rectify,
    reduce,
    resample,
    reshape,
    sample,
)

__all__ = ["FAMILIES", "Row", "Rule", "RuleTable", "Signals", "Site", "rows", "rule", "rule_table"]
