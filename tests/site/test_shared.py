"""Quotas that are counted in Redis, for sessions of several hosts."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.cli import pysftpsite
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.site import file, ledger, opening, shared
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.resp import Address, Connection, Lost
from pysftpserver.site.shared import SharedLedger
from pysftpserver.site.who import Who
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from tests.site import test_quota
from tests.site.test_quota import KIB, NEW, QuotaCase
from tests.sshd.redis_server import RedisServer
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

SECRET = "a word"


class SharedCase(QuotaCase):
    """Sessions of two hosts in turn: each host has a state directory of its own."""

    redis: RedisServer
    kind = SFTPAtomicVirtualChroot

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.redis = RedisServer(password="word")
        cls.addClassCleanup(cls.redis.stop)
        cls.redis.start()

    def setUp(self) -> None:
        super().setUp()
        self.states = [self.state, self.enterContext(tempfile.TemporaryDirectory())]
        self.redis.client(0).flushdb()

    def url(self, prefix: str = "site") -> str:
        return f"redis://127.0.0.1:{self.redis.port}/0?prefix={prefix}"

    def at(self, host: int) -> Any:
        """A ledger of a session at a host."""
        local = Ledger(self.states[host])
        self.addCleanup(local.close)
        local.open_session({})
        address = Address(self.url())
        found = SharedLedger(local, Connection(address, "default word"), address.prefix)
        self.addCleanup(found.close)
        return found

    def ledger(self) -> Any:
        self.states.reverse()
        return self.at(0)

    def holder(self, context: Any, host: int = 0) -> int:
        """A process of a host that stays in a context of its ledger until it is killed."""
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            try:
                kept = context(self.at(host))
                kept.__enter__()
                os.write(writing, b"!")
                signal.pause()
            finally:
                os._exit(1)
        self.assertEqual(os.read(reading, 1), b"!")
        os.close(reading)
        os.close(writing)
        self.addCleanup(self.kill, process)
        return process

    def kill(self, process: int) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


class AnyOrder(SharedCase, test_quota.AnyOrder):
    def test_what_is_counted_is_what_is_there(self) -> None:
        for seed in range(30 if IS_HARD else 1):
            self.setUp()
            self.run_sessions(seed, 120 if IS_HARD else 60)


if IS_HARD:

    class Atomic(SharedCase, test_quota.Atomic):
        kind = SFTPAtomicVirtualChroot

        def test_what_a_ledger_that_hangs_refuses_leaves_the_old_file(self) -> None:
            """That of a host; what Redis does is tried below."""


class Hosts(SharedCase):
    def test_sessions_of_two_hosts_cannot_pass_a_quota_together(self) -> None:
        one, two = self.session(), self.session()
        handles = [
            (storage, storage.open(path, NEW, 0o666)) for storage, path in ((one, b"/a"), (two, b"/b"))
        ]
        written = 0
        for step in range(30):
            for storage, handle in handles:
                try:
                    storage.write(handle, step * 4 * KIB, bytes(4 * KIB))
                    written += 4 * KIB
                except OSError as error:
                    self.assertEqual(error.errno, errno.EDQUOT)
        self.assertGreater(written, 60 * KIB)
        self.assertLessEqual(written, 100 * KIB)
        for storage, handle in handles:
            storage.abandon(handle)
        self.assertEqual(self.used(one), (0, 0))
        self.put(one, b"/a", 30 * KIB)
        two.rm(b"/a")
        self.assertEqual([self.used(storage) for storage in (one, two)], [(0, 0)] * 2)

    def test_what_a_killed_session_has_left_is_settled_on_its_host(self) -> None:
        storage = self.session()

        def begin(ledger: Any) -> Any:
            layer = test_quota.QuotaLayer(self.kind(self.root), ledger, [self.quota], "here")
            handle = layer.open(b"/f", NEW, 0o666)
            layer.write(handle, 0, bytes(40 * KIB))
            return contextlib.nullcontext()

        process = self.holder(begin)
        self.assertGreaterEqual(self.used(storage)[0], 40 * KIB)
        self.kill(process)
        for host, is_settled in ((1, False), (0, True)):
            layer = test_quota.QuotaLayer(self.kind(self.root), self.at(host), [self.quota], "here")
            self.assertEqual(self.used(layer) == (0, 0), is_settled)

    def test_a_host_waits_for_another_for_some_time_and_not_for_its_own_dead_sessions(self) -> None:
        mine = self.at(0)
        names = [b"quota x"]
        with mock.patch.multiple(ledger, PATIENCE=0.05, TURN_PATIENCE=0.05):
            for context in (lambda other: other.changing(), lambda other: other.holding(names)):
                for host in (1, 0):
                    process = self.holder(context, host)
                    who = "Another host" if host else "Another session"
                    with self.assertRaisesRegex(SFTPFailure, f"{who} has held the ledger"):
                        with mine.holding(names), mine.changing():
                            pass
                    self.kill(process)
                    if host:
                        self.redis.client(0).delete("{site}:turn", "{site}:held:quota x")  # in time
                    with mine.holding(names), mine.changing():
                        pass

    def test_a_transaction_whose_turn_has_ended_changes_nothing(self) -> None:
        mine, other = self.at(0), self.at(1)
        with self.assertRaisesRegex(SFTPFailure, "too slow"):
            with mine.changing() as database:
                database.execute("INSERT INTO account VALUES ('a', '', 1, 1)")
                self.redis.client(0).delete("{site}:turn")
                with other.changing() as theirs:
                    theirs.execute("INSERT INTO account VALUES ('b', '', 2, 2)")
        for one in (mine, other, self.at(0)):
            self.assertEqual(one.ask("SELECT name FROM account"), [("b",)])

    def test_a_copy_that_is_far_behind_is_read_anew(self) -> None:
        mine, other = self.at(0), self.at(1)
        mine.ask("SELECT 1")
        with mock.patch.object(shared, "KEPT", 3):
            for number in range(6):
                with other.changing() as database:
                    database.execute("INSERT INTO account VALUES (?, '', 1, 1)", (f"a{number}é",))
        with other.changing() as database:
            database.execute("DELETE FROM account WHERE name LIKE 'a1%'")
        self.assertEqual(mine.ask("SELECT count(*) FROM account"), [(5,)])
        self.redis.client(0).flushdb()
        self.assertEqual(mine.ask("SELECT count(*) FROM account"), [(0,)])


class Redis(SharedCase):
    def test_while_it_is_away_nothing_grows_and_all_else_works(self) -> None:
        storage = self.session()
        self.put(storage, b"/f", 10 * KIB)
        handle = storage.open(b"/f", NEW, 0o666)
        self.redis.kill()
        words = "The ledger of this site cannot be reached: .*; connect again later"
        with self.assertRaisesRegex(SFTPFailure, words):  # at once, or at CLOSE if there was plenty of room
            storage.write(handle, 0, bytes(5 * KIB))
            storage.close(handle)
        for attempt in (
            lambda: self.put(storage, b"/g", KIB), lambda: storage.rm(b"/f"), lambda: storage.statvfs(b"/"),
        ):  # fmt: skip
            with self.assertRaisesRegex(SFTPFailure, words):
                attempt()
        for session in (storage, self.session()):  # one that begins meanwhile
            found = session.open(b"/f", os.O_RDONLY, 0)
            self.assertEqual(len(session.read(found, 0, 20 * KIB)), 10 * KIB)
            session.close(found)
            session.mkdir(b"/d%d" % id(session), 0o777)
        self.redis.start()  # without what it had: files are counted by the next session that begins
        fresh = self.session()
        self.assertEqual(self.used(fresh), (10 * KIB, 1))
        self.put(session, b"/g", 10 * KIB)
        self.assertEqual(self.used(storage), (20 * KIB, 2))

    def test_it_is_not_trusted_to_speak_its_protocol(self) -> None:
        address = Address(self.url())
        with self.assertRaisesRegex(Lost, "WRONGPASS|invalid"):
            Connection(address, "wrong").call("PING")
        with self.assertRaisesRegex(Lost, "NOAUTH|Authentication"):
            Connection(address).call("GET", "x")
        connection = Connection(address, "word")
        self.assertEqual(connection.call("PING"), b"PONG")
        with self.assertRaisesRegex(Lost, "Redis says .ERR"):
            connection.call("NO SUCH")
        self.assertEqual(connection.call("EVAL", "return {1, false, {'a'}}", 0), [1, None, [b"a"]])
        connection.close()
        connection.close()


class Sites(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_a_site_file_names_it_and_its_mistakes_are_named(self) -> None:
        secret = self.place / "secret"
        secret.write_text("word\n")
        text = (
            f'state = "{self.state}"\nledger = "{self.url("a")}"\nledger_secret = "{secret}"\n'
            f'storage = "jail:{self.root}"\n'
            "[quota]\nbytes = 1000\n"
        )
        site = file.parse(text, "s.toml")
        storage = opening.layered(self.kind(self.root), site, Who("al"))
        self.addCleanup(storage.release)
        self.put(storage, b"/f", 700)
        self.assertEqual(self.redis.client(0).hlen("{a}:accounts"), 1)
        self.assertEqual(pysftpsite.missing_for(site), [])
        secret.write_text("wrong\n")
        self.assertIn("s.toml: line 2: ledger: Redis says", *pysftpsite.missing_for(site))
        secret.unlink()
        self.assertIn("s.toml: line 3: ledger_secret: ", *pysftpsite.missing_for(site))
        for url in ("redis://u:p@h/0", "http://h/", "redis:///0", "redis://h/x", "unix:x", "redis://h/0?x=1"):
            with self.assertRaisesRegex(file.Mistakes, "line 2: ledger: write redis://HOST:PORT/DATABASE"):
                file.parse(f'state = "/s"\nledger = "{url}"\n', "s.toml")
        with self.assertRaisesRegex(file.Mistakes, "line 2: ledger: needs storage"):
            file.parse('state = "/s"\nledger = "redis://h/0"\n', "s.toml")

    def test_a_confined_session_counts_in_it(self) -> None:
        site = self.place / "s.toml"
        (self.place / "secret").write_text("word\n")
        site.write_text(
            f'storage = "jail:{self.root}"\nstate = "{self.state}"\nledger = "{self.url()}"\n'
            f'ledger_secret = "{self.place}/secret"\n[quota]\nbytes = "1 MiB"\n'
        )
        for size in (1 << 19, (1 << 20) + 1):
            (self.place / f"f{size}").write_bytes(bytes(size))
        server = f"{sys.executable} -IS {ROOT}/bin/pysftpsite {site} --user al -l {self.place}/log"
        done = subprocess.run(
            ["sftp", "-q", "-b", "-", "-D", server],
            input=f"put {self.place}/f{1 << 19} a\n-put {self.place}/f{(1 << 20) + 1} b\ndf\n",
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.assertIn("sandbox", (self.place / "log").read_text())
        self.assertRegex(done.stdout, r"\b1024\s+512\s+512\b")
        self.assertEqual(os.listdir(self.root), ["a"])
