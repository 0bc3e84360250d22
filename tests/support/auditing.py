"""Helpers for tests of the audit log: strictly read records, sinks that keep or fail, audited sessions."""

from __future__ import annotations

import json
import re
import unittest
from datetime import UTC, datetime
from typing import Any

from pysftpserver.engine.audit import AuditLog
from pysftpserver.engine.log import DEBUG3, SFTPLog
from pysftpserver.hook import SFTPHook, SFTPHooks
from tests.support.packets import Client
from tests.support.paths import ROOT

ALWAYS = ["time", "session", "peer", "port", "user", "request", "path", "result", "bytes", "duration"]
PAGE = (ROOT / "docs" / "audit.md").read_text()


def record_of(line: bytes) -> dict[str, Any]:
    """The record in a line. Raises AssertionError unless it is one line of printable ASCII with an object."""
    assert line.endswith(b"\n") and line.count(b"\n") == 1, line
    assert all(32 <= byte < 127 for byte in line[:-1]), line
    record = json.loads(line)
    assert list(record)[: len(ALWAYS)] == ALWAYS or set(ALWAYS) <= set(record), line
    return dict(record)


def records_of(data: bytes) -> list[dict[str, Any]]:
    """The records in a file. Every line must be a record."""
    return [record_of(line) for line in data.splitlines(keepends=True)]


def original(record: dict[str, Any], field: str) -> bytes:
    """The bytes that a client sent."""
    if f"{field}_hex" in record:
        return bytes.fromhex(record[f"{field}_hex"])
    return str(record[field]).encode()


def moment(record: dict[str, Any]) -> datetime:
    """When the operation of a record began. Raises AssertionError for a time in another form."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"]), record
    return datetime.fromisoformat(record["time"]).astimezone(UTC)


def documented() -> tuple[set[str], set[str]]:
    """The fields that docs/audit.md names: those of every record, and the others."""
    section = PAGE.split("\n## Records\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    table = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    paragraph = section.split("\nWhere they apply: ")[1].split("\n\n")[0]
    # Fields are at the beginning of a part, alone or in a list; requests are named after "of" and "for".
    words = re.sub(r"(?:of|for|what|that) `[\w-]+`|`\"[^`]*`", "", paragraph)
    return table, set(re.findall(r"`(\w+)`", words)) | set(re.findall(r"`(\w+_hex)`", section))


class Kept:
    """A sink that keeps lines. After `room` lines it raises `error`."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.room: float = float("inf")
        self.error: BaseException = OSError(28, "No space left on device")

    def __call__(self, line: bytes) -> None:
        if self.room <= 0:
            raise self.error
        self.room -= 1
        self.lines.append(line)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record_of(line) for line in self.lines]

    @property
    def last(self) -> dict[str, Any]:
        return self.records[-1]


class Audited(unittest.TestCase):
    """A test case with a sink, self.sink, and the errors logged by the audit log, self.errors."""

    def setUp(self) -> None:
        super().setUp()
        self.sink = Kept()
        self.errors: list[str] = []

    def audit(self, best_effort: bool = False, sink: Any = None, level: str = "all", **how: Any) -> AuditLog:
        log = SFTPLog(lambda level, text: self.errors.append(text), DEBUG3)
        return AuditLog(sink or self.sink, "alice", "192.0.2.7", 50000, log, best_effort, level=level, **how)

    def session(
        self, storage: Any, *others: SFTPHook, best_effort: bool = False, sink: Any = None, **options: Any
    ) -> Client:
        """A session on a storage. others: hooks that are called after the audit log."""
        audit = self.audit(best_effort, sink)
        hook = SFTPHooks(audit, *others) if others else audit
        client = Client(storage, hook=hook, **options)
        self.addCleanup(client.server.close)
        return client
