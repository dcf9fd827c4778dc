"""The command line: thin commands over the library; click is imported in this package alone.

Here is the one place where errors become a line on stderr and an exit code.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from onnx_deconv import __version__
from onnx_deconv.cli.console import Console
from onnx_deconv.errors import DeconvError

FELL_SHORT, MISTAKE, FAULT, INTERRUPTED = 1, 2, 3, 130

_COMMANDS = (
    "demo",
    "explain",
    "atlas",
    "report",
    "convert",
    "inspect",
    "ops",
    "verify",
    "occlude",
    "sheet",
    "invariance",
    "evolution",
    "correspondence",
)

_EPILOG = """\b
Exit codes:
  0    all went well
  1    a check fell short, or some of several pictures failed
  2    a mistake that the message says how to put right
  3    a fault of this program, or not enough memory
  130  interrupted

\b
Completion of commands, for bash (zsh_source and fish_source likewise):
  eval "$(_ONNX_DECONV_COMPLETE=bash_source onnx-deconv)"
"""


class Program(click.Group):
    """Commands that are imported when called, and the one exit for all errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, the likeliest first."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command: what one needs, the others do not wait for."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"onnx_deconv.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, then exit."""
        console = ctx.obj = Console()
        with console.listening():
            ctx.exit(_outcome(console, lambda: super(Program, self).invoke(ctx)))


def _outcome(console: Console, run: Callable[[], int | None]) -> int:
    """Run a command; return its exit code, having said why if it is not 0."""
    failure: BaseException
    try:
        return run() or 0
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise  # click's own
    except KeyboardInterrupt:
        console.error("interrupted", prefix="")
        return INTERRUPTED
    except DeconvError as error:
        console.error(str(error))
        failure, code = error, MISTAKE
    except MemoryError as error:
        console.error("not enough memory: try a smaller --size, or fewer classes at once")
        failure, code = error, FAULT
    except Exception as error:  # noqa: BLE001  (the last resort: still one line)
        hint = "run again with -v to see where, and report it"
        console.error(f"unexpected {type(error).__name__} ({error}): {hint}")
        failure, code = error, FAULT
    if console.verbose:
        traceback.print_exception(failure, file=sys.stderr)
    return code


@click.group(
    cls=Program,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """Explain any CNN in an ONNX file: what in a picture excited a class, or any unit of any layer.

    Begin with 'onnx-deconv demo'. Every command has examples: 'onnx-deconv explain --help'.
    """
