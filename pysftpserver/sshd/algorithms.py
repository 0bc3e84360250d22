"""The algorithms that the server offers: strong ones, the fastest on this processor first.

What may not enter: I/O, except for reading what the processor can do.
"""

from __future__ import annotations

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from pysftpserver.failures import BadInput
from pysftpserver.people.keys import SIGNATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.sshd.config import ServerSettings

AES = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CHACHA = ("chacha20-poly1305@openssh.com",)
COUNTER = ("aes256-ctr", "aes192-ctr", "aes128-ctr")  # for clients that have nothing newer
MACS = (
    "umac-128-etm@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
KEX = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512@openssh.com",
    "sntrup761x25519-sha512",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",  # larger groups take five times as long, and group exchange offers them
    "diffie-hellman-group14-sha256",
)
_THERE = {
    "ciphers": get_encryption_algs,
    "macs": get_mac_algs,
    "kex": get_kex_algs,
    "signatures": get_public_key_algs,
}


def has_aes() -> bool:
    """Whether the processor has instructions for AES."""
    try:
        with open("/proc/cpuinfo") as about:
            return any(" aes" in line for line in about if line.startswith(("flags", "Features")))
    except OSError:
        return False


def chosen(settings: ServerSettings) -> dict[str, Any]:
    """The options of asyncssh for the algorithms. Raises BadInput."""
    ciphers = (*AES, *CHACHA, *COUNTER) if has_aes() else (*CHACHA, *AES, *COUNTER)
    return {
        "encryption_algs": _known("ciphers", settings.ciphers or ciphers, settings.ciphers is not None),
        "mac_algs": _known("macs", settings.macs or MACS, settings.macs is not None),
        "kex_algs": _known("kex", settings.kex or KEX, settings.kex is not None),
        "signature_algs": _known("signatures", SIGNATURES, False),
    }


def host_keys(keys: Sequence[asyncssh.SSHKey]) -> Sequence[asyncssh.SSHKeyPair]:
    """Keys that sign by SIGNATURES alone: asyncssh would offer an RSA key with SHA-1 too."""
    pairs = asyncssh.load_keypairs(list(keys))
    for pair in pairs:
        pair.host_key_algorithms = [one for one in pair.host_key_algorithms if one.decode() in SIGNATURES]
    return pairs


def refuse_others(key: asyncssh.SSHKey) -> None:
    """Let a client's key verify signatures by SIGNATURES alone.

    asyncssh announces only what it is told to, but verifies every signature algorithm of the key's type: for
    RSA, SHA-1 as well.
    """
    key.all_sig_algorithms = {one for one in key.all_sig_algorithms if one.decode() in SIGNATURES}


def _known(option: str, wanted: tuple[str, ...], is_asked_for: bool) -> list[str]:
    """The wanted algorithms that asyncssh has here. Raises BadInput if one that was asked for is missing."""
    there = {name.decode() for name in _THERE[option]()}
    missing = [name for name in wanted if name not in there]
    if missing and is_asked_for:
        raise BadInput(f"{option}: {', '.join(missing)}: unknown; use some of {', '.join(sorted(there))}")
    return [name for name in wanted if name in there]
