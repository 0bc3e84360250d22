"""The C library through the compiled part of ctypes, which documents none of it."""

from __future__ import annotations

import ctypes
import errno
import unittest

from pysftpserver.host import libc


class Library(unittest.TestCase):
    def test_types_are_those_of_ctypes(self) -> None:
        for name in ("c_char", "c_int", "c_long", "c_ulong", "c_longlong"):
            with self.subTest(name):
                sizes = [ctypes.sizeof(getattr(module, name)) for module in (libc, ctypes)]
                self.assertEqual(sizes[0], sizes[1])
        self.assertEqual(ctypes.sizeof(libc.c_size_t), ctypes.sizeof(ctypes.c_size_t))

    def test_functions_are_called_and_keep_errno_and_a_missing_one_is_none(self) -> None:
        self.assertEqual(libc.function("close")(-1), -1)
        self.assertEqual(libc.get_errno(), errno.EBADF)
        self.assertEqual(libc.function("strlen")(b"four"), 4)
        self.assertIsNone(libc.function("there is none"))
