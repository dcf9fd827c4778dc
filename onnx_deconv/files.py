"""Write files whole or not at all, and find those that come with the package."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnx_deconv.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file whole or not at all.

    Yields a temporary path (an empty file with the same suffix) in the folder of `path`. It takes
    the place of `path` when the block ends, and is removed when the block raises, an interruption
    included. A link is followed. Folders are not created.

    Parameters
    ----------
    path
        Where the file shall be in the end; a file that is there already is replaced.

    Yields
    ------
    pathlib.Path
        Where to write.

    Raises
    ------
    InputError
        For any OSError: no such folder, no permission, disk full; or `path` is not a file.
    """
    target = Path(path).resolve()
    temporary = target.parent / f".{secrets.token_hex(8)}{target.suffix}"
    try:
        if target.exists() and not target.is_file():
            raise InputError(f"{os.fspath(path)}: is no ordinary file; choose another name")
        temporary.open("xb").close()  # not tempfile: the result shall have the usual access rights
        yield temporary
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{os.fspath(path)}: cannot be written ({reason}); choose another place") from error
    finally:
        with suppress(OSError):  # above all: it is in its place by now
            temporary.unlink()


def folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder for results, with its parents.

    Raises
    ------
    InputError
        If it cannot be made, or is a file.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: no folder can be made there ({error.strerror or error})") from error
    return Path(path)


def embedded(name: str) -> Path:
    """Find a file that comes with the package: inside it, or in a checkout next to it.

    Raises
    ------
    InputError
        If it is in neither place.
    """
    package = Path(__file__).parent
    for home in (package / "models", package.parent / "models"):
        if (home / name).is_file():
            return home / name
    raise InputError(f"{name} is not in {package / 'models'}: install onnx-deconv again")
