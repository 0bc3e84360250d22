"""Host keys: read from a file or a directory, and generated where there are none yet.

What may not enter: users, connections.
"""

from __future__ import annotations

import os
import stat

import asyncssh

from pysftpserver.failures import BadInput
from pysftpserver.host import wholefiles
from pysftpserver.host.accounts import own_name, own_reason

KINDS = {"ssh_host_ed25519_key": ("ssh-ed25519", 0), "ssh_host_rsa_key": ("ssh-rsa", 3072)}


def from_file(path: str) -> asyncssh.SSHKey:
    """The private key in a file. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise BadInput(f"host key {path}: others may read it; run chmod 600 {path}")
            return asyncssh.import_private_key(file.read())
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise BadInput(f"host key {path}: {own_reason(error)}") from None


def from_directory(path: str) -> tuple[list[asyncssh.SSHKey], list[str]]:
    """(keys in a directory, the files of those that were generated just now). Raises BadInput."""
    keys, made = [], []
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        made_by_root = f"install -d -m 700 -o {own_name()} /var/lib/pysftpd"
        how = "start it in a directory that this account may write, or name one with --host-key-dir"
        how += f"; root makes one with: {made_by_root}"
        raise BadInput(f"host key directory {path}: {own_reason(error)}; {how}") from None
    for name, (kind, bits) in KINDS.items():
        file = os.path.join(path, name)
        if not os.path.lexists(file) and _make(file, kind, bits):
            made.append(file)
        keys.append(from_file(file))
    return keys, made


def check(path: str) -> None:
    """Raises BadInput for a directory whose keys cannot be used; they may be missing."""
    for name in KINDS:
        file = os.path.join(path, name)
        if os.path.lexists(file):
            from_file(file)


def _make(path: str, kind: str, bits: int) -> bool:
    """Generate a key file; return whether this process did, and not another. Raises BadInput."""
    key = asyncssh.generate_private_key(kind, key_size=bits) if bits else asyncssh.generate_private_key(kind)
    try:
        with wholefiles.open_temporary(path, key.export_private_key("openssh")) as new:
            new.commit(replace=False)
    except FileExistsError:
        return False  # another process was faster, and its key is used
    except OSError as error:
        raise BadInput(f"host key {path}: {own_reason(error)}") from None
    return True
