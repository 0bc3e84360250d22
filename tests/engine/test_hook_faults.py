"""Hooks that fail, around a session and at INIT: it ends as it should, and the log says why."""

from __future__ import annotations

import unittest

from pysftpserver.engine.log import DEBUG3, ERROR, SFTPLog
from pysftpserver.hook import SFTPEvent, SFTPHook
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.server import SFTPServer
from tests.support.packets import HELLO, Client, request, string
from tests.support.storages import Whole


class Ending(SFTPHook):
    """Raises `error` when the session is over."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def ended(self) -> None:
        self.calls += 1
        raise self.error


class Doorkeeper(SFTPHook):
    """Raises `error` at INIT."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def before_init(self, event: SFTPEvent) -> None:
        raise self.error


class AHookThatFailsAtTheEnd(unittest.TestCase):
    def test_leaves_close_quiet_and_is_called_once(self) -> None:
        for error in (ValueError("why"), OSError(5, "why"), SystemExit("why"), SFTPSessionEnd("why")):
            with self.subTest(repr(error)):
                hook = Ending(error)
                storage = Whole()
                client = Client(storage, hook=hook)
                client.open(b"f")
                client.server.close()
                client.server.close()
                self.assertEqual(hook.calls, 1)
                self.assertEqual(storage.calls.count("close"), 1)
                self.assertTrue([line for line in client.lines(ERROR) if type(error).__name__ in line])


class AHookThatFailsAtInit(unittest.TestCase):
    def refused(self, error: BaseException) -> tuple[SFTPServer, list[str]]:
        """A session that ended at INIT, with nothing said or served, and what it logged as errors."""
        lines: list[str] = []
        log = SFTPLog(lambda level, text: lines.append(text) if level <= ERROR else None, DEBUG3)
        storage = Whole()
        server = SFTPServer(storage, hook=Doorkeeper(error), log=log)
        self.addCleanup(server.close)
        server.input_queue = HELLO + request("stat", 1, string(b"/"))
        server.process()
        self.assertIsNotNone(server.ended)
        self.assertEqual((server.output_queue, server.input_queue, storage.calls), (b"", b"", []))
        return server, lines

    def test_with_a_system_exit_ends_the_session_and_the_log_says_so(self) -> None:
        server, lines = self.refused(SystemExit("leaving"))
        self.assertIn(f"session ends: {server.ended}", lines)
        self.assertTrue([line for line in lines if "SystemExit" in line], lines)

    def test_with_a_session_end_ends_it_for_its_own_reason_and_without_a_traceback(self) -> None:
        server, lines = self.refused(SFTPSessionEnd("not before nine"))
        self.assertEqual(server.ended, "not before nine")
        self.assertEqual(lines, ["session ends: not before nine"])
