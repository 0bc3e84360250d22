"""A session that runs while the package is replaced goes on to its end, with the code that it began with."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import sys
from pathlib import Path

from pysftpserver.site.ledger import Ledger
from tests.keeping.replacing import Installed
from tests.support.doors import DoorCase, Wire
from tests.support.forked import environment
from tests.support.packets import BODIES, CREAT, NO_ATTRS, READ, WRITE, request, string, u32, u64
from tests.support.paths import IN_MEMORY
from tests.support.waiting import PATIENCE, until

CONTENT = bytes(range(256)) * 256
SHA256 = string(b"sha256") + u64(0) + u64(0) + u32(0)
#: What a client does in a session, in the order of its handles: 1 is written, 2 is listed, 3 is read.
STEPS = [
    ("realpath", string(b".")),
    ("open", string(b"up") + u32(WRITE | CREAT) + NO_ATTRS),
    ("opendir", string(b"/")),
    ("open", string(b"f") + u32(READ) + NO_ATTRS),
    ("write", string(u32(1)) + u64(0) + string(CONTENT)),
    ("read", string(u32(3)) + u64(0) + u32(100)),
    ("readdir", string(u32(2))),
    ("readdir", string(u32(2))),
    ("fsync", string(u32(1))),
    ("copy-data", string(u32(3)) + u64(0) + u64(50) + string(u32(1)) + u64(10)),
    ("close", string(u32(1))),
    ("close", string(u32(2))),
    ("close", string(u32(3))),
    ("check-file-name", string(b"up") + SHA256),
    ("rename", string(b"up") + string(b"d/moved")),
    ("posix-rename", string(b"d/moved") + string(b"moved")),
    ("rename", string(b"moved") + string(b"mounted/moved")),
    ("mkdir", string(b"e") + NO_ATTRS),
    ("remove", string(b"refused.exe")),
]
SITE = """
storage = "jail:{place}/jail"
state = "{place}/state"
[[mount]]
path = "/mounted"
storage = "jail:{place}/mounted"
[[rule]]
allow = "all"
[names]
refuse = ["*.exe"]
largest = "1 MiB"
[[quota]]
bytes = "1 GiB"
[[gate]]
path = "/**"
limit = {{ size = "1 MiB" }}
[[event]]
on = ["upload", "rename", "delete"]
run = ["/bin/true"]
"""


class Session:
    """A command on a socket, whose client has said hello."""

    def __init__(self, case: DoorCase, argv: list[str], log: Path, **variables: str) -> None:
        ours, theirs = socket.socketpair()
        case.addCleanup(ours.close)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
        with theirs:
            self.door = case.start_door(argv, log, theirs, theirs, env=environment(**variables))
        self.sock, self.wire = ours, Wire(ours.fileno(), ours.fileno())
        self.wire.hello()

    def answers(self) -> list[tuple[str, bytes]]:
        """What it answers to every kind of request, and to a client's work."""
        everything = [*STEPS, *BODIES.items(), ("stat", b"")]  # the last one is malformed
        found = []
        for name, body in everything:
            self.wire.send(request(name, 1, body))
            found.append((name, self.wire.packet()))
        return found


def without_times(answers: list[tuple[str, bytes]]) -> list[tuple[str, object]]:
    """Answers that compare: attributes and figures of a file system have times in them, so of those only the
    kind counts."""
    return [
        (name, answer[0] if answer[0] in (104, 105, 201) and name != "check-file-name" else answer)
        for name, answer in answers
    ]


class ASessionUnderOpenSSH(DoorCase):
    made_in = IN_MEMORY
    forks = False

    def setUp(self) -> None:
        super().setUp()
        self.installed = Installed(self.place)

    def session(self, name: str, *options: object, **variables: str) -> Session:
        """A session on new files."""
        for kind in ("jail", "mounted"):
            shutil.rmtree(self.place / kind, ignore_errors=True)
            (self.place / kind).mkdir()
        (self.place / "jail/f").write_bytes(CONTENT)
        (self.place / "jail/d").mkdir()
        os.symlink("f", self.place / "jail/l")
        return Session(self, self.installed.command(name, *options), self.place / "log", **variables)

    def assert_unmoved(self, name: str, *options: object) -> None:
        """A session answers as one under which nothing is replaced, and imports nothing new."""
        with self.subTest(name=name, options=options):
            undisturbed = self.session(name, *options)
            expected = undisturbed.answers()
            undisturbed.sock.close()
            session = self.session(name, *options)
            self.installed.replace()
            found = session.answers()
            session.sock.close()
            session.door.process.wait(PATIENCE)
            self.assertEqual(self.installed.imported(), [])
            self.assertEqual(without_times(found), without_times(expected))
            self.installed.restore()

    def test_a_jail_goes_on(self) -> None:
        every = ("--atomic-uploads", "--durable", "--checksums", "--audit", self.place / "audit")
        self.assert_unmoved("pysftpjail", "--logfile", self.place / "log", self.place / "jail")
        for box in ((), ("--no-sandbox", "--audit-digests", "--audit-chain")):
            self.assert_unmoved(
                "pysftpjail", *every, *box, "--logfile", self.place / "log", self.place / "jail"
            )

    def test_the_drop_in_goes_on(self) -> None:
        self.assert_unmoved("pysftpserver", "-e", "-l", "QUIET", "-d", self.place / "jail", "--checksums")

    def test_a_site_goes_on_with_its_mounts_rules_quotas_gates_and_events(self) -> None:
        site = self.place / "site.toml"
        site.write_text(SITE.format(place=self.place))
        (self.place / "state").mkdir()
        # A deliverer that a session starts later is a process of the new version.
        self.start_door(self.installed.command("pysftp-deliver", site), self.place / "log", None, None)
        with contextlib.closing(Ledger(str(self.place / "state"))) as ledger:
            until(ledger.has_deliverer)
        self.assert_unmoved("pysftpsite", "--no-sandbox", "--logfile", self.place / "log", site)

    def test_a_program_that_runs_the_library_goes_on(self) -> None:
        code = "import sys; sys.path.insert(0, {top!r}); {program}"
        program = (
            "from pysftpserver.server import SFTPServer; from pysftpserver.storage import SFTPServerStorage; "
            f"SFTPServer(SFTPServerStorage({str(self.place / 'jail')!r}), logfile='/dev/null').run()"
        )
        argv = [sys.executable, "-P", "-c", code.format(top=str(self.installed.top), program=program)]
        self.installed.command = lambda *_: argv  # type: ignore[method-assign]
        self.assert_unmoved("a program")

    def test_a_session_of_a_resident_goes_on_and_the_next_one_is_of_the_new_version(self) -> None:
        listening, log = self.place / "run" / "socket", self.place / "resident"
        options = ("--logfile", self.place / "log", self.place / "jail")
        resident = self.start_door(
            self.installed.command("pysftp-warm", "--socket", listening, "--logfile", log), log, None, None
        )
        until(lambda: "listening on" in resident.log())
        session = self.session("pysftpjail", *options, PYSFTP_WARM=str(listening))
        opened = r"pysftpjail\[(\d+)\] session opened"
        served = until(lambda: re.findall(opened, session.door.log()), session.door.log)
        self.assertEqual(len(served), 1)
        self.assertNotEqual(served[0], str(session.door.pid), "it was not handed over")
        self.installed.replace()
        answers = session.answers()
        self.assertEqual(self.installed.imported(), [])
        self.assertEqual(answers[4][1][5:9], bytes(4), "the upload")
        session.sock.close()
        session.door.process.wait(PATIENCE)
        self.assertIsNone(resident.process.poll())
        self.installed.restore()
