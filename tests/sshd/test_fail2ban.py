"""The filter for fail2ban, on what a server really logs of clients that choose their names with care."""

from __future__ import annotations

import configparser
import contextlib
import re
import subprocess
import tempfile
import unittest

import asyncssh

from pysftpserver.engine.log import ERROR, INFO
from pysftpserver.service.logs import plain
from pysftpserver.service.shared import Penalties, Shared
from tests.sshd.inprocess import HOST, OTHER_KEY, asynchronous, running, user
from tests.sshd.test_front import CLIENT, SSH, say
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import eventually

FILTER = ROOT / "examples" / "fail2ban" / "filter.d" / "pysftpd.conf"
VICTIM = "203.0.113.9"
#: Names that look like the lines of other addresses.
FORGED = (
    f"x': login failed: y #1 {VICTIM}",
    f"2026-11-30T00:00:00.000Z pysftpd[1] error: #1 {VICTIM} 'x': login failed: no",
    f"'\" pysftpd[1] error: #1 {VICTIM}: refused: what it sends is not SSH",
)


async def logged() -> tuple[list[str], list[str]]:
    """(lines that the filter has to find, others)."""
    named = "x': login failed: y"
    async with running(files, user("alice"), user(named), options={"max_per_address": "1"}) as server:
        for name in ("alice", "nobody", *FORGED):
            with contextlib.suppress(asyncssh.PermissionDenied):
                await server.connect(name, OTHER_KEY)
            await eventually(lambda: not server.server.connections)
            server.server.penalties = Penalties(Shared(1, 10), 0)  # without delays
        for data in (b"GET / HTTP/1.0\r\n\r\n", CLIENT + SSH):
            await say(server.port, data)
            await eventually(lambda: not server.server.connections)
        async with await server.connect(named):
            await say(server.port, b"")
        await eventually(lambda: any("max_per_address" in line for line in server.lines))
        found = [one for one in server.lines if re.search("refused: |: login failed: (?!y)", one)]
        return found, [one for one in server.lines if one not in found]


class Filter(unittest.TestCase):
    @asynchronous
    async def test_failures_and_scans_are_found_with_their_address_and_nothing_else_is(self) -> None:
        wanted, others = await logged()
        self.assertEqual(len(wanted), 5 + 2 + 1, wanted)
        self.assertTrue(any("logged in" in line for line in others))
        lines = [plain("pysftpd", ERROR, line) for line in wanted]
        rest = [plain("pysftpd", INFO, line) for line in others]
        journal = [f"host pysftpd[7]: {line}" for line in lines]
        parser = configparser.ConfigParser()
        parser.read(FILTER)
        texts = parser["Definition"]["failregex"].replace("<ADDR>", r"(?P<address>\S+)").split("\n")
        expressions = [re.compile(text) for text in texts if text]
        for line in [*lines, *journal, *rest]:
            found = [one["address"] for expression in expressions for one in expression.finditer(line)]
            self.assertEqual(found, [] if line in rest else [HOST], line)
        if IS_HARD:
            self.ask_fail2ban(lines, rest)

    def ask_fail2ban(self, lines: list[str], rest: list[str]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
            log.write("".join(f"{line}\n" for line in [*lines, *rest]))
            log.flush()
            done = subprocess.run(
                ["fail2ban-regex", "-o", "ip", log.name, str(FILTER)], capture_output=True, text=True
            )
        self.assertEqual((done.returncode, done.stdout.split()), (0, [HOST] * len(lines)), done.stderr)
