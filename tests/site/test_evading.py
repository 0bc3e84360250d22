"""Ways around what receivers of events are told: other names, open handles, connections that break."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pysftpserver.site.events import EventsLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.told import Wish
from pysftpserver.site.who import Who
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.receiving import deliverers
from tests.site.test_events import ALL, NEW, EventsCase, sha256
from tests.support.cases import InAPlace
from tests.support.paths import ROOT
from tests.support.waiting import until


class Evading(EventsCase):
    def session(self, on: str = ALL, matches: object = None, wait: float | None = None) -> EventsLayer:
        """As in the base class, with a storage that writes in place."""
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        ledger.open_session({"user": "alice"})
        wishes = [Wish(frozenset(on.split()), "post http://x/", None, wait)]
        is_part = lambda name: name.endswith(".part")  # noqa: E731
        return EventsLayer(SFTPServerVirtualChroot(self.root), ledger, wishes, Who("alice"), "here", is_part)

    def test_what_is_written_after_a_rename_is_told_of_under_the_new_name(self):
        storage = self.session("upload rename")
        storage.mkdir(b"/d", 0o777)
        handles = [storage.open(path, NEW, 0o666) for path in (b"/f.part", b"/g", b"/d/h")]
        for handle in handles:
            storage.write(handle, 0, b"good")
        storage.rename(b"/f.part", b"/f")
        storage.rename(b"/g", b"/g2")
        storage.rename(b"/d", b"/e")
        for handle in handles:
            storage.write(handle, 4, b"evil")
            storage.close(handle)
        both = sha256(b"goodevil")
        self.assertEqual(
            self.told("event", "path", "sha256"),
            [
                ("upload", "/f", sha256(b"good")),
                ("rename", "/g", None),
                ("rename", "/d", None),
                ("upload", "/f", both),
                ("upload", "/g2", both),
                ("upload", "/e/h", both),
            ],
        )

    def test_a_rename_to_the_final_name_before_close_is_one_upload(self):
        storage = self.session("upload")
        handle = storage.open(b"/f.part", NEW, 0o666)
        storage.write(handle, 0, b"x")
        storage.rename(b"/f.part", b"/f")
        storage.close(handle)
        self.assertEqual(self.told("path"), [("/f",)])

    def test_a_directory_with_a_temporary_name_is_renamed(self):
        storage = self.session("upload rename")
        storage.mkdir(b"/d.part", 0o777)
        storage.rename(b"/d.part", b"/d")
        self.assertEqual(self.told("event", "path", "target"), [("rename", "/d.part", "/d")])

    def test_a_hard_link_is_an_upload_under_its_name(self):
        storage = self.session("upload")
        self.put(storage, b"/f.part", b"content")
        storage.link(b"/f.part", b"/f")
        storage.link(b"/f", b"/g.part")
        self.assertEqual(self.told("path", "sha256", "size"), [("/f", sha256(b"content"), 7)])

    def test_a_file_that_is_left_open_or_could_be_written_is_a_download(self):
        Path(self.root, "f").write_bytes(b"abc")
        storage = self.session("download")
        storage.abandon(storage.open(b"/f", os.O_RDONLY, 0))
        storage.close(storage.open(b"/f", os.O_RDWR, 0))
        storage.abandon(storage.open(b"/f", os.O_RDWR, 0))
        storage.close(storage.open(b"/g", os.O_RDWR | os.O_CREAT, 0o666))  # there was nothing to read
        storage.close(storage.open(b"/f", os.O_RDWR | os.O_TRUNC, 0))
        self.assertEqual(self.told("path", "size"), [("/f", 3)] * 3)


class Deliverers(InAPlace):
    def test_receivers_see_nothing_of_the_session_that_has_started_the_deliverer(self) -> None:
        """It goes on for sessions of others, and sshd lets clients choose some variables."""
        (self.place / "state").mkdir(mode=0o700)
        (self.place / "root").mkdir()
        program = self.place / "program"
        program.write_text(f"#!/bin/sh\ncd {self.place} && env > env.new && mv env.new env\n")
        program.chmod(0o755)
        site = self.place / "site.toml"
        site.write_text(
            f'storage = "jail:{self.place}/root"\nstate = "{self.place}/state"\n'
            f'[[event]]\non = "logout"\nrun = ["{program}"]\n'
        )
        self.addCleanup(lambda: until(lambda: not deliverers(str(site))))
        chosen = dict.fromkeys(("SSH_ORIGINAL_COMMAND", "LC_ALL", "LANG", "LC_X"), "() { :; }; evil")
        server = f"{sys.executable} -IS {ROOT}/bin/pysftpsite {site} --user alice"
        subprocess.run(
            ["sftp", "-q", "-b", "-", "-D", server],
            input="pwd\n",
            capture_output=True,
            text=True,
            env={**os.environ, **chosen, "KEPT": "kept"},
            check=True,
        )
        until((self.place / "env").exists)
        found = (self.place / "env").read_text()
        self.assertIn("KEPT=kept\n", found)
        self.assertIn("PYSFTP_USER=alice\n", found)
        self.assertNotIn("evil", found)
