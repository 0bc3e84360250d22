"""What the web server uses of cheroot and cheroot does not document: all of it is there, and is called."""

from __future__ import annotations

import inspect
import re
import tomllib
import unittest

from cheroot import server

from pysftpserver.http.connections import Connection
from pysftpserver.http.requests import Request
from pysftpserver.http.server import Server
from tests.support.paths import ROOT

#: Methods that are overridden, and attributes that cheroot's own code reads or sets, by class.
USED = {
    server.HTTPRequest: (
        "read_request_line read_request_headers respond send_headers write simple_response "
        "ensure_headers_sent header_reader inheaders chunked_read chunked_write rfile ready close_connection"
    ),
    server.HTTPConnection: "communicate close RequestHandlerClass remote_addr socket wfile",
    server.HTTPServer: (
        "ConnectionClass process_conn put_conn error_log bind prepare serve socket stop "
        "keep_alive_conn_limit max_request_header_size"
    ),
}
OURS = {
    server.HTTPRequest: Request,
    server.HTTPConnection: Connection,
    server.HTTPServer: Server,
}


class PrivateParts(unittest.TestCase):
    def test_every_part_is_there(self) -> None:
        for kind, names in USED.items():
            source = inspect.getsource(kind)
            for name in names.split():
                with self.subTest(kind.__name__, part=name):
                    self.assertTrue(hasattr(kind, name) or re.search(rf"\bself\.{name}\b", source))

    def test_the_list_has_every_method_that_is_overridden(self) -> None:
        for kind, own in OURS.items():
            overridden = {name for name in vars(own) if not name.startswith("__") and hasattr(kind, name)}
            with self.subTest(own.__name__):
                self.assertLessEqual(overridden, {*USED[kind].split()})

    def test_no_attribute_with_an_underscore_is_cheroots(self) -> None:
        for path in (ROOT / "pysftpserver" / "remo").glob("*.py"):
            with self.subTest(path.name):
                self.assertEqual(re.findall(r"super\(\)\.(_[a-z]\w*)", path.read_text()), [])

    def test_the_version_is_bounded_above(self) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (bounds,) = (line for line in extras["remo"] if line.startswith("cheroot"))
        self.assertRegex(bounds, r">=\d.*,<\d")
