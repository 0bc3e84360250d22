"""A jail whose sessions try what they must not be able to do, and say what came of it."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from typing import Any

from pysftpserver.virtualchroot import SFTPServerVirtualChroot


class Prober(SFTPServerVirtualChroot):
    uses_network = False

    def readlink(self, path):
        """The path names processes, separated by dashes. The answer has the errors, in JSON."""
        tries: dict[str, Callable[[], Any]] = {
            "seteuid": lambda: os.seteuid(0),
            "setgroups": lambda: os.setgroups([0]),
            "setgid": lambda: os.setgid(0),
            "shadow": lambda: os.open("/etc/shadow", os.O_RDONLY),
        }
        for process in map(int, path.strip(b"/").split(b"-")):
            tries[f"kill {process}"] = lambda process=process: os.kill(process, 0)
            tries[f"limit {process}"] = lambda process=process: resource.prlimit(
                process, resource.RLIMIT_CPU, (1, 1)
            )
        return json.dumps(
            {
                "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
                "home": os.environ.get("HOME"),
                "done": [name for name, attempt in tries.items() if _works(attempt)],
            }
        ).encode()


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
