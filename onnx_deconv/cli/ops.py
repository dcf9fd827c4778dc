"""``onnx-deconv ops``: which operators have a rule."""

import click

from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.compiler.operator_table import Operator, deviations, operator_table_markdown, operators

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
    """Describe an operator in one line, and in one more for each rule table that deviates."""
    head = f"{each.operator:<{widest}}  {each.family:<11}  "
    more = [f"{', '.join(names)}: {says}" for names, says in deviations(each.rules)]
    return "\n".join([head + each.rules["gradient"], *(" " * len(head) + line for line in more)])
