"""Whether a server says that it is healthy, and why not."""

from __future__ import annotations

import http.client
import io
import json
import unittest
from contextlib import redirect_stdout

from pysftpserver.cli.pysftpctl import COMMANDS
from pysftpserver.sshd.sessions import Sessions
from tests.sshd.inprocess import asynchronous, running
from tests.sshd.serving import HOST, DaemonCase
from tests.sshd.test_logins import files
from tests.support.waiting import PATIENCE, until


class Health(DaemonCase):
    def test_all_processes_are_asked_and_nothing_is_logged(self) -> None:
        daemon = self.daemon("--metrics", "0", workers=2)
        revoked = daemon.directory / "revoked"
        revoked.write_text("")
        daemon.argv += ["--revoked-keys", str(revoked)]
        daemon.start()
        port = int(daemon.process.said(r"metrics on 127\.0\.0\.1 port (\d+)")[1])

        def asked() -> tuple[int, str]:
            connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
            self.addCleanup(connection.close)
            connection.request("GET", "/health")
            response = connection.getresponse()
            return response.status, response.read().decode()

        before = daemon.log()

        def told() -> tuple[int, str]:
            """What pysftpctl says."""
            with redirect_stdout(io.StringIO()) as said:
                status = COMMANDS.run(["health", "--json", "--admin-socket", str(daemon.socket)])
            return status, said.getvalue()

        self.assertEqual(asked(), (200, "ok\n"))
        self.assertEqual(told(), (0, '{"healthy": true, "faults": [], "notes": []}\n'))
        self.assertEqual(daemon.log(), before)
        revoked.unlink()
        until(lambda: asked()[0] == 503, "it is not healthy")
        said = f"revoked_keys {revoked}: no such file or directory"
        self.assertIn(said, asked()[1])
        status, words = told()
        self.assertEqual(status, 1)
        self.assertIn(said, json.loads(words)["faults"])


class OneProcess(unittest.TestCase):
    @asynchronous
    async def test_old_users_are_a_note_and_an_end_is_a_fault(self) -> None:
        async with running(files) as server:
            sessions = Sessions(server.server)
            self.assertEqual(await sessions.health(), {"faults": [], "notes": []})
            server.users._say("Redis is away")
            self.assertEqual(await sessions.health(), {"faults": [], "notes": ["Redis is away"]})
            server.server.is_draining = True
            self.assertEqual((await sessions.health())["faults"], ["the server is stopping"])
