"""What the rules are written in: handles by number, and a case in which both servers must agree.

Every outcome is written down for the reader, checked on ours, and compared with what the reference does;
where the two differ on purpose, see `intended`. An outcome is a status, the kind of a reply, or DATA's bytes.
"""

import os
import unittest
from typing import ClassVar

from .compare import Pair, Server
from .model import Handle, Step, step
from .packets import OK, PERMISSION_DENIED

FIRST, SECOND, THIRD = (Handle("file", number) for number in range(3))
LISTING = Handle("directory")
CHOWN = OK if os.geteuid() == 0 else PERMISSION_DENIED  # what changing the owner comes to
Outcome = int | str | bytes


def each(request: str, outcome: Outcome, *paths: bytes) -> list[tuple[Step, Outcome]]:
    """A request for each of these paths, all of which come to the same."""
    return [(step(request, path), outcome) for path in paths]


class Case(unittest.TestCase):
    candidate: ClassVar[Server]

    def agree(self, *exchanges: tuple[Step, Outcome]) -> None:
        """Both must agree on these steps and on the trees they leave, and ours give these outcomes."""
        with Pair(self.candidate) as pair:
            for taken, outcome in exchanges:
                reply = pair.take(taken)
                self.assertIsNotNone(reply, f"{taken} cannot be compared")
                seen = reply.content if reply.kind in ("status", "data") else reply.kind
                self.assertEqual(seen, outcome, taken)
            pair.finish()
