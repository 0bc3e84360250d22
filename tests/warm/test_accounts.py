"""Whose sessions a resident serves, as which account, and what hostile clients of its socket cost others."""

from __future__ import annotations

import array
import os
import socket
import sys
import unittest
from typing import Any
from unittest import mock

from pysftpserver.warm import client
from pysftpserver.warm.client import GO, LONGEST, READY
from pysftpserver.warm.peer import Bounds, Refused
from pysftpserver.warm.session import SECRET
from tests.support.packets import CREAT, NO_ATTRS, WRITE, string, u32
from tests.support.paths import ROOT
from tests.warm.residents import AS_NOBODY, NOBODY, ResidentCase, connected, status_of

NOBODYS = [str(NOBODY)] * 4
ALONE = [sys.executable, "-c", AS_NOBODY, str(ROOT / "bin" / "pysftpjail")]


def is_reached_by_nobody() -> bool:
    """Whether other accounts than root could read this checkout, as they could an installation."""
    return all(os.stat(path).st_mode & 0o001 for path in (ROOT / "pysftpserver", *ROOT.parents[:-1], ROOT))


@unittest.skipUnless(os.geteuid() == 0 and is_reached_by_nobody(), "needs root, and a checkout for all")
class OfRoot(ResidentCase):
    def setUp(self) -> None:
        super().setUp()
        os.chown(self.jail, NOBODY, NOBODY)
        self.place.chmod(0o777)  # for the log of an account

    def nobodys(self, **how: Any) -> Any:
        return self.client(argv=ALONE, **how)

    def test_the_session_of_an_account_is_that_account_s_and_nothing_else(self) -> None:
        self.resident()
        client = self.nobodys()
        self.assert_handed_over(client)
        server = client.server()
        status = status_of(server)
        for name in ("Uid", "Gid"):
            self.assertEqual(status[name], NOBODYS)
        self.assertEqual(status["Groups"], [])
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name][0], 16), 0)
        self.assertEqual(status["NoNewPrivs"], ["1"])
        client.wire.ask("open", string(b"f"), u32(WRITE | CREAT), NO_ATTRS)
        self.assertEqual((self.jail / "f").stat().st_uid, NOBODY)
        # Nothing of the resident's is left open: its listening socket, its log, other clients.
        links = {os.readlink(f"/proc/{server}/fd/{name}") for name in os.listdir(f"/proc/{server}/fd")}
        self.assertEqual([link for link in links if "resident" in link], [])
        self.assertLessEqual(sum(link.startswith("socket:") for link in links), 3)
        self.assertEqual(client.leave(), 0)

    def test_an_account_s_own_resident_serves_no_other_account(self) -> None:
        self.directory.mkdir(mode=0o755)
        os.chown(self.directory, NOBODY, NOBODY)
        argv = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, "-c", AS_NOBODY]
        program = self.resident("--log-level", "VERBOSE", argv=[*argv, str(ROOT / "bin" / "pysftp-warm")])
        self.assertEqual(os.stat(self.socket).st_mode & 0o777, 0o600)
        with connected(self.socket) as other:  # root may connect to any socket
            self.assertEqual(other.recv(1), b"")
        program.said("user 0: a client is not served: this server is another account's")
        self.assert_by_itself(self.client())  # and root does not ask there
        client = self.nobodys()
        self.assert_handed_over(client)
        self.assertEqual(status_of(client.server())["Uid"], NOBODYS)

    def test_hostile_clients_of_the_socket_cost_others_nothing(self) -> None:
        program = self.resident("--max-per-user", "4", "--login-grace", "1", "--log-level", "VERBOSE")
        for attack in (self.silence, self.rubbish, self.descriptors, self.connections):
            with self.subTest(attack.__name__):
                self.as_nobody(attack)
                client = self.client()
                self.assert_handed_over(client)
                self.assertEqual(client.leave(), 0)
        for words, count in (
            ("it was silent", 1),
            ("no valid request", 2),
            ("its last connections have failed", 1),
        ):
            program.said(f"user {NOBODY}: a client is not served: .*{words}", count)

    def test_an_account_that_only_connects_costs_no_more_processes_after_a_while(self) -> None:
        program = self.resident("--log-level", "VERBOSE")

        def attack() -> None:
            for _ in range(10):
                with connected(self.socket) as sock:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)

        self.as_nobody(attack)
        program.said(f"user {NOBODY}: a client is not served: its last connections have failed")
        self.assert_handed_over(self.client())

    def as_nobody(self, attack: Any) -> None:
        """Run an attack in a process of that account, and wait until it has no answer."""
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                attack()
                os._exit(0)
            finally:
                os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def silence(self) -> None:
        with connected(self.socket) as sock:
            assert not sock.recv(1)

    def rubbish(self) -> None:
        self.refused(b"x" * (LONGEST + 10), [])

    def descriptors(self) -> None:
        self.refused(b"1\0x\0pysftpjail\0" + b"22\0" + b"0", [0] * 250)

    def connections(self) -> None:
        for _ in range(50):
            connected(self.socket).close()

    def refused(self, data: bytes, descriptors: list[int]) -> None:
        with connected(self.socket) as sock:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            try:
                sock.sendmsg([data], [rights] if descriptors else [])
                assert not sock.recv(16)
            except (ConnectionError, BrokenPipeError):
                pass


