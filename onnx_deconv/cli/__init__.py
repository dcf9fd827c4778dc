"""The command line: thin commands over the library; click is imported in this package alone.

Errors become one line on stderr and an exit code here, and nowhere else.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from onnx_deconv import __version__
from onnx_deconv.cli.commands import CommandGroup
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.stopping import INTERRUPTED, Stopping
from onnx_deconv.errors import DeconvError, speak_options

FELL_SHORT, MISTAKE, FAULT = 1, 2, 3

_COMMANDS = {
    "demo": "Explain the embedded photograph with the embedded model.",
    "explain": "Draw what in photographs excited a class or a unit.",
    "atlas": "Find the images that excite each feature map most; draw and share the result.",
    "convert": "Write a model and its companion as ONNX files for any onnxruntime.",
    "explore": "Explore a model in the browser: layers, feature maps, units, classes.",
    "serve": "Serve models that answer and explain over HTTP.",
    "inspect": "List a model's layers and the rule of each node.",
    "ops": "List the operators that have a rule.",
    "verify": "Check a model's explanations against independent answers.",
    "occlude": "Slide a square over photographs and draw how the scores change.",
    "evaluate": "Measure whether saliency maps are about the photograph and the class.",
    "sheet": "Compare rule tables, classes or layers side by side.",
    "invariance": "Measure features as photographs are shifted, scaled and rotated.",
    "evolution": "Follow feature maps through the checkpoints of a training.",
    "correspondence": "Compare what hiding the same part of several objects does to features.",
}

_EPILOG = """\b
Exit codes:
  0    success
  1    a check failed, a rule is missing (inspect), or some of several photographs could not be explained
  2    a mistake in the command or its files, or not enough memory; the message says how to go on
  3    an error in this program
  130  interrupted, or told to end (SIGTERM, SIGHUP)

\b
Completion in bash (for zsh and fish write zsh_source or fish_source):
  eval "$(_ONNX_DECONV_COMPLETE=bash_source onnx-deconv)"
"""


class Program(CommandGroup):
    """The program: its commands, and the one exit for all errors."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, then exit."""
        console, stopping = Console(), Stopping()
        ctx.obj = console
        speak_options(True)
        try:
            with console.listening():
                ctx.exit(_outcome(console, stopping, lambda: super(Program, self).invoke(ctx)))
        finally:
            speak_options(False)


def _outcome(console: Console, stopping: Stopping, run: Callable[[], int | None]) -> int:
    """Run a command; return its exit code, after a message if that is not 0."""
    try:
        with stopping.heeded():
            code = run() or 0
            sys.stdout.flush()
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise  # click's own
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001  (the last resort: still one line)
        if stopping.asked or isinstance(error, KeyboardInterrupt):
            console.error("interrupted", prefix="")
            return INTERRUPTED
        return _failed(console, error)
    console.finish()
    return code


def _failed(console: Console, error: BaseException) -> int:
    """Print what went wrong; return the exit code."""
    text, code = _described(error)
    console.error(text)
    if console.verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return code


def _described(error: BaseException) -> tuple[str, int]:
    """Return an error's one line and its exit code."""
    match error:
        case DeconvError():
            return str(error), MISTAKE
        case MemoryError():
            return "not enough memory: try a smaller --size (or --input-shape), or a smaller --top", MISTAKE
        case OSError():  # not foreseen where it happened: a disk or a pipe that is full, above all
            name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            return f"{name}{error.strerror or error}", MISTAKE
    hint = "run again with -v for the traceback, and report it"
    return f"unexpected {type(error).__name__} ({error}): {hint}", FAULT


@click.group(
    cls=Program,
    module=__name__,
    commands=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """Explain any CNN in an ONNX file: show what in an image excited a class, or a unit of any layer.

    Start with 'onnx-deconv demo'. The help of each command has examples: 'onnx-deconv explain --help'.
    """
