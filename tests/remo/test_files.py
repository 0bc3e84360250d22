"""Files through a real server: put is whole or nothing, get is what is there, a jail is not left."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import stat
from pathlib import Path

from tests.remo.running import Served
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE, until

LIMIT = 200_000  # bytes of the longest file, where the disk is "full"


class FileCase(Served):
    """self.there: a directory of each test's own, relative to the server's."""

    def setUp(self) -> None:
        super().setUp()
        self.there = f"{self._testMethodName[:60]}"
        self.here = self.place / self.there
        self.here.mkdir()

    def put(self, name: str, data: bytes) -> None:
        self.remote.put(data, f"{self.there}/{name}")

    def names(self) -> list[str]:
        return sorted(path.name for path in self.here.iterdir())


class Files(FileCase):
    def test_what_was_put_is_there_and_can_be_had_in_both_modes(self) -> None:
        chance = random.Random(31)
        for mode in ("numbered", "plain"):
            for size in (0, 1, 65535, 65536, 65537, 3_000_001):
                data = chance.randbytes(size)
                with self.subTest(mode, size=size):
                    self.put("file", data)
                    self.assertEqual((self.here / "file").read_bytes(), data)
                    self.assertEqual(self.remote.read(f"{self.there}/file"), data)
            self.plainly()
        self.assertEqual(self.names(), ["file"])

    def test_names_are_relative_to_where_the_server_runs_or_absolute(self) -> None:
        self.remote.put(b"absolute", str(self.here / "a"))
        self.assertEqual(self.remote.read(f"./{self.there}/../{self.there}/a"), b"absolute")

    def test_names_of_any_bytes_work(self) -> None:
        for name in ("with space", "caf\u00e9", "new\nline", "\udcff\udc80", "-x", "%41", "a?b#c", "*"):
            with self.subTest(repr(name)):
                self.put(name, b"1")
                self.assertEqual((self.here / name).read_bytes(), b"1")
                self.assertEqual(self.remote.read(f"{self.there}/{name}"), b"1")
                self.assertIn(name, [entry.name for entry in self.remote.list(self.there)])

    def test_a_new_file_has_what_the_umask_leaves_and_a_replaced_one_keeps_its_mode(self) -> None:
        umask = os.umask(0)
        os.umask(umask)
        self.put("file", b"new")
        self.assertEqual(stat.S_IMODE((self.here / "file").stat().st_mode), 0o666 & ~umask)
        for mode in (0o640, 0o755, 0o600):
            (self.here / "file").chmod(mode)
            self.put("file", b"replaced")
            self.assertEqual(stat.S_IMODE((self.here / "file").stat().st_mode), mode)

    def test_a_file_that_is_being_read_is_not_changed_by_a_put(self) -> None:
        (self.here / "file").write_bytes(b"old")
        with (self.here / "file").open("rb") as reader:
            self.put("file", b"a new one")
            self.assertEqual(reader.read(), b"old")

    def test_a_put_goes_where_a_link_leads_and_leaves_the_link(self) -> None:
        (self.here / "d").mkdir()
        (self.here / "d/real").write_bytes(b"old")
        (self.here / "link").symlink_to("d/real")
        (self.here / "dangling").symlink_to("d/made")
        self.put("link", b"through the link")
        self.put("dangling", b"made")
        self.assertEqual((self.here / "d/real").read_bytes(), b"through the link")
        self.assertEqual((self.here / "d/made").read_bytes(), b"made")
        self.assertTrue((self.here / "link").is_symlink() and (self.here / "dangling").is_symlink())

    def test_what_is_no_file_is_neither_replaced_nor_read(self) -> None:
        (self.here / "d").mkdir()
        os.mkfifo(self.here / "fifo")
        (self.here / "device").symlink_to("/dev/null")
        (self.here / "loop").symlink_to("loop")
        kinds = {"d": "is a directory", "fifo": "not a regular file", "device": "not a regular file"}
        for name, words in {**kinds, "loop": "too many levels", ".": "is a directory"}.items():
            with self.subTest(name):
                with self.refused(400, words):
                    self.put(name, b"data")
                with self.refused(400, words):
                    self.remote.read(f"{self.there}/{name}")
        self.assertTrue(stat.S_ISFIFO((self.here / "fifo").stat().st_mode))
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
        self.assertEqual(self.names(), ["d", "device", "fifo", "loop"])

    def test_what_is_not_there_is_said_to_be_so(self) -> None:
        with self.refused(400, "no such file"):
            self.remote.read(f"{self.there}/missing")
        with self.refused(400, "no such file"):
            self.put("missing/file", b"data")
        with self.refused(400, "no such file"):
            self.remote.list(f"{self.there}/missing")
        with self.refused(400, "not a directory"):
            self.remote.list("alice.pem")
        for name in ("", "a\0b"):
            for method, path in (("GET", "/get/"), ("POST", "/put/")):
                with self.subTest(path), self.refused(400, "the name is empty"):
                    self.ask(method, path, name.encode())

    def test_files_of_proc_that_claim_to_be_empty_are_read(self) -> None:
        self.assertIn(b"Linux version", self.remote.read("/proc/version"))
        self.assertIn(b"VmPeak", self.remote.read("/proc/self/status"))

    def test_a_listing_has_names_modes_sizes_times_and_lines_for_people(self) -> None:
        self.put("file", b"12345")
        os.utime(self.here / "file", (1_700_000_000, 1_700_000_000))
        (self.here / "d").mkdir(0o755)
        for entry in self.remote.list(self.there):
            seen = (self.here / entry.name).stat()
            self.assertEqual((entry.mode, entry.mtime), (seen.st_mode, int(seen.st_mtime)))
            self.assertEqual(entry.size, seen.st_size)
            self.assertTrue(entry.long.endswith(f" {entry.name}"), entry.long)
        lines = self.ask("GET", "/lst/", self.there.encode()).splitlines()
        self.assertEqual(sorted(json.loads(line)[0] for line in lines), ["d", "file"])

    def test_a_long_listing_comes_whole(self) -> None:
        for number in range(700):  # more than two tokens have room for
            (self.here / f"{number:0100d}").touch()
        self.assertEqual([int(entry.name) for entry in self.remote.list(self.there)], list(range(700)))

    def test_each_file_is_in_the_audit_log_with_its_bytes(self) -> None:
        self.put("file", b"12345")
        self.remote.read(f"{self.there}/file")
        for event in ("put", "get"):
            line = self.server.audit(event)[-1]
            self.assertEqual((line["user"], line["path"], line["bytes"]), ("alice", f"{self.there}/file", 5))
            self.assertEqual(line["result"], "OK")
        with self.refused(400):
            self.remote.read(f"{self.there}/missing")
        self.assertEqual(self.server.audit("get")[-1]["result"], "NO_SUCH_FILE")


class PutCase(FileCase):
    """There is an old file, and puts to its name that break."""

    def setUp(self) -> None:
        super().setUp()
        (self.here / "file").write_bytes(b"old")

    def assert_as_before(self) -> None:
        until(lambda: self.names() == ["file"], f"left behind: {self.names()}")
        self.assertEqual((self.here / "file").read_bytes(), b"old")

    def begin(self, *tokens: bytes, length: int | None = None) -> http.client.HTTPConnection:
        """The beginning of a put in plain mode, in chunks or with a length."""
        talk = self.remote._talk
        assert talk._cipher is not None
        raw = http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=PATIENCE)
        self.addCleanup(raw.close)
        name = f"{self.there}/file".encode()
        raw.putrequest("POST", "/put/" + talk._cipher.encrypt(name).decode())
        raw.putheader("Cookie", f"SESSION_ID={talk._cookie}")
        raw.putheader(*(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length)))
        raw.endheaders()
        for token in tokens:
            line = token + b"\r\n"
            raw.send(line if length is not None else b"%x\r\n%b\r\n" % (len(line), line))
        return raw

    def token(self, data: bytes) -> bytes:
        assert self.remote._talk._cipher is not None
        return self.remote._talk._cipher.encrypt(data)

    def assert_breaks(self, how: str, length: int | None) -> None:
        """A connection that breaks leaves the old file."""
        self.plainly()
        count = len(self.server.audit("put"))
        raw = self.begin(self.token(bytes(65536)), length=length)
        until(lambda: len(self.names()) == 2, "it does not begin")
        if how == "reset":
            linger = b"\1\0\0\0\0\0\0\0"
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "silence":
            raw.close()
        self.assert_as_before()
        until(lambda: len(self.server.audit("put")) > count)
        self.assertEqual(self.server.audit("put")[-1]["result"], "CONNECTION_LOST")


class SilentPuts(PutCase):
    words = ("--idle", "1")

    def test_a_client_that_falls_silent_leaves_the_old_file(self) -> None:
        self.assert_breaks("silence", None)


class BrokenPuts(PutCase):
    words = ("--most-put", "1000000")

    def test_a_connection_that_breaks_leaves_the_old_file(self) -> None:
        for length in (None, 1_000_000):
            for how in ("close", "reset"):
                with self.subTest(how, length=length):
                    self.assert_breaks(how, length)

    def test_a_part_that_is_not_the_sessions_leaves_the_old_file(self) -> None:
        self.plainly()
        good = self.token(b"data")
        for bad in (b"nonsense", good[:-8] + b"AAAAAA==", good[:20]):
            raw = self.begin(good, bad)
            raw.send(b"0\r\n\r\n")
            self.assertEqual(raw.getresponse().status, 400)
            self.assert_as_before()

    def test_a_file_beyond_the_limit_is_refused_and_leaves_the_old_one(self) -> None:
        with self.refused(413, "limited to 1000000 bytes"):
            self.put("file", bytes(1_000_001))
        self.assert_as_before()
        self.put("file", bytes(1_000_000))

    def test_a_session_that_ends_leaves_the_old_file(self) -> None:
        self.plainly()
        raw = self.begin(self.token(b"data"))
        until(lambda: len(self.names()) == 2, "it does not begin")
        token = self.token(b"more") + b"\r\n"
        self.remote.close()
        raw.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(token), token))
        self.assertEqual(raw.getresponse().status, 403)
        self.assert_as_before()

    def test_leftovers_of_a_killed_server_go_with_the_next_put(self) -> None:
        (self.here / ".pysftp-000000000000-1-1-0123456789abcdef").write_bytes(b"dead")
        os.utime(self.here / ".pysftp-000000000000-1-1-0123456789abcdef", (1, 1))
        self.put("file", b"new")
        self.assertEqual(self.names(), ["file"])


class AFullDisk(FileCase):
    limits = {"FSIZE": LIMIT}

    def test_the_old_file_stays_and_the_reason_is_told(self) -> None:
        (self.here / "file").write_bytes(b"old")
        with self.refused(400, "file too large"):
            self.put("file", bytes(LIMIT + 1))
        self.assertEqual((self.names(), (self.here / "file").read_bytes()), (["file"], b"old"))
        self.put("file", bytes(LIMIT))


class Jail(Served):
    words = ("--root", "jail")

    @classmethod
    def prepare(cls) -> None:
        cls.root = cls.place / "jail"
        cls.root.mkdir()
        (cls.root / "inside").write_bytes(b"inside")
        (cls.place / "secret").write_bytes(b"secret")
        (cls.root / "absolute").symlink_to(cls.place / "secret")
        (cls.root / "relative").symlink_to("../secret")
        (cls.root / "up").symlink_to("..")
        (cls.root / "etc").symlink_to("/etc")

    def test_its_top_is_the_directory(self) -> None:
        self.assertEqual(self.remote.read("/inside"), b"inside")
        self.assertEqual(self.remote.read("inside"), b"inside")
        self.assertEqual(self.remote.read("../../up/up/inside"), b"inside")
        self.assertIn("inside", [entry.name for entry in self.remote.list("/../..")])

    def test_nothing_outside_is_read_listed_or_written(self) -> None:
        outside = ("/etc/passwd", "etc/passwd", "absolute", "relative", "up/secret", "../secret")
        for name in (*outside, str(self.place / "secret"), "/proc/self/environ"):
            with self.subTest(name), self.refused(400):
                self.remote.read(name)
        for name in ("/etc", "etc"):
            with self.subTest(name), self.refused(400):
                self.remote.list(name)
        for name in ("etc/new", "absolute", str(self.place / "new")):
            with self.subTest(name), self.refused(400):
                self.remote.put(b"bad", name)
        for name in ("relative", "up/new", "../other"):
            self.remote.put(b"stays inside", name)
        self.assertEqual((self.place / "secret").read_bytes(), b"secret")
        self.assertFalse((self.place / "new").exists() or (self.place / "other").exists())

    def test_commands_are_for_nobody(self) -> None:
        for path, argument in (
            ("/cmd/", b"true"),
            ("/icm/", b"cat"),
            ("/pty/", b"80x24 cat"),
            ("/idt", None),
        ):
            with self.subTest(path), self.refused(403, "not permitted"):
                self.ask("POST", path, argument)
        line = self.server.audit("cmd")[-1]
        self.assertEqual((line["result"], line["argument"]), ("PERMISSION_DENIED", "true"))
        self.assertIn("commands are not allowed", self.server.log())


class JailWithCommands(Served):
    words = ("--root", ".", "--commands", "yes")

    def test_commands_run_where_they_were_asked_for_and_the_log_warns(self) -> None:
        self.assertEqual(self.remote.run("pwd").output, os.fsencode(Path(self.place).resolve()) + b"\n")
        self.assertIn("can leave the storage", self.server.log())


class WithoutCommands(Served):
    words = ("--commands", "no")

    def test_commands_can_be_turned_off_for_the_whole_host(self) -> None:
        with self.refused(403, "not permitted"):
            self.remote.run("true")
        self.assertEqual(self.remote.read("/dev/../proc/version")[:5], b"Linux")
