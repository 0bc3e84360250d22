"""What a server or a moment could do to those who probe: nothing outside of the probe's directory is changed,
what is taken has bounds, and everything is removed, whatever fails.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.cli import pysftp_probe
from pysftpserver.contract import client as client_module
from pysftpserver.contract import packets
from pysftpserver.contract.client import Broken, Client
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.subject import Subject
from pysftpserver.contract.table import MUST, Rule
from pysftpserver.engine import wire
from pysftpserver.failures import BadInput
from pysftpserver.probe import extras, lines
from pysftpserver.probe.clients import run
from pysftpserver.probe.clients.playing import SCRIPTS
from pysftpserver.probe.lines import Patience, PipeLine
from pysftpserver.probe.report import json
from pysftpserver.probe.results import FAILED, Figure, Report
from pysftpserver.probe.running import Plan, Probe
from pysftpserver.probe.target import of_command
from pysftpserver.probe.words import words_of
from pysftpserver.pysftpexceptions import MalformedPacket
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.paths import IN_MEMORY
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE

Change = Callable[[bytes, bytes], bytes]
VICTIM = b"not the probe's"


class Spoiled(ServerLine):
    """A line whose replies are changed. change: makes of a request and its reply what arrives."""

    left = ""
    is_closed = False

    def __init__(self, storage: SFTPServerMemoryStorage, change: Change, sent: list[bytes]) -> None:
        super().__init__(storage)
        self._change = change
        self._sent = sent
        self._rest = b""

    def send(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 4 and len(self._rest) >= 4 + int.from_bytes(self._rest[:4], "big"):
            end = 4 + int.from_bytes(self._rest[:4], "big")
            request, self._rest = self._rest[:end], self._rest[end:]
            self._sent.append(request)
            before, self._replies = self._replies, b""
            self.ask(request)
            self._replies = before + self._change(request.ljust(9, b"\0"), self._replies)

    def ask(self, request: bytes) -> None:
        """Hand a whole request to the server."""
        super().send(request)

    def close(self) -> None:
        super().close()
        self.is_closed = True


class InProcess:
    """A Target in this process."""

    name = "a test"

    def __init__(self, change: Change = lambda request, reply: reply) -> None:
        self.storage = SFTPServerMemoryStorage()
        self.change = change
        self.sent: list[bytes] = []
        client = self.client()
        client.mkdir(b"/home")
        client.put(b"/home/victim", VICTIM)
        client.put(b"/victim", VICTIM)
        client.close()

    def connect(self, patience: Patience | None = None) -> Spoiled:
        return Spoiled(self.storage, self.change, self.sent)

    def client(self) -> Client:
        client = Client(ServerLine(self.storage))
        client.hello()
        return client


def rule(check: Callable[[Subject], None], *needs: str) -> Rule:
    return Rule(check, MUST, "a test", "A sentence.", needs, False)


def name_reply(request: bytes, *names: bytes) -> bytes:
    entries = b"".join(
        packets.sftpstring(name) + packets.sftpstring(b"?") + packets.sftpint(0) for name in names
    )
    return packets.sftpcmd(
        wire.SSH2_FXP_NAME,
        packets.sftpint(len(names)),
        entries,
        request_id=id_of(request),
    )


def status_reply(request: bytes, status: int, message: bytes = b"") -> bytes:
    return packets.sftpcmd(
        wire.SSH2_FXP_STATUS,
        packets.sftpint(status),
        packets.sftpstring(message),
        packets.sftpstring(b""),
        request_id=id_of(request),
    )


def a_file_is_made(subject: Subject) -> None:
    subject.file(b"f", b"content")


class Attacks(unittest.TestCase):
    def probe(self, target: InProcess, *rules: Rule, **plan: object) -> Report:
        return Probe(target, Plan(rules, directory=b"/home", **plan)).run()  # type: ignore[arg-type]

    def unharmed(self, target: InProcess) -> None:
        """Nothing but what was there is there."""
        client = target.client()
        self.assertEqual(client.content(b"/victim"), VICTIM)
        self.assertEqual(client.content(b"/home/victim"), VICTIM)
        self.assertEqual({name for name, _, _ in client.listing(b"/home")} - {b".", b".."}, {b"victim"})

    # --- names, paths and links ---------------------------------------------------------------------

    def test_names_that_lead_elsewhere_are_not_removed_after_a_client_was_played(self) -> None:
        def outside(request: bytes, reply: bytes) -> bytes:
            if request[4] != wire.SSH2_FXP_READDIR or reply[4] != wire.SSH2_FXP_NAME:
                return reply
            names = packets.get_sftpnames(reply)
            return name_reply(request, *names, b"../../victim", b"..\\..\\victim", b"/victim", b"a\0b")

        target = InProcess(outside)
        target.client().mkdir(b"/home/d")
        run(SCRIPTS[0], target.connect, b"/home/d/client-0")
        target.client().rmdir(b"/home/d")
        self.unharmed(target)
        removed = [p for p in target.sent if p[4] == wire.SSH2_FXP_REMOVE and b"victim" in p]
        self.assertEqual(removed, [])

    def test_a_start_directory_with_a_nul_is_not_worked_below(self) -> None:
        """A server that stops at the NUL would make, and then remove, the start directory."""

        def cut(request: bytes, reply: bytes) -> bytes:
            return name_reply(request, b"/home\0") if request[4] == wire.SSH2_FXP_REALPATH else reply

        target = InProcess(cut)
        report = self.probe(target, rule(a_file_is_made))
        self.assertIn("not a path to work below", report.stopped)
        self.assertEqual({p[4] for p in target.sent}, {wire.SSH2_FXP_INIT, wire.SSH2_FXP_REALPATH})
        self.unharmed(target)

    def test_a_link_that_lstat_takes_for_a_directory_is_not_emptied(self) -> None:
        target = InProcess()

        def follows(request: bytes, reply: bytes) -> bytes:
            """LSTAT follows, and what it takes for a directory that is not empty cannot be removed."""
            client = target.client()
            path = request[13:]
            if request[4] == wire.SSH2_FXP_LSTAT:
                changed = packets.sftpcmd(wire.SSH2_FXP_STAT, request[9:], request_id=1)
                return client.raw(changed)[:5] + request[5:9] + client.raw(changed)[9:]
            if request[4] in (wire.SSH2_FXP_REMOVE, wire.SSH2_FXP_RMDIR) and path.endswith(b"/out"):
                if request[4] == wire.SSH2_FXP_REMOVE:
                    client.symlink(b"/home", path)  # it is there again: the request was refused
                return status_reply(request, wire.SSH2_FX_FAILURE)
            return reply

        target.change = follows

        def a_link_leads_out(subject: Subject) -> None:
            subject.client.symlink(b"/home", subject.path(b"out"))

        report = self.probe(target, rule(a_link_leads_out))
        self.assertEqual(target.client().content(b"/home/victim"), VICTIM)
        self.assertTrue(any("/out: " in what for what in report.left), report.left)

    def test_links_are_made_inside_by_a_server_in_the_drafts_order_that_fails_at_readlink(self) -> None:
        target = InProcess()

        def draft(request: bytes, reply: bytes) -> bytes:
            if request[4] == wire.SSH2_FXP_READLINK:
                return b"\0\0\0\0"
            return reply

        target.connect = lambda patience=None: Swapping(target.storage, draft, target.sent)  # type: ignore[method-assign]

        def a_link_is_made(subject: Subject) -> None:
            subject.client.symlink(b"/home/text", subject.path(b"link"))

        self.probe(target, rule(a_link_is_made, "symlink"))
        self.unharmed(target)

    def test_a_client_does_not_go_where_realpath_sends_it(self) -> None:
        def elsewhere(request: bytes, reply: bytes) -> bytes:
            is_file = request[4] == wire.SSH2_FXP_REALPATH and request[13:].count(b"/") > 1
            return name_reply(request, b"/home/victim") if is_file and request[-2:] != b"/." else reply

        target = InProcess(elsewhere)
        before = target.client().stat(b"/home/victim")
        for script in SCRIPTS:
            run(script, target.connect, b"/client-0")
        self.assertEqual(target.client().stat(b"/home/victim"), before)
        self.unharmed(target)

    # --- how much is taken --------------------------------------------------------------------------

    def test_a_long_message_is_shortened_in_the_report(self) -> None:
        def talks(request: bytes, reply: bytes) -> bytes:
            if request[4] == wire.SSH2_FXP_READLINK:
                return status_reply(request, wire.SSH2_FX_FAILURE, b"\x1b" * 1_000_000)
            return reply

        def a_link_is_read(subject: Subject) -> None:
            subject.client.readlink(subject.path(b"l"))

        report = self.probe(InProcess(talks), rule(a_link_is_read))
        self.assertEqual(report.outcomes[0].verdict, FAILED)
        self.assertLess(len(report.outcomes[0].why), 10_000)

    def test_few_large_replies_are_kept(self) -> None:
        long = 1 << 18

        def large(request: bytes, reply: bytes) -> bytes:
            return reply + bytes(long - len(reply)) if request[4] == wire.SSH2_FXP_STAT else reply

        line = Spoiled(SFTPServerMemoryStorage(), grown(large), [])
        with mock.patch.multiple(client_module, LARGE=long // 2, MOST_KEPT=4 * long):
            client = Client(line)
            client.hello()
            for _ in range(8):
                client.ask(wire.SSH2_FXP_STAT, packets.sftpstring(b"/"))
            kept = sum(len(exchange.reply or b"") for exchange in client.exchanges)
            self.assertLessEqual(kept, 4 * long)
            requests = [client.send(wire.SSH2_FXP_STAT, packets.sftpstring(b"/")) for _ in range(8)]
            with self.assertRaises(Broken):
                client.reply(requests[-1])

    def test_a_listing_of_very_many_names_is_not_taken(self) -> None:
        entry = packets.sftpstring(b"") + packets.sftpstring(b"") + packets.sftpint(0)

        def many(request: bytes, reply: bytes) -> bytes:
            if request[4] != wire.SSH2_FXP_READDIR:
                return reply
            count = 200_001
            return packets.sftpcmd(
                wire.SSH2_FXP_NAME,
                packets.sftpint(count),
                entry * count,
                request_id=id_of(request),
            )

        client = Client(Spoiled(SFTPServerMemoryStorage(), many, []))
        client.hello()
        with self.assertRaisesRegex(Broken, "200001 names"):
            client.readdir(client.opendir(b"/"))

    def test_of_a_long_list_in_a_packet_the_words_say_how_long_it_is(self) -> None:
        entry = packets.sftpstring(b"") + packets.sftpstring(b"") + packets.sftpint(0)
        packet = packets.sftpcmd(wire.SSH2_FXP_NAME, packets.sftpint(2**32 - 1), entry * 20_000)
        self.assertIn("4294967295 names", words_of(packet, False))
        self.assertTrue(words_of(packet, False).endswith("and 4294967291 more"))

    def test_what_comes_while_nothing_is_taken_is_not_kept_without_end(self) -> None:
        """Also where as many bytes as the server likes may come in all, as for measurements."""
        patience = Patience(PATIENCE)
        patience.bytes = lines.ANY_BYTES
        line = PipeLine(
            [sys.executable, "-ISc", "import os\nwhile True: os.write(1, bytes(65536))"], patience
        )
        self.addCleanup(line.close)
        with mock.patch.object(lines, "MOST_BYTES", 1 << 20), self.assertRaises(Broken):
            line.send(bytes(1 << 24))

    # --- whatever fails, the end is the same --------------------------------------------------------

    def test_a_failure_of_the_probe_itself_leaves_nothing(self) -> None:
        def fails(*arguments: object) -> None:
            raise ZeroDivisionError("division by zero")

        target = InProcess()
        report = self.probe(target, extras=[("speed", fails)])
        self.assertIn("ZeroDivisionError", report.stopped)
        self.unharmed(target)

    def test_a_signal_at_the_end_does_not_keep_it_from_being_removed(self) -> None:
        target = InProcess()

        def progress(name: str, number: int, count: int) -> None:
            if not name:
                probe.interrupt(signal.SIGTERM)

        probe = Probe(target, Plan([rule(a_file_is_made)], directory=b"/home", progress=progress))  # type: ignore[arg-type]
        report = probe.run()
        self.assertEqual((probe.interrupted, report.left), (signal.SIGTERM, []))
        self.unharmed(target)

    def test_a_server_that_dies_of_a_signal_without_a_name_is_said_to(self) -> None:
        number = signal.SIGRTMIN + 1
        line = PipeLine(
            [sys.executable, "-ISc", f"import os; os.kill(os.getpid(), {number})"], Patience(PATIENCE)
        )
        self.addCleanup(line.close)
        with self.assertRaisesRegex(Broken, f"killed by signal {int(number)}"):
            line.receive(PATIENCE)

    def test_a_process_that_cannot_be_watched_is_ended(self) -> None:
        started = []

        def refuses(pid: int) -> int:
            started.append(pid)
            raise OSError(24, "Too many open files")

        with mock.patch.object(os, "pidfd_open", refuses), self.assertRaises(OSError):
            PipeLine(["sleep", "1000"], Patience(PATIENCE))
        self.assertFalse(is_alive(started[0]))


@unittest.skipUnless(IS_HARD, "all rules against each odd server take a while")
class OddServers(unittest.TestCase):
    """All rules and clients against servers that take requests in a way of their own: all that was there
    before is as it was."""

    def probe(self, line: type[Spoiled], change: Change = lambda request, reply: reply) -> None:
        target = InProcess(change)
        target.connect = lambda patience=None: line(target.storage, target.change, target.sent)  # type: ignore[method-assign]
        before = self.tree(target)
        extra = [("clients", extras.clients)]
        plan = Plan(list(RULES.values()), directory=b"/home", seconds=1.0, extras=extra, many=50)
        report = Probe(target, plan).run()  # type: ignore[arg-type]
        self.assertEqual((report.stopped, report.left), ("", []))
        self.assertTrue(report.tasks)
        self.assertEqual(self.tree(target), before)

    def tree(self, target: InProcess) -> dict[bytes, object]:
        client = target.client()
        found: dict[bytes, object] = {}
        for directory in (b"/", b"/home/"):
            names = {name for name, _, _ in client.listing(directory)} - {b".", b"..", b"home"}
            found |= {directory + name: client.lstat(directory + name) for name in names}
        return found

    def test_symlink_in_the_drafts_order(self) -> None:
        self.probe(Swapping)
        for refused in ({wire.SSH2_FXP_READLINK}, {wire.SSH2_FXP_LSTAT}):
            with self.subTest(refused):
                self.probe(Swapping, refusing(refused))
        self.probe(Swapping, refusing({wire.SSH2_FXP_READLINK, wire.SSH2_FXP_LSTAT}))

    def test_realpath_that_answers_the_same_to_all(self) -> None:
        for answer in (b".", b"", b"/"):
            with self.subTest(answer):
                self.probe(Spoiled, self.resolving(answer))

    def resolving(self, answer: bytes) -> Change:
        return lambda request, reply: (
            name_reply(request, answer) if request[4] == wire.SSH2_FXP_REALPATH else reply
        )

    def test_paths_as_far_as_they_go(self) -> None:
        self.probe(Lenient)


class Swapping(Spoiled):
    """It takes the arguments of SYMLINK in the draft's order."""

    def ask(self, request: bytes) -> None:
        if request[4:5] == bytes([wire.SSH2_FXP_SYMLINK]):
            try:
                first, at = wire.string_at(request, 9, len(request))
                second, _ = wire.string_at(request, at, len(request))
            except MalformedPacket:
                pass
            else:
                fields = packets.sftpstring(second), packets.sftpstring(first)
                request = packets.sftpcmd(wire.SSH2_FXP_SYMLINK, *fields, request_id=id_of(request))
        super().ask(request)


