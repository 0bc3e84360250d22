"""The table of what storages can do says what the contract suite has tested."""

from __future__ import annotations

import unittest

from pysftpserver.storages.by_name import SCHEMES
from tests.foreign import test_contract as of_fsspec
from tests.mongo import test_contract as of_mongo
from tests.objects import test_contract as of_objects
from tests.proxy import test_contract as of_proxy
from tests.storages import test_contract_storages


class Abilities(unittest.TestCase):
    def test_the_table_has_what_the_tests_of_the_contract_declare(self) -> None:
        declared = {
            "plain": test_contract_storages.PlainStorage.unsupported,
            "jail": test_contract_storages.JailWithOpenat2.unsupported,
            **dict.fromkeys(("s3", "gs", "az"), of_objects.ObjectsKeepTheContract.unsupported),
            "fsspec": of_fsspec.InMemory.unsupported,
            "sftp": of_proxy.ProxyKeepsTheContract.unsupported,
            "gridfs": of_mongo.GridFSKeepsTheContract.unsupported,
        }
        for name, unsupported in declared.items():
            with self.subTest(name):
                self.assertEqual(SCHEMES[name].cannot, unsupported)
