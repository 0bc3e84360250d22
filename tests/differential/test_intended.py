"""The intended differences are differences: the reference does what `intended` says, and ours otherwise."""

import unittest
from typing import ClassVar
from unittest import mock

from . import session
from .compare import DROP_IN, JAIL, REFERENCE, Pair, Server
from .intended import ENDS, INTENDED, SILENT
from .model import step
from .packets import Reply


class OfTheReference(unittest.TestCase):
    def test_the_reference_still_differs(self):
        for row in INTENDED:
            if row.reference is not None:
                with self.subTest(row.difference):
                    self.assertNotEqual(row.reference, row.ours)
                    self.assertEqual(self.reaction(row), row.reference)

    def reaction(self, row) -> object:
        patience = 1.0 if row.reference == SILENT else session.PATIENCE
        with Pair(REFERENCE) as pair, mock.patch.object(session, "PATIENCE", patience):
            try:
                reply = pair.ask_reference(row.example)
            except session.NoAnswer:
                return SILENT
            except session.SessionEnded:
                return ENDS
            return result_of(reply)


def result_of(reply: Reply) -> object:
    """What a row says of a reply: its status, or its permissions."""
    return reply.content.permissions if reply.kind == "attrs" else reply.content


class Ours:
    candidate: ClassVar[Server]

    def test_the_status_is_the_one_written_down_and_the_session_goes_on(self):
        for row in INTENDED:
            if row.only_jails and not self.candidate.jailed:
                continue
            with self.subTest(row.difference), Pair(self.candidate) as pair:
                for taken in row.example:
                    reply = pair.take(taken)
                if row.ours is not None:
                    self.assertEqual(result_of(reply), row.ours)
                self.assertEqual(pair.take(step("stat", b"f")).kind, "attrs")
                pair.finish()


class OfTheDropIn(Ours, unittest.TestCase):
    candidate = DROP_IN


class OfTheJail(Ours, unittest.TestCase):
    candidate = JAIL
