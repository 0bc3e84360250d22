"""A client that is gone in the middle of a transfer: its server ends by itself, with everything closed.

Sockets are closed after a random byte, replies unread or not; OpenSSH's sftp is killed, at work or stopped
before. Nobody tells the server anything: it has to find out. Where it happens is drawn from a seed, which
every failure names; sessions.SEED reruns it.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.faults.sessions import KIB, MIB, NEW, VARIANTS, FaultCase, Session, Upload, content_of
from tests.faults.transfers import TransferCase
from tests.support.hard import IS_HARD
from tests.support.packets import MAX_DATA, OK, Reply, request, u32, u64
from tests.support.processes import descendants, is_alive
from tests.support.waiting import PATIENCE, until

PUTS = 16 if IS_HARD else 6
GETS = 12 if IS_HARD else 4
OPENSSH_RUNS = 8 if IS_HARD else 4
LENGTHS = (1000, 32 * KIB, MAX_DATA)
BIG = 24 * MIB


class GoneClient(FaultCase):
    def assert_it_ends(self, session: Session, name: str) -> str:
        """It ends well, and its log says what was open and that it is over; the log."""
        self.assertEqual(session.door.end(), 0, f"seed {self.seed}\n{session.door.log()}")
        log = session.door.log()
        self.assertEqual(log.count(f'forced close "{name}"'), 1, log)
        self.assertEqual(log.count("session closed for local user"), 1, log)
        self.assertNotIn("error", log)
        return log

    def test_in_a_put_at_random_points_leaves_what_was_acknowledged_and_no_server(self):
        for run in range(PUTS):
            self.order.seed(self.seed + run)
            options = self.order.choice(VARIANTS)
            with self.subTest(run=run, seed=self.seed, options=options):
                upload = Upload(content_of(self.order, 2 * MIB))
                session = self.start(*options)
                handle = session.open(b"upload", NEW)
                length = self.order.choice(LENGTHS)
                requests = [upload.write(session, handle, piece) for piece in upload.pieces(length)]
                self.leave_in(b"".join(requests), session)
                for number, reply in session.replies[1:]:
                    self.assertEqual(reply.content, OK)
                    upload.heard(number, reply)
                log = self.assert_it_ends(session, "upload")
                data = self.assert_upload(upload, "upload")
                self.assertTrue(upload.content.startswith(data), "no beginning of what was sent")
                (written,) = re.findall(r'forced close "upload" bytes read 0 written (\d+)\n', log)
                self.assertEqual(int(written), len(data))
                self.assertEqual(self.tree(), {"upload"})
                (self.served / "upload").unlink()
        self.assert_next_session_works(files=())

    def leave_in(self, stream: bytes, session: Session) -> None:
        """Send some of the stream, hear replies or do not, and close the socket."""
        most = self.order.randrange(len(stream) + 1)
        if self.order.random() < 0.5:
            # Heard while sending, and perhaps some more, but not to the end.
            wanted = self.order.randrange(3)
            begun = len(session.replies)
            session.push(stream[:most], lambda sent, _: sent == most)
            if most > MIB:
                session.push(b"", lambda *_: len(session.replies) - begun >= wanted)
        else:
            session.push_deaf(stream[:most])
        session.socket.close()

    def test_in_a_get_at_random_points_leaves_no_server(self):
        content = content_of(self.order, 4 * MIB)
        (self.served / "f").write_bytes(content)
        for run in range(GETS):
            self.order.seed(self.seed + run)
            options = self.order.choice(VARIANTS)
            with self.subTest(run=run, seed=self.seed, options=options):
                session = self.start(*options)
                handle = session.open(b"f")
                length = self.order.choice(LENGTHS)
                asked = b"".join(
                    request("read", session.next_number(), handle, u64(at), u32(length))
                    for at in range(0, len(content), length)
                )
                enough = self.order.randrange(len(content) // length)
                session.push(asked, lambda _, received, enough=enough: received >= enough)
                for place, (_, reply) in enumerate(session.replies[1:]):
                    expected = content[place * length : (place + 1) * length]
                    self.assertTrue(reply == Reply("data", expected), f"reply {place}, seed {self.seed}")
                session.socket.close()
                self.assert_it_ends(session, "f")
        self.assertEqual((self.served / "f").read_bytes(), content)
        self.assert_next_session_works(files={"f"})

    def test_with_everything_open_and_nothing_under_way_leaves_nothing_open(self):
        (self.served / "f").write_bytes(b"content")
        for options in VARIANTS:
            session = self.start(*options)
            for _ in range(20):
                session.open(b"f")
                session.open(b".", kind="opendir")
            session.leave()
            log = session.door.log()
            self.assertEqual(log.count('forced close "f"'), 20)
            self.assertEqual(log.count('forced closedir "."'), 20)
        self.assert_next_session_works(files={"f"})


class GoneOpenSSH(TransferCase):
    def kill_when(self, file: Path, point: int, command: str, *options: str) -> str:
        """Kill an sftp when so much of a file has arrived; the log of its server, which ends by itself."""
        with self.transfer(command, *options) as (client, log):
            until(lambda: file.exists() and file.stat().st_size >= point, "so much has arrived")
            (server,) = [pid for pid, _, _ in descendants(client.pid)]
            try:
                self.assertIsNone(client.poll(), "it had ended before it could be killed")
                if self.order.random() < 0.5:
                    # Stopped, it leaves whatever the server goes on to send unread.
                    client.send_signal(signal.SIGSTOP)
                    until(lambda: self.is_stopped(client.pid), "it is stopped")
                client.kill()
                self.assertEqual(client.wait(PATIENCE), -signal.SIGKILL)
                until(lambda: not is_alive(server), "the server ends by itself")
            finally:
                if is_alive(server):
                    os.kill(server, signal.SIGKILL)
        return log.read_text()

    def is_stopped(self, pid: int) -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def test_killed_in_a_put_leaves_a_beginning_of_the_file_and_no_server(self):
        content = content_of(self.order, BIG)
        (self.local / "upload").write_bytes(content)
        for run in range(OPENSSH_RUNS):
            options = VARIANTS[run % len(VARIANTS)]
            with self.subTest(run=run, seed=self.seed, options=options):
                file = self.served / "upload"
                log = self.kill_when(file, self.order.randrange(MIB), "put upload", *options)
                data = file.read_bytes()
                self.assertLess(len(data), len(content))
                self.assertTrue(content.startswith(data), f"no beginning of what was sent; seed {self.seed}")
                self.assertIn(
                    f'forced close "{self.remote(options)}" bytes read 0 written {len(data)}\n', log
                )
                self.assertIn("session closed for local user", log)
                self.assertNotIn("error", log)
                self.assertEqual(self.tree(), {"upload"})
                file.unlink()
        self.assert_next_session_works(files=())

    def remote(self, options: tuple[str, ...]) -> str:
        """The path that sftp sends for the file upload: an absolute one."""
        return "/upload" if "storage=jail" in options else f"{self.served}/upload"

    def test_killed_in_a_get_leaves_no_server(self):
        content = content_of(self.order, BIG)
        (self.served / "upload").write_bytes(content)
        for run in range(OPENSSH_RUNS // 2):
            options = VARIANTS[run % len(VARIANTS)]
            with self.subTest(run=run, seed=self.seed, options=options):
                file = self.local / "got"
                log = self.kill_when(file, self.order.randrange(MIB), "get upload got", *options)
                data = file.read_bytes()
                self.assertLess(len(data), len(content))
                self.assertIn(f'forced close "{self.remote(options)}" bytes read ', log)
                self.assertIn("session closed for local user", log)
                self.assertNotIn("error", log)
                file.unlink()
        self.assertEqual((self.served / "upload").read_bytes(), content)
        self.assert_next_session_works(files={"upload"})
