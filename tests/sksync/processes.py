"""The command in processes of its own: servers and clients that can be killed and measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.sksync.peers import PeerCase
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import until

SETTINGS = {"require_auth": False, "host": LOOPBACK, "protocol": "pysksync 1"}


def peak(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process had resident, in KiB; 0 when it is over."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


class ProcessCase(PeerCase):
    def start(self, settings: dict[str, Any], *words: str) -> subprocess.Popen[bytes]:
        """Run pysksync with a configuration; what it says goes to its .log."""
        number = len(list(self.place.glob("*.json")))
        file = self.place / f"{number}.json"
        file.write_text(json.dumps({**SETTINGS, **settings}))
        log = self.place / f"{number}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "bin/pysksync"), str(file), *words],
                cwd=self.place,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process.log = log  # type: ignore[attr-defined]
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def start_server(self, **settings: Any) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        process = self.start({"server_root": str(self.jail), "port": port, **settings})
        until(lambda: b"listening on" in process.log.read_bytes(), "it does not listen")  # type: ignore[attr-defined]
        return process, port

    def start_client(self, port: int, **section: Any) -> subprocess.Popen[bytes]:
        section = {"server_path": "/share", "client_path": str(self.share), "recursive": True, **section}
        return self.start({"port": port, "clients": {"one": section}}, "client", "one", "-q")

    def finish(self, process: subprocess.Popen[bytes], *others: subprocess.Popen[bytes]) -> list[int]:
        """Wait for the end of a process; the peaks of it and of others, in KiB."""
        most = [0] * (1 + len(others))
        while process.poll() is None:
            most = [max(before, peak(one)) for before, one in zip(most, (process, *others), strict=True)]
            time.sleep(0.01)  # how often it is looked
        most = [max(before, peak(one)) for before, one in zip(most, (process, *others), strict=True)]
        self.assertEqual(process.returncode, 0, process.log.read_text())  # type: ignore[attr-defined]
        return most
