"""A full disk: a WRITE that does not fit is a failure, whatever part of it did, and freeing space heals."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

from tests.faults.disks import DiskCase
from tests.faults.sessions import KIB, MIB, NEW, VARIANTS, Session, Upload, content_of
from tests.faults.storing import CONTENT, DOORS, IN_PLACE
from tests.support import packets as sftp
from tests.support.hard import IS_HARD
from tests.support.packets import Attributes, attrs, request, string, u32, u64
from tests.support.waiting import PATIENCE, until

FULL = (sftp.FAILURE, os.strerror(errno.ENOSPC))
PAGE = os.sysconf("SC_PAGE_SIZE")
DISK = MIB
DAILY = ("pysksync, to the server", "pysftplab, Files", "pysftpjail --atomic-uploads")
# The length of the WRITEs, and the pages that are free for them: no multiple of 32 or 255 KiB.
FILLINGS = ((1, 2), (32 * KIB, 126), (sftp.MAX_DATA, 126))


class DiskFull(DiskCase):
    def leave_room(self, session: Session, pages: int) -> None:
        """Write a file that leaves so many pages of the disk free."""
        ballast = content_of(self.order, session.figures()["bavail"] * PAGE - pages * PAGE)
        (self.seen / "ballast").write_bytes(ballast)
        self.assertEqual(session.figures()["bavail"], pages)

    def assert_figures_are_true(self, session: Session) -> None:
        true, said = os.statvfs(self.seen), session.figures()
        for name in ("blocks", "bfree", "bavail", "files", "ffree", "favail"):
            self.assertEqual(said[name], getattr(true, f"f_{name}"), name)

    def fill(self, length: int, pages: int, *options: str) -> None:
        self.mount(f"size={DISK}")
        session = self.start(*options)
        self.leave_room(session, pages)
        upload = Upload(content_of(self.order, pages * PAGE + 2 * PAGE))
        handle = session.open(b"upload", NEW)

        answers = session.write(upload, handle, upload.pieces(length))
        statuses = [(reply.content, reply.message.decode()) for reply in answers]
        fitting = pages * PAGE // length
        self.assertEqual(statuses[:fitting], [statuses[0]] * fitting)
        self.assertEqual(statuses[0][0], sftp.OK)
        self.assertEqual(set(statuses[fitting:]), {FULL})
        data = self.assert_upload(upload, "upload")
        self.assertLessEqual(len(data), pages * PAGE)
        self.assertTrue(upload.content.startswith(data), "what is there is no beginning of what was sent")
        self.assertEqual(session.content(b"upload"), data)
        self.assertEqual(session.figures()["bavail"], 0)
        self.assert_figures_are_true(session)
        self.assertEqual(self.tree(), {"ballast", "upload"})

        # The same session, the same handle: with space there is nothing wrong any more.
        session.must("remove", string(b"ballast"))
        session.write(upload, handle, sorted(upload.refused))
        self.assertFalse(upload.refused)
        session.must("fsync", handle)
        session.must("close", handle)
        self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
        self.assert_figures_are_true(session)
        session.leave()
        self.assert_next_session_works(*options, files={"upload"})

    def test_writes_are_acknowledged_as_long_as_they_fit_and_again_when_space_is_freed(self):
        for options in VARIANTS:
            for length, pages in FILLINGS:
                with self.subTest(options=options, length=length, seed=self.seed):
                    self.fill(length, pages, *options)

    def test_a_write_that_fits_in_part_fails_and_leaves_its_beginning(self):
        for options in VARIANTS:
            for flags in (NEW, NEW | sftp.APPEND):
                with self.subTest(options=options, flags=flags, seed=self.seed):
                    self.mount(f"size={DISK}")
                    session = self.start(*options)
                    self.leave_room(session, 3)
                    upload = Upload(content_of(self.order, 10 * PAGE))
                    handle = session.open(b"upload", flags)
                    (answer,) = session.write(upload, handle, upload.pieces(10 * PAGE))
                    self.assertEqual((answer.content, answer.message.decode()), FULL)
                    data = self.assert_upload(upload, "upload")
                    self.assertEqual(data, upload.content[: len(data)])
                    session.must("close", handle)
                    session.leave()
                    self.assert_next_session_is_told(*options)

    def assert_next_session_is_told(self, *options: str) -> None:
        """On a disk that is still full, a new session says so, and works once it is not."""
        session = self.start(*options)
        handle = session.open(b"more", NEW)
        self.assertEqual(session.status("write", handle, u64(0), string(b"x")), FULL)
        session.must("close", handle)
        session.must("remove", string(b"more"))
        session.must("remove", string(b"ballast"))
        session.leave()
        self.assert_next_session_works(*options, files={"upload"})

    def test_a_failed_write_among_others_fails_alone(self):
        # What is behind it overwrites bytes that have their place already, and does not need any.
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                self.mount(f"size={DISK}")
                session = self.start(*options)
                self.leave_room(session, 2)
                handle = session.open(b"upload", NEW)
                session.must("write", handle, u64(0), string(b"a" * 2 * PAGE))
                numbers = [session.next_number() for _ in range(3)]
                answers = session.exchange(
                    request("write", numbers[0], handle, u64(0), string(b"b" * PAGE)),
                    request("write", numbers[1], handle, u64(2 * PAGE), string(b"c" * PAGE)),
                    request("write", numbers[2], handle, u64(PAGE), string(b"d" * PAGE)),
                )
                self.assertEqual([answer.content for answer in answers], [sftp.OK, sftp.FAILURE, sftp.OK])
                self.assertEqual((self.seen / "upload").read_bytes(), b"b" * PAGE + b"d" * PAGE)
                session.must("close", handle)
                session.leave()

    def test_copy_data_that_does_not_fit_is_a_failure_and_leaves_a_beginning(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                self.mount(f"size={DISK}")
                session = self.start(*options)
                content = content_of(self.order, DISK * 5 // 8)
                (self.seen / "source").write_bytes(content)
                source, target = session.open(b"source"), session.open(b"copy", NEW)
                arguments = (source, u64(0), u64(len(content)), target, u64(0))
                self.assertEqual(session.status("copy-data", *arguments), FULL)
                data = (self.seen / "copy").read_bytes()
                self.assertEqual(data, content[: len(data)])
                session.must("fsetstat", target, attrs(Attributes(size=0)))
                half = DISK // 4
                session.must("copy-data", source, u64(half), u64(half), target, u64(0))
                self.assertEqual(session.content(b"copy"), content[half : 2 * half])
                session.must("close", source)
                session.must("close", target)
                session.leave()
                self.assert_next_session_works(*options, files={"source", "copy"})

    def test_a_disk_without_inodes_refuses_every_new_name_and_keeps_no_handle(self):
        for options in VARIANTS:
            with self.subTest(options=options):
                self.mount(f"size={DISK},nr_inodes=6")
                session = self.start(*options)
                kept = ["kept"]
                (self.seen / "kept").write_bytes(b"kept")
                while session.figures()["ffree"]:
                    kept.append(f"kept{len(kept)}")
                    (self.seen / kept[-1]).touch()
                before = session.door.descriptors()
                for name, *parts in (
                    ("open", string(b"new"), u32(sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS),
                    ("mkdir", string(b"new"), sftp.NO_ATTRS),
                    ("symlink", string(b"kept"), string(b"new")),
                    ("hardlink", string(b"kept"), string(b"new")),
                ):
                    self.assertEqual(session.status(name, *parts), FULL, name)
                self.assertEqual(self.tree(), set(kept))
                self.assertEqual(session.door.descriptors(), before)
                session.must("rename", string(b"kept"), string(b"renamed"))
                session.must("remove", string(os.fsencode(kept[-1])))
                session.must("mkdir", string(b"new"), sftp.NO_ATTRS)
                session.must("rmdir", string(b"new"))
                session.leave()
                self.assert_next_session_works(*options, files={"renamed", *kept[1:-1]})

    def test_a_log_on_the_full_disk_stops_no_session_and_goes_on_when_space_is_freed(self):
        self.mount(f"size={DISK}")
        log = self.seen / "log"
        (self.seen / "kept").write_bytes(b"kept")
        log.write_bytes(b"x" * (PAGE - 1) + b"\n")  # so that the next line needs another page
        with (self.seen / "ballast").open("wb", buffering=0) as ballast, self.assertRaises(OSError):
            while True:
                ballast.write(bytes(PAGE))
        argv, _ = self.command()
        argv[argv.index(str(self.served)) + 1] = str(self.served / "log")
        (self.local / "new").write_bytes(bytes(PAGE))
        status, said = self.run_sftp(argv, "get kept", "-put new", "rm ballast", "put new", "mkdir d")
        self.assertEqual(status, 0, said)
        self.assertEqual((self.local / "kept").read_bytes(), b"kept")
        self.assertEqual((self.seen / "new").read_bytes(), bytes(PAGE))
        self.assertTrue((self.seen / "d").is_dir())
        self.assertNotIn("session opened", log.read_text())
        # sftp does not wait for the end of its server, whose last line this is.
        until(lambda: "session closed" in log.read_text(), "the log goes on")

    def test_devices_that_fail_by_nature_are_told_of_on_either_way(self):
        # /dev/full refuses every byte, and nothing of a process lies at its address 0.
        for hook in ((), ("hook=yes",)):
            with self.subTest(hook=hook):
                session = self.start("storage=plain", *hook)
                handle = session.open(b"/dev/full", sftp.WRITE)
                for length in (1, 32 * KIB, sftp.MAX_DATA):
                    self.assertEqual(session.status("write", handle, u64(0), string(bytes(length))), FULL)
                session.must("close", handle)
                handle = session.open(b"/proc/self/mem", sftp.READ)
                failed = (sftp.FAILURE, os.strerror(errno.EIO))
                for length in (1, 32 * KIB, sftp.MAX_DATA):
                    self.assertEqual(session.status("read", handle, u64(0), u32(length)), failed)
                session.must("close", handle)
                session.leave()
                self.assert_next_session_works("storage=plain", *hook)


class OpenSSHOnAFullDisk(DiskCase):
    def test_a_put_that_does_not_fit_fails_and_its_beginning_is_there(self):
        content = content_of(self.order, 3 * DISK)
        (self.local / "big").write_bytes(content)
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                self.mount(f"size={DISK}")
                status, said = self.sftp("put big", "put big never", options=options)
                self.assertEqual(status, 1, said)
                self.assertIn("big", said)
                data = (self.seen / "big").read_bytes()
                self.assertTrue(content.startswith(data.rstrip(b"\0")), f"seed {self.seed}")
                self.assertGreater(len(data), DISK // 2)
                self.assertEqual(self.tree(), {"big"})
                (self.seen / "big").unlink()
                (self.local / "small").write_bytes(content[: DISK // 2])
                status, said = self.sftp("put -f small", "df", options=options)
                self.assertEqual(status, 0, said)
                self.assertEqual((self.seen / "small").read_bytes(), content[: DISK // 2])
                self.assert_next_session_works(*options, files={"small"})


class EveryDoorOnAFullDisk(DiskCase):
    """A file of 20 pages replaces a small one, on a disk of 12 pages."""

    def test_an_upload_that_does_not_fit_fails_and_the_old_file_stays(self):
        for door in DOORS if IS_HARD else DAILY:
            with self.subTest(door=door):
                self.mount(f"size={12 * PAGE}")
                (self.seen / "old").write_bytes(b"old")
                argv = [*self.inside, sys.executable, "-m", "tests.faults.storing"]
                done = subprocess.run(
                    [*argv, door, self.served, self.place],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=6 * PATIENCE,
                )
                self.assertEqual(done.returncode, 1, done.stderr)
                # OpenSSH's client shows the status alone, and not the server's words.
                self.assertRegex(done.stderr, "(?i)no space left on device|write remote .*: failure")
                names = [path.name for path in self.seen.rglob("*") if path.is_file()]
                self.assertEqual(names, ["old"])
                content = (self.seen / "old").read_bytes()
                if door in IN_PLACE:
                    self.assertTrue(CONTENT.startswith(content), "as much as fitted")
                else:
                    self.assertEqual(content, b"old")
