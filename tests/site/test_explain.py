"""Which rule decides, in words, and what of an audit log would be decided otherwise."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from unittest import mock

from pysftpserver.cli import pysftpsite
from pysftpserver.engine.audit import AuditLog
from pysftpserver.engine.log import SFTPLog
from pysftpserver.failures import BadInput
from pysftpserver.site import explain, file
from pysftpserver.site.who import Who
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InADirectory
from tests.support.packets import CREAT, NO_ATTRS, READ, TRUNC, WRITE, Client, string, u32, u64

SITE = """\
storage = "jail:/srv"
hidden = "/secret/**"
[group]
partners = ["al*"]
[[rule]]
path = "/in/**"
groups = "partners"
allow = ["list", "upload"]
[[rule]]
path = "/out/**"
networks = "10.0.0.0/8"
hours = "mon-fri 08:00-18:00"
deny = "download"
[names]
refuse = "*.exe"
"""


class Explaining(InADirectory):
    def explained(self, text: str, who: Who | None = None, now: float | None = None) -> list[str]:
        lines = explain.explained(file.parse(SITE, "s.toml"), who or Who("alice", ("partners",)), text, now)
        return [" ".join(line.split()) for line in lines]

    def test_the_deciding_rule_is_named_with_its_line(self) -> None:
        rule = "s.toml: line 5: rule 1"
        for text, lines in (
            ("put /in/x.csv", [
                f"upload allowed /in/x.csv {rule} if there is no such file",
                f"overwrite refused /in/x.csv {rule} if the file is there",
            ]),
            ("get /in/../in//x", [f"download refused /in/x {rule}"]),
            ("get /secret/x", ["download hidden /secret/x s.toml: line 2: hidden"]),
            ("get /x", ["download allowed /x no rule"]),
            ("rename '/in/a b' /x", [
                f"rename refused /in/a b {rule}", "rename allowed /x no rule",
                "overwrite allowed /x no rule if the new name is there",
            ]),
            ("mv /in/x.filepart /in/x", [
                f"rename allowed /in/x.filepart {rule}", f"rename allowed /in/x {rule}",
                f"overwrite refused /in/x {rule} if the new name is there",
            ]),
            ("put /in/x.exe", [
                "upload refused /in/x.exe s.toml: line 15: refuse, *.exe if there is no such file",
                f"overwrite refused /in/x.exe {rule} if the file is there",
            ]),
            ("setstat /in", [f"setstat refused /in {rule}"]),
        ):  # fmt: skip
            with self.subTest(text):
                first, *rest = self.explained(text)
                self.assertEqual(first, f"{text}, as alice (partners) from an unknown address:")
                self.assertEqual(rest, lines)
        for text in ("", "get", "get a b", "fetch /x", "rename /x", 'get "/x'):
            with self.assertRaisesRegex(BadInput, "--explain"):
                self.explained(text)

    def test_it_is_for_an_address_and_a_time(self) -> None:
        noon = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))
        for address, moment, verdict in (
            ("10.1.1.1", noon, "refused"), ("10.1.1.1", noon + 8 * 3600, "allowed"),
            ("11.1.1.1", noon, "allowed"),
        ):  # fmt: skip
            line = self.explained("get /out/x", Who("bo", (), address), moment)[1]
            self.assertIn(f"download {verdict}", line)

    def test_the_commands(self) -> None:
        site, log = self.root / "s.toml", self.root / "audit"
        site.write_text(SITE)
        log.write_text('{"time":"2026-11-30T10:00:00.0Z","user":"bo","peer":null,"request":"remove",'
                       '"path":"/secret/x","result":"OK"}\n'
                       '{"time":"2026-11-30T10:00:01.0Z","user":"alice","peer":null,"request":"open",'
                       '"flags":"WRITE,CREATE,TRUNCATE","path":"/in/x","result":"OK"}\n')  # fmt: skip
        output = io.StringIO()
        with contextlib.redirect_stdout(output), mock.patch("pysftpserver.cli.common.tell") as tell:
            self.assertEqual(pysftpsite.main([str(site), "--user", "alice", "--explain", "get /in/x"]), 0)
            arguments = [str(site), "--user", "bo", "--explain", "get /out/x", "--from", "10.0.0.1"]
            self.assertEqual(pysftpsite.main([*arguments, "--at", "2026-11-30 12:00"]), 0)
            self.assertEqual(pysftpsite.main([str(site), "--replay", str(log)]), 1)
            site.write_text("storage = 1\nfoo = 2\n")
            self.assertEqual(pysftpsite.main([str(site), "--check"]), 2)
        said = output.getvalue()
        self.assertNotIn("open /in/x", said)
        first = "was there: 1; the first: 2026-11-30T10:00:01.0Z alice open /in/x: was done"
        self.assertIn(first, tell.call_args_list[0].args[0])
        self.assertIn(f"download  refused   /in/x  {site}: line 5: rule 1\n", said)
        self.assertIn(f"download  refused   /out/x  {site}: line 9: rule 2\n", said)
        self.assertIn(
            f"remove /secret/x: was done, and would be hidden: delete ({site}: line 2: hidden)\n", said
        )
        self.assertIn(f"{site}: line 1: storage: write a text\n{site}: line 2: foo: unknown key", said)

    def test_a_real_audit_log_is_replayed(self) -> None:
        records: list[bytes] = []
        hook = AuditLog(records.append, "alice", "10.0.0.1", 1, SFTPLog(None))
        (self.root / "in").mkdir()
        (self.root / "in" / "old").write_bytes(b"old")
        client = Client(SFTPServerVirtualChroot(self.root), hook=hook)
        client.ask("open", string(b"in/old"), u32(READ), NO_ATTRS)
        handle = client.open(b"/in/new", WRITE | CREAT | TRUNC)
        client.ask("write", handle, u64(0), string(b"new"))
        client.ask("close", handle)
        client.ask("opendir", string(b"/in"))
        client.ask("rename", string(b"/in/new"), string(b"/in/\xff"))
        client.ask("remove", string(b"/in/none"))
        client.ask("mkdir", string(b"/d"), NO_ATTRS)
        client.server.close()
        site = file.parse(SITE, "s.toml")
        lines = [json.loads(record) for record in records]
        undecided = explain.Undecided()
        replayed = explain.replayed(site, map(os.fsdecode, records), undecided)
        found = [line.partition("Z ")[2] for line in replayed]
        self.assertEqual(
            found,
            [
                "alice open in/old: was done, and would be refused: download (s.toml: line 5: rule 1)",
                "alice rename /in/new /in/\\udcff: was done, and would be refused: rename "
                "(s.toml: line 5: rule 1)",
            ],
        )
        self.assertEqual(undecided.number, 1)
        self.assertIn(
            "alice open /in/new: was done, and would be refused if the file is there: overwrite "
            "(s.toml: line 5: rule 1)",
            undecided.example,
        )
        refused = {**lines[1], "request": "remove", "path": "/x", "result": "PERMISSION_DENIED"}
        (line,) = explain.replayed(site, [json.dumps(refused)])
        self.assertIn("alice remove /x: was refused, and the rules would allow it", line)
        for text in ("[]", "{", '{"time": 1}', "1"):
            with self.assertRaisesRegex(BadInput, "line 2: not a record"):
                list(explain.replayed(site, ["\n", text]))

    def test_a_drop_box_under_its_own_rules_is_replayed_without_a_line(self) -> None:
        site = file.parse(SITE, "s.toml")
        flags = ["WRITE,CREATE,TRUNCATE", "WRITE,CREATE", "WRITE"]
        records = [
            {"request": "open", "flags": flag, "path": path}
            for flag, path in zip(flags, ("/in/x", "/in/x.filepart", "/in/x.filepart"), strict=True)
        ]
        records.append({"request": "posix-rename", "path": "/in/x.filepart", "target": "/in/x"})
        same = {"time": "2026-11-30T10:00:00.0Z", "user": "alice", "peer": None, "result": "OK"}
        undecided = explain.Undecided()
        self.assertEqual(
            list(explain.replayed(site, [json.dumps({**same, **one}) for one in records], undecided)), []
        )
        self.assertEqual(undecided.number, 2)  # the first and the last
