"""The audit log of the browser door: one record for each login, act and end, in the schema of all doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.http.files import FileProblem
from pysftpserver.web.wire import Reply, Request
from tests.support.auditing import moment, records_of
from tests.support.waiting import until
from tests.web.serving import HOST, PASSWORDS, Served, WebCase, basic

NAME = b"/a\xff\n\x1b[2J"  # no UTF-8, and what would forge a line or drive a terminal


class Acts:
    """A part that notes what it is asked to."""

    needs_login = True
    is_for_programs = False

    def answer(self, request: Request, rest: bytes) -> Reply:
        session = request.session
        assert session is not None
        session.note("put", NAME, 5, seconds=0.25)
        session.note(
            "rename", b"/a", error=FileProblem("permission denied", "PERMISSION_DENIED"), target=NAME
        )
        session.note("remove", b"/a", error=FileNotFoundError(2, "No such file or directory"))
        return Reply(b"done")


class TestRecords(WebCase):
    audit: Path

    @classmethod
    def make(cls, place: Path) -> Served:
        cls.audit = place / "audit.log"
        served = Served(place, audit=str(cls.audit))
        served.door.application.parts[b"acts"] = Acts()
        return served

    def setUp(self) -> None:
        super().setUp()
        self.before = self.audit.stat().st_size

    def records(self) -> list[dict[str, Any]]:
        """What this test has added."""
        return records_of(self.audit.read_bytes()[self.before :])

    def test_a_session_has_records_from_login_to_end_with_its_name_and_peer(self) -> None:
        with self.served.logged_in() as browser:
            port = browser.connection.sock.getsockname()[1]
            session = self.served.door.sessions.all()[-1]  # other tests have left some
            self.assertEqual(browser.get("/acts").text, "done")
            browser.post("/logout", {"csrf": session.csrf})
        found = self.records()
        self.assertEqual([one["request"] for one in found], ["login", "put", "rename", "remove", "end"])
        self.assertEqual({one["session"] for one in found}, {session.label})
        self.assertEqual({(one["user"], one["peer"], one["port"]) for one in found}, {("alice", HOST, port)})
        login, put, rename, remove, end = found
        self.assertEqual((login["by"], login["result"]), ("password", "OK"))
        self.assertEqual((put["path_hex"], put["bytes"], put["duration"]), (NAME.hex(), 5, 0.25))
        self.assertLess(moment(put), moment(end))
        self.assertEqual((rename["result"], rename["message"]), ("PERMISSION_DENIED", "permission denied"))
        self.assertEqual(rename["target_hex"], NAME.hex())
        self.assertEqual(remove["result"], "NO_SUCH_FILE")
        self.assertEqual((end["bytes"], end["message"]), (5, "logged out"))
        self.assertEqual(self.audit.stat().st_mode & 0o777, 0o600)
        for secret in (session.id, session.csrf, PASSWORDS["alice"]):
            self.assertNotIn(secret, self.audit.read_text())

    def test_a_refused_login_is_recorded_with_the_reason_that_the_person_is_not_told(self) -> None:
        with self.served.browser() as browser:
            browser.log_in(password="a wrong guess")
            browser.log_in("nobody", "a wrong guess")
        found = self.records()
        self.assertEqual(
            [(one["user"], one["request"], one["result"], one["message"]) for one in found],
            [
                ("alice", "login", "PERMISSION_DENIED", "wrong password"),
                ("nobody", "login", "PERMISSION_DENIED", "unknown user"),
            ],
        )
        self.assertNotIn("wrong guess", self.audit.read_text())

    def test_after_the_file_was_renamed_a_reload_goes_on_in_a_new_one(self) -> None:
        old = self.audit.rename(self.audit.with_suffix(".1"))
        self.served.door.reload()
        self.before = 0
        with self.served.logged_in("bob"):
            pass
        self.assertEqual([one["user"] for one in self.records()], ["bob"])
        old.unlink()

    def test_what_cannot_be_recorded_begins_no_session_and_ends_one(self) -> None:
        with self.served.logged_in() as browser, self.served.browser() as other:
            with mock.patch("os.write", side_effect=OSError(28, "No space left on device")):
                self.assertEqual(other.log_in("bob").status, 503)
                browser.get("/acts")
            until(lambda: browser.get("/acts").status == 303, "the session goes on without records")
        self.log.wait("no space left on device")


class TestWebDAV(WebCase):
    @classmethod
    def make(cls, place: Path) -> Served:
        return Served(place, audit=str(place / "audit.log"))

    def test_programs_have_records_of_what_they_change_and_fetch(self) -> None:
        audit, served = self.place / "audit.log", self.served
        auth = {"Authorization": basic()}
        with served.browser() as browser:
            base = {"Destination": f"http://{HOST}:{served.port}/dav/b"}
            for method, path, body, headers, status in (
                ("PUT", "/dav/a", b"12345", {}, 201),
                ("GET", "/dav/a", None, {}, 200),
                ("MOVE", "/dav/a", None, base, 201),
                ("COPY", "/dav/b", None, {"Destination": base["Destination"] + "2"}, 201),
                ("MKCOL", "/dav/dir", None, {}, 201),
                ("DELETE", "/dav/b", None, {}, 204),
            ):
                answer = browser.ask(method, path, body, {**auth, **headers})
                self.assertEqual(answer.status, status, (method, path))
        found = records_of(audit.read_bytes())
        shown = [(one["request"], one["path"], one["result"]) for one in found]
        self.assertEqual(
            shown,
            [
                ("login", None, "OK"),
                ("put", "/a", "OK"),
                ("get", "/a", "OK"),
                ("rename", "/a", "OK"),
                ("copy", "/b", "OK"),
                ("mkdir", "/dir", "OK"),
                ("remove", "/b", "OK"),
            ],
        )
        self.assertEqual((found[1]["bytes"], found[2]["bytes"]), (5, 5))
        self.assertEqual((found[3]["target"], found[4]["target"]), ("/b", "/b2"))
        self.assertEqual({one["session"] for one in found}, {found[0]["session"]})
