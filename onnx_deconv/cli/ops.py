"""``onnx-deconv ops``: which operators have a rule."""

import click

from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.compiler.inspection import Operator, grouped, operator_table_markdown, operators

_EPILOG = """\b
Examples:
  onnx-deconv ops
  onnx-deconv ops --json | jq -r .operator
  onnx-deconv ops --markdown > docs/operators.md
"""


@click.command("ops", epilog=_EPILOG, short_help="List the operators that have a rule.")
@click.option("--markdown", is_flag=True, help="As a page of the documentation.")
@options.common
@click.pass_obj
def command(console: Console, /, *, markdown: bool) -> None:
    """List the operators that have a rule, and what happens to the signal there."""
    if markdown:
        click.echo(operator_table_markdown(), nl=False)
        return
    table = operators()
    widest = max(len(each.operator) for each in table)
    for each in table:
        record = {"operator": each.operator, "family": each.family, "rules": each.rules}
        console.result(record, _text(each, widest))


def _text(each: Operator, widest: int) -> str:
    """Write one operator: a line, and where the tables differ one for each."""
    head = f"{each.operator:<{widest}}  {each.family:<11}  "
    if len(set(each.rules.values())) == 1:
        return head + each.rules["gradient"]
    return "\n".join(
        (head if k == 0 else " " * len(head)) + f"{', '.join(names)}: {says}"
        for k, (names, says) in enumerate(grouped(each.rules))
    )
