from __future__ import annotations

import os
import signal
import tempfile
import threading
import unittest
import unittest.mock
from typing import Any

from pysftpserver.failures import BadInput
from pysftpserver.host import sandbox
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.site import ledger as ledger_module
from pysftpserver.site.ledger import Ledger
from tests.support.waiting import until


class LedgerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.state = self.enterContext(tempfile.TemporaryDirectory())

    def ledger(self) -> Ledger:
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        return ledger

    def child(self, act) -> int:
        """A process that does something with a ledger of its own, and then waits to be killed."""
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            try:
                ledger = Ledger(self.state)
                act(ledger)
                os.write(writing, b"!")
                signal.pause()
            finally:
                os._exit(1)
        self.addCleanup(os.close, reading)
        os.close(writing)
        self.assertEqual(os.read(reading, 1), b"!")
        return process

    def holder(self, context: Any) -> int:
        """A process that stays in a context of its ledger until it is killed. context: makes one."""
        kept = []

        def act(ledger: Ledger) -> None:
            kept.append(context(ledger))  # what is dropped is left
            kept[0].__enter__()

        return self.child(act)

    def kill(self, process: int) -> None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


class TheLedger(LedgerCase):
    def test_what_a_transaction_raises_in_is_undone(self):
        ledger = self.ledger()
        with ledger.changing() as database:
            database.execute("INSERT INTO account VALUES ('a', '', 1, 1)")
        with self.assertRaises(ZeroDivisionError), ledger.changing() as database:
            database.execute("UPDATE account SET bytes = 7")
            raise ZeroDivisionError
        self.assertEqual(self.ledger().ask("SELECT bytes FROM account"), [(1,)])

    def test_a_session_runs_until_its_process_is_killed(self):
        ledger = self.ledger()
        process = self.child(lambda other: other.open_session({"user": "alice"}))
        ((number,),) = ledger.ask("SELECT id FROM session")
        self.assertTrue(ledger.is_running(number))
        self.assertEqual(ledger.ended_sessions(), [])
        self.kill(process)
        self.assertEqual(ledger.ended_sessions(), [number])
        self.assertEqual(ledger.who(number), {"user": "alice"})
        ledger.forget_sessions()
        self.assertEqual(ledger.ask("SELECT id FROM session"), [])

    def test_two_ledgers_of_one_process_exclude_each_other(self):
        first, second, third = self.ledger(), self.ledger(), self.ledger()
        order = []

        def wait() -> None:
            with second.holding([b"alice"]):
                order.append("second")

        with first.holding([b"alice"]):
            thread = threading.Thread(target=wait)
            thread.start()
            with third.changing():  # other locks are free
                order.append("first")
        thread.join()
        self.assertEqual(order, ["first", "second"])

    def test_a_killed_process_holds_nothing(self):
        ledger = self.ledger()
        self.kill(self.holder(lambda other: other.holding([b"alice"])))
        with ledger.holding([b"alice"]):
            pass

    def test_a_process_that_hangs_holds_others_up_for_some_time_only(self):
        quick = {"PATIENCE": 0.05, "TURN_PATIENCE": 0.05}
        self.enterContext(unittest.mock.patch.multiple(ledger_module, **quick))
        ledger = self.ledger()
        for hold in (lambda other: other.changing(), lambda other: other.holding([b"alice"])):
            process = self.holder(hold)
            words = "Another session has held the ledger of this site for 0.05 seconds; try again later"
            with self.assertRaisesRegex(SFTPFailure, words):
                with ledger.holding([b"alice"]), ledger.changing():
                    pass
            self.kill(process)
            with ledger.holding([b"alice"]), ledger.changing():
                pass
        process = self.holder(lambda other: other.changing())
        with self.assertRaisesRegex(BadInput, f"^state {self.state}: Another session"):
            Ledger(self.state)
        self.kill(process)

    def test_a_ledger_that_cannot_be_written_says_so(self):
        ledger = self.ledger()
        with self.assertRaisesRegex(SFTPFailure, "The ledger of this site cannot be written: no such table"):
            with ledger.changing() as database:
                database.execute("INSERT INTO missing VALUES (1)")
        with ledger.changing() as database:
            database.execute("INSERT INTO account VALUES ('a', '', 1, 1)")

    def test_there_is_one_deliverer_at_a_time(self):
        first, second = self.ledger(), self.ledger()
        self.assertFalse(second.has_deliverer())
        self.assertTrue(first.become_deliverer())
        self.assertTrue(second.has_deliverer())
        self.assertFalse(second.become_deliverer())
        first.close()
        self.assertTrue(second.become_deliverer())

    def test_it_works_in_a_sandbox_that_keeps_its_directory_open(self):
        def write(other: Ledger, read_only: bool) -> None:
            sandbox.confine([other.directory], read_only=read_only)
            other.open_session({})
            for number in range(300):  # enough for checkpoints of the log of writes
                with other.changing(durable=not number % 100) as database:
                    name = f"{read_only}{number}"
                    database.execute("INSERT INTO account VALUES (?, '', 1, zeroblob(10000))", (name,))
            other.wake()

        for read_only in (False, True):
            self.kill(self.child(lambda other, read_only=read_only: write(other, read_only)))
        self.assertEqual(self.ledger().ask("SELECT count(*) FROM account"), [(600,)])

    def test_a_directory_that_is_missing_or_open_to_everybody_is_refused(self):
        os.chmod(self.state, 0o777)
        for path in (self.state, f"{self.state}/missing"):
            with self.assertRaisesRegex(BadInput, "^state "):
                Ledger(path)

    def test_a_ledger_of_another_version_is_refused(self):
        with self.ledger().changing() as database:
            database.execute("PRAGMA user_version = 99")
        with self.assertRaisesRegex(BadInput, "newer version"):
            Ledger(self.state)

    def test_many_processes_write_at_once_and_lose_nothing(self):
        def act(other: Ledger) -> None:
            for _ in range(50):
                with other.changing() as database:
                    database.execute("UPDATE account SET bytes = bytes + 1")
            other.wake()

        with self.ledger().changing() as database:
            database.execute("INSERT INTO account VALUES ('a', '', 0, 0)")
        processes = []
        for _ in range(4):
            process = os.fork()
            if not process:
                try:
                    act(Ledger(self.state))
                    os._exit(0)
                finally:
                    os._exit(1)
            processes.append(process)
        for process in processes:
            self.assertEqual(os.waitpid(process, 0)[1], 0)
        until(lambda: self.ledger().ask("SELECT bytes FROM account") == [(200,)])
