"""A report as JSON, and read again.

What may not enter: what the fields mean (results.py).
"""

from __future__ import annotations

import dataclasses
import json

from pysftpserver.contract.table import LEVELS
from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.probe.results import VERDICTS, Figure, Outcome, Report, Step, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 64 << 20  # of a file
#: Types of fields, by their annotations in results.py.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "list[str]": str,
    "list[Step]": Step,
    "list[Outcome]": Outcome,
    "list[Task]": Task,
    "list[Figure]": Figure,
    "dict[str, str]": str,
}


def text(report: Report) -> str:
    """The whole report."""
    return json.dumps(report.to_json(), indent=1)


def read(path: str) -> Report:
    """The report in a file. Raises BadInput if the file cannot be read or contains something else."""
    shown = one_line(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{shown}: {reason_of(error)}") from None
    if len(content) > MOST_BYTES:
        raise BadInput(f"{shown}: larger than {MOST_BYTES >> 20} MiB, which no report is")
    try:
        report = Report.from_json(json.loads(content))
        _check(report)
    except BadInput as error:
        raise BadInput(f"{shown}: {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        raise BadInput(f"{shown}: not a report; name a file that pysftp-probe --json has written") from None
    return report


def _check(value: Any) -> None:
    """Raise TypeError or ValueError unless every field has the type that its class says."""
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        kind = str(field.type)
        parts: list[Any] = [found]
        if kind.startswith("list["):
            parts = list(found) if isinstance(found, list) else [None]
        elif kind.startswith("dict["):
            parts = list(found.values())
        for part in parts:
            if not isinstance(part, _TYPES[kind]):
                raise TypeError(field.name)
            if kind.startswith("float") and isinstance(part, int):
                float(part)  # JSON allows whole numbers that are too large for a float
            if dataclasses.is_dataclass(part):
                _check(part)
    if isinstance(value, Outcome) and (value.level not in LEVELS or value.verdict not in VERDICTS):
        raise ValueError("an outcome has an unknown level or verdict")
