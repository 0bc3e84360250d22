"""Asks a program or an HTTP server about users who are in no directory of users.

It gets a name, a method, a key or a password and an address as JSON, and answers with a user's record or with
nothing. If anything goes wrong, that counts as nothing. What may not enter: SSH, stored users, logs. No
message contains a password or an answer. Facts: docs/sshd.md, "Lookups"; RFC 9110.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import shlex
from collections import OrderedDict
from functools import partial
from weakref import WeakValueDictionary

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.people.keys import fingerprint, key_line
from pysftpserver.people.records import build, folder_problem, name_problem, parse_keys
from pysftpserver.people.users_file import field_problems
from pysftpserver.service.fair import FairThreads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pysftpserver.people.settings import PeopleSettings
    from pysftpserver.people.users import User

    class Source(Protocol):
        """The program or server that is asked."""

        def ask(self, question: bytes) -> bytes:
            """Ask, and return the answer, b"" for nothing. It blocks. Raises NoAnswer."""


LARGEST = 64 << 10  # bytes of an answer
MOST_KEPT = 10_000  # answers
NOTHING_KEPT = 5.0  # maximum seconds for which the answer "nothing" is kept
ID = "lookup\n"  # ids begin with this; no stored user's does, because names have no line end
ACCEPTED = "accepted"


class NoAnswer(Exception):
    """There is no usable answer. The text says why, in one line without secrets."""


def source_of(settings: PeopleSettings) -> Source | None:
    """The source that the settings name; None: there is none. Raises BadInput."""
    if settings.lookup_command is not None and settings.lookup_url is not None:
        raise BadInput("lookup_command and lookup_url: give one of them")
    if settings.lookup_command is not None:
        return Command(settings.lookup_command, settings.lookup_seconds)
    if settings.lookup_url is not None:
        return Web(settings.lookup_url, settings.lookup_token_file, settings.lookup_seconds)
    return None


class Command:
    """A program that is started for each question, which it reads from standard input.

    words: the program and its arguments, quoted as for a shell; no shell is started. patience: seconds.
    """

    def __init__(self, words: str, patience: float) -> None:
        try:
            self._words = shlex.split(words)
        except ValueError as error:
            raise BadInput(f"lookup_command: {error}") from None
        if not self._words or not self._words[0].strip():
            raise BadInput("lookup_command: no program in it")
        self._patience = patience

    def problem(self) -> str | None:
        """Why users cannot be looked up; None: the program can be started."""
        import shutil
        from os.path import join

        program = self._words[0]
        if shutil.which(join("/", program) if "/" in program else program) is None:
            return f"lookup_command: {one_line(program)}: there is no such program that can be started in /"
        return None

    def ask(self, question: bytes) -> bytes:
        import os
        import signal
        import subprocess

        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            process = subprocess.Popen(self._words, cwd="/", start_new_session=True, **how)  # type: ignore[call-overload]
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self._words[0]}: {reason_of(error)}") from None
        try:
            answer, _ = process.communicate(question, self._patience)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{self._words[0]} took longer than {self._patience:g} seconds") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # it leads its own group, and is not reaped yet
                process.communicate()
        if process.returncode:
            raise NoAnswer(f"{self._words[0]} ended with status {process.returncode}")
        return bytes(answer)


class Web:
    """An HTTP server to which each question is posted.

    token_file: its first line is sent as a bearer token. patience: seconds.
    """

    def __init__(self, url: str, token_file: str | None, patience: float) -> None:
        from urllib.parse import urlsplit

        from pysftpserver.host.wholefiles import first_line

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise BadInput(f"lookup_url: {one_line(url)}: write https://HOST/PATH")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise BadInput("lookup_url: passwords would pass the network in the clear; use https")
        self._host, self._port, self._is_secure = parts.hostname, parts.port, parts.scheme == "https"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "pysftpd"}
        if token_file is not None:
            self._headers["Authorization"] = f"Bearer {first_line(token_file, 'lookup_token_file')}"
        self._patience = patience
        self._context: Any = None

    def ask(self, question: bytes) -> bytes:
        import http.client
        import socket
        import ssl
        import threading

        if self._is_secure:
            self._context = self._context or ssl.create_default_context()
            kind: Any = partial(http.client.HTTPSConnection, context=self._context)
        else:
            kind = http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._patience)
        try:
            connection.connect()
            # An answer that arrives in drips would stay within the time limit of each read.
            end = threading.Timer(self._patience, connection.sock.shutdown, (socket.SHUT_RDWR,))
            end.daemon = True
            end.start()
            try:
                connection.request("POST", self._target, question, self._headers)
                answer = connection.getresponse()
                body: bytes = answer.read(LARGEST + 1)
            finally:
                end.cancel()
        except (OSError, http.client.HTTPException) as error:
            reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            raise NoAnswer(f"{self._host}: {reason}") from None
        finally:
            connection.close()
        if answer.status in (204, 404):
            return b""
        if answer.status != 200:
            raise NoAnswer(f"{self._host} answered {answer.status}")
        if answer.length:  # bytes that were announced and have not arrived
            raise NoAnswer(f"{self._host}: the answer is cut off, or too large")
        return body


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Lookup:
    """Asks a source on behalf of one event loop, and keeps its answers for lookup_cache seconds.

    patience: maximum seconds for a question.
    """

    def __init__(self, source: Source, settings: PeopleSettings) -> None:
        self._source = source
        self.patience = settings.lookup_seconds
        self._lifetime = float(settings.lookup_cache)
        self._threads = FairThreads(settings.lookup_most, 1.0, "lookups")
        self._secret = secrets.token_bytes(16)
        self._kept: OrderedDict[bytes, tuple[float, User | None, bool]] = OrderedDict()
        self._users: WeakValueDictionary[str, User] = WeakValueDictionary()  # the last records among these

    async def find(
        self,
        network: str,
        name: str,
        method: str,
        address: str,
        *,
        key: bytes = b"",
        password: str = "",
        certificate: dict[str, str | int] | None = None,
    ) -> tuple[User | None, bool]:
        """The user of that name, or None, and whether the key or password was found to be right.

        network: of the client, for its turn. certificate: the content of a valid certificate with this key:
        then a record means that the user may log in with it, unless the answer says otherwise. Raises
        NoAnswer.
        """
        if name_problem(name):
            return None, False
        question: dict[str, str | int] = {"name": name, "method": method, "address": address}
        if key:
            question |= {"key": key_line(key), "fingerprint": fingerprint(key), **(certificate or {})}
        else:
            question["password"] = password
        asked = json.dumps(question).encode()
        place = hashlib.blake2b(asked, key=self._secret).digest()  # no password is kept
        loop = asyncio.get_running_loop()
        until, user, is_accepted = self._kept.get(place, (0.0, None, False))
        if until > loop.time():
            return user, is_accepted
        try:
            async with asyncio.timeout(self.patience):  # for its turn as well
                answer = await self._threads.run(network, partial(self._source.ask, asked))
        except TimeoutError:
            raise NoAnswer(f"no answer within {self.patience:g} seconds") from None
        user, said = parsed(name, answer)
        is_accepted = bool(said) if certificate is None else said is not False
        if user is not None:  # equal answers share one record, whatever keys strangers send
            known = self._users.get(name)
            user = self._users[name] = known if known == user else user
        lifetime = self._lifetime if user is not None else min(self._lifetime, NOTHING_KEPT)
        self._kept[place] = loop.time() + lifetime, user, is_accepted
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return user, is_accepted

    def shutdown(self) -> None:
        """Ask no more questions; those that are being asked go on."""
        self._threads.shutdown()


def parsed(name: str, answer: bytes) -> tuple[User | None, bool | None]:
    """The record in an answer, and whether the client is that user, if the answer says. Raises NoAnswer."""
    if not answer.strip():
        return None, None
    try:
        if len(answer) > LARGEST:
            raise ValueError
        table = json.loads(answer)
    except (ValueError, RecursionError):
        raise NoAnswer(f"the answer is not JSON of at most {LARGEST >> 10} KiB") from None
    if table is None:
        return None, None
    if not isinstance(table, dict):
        raise NoAnswer("the answer is not an object")
    is_wrong = not isinstance(table.get(ACCEPTED, True), bool)
    is_accepted = table.pop(ACCEPTED, None)
    problems = field_problems(table)
    if "authorized_keys" in table:
        problems.append("authorized_keys is for files of users; use keys")
    if is_wrong:
        problems.append(f"{ACCEPTED} is not true or false")
    folder = table.pop("folder", name)
    if not problems and folder_problem(folder):
        problems.append(f"the folder is not usable: {folder_problem(folder)}")
    if problems:
        raise NoAnswer(f"the record: {one_line('; '.join(problems))}")
    # Bad keys are left out, as for stored users, and so are CAs, which only stored users may have.
    keys = [entry for entry in parse_keys(table.pop("keys", []))[0] if entry[1] is None]
    record = build(ID + name, name, folder, table.pop("active", True), keys, **table)
    if record.user is None:
        raise NoAnswer(f"the record: {one_line('; '.join(record.problems))}")
    return record.user, is_accepted


def is_looked_up(user: User) -> bool:
    """Whether no directory has that user."""
    return user.id.startswith(ID)
