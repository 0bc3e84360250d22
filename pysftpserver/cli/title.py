"""Hides passwords in a process's arguments, which every user of the host can read with `ps`.

The kernel reads what `ps` shows from the process's own memory, so overwriting it there is enough.
What may not enter: what the arguments mean.
Facts: proc_pid_stat(5), fields 48 and 49; proc_pid_cmdline(5); RFC 3986, section 3.2.1.
"""

from __future__ import annotations

import ctypes
import re

ARG_START = 48 - 3  # the fields are counted from the one after the program's name, field 3
# A password that is not percent-encoded as it should be may hold any character: it ends at the last @.
_IN_USERINFO = re.compile(r"://[^:]*:(.*)@", re.DOTALL)
_BEFORE_A_HOST = re.compile(r"(?:\A|(?<=\s))(?!-)[^\s:@/]+:(?!//)(.*)@", re.DOTALL)  # user:password@host
_AS_OPTION = re.compile(r"\A--redis[-_]pass=(.*)", re.DOTALL)
OPTIONS = (b"--redis-pass", b"--redis_pass")  # options whose value may be the next word
_IN_OPTIONS = re.compile(r"[?&;][^=&;]*(?:password|properties)=([^&;]*)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return the text with each character of a password in a URI replaced by a star."""
    for pattern in (_IN_USERINFO, _BEFORE_A_HOST, _IN_OPTIONS, _AS_OPTION):
        for found in pattern.finditer(text):
            start, end = found.span(1)
            text = text[:start] + "*" * (end - start) + text[end:]
    return text


def hide_passwords() -> bool:
    """Overwrite the passwords in this process's arguments with stars; return whether that was possible."""
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
