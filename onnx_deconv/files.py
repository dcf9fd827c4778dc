"""Write files whole or not at all, clear away what a killed run left, and find the package's own.

Everything that is written first has a name of its own (:data:`PREFIX`) that its run holds a lock on. The
system releases the lock when the run ends, however it ends; so a later run can tell what belongs to nobody.
"""

import functools
import os
import secrets
import shutil
import sys
import tempfile
import time
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from onnx_deconv.errors import InputError

PREFIX = ".onnx-deconv-"
"""How the names of files and folders begin that are only there while a run lasts."""

_YOUNG = 10.0
"""Seconds in which nothing is cleared away: it may have been made, and not locked yet."""


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
    target = Path(os.path.realpath(path))
    temporary = target.parent / f"{PREFIX}{secrets.token_hex(8)}{target.suffix}"
    with writing(path), _removed(temporary):
        if target.exists() and not target.is_file():
            raise InputError(f"{os.fspath(path)}: is no ordinary file; choose another name")
        _clear_away(target.parent)
        temporary.open("xb").close()  # not tempfile: the result shall have the usual access rights
        with _held(temporary):
            yield temporary
            temporary.replace(target)


@contextmanager
def replacing_together(
    path: str | os.PathLike[str], names: Sequence[str], *, known: Sequence[str] = ()
) -> Iterator[Path]:
    """Write files that belong together into a folder, all of them or none.

    Yields a temporary folder inside `path`, which is made where it does not exist. When the block ends,
    the files written there take their places; when it raises, an interruption included, all is as it was.

    Parameters
    ----------
    path
        The folder.
    names
        The files. The last one is what tells that the others are there: it goes first and comes last, so
        that a run that is killed meanwhile leaves nothing that looks whole.
    known
        More files that may be there from before. They belonged to what is replaced, and are removed.

    Yields
    ------
    pathlib.Path
        The folder to write to.

    Raises
    ------
    InputError
        For any OSError: no such folder, no permission, disk full.
    """
    is_new = not Path(path).exists()
    home = folder(path)
    stage = home / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        with writing(path), _removed(stage):
            _clear_away(home)
            stage.mkdir()
            with _held(stage):
                yield stage
                _exchange(stage, home, names, dict.fromkeys([names[-1], *known, *names]))
    except BaseException:
        if is_new:
            with suppress(OSError):
                home.rmdir()
        raise


def _exchange(stage: Path, home: Path, names: Sequence[str], old: Iterable[str]) -> None:
    """Move old files out of the way and new ones into their places; undo it if that fails."""
    away, moved = stage / "old", list[tuple[Path, Path]]()
    away.mkdir()
    for name in names:
        if (home / name).is_dir():
            raise InputError(f"{home / name}: is a folder; choose another place")
    try:
        for name in old:
            if os.path.lexists(home / name):
                (home / name).replace(away / name)
                moved.append((home / name, away / name))
        for name in names:
            (stage / name).replace(home / name)
            moved.append((stage / name, home / name))
    except BaseException:
        for was, now in reversed(moved):
            now.replace(was)
        raise


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


def member(archive: zipfile.ZipFile, name: str, most: int) -> bytes | None:
    """Read a member of a zip file; ``None`` if it has more bytes than `most`, whatever its header says."""
    with archive.open(name) as file:
        content = file.read(most + 1)
    return content if len(content) <= most else None


class Spool:
    """A temporary folder that goes when nobody refers to it any more, and with the program at the latest.

    Attributes
    ----------
    folder
        Its path.
    """

    def __init__(self) -> None:
        _clear_away(Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._hold = _held(self.folder)
        self._hold.__enter__()
        weakref.finalize(self, _dissolve, self.folder, os.getpid())


def _dissolve(spool: Path, owner: int) -> None:
    """Remove a spool; a process that was forked from the owner leaves it alone."""
    if os.getpid() == owner:
        shutil.rmtree(spool, ignore_errors=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system refuses (no such folder, no permission, disk full) into one line about the path.

    Raises
    ------
    InputError
        For any OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{os.fspath(path)}: cannot be written ({reason}); choose another place") from error


@contextmanager
def _removed(temporary: Path) -> Iterator[None]:
    """Remove a file or folder in the end, if it is still there."""
    try:
        yield
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # above all: it is in its place by now
            path.unlink()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock on a file or folder; does nothing where the system has no such locks (Windows)."""
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


if sys.platform == "win32":

    def _locked(path: Path) -> int | None:
        """Return ``None``: there are no such locks."""
        del path
        return None

    def _is_own(about: os.stat_result) -> bool:
        """Tell of no file that it is this user's: the system does not say in this way."""
        del about
        return False

else:
    import fcntl

    def _locked(path: Path) -> int | None:
        """Lock a file or folder; return what holds the lock, or ``None`` where it cannot be had."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return handle

    def _is_own(about: os.stat_result) -> bool:
        """Tell whether a file is this user's."""
        return about.st_uid == os.getuid()


@functools.cache
def _clear_away(home: Path) -> None:
    """Remove what killed runs left: once for each folder is enough."""
    with suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                _clear_one(Path(entry.path))


def _clear_one(path: Path) -> None:
    with suppress(OSError):
        about = path.lstat()
        if not _is_own(about) or time.time() - about.st_mtime < _YOUNG:
            return
    handle = _locked(path)
    if handle is not None:
        _remove(path)
        os.close(handle)


def check_disk(home: Path, needed: int, what: str, or_else: str = "") -> int:
    """Make sure that a folder, which need not be there yet, has room; return how many bytes are free.

    Parameters
    ----------
    home
        The folder.
    needed
        Bytes.
    what
        What takes them, and when, for the message.
    or_else
        What the caller can do beside choosing another folder.

    Raises
    ------
    InputError
        If it has not.
    """
    there = next((each for each in (home, *home.absolute().parents) if each.is_dir()), Path())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{home}: {what} about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free: "
            f"choose another folder{or_else}"
        )
    return free
