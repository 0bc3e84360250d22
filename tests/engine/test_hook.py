"""SFTPHook: what a hook sees of a session, and what it can stop."""

from __future__ import annotations

import os
import unittest
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine.log import ERROR, SFTPLog
from pysftpserver.hook import SFTPEvent, SFTPHook
from pysftpserver.pysftpexceptions import SFTPForbidden, SFTPNotFound, SFTPSessionEnd, SFTPUnsupported
from pysftpserver.server import (
    SSH2_FX_BAD_MESSAGE,
    SSH2_FX_EOF,
    SSH2_FX_FAILURE,
    SSH2_FX_NO_SUCH_FILE,
    SSH2_FX_OK,
    SSH2_FX_OP_UNSUPPORTED,
    SSH2_FX_PERMISSION_DENIED,
    SSH2_FXP_EXTENDED,
    SSH2_FXP_INIT,
    SSH2_FXP_READDIR,
    SSH2_FXP_STAT,
    SFTPServer,
)
from pysftpserver.testing import (
    SFTPTestClient,
    get_sftpdata,
    get_sftphandle,
    get_sftpstat,
    get_sftpstatus,
    sftpcmd,
    sftpint,
    sftpint64,
    sftpstring,
)
from tests.support.memory import SFTPServerMemoryStorage


class Recorder(SFTPHook):
    """Keeps all that happens, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def started(self) -> None:
        self.seen.append("started")

    def ended(self) -> None:
        self.seen.append("ended")

    def before(self, event: SFTPEvent) -> None:
        self.seen.append(("before", event.name, event))

    def after(self, event: SFTPEvent) -> None:
        self.seen.append(("after", event.name, event))

    @property
    def last(self) -> SFTPEvent:
        event: SFTPEvent = self.seen[-1][2]
        return event


class Case(unittest.TestCase):
    def client_of(self, hook: SFTPHook, **options: Any) -> SFTPTestClient:
        """A client of a storage that holds /f; the log's errors go to self.errors."""
        self.errors: list[str] = []
        self.storage = SFTPServerMemoryStorage()
        handle = self.storage.open(b"/f", os.O_WRONLY | os.O_CREAT, 0o666)
        self.storage.write(handle, 0, b"content")
        log = SFTPLog(lambda level, text: self.errors.append(text), ERROR)
        client = SFTPTestClient(self.storage, hook=hook, log=log, **options)
        self.addCleanup(client.close)
        return client


