"""SIGKILL of the server during an upload: what it acknowledged is stored, and nothing else.

The page cache outlives a process, so every acknowledged byte has to be in the file, and fsync or not makes
no difference here; test_power_loss.py is about that. Where the kill comes is drawn from a seed, which
every failure names; sessions.SEED reruns it.
"""

from __future__ import annotations

import os
import signal

from tests.faults.sessions import KIB, MIB, NEW, VARIANTS, Session, Upload, content_of
from tests.faults.transfers import TransferCase
from tests.support.hard import IS_HARD
from tests.support.packets import CREAT, MAX_DATA, OK, WRITE, Attributes, attrs, request
from tests.support.processes import descendants, is_alive
from tests.support.waiting import PATIENCE, until

RUNS = 44 if IS_HARD else 12  # and as many of OpenSSH's as make them 50, or 14
OPENSSH_RUNS = 6 if IS_HARD else 2
LENGTHS = (1, 100, 4096, 32 * KIB, 100_000, MAX_DATA)
BIG = 24 * MIB


class KilledServer(TransferCase):
    def test_at_random_points_keeps_what_it_acknowledged_and_the_next_session_resumes(self):
        killed_inside = 0
        for run in range(RUNS):
            # Each run is drawn anew, so that one can be repeated without those before it.
            self.order.seed(self.seed + run)
            options = self.order.choice(VARIANTS)
            with self.subTest(run=run, seed=self.seed, options=options):
                upload, length = self.killed(run % 2 == 0, *options)
                killed_inside += 0 < len(upload.acknowledged) < len(upload.pieces(length))
                self.resume(upload, length, *options)
                (self.served / "upload").unlink()
        self.assertGreater(killed_inside, RUNS // 4, "too few of the kills came in the middle")

    def killed(self, inside: bool, *options: str) -> tuple[Upload, int]:
        """Upload with many requests under way, and kill the server somewhere in it.

        inside: when it has answered some, and has not been sent all.
        """
        length = self.order.choice(LENGTHS)
        upload = Upload(content_of(self.order, min(2 * MIB, 2000 * length) - self.order.randrange(length)))
        pieces = upload.pieces(length)
        if self.order.random() < 0.5:
            self.shuffle(pieces)
        session = self.start(*options)
        handle = session.open(b"upload", NEW)
        requests = []
        for piece in pieces:
            requests.append(upload.write(session, handle, piece))
            if self.order.random() < 2 / len(pieces):
                requests.append(request("fsync", session.next_number(), handle))

        if inside:
            some = requests[:-2]  # of the last two, one is a WRITE
            most = self.order.randrange(1, len(some) + 1)
            session.push(b"".join(some), lambda _, received: received >= most)
        else:
            stream = b"".join(requests)
            most = self.order.randrange(len(stream) + 1)
            session.push(stream[:most], lambda sent, _: sent == most)
        session.door.kill()
        session.drain()
        self.judge(upload, session)
        return upload, length

    def shuffle(self, pieces: list[tuple[int, int]]) -> None:
        """Change the order as a client may that has many requests under way: near ones only."""
        for at in range(0, len(pieces), 16):
            near = pieces[at : at + 16]
            self.order.shuffle(near)
            pieces[at : at + 16] = near

    def judge(self, upload: Upload, session: Session) -> None:
        for number, reply in session.replies[1:]:  # the first was the handle
            self.assertEqual((reply.kind, reply.content), ("status", OK))
            upload.heard(number, reply)
        self.assert_upload(upload, "upload")
        self.assertEqual(self.tree(), {"upload"})
        self.assertNotIn("error", session.door.log())

    def resume(self, upload: Upload, length: int, *options: str) -> None:
        """A new session finds what there is, and sends what nobody acknowledged."""
        session = self.start(*options)
        handle = session.open(b"upload", WRITE)
        size = session.ask("fstat", handle).content.size
        self.assertEqual(size, (self.served / "upload").stat().st_size)
        session.write(upload, handle, upload.missing(length))
        session.must("fsync", handle)
        session.must("close", handle)
        self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
        self.assertEqual(session.names(), {"upload"})
        session.leave()
        self.assertEqual(self.tree(), {"upload"})

    def test_before_and_behind_everything_is_no_different(self):
        for options in VARIANTS:
            with self.subTest(options=options):
                session = self.start(*options)
                session.door.kill()
                self.assertEqual(self.tree(), set())
                session = self.start(*options)
                handle = session.open(b"upload", WRITE | CREAT)
                upload = Upload(content_of(self.order, 1000))
                session.write(upload, handle, upload.pieces(100))
                session.must("fsetstat", handle, attrs(Attributes(permissions=0o600)))
                session.must("close", handle)
                session.door.kill()
                self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
                self.assertEqual((self.served / "upload").stat().st_mode & 0o777, 0o600)
                self.assert_next_session_works(*options, files={"upload"})
                (self.served / "upload").unlink()

    def test_openssh_fails_and_says_so_and_resumes_with_the_next_session(self):
        content = content_of(self.order, BIG)
        (self.local / "upload").write_bytes(content)
        for run in range(OPENSSH_RUNS):
            options = VARIANTS[run % len(VARIANTS)]
            with self.subTest(run=run, seed=self.seed, options=options):
                point = self.order.randrange(4 * MIB)
                status = self.put_and_kill(point, *options)
                self.assertNotEqual(status, 0)
                self.assertEqual(self.tree(), {"upload"})
                data = (self.served / "upload").read_bytes()
                self.assertGreaterEqual(len(data), point)
                self.assertLess(len(data), len(content))
                self.assertTrue(content.startswith(data), f"no beginning of what was sent; seed {self.seed}")
                status, said = self.sftp("reput upload", "ls", options=options)
                self.assertEqual(status, 0, said)
                self.assertEqual((self.served / "upload").read_bytes(), content)
                self.assert_next_session_works(*options, files={"upload"})
                (self.served / "upload").unlink()

    def put_and_kill(self, point: int, *options: str) -> int:
        """sftp puts, and its server is killed when so much of the file is there; sftp's exit status."""
        with self.transfer("put upload\nput upload again", *options) as (client, log):
            file = self.served / "upload"
            until(lambda: file.exists() and file.stat().st_size >= point, "so much has arrived")
            (server,) = [pid for pid, _, _ in descendants(client.pid)]
            os.kill(server, signal.SIGKILL)
            status = client.wait(PATIENCE)
        until(lambda: not is_alive(server), "the server is gone")
        self.assertNotIn("session closed", log.read_text())
        return status
