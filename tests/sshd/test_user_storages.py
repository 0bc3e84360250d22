"""Which storages users have: what the settings name for all, and what records may name and what not."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any
from unittest import mock

from pysftpserver.cli import pysftpd
from pysftpserver.failures import BadInput
from pysftpserver.people.user_storages import Openers, UserStorages
from pysftpserver.people.users import User
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.storages.sharing import Storages
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.differential.compare import sftp_server
from tests.objects.stores import CREDENTIALS, StoreCase
from tests.proxy.servers import script
from tests.sshd.running import Place, Pysftpd
from tests.support.cases import InAPlace
from tests.support.processes import descendants
from tests.support.waiting import until

JAIL = "pysftpserver.virtualchroot:SFTPServerVirtualChroot"
UNLOADED = "tests.sshd.proberstorage:Prober"


class Storing(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        for name in ("alice", "al"):
            (self.place / name).mkdir()
            (self.place / name / f"of-{name}").touch()

    def storages(self, **settings: Any) -> UserStorages:
        settings = {"sftp_path": str(self.place), **settings}
        openers = Openers(SFTPServerVirtualChroot, pysftpd.gridfs, Storages())
        given = ServerSettings(**settings)
        return UserStorages(given, openers, bool(given.run_as_accounts))

    def user(self, name: str = "alice", folder: str | None = None, storage: str | None = None) -> User:
        return User("1", name, name if folder is None else folder, True, frozenset(), storage)

    def names(self, storages: UserStorages, user: User) -> list[bytes]:
        return sorted(name for name, _ in storages.of(user).opendir(b"/") if not name.startswith(b"."))

    def refused(self, storages: UserStorages, user: User) -> str:
        self.assertFalse(storages.suits_threads(user))
        with self.assertRaises(ValueError) as raised:
            storages.of(user)
        return str(raised.exception)


class WhatAllHave(Storing):
    def test_it_is_the_place_of_the_user_s_name_or_folder(self) -> None:
        for field, user in (("{user}", self.user("al", "x")), ("{folder}", self.user("x", "al"))):
            storages = self.storages(storage=f"jail:{self.place}/{field}")
            self.assertEqual(self.names(storages, user), [b"of-al"])
            self.assertFalse(storages.suits_threads(user))
            self.assertTrue(storages.is_directory(user))

    def test_a_name_that_would_leave_its_place_has_no_session(self) -> None:
        for storage in (f"jail:{self.place}/al/{{user}}", f'{JAIL} ["{self.place}/al/{{name}}"]'):
            storages = self.storages(storage=storage)
            for name in ("..", "../alice", "/etc", "."):
                with self.subTest(storage, name=name):
                    self.assertIn("not a single name", self.refused(storages, self.user(name, "x")))

    def test_a_record_goes_before_it(self) -> None:
        storages = self.storages(storage=f"jail:{self.place}/alice", storage_schemes=("jail",))
        user = self.user(storage=f"jail:{self.place}/{{user}}")
        self.assertEqual(self.names(storages, self.user("al", storage=user.storage)), [b"of-al"])

    def test_a_name_that_cannot_be_meant_ends_the_start(self) -> None:
        for settings, words in (
            ({"storage": "jail:/srv/{home}"}, "^storage: {home}: only"),
            ({"storage": "s3://id:secret@bucket"}, "^storage: s3: no credentials in a name"),
            ({"storage": "/srv"}, "^storage: /srv: unknown storage"),
            ({"storage": "no.such.module:Class"}, "^storage: no.such.module:Class: No module"),
            ({"storage_schemes": ("jail", "ftp")}, "^storage_schemes: ftp: unknown; .*gridfs, gs, jail"),
            ({"storage_schemes": ("module",)}, "^storage_schemes: module: unknown; .*storage_classes"),
            ({"storage_classes": ("no.such.module:Class",)}, "^storage_classes: no.such.module:Class: No m"),
        ):
            with self.subTest(settings), self.assertRaisesRegex(BadInput, words):
                self.storages(**settings)

    def test_what_suits_threads_is_known_before_it_is_opened(self) -> None:
        def site(mounted: str) -> str:
            path = self.place / f"{mounted.partition(':')[0]}.toml"
            text = f'storage = "jail:{self.place}/{{user}}"\n[[mount]]\npath = "/far"\n'
            path.write_text(f'{text}storage = "{mounted}"\n')
            return str(path)

        for storage, suits in (
            ("gridfs:uri?prefix=/{folder}", True),
            (site("gridfs:uri"), True),
            (site("fsspec:memory://"), True),
            ("s3://bucket/{user}", True),
            (site("s3://bucket/{user}"), False),  # a process can be confined to what they need
            (site("az://container"), False),
            (site("sftp://host"), False),
            ("sftp://host/{user}", False),
        ):
            with self.subTest(storage):
                storages = self.storages(storage=storage)
                self.assertEqual(storages.suits_threads(self.user()), suits)
                self.assertFalse(storages.is_directory(self.user()))


class WhatRecordsMayName(Storing):
    def test_nothing_but_what_the_settings_allow(self) -> None:
        storages = self.storages(storage_classes=(JAIL,))
        for name, words in (
            ("jail:/etc", "storage jail: not listed in storage_schemes"),
            ("plain:/", "storage plain: not listed in storage_schemes"),
            ("gridfs:/etc/uri?prefix=/", "storage gridfs: not listed in storage_schemes"),
            ("sftp://host/", "storage sftp: not listed in storage_schemes"),
            ("/etc/site.toml", "storage toml: not listed in storage_schemes"),
            (UNLOADED, f"storage {UNLOADED}: not listed in storage_classes"),
            ('os:system "touch x"', "storage os:system: not listed in storage_classes"),
            ("gridfs", "needs mongo_uri"),
        ):
            with self.subTest(name):
                user = self.user(storage=name)
                if name == "gridfs":
                    with self.assertRaisesRegex(ValueError, words):
                        storages.of(user)
                else:
                    self.assertEqual(self.refused(storages, user), words)
        self.assertEqual(self.names(storages, self.user(storage=f'{JAIL} "{self.place}/al"')), [b"of-al"])

    def test_a_class_that_is_not_allowed_is_not_even_imported(self) -> None:
        module = UNLOADED.partition(":")[0]
        loaded = sys.modules.pop(module, None)
        try:
            self.refused(self.storages(storage_schemes=("jail",)), self.user(storage=UNLOADED))
            self.assertNotIn(module, sys.modules)
        finally:
            if loaded is not None:
                sys.modules[module] = loaded

    def test_what_the_settings_allow(self) -> None:
        storages = self.storages(storage_schemes=("jail", "toml"))
        self.assertEqual(self.names(storages, self.user(storage=f"jail:{self.place}/al")), [b"of-al"])
        (self.place / "site.toml").write_text(f'storage = "jail:{self.place}/{{folder}}"\n')
        self.assertEqual(self.names(storages, self.user(storage=f"{self.place}/site.toml")), [b"of-alice"])
        self.assertIn("not listed", self.refused(storages, self.user(storage="plain:/")))

    def test_a_site_file_is_put_over_what_users_have(self) -> None:
        for name, hidden in (("all", "of-alice"), ("own", "nothing")):
            (self.place / f"{name}.toml").write_text(
                f'hidden = "/{hidden}"\n[[mount]]\npath = "/m"\nstorage = "jail:{self.place}/al"\n'
            )
        everybody, own = (
            f"{self.place}/all.toml",
            dataclasses.replace(self.user(), site=f"{self.place}/own.toml"),
        )
        storages = self.storages(site=everybody, storage_schemes=("jail", "toml"))
        self.assertEqual(self.names(storages, self.user()), [b"m"])
        self.assertEqual(self.names(storages, self.user(storage=f"jail:{self.place}/al")), [b"m", b"of-al"])
        self.assertEqual(self.names(storages, own), [b"m", b"of-alice"])
        for user in (own, self.user()):
            self.assertFalse(storages.is_directory(user))
            self.assertFalse(storages.suits_threads(user))
        self.assertIn("site.toml: toml is not listed in", self.refused(self.storages(site=everybody),
                      dataclasses.replace(own, site="/site.toml")))  # fmt: skip
        with self.assertRaisesRegex(BadInput, "site: /nowhere.toml: no such file"):
            self.storages(site="/nowhere.toml")

    def test_a_site_file_whose_state_directory_is_missing_is_an_error_at_the_start(self) -> None:
        (self.place / "counted.toml").write_text(f'state = "{self.place}/state"\n[quota]\nfiles = 1\n')
        with self.assertRaisesRegex(
            BadInput, "site: state .*/state: no such file.*; create it .* install -d"
        ):
            self.storages(site=f"{self.place}/counted.toml")
        (self.place / "state").mkdir()
        self.storages(site=f"{self.place}/counted.toml")

    def test_the_older_spelling_of_gridfs_is_a_part_of_the_settings_database(self) -> None:
        class Whole:
            def at_prefix(self, prefix: str) -> Any:
                return f"at {prefix}"

        openers = Openers(SFTPServerVirtualChroot, lambda *address: Whole(), Storages())
        storages = UserStorages(ServerSettings(mongo_uri="mongodb://host/db"), openers)
        for name, prefix in (("gridfs", "alice"), ("gridfs:", "alice"), ("gridfs:some/where", "some/where")):
            self.assertEqual(storages.of(self.user(storage=name)), f"at {prefix}")
            self.assertTrue(storages.suits_threads(self.user(storage=name)))
        self.assertIn("not listed", self.refused(storages, self.user(storage="gridfs:uri?prefix=/x")))

    def test_with_accounts_a_jail_must_not_be_a_link_of_others(self) -> None:
        (self.place / "link").symlink_to("al")
        storages = self.storages(storage=f"jail:{self.place}/{{user}}", run_as_accounts=("nobody",))
        self.assertEqual(self.names(storages, self.user("al")), [b"of-al"])
        if os.geteuid() == 0:
            self.assertEqual(self.names(storages, self.user("link")), [b"of-al"])
            os.chown(self.place / "link", 12345, 0, follow_symlinks=False)
        self.assertIn("a link that is not root's", self.refused(storages, self.user("link")))


def names_of(server: Pysftpd, name: str) -> list[str]:
    """The processes of a server with that name."""
    return [found for _, found, _ in descendants(server.pid) if found == name]


class Served(Place):
    """A real server and OpenSSH's sftp."""

    def setUp(self) -> None:
        super().setUp()
        self.store = StoreCase()  # a bucket, and the environment that reaches it
        self.addCleanup(self.store.doCleanups)
        self.store.setUp()

    def test_users_have_what_the_settings_name_and_what_their_records_may(self) -> None:
        (self.place / "home" / "alice").mkdir(parents=True)
        pid = self.place / "pid"
        script(self.place / "ssh", f"echo $$ > {pid}; exec {sftp_server()}")
        path = f"{self.place}:{os.environ['PATH']}"
        self.enterContext(mock.patch.dict(os.environ, {"PATH": path}))
        server = self.server(
            *("--storage", f"jail:{self.place}/home/{{user}}", "--storage-schemes", "s3,sftp"),
            *("--session-idle", "1", "--log-level", "VERBOSE"),
        )
        sent = self.place / "sent"
        sent.write_bytes(b"content")
        self.assertEqual(self.sftp(self.alice, f"put {sent} new", "ls").returncode, 0)
        self.assertEqual((self.place / "home" / "alice" / "new").read_bytes(), b"content")
        server.logs("'alice': sandbox: ")  # it is a process, and confined
        keys = {"folder": "a", "keys": [self.alice.public]}
        server.write_users({"alice": {**keys, "storage": self.store.name("of/{folder}")}})

        def is_stored() -> bool:
            self.sftp(self.alice, f"put {sent} far")
            return self.store.all_keys() == ["of/a/far"]

        until(is_stored, lambda: f"the object is not there: {server.log()}")
        server.write_users({"alice": {**keys, "storage": f"sftp://server{self.place}/home/{{user}}"}})
        until(lambda: "new" in self.sftp(self.alice, "ls -1").stdout, "the other server's files are there")
        until(lambda: not names_of(server, "sftp-server"), "the connection has ended with its session")
        self.assertNotEqual(self.sftp(self.alice, f"!kill $(cat {pid})", *["-ls"] * 9).returncode, 0)
        server.logs("session ends: sftp://server")  # so that the client connects anew
        server.write_users({"alice": {**keys, "storage": f"jail:{self.place}"}})
        until(lambda: self.sftp(self.alice, "pwd").returncode != 0, "the record is refused")
        server.logs("no session: the storage cannot be opened: storage jail: not listed in storage_schemes")
        self.assertNotIn(CREDENTIALS["AWS_SECRET_ACCESS_KEY"], server.log())

    def test_sessions_with_remote_mounts_are_confined_and_have_them(self) -> None:
        for name in ("far", "a", "spool"):
            (self.place / name).mkdir()
        (self.place / "far" / "f").write_text("far")
        script(self.place / "ssh", f"exec {sftp_server()}")
        self.enterContext(mock.patch.dict(os.environ, {"PATH": f"{self.place}:{os.environ['PATH']}"}))
        site = self.place / "site.toml"
        store = self.store.name("of/{user}", f"&spool={self.place}/spool")
        site.write_text(
            f'[[mount]]\npath = "/store"\nstorage = "{store}"\n'
            f'[[mount]]\npath = "/server"\nstorage = "sftp://server{self.place}/far"\n'
        )
        server = self.server("--sftp-path", str(self.place), "--site", str(site), "--log-level", "VERBOSE")
        sent = self.place / "sent"
        sent.write_bytes(os.urandom(20 << 20))  # in parts, which threads send
        lines = [f"put {sent} store/big", "get store/big back", "get server/f", f"put {sent} own"]
        done = self.sftp(self.alice, *lines)
        self.assertEqual(done.returncode, 0, done.stderr + server.log())
        self.assertEqual((self.place / "back").read_bytes(), sent.read_bytes())
        self.assertEqual((self.place / "f").read_text(), "far")
        self.assertEqual(self.store.all_keys(), ["of/alice/big"])
        line = next(line for line in server.log().splitlines() if "'alice': sandbox: " in line)
        for words in ("files beneath the storage only", "no programs", "the network is left open"):
            self.assertIn(words, line)
        until(lambda: not names_of(server, "sftp-server"), "the connection has ended with its session")
