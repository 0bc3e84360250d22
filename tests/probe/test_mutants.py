"""The rules of contract/ pass our own servers, and each mutant breaks the rule that it is made for."""

from __future__ import annotations

import tempfile
import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.contract.rules import RULES
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.probe.mutants import MUTANTS
from tests.probe.mutation import broken
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.paths import IN_MEMORY


class RightServers(unittest.TestCase):
    def directory(self) -> str:
        return self.enterContext(tempfile.TemporaryDirectory(dir=IN_MEMORY))

    def plain(self) -> SFTPAbstractServerStorage:
        return SFTPServerStorage(self.directory())

    def jail(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.directory())

    def test_a_right_server_breaks_no_rule(self) -> None:
        of_server = [rule.name for rule in RULES.values() if rule.of_server]  # the contract tries the others
        for make, rules in ((SFTPServerMemoryStorage, None), (self.plain, of_server), (self.jail, of_server)):
            with self.subTest(make.__name__):
                faults: list[str] = []
                self.assertEqual(broken(make, rules, faults), {})
                self.assertEqual(faults, [])


class Mutants(unittest.TestCase):
    def test_each_is_caught_by_its_rule(self) -> None:
        for mutant in MUTANTS:
            with self.subTest(mutant.name):
                self.assertIn(mutant.rule, RULES)
                self.assertTrue(mutant.breaks([mutant.rule]), f"{mutant.rule} does not catch it")

    @unittest.skipUnless(IS_HARD, "each mutant is tried with every rule")
    def test_each_is_caught_by_no_rules_but_those_that_it_names(self) -> None:
        for mutant in MUTANTS:
            with self.subTest(mutant.name):
                rules = mutant.breaks()
                self.assertIn(mutant.rule, rules)
                if mutant.also is not None:
                    also = mutant.also.split() if isinstance(mutant.also, str) else mutant.also
                    self.assertEqual(set(rules), {mutant.rule, *also})