class Lenient(Spoiled):
    """It takes as much of a path as there is, up to a NUL, none for the start directory, and of attributes
    that are cut off some permissions."""

    def ask(self, request: bytes) -> None:
        count = PATHS.get(request[4]) if len(request) >= 9 else None
        if count:
            at, fields = 9, []
            for _ in range(count):
                end = at + 4 + int.from_bytes(request[at : at + 4].ljust(4, b"\0"), "big")
                path = request[at + 4 : end].split(b"\0")[0] or b"/home"
                fields.append(packets.sftpstring(path if path.startswith(b"/") else b"/home/" + path))
                at = end
            rest = request[at:]
            if request[4] == wire.SSH2_FXP_OPEN:
                rest = rest.ljust(8, b"\0")
            elif request[4] in (wire.SSH2_FXP_SETSTAT, wire.SSH2_FXP_MKDIR) and len(rest) < 4:
                rest = packets.sftpattrs(SFTPAttributes(permissions=0o700))
            request = packets.sftpcmd(request[4], *fields, rest, request_id=id_of(request))
        super().ask(request)


#: How many paths a request begins with.
PATHS = {
    wire.SSH2_FXP_OPEN: 1,
    wire.SSH2_FXP_LSTAT: 1,
    wire.SSH2_FXP_SETSTAT: 1,
    wire.SSH2_FXP_OPENDIR: 1,
    wire.SSH2_FXP_REMOVE: 1,
    wire.SSH2_FXP_MKDIR: 1,
    wire.SSH2_FXP_RMDIR: 1,
    wire.SSH2_FXP_REALPATH: 1,
    wire.SSH2_FXP_STAT: 1,
    wire.SSH2_FXP_RENAME: 2,
    wire.SSH2_FXP_READLINK: 1,
    wire.SSH2_FXP_SYMLINK: 2,
}


