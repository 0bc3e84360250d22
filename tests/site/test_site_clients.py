"""lftp and sshfs over a site with all of its layers: they do what they do without."""

from __future__ import annotations

import os
import unittest

from tests.integration import test_lftp, test_sshfs
from tests.support.hard import IS_HARD
from tests.support.processes import command, require

SITE = """
state = "{}"
hidden = "/not/here/**"
[[rule]]
path = "/elsewhere/**"
deny = "all"
[quota]
bytes = "1 TiB"
files = 1_000_000
[[gate]]
limit = {{ size = "1 TiB" }}
quarantine = "/kept"
"""


def setUpModule() -> None:
    if IS_HARD:
        require("lftp", "sshfs")


if IS_HARD:

    class OverASite:
        @classmethod
        def server_command(cls) -> list[str]:
            state = cls.place / "state"  # type: ignore[attr-defined]
            state.mkdir(mode=0o700, exist_ok=True)
            site = cls.place / "site.toml"  # type: ignore[attr-defined]
            site.write_text(SITE.format(state))
            return cls.jail_command("--site", site)  # type: ignore[attr-defined, no-any-return]

    class Lftp(OverASite, test_lftp.TestLftp):
        pass

    class Sshfs(test_sshfs.TestSshfs):
        def server(self) -> list[str]:
            (self.place / "state").mkdir(mode=0o700)
            site = self.place / "site.toml"
            text = SITE.format(self.place / "state")
            site.write_text(text[: text.index("[quota]")])  # where uploads appear whole, it makes no files
            return command("pysftpjail", "--site", site, self.jail)

        def test_files_are_written_changed_and_moved(self) -> None:
            self.mount()
            (self.there / "d").mkdir()
            path = self.there / "d" / "f"
            path.write_bytes(b"content" * 100_000)
            with path.open("ab") as file:
                file.write(b"more")
            with path.open("r+b") as file:
                file.write(b"CONTENT")
            os.truncate(path, 300_000)
            path.rename(self.there / "d" / "g")
            (self.there / "d").rename(self.there / "e")
            found = (self.jail / "e" / "g").read_bytes()
            self.assertEqual(found, (b"CONTENT" + b"content" * 100_000)[:300_000])
            self.assertEqual((self.there / "e" / "g").read_bytes(), found)
            self.assertEqual(os.listdir(self.jail / "e"), ["g"])
            (self.there / "e" / "g").unlink()
            (self.there / "e").rmdir()
            self.assertEqual(os.listdir(self.there), [])


if __name__ == "__main__":
    unittest.main()
