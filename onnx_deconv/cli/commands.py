"""Commands that are imported when they are called, so that none waits for what only another needs."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


class CommandGroup(click.Group):
    """Commands in the order given, each in a module of its own that is imported when it is called.

    Parameters
    ----------
    module
        The package that has one module per command; the click command in it is named ``command``.
    commands
        One line of help by name of a command.
    """

    def __init__(self, *, module: str, commands: Mapping[str, str], **attributes: Any) -> None:
        later: dict[str, click.Command] = {
            name: _Later(name, module, line) for name, line in commands.items()
        }
        super().__init__(commands=later, **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order given, not by the alphabet."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; where there is none of that name, offer those there are."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, self.commands, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(self.commands)}"
            ctx.fail(f"no command is named {name!r}: {hint}")
        return super().resolve_command(ctx, args)


_OF_NUMBERS = {"--bands", "--page"}
"""Options of inputs that are no photographs."""
_ONLY_EXPLAIN = "{} is an option of explain, for images of any bands: {} takes photographs"


class _Later(click.Command):
    """What the help of the group needs of a command; the rest is imported on the first call."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module = f"{module}.{name}"

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Import the command and let it parse its own arguments."""
        command: click.Command = importlib.import_module(self._module).command
        try:
            return command.make_context(*arguments, **more)
        except click.NoSuchOption as error:
            if error.option_name not in _OF_NUMBERS:
                raise
            raise click.UsageError(_ONLY_EXPLAIN.format(error.option_name, self.name), error.ctx) from error
