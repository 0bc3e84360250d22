"""A server with read_only changes nothing, whatever asks for it."""

from __future__ import annotations

from pysftpserver.web import actions
from tests.web.serving import HOST, WebCase, basic


class TestReadOnly(WebCase):
    settings = {"read_only": True}

    def test_no_request_of_any_part_changes_anything(self) -> None:
        jail = self.served.jail()
        (jail / "dir").mkdir()
        (jail / "dir" / "file").write_bytes(b"old")

        def seen() -> list[tuple[str, bytes]]:
            every = sorted(jail.rglob("*"))
            return [(str(one), one.read_bytes() if one.is_file() else b"") for one in every]

        before = seen()
        destination = {"Destination": f"http://{HOST}:{self.served.port}/dav/new"}
        with self.served.browser() as program:
            for method in ("PUT", "DELETE", "MKCOL", "COPY", "MOVE", "LOCK", "PROPPATCH"):
                for path in ("/dav/dir/file", "/dav/other"):
                    answer = program.ask(method, path, b"", {"Authorization": basic(), **destination})
                    self.assertEqual(answer.status, 403, (method, path))
        with self.served.logged_in() as browser:
            token = browser.get("/files/").csrf or self.served.door.sessions.all()[-1].csrf
            for do in sorted(actions.ACTIONS.keys() - set(actions.CHANGE_NOTHING)):
                for place in ("/files/", "/files/dir/"):
                    fields = {"csrf": token, "do": do, "name": "new", "new": "new", "chosen": "file"}
                    self.assertEqual(browser.post(place, fields).status, 403, (do, place))
            headers = {"X-CSRF": token, "Content-Type": "application/json"}
            for body in (b'{"path": "/new", "size": 1}', b'{"path": "/new", "folder": true}'):
                answer = browser.ask("POST", "/upload/", body, headers)
                self.assertEqual(answer.status, 403, body)
        self.assertEqual(seen(), before)
