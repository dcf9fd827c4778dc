"""What an interrupted evaluation goes on from: one line of JSON for each method, measure and case."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.errors import InputError
from onnx_deconv.evaluation.cases import Case
from onnx_deconv.evaluation.measures import Numbers
from onnx_deconv.files import replacing, writing

JOURNAL = "evaluation.jsonl"

Key = tuple[str, str, str, int]
"""Method, measure, photograph's file name and class."""


class Journal:
    """What has been measured so far.

    A run that is killed leaves at most its last line half written; that case is measured again.

    Parameters
    ----------
    home
        The folder that it lies in; ``None`` keeps it in memory.
    made
        What the numbers depend on. A journal of other numbers is refused.

    Raises
    ------
    InputError
        If there is a journal of another evaluation, or the file cannot be written.
    """

    def __init__(self, home: Path | None, made: Mapping[str, Any]) -> None:
        self._path = None if home is None else home / JOURNAL
        self._found: dict[Key, Numbers] = {}
        if self._path is not None:
            self._go_on(self._path, json.dumps({"made": made}) + "\n")

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __getitem__(self, key: Key) -> Numbers:
        return self._found[key]

    def note(self, method: str, measure: str, cases: Mapping[Case, Numbers]) -> None:
        """Note what was measured of some cases."""
        lines = []
        for case, numbers in cases.items():
            self._found[key_of(method, measure, case)] = numbers
            entry = {"method": method, "measure": measure, "photograph": case.name, "class": case.target}
            lines.append(json.dumps(entry | {"numbers": numbers}) + "\n")
        if self._path is not None:
            with writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.writelines(lines)

    def _go_on(self, path: Path, head: str) -> None:
        """Read what is there, and write it again without a last line that was cut off."""
        first, *lines = _lines(path) or [head]
        if first != head:
            raise InputError(
                f"{path}: belongs to an evaluation with other photographs or options, or of another model; "
                "delete it, or choose another folder"
            )
        with replacing(path) as temporary:
            temporary.write_text(first + "".join(lines), encoding="utf-8")
        for line in lines:
            try:
                entry = json.loads(line)
                key = (entry["method"], entry["measure"], entry["photograph"], entry["class"])
                self._found[key] = dict(entry["numbers"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{path}: is damaged ({error}); delete it to begin again") from error


def key_of(method: str, measure: str, case: Case) -> Key:
    """Return what a case's numbers are known by."""
    return method, measure, case.name, case.target


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file; none where there is no file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it to begin again") from error
    return [line for line in lines if line.endswith("\n")]
