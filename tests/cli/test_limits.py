"""The limits as flags of both commands: each works, each has a range, and the help says so.

What reaching a limit does request by request is in tests/engine/test_limits.py; here are real processes.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from pysftpserver.engine.limits import LIMITS
from tests.cli.commands import CommandCase
from tests.cli.sessions import COMMANDS, SessionCase
from tests.support import packets as sftp
from tests.support.doors import FILE, Door, Wire
from tests.support.packets import replies, request, string, u32, u64
from tests.support.waiting import PATIENCE, until

EXTENDED_FLAG = 0x80000000
PAIR = u32(EXTENDED_FLAG) + u32(1) + string(b"name@example.com") + string(b"value")
# The smallest and the largest value of each flag, and what the help says of the default: written down
# here once more, so that a table that is changed by accident is noticed.
FLAGS: dict[str, tuple[int, int, str]] = {
    "--max-packet": (34_000, 262_144, "The default is 262144."),
    "--max-handles": (1, 1_048_576, "The default is half of what the process's descriptor limit leaves"),
    "--max-queue": (0, 1_073_741_824, "The default is 1048576."),
    "--max-path": (1, 262_144, "The default is 32768."),
    "--max-entries": (1, 1_048_576, "The default is 4096."),
    "--max-extended": (0, 32_768, "The default is 64."),
    "--idle-timeout": (1, 1_000_000, "The default is no limit."),
}
NO_NUMBERS = ("", "-1", "1e3", "1.0", "many", " 50000", "50000 ", "+50000", "50_000", "0xffff", "-", "None")
DIGITS_OF_OTHERS = ("\u0665\u0660\u0660\u0660\u0660", "\uff15\uff10\uff10\uff10\uff10", "5000\u00b2")
TOO_LONG = ("9" * 20, "0" * 20 + "50000", "9" * 5000)


class Flags(SessionCase):
    forks = True

    def each(self, *flags: str):
        """A session of each command. (No subTest: a generator must not hold one open.)"""
        for prog in COMMANDS:
            yield self.command(prog, *flags)

    def refused(self, wire: Wire, session: Door, status: int, text: str, *asked: Any) -> None:
        """The request gets that status with that text, the log has the line, and the session goes on."""
        before = session.log().count(text)
        reply = wire.ask(*asked)
        self.assertEqual((reply.kind, reply.content, reply.message.decode()), ("status", status, text))
        self.assertEqual(session.log().count(text), before + 1)
        self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")

    def test_max_packet_ends_the_session_at_a_longer_one_and_is_told_to_who_asks(self):
        (self.jail / "f").write_bytes(bytes(300_000))
        for session, wire, _ in self.each("--max-packet", "50000"):
            said = wire.ask("limits").content
            self.assertEqual(said[:24], u64(50_000) + u64(50_000 - 1024) * 2)
            wire.ask("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS)
            self.assertEqual(len(wire.ask("read", FILE, u64(0), u32(sftp.MAX_DATA)).content), 50_000 - 1024)
            stat = bytes((17,)) + u32(8) + string(b".")
            wire.send(u32(50_000) + stat + bytes(50_000 - len(stat)))
            self.assertEqual(wire.reply()[1].kind, "attrs", "what follows the path is passed over")
            wire.send(u32(50_001) + stat)
            self.assertEqual(wire.take(1), b"")
            self.assertEqual(session.process.wait(PATIENCE), 11)
            self.assertIn("session ends: a packet of 50001 bytes\n", session.log())

    def test_max_handles_refuses_one_more_until_one_is_closed(self):
        (self.jail / "f").touch()
        opens = {"open": (string(b"f"), u32(sftp.READ), sftp.NO_ATTRS), "opendir": (string(b"."),)}
        for session, wire, _ in self.each("--max-handles=2"):
            self.assertEqual(wire.ask("limits").content[24:], u64(2))
            for name, parts in opens.items():
                self.assertEqual(wire.ask(name, *parts).kind, "handle")
            for name, parts in opens.items():
                text = "Limit reached: 2 open handles; close some of them first"
                self.refused(wire, session, sftp.FAILURE, text, name, *parts)
            self.assertEqual(wire.ask("close", FILE).content, sftp.OK)
            self.assertEqual(wire.ask("opendir", string(b".")).kind, "handle")

    def test_max_queue_is_how_far_the_server_gets_with_a_client_that_reads_nothing(self):
        """Of three READs of 255 KiB, the socket takes less than one; then a MKDIR shows who went on."""
        (self.jail / "f").write_bytes(bytes(sftp.MAX_DATA))
        for number, (flags, goes_on) in enumerate(
            (([], True), (["--max-queue", "0"], False), (["--max-queue", "2000000"], True))
        ):
            for session, wire, _ in self.each(*flags):
                name = f"{number}-{session.pid}"
                wire.ask("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS)
                reads = [request("read", one, FILE, u64(0), u32(sftp.MAX_DATA)) for one in range(3)]
                wire.send(b"".join(reads) + request("mkdir", 9, string(name.encode()), sftp.NO_ATTRS))
                if goes_on:
                    until((self.jail / name).exists, "the MKDIR is served")
                else:
                    session.wait_until_it_waits()
                    self.assertFalse((self.jail / name).exists())
                answered = [wire.reply() for _ in range(4)]
                self.assertEqual([one for one, _ in answered], [0, 1, 2, 9])
                self.assertEqual({reply.content for _, reply in answered[:3]}, {bytes(sftp.MAX_DATA)})
                self.assertEqual(answered[3][1].content, sftp.OK)
                self.assertTrue((self.jail / name).exists())

    def test_max_path_refuses_longer_ones(self):
        text = "Limit reached: a path of 65 bytes, where 64 are allowed"
        for session, wire, _ in self.each("--max-path", "64"):
            self.assertEqual(wire.ask("stat", string(b"x" * 64)).content, sftp.NO_SUCH_FILE)
            self.refused(wire, session, sftp.BAD_MESSAGE, text, "stat", string(b"x" * 65))
            self.refused(wire, session, sftp.BAD_MESSAGE, text, "symlink", string(b"x" * 65), string(b"link"))
            self.assertEqual(os.listdir(self.jail), [])

    def test_without_max_path_32768_bytes_reach_the_kernel_and_32769_do_not(self):
        for session, wire, _ in self.each():
            reply = wire.ask("stat", string(b"x" * 32_768))
            self.assertEqual((reply.content, reply.message), (sftp.BAD_MESSAGE, b"Bad message"))
            text = "Limit reached: a path of 32769 bytes, where 32768 are allowed"
            self.refused(wire, session, sftp.BAD_MESSAGE, text, "stat", string(b"x" * 32_769))

    def test_max_entries_is_the_most_of_one_reply(self):
        expected = [b".", b".."]
        for number in range(5):
            (self.jail / str(number)).touch()
            expected.append(b"%d" % number)
        for most, sizes in (("1", [1] * 7), ("3", [3, 3, 1]), ("100", [7])):
            for _, wire, _ in self.each("--max-entries", most):
                wire.ask("opendir", string(b"."))
                pieces = []
                while (reply := wire.ask("readdir", FILE)).kind == "name":
                    pieces.append([entry.name for entry in reply.content])
                self.assertEqual([len(piece) for piece in pieces], sizes)
                self.assertEqual(sorted(sum(pieces, [])), sorted(expected))

    def test_max_extended_refuses_more_attributes_and_passes_over_the_others(self):
        (self.jail / "f").touch()
        for limit, text in (("0", "Limit reached: 1 extended attributes, where 0 are allowed"), ("1", "")):
            for session, wire, _ in self.each("--max-extended", limit):
                self.assertEqual(wire.ask("setstat", string(b"f"), sftp.NO_ATTRS).content, sftp.OK)
                if text:
                    self.refused(wire, session, sftp.BAD_MESSAGE, text, "setstat", string(b"f"), PAIR)
                else:
                    self.assertEqual(wire.ask("setstat", string(b"f"), PAIR).content, sftp.OK)

    def test_all_of_them_can_be_given_at_once_at_either_end_of_their_ranges(self):
        for end in (0, 1):
            flags = [f"{flag}={row[end]}" for flag, row in FLAGS.items()]
            for session, wire, ours in self.each(*flags):
                self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")
                ours.shutdown(socket.SHUT_WR)
                self.assertEqual(session.process.wait(PATIENCE), 0)


class Idle(SessionCase):
    forks = True
    LINE = "session ends: nothing moved for 1 seconds\n"

    def assert_ended(self, session: Door, since: float) -> None:
        """It ends by itself about a second after, cleanly, and says why. The machine may be busy."""
        self.assertEqual(session.process.wait(PATIENCE), 0)
        self.assertGreater(time.monotonic() - since, 0.9)
        self.assertLess(time.monotonic() - since, PATIENCE / 2)
        log = session.log()
        self.assertEqual(log.count(self.LINE), 1)
        self.assertLess(log.index(self.LINE), log.index("session closed for local user"))
        self.assertNotIn("error", log)

    def test_a_session_in_which_nothing_moves_ends_and_without_the_flag_it_does_not(self):
        (self.jail / "f").touch()
        patient = [self.command(prog) for prog in COMMANDS]
        patient += [self.command(prog, "--idle-timeout=1000000") for prog in COMMANDS]
        idle = []
        for prog in COMMANDS:
            session, wire, _ = self.command(prog, "--idle-timeout", "1")
            since = time.monotonic()
            wire.ask("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS)
            idle.append((session, wire, since))
        for session, wire, since in idle:
            self.assert_ended(session, since)
            self.assertEqual(wire.take(1), b"", "the client sees the end")
            self.assertIn("forced close", session.log())
        for number, (session, wire, _) in enumerate(patient):
            self.assertIsNone(session.process.poll())
            session.wait_until_it_waits()
            # It may wait for longer than this test lasts.
            self.assert_polls(session, 0xFFFFFFFF if number < len(COMMANDS) else 1_000_000_000)
            self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")

    def test_a_client_that_says_nothing_at_all_or_half_a_packet_is_ended_too(self):
        started = []
        for prog in COMMANDS:
            for said in (b"", sftp.HELLO[:-1], sftp.HELLO + request("stat", 1, string(b"."))[:-1]):
                since = time.monotonic()
                session, wire, ours = self.command(prog, "--idle-timeout", "1", greet=False)
                started.append((session, since, ours))
                wire.send(said)
        for session, since, _ in started:
            self.assert_ended(session, since)

    def test_a_client_that_never_reads_is_ended_too(self):
        """The server is paused, with a full queue and a full buffer: neither direction moves."""
        (self.jail / "f").write_bytes(bytes(sftp.MAX_DATA))
        block = request("read", 1, FILE, u64(0), u32(sftp.MAX_DATA)) * 1000
        for prog in COMMANDS:
            session, wire, ours = self.command(prog, "--idle-timeout", "1")
            wire.ask("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS)
            sent = 0
            since = full = time.monotonic()  # full: when its buffer was, before it read the last time

            def takes_no_more() -> bool:
                """Whether it ended; what it takes until then is sent."""
                nonlocal sent, since, full
                now = time.monotonic()
                try:
                    while True:
                        sent += ours.send(block[sent % len(block) :], socket.MSG_DONTWAIT)  # noqa: B023
                        since = full
                except BlockingIOError:
                    full = now
                    return False
                except ConnectionError:
                    return True

            until(takes_no_more, "the server ends the session")
            self.assert_ended(session, since)
            self.assertGreater(sent, 1 << 19, "its buffer was full")

    def test_each_byte_lets_the_server_wait_for_the_whole_time_again(self):
        sessions = [self.command(prog, "--idle-timeout", "1000") for prog in COMMANDS]
        asked = request("stat", 7, string(b"."))
        for sent in range(6):  # not one packet is complete: bytes count
            for session, wire, _ in sessions:
                session.wait_until_it_waits()
                before = self.times_woken(session)
                wire.send(asked[sent : sent + 1])
                until(lambda: self.times_woken(session) > before, "it takes the byte")  # noqa: B023
                session.wait_until_it_waits()
                self.assert_polls(session, 1_000_000)
        for _, wire, _ in sessions:
            wire.send(asked[6:])
            number, reply = wire.reply()
            self.assertEqual((number, reply.kind), (7, "attrs"))

    def times_woken(self, session: Door) -> int:
        """How often it has gone to sleep."""
        found = re.search(
            r"(?m)^voluntary_ctxt_switches:\t(\d+)$", Path(f"/proc/{session.pid}/status").read_text()
        )
        assert found is not None
        return int(found[1])

    def assert_polls(self, session: Door, milliseconds: int) -> None:
        """It waits in poll(2) for so long: that is what it has told the kernel."""
        call = Path(f"/proc/{session.pid}/syscall").read_text().split()
        if os.uname().machine == "x86_64":
            self.assertEqual(call[0], "7", "it is in poll(2)")
            self.assertEqual(int(call[3], 16) & 0xFFFFFFFF, milliseconds)


class BadValues(CommandCase):
    """One line and status 2; the requests on standard input get no reply."""

    STDIN = sftp.HELLO + request("mkdir", 1, string(b"served"), sftp.NO_ATTRS)

    def test_are_refused_as_a_word_of_their_own_or_when_they_are_missing(self):
        for self.prog in COMMANDS:
            rest = [self.jail] if self.prog == "pysftpjail" else []
            for flag in ("--max-path", "--idle-timeout"):
                for words in ([flag, "0"], [flag, "-1"], [f"{flag}=1e3"]):
                    with self.subTest(self.prog, words=words):
                        done = self.run_it(*words, *rest, stdin=self.STDIN, cwd=self.jail)
                        self.assert_refused(done, flag)
                self.assert_refused(self.run_it(*rest, flag, stdin=self.STDIN, cwd=self.jail), flag)
        self.assertEqual(os.listdir(self.jail), [])

    def test_the_converter_behind_every_flag_takes_whole_numbers_in_its_range_and_nothing_else(self):
        """The processes above show what becomes of a BadValue."""
        from pysftpserver.cli.options import BadValue
        from pysftpserver.cli.session import LIMIT_OPTIONS

        self.assertEqual([option.flags for option in LIMIT_OPTIONS], [(flag,) for flag in FLAGS])
        for option, (least, most, _) in zip(LIMIT_OPTIONS, FLAGS.values(), strict=True):
            with self.subTest(option.flags):
                self.assertEqual([option.convert(str(value)) for value in (least, most)], [least, most])
                self.assertEqual(option.convert(f"0{most}"), most)
                for text in (*NO_NUMBERS, *DIGITS_OF_OTHERS, *TOO_LONG, str(least - 1), str(most + 1)):
                    with self.assertRaises(BadValue, msg=text):
                        option.convert(text)


class Help(CommandCase):
    def test_names_every_limit_with_its_default_and_its_range(self):
        self.assertEqual([limit.flag for limit in LIMITS], list(FLAGS))
        for self.prog in COMMANDS:
            printed = re.sub(r"\s+", " ", self.help_text())
            for (flag, (least, most, default)), limit in zip(FLAGS.items(), LIMITS, strict=True):
                with self.subTest(self.prog, flag=flag):
                    # From the flag's own entry to the next option's: not the usage line at the top.
                    entry = re.search(rf" {flag} [A-Z]+ ([A-Z].*?)(?= -[-\w]|$)", printed)
                    self.assertIsNotNone(entry)
                    self.assertIn(default, entry[1])
                    self.assertIn(f"{least} to {most} {limit.unit}", entry[1])

    def test_what_the_help_says_of_defaults_is_what_a_session_has(self):
        for self.prog in COMMANDS:
            rest = [self.jail] if self.prog == "pysftpjail" else ["-d", self.jail]
            done = self.run_it(*rest, stdin=sftp.HELLO + request("limits", 1))
            ((_, reply),) = replies(done.stdout)
            self.assertEqual(reply.content[:8], u64(262_144))
            handles = min(1024, (os.sysconf("SC_OPEN_MAX") - 32) // 2)
            self.assertEqual(reply.content[24:], u64(handles))
