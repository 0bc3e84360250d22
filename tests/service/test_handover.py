"""What a process gets from the one that it takes over from, and what it says to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase, mock

from pysftpserver.failures import Unavailable
from pysftpserver.service import handover, keeping
from pysftpserver.service.handover import Predecessor, Sockets, Successor
from pysftpserver.service.serving import listening_sockets
from tests.support.waiting import PATIENCE, until

HOST = "127.0.0.1"


class TakingOver(TestCase):
    def setUp(self) -> None:
        self.awaited, self.ready = os.pipe()
        self.addCleanup(os.close, self.awaited)

    def told(self, sockets: dict[str, list[int]]) -> Sockets:
        told = {"process": os.getpid(), "ready": self.ready, "sockets": sockets}
        with mock.patch.dict(os.environ, {handover.VARIABLE: json.dumps(told)}):
            found = Sockets()
            self.assertNotIn(handover.VARIABLE, os.environ)  # it is for this process alone
        return found

    def test_a_process_listens_on_what_it_got_and_hands_it_on(self) -> None:
        own = Sockets()
        (group,) = listening_sockets([HOST], 0, handed=own)
        name, (descriptor,) = next(iter(own.offered().items()))
        later = self.told({name: [os.dup(descriptor)]})
        (taken,) = listening_sockets([HOST], 0, handed=later)
        self.assertEqual(taken[0].getsockname(), group[0].getsockname())
        self.assertEqual(later.offered(), {name: [taken[0].fileno()]})
        self.assertFalse(os.get_inheritable(taken[0].fileno()))
        for one in (*group, *taken):
            one.close()
        later.ready()
        self.assertEqual(os.read(self.awaited, 100), b"%d\n" % os.getpid())
        self.assertFalse(later.is_awaited)

    def test_a_socket_that_the_settings_do_not_name_any_more_is_closed(self) -> None:
        with socket.create_server((HOST, 0)) as old:
            later = self.told({"another": [os.dup(old.fileno())]})
            port = old.getsockname()[1]
        later.ready()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((HOST, port), PATIENCE)

    def test_a_predecessor_that_waits_no_more_is_an_error(self) -> None:
        later = self.told({})
        os.dup2(os.open(os.devnull, os.O_RDONLY), self.awaited)  # nobody reads the pipe
        with self.assertRaisesRegex(Unavailable, "waits no more"):
            later.ready()

    def test_what_no_predecessor_has_said_is_refused(self) -> None:
        os.close(self.ready)
        for wrong in (
            "{",
            "[]",
            "{}",
            '{"ready": 1}',
            '{"process": 1, "ready": 1, "sockets": {"a": [999999]}}',
        ):
            with self.subTest(wrong), mock.patch.dict(os.environ, {handover.VARIABLE: wrong}):
                self.assertRaisesRegex(Unavailable, "were not handed over", Sockets)


class HandingOver(TestCase):
    def started(self, code: str) -> Successor:
        with mock.patch.object(handover, "own_command", lambda: [sys.executable, "-c", code]):
            return Successor(Sockets(), {"A_VARIABLE": "a"})

    def test_the_new_process_is_known_when_it_is_ready(self) -> None:
        code = (
            "import json, os; told = json.loads(os.environ['PYSFTPSERVER_HANDED_OVER']); "
            "os.environ['A_VARIABLE']; os.write(told['ready'], b'%d\\n' % os.getpid())"
        )
        process = self.started(code).process()
        self.assertGreater(process, 1)
        self.assertNotEqual(process, os.getpid())
        self.assertTrue(Predecessor(process).has_ended(PATIENCE))

    def test_one_that_ends_is_an_error(self) -> None:
        new = self.started("import sys; sys.exit(3)")
        with self.assertRaisesRegex(Unavailable, "the new version has ended"):
            new.process()

    def test_one_that_is_late_is_an_error(self) -> None:
        code = (
            "import json, os, select; told = json.loads(os.environ['PYSFTPSERVER_HANDED_OVER']); "
            "poll = select.poll(); poll.register(told['ready'], 0); poll.poll()"  # until nobody waits for it
        )
        with mock.patch.object(handover, "PATIENCE", 0.0):
            new = self.started(code)
            self.assertTrue(new.has_told())
            with self.assertRaisesRegex(Unavailable, "was not ready within 0 seconds"):
                new.process()

    def test_one_that_is_abandoned_ends_even_if_it_has_become_ready_meanwhile(self) -> None:
        code = (
            "import json, os, signal; told = json.loads(os.environ['PYSFTPSERVER_HANDED_OVER']); "
            "os.write(told['ready'], b'%d\\n' % os.getpid()); os.close(told['ready']); signal.pause()"
        )
        new = self.started(code)
        until(new.has_told)
        new.abandon()
        with (
            mock.patch.object(os, "kill", wraps=os.kill) as killed,
            self.assertRaisesRegex(Unavailable, "this process ends"),
        ):
            new.process()
        self.assertTrue(Predecessor(killed.call_args[0][0]).has_ended(PATIENCE))
        new = self.started("import signal; signal.alarm(60); signal.pause()")
        new.abandon()
        self.assertRaisesRegex(Unavailable, "this process ends", new.process)

    def test_what_cannot_be_started_is_an_error(self) -> None:
        for name in ("os.pipe", "pysftpserver.service.handover.own_command"):
            fault = mock.patch(name, side_effect=OSError(24, "Too many open files"))
            with (
                self.subTest(name),
                fault,
                self.assertRaisesRegex(Unavailable, "cannot be started: too many"),
            ):
                Successor(Sockets(), {})

    def test_the_first_process_of_a_container_hands_nothing_over(self) -> None:
        with mock.patch("os.getpid", return_value=1), self.assertRaisesRegex(Unavailable, "container"):
            Successor(Sockets(), {})

    def test_a_script_is_run_by_the_interpreter_on_its_first_line_and_code_by_this_one(self) -> None:
        with mock.patch.object(sys, "argv", ["/bin/sh", "-x"]):
            self.assertEqual(handover.own_command(), ["/bin/sh", "-x"])
        with (
            mock.patch.object(sys, "argv", ["-c", "x"]),
            mock.patch.object(sys, "orig_argv", ["p", "-c", "1", "x"]),
        ):
            self.assertEqual(handover.own_command(), [sys.executable, "-c", "1", "x"])


class KeptCode(TestCase):
    def test_what_cannot_be_read_is_passed_over(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            top = Path(name)
            (top / "room").mkdir()
            for file in ("__init__.py", "good.py", "room/__init__.py"):
                (top / file).write_text("")
            (top / ".#good.py").symlink_to("nobody@host.1:2")
            (top / "odd.py").mkdir()
            kept = keeping.Kept(name)
            for module, is_kept in (("good", True), ("room", True), ("odd", False), (".#good", False)):
                self.assertEqual(kept.find_spec(f"pysftpserver.{module}") is not None, is_kept, module)
            keeping.Kept(str(top / "good.py"))  # where a ZIP file would be

    def test_each_module_is_found_once_it_was_read_and_is_the_same(self) -> None:
        code = (
            "from pysftpserver.service.keeping import keep_code; keep_code(); keep_code(); import sys\n"
            "import pysftpserver.service.sums as sums, pysftpserver.storages.objects as package\n"
            "kept = sys.meta_path[0]; assert type(kept) is not type(sys.meta_path[1])\n"
            "assert sums.__loader__ is kept and sums.__file__.endswith('service/sums.py')\n"
            "assert package.__path__ and kept.find_spec('json') is None\n"
            "print(sums.understood.__name__, 'pysftpserver.web' in kept._files)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.stdout, done.stderr), ("understood False\n", ""))
        self.assertNotIn("pysftpserver", keeping.APART)
