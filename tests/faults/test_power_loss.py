"""Data that fsync@openssh.com acknowledged survives a power cut; other data may not.

The disk is an ext4 in a file. Its bytes are copied at the moment of the cut: what the kernel had not
written to the "device" by then is not in the copy. The copy is mounted, its journal replayed, and looked
at. This needs root, for a loop device, and mkfs.ext4 of e2fsprogs.
"""

from __future__ import annotations

import os
import subprocess
import unittest
from pathlib import Path

from tests.faults.disks import Disk
from tests.faults.sessions import KIB, MIB, NEW, VARIANTS, FaultCase, Upload, content_of
from tests.support.packets import MAX_DATA, Attributes, attrs, string, u64
from tests.support.processes import program

# The journal is written when somebody asks for it, and not every five seconds.
OPTIONS = {"ext4": "loop,commit=600", "xfs": "loop,nouuid"}
MAKE = {"ext4": ("-q", "-F", "-E", "nodiscard"), "xfs": ("-q", "-K")}
SIZE = {"ext4": 8 * MIB, "xfs": 300 * MIB}  # the least that mkfs takes, for XFS


class PowerLossCase(FaultCase):
    """A file system in a file, and power cuts. Skipped where nothing can be mounted."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if os.geteuid() or not os.path.exists("/dev/loop-control"):
            raise unittest.SkipTest("only root, with loop devices, can mount a file system that is in a file")

    def setUp(self) -> None:
        super().setUp()
        self.disks: list[Disk] = []
        self._disks = 0
        self.addCleanup(self.unmount)

    def mount(self, image: Path) -> None:
        disk = Disk(self.served, OPTIONS[self.kind], self.kind, str(image))
        self.disks.append(disk)
        self.inside, self.seen = disk.inside, disk.seen(self.served)

    def unmount(self) -> None:
        """Give back the loop devices, which are not many."""
        for disk in self.disks:
            disk.close()
        self.disks.clear()

    def new_disk(self, kind: str = "ext4") -> Path:
        self.unmount()
        self.kind = kind
        self._disks += 1
        image = self.place / f"image{self._disks}"
        with image.open("wb") as file:
            file.truncate(SIZE[kind])
        subprocess.run([program(f"mkfs.{kind}"), *MAKE[kind], image], check=True, stderr=subprocess.PIPE)
        self.mount(image)
        for path in self.seen.iterdir():
            path.rmdir()  # lost+found
        return image

    def cut(self, image: Path) -> None:
        """From now on, the disk is what was on it at this moment."""
        copy = self.place / f"{image.name}-at-the-cut"
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        self.mount(copy)


class PowerLoss(PowerLossCase):
    def test_what_was_acknowledged_and_fsynced_is_there_after_it(self):
        for options in VARIANTS:
            length = self.order.choice((1000, 32 * KIB, MAX_DATA))
            with self.subTest(options=options, length=length, seed=self.seed):
                image = self.new_disk()
                session = self.start(*options)
                upload = Upload(content_of(self.order, MIB))
                handle = session.open(b"upload", NEW)
                synced = self.order.randrange(1, MIB - 40_000)
                session.write(upload, handle, upload.pieces(length, synced))
                session.must("fsync", handle)
                kept = set(upload.acknowledged)
                session.write(upload, handle, [(synced, 1000), (synced + 1000, 32 * KIB)])
                self.cut(image)
                # What came behind the fsync was acknowledged by a machine that has lost it.
                upload.acknowledged = kept
                self.assertGreaterEqual(len(self.assert_upload(upload, "upload")), synced)
                session.leave()
                self.assert_next_session_works(*options, files={"upload"})

    def test_a_new_size_and_an_overwritten_file_are_there_after_an_fsync(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                image = self.new_disk()
                session = self.start(*options)
                upload = Upload(content_of(self.order, 200_000))
                handle = session.open(b"upload", NEW)
                session.must("write", handle, u64(0), string(b"0" * 150_000))
                session.must("fsync", handle)
                session.write(upload, handle, upload.pieces(32 * KIB))
                session.must("fsetstat", handle, attrs(Attributes(size=190_000)))
                session.must("fsync", handle)
                session.must("close", handle)
                self.cut(image)
                self.assertEqual((self.seen / "upload").read_bytes(), upload.content[:190_000])
                session.leave()
                self.assert_next_session_works(*options, files={"upload"})

    def test_a_storage_that_only_says_it_did_is_found_out(self):
        # The test of these tests: without an fsync the bytes are not on the disk at the cut.
        image = self.new_disk()
        session = self.start("storage=postponing")
        upload = Upload(content_of(self.order, 300_000))
        handle = session.open(b"upload", NEW)
        session.write(upload, handle, upload.pieces(32 * KIB))
        session.must("fsync", handle)
        self.assert_upload(upload, "upload")
        self.cut(image)
        there = self.seen / "upload"
        self.assertIn("were acknowledged", upload.wrong(there.read_bytes() if there.exists() else b""))
        session.leave()
