"""A process's title, which everybody on its host can read, without the passwords that were typed into it.

The arguments of a program lie in its own memory, and what `ps` shows is read from there: what is
overwritten is gone. What may not enter: what the arguments mean.
Facts: proc_pid_stat(5), fields 48 and 49; proc_pid_cmdline(5); RFC 3986, section 3.2.1.
"""

from __future__ import annotations

import ctypes
import re

ARG_START = 48 - 3  # what follows the program's name begins with field 3
# A password that should have been percent-encoded may hold any character: it ends at the last @.
_IN_USERINFO = re.compile(r"://[^:]*:(.*)@", re.DOTALL)
_AS_OPTION = re.compile(r"\A--redis[-_]pass=(.*)", re.DOTALL)
OPTIONS = (b"--redis-pass", b"--redis_pass")  # whose value may be the next word
_IN_OPTIONS = re.compile(r"[?&;][^=&;]*(?:password|properties)=([^&;]*)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """The text with stars, one for each character, for the passwords of URIs in it."""
    for pattern in (_IN_USERINFO, _IN_OPTIONS, _AS_OPTION):
        for found in pattern.finditer(text):
            start, end = found.span(1)
            text = text[:start] + "*" * (end - start) + text[end:]
    return text


def hide_passwords() -> bool:
    """Overwrite the passwords of URIs in this process's arguments; return whether that was possible."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return False
    start, end = map(int, fields[ARG_START : ARG_START + 2])
    if not 0 < start < end:
        return False
    words = ctypes.string_at(start, end - start).split(b"\0")
    after = (b"", *words)
    hidden = b"\0".join(
        b"*" * len(word) if before in OPTIONS else without_passwords(word.decode("latin-1")).encode("latin-1")
        for before, word in zip(after, words, strict=False)
    )
    ctypes.memmove(start, hidden, end - start)
    return True
