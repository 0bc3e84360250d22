"""Both sides of the rows on pysftpproxy: one sshd with OpenSSH's sftp-server, reached directly and through
the proxy, which `sftp -D` starts, or a second sshd."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench import drivers
from bench.proxy import Sizes
from bench.rows import Material, random_file
from tests.differential.compare import sftp_server
from tests.integration.sshd import TARGET, Sshd, Way


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with both sshds running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """The ways to the same files: "" is directly, "-D" through the proxy, "sshd" through one more sshd."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.material = material = Material(top)
        self.big = random_file(material.jail / "big", max(sizes.transfer, 1 << 22))
        self.small = material.small_files(material.local / "small", sizes.files)
        self.there = material.small_files(material.jail / "small", sizes.files)
        self.listed = material.small_files(material.jail / "listed", sizes.names, size=0)
        self.behind = self._sshd(top / "behind", Way.SUBSYSTEM, [sftp_server()], stack)
        self.proxy = [
            *drivers.command("pysftpproxy"),
            *("--log-level", "ERROR", "-c", str(self.behind.ssh_config), TARGET),
        ]
        self.front = self._sshd(top / "front", Way.AUTHORIZED_KEYS, self.proxy, stack)

    @staticmethod
    def _sshd(place: Path, way: Way, argv: list[str], stack: contextlib.ExitStack) -> Sshd:
        place.mkdir(mode=0o700)
        sshd = Sshd(place, way, argv)
        stack.callback(sshd.stop)
        sshd.start()
        return sshd

    def measure(self, kind: str, way: str) -> float:
        """Return the seconds that a piece of work takes."""
        fresh = self.material.fresh("fresh")
        q = {name: shlex.quote(str(path)) for name, path in vars(self).items() if isinstance(path, Path)}
        commands = {
            "get": f"get {q['big']} /dev/null",
            "put": f"put {q['big']} {fresh}/big",
            "get_small": f"get -r {q['there']} {fresh}",
            "put_small": f"put -r {q['small']} {fresh}",
            "listing": f"ls -l {q['listed']}",
            "start": "pwd",
        }[kind]
        if way == "-D":
            seconds = drivers.sftp(self.proxy, commands + "\n")
        else:
            sshd = self.front if way else self.behind
            seconds = drivers.sftp_over_ssh(sshd.ssh_config, TARGET, commands + "\n")
        if kind == "put" and (fresh / "big").stat().st_size != self.big.stat().st_size:
            raise RuntimeError("the file has not arrived")
        shutil.rmtree(fresh)
        return seconds
