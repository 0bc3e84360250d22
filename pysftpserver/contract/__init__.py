"""The storage contract suite: every rule of the storage API, as tests for any storage.

    class TestMine(StorageContract, unittest.TestCase):
        def make_storage(self):
            return MyStorage(...)  # fresh and empty, each time

Rules are tried on the storage's own methods, and, where a client would see a status, by a client as
well. base.py says what a storage that is not complete has to declare. What may not enter: what a
particular storage, a door or an operating system adds to the rules of abstractstorage.py.
"""

from __future__ import annotations

from pysftpserver.contract.attributes import AttributeRules
from pysftpserver.contract.directories import DirectoryRules
from pysftpserver.contract.files import FileRules
from pysftpserver.contract.names import NameRules
from pysftpserver.contract.session import SessionRules
from pysftpserver.contract.tree import TreeRules

__all__ = ["StorageContract"]


class StorageContract(FileRules, AttributeRules, DirectoryRules, TreeRules, NameRules, SessionRules):
    """Mix this into a unittest.TestCase and override make_storage(); see base.ContractBase for the rest."""
