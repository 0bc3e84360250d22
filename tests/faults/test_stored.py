"""What a door says is stored survives a power cut; an old file that is replaced is never lost.

As in test_power_loss, on ext4 and on XFS, which treat unsynced renames differently. Another program's fsync
just before the cut has the file system write its journal, with renames whose content was not synced.
"""

from __future__ import annotations

import subprocess
import sys

from tests.faults.storing import CONTENT, DOORS, names_of
from tests.faults.test_power_loss import PowerLossCase
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

OLD = b"the old content"
KINDS = ("ext4", "xfs")
ATOMIC_ONLY = [door for door in DOORS if "--atomic" in door and "--durable" not in door]
SYNCS_NEW = [door for door in DOORS if door not in ("pysftpjail", *ATOMIC_ONLY)]
ONLY_HARD = [door for door in DOORS if door.startswith("pysftpd") and "process --durable --" not in door]
# Daily, one door of each way to store: in place, atomically, several at once, and by processes of a session.
ON_XFS = [
    *("pysftpjail --durable", "pysftpjail --durable --atomic-uploads", "pysksync, to the server"),
    *(door for door in DOORS if door.startswith("pysftpd") or door in ATOMIC_ONLY),
]


class Stored(PowerLossCase):
    def after_the_cut(self, kind: str, door: str, others: bool, *options: str) -> dict[str, bytes]:
        """The files that are there after it, by name."""
        image = self.new_disk(kind)
        (self.seen / "old").write_bytes(OLD)
        if door == "pysksync, to the server":  # to the other side, new directories are synced, too
            for name in names_of(door):
                (self.seen / name).parent.mkdir(exist_ok=True)
        subprocess.run(["sync", "-f", self.seen / "old"], check=True)
        argv = [sys.executable, "-m", "tests.faults.storing", door, self.served, self.place, *options]
        with subprocess.Popen(
            [*self.inside, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "stored\n", door)
            if others:
                (self.seen / "other").write_bytes(b"another program's")
                subprocess.run(["sync", self.seen / "other"], check=True)
            self.cut(image)
            process.communicate(timeout=PATIENCE)
        there = {name: self.seen / name for name in names_of(door)}
        return {name: path.read_bytes() for name, path in there.items() if path.exists()}

    def cases(self, door: str) -> list[tuple[str, bool]]:
        """A kind of file system, and whether another program syncs: all of them only in make test-hard."""
        if IS_HARD:
            return [(kind, others) for kind in KINDS for others in (False, True)]
        if door in ONLY_HARD:
            return []
        xfs = [("xfs", door in ATOMIC_ONLY)] if door in ON_XFS else []
        return xfs if door.startswith("pysftpd") else [("ext4", True), *xfs]

    def test_what_a_door_says_is_stored_is_there_after_a_power_cut(self) -> None:
        for door in SYNCS_NEW:
            for kind, others in self.cases(door):
                with self.subTest(door=door, kind=kind, others=others):
                    files = self.after_the_cut(kind, door, others)
                    self.assertTrue(files == dict.fromkeys(names_of(door), CONTENT), f"{files!r:.200}")

    def test_an_atomic_upload_leaves_the_old_or_the_new_file_whole(self) -> None:
        for door in ATOMIC_ONLY:
            for kind, others in self.cases(door):
                with self.subTest(door=door, kind=kind, others=others):
                    files = self.after_the_cut(kind, door, others)
                    self.assertIn(files["old"], (OLD, CONTENT))

    def test_without_syncs_it_is_not(self) -> None:
        # The test of these tests.
        files = self.after_the_cut("ext4", "pysftplab, Files", False, "--unsynced")
        self.assertNotEqual(files.get("new"), CONTENT)
