"""The storage on another SFTP server keeps the storage contract, at the server's top and below a root."""

from __future__ import annotations

import os

from pysftpserver.contract.names import NameRules
from pysftpserver.contract.tree import TreeRules
from pysftpserver.proxystorage import SFTPServerProxyStorage
from pysftpserver.testing import StorageContract
from tests.proxy.servers import BehindTheProxy


class ProxyKeepsTheContract(StorageContract, BehindTheProxy):
    unsupported = frozenset({"nlink"})

    def make_storage(self) -> SFTPServerProxyStorage:
        return self.open_storage()


class BelowARoot(TreeRules, NameRules, BehindTheProxy):
    """The rules for paths: a root changes these."""

    unsupported = frozenset({"nlink"})

    def make_storage(self) -> SFTPServerProxyStorage:
        return self.open_storage(root=os.fsencode(self.root))