class AHookSees(Case):
    def setUp(self) -> None:
        self.hook = Recorder()
        self.client = self.client_of(self.hook)
        self.assertEqual([entry[:2] for entry in self.hook.seen[1:]], [("before", "init"), ("after", "init")])

    def test_the_beginning_and_the_end_of_the_session_once_each(self) -> None:
        self.assertEqual(self.hook.seen[0], "started")
        self.client.close()
        self.client.close()
        self.assertEqual(self.hook.seen[3:], ["ended"])

    def test_the_version_of_the_client(self) -> None:
        self.assertEqual(self.hook.last.arguments, {"version": 3})
        self.assertIsNone(self.hook.last.path)

    def test_a_request_before_and_after_with_the_same_event(self) -> None:
        self.client.call("stat", b"/f")
        before, after = self.hook.seen[-2:]
        self.assertEqual((before[:2], after[:2]), (("before", "stat"), ("after", "stat")))
        self.assertIs(before[2], after[2])
        event = after[2]
        self.assertEqual((event.path, event.status, event.message), (b"/f", SSH2_FX_OK, b""))
        self.assertGreater(event.seconds, 0)

    def test_the_arguments_by_name(self) -> None:
        self.client.call("rename", b"/f", b"g")
        self.assertEqual(self.hook.last.arguments, {"path": b"/f", "target": b"g"})
        self.client.call("mkdir", b"d", 0o750)
        self.assertEqual(
            self.hook.last.arguments, {"path": b"d", "attributes": SFTPAttributes(permissions=0o750)}
        )
        self.client.call("symlink", b"/link", b"target")
        self.assertEqual(self.hook.last.arguments, {"target": b"target", "path": b"/link"})
        self.assertEqual(self.hook.last.path, b"/link")

    def test_extensions_by_their_short_names(self) -> None:
        self.client.call("rename", b"/f", b"/g", True)
        self.assertEqual(self.hook.last.name, "posix-rename")
        self.client.call("link", b"/g", b"/h")
        self.assertEqual(self.hook.last.name, "hardlink")

    def test_the_status_and_the_message_of_a_failure(self) -> None:
        self.client.call("stat", b"/missing")
        self.assertEqual(
            (self.hook.last.status, self.hook.last.message), (SSH2_FX_NO_SUCH_FILE, b"No such file")
        )
        self.client.call("rmdir", b"/")
        self.assertEqual(self.hook.last.status, SSH2_FX_FAILURE)
        self.client.call("readlink", b"/f")
        self.assertEqual(self.hook.last.status, SSH2_FX_BAD_MESSAGE)

    def test_bytes_read_and_written_and_the_path_of_the_handle(self) -> None:
        handle = get_sftphandle(self.client.call("open", b"f", os.O_RDWR, 0o666))
        opened = self.hook.last
        self.assertEqual((opened.name, opened.path, opened.size), ("open", b"f", 0))
        self.client.call("read", handle, 2, 100)
        self.assertEqual((self.hook.last.path, self.hook.last.size), (b"f", 5))
        self.client.call("write", handle, 7, b"and more")
        self.assertEqual((self.hook.last.path, self.hook.last.size), (b"f", 8))
        self.client.call("read", handle, 100, 1)
        self.assertEqual((self.hook.last.status, self.hook.last.size), (SSH2_FX_EOF, 0))
        self.client.call("fstat", handle)
        self.assertEqual((self.hook.last.name, self.hook.last.path), ("fstat", b"f"))
        self.client.call("close", handle)
        self.assertEqual((self.hook.last.name, self.hook.last.path), ("close", b"f"))
        self.client.call("close", handle)
        self.assertEqual((self.hook.last.path, self.hook.last.status), (None, SSH2_FX_FAILURE))

    def test_bytes_copied_in_the_server(self) -> None:
        source = get_sftphandle(self.client.call("open", b"/f", os.O_RDONLY, 0))
        target = get_sftphandle(self.client.call("open", b"/g", os.O_WRONLY | os.O_CREAT, 0o666))
        numbers = sftpint64(0) + sftpint64(0) + sftpstring(target) + sftpint64(0)
        self.client.ask(SSH2_FXP_EXTENDED, sftpstring(b"copy-data"), sftpstring(source), numbers)
        self.assertEqual((self.hook.last.name, self.hook.last.size), ("copy-data", 7))

    def test_the_path_of_a_listing(self) -> None:
        handle = get_sftphandle(self.client.call("opendir", b"/"))
        self.client.call("readdir", handle)
        self.assertEqual((self.hook.last.name, self.hook.last.path), ("readdir", b"/"))
        self.assertEqual(get_sftpstatus(self.client.ask(SSH2_FXP_READDIR, sftpstring(handle))), SSH2_FX_EOF)
        self.assertEqual(self.hook.last.status, SSH2_FX_EOF)

    def test_the_handles_that_are_closed_when_the_session_ends_before_ended(self) -> None:
        order = self.hook.seen
        close = self.storage.close

        def recorded(handle: Any) -> None:
            order.append("storage.close")
            close(handle)

        self.storage.close = recorded
        self.client.call("open", b"/f", os.O_RDONLY, 0)
        self.client.close()
        self.assertEqual(order[-2:], ["storage.close", "ended"])

    def test_what_is_refused_in_read_only_mode_and_by_lists(self) -> None:
        for options in ({"read_only": True}, {"deny": ["remove"]}, {"allow": ["stat"]}):
            with self.subTest(**options):
                hook = Recorder()
                client = self.client_of(hook, **options)
                reply = client.call("rm", b"/f")
                self.assertEqual(get_sftpstatus(reply), SSH2_FX_PERMISSION_DENIED)
                self.assertEqual((hook.last.name, hook.last.status), ("remove", SSH2_FX_PERMISSION_DENIED))
                self.storage.lstat(b"/f")

    def test_every_request_of_a_burst_in_its_order(self) -> None:
        requests = b"".join(sftpcmd(SSH2_FXP_STAT, sftpstring(b"/%d" % number)) for number in range(5))
        self.client.send(requests)
        paths = [entry[2].path for entry in self.hook.seen[3:] if entry[0] == "before"]
        self.assertEqual(paths, [b"/0", b"/1", b"/2", b"/3", b"/4"])


