"""Host keys: read from a file or a directory, and made where there are none yet.

What may not enter: users, connections.
"""

from __future__ import annotations

import os
import secrets
import stat

import asyncssh

KINDS = {"ssh_host_ed25519_key": ("ssh-ed25519", 0), "ssh_host_rsa_key": ("ssh-rsa", 3072)}


class HostKeyError(Exception):
    """A host key cannot be used. The text is one line."""


def from_file(path: str) -> asyncssh.SSHKey:
    """The private key in a file. Raises HostKeyError."""
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise HostKeyError(f"host key {path}: others may read it; chmod 600 it")
            return asyncssh.import_private_key(file.read())
    except OSError as error:
        raise HostKeyError(f"host key {path}: {(error.strerror or 'failure').lower()}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise HostKeyError(f"host key {path}: {str(error).lower()}") from None


def from_directory(path: str) -> tuple[list[asyncssh.SSHKey], list[str]]:
    """(keys in a directory, the files of those among them that were made just now). Raises HostKeyError."""
    keys, made = [], []
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostKeyError(f"host key directory {path}: {(error.strerror or 'failure').lower()}") from None
    for name, (kind, bits) in KINDS.items():
        file = os.path.join(path, name)
        if not os.path.lexists(file) and _make(file, kind, bits):
            made.append(file)
        keys.append(from_file(file))
    return keys, made


def _make(path: str, kind: str, bits: int) -> bool:
    """Make a key, whole or not at all. Whether it was this process who did. Raises HostKeyError."""
    key = asyncssh.generate_private_key(kind, key_size=bits) if bits else asyncssh.generate_private_key(kind)
    beside = f"{path}.{secrets.token_hex(8)}.new"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(key.export_private_key("openssh"))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(beside, path)  # where another process was faster, its key is the key
        except FileExistsError:
            return False
        finally:
            os.unlink(beside)
    except OSError as error:
        raise HostKeyError(f"host key {path}: {(error.strerror or 'failure').lower()}") from None
    return True
