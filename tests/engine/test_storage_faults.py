"""Storages that fail, with anything at all: the client gets a status, and the session goes on."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pysftpserver
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine.log import DEBUG3, ERROR
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound, SFTPSessionEnd
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets
from tests.support import packets as sftp
from tests.support.packets import Client, replies, request, string, u64
from tests.support.storages import METHODS, Failing, Listed, Whole

PACKAGE = str(Path(pysftpserver.__file__).parent)
SECRET = "/srv/secret/path"


class CustomBase(BaseException):
    """No Exception, and nobody's idea of an error."""


class Speechless(Exception):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Leaving(Exception):
    """Ends the process of whoever prints it."""

    def __str__(self) -> str:
        raise SystemExit(SECRET)


def chained(*errors: BaseException) -> BaseException:
    """The first of some exceptions, each of which is caused by the next."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def its_own_cause() -> BaseException:
    error = ValueError(SECRET)
    return chained(error, error)


def each_the_cause_of_the_other() -> BaseException:
    first, second = ValueError(SECRET), KeyError(SECRET)
    return chained(first, second, first)


def two_thousand_causes() -> BaseException:
    return chained(*(ValueError(SECRET) for _ in range(2001)))


class OddStatus(SFTPException):
    """A status code of its own."""

    status = 31


ANYTHING = [
    ValueError(SECRET),
    KeyError(SECRET),
    SystemExit(SECRET),
    OSError(SECRET),
    CustomBase(SECRET),
    MemoryError(),
    RecursionError(SECRET),
    AssertionError(SECRET),
    GeneratorExit(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    Leaving(SECRET),
    its_own_cause(),
    each_the_cause_of_the_other(),
    two_thousand_causes(),
]


class StoragesThatFail(unittest.TestCase):
    def ask(self, client: Client, handle: bytes, method: str) -> packets.Reply:
        name, parts = sftp.WAYS[method]
        return client.ask(name, *(handle if part == "{h}" else part for part in parts))

    def assert_survives(self, method: str, error: BaseException) -> None:
        """A FAILURE with a message and no secret, a traceback without host paths, and life goes on."""
        storage = Failing()
        client = Client(storage)
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        storage.failing, storage.error = method, error
        client.log.clear()
        reply = self.ask(client, handle, method)
        self.assertEqual((reply.kind, reply.content), ("status", sftp.FAILURE))
        self.assertTrue(reply.message)
        self.assertNotIn(b"secret", reply.message)
        errors = client.lines(ERROR)
        self.assertTrue(any(type(error).__name__ in line for line in errors), errors)
        self.assertTrue(
            any(re.search(r"in tests\.support\.storages, line \d+, act$", line) for line in errors), errors
        )
        self.assertFalse([line for line in errors if PACKAGE in line or ".py" in line or "\n" in line])
        storage.failing = ""
        self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")
        client.server.close()

    def test_every_method_has_its_way_here(self):
        own = {name for name in vars(SFTPAbstractServerStorage) if not name.startswith("_")}
        own -= {"home", "lacks", "window", "promise_read", "promise_write", "copy_range"}
        own -= {"uses_network", "territory", "reads", "abandon", "release", "spoil", "check_root"}
        own -= {"sync_directory", "check_write", "path_of"}
        # No request leads to these.
        self.assertEqual(own, set(METHODS))
        self.assertEqual(own, set(sftp.WAYS))

    def test_with_anything_at_all_in_any_method_give_a_failure_and_the_session_goes_on(self):
        for method in sftp.WAYS:
            for error in ANYTHING:
                with self.subTest(method, error=repr(error)):
                    self.assert_survives(method, error)

    def test_with_a_stop_iteration_in_any_method_give_a_failure_and_the_session_goes_on(self):
        for method in sftp.WAYS:
            storage = Failing()
            client = Client(storage)
            handle = client.open(b"f", sftp.READ | sftp.WRITE)
            storage.failing, storage.error = method, StopIteration(SECRET)
            with self.subTest(method):
                reply = self.ask(client, handle, method)
                self.assertEqual((reply.kind, reply.content), ("status", sftp.FAILURE))
                self.assertNotIn(b"secret", reply.message)
                storage.failing = ""
                self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")

    def test_with_an_exception_that_cannot_be_printed_give_a_failure_and_the_session_goes_on(self):
        self.assert_survives("stat", Speechless())

    def test_with_an_oserror_whose_errno_is_no_errno_give_a_failure_and_the_session_goes_on(self):
        for error in (
            OSError("refused", SECRET),
            OSError(2**40, SECRET),
            OSError([], SECRET),
            OSError(-1, ""),
        ):
            with self.subTest(repr(error)):
                client = Client(Failing("stat", error))
                self.assertEqual(client.status("stat", string(b"/")), sftp.FAILURE)
                self.assertEqual(client.ask("lstat", string(b"/")).kind, "attrs")

    def test_with_a_status_of_their_own_send_it_and_the_session_goes_on(self):
        for error in (OddStatus(), OddStatus("with words")):
            with self.subTest(str(error)):
                client = Client(Failing("stat", error))
                self.assertEqual(client.status("stat", string(b"/")), 31)
                self.assertEqual(client.ask("lstat", string(b"/")).kind, "attrs")

    def test_with_a_status_that_is_none_give_a_failure_and_the_session_goes_on(self):
        for status in ("x", None, -1, 2**40):
            error = type("NoStatus", (SFTPException,), {"status": status})
            for raised in (error(), error("with words")):
                with self.subTest(status=status, words=str(raised)):
                    client = Client(Failing("stat", raised))
                    self.assertEqual(client.status("stat", string(b"/")), sftp.FAILURE)
                    self.assertEqual(client.ask("lstat", string(b"/")).kind, "attrs")

    def test_with_more_words_than_a_packet_holds_are_cut_short(self):
        client = Client(Failing("stat", SFTPForbidden("x" * 1_000_000)))
        output = client.feed(request("stat", 1, string(b"/")))
        self.assertEqual(replies(output)[0][1].content, sftp.PERMISSION_DENIED)
        self.assertLessEqual(len(output), sftp.MAX_PACKET + 4)

    def test_with_an_oserror_say_what_the_system_says_and_never_the_file(self):
        for number, status, message in (
            (2, sftp.NO_SUCH_FILE, b"No such file"),
            (13, sftp.PERMISSION_DENIED, b"Permission denied"),
            (28, sftp.FAILURE, b"No space left on device"),
            (22, sftp.BAD_MESSAGE, b"Bad message"),
            (38, sftp.OP_UNSUPPORTED, b"Operation unsupported"),
        ):
            client = Client(Failing("stat", OSError(number, SECRET, SECRET)))
            reply = client.ask("stat", string(b"/"))
            self.assertEqual((reply.content, reply.message), (status, message))

    def test_with_an_exception_of_their_own_words_send_them_as_utf_8(self):
        client = Client(Failing("stat", SFTPNotFound("nicht gefunden: \u00e4\ud800")))
        reply = client.ask("stat", string(b"/"))
        self.assertEqual(
            (reply.content, reply.message), (sftp.NO_SUCH_FILE, "nicht gefunden: \u00e4?".encode())
        )

    def test_in_the_middle_of_a_listing_give_a_failure(self):
        def entries():
            yield b".", SFTPAttributes()
            raise ValueError(SECRET)

        storage = Whole()
        storage.opendir = lambda path: entries()
        client = Client(storage)
        handle = client.opendir(b"d")
        reply = client.ask("readdir", handle)
        self.assertEqual(reply.content, sftp.FAILURE)
        self.assertNotIn(b"secret", reply.message)
        self.assertEqual(client.status("close", handle), sftp.OK)

    def test_with_what_is_no_listing_give_a_failure(self):
        for entries in (None, 5):
            storage = Whole()
            storage.opendir = lambda path, entries=entries: entries
            client = Client(storage)
            self.assertEqual(client.status("opendir", string(b"d")), sftp.FAILURE)
        for entry in (b"name", (b"name",), ("text", SFTPAttributes()), (b"name", None), None):
            storage = Listed([entry])
            client = Client(storage)
            with self.subTest(entry):
                self.assertEqual(client.status("readdir", client.opendir(b"d")), sftp.FAILURE)

    def test_with_answers_of_the_wrong_type_give_a_failure_and_the_session_goes_on(self):
        for method in ("stat", "lstat", "fstat", "statvfs", "fstatvfs", "realpath", "readlink", "userhome"):
            for answer in (None, "text", 5):
                storage = Whole()
                client = Client(storage)
                handle = client.open(b"f", sftp.READ | sftp.WRITE)
                setattr(storage, method, lambda *arguments, answer=answer: answer)
                with self.subTest(method, answer=answer):
                    reply = self.ask(client, handle, method)
                    self.assertEqual((reply.kind, reply.content), ("status", sftp.FAILURE))
                    self.assertEqual(client.ask("rmdir", string(b"/")).content, sftp.OK)

    def test_a_session_end_from_a_storage_ends_the_session(self):
        client = Client(Failing("stat", SFTPSessionEnd("why not")))
        self.assertEqual(client.feed(request("stat", 1, string(b"/"))), b"")
        self.assertEqual(client.server.ended, "why not")

    def test_a_home_that_fails_gives_a_failure(self):
        class Homeless(Whole):
            @property
            def home(self) -> bytes:
                raise ValueError(SECRET)

        client = Client(Homeless())
        self.assertEqual(client.status("stat", string(b"x")), sftp.FAILURE)


class ShortWrites(unittest.TestCase):
    def test_a_storage_that_hands_on_a_short_count_of_os_write_is_not_believed(self):
        class Short(SFTPServerStorage):
            def write(self, handle: int, off: int, chunk: Any) -> Any:
                return os.pwrite(handle, chunk[: self.most], off)

            def fileno(self, handle: int) -> int | None:
                return handle if self.fast else None

        place = self.enterContext(tempfile.TemporaryDirectory())
        for fast in (False, True):
            storage = Short(place)
            storage.fast, storage.most = fast, 5
            client = Client(storage, level=0 if fast else DEBUG3)
            handle = client.open(b"f", packets.WRITE | packets.CREAT)
            with self.subTest(fast=fast):
                self.assertEqual(client.status("write", handle, u64(0), string(b"0123456789")), sftp.FAILURE)
                self.assertEqual(client.status("write", handle, u64(0), string(b"01234")), packets.OK)
            client.server.close()