class Veto(SFTPHook):
    """Raises in one method, and keeps the names of what was served."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.served: list[tuple[str, int]] = []
        self._error = error
        setattr(self, method, self._raise)

    def _raise(self, event: SFTPEvent) -> None:
        if event.name != "init":
            raise self._error

    def after(self, event: SFTPEvent) -> None:
        self.served.append((event.name, event.status))
        super().after(event)


class AHookStops(Case):
    def test_every_request_with_before(self) -> None:
        hook = Veto("before", SFTPForbidden("not today"))
        client = self.client_of(hook)
        reply = client.call("stat", b"/f")
        self.assertEqual(get_sftpstatus(reply), SSH2_FX_PERMISSION_DENIED)
        self.assertIn(b"not today", reply)
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), SSH2_FX_PERMISSION_DENIED)
        self.storage.lstat(b"/f")
        self.assertEqual(hook.served[1:], [("stat", 3), ("remove", 3)])
        self.assertEqual(self.errors, [])

    def test_one_request_by_its_name(self) -> None:
        client = self.client_of(Veto("before_remove", SFTPForbidden()))
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), SSH2_FX_PERMISSION_DENIED)
        self.assertEqual(get_sftpstat(client.call("stat", b"/f")).size, 7)

    def test_one_extension_by_its_name_without_the_domain(self) -> None:
        client = self.client_of(Veto("before_posix_rename", SFTPForbidden()))
        self.assertEqual(get_sftpstatus(client.call("rename", b"/f", b"/g", True)), SSH2_FX_PERMISSION_DENIED)
        self.assertEqual(get_sftpstatus(client.call("rename", b"/f", b"/g")), SSH2_FX_OK)

    def test_a_request_of_a_handle(self) -> None:
        client = self.client_of(Veto("before_write", SFTPForbidden()))
        handle = get_sftphandle(client.call("open", b"/f", os.O_RDWR, 0))
        self.assertEqual(get_sftpstatus(client.call("write", handle, 0, b"x")), SSH2_FX_PERMISSION_DENIED)
        self.assertEqual(get_sftpdata(client.call("read", handle, 0, 100)), b"content")

    def test_with_the_status_of_what_it_raises(self) -> None:
        errors = (
            (SFTPNotFound(), SSH2_FX_NO_SUCH_FILE),
            (SFTPUnsupported(), SSH2_FX_OP_UNSUPPORTED),
            (PermissionError(13, "x"), SSH2_FX_PERMISSION_DENIED),
        )
        for error, status in errors:
            with self.subTest(error=error):
                client = self.client_of(Veto("before_stat", error))
                self.assertEqual(get_sftpstatus(client.call("stat", b"/f")), status)
                self.assertEqual(self.errors, [])

    def test_with_any_other_exception_as_a_failure_that_is_logged(self) -> None:
        hook = Veto("before_remove", ZeroDivisionError("a mistake in the hook"))
        client = self.client_of(hook)
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), SSH2_FX_FAILURE)
        self.storage.lstat(b"/f")
        self.assertEqual(hook.served[-1], ("remove", SSH2_FX_FAILURE))
        self.assertIn("ZeroDivisionError: a mistake in the hook", self.errors)
        self.assertEqual(get_sftpstat(client.call("stat", b"/f")).size, 7, "the session goes on")

    def test_the_whole_session_before_a_request(self) -> None:
        client = self.client_of(Veto("before_remove", SFTPSessionEnd("over")))
        handle = get_sftphandle(client.call("open", b"/f", os.O_RDONLY, 0))
        self.assertEqual(client.call("rm", b"/f"), b"")
        self.assertEqual(client.server.ended, "over")
        self.storage.lstat(b"/f")
        self.assertEqual(client.call("read", handle, 0, 1), b"", "nothing is served any more")

    def test_the_whole_session_after_a_request(self) -> None:
        client = self.client_of(Veto("after_remove", SFTPSessionEnd("quota")))
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), SSH2_FX_OK)
        self.assertEqual(client.server.ended, "quota")
        self.assertEqual(client.call("stat", b"/"), b"")

    def test_a_session_at_init(self) -> None:
        class Refusing(SFTPHook):
            def before_init(self, event: SFTPEvent) -> None:
                raise SFTPForbidden

        server = SFTPServer(SFTPServerMemoryStorage(), hook=Refusing())
        server.input_queue = sftpcmd(SSH2_FXP_INIT, sftpint(3))
        server.process()
        self.assertEqual(server.output_queue, b"")
        self.assertIsNotNone(server.ended)

    def test_nothing_when_it_raises_afterwards(self) -> None:
        client = self.client_of(Veto("after_remove", ValueError("too late")))
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), SSH2_FX_OK)
        self.assertIn("ValueError: too late", self.errors)
        self.assertEqual(get_sftpstatus(client.call("stat", b"/f")), SSH2_FX_NO_SUCH_FILE)
