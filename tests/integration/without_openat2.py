"""Run a command as on a kernel without openat2(2): ``python without_openat2.py COMMAND ...``.

A seccomp filter answers ENOSYS to that system call, in the command and in all that it starts. (hide() does it
for others, too.)
Facts: seccomp(2), prctl(2), linux/filter.h; openat2 has the same number on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

OPENAT2 = 437

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000

# The classes and modes of BPF instructions that the filter is made of.
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def hide(*numbers: int) -> None:
    """Install a filter in this process that hides those system calls.

    Raises:
        OSError: the kernel refuses it.
    """
    instructions = (
        (LOAD_WORD, 0, 0, 0),  # the number of the system call
        *((JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (RETURN, 0, 0, SECCOMP_RET_ALLOW),
        (RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in instructions))
    # struct sock_fprog: the padding between length and pointer is the native alignment's.
    program = struct.pack("HP", len(instructions), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    zero = ctypes.c_ulong(0)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero),
        (PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.c_char_p(program), zero, zero),
    ):
        if prctl(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    hide(OPENAT2)
    os.execvp(sys.argv[1], sys.argv[1:])