def id_of(request: bytes) -> int:
    return int.from_bytes(request[5:9], "big")


def refusing(kinds: set[int]) -> Change:
    """These requests are refused."""
    return lambda request, reply: (
        status_reply(request, wire.SSH2_FX_FAILURE) if request[4] in kinds and len(request) > 8 else reply
    )


class Reports(unittest.TestCase):
    """What becomes of a report."""

    def setUp(self) -> None:
        self.top = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.addCleanup(shutil.rmtree, self.top)

    def test_a_number_that_is_too_large_makes_no_report(self) -> None:
        for report in (
            Report("s", figures=[Figure("f", 10**400, "ms")]),
            Report("s", figures=[Figure("f", 1.0, "ms", 10**400)]),
            Report("s", seconds=10**400),
        ):
            path = self.top / "report.json"
            path.write_text(json.text(report))
            with self.assertRaisesRegex(BadInput, "not a report"):
                json.read(str(path))

    def test_a_report_that_cannot_be_written_is_refused_before_anything_is_probed(self) -> None:
        for path in (str(self.top), str(self.top / "missing" / "file")):
            with self.subTest(path), self.assertRaises(BadInput):
                pysftp_probe.outputs_of({"json": path, "junit": "", "html": ""})

    def test_one_report_that_cannot_be_written_does_not_lose_the_others(self) -> None:
        outputs = {"json": "/dev/full", "html": str(self.top / "page")}
        report = Report("s", left=["/a/directory"])
        with (
            mock.patch.object(pysftp_probe, "until_told", lambda run: report),
            mock.patch.object(pysftp_probe.common, "tell") as tell,
            mock.patch("sys.stdout", io.StringIO()),
            self.assertRaisesRegex(BadInput, "/dev/full: no space left"),
        ):
            options = pysftp_probe.COMMAND.parse([])
            pysftp_probe.probe(of_command(["true"]), [], options, outputs)
        self.assertIn("/a/directory", (self.top / "page").read_text())
        self.assertIn("left behind: /a/directory", str(tell.call_args_list))

    def test_words_that_the_terminal_cannot_show_are_escaped(self) -> None:
        octets = io.BytesIO()
        output = io.TextIOWrapper(octets, "ascii", write_through=True)
        with mock.patch("sys.stdout", output):
            pysftp_probe.write("-", "Zugriff verweigert: \u00fcber")
        self.assertEqual(octets.getvalue(), b"Zugriff verweigert: \\xfcber\n")


def grown(change: Change) -> Change:
    """The same, with a length field that says how long the reply is."""

    def changed(request: bytes, reply: bytes) -> bytes:
        packet = change(request, reply)
        return (len(packet) - 4).to_bytes(4, "big") + packet[4:]

    return changed


if __name__ == "__main__":
    unittest.main()
