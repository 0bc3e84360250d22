"""pysftpserver.engine.log, and the lines of a session: levels, words, and that no name can forge a line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from unittest import mock

from pysftpserver.engine import log
from pysftpserver.engine.log import (
    DEBUG1,
    DEBUG3,
    ERROR,
    FATAL,
    INFO,
    QUIET,
    VERBOSE,
    SFTPLog,
    file_sink,
    show,
    stderr_sink,
)
from pysftpserver.server import SFTPServer
from tests.support import packets as sftp
from tests.support.cases import InAPlace
from tests.support.packets import Attributes, Client, attrs, packet, request, string, u32, u64
from tests.support.paths import ROOT
from tests.support.storages import Whole

REFERENCE = "/usr/lib/openssh/sftp-server"
NASTY = [
    b"a\nerror: forged",
    b"\x1b]0;title\x07\x1b[2J",
    b"\xff\xfe",
    b"back\\slash\\n",
    b"\r",
    b"\0",
    b"tab\t\x7f",
    "\u202e\u0085\u2028".encode(),
    b"{} {0} %s %n",
]


class WordsOfOthers(unittest.TestCase):
    """Not every line is made here: a hook's reason to end the session goes to the log too."""

    def test_become_one_printable_line(self):
        lines = []
        whole = SFTPLog(lambda level, text: lines.append(text))
        whole.error("a\nforged line \x1b[31m \udc80 \u00e4")
        self.assertEqual(lines, ["a\\nforged line \\x1b[31m \\udc80 \\xe4"])
        whole.error("\x03" * 2000)
        self.assertEqual(len(lines[1]), log.MOST_LINE)


class Lines(unittest.TestCase):
    def test_only_lines_up_to_the_level_are_written(self):
        levels = list(log.LEVELS.values())
        for limit in levels:
            seen: list[int] = []
            logger = SFTPLog(lambda level, text, seen=seen: seen.append(level), limit)
            for level in levels:
                if level != QUIET:
                    logger.write(level, "x")
            self.assertEqual(seen, [level for level in levels if QUIET < level <= limit])

    def test_the_levels_have_the_names_and_the_order_of_sshd(self):
        names = ["QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3"]
        self.assertEqual(list(log.LEVELS), names)
        self.assertEqual(sorted(log.LEVELS.values()), list(log.LEVELS.values()))

    def test_without_a_sink_nothing_is_written(self):
        logger = SFTPLog(None, DEBUG3)
        logger.error("x")
        logger.fault(ValueError("x"))
        self.assertEqual(logger.level, QUIET)

    def test_shown_bytes_are_printable_ascii_and_can_be_told_apart(self):
        for text in (*NASTY, bytes(range(256)), b""):
            with self.subTest(text):
                self.assertRegex(show(text), r"\A[ -~]*\Z")
                back = re.sub(
                    rb"\\(\d{3}|\\)",
                    lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1], 8)]),
                    show(text).encode(),
                )
                self.assertEqual(back, text)
        self.assertEqual(show(b'plain name\'s "quotes"'), 'plain name\'s "quotes"')
        self.assertEqual(show(b"\\"), "\\\\")
        self.assertEqual(show(b"\n\xff"), "\\012\\377")

    def test_no_name_makes_more_than_one_line_or_another_byte_than_printable_ascii(self):
        client = Client(Whole())
        handle = client.open(b"f")
        for name in NASTY:
            path = name.replace(b"\0", b"")
            for kind, *parts in (
                ("open", string(path), u32(sftp.READ), sftp.NO_ATTRS),
                ("remove", string(path)),
                ("stat", string(path)),
                ("rename", string(path), string(path)),
                ("symlink", string(path), string(path)),
                ("mkdir", string(path), sftp.NO_ATTRS),
                ("opendir", string(path)),
                ("setstat", string(path), attrs(Attributes(permissions=1))),
                ("expand-path", string(path)),
                ("home-directory", string(path)),
                ("statvfs", string(path)),
                ("close", string(name)),
            ):
                client.ask(kind, *parts)
            client.feed(packet(sftp.EXTENDED, u32(1) + string(name)))
        client.status("close", handle)
        client.server.close()
        lines = client.lines()
        self.assertGreater(len(lines), 100)
        self.assertEqual([line for line in lines if not re.fullmatch(r"[ -~]*", line)], [])
        self.assertIn('remove name "a\\012error: forged"', lines)

    def test_faults_name_the_calls_and_not_the_files(self):
        seen: list[str] = []
        logger = SFTPLog(lambda level, text: seen.append(text))
        try:
            raise ValueError("a\nb\x1b\ud800")
        except ValueError as error:
            logger.fault(error)
        self.assertRegex(seen[0], r"\AValueError: a\\012b\\033[ -~]*\Z")
        self.assertRegex(
            seen[1], rf"\A  in {__name__}, line \d+, test_faults_name_the_calls_and_not_the_files\Z"
        )
        self.assertEqual(len(seen), 2)

    def test_the_audit_trail_at_info_is_exactly_this(self):
        client = Client(Whole(), INFO)
        handle = client.open(
            b"f",
            sftp.READ | sftp.WRITE | sftp.APPEND | sftp.CREAT | sftp.TRUNC | sftp.EXCL,
            attrs(Attributes(permissions=0o100600)),
        )
        client.ask("read", handle, u64(0), u32(7))
        client.ask("write", handle, u64(0), string(b"abc"))
        client.ask("close", handle)
        client.ask("close", client.opendir(b"d"))
        client.open(b"left", 0)
        client.server.close()
        self.assertEqual(
            client.lines(),
            [
                'open "f" flags READ,WRITE,APPEND,CREATE,TRUNCATE,EXCL mode 0100600',
                'close "f" bytes read 7 written 3',
                'opendir "d"',
                'closedir "d"',
                'open "left" flags  mode 0666',
                'forced close "left" bytes read 0 written 0',
            ],
        )


