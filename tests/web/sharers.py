"""A door with files of alice's that tests share by links."""

from __future__ import annotations

import os
import re
from typing import Any

from pysftpserver.web import crowding
from tests.web.serving import Answer, WebCase

CONTENT = os.urandom(100_000)
SECRET = b"it is secret"
PASSWORD = "green ladders at noon"
WRONG = "A" * 24


class SharesCase(WebCase):
    """self.jail: alice's files, with /plan.pdf, /box/a.txt, /box/in/b.bin, /in-tray/old.txt and /secret."""

    settings = {"threads": 32}

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.served.jail()
        for path in self.jail.rglob("*"):
            if path.is_symlink() or path.is_file():
                path.unlink()
        for name in ("box/in", "in-tray"):
            (self.jail / name).mkdir(parents=True, exist_ok=True)
        files = {"plan.pdf": CONTENT, "box/a.txt": b"a", "box/in/b.bin": CONTENT}
        for name, content in {**files, "in-tray/old.txt": b"old", "secret": SECRET}.items():
            (self.jail / name).write_bytes(content)
        self.owner = self.enterContext(self.served.logged_in())
        self.stranger = self.enterContext(self.served.browser())
        self.served.door.visitors._guesses = crowding.Guesses()
        self.door = self.served.door

    def share(self, path: str, **fields: str) -> str:
        """The path of a new link of alice's."""
        csrf = self.owner.get(f"/shares/new?path={path}").csrf
        answer = self.owner.post("/shares/new", {"csrf": csrf, "path": path, "days": "7", **fields})
        self.assertEqual(answer.status, 200, answer.text)
        found = re.search(r'value="http://[^/"]+(/s/[^"]+)"', answer.text)
        assert found is not None, answer.text
        return found[1]

    def counts(self) -> tuple[int, int]:
        """Downloads and uploads of the newest link."""
        share = self.door.shares.of(self.door.people.find("alice"))[0]
        return share.downloads, share.uploads

    def only(self) -> Any:
        (share,) = self.door.shares.of(self.door.people.find("alice"))
        return share

    def tearDown(self) -> None:
        alice = self.door.people.find("alice")
        for share in self.door.shares.of(alice):
            self.door.shares.revoke(alice, share.id)
        super().tearDown()

    def put(self, link: str, name: str, data: bytes = b"new") -> Answer:
        return self.stranger.ask("PUT", link + name, data)

    def send(self, link: str, *files: tuple[bytes, bytes]) -> Answer:
        """Send files as the form on a page does."""
        parts = b"".join(
            b'--XX\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n' % file
            for file in files
        )
        kind = {"Content-Type": "multipart/form-data; boundary=XX"}
        return self.stranger.ask("POST", link, parts + b"--XX--\r\n", kind)

    def names(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self.jail / directory).iterdir())
