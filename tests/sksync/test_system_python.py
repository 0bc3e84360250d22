"""The server with the Python of the distribution, which may be older than ours and has no extras."""

from __future__ import annotations

import os
import unittest

from tests.sksync.certificates import Pair
from tests.sksync.processes import ProcessCase

PYTHON = "/usr/bin/python3"
LARGE = 8 << 20  # bytes; more than what the system takes for a client that does not read


@unittest.skipUnless(os.access(PYTHON, os.X_OK), f"there is no {PYTHON}")
class DryRuns(ProcessCase):
    def test_clients_that_break_off_over_tls_leave_no_traceback(self) -> None:
        for number in range(8):
            (self.jail / "share").mkdir(exist_ok=True)
            (self.jail / "share" / f"f{number}").write_bytes(bytes(LARGE))
        pair = Pair(self.place, "server", ("127.0.0.1",))
        server, port = self.start_server(
            PYTHON, use_ssl=True, ssl_server_certfile=pair.certfile, ssl_server_keyfile=pair.keyfile
        )
        section = {
            "server_path": "/share",
            "client_path": str(self.share),
            "recursive": True,
            "sync_type": "BIDIRECTIONAL_USE_TIME",
        }
        settings = {
            "port": port,
            "protocol": "pysksync 2",
            "use_ssl": True,
            "ssl_server_certfile": pair.certfile,
            "clients": {"one": section},
        }
        for _ in range(5):
            self.assertEqual(self.start(settings, "-n", "client", "one").wait(), 0)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("Traceback", server.output())
