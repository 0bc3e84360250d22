"""The server of the remo door as its real command in a process, users with keys, and looks at what it runs.

Everything that is started here is ended by the test case that started it; what is waited for has a deadline.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import unittest
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pysftpserver.remo import app, audit, client, crypto
from pysftpserver.remo.users import Users
from tests.support.forked import run
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK
from tests.support.processes import Program

COMMAND = str(ROOT / "bin" / "pysftpremo")
LOOPBACK_IN_PROC = "0100007F"
ESTABLISHED_OR_CLOSING = ("01", "08")  # in /proc/net/tcp: somebody has it open
HIDDEN = ("PYSFTPREMO", "PYTHONUNBUFFERED")  # of the environment: commands are not to see them
USER = "alice"
SERVER_KEY = crypto.new_key()
USER_KEY = crypto.new_key()
LISTENS = r"listening on http://127\.0\.0\.1:(\d+)/"
LOGGER = "pysftpserver.remo"


@functools.cache
def state_directory() -> str:
    """Where commands keep what they remember: not with what the person remembers who runs the tests."""
    place = tempfile.mkdtemp(prefix="pysftpremo-state-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def environment(**more: str) -> dict[str, str]:
    """What a command of this project needs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "XDG_STATE_HOME": state_directory()}
    return {**kept, **own, **more}


def furnish(place: Path) -> None:
    """Keys and a database with one user, by the names that the command looks for."""
    for name, key in (("remo_serv", SERVER_KEY), (USER, USER_KEY)):
        private = place / f"{name}_key.pem"
        private.touch(0o600)
        private.write_bytes(crypto.private_pem(key, None))
        (place / f"{name}.pem").write_bytes(crypto.public_pem(key.public_key()))
    admit(place, USER)


def admit(place: Path, user: str, permissions: str | None = None) -> None:
    """Another user, with the same key."""
    public = crypto.public_pem(USER_KEY.public_key()).decode()
    Users(str(place / "users_db.sqlite")).add(user, public, permissions)


class Server:
    """`pysftpremo serve` on a free port of loopback, in a directory that was furnished.

    program: what Python is told to run. limits: as for Process.
    """

    def __init__(
        self,
        place: Path,
        *words: str,
        program: Iterable[str] = (COMMAND,),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.place = place
        self.log_path = place / "server.log"
        self.audit_path = place / "audit.log"

        argv = [sys.executable, *program, "serve", "--allow-root", "--port=0"]
        argv += [f"--audit={self.audit_path}", *words]
        self.log_path.write_bytes(b"")
        self.process = Program(argv, self.log_path, limits=limits, cwd=place, env=environment())
        try:
            self.port = int(self.process.said(LISTENS)[1])
        except AssertionError:
            self.kill()
            raise

    def log(self) -> str:
        """All that it has logged."""
        return self.log_path.read_text()

    def audit(self, request: str) -> list[dict[str, Any]]:
        """The audit records of one kind of request."""
        whole = self.audit_path.read_text().rpartition("\n")[0]  # the last line may be coming
        lines = map(json.loads, whole.splitlines())
        return [line for line in lines if line["request"] == request]

    def connect(self, user: str = USER, **options: Any) -> client.Client:
        """A session."""
        options = {"user": user, "key": USER_KEY, "server_key": SERVER_KEY.public_key(), **options}
        return client.connect(LOOPBACK, self.port, **options)

    def descriptors(self) -> list[str]:
        """What the process has open: sockets, pipes, terminals, files."""
        place = Path(f"/proc/{self.process.pid}/fd")
        found = []
        for name in place.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(name))
        return sorted(found)

    def connections(self) -> int:
        """How many clients are connected."""
        mine = {f"{LOOPBACK_IN_PROC}:{self.port:04X}"}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1] in mine and row[3] in ESTABLISHED_OR_CLOSING for row in rows)

    def children(self) -> list[str]:
        """Processes that it has started, zombies too: number and state."""
        return [f"{number} {state}" for number, state, parent in processes() if parent == self.process.pid]

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        return self.process.stop()

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self.process.close()


def processes() -> Iterator[tuple[int, str, int]]:
    """(number, state, parent) of every process."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = (place / "stat").read_text().rpartition(")")[2].split()
            yield int(place.name), words[0], int(words[1])


def called(words: Iterable[str], cwd: Path, given: bytes = b"", **variables: str) -> Any:
    """What the command does with words: subprocess.CompletedProcess, with bytes."""
    return run([sys.executable, COMMAND, *words], given, cwd=cwd, env=environment(**variables))


def quiet(case: unittest.TestCase) -> None:
    """Servers that a test makes in this process log nothing, and leave no settings to others."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    case.addCleanup(logging.getLogger().removeHandler, handler)
    case.addCleanup(_forget)
    logging.getLogger(LOGGER).propagate = False


def _forget() -> None:
    for made in app.application.made.values():
        made.close()
    app.application.made.clear()
    for name in (audit.LOGGER, LOGGER):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        for handler in list(logger.handlers):
            logger.removeHandler(handler)


class Furnished(unittest.TestCase):
    """A furnished directory, self.place, for all tests of the class."""

    place: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.place = Path(tempfile.mkdtemp(prefix="pysftpserver-remo-"))
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        furnish(cls.place)


class Served(Furnished):
    """A server for all tests of the class, and a session for each. words: the server's options."""

    words: Iterable[str] = ()
    program: Iterable[str] = (COMMAND,)
    limits: Mapping[str, int] | None = None
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.prepare()
        cls.server = Server(cls.place, *cls.words, program=cls.program, limits=cls.limits)
        cls.addClassCleanup(cls.server.kill)

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.login()

    @classmethod
    def prepare(cls) -> None:
        """What has to be there before the server starts."""

    def login(self, user: str = USER, **options: Any) -> client.Client:
        """Another session."""
        remote = self.server.connect(user, **options)
        self.addCleanup(remote.close)
        return remote

    def ask(
        self, method: str, path: str, argument: bytes | None = None, body: Iterable[bytes] | None = None
    ) -> bytes:
        """A request of this test's session, and all of the answer."""
        return b"".join(self.remote._talk.ask(method, path, argument, body))

    def plainly(self) -> None:
        """This test's session is in plain mode from now on."""
        self.remote._talk._authenticate()
        self.assertFalse(self.remote.is_numbered)

    @contextlib.contextmanager
    def refused(self, status: int, words: str = "") -> Iterator[None]:
        """The server says no, in one line with these words."""
        with self.assertRaises(client.RequestFailed) as caught:
            yield
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertIn(words, str(caught.exception))


class TwoSides(Served):
    """self.here: a directory of this side with keys, self.there: one of the server's, for each test."""

    def setUp(self) -> None:
        Furnished.setUp(self)
        self.here = Path(tempfile.mkdtemp(prefix="here-", dir=self.place))
        self.there = Path(tempfile.mkdtemp(prefix="there-", dir=self.place))
        for name in ("alice_key.pem", "remo_serv.pem"):
            shutil.copy(self.place / name, self.here)
