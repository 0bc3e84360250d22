"""The C library's functions, called through the compiled part of ctypes.

Importing ctypes itself would take a tenth of a session's start, and all it would add are the names of a few
C types. Each type takes time as well: numbers of an int's size, bytes and arrays can be passed as they are.
What may not enter: which functions are called, and what for.
Facts: the source of ctypes.
"""

from __future__ import annotations

import os
from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    _SimpleCData,
    addressof,
    dlopen,
    dlsym,
    get_errno,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["addressof", "get_errno"]


class c_char(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class c_int(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class c_long(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class c_ulong(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "L"


class c_longlong(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "q"


c_size_t = c_ulong  # on every Linux


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_int


def load(library: str | None) -> int:
    """Load a library and return its handle; None: what is loaded already. Raises OSError."""
    return dlopen(library, 0)  # type: ignore[arg-type]


_everything = load(None)


def function(name: str) -> Any:
    """A function that returns an int, keeps errno for get_errno(), and lets other threads run meanwhile.

    None if the C library lacks it.
    """
    try:
        return _Function(dlsym(_everything, name))
    except OSError:
        return None


def check(result: int) -> int:
    """The result of a function that returns -1 for an error. Raises OSError with its errno."""
    if result < 0:
        error = get_errno()
        raise OSError(error, os.strerror(error))
    return result
