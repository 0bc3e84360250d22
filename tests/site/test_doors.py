"""Site files under the real servers of pysksync and pysftpremo, which receive under temporary names."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.remo.running import Served as RemoServed
from tests.site.receiving import WebReceiver, deliverers
from tests.sksync.processes import ProcessCase
from tests.support.waiting import until

SITE = """
state = "{state}"
hidden = "/share/secret"
[quota]
bytes = 100_000
per = "site"
[[rule]]
path = "/share/**"
allow = ["list", "upload"]
[[event]]
on = ["upload", "delete", "rename", "rejected"]
post = "{url}"
"""


class SKSync(ProcessCase):
    def test_a_drop_box_with_a_quota_takes_new_files_only(self) -> None:
        state = self.enterContext(tempfile.TemporaryDirectory())
        receiver = WebReceiver()
        self.addCleanup(receiver.close)
        site = Path(state, "site.toml")
        site.write_text(SITE.format(state=state, url=receiver.url))
        self.addCleanup(lambda: until(lambda: not deliverers(str(site))))
        self.put("secret", b"hidden")
        mine = self.place / "mine"
        mine.mkdir()
        (mine / "a").write_bytes(b"a" * 1000)
        (mine / "old").write_bytes(b"replaced")
        (mine / "secret").write_bytes(b"replaced")
        server, port = self.start_server(site=str(site))
        for name in ("a", "large"):  # what passes the quota ends the sync
            if name == "large":
                (mine / name).write_bytes(b"x" * 100_001)
            client = self.start_client(port, client_path=str(mine), sync_type="to_server_use_time")
            until(lambda client=client: client.poll() is not None)
            server.said("ended: ")
        server.said("'old': not allowed here: overwrite")
        server.said("'large': disk quota exceeded")
        found = {path.name: path.read_bytes() for path in self.share.iterdir() if path.is_file()}
        self.assertEqual(found, {"a": b"a" * 1000, "old": b"the old content", "secret": b"hidden"})
        server.stop()
        until(lambda: len(receiver.got) >= 3)
        told = sorted((event["event"], event.get("reason", event.get("size"))) for event in receiver.got)
        reasons = ("Disk quota exceeded", "Not allowed here: overwrite")
        self.assertEqual(told, [*(("rejected", reason) for reason in reasons), ("upload", 1000)])


class Remo(RemoServed):
    @classmethod
    def prepare(cls) -> None:
        cls.state = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.receiver = WebReceiver()
        cls.addClassCleanup(cls.receiver.close)
        site = Path(cls.state, "site.toml")
        site.write_text(SITE.format(state=cls.state, url=cls.receiver.url))
        cls.addClassCleanup(lambda: until(lambda: not deliverers(str(site))))
        for name in ("old", "secret"):
            (cls.place / "files/share").mkdir(parents=True, exist_ok=True)
            (cls.place / "files/share" / name).write_bytes(b"old")
        cls.words = ("--root", "files", "--site", str(site))

    def test_a_drop_box_with_a_quota_takes_new_files_only(self) -> None:
        self.remote.put(b"new", "/share/a")
        for name in ("old", "../share/old", "secret", "secret/x"):
            with self.refused(400):
                self.remote.put(b"new", f"/share/{name}")
            with self.refused(400):
                self.remote.read(f"/share/{name}")
        with self.refused(400, "quota exceeded"):
            self.remote.put(b"x" * 100_001, "/share/large")
        self.assertEqual({entry.name for entry in self.remote.list("/share")}, {"a", "old"})
        files = {path.name: path.read_bytes() for path in (self.place / "files/share").iterdir()}
        self.assertEqual(files, {"a": b"new", "old": b"old", "secret": b"old"})
        expected = {("/share/a", "upload"), ("/share/.pysftp", "Disk quota exceeded")}
        expected.add(("/share/old", "Not allowed here: overwrite"))
        for name in ("old", "secret", "secret/x"):  # what is hidden is refused as what is missing
            expected.add((f"/share/{name}", "Not allowed here: download"))

        def told() -> set[tuple[str, str]]:
            events = self.receiver.got
            return {
                (event["path"].partition("-")[0], event.get("reason", event["event"])) for event in events
            }

        until(lambda: len(told()) >= len(expected))
        self.assertEqual(told(), expected)


class RemoOnTheHost(RemoServed):
    @classmethod
    def prepare(cls) -> None:
        (cls.place / "site.toml").write_text('[[rule]]\ndeny = "download"\n')
        cls.words = ("--site", "site.toml")

    def test_under_a_site_file_commands_are_off_unless_they_are_asked_for(self) -> None:
        with self.refused(403):
            self.remote.run("cat users_db.sqlite")
