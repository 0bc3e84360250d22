"""What a quota refuses leaves the old file, however a door has opened the storage."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.cli import pysftpd, pysftpsite
from pysftpserver.failures import BadInput
from pysftpserver.people.users import User
from pysftpserver.site.ledger import Ledger
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.storages import by_name
from pysftpserver.storages.sharing import Storages
from tests.support.cases import InAPlace

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class InJails(InAPlace):
    def test_what_a_site_file_trusts_must_not_be_in_a_jail(self) -> None:
        (self.place / "state").mkdir(mode=0o700)
        site = self.place / "s.toml"
        for text in (
            'ledger = "redis://h/0"\nledger_secret = "{}"\n[quota]\nbytes = 1\n',
            '[[event]]\non = "upload"\npost = "http://h/"\nsecret = "{}"\n',
            '[[event]]\non = "upload"\nrun = ["{}", "x"]\n',
            '[[event]]\non = "upload"\nsocket = "{}"\n',
            '[[gate]]\nask = "{}"\n',
            '[[gate]]\nclamd = "{}"\n',
        ):
            with self.subTest(text):
                trusted = self.place / "jail/trusted"
                trusted.parent.mkdir(exist_ok=True)
                trusted.touch()
                top = f'storage = "jail:{self.place}/jail"\nstate = "{self.place}/state"\n'
                site.write_text(top + text.format(trusted))
                with self.assertRaisesRegex(BadInput, f"file {trusted}: clients could change it"):
                    pysftpsite.serve([str(site), "-l", str(self.place / "log")])


class AtEveryDoor(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        for name in ("state", "al", "mounted"):
            (self.place / name).mkdir(mode=0o700)
        for name in ("al", "mounted"):
            (self.place / name / "f").write_bytes(b"old")
        self.site = self.place / "site.toml"

    def write_site(self, top: str = "", quota: str = "[quota]\nbytes = 100\n") -> str:
        mount = f'[[mount]]\npath = "/m"\nstorage = "jail:{self.place}/mounted"\n'
        self.site.write_text(f'{top}state = "{self.place}/state"\n{quota}{mount}')
        return str(self.site)

    def check(self, storage: SFTPAbstractServerStorage, *paths: bytes) -> None:
        self.addCleanup(storage.release)
        for path in paths or (b"/f", b"/m/f"):
            for content in (b"x" * 101, b"x" * 20):
                handle = storage.open(path, NEW, 0o666)
                is_refused = False
                try:
                    storage.write(handle, 0, content)
                    storage.close(handle)
                except OSError:
                    is_refused = True
                    storage.abandon(handle)
                self.assertEqual(is_refused, len(content) > 100)
                found = storage.open(path, os.O_RDONLY, 0)
                self.assertEqual(storage.read(found, 0, 200), b"old" if is_refused else content)
                storage.close(found)

    def user(self, **more: Any) -> User:
        return User("1", "al", "al", True, frozenset(), **more)

    def test_pysftpd_with_a_site_over_folders_and_named_storages(self) -> None:
        site = self.write_site()
        for storage in (None, f"jail:{self.place}/{{user}}"):
            settings = ServerSettings(sftp_path=str(self.place), site=site, storage=storage)
            self.check(pysftpd.storages_of(settings).of(self.user()))
            (self.place / "al/f").write_bytes(b"old")
            (self.place / "mounted/f").write_bytes(b"old")

    def test_pysftpd_with_a_site_of_a_user(self) -> None:
        settings = ServerSettings(sftp_path=str(self.place), storage_schemes=("toml",))
        self.check(pysftpd.storages_of(settings).of(self.user(site=self.write_site())))

    def test_pysftpd_without_quotas_has_the_classes_of_its_settings(self) -> None:
        site = self.write_site(quota="")
        settings = ServerSettings(sftp_path=str(self.place), site=site)
        with mock.patch("pysftpserver.uploads.atomic.AtomicUploads.open", side_effect=AssertionError):
            storage = pysftpd.storages_of(settings).of(self.user())
            storage.close(storage.open(b"/f", NEW, 0o666))

    def test_a_site_file_that_names_its_storages(self) -> None:
        name = self.write_site(f'storage = "jail:{self.place}/al"\n')
        self.check(by_name.open_storage(name, "NAME", by_name.Opening({"user": "al"})))

    def test_files_are_counted_again_under_a_site_that_is_put_over_a_storage(self) -> None:
        site = self.write_site()
        settings = ServerSettings(sftp_path=str(self.place), site=site)

        pysftpd.storages_of(settings).of(self.user()).release()  # counts what is there
        (self.place / "al/behind").write_bytes(b"x" * 50)
        command = [site, "--user", "al", "--recount", "-l", str(self.place / "log")]
        output = io.StringIO()
        with contextlib.redirect_stdout(output), mock.patch("pysftpserver.cli.common.tell") as tell:
            self.assertEqual(pysftpsite.main(command), 2)
            self.assertIn("name one with --over", tell.call_args.args[0])
            self.assertEqual(pysftpsite.main([*command, "--over", f"jail:{self.place}/al"]), 0)
        self.assertEqual(output.getvalue(), "user:al:/**: 56 bytes, 3 files\n")
        command[2] = ""  # sessions without a user
        with contextlib.redirect_stdout(output):
            self.assertEqual(pysftpsite.main([*command, "--over", f"jail:{self.place}/al"]), 0)
        self.assertIn("\nuser::/**: 56 bytes", output.getvalue())
        with contextlib.closing(Ledger(str(self.place / "state"))) as ledger:
            self.assertEqual(ledger.ask("SELECT bytes, files FROM account"), [(56, 3)] * 2)

    def test_sessions_without_a_user_share_a_quota(self) -> None:
        name = self.write_site(f'storage = "jail:{self.place}/al"\n')
        self.check(by_name.open_storage(name, "NAME"), b"/f")
        another = by_name.open_storage(name, "NAME")
        self.addCleanup(another.release)
        handle = another.open(b"/g", NEW, 0o666)
        with self.assertRaises(OSError):
            another.write(handle, 0, b"x" * 90)  # 20 and 3 are there
        another.abandon(handle)

    def test_a_site_over_a_storage_at_the_other_doors(self) -> None:
        site = self.write_site()
        below = Storages()(f"jail:{self.place}/al", "storage", {})
        self.check(Storages().under_site(site, "site", below, {"user": "al"}), b"/m/f")
