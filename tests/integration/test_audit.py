"""The audit log behind a real sshd: who it was, and what OpenSSH's sftp did."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.service.verifying import verify
from tests.integration.harness import ServedCase
from tests.integration.material import Material
from tests.support.auditing import records_of
from tests.support.processes import require


def setUpModule() -> None:
    require("sftp")


class AnAuditedSession(ServedCase):
    audit: ClassVar[Path]

    @classmethod
    def server_command(cls) -> list[str]:
        cls.audit = cls.place / "audit"
        return cls.jail_command("--audit", cls.audit, "--audit-digests", "--audit-chain")

    def setUp(self) -> None:
        super().setUp()
        self.audit.unlink(missing_ok=True)
        self.audit.with_name("audit.chain").unlink(missing_ok=True)

    def records(self) -> list[dict[str, Any]]:
        self.wait_until_no_server_is_left()
        self.assertEqual(verify([str(self.audit)], {}).problems, [])
        return records_of(self.audit.read_bytes())

    def test_is_recorded_with_its_client_its_paths_and_its_bytes(self) -> None:
        content = Material().bytes(300_000)
        (self.local / "up").write_bytes(content)
        self.sftp("put up /a", "rename /a /b", "get /b down", "rm /b")
        self.assertEqual((self.local / "down").read_bytes(), content)
        records = self.records()
        accepted = re.findall(r"Accepted publickey for \S+ from (\S+) port (\d+)", self.sshd.log())
        peer, port = accepted[-1]
        self.assertEqual(
            {(r["peer"], r["port"], r["user"]) for r in records}, {(peer, int(port), self.sshd.user)}
        )
        self.assertEqual({r["key"] for r in records}, {self.sshd.fingerprint()})
        self.assertEqual(len({r["session"] for r in records}), 1)
        self.assertEqual((records[0]["request"], records[-1]["request"]), ("init", "end"))
        size, sha256 = len(content), hashlib.sha256(content).hexdigest()
        closed = [(r["path"], r["read"], r["written"], r["sha256"]) for r in records if "sha256" in r]
        self.assertEqual(closed, [("/a", 0, size, sha256), ("/b", size, 0, sha256)])
        self.assertEqual(records[-1]["bytes"], 2 * len(content))
        changes = [r for r in records if r["request"] in ("posix-rename", "rename", "remove")]
        found = [(r["request"], r["path"], r.get("target"), r["result"]) for r in changes]
        self.assertEqual(found, [("posix-rename", "/a", "/b", "OK"), ("remove", "/b", None, "OK")])
        opened = [(r["path"], r["flags"]) for r in records if r["request"] == "open"]
        self.assertEqual(opened, [("/a", "WRITE,CREATE,TRUNCATE"), ("/b", "READ")])
        self.assertEqual(len([r for r in records if r["request"] == "close"]), 2)

    def test_that_cannot_be_recorded_is_turned_away_without_a_word_of_the_host(self) -> None:
        self.serve(self.jail_command("--audit", self.place / "missing" / "audit"))
        run = self.client(["ssh", "-F", self.sshd.ssh_config, "server"], status=2)
        self.assertEqual(run.text, "pysftpjail: the audit log cannot be written (syslog says more)\n")
        self.serve(self.jail_command("--audit", "/dev/full"))
        self.assertIn("Connection closed", self.sftp("mkdir /d", status=255).err)
        self.assertEqual(list(self.jail.iterdir()), [])
