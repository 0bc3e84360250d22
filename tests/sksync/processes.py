"""The command in processes of its own: servers and clients that can be killed and measured."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.sksync.peers import PeerCase
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK
from tests.support.processes import Program

SETTINGS = {"require_auth": False, "host": LOOPBACK, "protocol": "pysksync 1"}


def peak(process: Program) -> int:
    """The most memory that a process had resident, in KiB; 0 when it is over."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


class ProcessCase(PeerCase):
    def start(self, settings: dict[str, Any], *words: str, python: str = sys.executable) -> Program:
        """Run pysksync with a configuration; what it says goes to its .log. python: the interpreter."""
        number = len(list(self.place.glob("*.json")))
        file = self.place / f"{number}.json"
        file.write_text(json.dumps({**SETTINGS, **settings, "allow_root": True}))
        process = Program(
            [python, ROOT / "bin/pysksync", file, *words],
            self.place / f"{number}.log",
            cwd=self.place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(process.close)
        return process

    def start_server(self, python: str = sys.executable, **settings: Any) -> tuple[Program, int]:
        process = self.start({"server_root": str(self.jail), "port": 0, **settings}, python=python)
        return process, int(process.said(r"listening on \S+ port (\d+)")[1])

    def start_client(self, port: int, **section: Any) -> Program:
        section = {"server_path": "/share", "client_path": str(self.share), "recursive": True, **section}
        return self.start({"port": port, "clients": {"one": section}}, "client", "one", "-q")

    def finish(self, process: Program, *others: Program) -> list[int]:
        """Wait for the end of a process; the peaks of it and of others, in KiB."""
        most = [0] * (1 + len(others))
        while process.poll() is None:
            most = [max(before, peak(one)) for before, one in zip(most, (process, *others), strict=True)]
            time.sleep(0.03)  # how often it is looked
        most = [max(before, peak(one)) for before, one in zip(most, (process, *others), strict=True)]
        self.assertEqual(process.returncode, 0, process.log.read_text())
        return most
