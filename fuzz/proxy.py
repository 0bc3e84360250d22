"""The target for PROXY headers: each input, whole and byte by byte, against the specification's own rules.

An input is one unused byte, and what a proxy sends. What may not enter: atheris, sockets.
"""

from __future__ import annotations

import ipaddress

from pysftpserver.service.proxyprotocol import LONGEST, SIGNATURE, BadHeader, begins, length, parse


def announce(data: bytes) -> None:
    """The target: takes a header as the server does."""
    sent = data[1:]
    found = _length(sent)
    # In pieces, the result is the same, and no byte after the header is asked for.
    for end in range(len(sent) + 1):
        part = _length(sent[:end])
        if part is None:
            continue
        if part == "bad":
            assert found == "bad", f"refused at {end} bytes, and taken as a whole"
            break
        assert part == found == end, f"a header of {found} bytes ends at {end}"
        break
    if not isinstance(found, int):
        return
    assert begins(sent) and found <= LONGEST
    try:
        header = parse(sent[:found])
    except BadHeader as error:
        assert str(error).isprintable()
        return
    assert not (header.client and header.is_own)
    if header.client is None:
        return
    address = ipaddress.ip_address(header.client[0])
    assert 0 <= header.client[1] <= 65535
    if sent.startswith(SIGNATURE):
        size = 4 if sent[13] == 0x11 else 16
        assert address.packed == sent[16 : 16 + size]
        assert header.client[1] == int.from_bytes(sent[16 + 2 * size : 18 + 2 * size], "big")
    else:
        words = sent[:found].decode().split(" ")
        assert sent[:found].endswith(b"\r\n") and len(words) == 6
        assert words[1] == f"TCP{address.version}" and ipaddress.ip_address(words[2]) == address
        assert words[4] == str(header.client[1])


def _length(data: bytes) -> int | None | str:
    try:
        return length(data)
    except BadHeader as error:
        assert str(error).isprintable()
        return "bad"
