"""What is known of each operator, in one entry, and the rule tables. One file per family."""

# Importing a family makes its entries.
from onnx_deconv.operators import (  # noqa: F401
    elementwise,
    excitation,
    fields,
    index,
    join,
    linear,
    logic,
    lrp,
    normalize,
    pooling,
    quantise,
    rectify,
    reduce,
    regions,
    resample,
    reshape,
    sample,
)
from onnx_deconv.operators.forward_values import Tap
from onnx_deconv.operators.registry import (
    Entry,
    Operator,
    declare,
    find,
    key_of,
    operator,
    operators_by_key,
    own_domain,
    rules_for,
    spelled,
    traits_of,
)
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import (
    Key,
    Rule,
    RuleTable,
    Signals,
    adopt,
    compared_tables,
    register,
    rule_table,
    rule_tables,
)
from onnx_deconv.operators.traits import Trait
from onnx_deconv.operators.value_type import Shape, ValueType

__all__ = [
    "Entry",
    "Key",
    "Operator",
    "Rule",
    "RuleTable",
    "Shape",
    "Signals",
    "Site",
    "Tap",
    "Trait",
    "ValueType",
    "adopt",
    "compared_tables",
    "declare",
    "fields",
    "find",
    "key_of",
    "operator",
    "operators_by_key",
    "own_domain",
    "register",
    "rule_table",
    "rule_tables",
    "rules_for",
    "spelled",
    "traits_of",
]
