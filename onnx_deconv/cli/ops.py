"""``onnx-deconv ops``: which operators have a rule."""

import click

from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.compiler.inspection import Operator, grouped, operator_table_markdown, operators

_EPILOG = """\b
Examples:
  onnx-deconv ops
  onnx-deconv ops --json | jq -r .operator
  onnx-deconv ops --markdown > docs/operators.md
"""


@click.command(epilog=_EPILOG)
@click.option("--markdown", is_flag=True, help="Print the list as a page of the documentation.")
@groups.common
@click.pass_obj
def command(console: Console, /, *, markdown: bool) -> None:
    """List the operators that have a rule, and what each rule does to the signal."""
    if markdown:
        click.echo(operator_table_markdown(), nl=False)
        return
    table = operators()
    widest = max(len(each.operator) for each in table)
    for each in table:
        record = {"operator": each.operator, "family": each.family, "rules": each.rules}
        console.result(record, _text(each, widest))


def _text(each: Operator, widest: int) -> str:
    """Describe an operator in one line, or in one per rule table where they differ."""
    head = f"{each.operator:<{widest}}  {each.family:<11}  "
    if len(set(each.rules.values())) == 1:
        return head + each.rules["gradient"]
    return "\n".join(
        (head if k == 0 else " " * len(head)) + f"{', '.join(names)}: {says}"
        for k, (names, says) in enumerate(grouped(each.rules))
    )
