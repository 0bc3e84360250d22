"""The kind of a file by its first bytes, for the key `magic` of a gate's limits.

What may not enter: storages, gates. Facts: the magic(5) files of file(1); RFC 3629 for text.
"""

from __future__ import annotations

import codecs

LONGEST_LOOK = 64 << 10  # bytes
TAR_AT = 257
BYTES = {
    "7z": (b"7z\xbc\xaf\x27\x1c",),
    "bzip2": (b"BZh",),
    "gif": (b"GIF87a", b"GIF89a"),
    "gzip": (b"\x1f\x8b",),
    "jpeg": (b"\xff\xd8\xff",),
    "pdf": (b"%PDF-",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "xml": (b"<?xml", b"\xef\xbb\xbf<?xml"),
    "xz": (b"\xfd7zXZ\0",),
    "zip": (b"PK\3\4", b"PK\5\6"),
    "zstd": (b"\x28\xb5\x2f\xfd",),
}
KINDS = (*sorted((*BYTES, "tar", "text")),)
HEX = "hex "


def check(text: str) -> None:
    """Raises ValueError for a text that is not a kind: a word of KINDS, or `hex ` and hexadecimal digits."""
    if text in KINDS:
        return
    try:
        if text.startswith(HEX) and bytes.fromhex(text.removeprefix(HEX)):
            return
    except ValueError:
        pass
    raise ValueError(f"{text}: unknown; known are {', '.join(KINDS)}, and bytes such as hex 504b0304")


def is_kind(kind: str, beginning: bytes) -> bool:
    """Whether a file is of a kind. beginning: its first LONGEST_LOOK bytes, or all of it."""
    if kind == "text":
        return _is_text(beginning)
    if kind == "tar":
        return beginning[TAR_AT : TAR_AT + 5] == b"ustar"
    if kind.startswith(HEX):
        return beginning.startswith(bytes.fromhex(kind.removeprefix(HEX)))
    return beginning.startswith(BYTES[kind])


def _is_text(beginning: bytes) -> bool:
    """Whether it is UTF-8 without NUL. A character cut off at the end is accepted."""
    if b"\0" in beginning:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning, len(beginning) < LONGEST_LOOK)
    except UnicodeDecodeError:
        return False
    return True
