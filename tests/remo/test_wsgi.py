"""The application under other WSGI servers, with its settings in their environ."""

from __future__ import annotations

import threading
import wsgiref.simple_server
import wsgiref.util
import wsgiref.validate
from typing import Any

from pysftpserver.remo import client
from pysftpserver.remo.app import application
from tests.remo.running import SERVER_KEY, USER, USER_KEY, Furnished, quiet
from tests.support.ports import LOOPBACK
from tests.support.processes import open_descriptors


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class UnderAnother(Furnished):
    """wsgiref in a thread. more: of the environ; prefix: where the application is mounted."""

    def setUp(self) -> None:
        super().setUp()
        quiet(self)
        self.environ: dict[str, Any] = {
            "KEYFILE": str(self.place / "remo_serv_key.pem"),
            "USER_SERVICE": f"SQLiteUserService:{self.place / 'users_db.sqlite'}",
        }
        self.prefix = ""
        self.server = wsgiref.simple_server.make_server(LOOPBACK, 0, self.serve, handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.addCleanup(self.thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.multiprocess"] = False
        # What the process's environment has is in wsgiref's environ too.
        environ = {key: value for key, value in environ.items() if not key.startswith("PYSFTP")}
        environ.update(self.environ)
        if self.prefix:
            environ["SCRIPT_NAME"] = self.prefix
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(self.prefix)
        return application(environ, start_response)

    def connect(self, **options: Any) -> client.Client:
        place = f"http://{LOOPBACK}:{self.server.server_port}{self.prefix}"
        remote = client.connect(place, user=USER, key=USER_KEY, server_key=SERVER_KEY.public_key(), **options)
        self.addCleanup(remote.close)
        return remote

    def test_all_but_streams_works_under_one_that_takes_no_chunks(self) -> None:
        remote = self.connect(require_numbered=True)
        (self.place / "big").write_bytes(bytes(300_000))
        self.assertEqual(remote.read(str(self.place / "big")), bytes(300_000))
        self.assertEqual(remote.run("sh -c 'echo out; exit 3'").status, 3)
        command, said = remote.start("cat", b"hello")
        self.assertEqual(said + b"".join(command.finish(b" bye")), b"hello bye")
        with self.assertRaisesRegex(client.RemoError, "411.*chunked bodies"):
            remote.put(b"in chunks", str(self.place / "stored"))
        self.assertFalse((self.place / "stored").exists())
        self.assertEqual(remote.run("true").status, 0)

    def test_it_can_be_mounted_below_a_path(self) -> None:
        self.prefix = "/some/remo"
        remote = self.connect(require_numbered=True)
        self.assertEqual(remote.run("echo here").output, b"here\n")

    def test_settings_of_the_environ_count(self) -> None:
        log = self.place / "audit.log"
        self.environ |= {
            "remo_serv.root": str(self.place),
            "remo_serv.audit": str(log),
            "remo_serv.timeout": "5",
        }
        remote = self.connect()
        self.assertEqual(remote.read("/alice.pem"), (self.place / "alice.pem").read_bytes())
        with self.assertRaises(client.RequestFailed):
            remote.run("true")
        (made,) = application.made.values()
        self.assertEqual(made._values.session_timeout, 5.0)
        self.assertEqual([line.count('"request":"login"') for line in log.read_text().splitlines()][0], 1)
        self.environ["remo_serv.timeout"] = "6"
        self.connect()
        self.assertEqual(len(application.made), 2)
        lines = log.read_text().splitlines()
        self.assertEqual(len(lines), len(set(lines)), "lines are written twice")


class WithoutAServer(Furnished):
    """The application, called as WSGI servers do."""

    def call(self, path: str = "/info", **environ: Any) -> tuple[str, dict[str, str], bytes]:
        given = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", **environ}
        answered: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            answered[:] = [status, dict(headers)]

        body = b"".join(application(given, start_response))
        return answered[0], answered[1], body

    @property
    def settings(self) -> dict[str, str]:
        return {
            "KEYFILE": str(self.place / "remo_serv_key.pem"),
            "USER_SERVICE": f"SqliteUserService:{self.place / 'users_db.sqlite'}",
        }

    def setUp(self) -> None:
        super().setUp()
        quiet(self)

    def test_one_of_several_processes_is_refused_and_the_log_says_why(self) -> None:
        with self.assertLogs("pysftpserver.remo", "ERROR") as logged:
            status, headers, body = self.call(**self.settings, **{"wsgi.multiprocess": True})
        self.assertEqual((status[:3], body), ("500", b"the server has to run in a single process"))
        self.assertEqual(headers["Content-Length"], str(len(body)))
        self.assertEqual(
            [record.getMessage().split(":")[0] for record in logged.records],
            ["this WSGI server runs several processes"],
        )
        self.assertEqual(self.call(**self.settings, **{"wsgi.multiprocess": False})[0], "200 OK")

    def test_bad_settings_are_for_the_log_and_not_for_clients(self) -> None:
        bad = (
            ({"KEYFILE": "/missing/key"}, "key-file: /missing/key"),
            ({"USER_SERVICE": "x"}, "user-service: 'x'"),
            ({"remo_serv.timeout": "soon"}, "remo_serv.timeout: has to be a number of seconds"),
            ({"remo_serv.root": "/missing"}, "root: /missing"),
            ({"remo_serv.prot": "1"}, "remo_serv.prot: unknown key"),
        )
        for more, words in bad:
            with self.subTest(words), self.assertLogs("pysftpserver.remo", "ERROR") as logged:
                status, _, body = self.call(**{**self.settings, **more})
                self.assertEqual((status[:3], body), ("500", b"the server is not set up; its log says more"))
                self.assertTrue(logged.records[0].getMessage().startswith(words), logged.records)
        self.assertEqual(self.call(**self.settings)[0], "200 OK")

    def test_settings_that_fail_again_and_again_leave_nothing_open(self) -> None:
        log = str(self.place / "audit.log")
        before = open_descriptors()
        with self.assertLogs("pysftpserver.remo", "ERROR"):
            for _ in range(5):
                more = {"remo_serv.audit": log, "KEYFILE": "/missing/key"}
                self.assertEqual(self.call(**{**self.settings, **more})[0][:3], "500")
        self.assertLessEqual(open_descriptors(), before + 1)

    def test_it_keeps_to_the_rules_of_wsgi(self) -> None:
        checked = wsgiref.validate.validator(application)
        environ: dict[str, Any] = dict(self.settings)
        wsgiref.util.setup_testing_defaults(environ)
        for path in ("/info", "/get/x", "/missing"):
            environ["PATH_INFO"], environ["SCRIPT_NAME"] = path, ""
            environ["QUERY_STRING"] = ""
            answer = checked(dict(environ), lambda *_: lambda data: None)
            list(answer)
            answer.close()
