"""Both sides of the rows on SK Sync: `cp -r`, and a client of a running server.

The time of a client includes its start. Files are created and removed before the clock starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench import drivers
from bench.rows import random_file
from bench.sksync import Sizes

DIRECTORIES = 30
SYNC_TYPES = {
    "from server": "from_server_use_time",
    "to server": "to_server_use_time",
    "both ways": "bidirectional_use_time",
}
WITHOUT_DIGESTS = {("big", "plain"), ("big", "TLS")}  # rows in which digests would be most of the work


@contextlib.contextmanager
def started(top: Path, sizes: Sizes, command: drivers.Command = drivers.command) -> Iterator[Sides]:
    """Yield the sides, with two servers running. command: as drivers.command()."""
    sides = Sides(top, sizes, command)
    try:
        yield sides
    finally:
        sides.stop()


class Sides:
    """Both sides, and servers with and without TLS."""

    def __init__(self, top: Path, sizes: Sizes, command: drivers.Command) -> None:
        self.top = top
        self._command = command
        self._trees = {"small": top / "small", "big": top / "big"}
        self._sizes = sizes
        self._shared = top / "shared"
        self._shared.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []
        drivers.timed([*drivers.command("pysksync"), "make-cert", *self._certificate()])
        self._ports = {use_tls: self._start(use_tls) for use_tls in (False, True)}

    def _certificate(self) -> list[str]:
        return ["--cert", str(self.top / "cert.pem"), "--key", str(self.top / "key.pem")]

    def _start(self, use_tls: bool) -> int:
        """Start a server; return its port."""
        config = self.top / f"server-{use_tls}.json"
        keys = {"host": "127.0.0.1", "port": 0, "server_root": str(self._shared), "require_auth": False}
        config.write_text(json.dumps({**keys, **self._tls_keys(use_tls)}))
        argv = [*self._command("pysksync"), "--allow-root", str(config)]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        self._processes.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(rb"listening on \S+ port (\d+)", line):
                # Its later output is one line per session, which fits into the pipe.
                return int(found[1])
        raise RuntimeError("the server did not start")

    def _tls_keys(self, use_tls: bool) -> dict[str, object]:
        if not use_tls:
            return {}
        _, cert, _, key = self._certificate()
        return {"use_ssl": True, "ssl_server_certfile": cert, "ssl_server_keyfile": key}

    def stop(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.terminate()
            process.communicate()

    def tree(self, which: str) -> Path:
        """Return the files, and create them on first use."""
        path = self._trees[which]
        if not path.exists():
            path.mkdir()
            if which == "big":
                random_file(path / "big", self._sizes.big)
            else:
                self._make_small(path)
        return path

    def _make_small(self, path: Path) -> None:
        chance = random.Random(7)
        for number in range(self._sizes.files):
            directory = path / f"directory {number % DIRECTORIES}"
            directory.mkdir(exist_ok=True)
            size = chance.randrange(2 * self._sizes.each)
            (directory / f"file {number}.txt").write_bytes(chance.randbytes(size))

    # --- what is timed ------------------------------------------------------------------------------------

    def copied(self, which: str) -> float:
        """Return the seconds that cp -r takes."""
        tree = self.tree(which)
        copy = self._fresh(self.top / "copy")
        seconds = drivers.timed(["cp", "-r", str(tree), str(copy / "tree")])
        self._fresh(copy)
        return seconds

    def synced(self, which: str, direction: str, way: str) -> float:
        """Return the seconds that a client takes, from its start to its end."""
        server, client = self._fresh(self._shared / "here"), self._fresh(self.top / "client")
        for place, counts in ((server, direction != "to server"), (client, direction != "from server")):
            if counts:
                self._fill(place, which, direction)
        config = self.top / "client.json"
        use_tls = way == "TLS"
        section = {
            "server_path": "/here",
            "client_path": str(client),
            "recursive": True,
            "sync_type": SYNC_TYPES[direction],
        }
        protocol = "pysksync 1" if (which, way) in WITHOUT_DIGESTS else "pysksync 2"
        keys = {"host": "127.0.0.1", "port": self._ports[use_tls], "protocol": protocol}
        config.write_text(json.dumps({**keys, **self._tls_keys(use_tls), "client": section}))
        os.sync()  # writes what was just made, for the rows on what is stored
        seconds = drivers.timed([*self._command("pysksync"), str(config), "client", "client"])
        for place in (server, client):
            _check(_files(place), _files(self.tree(which)))
            self._fresh(place)
        return seconds

    def _fill(self, place: Path, which: str, direction: str) -> None:
        """Create the tree there, or half of its files for a sync both ways."""
        side = 0 if place.parent == self._shared else 1
        for number, path in enumerate(sorted(self.tree(which).glob("**/*"))):
            if path.is_file() and (direction != "both ways" or number % 2 == side):
                target = place / path.relative_to(self.tree(which))
                target.parent.mkdir(exist_ok=True)
                os.link(path, target)  # a sync does not write to existing files

    def _fresh(self, path: Path) -> Path:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def _files(place: Path) -> dict[str, int]:
    return {
        str(path.relative_to(place)): path.stat().st_size for path in place.glob("**/*") if path.is_file()
    }


def _check(found: object, wanted: object) -> None:
    if found != wanted:
        raise RuntimeError("the sync left another tree than it should")
