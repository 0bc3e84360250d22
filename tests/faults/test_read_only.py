"""A disk that becomes read-only during a session: changes are refused with a clear message, reads work.

A file that is open for writing keeps the kernel from remounting its file system. The way around is that
of a machine where another mount is laid over the path: what is opened from then on is read-only, and the
handle from before still writes to the file that it has.
"""

from __future__ import annotations

import errno
import os
import shlex
import subprocess

from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from tests.faults.disks import Disk, DiskCase
from tests.faults.sessions import KIB, NEW, VARIANTS, Session, Upload, content_of
from tests.support import packets as sftp
from tests.support.packets import Attributes, attrs, string, u32, u64

REFUSED = (sftp.FAILURE, os.strerror(errno.EROFS))
NOT_FOR_WRITING = sftp.NO_SUCH_FILE  # EBADF, which has that status in OpenSSH's server too
READ_ONLY_FLAG = 1  # of statvfs@openssh.com
FILES = {"disk", "disk/f", "disk/g", "disk/d"}
MODE = attrs(Attributes(permissions=0o600))


class ReadOnly(DiskCase):
    """disk/ is a mount of its own in what is served, with two files and a directory."""

    def disk(self) -> Disk:
        at = self.served / "disk"
        at.mkdir(exist_ok=True)
        disk = self.mount("size=4m", at)
        self.content = content_of(self.order, 100_000)
        (self.seen / "disk/f").write_bytes(self.content)
        (self.seen / "disk/g").write_bytes(b"another")
        (self.seen / "disk/d").mkdir()
        return disk

    def changes(self) -> dict[str, tuple[bytes, ...]]:
        """Each request that changes something by its paths, with one that would be done elsewhere."""
        f, g, d, new = (string(b"disk/" + name) for name in (b"f", b"g", b"d", b"new"))
        return {
            "setstat": (f, MODE),
            "remove": (f,),
            "mkdir": (new, sftp.NO_ATTRS),
            "rmdir": (d,),
            "rename": (f, new),
            "symlink": (f, new),
            "posix-rename": (f, g),
            "hardlink": (f, new),
            "lsetstat": (f, MODE),
        }

    def assert_paths_are_read_only(self, session: Session) -> None:
        before = {path: path.lstat() for path in self.seen.rglob("*")}
        for name, parts in self.changes().items():
            self.assertEqual(session.status(name, *parts), REFUSED, name)
        for values in ({"size": 1}, {"times": (1, 1)}, {"owner": (1, 1)}, {"size": 1, "times": (1, 1)}):
            changed = attrs(Attributes(**values))
            self.assertEqual(session.status("setstat", string(b"disk/f"), changed), REFUSED, values)
        for path in (b"disk/f", b"disk/new"):
            for flags in (
                sftp.WRITE | sftp.CREAT,
                sftp.READ | sftp.WRITE | sftp.CREAT,
                NEW,
                sftp.WRITE | sftp.APPEND | sftp.CREAT,
                sftp.CREAT | sftp.TRUNC,
            ):
                status = session.status("open", string(path), u32(flags), sftp.NO_ATTRS)
                self.assertEqual(status, REFUSED, (path, flags))
        exclusive = session.status(
            "open", string(b"disk/new"), u32(sftp.WRITE | sftp.CREAT | sftp.EXCL), sftp.NO_ATTRS
        )
        self.assertEqual(exclusive, REFUSED)
        self.assertEqual({path: path.lstat() for path in self.seen.rglob("*")}, before)
        self.assertEqual(session.content(b"disk/f"), self.content)
        self.assertEqual(session.names(b"disk"), {"f", "g", "d"})
        self.assertTrue(session.figures(b"disk")["flag"] & READ_ONLY_FLAG)

    def assert_handles_are_read_only(self, session: Session) -> None:
        """The requests that change something by a handle: one that was there before the remount."""
        reading, other = session.open(b"disk/f"), session.open(b"disk/g")
        for chunk in (1, 32 * KIB, sftp.MAX_DATA):
            code, _ = session.status("write", reading, u64(0), string(bytes(chunk)))
            self.assertEqual(code, NOT_FOR_WRITING)
        self.assertEqual(session.status("fsetstat", reading, MODE), REFUSED)
        self.assertNotEqual(session.status("fsetstat", reading, attrs(Attributes(size=1)))[0], sftp.OK)
        copying = session.status("copy-data", other, u64(0), u64(0), reading, u64(0))
        self.assertEqual(copying[0], NOT_FOR_WRITING)
        session.must("fsync", reading)  # there is nothing that would not be safe
        session.must("close", reading)
        session.must("close", other)

    def test_every_request_that_writes_is_tried_here(self):
        by_handle = {"write", "fsetstat", "fsync", "copy-data"}
        rows = [*REQUESTS.values(), *EXTENDED_REQUESTS.values()]
        self.assertEqual({*self.changes(), *by_handle}, {row.name for row in rows if row.writes})

    def test_a_remount_refuses_every_change_until_it_is_undone_and_reads_go_on(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                disk = self.disk()
                session = self.start(*options)
                reading = session.open(b"disk/f")
                upload = Upload(content_of(self.order, 70_000))
                handle = session.open(b"disk/upload", NEW)
                session.write(upload, handle, upload.pieces(32 * KIB, 40_000))
                with self.assertRaises(subprocess.CalledProcessError):  # busy, as long as this is open
                    disk.remount("ro")
                session.must("close", handle)
                disk.remount("ro")
                self.assert_upload(upload, "disk/upload")
                reply = session.ask("read", reading, u64(0), u32(50_000))
                self.assertEqual(reply, ("data", self.content[:50_000], b""))
                self.assertEqual(session.names(b"disk"), {"f", "g", "d", "upload"})
                disk.remount("rw")
                session.must("remove", string(b"disk/upload"))
                disk.remount("ro")
                self.assert_paths_are_read_only(session)
                self.assert_handles_are_read_only(session)
                later = self.start(*options)  # a session that finds it so
                self.assert_paths_are_read_only(later)
                later.leave()

                disk.remount("rw")
                self.assertFalse(session.figures(b"disk")["flag"] & READ_ONLY_FLAG)
                handle = session.open(b"disk/f", sftp.WRITE)
                session.must("write", handle, u64(0), string(b"changed"))
                session.must("close", handle)
                session.must("close", reading)
                self.assertEqual(session.content(b"disk/f"), b"changed" + self.content[7:])
                session.leave()
                self.assert_next_session_works(*options, files=FILES)

    def test_a_read_only_mount_laid_over_an_upload_refuses_paths_and_loses_nothing(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                disk = self.disk()
                session = self.start(*options)
                upload = Upload(content_of(self.order, 90_000))
                handle = session.open(b"disk/upload", NEW)
                session.write(upload, handle, upload.pieces(30_000, 60_000))
                disk.run("mount", "--bind", disk.at, disk.at)
                disk.remount("bind,ro")
                code, words = session.status("setstat", string(b"disk/upload"), attrs(Attributes(size=0)))
                self.assertEqual((code, words), REFUSED)
                self.assertEqual(session.status("remove", string(b"disk/upload")), REFUSED)
                again = session.status("open", string(b"disk/upload"), u32(NEW), sftp.NO_ATTRS)
                self.assertEqual(again, REFUSED)
                # Whatever is said of the handle that was there before has to be true.
                session.write(upload, handle, [(60_000, 30_000)])
                self.assert_upload(upload, "disk/upload")
                self.assertEqual(session.content(b"disk/upload"), upload.content)
                session.must("fsync", handle)
                session.must("close", handle)
                disk.run("umount", disk.at)
                session.must("remove", string(b"disk/upload"))
                session.leave()
                self.assert_next_session_works(*options, files=FILES)

    def test_openssh_is_told_and_puts_again_after_the_remount_is_undone(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                disk = self.disk()
                content = content_of(self.order, 300_000)
                (self.local / "new").write_bytes(content)
                remount = {
                    way: "!" + shlex.join([*disk.inside, *disk.remounting(way)]) for way in ("ro", "rw")
                }
                status, said = self.sftp(
                    "put new disk/first",
                    remount["ro"],
                    "-put new disk/second",
                    "-rm disk/f",
                    "get disk/first read",
                    remount["rw"],
                    "rm disk/first",
                    "put -f new disk/third",
                    remount["ro"],
                    "get disk/third again",
                    "put new disk/fourth",
                    remount["rw"],
                    options=options,
                )
                self.assertEqual(status, 1, said)  # of the last put, which nothing excuses
                self.assertIn("fourth", said)
                self.assertEqual((self.local / "read").read_bytes(), content)
                self.assertEqual((self.local / "again").read_bytes(), content)
                self.assertEqual((self.seen / "disk/third").read_bytes(), content)
                disk.remount("rw")
                self.assert_next_session_works(*options, files=FILES | {"disk/third"})
