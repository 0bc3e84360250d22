"""The key with which a client of sshd has logged in, if sshd_config has ExposeAuthInfo yes.

sshd then names a file in SSH_USER_AUTH, with a line for each method that has succeeded, and creates it as the
account that logs in. No other file is read: a variable that a client could set must not choose one. What may
not enter: logs, sessions.
Facts: sshd_config(5) and ssh(1) on SSH_USER_AUTH; OpenSSH's PROTOCOL.certkeys.
"""

from __future__ import annotations

import os
import stat

VARIABLE = b"SSH_USER_AUTH"
FILES = b"/tmp/sshauth."  # sshd appends letters and digits to it
MOST = 1 << 16  # bytes of the file
CERTIFICATE = b"-cert-v01"
NUMBERS = {b"ssh-rsa": 2, b"ecdsa": 2, b"sk-ecdsa": 3, b"sk-ssh": 2}  # fields of a key; of others, 1


def key() -> str | None:
    """The fingerprint of the client's key, as in ssh-keygen and sshd's log: SHA256:...

    For a certificate, that of its key, and the certificate's id and serial number in parentheses. None if
    sshd does not tell, or the client has not used a key.
    """
    path = os.environb.get(VARIABLE, b"")
    if not path.startswith(FILES) or not path[len(FILES) :].isalnum():
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            is_sshds = stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.getuid())
            lines = os.read(descriptor, MOST).splitlines() if is_sshds else []
        finally:
            os.close(descriptor)
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) >= 3 and words[0] == b"publickey":
            try:
                return _described(words[2])
            except ValueError:
                return None
    return None


def _described(base64: bytes) -> str:
    """The fingerprint, with what key() adds to it. Raises ValueError if the text is not a key."""
    import binascii

    blob = binascii.a2b_base64(base64)
    kind, rest = _string(blob)
    if CERTIFICATE not in kind:
        return _fingerprint(blob)
    plain = kind.replace(CERTIFICATE, b"")
    if not plain.startswith(b"sk-"):
        plain = plain.removesuffix(b"@openssh.com")
    _, rest = _string(rest)  # random
    body = rest
    for _ in range(next((count for name, count in NUMBERS.items() if plain.startswith(name)), 1)):
        _, rest = _string(rest)
    own = _packed(plain) + body[: len(body) - len(rest)]
    serial = int.from_bytes(rest[:8], "big")
    name, _ = _string(rest[12:])  # after the certificate's type
    return f"{_fingerprint(own)} (certificate {ascii(name.decode(errors='replace'))}, serial {serial})"


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A string, and the bytes after it. Raises ValueError."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(4, end):
        raise ValueError("too short")
    return data[4:end], data[end:]


def _packed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _fingerprint(blob: bytes) -> str:
    import binascii
    import hashlib

    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False)
    return f"SHA256:{digest.decode().rstrip('=')}"
