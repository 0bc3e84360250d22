"""OpenSSH's sftp on a tree of storages, in the sandbox."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from tests.mounted.test_tree import Trees
from tests.support.paths import ROOT
from tests.support.processes import program
from tests.support.waiting import PATIENCE

SERVER = """
import sys
sys.path.insert(0, {root!r})
from pysftpserver.mountedstorage import Mount, SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPUnavailable
from pysftpserver.server import SFTPServer
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

class Mistaken(SFTPServerVirtualChroot):
    # df makes a file.

    def statvfs(self, path):
        with open(sys.argv[2] + "/mistake", "w"):
            return super().statvfs(path)

def away():
    raise SFTPUnavailable("gone")

top, archive, deep = sys.argv[1:]
storage = SFTPServerMountedStorage(
    SFTPServerVirtualChroot(top),
    {{
        b"/archive": Mount(Mistaken(archive), read_only=True),
        b"/way/to/deep": Mount(lambda: SFTPAtomicVirtualChroot(deep), uses_network=False),
        b"/gone": Mount(away, uses_network=False),
    }},
    across="copy",
)
raise SystemExit(SFTPServer(storage, logfile=None).run(sandbox=True))
"""


class Sessions(Trees):
    def sftp(self, *commands: str) -> subprocess.CompletedProcess[str]:
        script = self.place / "serve.py"
        script.write_text(SERVER.format(root=os.fspath(ROOT)))
        server = shlex.join([sys.executable, *map(str, (script, *(self.place / n for n in self.names)))])
        return subprocess.run(
            [program("sftp"), "-b", "-", "-D", server],
            input="".join(f"{command}\n" for command in commands),
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
        )

    def test_sftp_goes_everywhere_and_sees_what_is_away(self) -> None:
        self.fill("archive/old", "top/f", "deep/d/g", "local")
        local = self.place / "local"
        done = self.sftp(
            "ls -1 /",
            "cd archive",
            "cd ..",
            "pwd",
            "-ls -l gone",
            f"-put {local} archive/new",
            "cp archive/old way/to/deep/copy",
            f"put {local} way/to/deep/put",
            "rename f way/to/deep/d/moved",
            "rename way/to/deep/d d",
            "df way/to/deep",
            f"get -r d {self.place}/got",
            "-df archive",
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        listed = done.stdout.split("sftp> cd archive")[0].splitlines()[1:]
        self.assertEqual([line.strip("/") for line in listed], ["archive", "f", "gone", "way"])
        self.assertIn("Remote working directory: /\n", done.stdout)
        for words in ("Permission denied", "/gone"):
            self.assertIn(words, done.stderr)
        self.assertEqual(sorted(os.listdir(self.place / "deep")), ["copy", "put"])
        self.assertEqual((self.place / "deep/copy").read_text(), "archive/old")
        self.assertEqual(sorted(os.listdir(self.place / "top/d")), ["g", "moved"])
        self.assertEqual((self.place / "got/moved").read_text(), "top/f")
        self.assertEqual(os.listdir(self.place / "archive"), ["old"])
