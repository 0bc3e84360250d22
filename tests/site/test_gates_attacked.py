"""Gates, attacked: by clients that want a name for what was not looked at, and by answers that are none."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import unittest
from collections.abc import Callable
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.site import file
from pysftpserver.site.gates import (
    ACCEPT,
    REJECT,
    Away,
    Failed,
    Gates,
    ask_clamd,
    ask_program,
    program_verdict,
)
from pysftpserver.site.who import Who
from pysftpserver.uploads import temporary
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mongo.databases import DatabaseCase
from tests.objects.stores import StoreCase
from tests.site.gatekeepers import EVIL, Handler, fake_clamd, listening
from tests.site.receiving import deliverers
from tests.site.test_gates import LARGE, candidate
from tests.site.test_guard_contract import under
from tests.site.test_staging import BAD, BETTER, GOOD, NEW, TEXT, content, names, put
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.packets import CREAT, HELLO, NO_ATTRS, WRITE, request, string, u32, u64
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until

MADE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
OVERLAPPING = """
[[gate]]
path = "/in/**"
limit = { magic = "text" }
[[gate]]
path = ["/in/*.csv", "/*/x*"]
limit = { size = "1 MiB" }
"""
QUARANTINE = """
[[gate]]
path = "/in/**"
clamd = "CLAMD"
quarantine = "/kept/{user}[1]"
"""
_numbers = itertools.count()


def as_of_a_door(directory: bytes) -> bytes:
    """A path with a name such as doors give to what they receive, which a client has made up."""
    return b"%b/.pysftp-%b-1-1-%016x" % (directory, b"a" * 12, next(_numbers))


class Attacked:
    """What a client tries on any storage. Whatever is visible in /in has only ever been GOOD or BETTER."""

    has_links = True

    def below(self) -> SFTPAbstractServerStorage:
        raise NotImplementedError

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        self.bottom = self.below()
        for path in (b"/in", b"/out"):
            with contextlib.suppress(OSError, SFTPException):
                self.bottom.mkdir(path, 0o777)
        self.storage = under(self.bottom, TEXT)

    def attempt(self, name: str, *arguments: Any) -> Any:
        """Call a method; None if that fails."""
        try:
            return getattr(self.storage, name)(*arguments)  # type: ignore[attr-defined]
        except (OSError, SFTPException):
            return None

    def assert_let_in(self: Any, why: object = None) -> None:
        other = under(self.bottom, TEXT)
        for name in names(other, b"/in"):
            self.assertIn(content(other, b"/in/" + name), (GOOD, BETTER), (name, why))

    def test_a_name_that_only_doors_use_is_no_way_past_them(self: Any) -> None:
        """The file is in place when it is written to through what else it was opened by."""
        for way in range(4):
            mine, other, second = as_of_a_door(b"/out"), as_of_a_door(b"/out"), b"/out/second%d" % way
            handle = self.attempt("open", mine, MADE, 0o600)
            if handle is None:
                continue
            self.storage.write(handle, 0, GOOD)
            if way == 0:  # a second name
                self.storage.close(handle)
                self.attempt("link", mine, second)
                handle = self.attempt("open", second, os.O_WRONLY, 0)
            elif way == 1:  # another name of that kind
                put(self.storage, other, GOOD, MADE)
                self.attempt("rename", mine, other, True)
                mine = other
            elif way == 2:  # a handle of it that came later
                self.storage.close(handle)
                handle = self.attempt("open", mine, os.O_RDWR, 0)
            else:  # by another name in between
                self.attempt("rename", mine, second)
                self.attempt("rename", second, other)
                mine = second
            self.attempt("rename", mine, b"/in/x%d.csv" % way, True)
            if handle is not None:
                self.attempt("write", handle, 0, BAD)
                self.attempt("close", handle)
            self.assert_let_in(way)

    def test_a_link_gives_no_name_behind_gates_to_what_they_have_not_seen(self: Any) -> None:
        put(self.storage, b"/out/evil", BAD)
        self.attempt("symlink", b"/out/l", b"/out/evil")
        for new in (b"/in/x.csv", b"/in/d"):
            self.attempt("symlink", new, b"../out/evil")
            self.attempt("rename", b"/out/l", new, True)
            self.attempt("link", b"/out/evil", new)
        self.attempt("mkdir", b"/in/d", 0o777)
        self.attempt("symlink", b"/in/d/x.csv", b"/out/evil")
        self.assertIsNone(content(self.storage, b"/in/d/x.csv"))
        self.attempt("rmdir", b"/in/d")
        self.assert_let_in()

    def test_the_directory_of_a_gate_is_not_replaced_by_a_link(self: Any) -> None:
        for path in ("/in/*", "/in/*.csv", "/*/x.csv", "/in/**/x.csv"):
            self.storage = under(self.bottom, TEXT.replace("/in/**", path))
            self.attempt("mkdir", b"/in", 0o777)
            self.storage.rename(b"/in", b"/old")
            self.attempt("symlink", b"/in", b"/out")
            put(self.bottom, b"/out/x.csv", BAD)
            self.assertIsNone(content(self.storage, b"/in/x.csv"), path)
            self.storage.rmdir(b"/old")

    def test_where_everything_is_checked_links_are_as_before(self: Any) -> None:
        self.storage = under(self.bottom, TEXT.replace("/in/**", "/**"))
        self.attempt("symlink", b"/in/l", b"/out/x.csv")
        if self.attempt("readlink", b"/in/l") is None:
            self.assertFalse(self.has_links)
            return
        with self.assertRaises(SFTPException):
            put(self.storage, b"/in/l", BAD)
        put(self.storage, b"/in/l", GOOD)
        self.assertEqual(content(self.storage, b"/out/x.csv"), GOOD)

    def test_what_is_open_to_be_read_cannot_be_changed(self: Any) -> None:
        put(self.storage, b"/in/x.csv", GOOD)
        for size in (3, len(GOOD) + 3):
            handle = self.storage.open(b"/in/x.csv", os.O_RDONLY, 0)
            self.attempt("fsetstat", handle, SFTPAttributes(size=size))
            self.attempt("write", handle, 0, BAD)
            self.attempt("close", handle)
            self.assert_let_in(size)

    def test_handles_of_one_file_that_end_in_any_order_are_one_question(self: Any) -> None:
        for last_is_good in (False, True):
            handles = [
                self.storage.open(b"/in/x.csv", flags, 0o644) for flags in (NEW, os.O_WRONLY, os.O_RDWR)
            ]
            for handle, sent in zip(handles, (GOOD, BAD, GOOD if last_is_good else BAD), strict=True):
                self.storage.fsetstat(handle, SFTPAttributes(size=0))
                self.storage.write(handle, 0, sent)
                self.attempt("close", handle)
                self.assert_let_in()
            self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD if last_is_good else None)

    def test_what_is_renamed_while_it_is_open_is_looked_at_as_it_was_then(self: Any) -> None:
        put(self.storage, b"/out/x", GOOD)
        handle = self.storage.open(b"/out/x", os.O_RDWR, 0)
        self.storage.rename(b"/out/x", b"/in/x.csv")
        self.attempt("write", handle, 0, BAD)
        self.attempt("fsetstat", handle, SFTPAttributes(size=3))
        self.attempt("close", handle)
        self.assert_let_in()
        handle = self.storage.open(b"/in/x.csv", os.O_RDWR, 0)
        self.storage.rename(b"/in/x.csv", b"/in/d")
        self.storage.write(handle, 0, BAD)
        self.attempt("close", handle)
        self.assert_let_in()

    def test_a_directory_that_was_outside_meanwhile_does_not_come_back(self: Any) -> None:
        put(self.storage, b"/in/x.csv", GOOD)
        self.storage.rename(b"/in", b"/out/in")
        put(self.storage, b"/out/in/x.csv", BAD, os.O_RDWR)
        for new in (b"/in", b"/in/d"):
            self.attempt("rename", b"/out/in", new)
        self.assertIsNone(content(self.storage, b"/in/x.csv"))
        self.assertIsNone(content(self.storage, b"/in/d/x.csv"))

    def test_a_directory_may_have_any_name(self: Any) -> None:
        self.storage.mkdir(b"/in/a", 0o777)
        self.storage.rename(b"/in/a", b"/in/b")
        self.assertEqual(names(self.storage, b"/in"), {b"b"})

    def test_two_patterns_that_overlap_both_ask(self: Any) -> None:
        self.storage = under(self.bottom, OVERLAPPING)
        large = GOOD * 30
        for path, sent, is_let_in in (
            (b"/in/x.csv", large, False),
            (b"/in/x.csv", BAD, False),
            (b"/in/X.CSV", large, True),  # patterns of paths tell cases apart; the page says so
            (b"/in/n", large, True),
            (b"/out/xn", large, False),
            (b"/out/n", BAD, True),
        ):
            for via_rename in (False, True):
                try:
                    put(self.storage, b"/n.part" if via_rename else path, sent)
                    if via_rename:
                        self.storage.rename(b"/n.part", path, True)
                except (OSError, SFTPException):
                    self.assertFalse(is_let_in, path)
                self.assertEqual(content(self.storage, path), sent if is_let_in else None, path)

    def test_quarantine_is_hidden_from_all_and_whatever_is_in_its_name(self: Any) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        text = QUARANTINE.replace("CLAMD", self.enterContext(listening(f"{place}/s", fake_clamd)))
        for who in (Who("al"), Who("bo")):
            with self.assertRaises(SFTPException):
                put(under(self.bottom, text, who), b"/in/x", EVIL)
        self.assertEqual(names(self.bottom, b"/kept"), {b"al[1]", b"bo[1]"})
        for who in (Who("al"), Who("cy", ("some",))):
            storage = under(self.bottom, text, who)
            self.assertEqual(names(storage, b"/kept"), set(), who)
            for path in (b"/kept/al[1]", b"/kept/bo[1]", b"/kept/new[1]"):
                for name, *more in (("opendir",), ("stat",), ("mkdir", 0o777)):
                    with self.assertRaises((OSError, SFTPException)):
                        getattr(storage, name)(path, *more)
            with self.assertRaises(SFTPException):
                storage.rename(b"/kept", b"/free")


class Jail(Attacked, InAPlace):
    def below(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(str(self.place), 0o022)


class Memory(Attacked, unittest.TestCase):
    def below(self) -> SFTPAbstractServerStorage:
        return SFTPServerMemoryStorage()


if IS_HARD:

    class AtomicJail(Attacked, InAPlace):
        def below(self) -> SFTPAbstractServerStorage:
            return SFTPAtomicVirtualChroot(str(self.place))

    class Mounts(Attacked, InAPlace):
        def below(self) -> SFTPAbstractServerStorage:
            jail = SFTPServerVirtualChroot(str(self.place))
            return SFTPServerMountedStorage(jail, {b"/out": SFTPServerMemoryStorage()}, across="copy")

    class GridFS(Attacked, DatabaseCase):
        def below(self) -> SFTPAbstractServerStorage:
            return self.open_storage()

    class Objects(Attacked, StoreCase):
        has_links = False

        def below(self) -> SFTPAbstractServerStorage:
            return self.open_storage()


class Answers(InAPlace):
    """Gates that do not answer as they should."""

    def says(self, handle: Handler, size: int, ask: Any = ask_program, timeout: float = PATIENCE) -> str:
        """The verdict, or "failed"."""
        path = str(self.place / "gate.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with listening(path, handle):
            try:
                return ask(path, candidate(bytes(size)), timeout).kind  # type: ignore[no-any-return]
            except Failed:
                return "failed"

    def test_what_says_two_things_or_is_not_utf_8_is_no_answer(self) -> None:
        for answer in (
            b'{"verdict": "reject", "verdict": "accept"}',
            b'{"verdict": "accept", "x": {"a": 1, "a": 1}}',
            '{"verdict": "accept"}'.encode("utf-16-le"),
            b'\xef\xbb\xbf{"verdict": "accept"}',
            b'{"verdict": "accept", "words": "\xed\xa0\x80"}',
            b'{"verdict": "accept\\u0000"}',
            b'{"verdict": "accept"}\0',
            b'[{"verdict": "accept"}]',
            b'{"verdict": ["accept"]}',
            b'{"verdict": "accept", "words": 1}',
        ):
            self.assertRaises(Failed, program_verdict, answer)
        words = program_verdict(b'{"verdict": "reject", "words": "\\ud800\\u0000\\u001b[2J\\u202e"}').words
        self.assertEqual(words, "\\ud800\\x00\\x1b[2J\\u202e")
        for answer in (b'{"verdict": "accept"}\n{"verdict": "reject"}\n', b'{"verdict": "accept"}\n\n'):
            self.assertEqual(self.says(lambda talk, a=answer: talk.wfile.write(a), 1), "failed")  # type: ignore[misc]

    def test_a_scanner_that_answers_before_the_end_has_not_seen_the_file(self) -> None:
        def early(talk: socketserver.StreamRequestHandler) -> None:
            talk.rfile.read(1000)
            talk.wfile.write(b"stream: OK\0")
            talk.rfile.read(LARGE)

        def never_asked(talk: socketserver.StreamRequestHandler) -> None:
            talk.wfile.write(b"stream: OK\0")

        def found(talk: socketserver.StreamRequestHandler) -> None:
            talk.wfile.write(b"stream: Evil FOUND\0")

        def twice(talk: socketserver.StreamRequestHandler) -> None:
            talk.rfile.read(10 + 4 + LARGE // 4)
            talk.wfile.write(b"stream: OK\0stream: Evil FOUND\0")

        self.assertEqual(self.says(early, LARGE, ask_clamd), "failed")
        self.assertEqual(self.says(never_asked, LARGE, ask_clamd), "failed")
        self.assertNotEqual(self.says(found, LARGE, ask_clamd), ACCEPT)
        self.assertEqual(self.says(twice, LARGE // 4, ask_clamd), "failed")

    def test_one_that_has_too_many_before_it_is_not_away(self) -> None:
        """The kernel says at once that a socket which others wait for takes no more."""
        path = str(self.place / "gate.sock")
        with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as waiting:
            server.bind(path)
            server.listen(1)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other = waiting.enter_context(socket.socket(socket.AF_UNIX))
                    other.setblocking(False)
                    other.connect(path)
            text = f'[[gate]]\n{{}} = "{path}"\nor = "accept"\ntimeout = 0.05'
            for key in ("ask", "clamd"):
                (gate,) = Gates(file.parse(text.format(key), "s.toml"), Who("al")).gates
                verdict = gate.verdict(candidate(b"x"))
                self.assertEqual(
                    (verdict.kind, verdict.words),
                    (REJECT, "what has to look at files failed: too many wait for it"),
                )
        self.assertRaises(Away, ask_program, path, candidate(b"x"), 0.05)

    def test_one_that_has_too_many_before_it_is_waited_for(self) -> None:
        path = str(self.place / "gate.sock")

        class Server(socketserver.UnixStreamServer):
            request_queue_size = 0

        def accept(talk: socketserver.StreamRequestHandler) -> None:
            talk.rfile.readline()
            talk.wfile.write(b'{"verdict": "accept"}\n')

        handler = type("Handler", (socketserver.StreamRequestHandler,), {"handle": accept})
        found: list[str] = []
        with Server(path, handler) as server:
            ask = lambda: found.append(ask_program(path, candidate(b"x"), PATIENCE).kind)  # noqa: E731
            threads = [threading.Thread(target=ask) for _ in range(20)]
            for thread in threads:
                thread.start()
            serving = threading.Thread(target=server.serve_forever, args=(0.01,))
            serving.start()
            for thread in threads:
                thread.join(PATIENCE)
            server.shutdown()
            serving.join()
        self.assertEqual(found, [ACCEPT] * 20)

    def test_an_answer_that_comes_byte_by_byte_counts_and_one_that_never_ends_does_not(self) -> None:
        def slowly(talk: socketserver.StreamRequestHandler) -> None:
            for byte in b'{"verdict": "accept"}\n':
                talk.wfile.write(bytes((byte,)))
                talk.wfile.flush()

        def for_ever(talk: socketserver.StreamRequestHandler) -> None:
            while True:
                talk.wfile.write(b" " * 1000)

        def drops(talk: socketserver.StreamRequestHandler) -> None:
            while True:
                talk.wfile.write(b" ")
                threading.Event().wait(0.01)

        self.assertEqual(self.says(slowly, 1), ACCEPT)
        self.assertEqual(self.says(for_ever, LARGE), "failed")
        self.assertEqual(self.says(drops, 1, timeout=0.3), "failed")


class Leaving(InAPlace):
    """A real session whose end comes while a gate, or a receiver of events, says nothing."""

    made_in = tempfile.gettempdir()

    def session(self, text: str) -> subprocess.Popen[bytes]:
        """A session that has sent the CLOSE of an upload to /in/x."""
        self.directory = self.place / "root" / "in"
        for path in (self.directory, self.place / "state"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        site = self.place / "site.toml"
        site.write_text(f'storage = "jail:{self.place}/root"\n' + text)
        server = subprocess.Popen(
            command("pysftpsite", "-l", self.place / "log", site, "--user", "al"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        assert server.stdin is not None and server.stdout is not None
        for pipe in (server.stdin, server.stdout):
            self.addCleanup(pipe.close)
        server.stdin.write(HELLO + request("open", 1, string(b"/in/x"), u32(WRITE | CREAT), NO_ATTRS))
        server.stdin.write(request("write", 2, string(u32(1)), u64(0), string(b"content")))
        server.stdin.write(request("close", 3, string(u32(1))))
        server.stdin.flush()
        return server

    def test_it_ends_at_once_and_what_was_not_let_in_is_gone(self) -> None:
        asked, done = threading.Semaphore(0), threading.Event()

        def silent(talk: socketserver.StreamRequestHandler) -> None:
            talk.rfile.readline()
            asked.release()
            done.wait(PATIENCE)

        ends: dict[str, Callable[[subprocess.Popen[bytes]], object]] = {
            "the client leaves": lambda server: (server.stdin.close(), server.stdout.close()),  # type: ignore[union-attr]
            "a signal": lambda server: server.terminate(),
        }
        with listening(str(self.place / "gate.sock"), silent) as path:
            text = f'[[gate]]\npath = "/in/**"\nask = "{path}"\ntimeout = 600\n'
            for name, end in ends.items():
                server = self.session(text)
                self.assertTrue(asked.acquire(timeout=PATIENCE), name)
                end(server)
                server.wait(PATIENCE)
                self.assertEqual(list(self.directory.iterdir()), [], name)
            done.set()

    @unittest.skipUnless(IS_HARD, "PYSFTP_TEST_HARD is not set")
    def test_a_receiver_that_has_to_confirm_is_not_waited_for_after_the_end(self) -> None:
        text = f'state = "{self.place}/state"\n[[event]]\non = "upload"\nsocket = "{self.place}/none"\n'
        server = self.session(text + "wait = true\ntimeout = 600\n")
        until(lambda: (self.directory / "x").exists())
        server.terminate()
        server.wait(PATIENCE)
        found = subprocess.run(
            command("pysftp-deliver", self.place / "site.toml", "--list"), capture_output=True, text=True
        )
        self.assertIn("upload /in/x", found.stdout)
        for number in deliverers(self.place / "site.toml"):
            os.kill(number, signal.SIGTERM)


class OwnNames(unittest.TestCase):
    def test_only_the_last_names_are_remembered_and_no_others(self) -> None:
        name = temporary.new_name()
        self.assertTrue(temporary.is_own(name))
        self.assertFalse(temporary.is_own(name[:-1] + bytes((name[-1] ^ 1,))))
        for _ in range(temporary.MOST_MADE):
            last = temporary.new_name()
        self.assertFalse(temporary.is_own(name))
        self.assertTrue(temporary.is_own(last))
        self.assertLessEqual(len(temporary._made), temporary.MOST_MADE)


if __name__ == "__main__":
    unittest.main()
