"""The command line run in the test's own process, and the photographs it is given."""

import numpy as np
from click.testing import CliRunner
from PIL import Image

from onnx_deconv.cli import main


def runner(**options):
    """Make click's runner, which keeps stdout and stderr apart."""
    try:
        return CliRunner(mix_stderr=False, **options)
    except TypeError:  # click 8.2 and newer never mix them
        return CliRunner(**options)


def run(*arguments):
    """Run the command line in this process; return (exit code, stdout, stderr)."""
    result = runner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments):
    """Run what has to be refused: nothing on stdout, one line on stderr (and click's usage above it)."""
    code, out, err = run(*arguments)
    assert code == 2, (out, err)
    assert out == ""
    lines = [line for line in err.splitlines() if line]
    assert not [line for line in lines[:-1] if not line.startswith(("Usage:", "Try "))]
    assert lines[-1].startswith("Error: ")
    return lines[-1]


def picture(path, height=40, width=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened)
