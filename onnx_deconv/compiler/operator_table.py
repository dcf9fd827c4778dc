"""The table of operators: what happens to the signal at each, by rule table."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_deconv.model.decompositions import composites
from onnx_deconv.operators import (
    Rule,
    operators_by_key,
    rule_table,
    rule_tables,
    rules_for,
    spelled,
)
from onnx_deconv.semantics import Semantics


def family(rule: Rule) -> str:
    """Name the file of a rule."""
    return rule.__module__.rpartition(".")[2]


def says(rule: Rule) -> str:
    """Return the first line of a rule's docstring: what happens to the signal."""
    return (rule.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class Operator:
    """One line of the operator table.

    Attributes
    ----------
    operator
        With its domain unless that is the standard's.
    family
        The file of its rule.
    rules
        What happens to the signal, by rule table.
    """

    operator: str
    family: str
    rules: Mapping[str, str]


def operators() -> list[Operator]:
    """Return the operator table, by family and name."""
    chosen = {name: rules_for(Semantics(rules=name)) for name in rule_tables()}
    found = [
        Operator(spelled(key), family(entry.rule), {name: says(rules[key]) for name, rules in chosen.items()})
        for key, entry in operators_by_key().items()
        if entry.rule is not None
    ]
    return sorted(found, key=lambda each: (each.family, each.operator))


def operator_table_markdown() -> str:
    """Write the operator table as the page ``docs/operators.md``."""
    head = [
        "# Which operators have a rule?",
        "",
        "Made by `onnx-deconv ops --markdown > docs/operators.md`; a test keeps it true. A row says what",
        "happens to the signal: first in the `gradient` table, then in those tables where something else",
        "happens than in the table that they come from. [How to add one](add-an-operator.md).",
        "",
        "| rule table | comes from | what it is |",
        "|---|---|---|",
        *(f"| {t.name} | {t.parent.name if t.parent else ''} | {t.doc} |" for t in rule_tables().values()),
        "",
        "| operator | family | what happens to the signal |",
        "|---|---|---|",
    ]
    body = [f"| {each.operator} | {each.family} | {_cell(each.rules)} |" for each in operators()]
    more = [
        "",
        "## Composite operators",
        "",
        "Operators that runtimes fuse or quantise, and a few that the standard withdrew, are read as the",
        "plain operators that they stand for. If and Loop are read as the nodes that will run, where sizes",
        "and constants alone decide which.",
        "",
        "| operator | stands for |",
        "|---|---|",
    ]
    spelled = [f"| {f'{domain}::' if domain else ''}{name} | {says} |" for domain, name, says in composites()]
    return "\n".join([*head, *body, *more, *spelled]) + "\n"


def _cell(by_table: Mapping[str, str]) -> str:
    more = [f"*{', '.join(names)}*: {_escaped(text)}" for names, text in deviations(by_table)]
    return "<br>".join([_escaped(by_table["gradient"]), *more])


def deviations(by_table: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """List what tables say that say something else than their parents, those together that say the same."""
    groups: dict[str, list[str]] = {}
    for name, text in by_table.items():
        parent = rule_table(name).parent
        if parent is not None and text != by_table[parent.name]:
            groups.setdefault(text, []).append(name)
    return [(names, text) for text, names in groups.items()]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
