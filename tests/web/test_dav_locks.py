"""Locks over WebDAV: what they stop, whom they stop, and how many there may be."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

from pysftpserver.web import dav_locks
from tests.web.davs import EXCLUSIVE, SHARED, DavCase
from tests.web.serving import Served, user_lines


class TestLocks(DavCase):
    def test_what_is_locked_is_changed_with_the_token_alone(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d/a").write_text("one")
        token = self.locked("/d")
        changes = {
            "PUT": "/d/a",
            "DELETE": "/d/a",
            "MKCOL": "/d/new",
            "MOVE": "/d/a",
            "PROPPATCH": "/d/a",
            "LOCK": "/d/a",
        }
        update = '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x/></D:prop></D:set></D:propertyupdate>'
        bodies = {"PUT": "x", "PROPPATCH": update, "LOCK": EXCLUSIVE}
        for method, path in changes.items():
            found = self.status(method, path, bodies.get(method), Destination=self.url("/b"))
            self.assertEqual(found, 423, method)
        self.assertEqual(self.status("DELETE", "/d"), 423)
        self.assertEqual(self.status("GET", "/d/a"), 200)
        self.assertEqual(self.status("PUT", "/d/a", b"x", If=f"<{self.url('/d')}> ({token})"), 204)
        self.assertEqual(self.status("UNLOCK", "/d/a", Lock_Token="<urn:uuid:0>"), 409)
        self.assertEqual(self.status("UNLOCK", "/d/a", Lock_Token=token), 204)
        self.assertEqual(self.status("DELETE", "/d"), 204)

    def test_a_lock_of_nothing_makes_an_empty_file(self) -> None:
        answer = self.ask("LOCK", "/a", EXCLUSIVE, Timeout="Infinite, Second-4100000000")
        self.assertEqual((answer.status, (self.jail / "a").read_bytes()), (201, b""))
        token = answer.headers["Lock-Token"]
        self.assertEqual(self.status("PUT", "/a", b"one", If=f"({token})"), 204)
        self.assertEqual(self.status("LOCK", "/none/a", EXCLUSIVE), 409)

    def test_shared_locks_go_together_and_exclusive_ones_do_not(self) -> None:
        (self.jail / "a").write_text("one")
        first, second = self.locked("/a", SHARED), self.locked("/a", SHARED)
        self.assertNotEqual(first, second)
        self.assertEqual(self.status("LOCK", "/a", EXCLUSIVE), 423)
        self.assertEqual(self.status("LOCK", "/", EXCLUSIVE), 423)
        self.assertEqual(self.status("PUT", "/a", b"x"), 423)
        self.assertEqual(self.status("PUT", "/a", b"x", If=f"({second})"), 204)

    def test_a_lock_ends_by_itself_unless_it_is_refreshed(self) -> None:
        (self.jail / "a").write_text("one")
        answer = self.ask("LOCK", "/a", EXCLUSIVE, Timeout="Second-100000")
        self.assertIn(f"Second-{int(dav_locks.LONGEST)}<", answer.text)
        token = answer.headers["Lock-Token"]
        self.assertEqual(self.status("LOCK", "/a", None, If=f"({token})", Timeout="Second-5"), 200)
        later = dav_locks.time.monotonic() + 6
        with mock.patch.object(dav_locks.time, "monotonic", return_value=later):
            self.assertEqual(self.status("LOCK", "/a", None, If=f"({token})"), 412)
            self.assertEqual(self.status("PUT", "/a", b"x"), 204)

    def test_locks_end_with_what_they_are_about(self) -> None:
        token = self.locked("/a")
        self.assertEqual(self.status("MOVE", "/a", Destination=self.url("/b"), If=f"({token})"), 201)
        self.assertEqual(self.status("PUT", "/b", b"x"), 204)
        self.assertEqual(self.status("PUT", "/a", b"x"), 201)

    def test_one_user_has_so_many_locks_and_no_more(self) -> None:
        most = 5
        with mock.patch.object(self.locks, "_most_per_user", most):
            tokens = [self.locked(f"/{number}") for number in range(most)]
            self.assertEqual(self.status("LOCK", "/more", EXCLUSIVE), 507)
            self.assertFalse((self.jail / "more").exists())
            (self.served.jail("bob") / self.jail.name).mkdir()
            self.locked("/bobs", name="bob")
        for number, token in enumerate(tokens):
            self.assertRegex(token, "^<urn:uuid:[0-9a-f-]{36}>$")
            self.assertEqual(self.status("UNLOCK", f"/{number}", Lock_Token=token), 204)

    def test_a_lock_does_not_stop_users_of_other_directories(self) -> None:
        (self.served.jail("bob") / self.jail.name).mkdir()
        self.locked("/a")
        self.assertEqual(self.ask("PUT", "/a", b"x", "bob").status, 201)
        self.locked("/b", name="bob")

    def test_a_malformed_lock_is_refused(self) -> None:
        for body in ("<x/>", EXCLUSIVE.replace("write", "read"), EXCLUSIVE.replace("exclusive", "x")):
            self.assertEqual(self.status("LOCK", "/a", body), 400)
        self.assertEqual(self.status("LOCK", "/a", EXCLUSIVE, Depth="1"), 400)
        long = EXCLUSIVE.replace("a test", "x" * 100_000)
        answer = self.ask("LOCK", "/a", long)
        self.assertEqual((answer.status, len(answer.body) < 2000), (201, True))


class TestShared(DavCase):
    """Two users of one directory."""

    settings = {"storage_schemes": ("jail",)}

    @classmethod
    def make(cls, place: Path) -> Served:
        storage = f'"jail:{place}/files/alice"'
        users = place / "users.toml"
        users.touch(0o600)
        users.write_text("[users]\n" + user_lines("alice") + user_lines("bob", storage=storage))
        return super().make(place)

    def test_a_lock_stops_other_users_of_the_same_directory_who_do_not_learn_its_token(self) -> None:
        token = self.locked("/a")
        self.assertEqual(self.ask("PUT", "/a", b"x", "bob").status, 423)
        self.assertEqual(self.ask("PUT", "/a", b"x", "bob", If=f"({token})").status, 423)
        self.assertEqual(self.ask("UNLOCK", "/a", None, "bob", Lock_Token=token).status, 403)
        seen = self.ask("PROPFIND", "/a", None, "bob", Depth="0").text
        self.assertIn("<D:activelock>", seen)
        self.assertIsNone(re.search("urn:uuid", seen))
        self.assertIn(token[1:-1], self.ask("PROPFIND", "/a", Depth="0").text)

    def test_who_may_not_write_may_not_lock(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d/a").write_text("one")
        from pysftpserver.virtualchroot import SFTPServerVirtualChroot

        real = SFTPServerVirtualChroot.open

        def only_reading(storage: object, path: bytes, flags: int, mode: int) -> object:
            if flags & 3:
                raise PermissionError(13, "denied")
            return real(storage, path, flags, mode)  # type: ignore[arg-type]

        with mock.patch.object(SFTPServerVirtualChroot, "open", only_reading):
            for path in ("/d", "/d/a", "/d/new"):
                self.assertEqual(self.ask("LOCK", path, EXCLUSIVE, "bob").status, 403, path)
        self.assertEqual(self.status("PUT", "/d/a", b"x"), 204)
