"""The storage contract suite: every rule of the storage API, as tests for any storage.

    class TestMine(StorageContract, unittest.TestCase):
        def make_storage(self):
            return MyStorage(...)  # fresh and empty, each time

Rules that a client can see are in the table of rules/, which pysftp-probe runs against any server; each is
a test here. Rules about methods only are in the modules next to this one, tried on the storage's own methods.
base.py says what an incomplete storage has to declare. What may not enter: what a particular storage, a door
or an operating system adds to the rules of abstractstorage.py.
"""

from __future__ import annotations

from pysftpserver.contract.attributes import AttributeRules
from pysftpserver.contract.base import EXTENSIONS, needs
from pysftpserver.contract.directories import DirectoryRules
from pysftpserver.contract.files import FileRules
from pysftpserver.contract.names import NameRules
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.session import SessionRules
from pysftpserver.contract.tree import TreeRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.base import ContractBase
    from pysftpserver.contract.table import Rule

__all__ = ["StorageContract"]


class StorageContract(FileRules, AttributeRules, DirectoryRules, TreeRules, NameRules, SessionRules):
    """Mix this into a unittest.TestCase and override make_storage(); see base.ContractBase for the rest."""


def _test_of(rule: Rule) -> Callable[[ContractBase], None]:
    """A rule of the table as a test of a storage, which is never skipped: see needs()."""
    methods = (method for need in rule.needs for method in EXTENSIONS.get(need.encode(), (need,)))

    def test(case: ContractBase) -> None:
        rule.check(case.subject)

    test.__doc__ = rule.sentence
    return needs(*dict.fromkeys(methods))(test)


for _rule in RULES.values():
    if not _rule.of_server:
        setattr(StorageContract, f"test_{_rule.check.__name__}", _test_of(_rule))