class Promises(ResidentCase):
    def test_the_last_word_is_the_client_s(self) -> None:
        """A client that has not said GO is served by itself, however long the resident's answer took."""
        self.resident("--login-grace", "60")
        hesitant = self.client(argv=[sys.executable, "-c", HESITANT, str(ROOT / "bin" / "pysftpjail")])
        self.assert_by_itself(hesitant)
        self.assertEqual(hesitant.log().count("session opened"), 1)

    def test_a_last_word_before_the_resident_has_answered_is_none(self) -> None:
        """Its sender may have ended, and another process may have its number."""
        program = self.resident()
        with (
            connected(self.socket) as sock,
            open(os.devnull, "r+b") as nothing,
            mock.patch.object(
                sys, "argv", ["pysftpjail", "--logfile", str(self.place / "log"), str(self.jail)]
            ),
        ):
            here = os.open(".", os.O_PATH)
            sock.send(client._request("pysftpjail"))
            descriptors = array.array("i", [nothing.fileno()] * 3 + [here])
            sock.sendmsg([GO + bytes(SECRET)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            os.close(here)
            self.assertTrue(sock.recv(16).startswith(READY))
            self.assertEqual(sock.recv(16), b"")
        self.assertFalse((self.place / "log").exists())
        self.assertEqual(program.stop(), 0)


#: A client that does not wait for the answer, and goes away once it is there.
HESITANT = """
import sys
from pysftpserver.warm import client
client.READY = b"another word"
sys.argv = sys.argv[1:]
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""


class Confined(unittest.TestCase):
    def test_what_a_security_module_confines_is_not_served_elsewhere(self) -> None:
        ours, theirs = Bounds("self"), Bounds("self")
        theirs.status["NoNewPrivs"] = ["0"]
        me = mock.Mock(uid=os.getuid(), gid=os.getgid())
        for label, is_free in (
            (b"", True),
            (b"unconfined\n", True),
            (b"firefox (unconfined)\n", True),
            (b"unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0", True),
            (b"unconfined_u:unconfined_r:chrome_sandbox_t:s0\0", False),
            (b"un-unconfined (enforce)\n", False),
            (b"sftp (enforce)\n", False),
        ):
            ours.label, theirs.label = b"" if is_free and not label else b"own", label
            with self.subTest(label):
                if is_free:
                    theirs.check(me, ours)
                else:
                    with self.assertRaisesRegex(Refused, "a security module confines it"):
                        theirs.check(me, ours)
