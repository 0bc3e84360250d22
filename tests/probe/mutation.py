"""Our own server with one fault, in this process, and what the rules say of it.

    MUTANTS = (
        Mutant("READ begins a byte too late", "read-at-any-offset", handler(SSH2_FXP_READ, late)),
        Mutant("APPEND is forgotten", "append-ignores-the-offset", storage=Forgetful),
    )

A mutant is SFTPServer over a storage in memory with one thing replaced: a patch of the engine, a subclass of
the server, or another storage. What may not enter: mutants (mutants/) and rules (contract/rules/).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.contract import in_process
from pysftpserver.contract.client import Client, Refused
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.subject import Subject
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.segments import OutputQueue
from pysftpserver.server import SFTPServer
from tests.support.memory import SFTPServerMemoryStorage

MOST = 300  # entries of the largest directory
Fault = Callable[[], AbstractContextManager[object]]
Storage = Callable[[], SFTPAbstractServerStorage]


@dataclass
class Mutant:
    """A server with one fault.

    name: what it does wrong. rule: the identifier of the rule that catches it. patch: makes the context in
    which the engine has the fault. storage: makes what it serves. server: its class. also: identifiers of
    further rules that it breaks, with spaces between them; None: of many, as what they need first is wrong.
    """

    name: str
    rule: str
    patch: Fault = contextlib.nullcontext
    storage: Storage = SFTPServerMemoryStorage
    server: type[SFTPServer] = SFTPServer
    also: str | tuple[str, ...] | None = ""

    def breaks(self, rules: Iterable[str] | None = None) -> dict[str, str]:
        """Which of these rules (None: of all) the mutant breaks, and how."""
        with self.patch(), mock.patch.object(in_process, "SFTPServer", self.server):
            return broken(self.storage, rules)


class Careful(SFTPServer):
    """Every request is served by its handler: no faster way for READ and WRITE, which has no faults."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.transfers = frozenset()


# --- faults -------------------------------------------------------------------------------------------


def instead(owner: Any, name: str, fault: Callable[..., Any]) -> Fault:
    """A function or method is replaced. fault: called with what was there and then its arguments."""

    @contextlib.contextmanager
    def patched() -> Iterator[None]:
        original = getattr(owner, name)

        def faulty(*arguments: Any, **more: Any) -> Any:
            return fault(original, *arguments, **more)

        with mock.patch.object(owner, name, faulty):
            yield

    return patched


def handler(request: int | bytes, fault: Callable[..., Any]) -> Fault:
    """A request, or an extension, is served otherwise. fault: called with its handler, the session, the
    request id and the arguments."""
    row = EXTENDED_REQUESTS[request] if isinstance(request, bytes) else REQUESTS[request]
    return instead(row, "handler", fault)


def replies(kind: int, change: Callable[[bytes], bytes]) -> Fault:
    """All replies of a kind are changed. change: the body behind the request id to what is sent in its
    place. (Not for READ's data, whose packets are made in pieces.)"""

    def changed(packet: bytes | memoryview) -> bytes:
        whole = bytes(packet)
        if len(whole) < 9 or whole[4] != kind:
            return whole
        body = change(whole[9:])
        return (len(body) + 5).to_bytes(4, "big") + whole[4:9] + body

    return instead(OutputQueue, "append", lambda append, queue, packet: append(queue, changed(packet)))


# --- what the rules say -------------------------------------------------------------------------------


def broken(
    make: Storage, rules: Iterable[str] | None = None, faults: list[str] | None = None
) -> dict[str, str]:
    """Which rules (None: of all) the server breaks over new storages, and how. faults: gets the exceptions
    that were no answers, for a server that has none."""
    return {
        name: how
        for name in (RULES if rules is None else rules)
        if (how := broken_rule(name, make(), faults)) is not None
    }


def broken_rule(name: str, storage: SFTPAbstractServerStorage, faults: list[str] | None = None) -> str | None:
    """How the server breaks a rule over an empty storage; None if it does not, or lacks what it is about."""

    def connect() -> ServerLine:
        line = ServerLine(storage)
        if faults is not None:
            line.server.log.fault = lambda error: faults.append(f"{name}: {error!r}")  # type: ignore[method-assign]
        return line

    line = connect()
    subject = None
    try:
        client = Client(line)
        client.hello()
        lacks = {extension.decode() for extension in EXTENDED_REQUESTS} - {
            extension.decode() for extension in client.extensions
        }
        if not lacks.isdisjoint(RULES[name].needs):
            return None
        directory = (storage.home or b"/").rstrip(b"/") + b"/below"
        client.mkdir(directory)
        subject = Subject(client, directory, connect, frozenset(lacks), many=MOST)
        RULES[name].check(subject)
    except (AssertionError, Refused) as error:
        return str(error) or type(error).__name__
    except Exception as error:  # the engine of a mutant may fail as a whole
        return f"{type(error).__name__}: {error}"
    finally:
        if subject is not None:
            subject.end()
        line.close()
    return None
