"""The containment tests again, on a kernel that seems to have no openat2(2)."""

from __future__ import annotations

import errno
import subprocess
import sys
import unittest
from pathlib import Path

from tests.integration import test_containment, without_openat2
from tests.integration.harness import ServedCase
from tests.support.hard import IS_HARD
from tests.support.processes import require

RUNNER = [sys.executable, str(Path(without_openat2.__file__).resolve())]


def setUpModule() -> None:
    require("sftp", "scp", "lftp")
    # Were openat2 still there, these tests would be those of test_containment.
    probe = f"import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall({without_openat2.OPENAT2}, 0)"
    seen = subprocess.run([*RUNNER, sys.executable, "-c", f"{probe}; exit(ctypes.get_errno())"], check=False)
    if seen.returncode != errno.ENOSYS:
        raise RuntimeError("openat2 cannot be hidden here: seccomp filters are not allowed")


class WithoutOpenat2(ServedCase):
    @classmethod
    def server_command(cls) -> list[str]:
        return [*RUNNER, *super().server_command()]


class TestWaysOut(WithoutOpenat2, test_containment.TestWaysOut):
    FIRST_WAY = 0 if IS_HARD else 1  # others than with it


class TestMagicLinks(WithoutOpenat2, test_containment.TestMagicLinks):
    pass


@unittest.skipUnless(IS_HARD, "clients ask for what TestWaysOut asks for")
class TestClients(WithoutOpenat2, test_containment.TestClients):
    pass


class TestRaces(WithoutOpenat2, test_containment.TestRaces):
    pass
