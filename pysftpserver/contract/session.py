"""Rules for sessions: when handles are closed, which extensions are announced, and declarations."""

from __future__ import annotations

import os

from pysftpserver.contract.base import EXTENSIONS, FIELDS, METHODS, ContractBase, needs
from pysftpserver.contract.packets import (
    get_sftpextended,
    get_sftphandle,
    get_sftpint64,
    get_sftpstatus,
)
from pysftpserver.engine.wire import SSH2_FX_FAILURE, SSH2_FX_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SessionRules(ContractBase):
    """Handles over a session, extensions, and the author's own declarations."""

    def test_only_what_exists_is_declared_unsupported(self) -> None:
        self.assertEqual(set(self.unsupported) - METHODS - set(FIELDS) - {"nlink"}, set())

    def test_everything_declared_unsupported_is_refused_as_such(self) -> None:
        for what in sorted(self.unsupported):
            with self.subTest(what):
                self.assert_unsupported(what)

    def test_an_extension_is_announced_if_the_storage_has_its_methods(self) -> None:
        for name, methods in EXTENSIONS.items():
            expected = not self.unsupported.intersection(methods)
            self.assertEqual(name in self.client.extensions, expected, name)

    @needs("open", "close", "read")
    def test_every_handle_is_closed_exactly_once(self) -> None:
        closed: list[Any] = []
        close_it, abandon_it = self.storage.close, self.storage.abandon

        def counted(handle: Any) -> None:
            closed.append(handle)
            close_it(handle)

        def abandoned(handle: Any) -> None:
            before = len(closed)
            abandon_it(handle)
            if len(closed) == before:  # it did not call close()
                closed.append(handle)

        self.storage.close = counted  # type: ignore[method-assign]
        self.storage.abandon = abandoned  # type: ignore[method-assign]
        self.put(self.path(b"f"), b"content")
        closed.clear()
        handles = [
            get_sftphandle(self.client.call("open", self.path(b"f"), os.O_RDONLY, 0)) for _ in range(4)
        ]
        self.assertEqual(len(set(handles)), 4)
        self.assertEqual(get_sftpstatus(self.client.call("close", handles[0])), SSH2_FX_OK)
        self.assertEqual(get_sftpstatus(self.client.call("close", handles[0])), SSH2_FX_FAILURE)
        self.assertEqual(len(closed), 1)
        self.client.close()
        self.client.close()
        self.assertEqual(len(closed), 4)

    @needs("statvfs")
    def test_a_client_gets_the_eleven_figures_of_the_file_system(self) -> None:
        self.put(self.path(b"f"), b"")
        body = get_sftpextended(self.client.call("statvfs", self.path(b"f")))
        self.assertEqual(len(body), 11 * 8)
        figures = self.storage.statvfs(self.path(b"f"))
        self.assertEqual(get_sftpint64(body), figures.f_bsize)
        self.assertEqual(get_sftpint64(body[-8:]), figures.f_namemax)
