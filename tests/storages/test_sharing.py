"""Storages for doors with many sessions: what they share, and what stays a session's own."""

from __future__ import annotations

import os
from unittest import mock

from pysftpserver.failures import BadInput
from pysftpserver.storages.sharing import Storages
from tests.differential.compare import sftp_server
from tests.mongo import databases
from tests.objects.stores import StoreCase
from tests.proxy.servers import script
from tests.support.cases import InAPlace
from tests.support.processes import descendants


def put(storage, path: bytes, content: bytes = b"content") -> None:
    handle = storage.open(path, 0o101, 0o600)  # O_WRONLY | O_CREAT
    storage.write(handle, 0, content)
    storage.close(handle)


def names(storage) -> set[bytes]:
    return {name for name, _ in storage.opendir(b"/")} - {b".", b".."}


def servers() -> list[str]:
    """The processes that this one has started."""
    return [name for _, name, _ in descendants(os.getpid())]


class OnAnObjectStore(StoreCase):
    def test_users_share_connections_and_see_their_own_place_alone(self) -> None:
        storages = Storages()
        name = self.name("home/{user}", "&timeout=50")
        alice, bob, again = (storages(name, "storage", {"user": user}) for user in ("al", "al ice", "al"))
        self.addCleanup(alice.close_client)
        self.assertIs(alice._store, bob._store)
        put(alice, b"/of-al")
        put(bob, b"/of-al-ice")
        self.assertEqual((names(again), names(bob)), ({b"of-al"}, {b"of-al-ice"}))
        self.assertEqual(sorted(self.all_keys()), ["home/al ice/of-al-ice", "home/al/of-al"])
        other = storages(self.name("home/al", "&timeout=60"), "storage")
        self.addCleanup(other.close_client)
        self.assertIsNot(other._store, alice._store)

    def test_what_cannot_be_opened_is_not_kept(self) -> None:
        storages = Storages()
        with self.assertRaisesRegex(BadInput, "storage: s3: .*unknown setting"):
            storages(self.name(settings="&nothing=1"), "storage")
        with self.assertRaisesRegex(BadInput, r"storage: \{user\}: '\.\.' cannot be part"):
            storages(self.name("{user}"), "storage", {"user": ".."})
        self.assertEqual(storages._shared, {})


class OnGridFS(databases.DatabaseCase, InAPlace):
    def test_users_share_connections_and_see_their_own_place_alone(self) -> None:
        (self.place / "uri").write_text(databases.uri())
        storages = Storages()
        name = f"gridfs:{self.place}/uri?database={self.db_name}&prefix=/home/{{user}}"
        alice, bob = (storages(name, "storage", {"user": user}) for user in ("al", "al&bucket=x"))
        self.addCleanup(alice.close_client)
        self.assertIs(alice.client, bob.client)
        put(alice, b"/of-al")
        put(bob, b"/of-al-x")
        self.assertEqual((names(alice), names(bob)), ({b"of-al"}, {b"of-al-x"}))
        found = {file["filename"].strip("/") for file in self.database["fs.files"].find()}
        self.assertEqual(found, {"home/al/of-al", "home/al&bucket=x/of-al-x"})


class OnAnotherServer(InAPlace):
    def test_a_session_has_its_own_connection_which_ends_with_it(self) -> None:
        (self.place / "al").mkdir()
        server = script(self.place / "ssh", f"exec {sftp_server()}")
        storages = Storages()
        site = self.place / "site.toml"
        site.write_text(
            f'storage = "jail:{self.place}/{{user}}"\n[[mount]]\npath = "/far"\n'
            f'storage = "sftp://server{self.place}/{{user}}"\n'
        )
        with mock.patch.dict(os.environ, {"PATH": f"{os.path.dirname(server)}:{os.environ['PATH']}"}):
            alone = storages(f"sftp://server{self.place}/{{user}}", "storage", {"user": "al"})
            tree = storages(str(site), "storage", {"user": "al"})
            put(tree, b"/far/new")
        self.assertEqual(names(alone), {b"new"})
        self.assertEqual(names(tree), {b"new", b"far"})
        for storage in (alone, tree):
            self.assertIn("sftp-server", servers())
            storage.release()
            storage.release()
        self.assertNotIn("sftp-server", servers())


class OnADirectory(InAPlace):
    def test_each_session_opens_it_anew(self) -> None:
        storages = Storages()
        (self.place / "al").mkdir()
        name = f"jail:{self.place}/{{user}}"
        first = storages(name, "storage", {"user": "al"})
        (self.place / "al").rename(self.place / "old")
        (self.place / "al").mkdir()
        put(storages(name, "storage", {"user": "al"}), b"/new")
        self.assertEqual(names(first), set())
