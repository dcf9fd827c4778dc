"""One rule per operator: how a signal passes a forward node backwards. One file per family."""

# Importing a family registers its rules.
from onnx_deconv.operators import (  # noqa: F401
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
from onnx_deconv.operators.registry import Row, Rule, RuleTable, Signals, rows, rule, rule_table
from onnx_deconv.operators.site import Site

__all__ = ["Row", "Rule", "RuleTable", "Signals", "Site", "rows", "rule", "rule_table"]
