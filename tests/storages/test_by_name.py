"""Storages by their names: classes of the administrator's, with arguments in JSON."""

from __future__ import annotations

import unittest
from unittest import mock

from pysftpserver.failures import BadInput
from pysftpserver.pysftpexceptions import SFTPForbidden
from pysftpserver.storages import by_name, classes
from pysftpserver.storages.mongo import opening

JAIL = "pysftpserver.virtualchroot:SFTPServerVirtualChroot"


class ADatabase(unittest.TestCase):
    def test_indexes_that_cannot_be_created_are_told_or_are_an_error(self) -> None:
        storage = mock.Mock()
        storage.prepare.side_effect = SFTPForbidden("not authorized")
        told: list[str] = []
        opening.prepare(storage, "host:1", told.append)
        self.assertRegex(told[0], r"host:1: missing indexes cannot be created \(not authorized\)")
        with self.assertRaises(SFTPForbidden):
            opening.prepare(storage, "host:1", None)


class AClassWithArgumentsInJSON(unittest.TestCase):
    def test_it_is_made_with_a_list_with_named_arguments_or_with_one(self) -> None:
        for arguments in ('["/"]', '{"chroot": "/"}', '"/"'):
            with self.subTest(arguments):
                storage = by_name.open_storage(f"{JAIL} {arguments}", "--storage")
                self.assertEqual(type(storage).__name__, "SFTPServerVirtualChroot")

    def test_a_module_that_is_missing_is_named_with_what_to_do(self) -> None:
        wanted = r"no_such_module:Storage: No module named 'no_such_module'; install it into .* PYTHONPATH"
        with self.assertRaisesRegex(BadInput, wanted):
            by_name.open_storage("no_such_module:Storage", "--storage")

    def test_what_is_not_json_or_nested_too_deeply_is_refused_with_the_reason(self) -> None:
        for arguments, words in (("[", "not valid JSON"), ("[" * 100_000, "nested too deeply")):
            with self.subTest(words):
                with self.assertRaisesRegex(BadInput, f"^--storage: {JAIL}: the arguments are {words}$"):
                    by_name.open_storage(f"{JAIL} {arguments}", "--storage")
                with self.assertRaisesRegex(ValueError, words):  # as a user's storage of pysftpd is made
                    classes.maker(JAIL, "storage_classes")(arguments, str)
