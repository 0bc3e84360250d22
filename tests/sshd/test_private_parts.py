"""What the server uses of libraries and is not promised: all of it is listed, and all of it is there."""

from __future__ import annotations

import asyncio
import inspect
import re
import unittest
from pathlib import Path

import asyncssh

from tests.sshd.inprocess import KEY, asynchronous, running
from tests.sshd.test_logins import files

SOURCES = Path(__file__).parents[2] / "pysftpserver" / "sshd"
#: Attributes that begin with an underscore, of other objects than self.
PRIVATE = {"_transport"}


class PrivateParts(unittest.TestCase):
    def test_the_list_is_complete(self) -> None:
        found = set()
        for path in SOURCES.glob("*.py"):
            found |= set(re.findall(r"(?<!self)(?<!os)\.(_[a-z]\w*)", path.read_text()))
        self.assertEqual(found, PRIVATE)

    @asynchronous
    async def test_a_connection_has_its_transport_and_leaves_pausing_to_us(self) -> None:
        async with running(files) as server, await server.connect():
            (connection,) = server.server.connections
            conn = connection.conn
            self.assertIsInstance(conn._transport, asyncio.Transport)
            for name in ("pause_writing", "resume_writing"):
                source = inspect.getsource(getattr(type(conn), name))
                self.assertIn("Do nothing with this for now", source)

    def test_a_key_verifies_by_the_algorithms_that_it_is_left(self) -> None:
        key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
        public = key.convert_to_public()
        signature = key.sign(b"data", b"ssh-rsa")
        self.assertTrue(public.verify(b"data", signature))
        public.all_sig_algorithms = public.all_sig_algorithms - {b"ssh-rsa"}
        self.assertFalse(public.verify(b"data", signature))
        self.assertTrue(KEY.convert_to_public().verify(b"data", KEY.sign(b"data", b"ssh-ed25519")))
