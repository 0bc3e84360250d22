"""A packet of SFTP version 3 in words."""

from __future__ import annotations

from pysftpserver.engine import wire

_NAMES = {
    value: name.removeprefix("SSH2_FXP_")
    for name, value in vars(wire).items()
    if name.startswith("SSH2_FXP_") and isinstance(value, int)
}


def words_of(packet: bytes, asked: bool) -> str:
    """What a packet says. asked: whether the probe sent it."""
    return _NAMES.get(packet[4], f"type {packet[4]}") if len(packet) > 4 else "no packet"