class Sinks(InAPlace):
    pass

    def test_a_file_is_made_with_mode_0600_whatever_the_umask(self):
        for umask in (0, 0o022):
            path = self.place / f"log{umask}"
            before = os.umask(umask)
            try:
                file_sink(path)(INFO, "x")
            finally:
                os.umask(before)
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600)

    def test_a_file_is_appended_to_with_time_name_pid_and_prefix(self):
        path = self.place / "log"
        path.write_text("before\n")
        sink = file_sink(path, "ident")
        for level in (FATAL, ERROR, INFO, VERBOSE, DEBUG1):
            sink(level, "text")
        first, *lines = path.read_text().splitlines()
        self.assertEqual(first, "before")
        stamp = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z ident\[{os.getpid()}\] "
        for line, text in zip(
            lines, ("fatal: text", "error: text", "text", "text", "debug1: text"), strict=True
        ):
            self.assertRegex(line, rf"\A{stamp}{text}\Z")

    def test_a_file_is_not_inherited_by_children(self):
        path = self.place / "log"
        file_sink(path)
        links = {name: os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
        (descriptor,) = (int(name) for name, target in links.items() if target == str(path.resolve()))
        self.addCleanup(os.close, descriptor)
        self.assertFalse(os.get_inheritable(descriptor))

    def test_a_file_that_cannot_be_opened_is_an_error(self):
        for path in (self.place, self.place / "missing" / "log"):
            with self.assertRaises(OSError):
                file_sink(path)

    def test_a_session_survives_a_full_device_and_a_closed_descriptor(self):
        with SFTPFullLog() as sink:
            server = SFTPServer(Whole(), log=SFTPLog(sink, DEBUG3))
            server.input_queue = sftp.HELLO + request("stat", 1, string(b"/"))
            server.process()
            self.assertTrue(server.output_queue)

    def test_lines_to_stderr_are_bare_and_survive_a_reader_that_went(self):
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as stream, mock.patch.object(sys, "__stderr__", stream):
            sink = stderr_sink()
            sink(ERROR, "an error")
            sink(INFO, "a line")
            sink(DEBUG1, "a detail")
            self.assertEqual(
                os.read(reading, 1000).decode().split("\n")[:3], ["an error", "a line", "debug1: a detail"]
            )
            os.close(reading)
            sink(INFO, "nobody reads this")

    def test_a_process_without_standard_error_is_served(self):
        code = (
            "import os; os.close(2); from pysftpserver.engine.log import INFO, stderr_sink;"
            " stderr_sink()(INFO, 'x'); print('alive')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=30,
        )
        self.assertEqual(done.stdout, "alive\n")


class SFTPFullLog:
    """A sink on a device that is full."""

    def __enter__(self) -> log.Sink:
        return file_sink("/dev/full")

    def __exit__(self, *exception: object) -> None:
        pass
