"""Key files: making a pair, and reading the files that a command names.

What may not enter: sessions, HTTP, what keys are used for.
"""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.host import wholefiles
from pysftpserver.remo import crypto


class KeyPair:
    """The files of a key pair. base: their path up to and including the prefix."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.private_path = f"{base}_key.pem"
        self.public_path = f"{base}.pem"

    def make(self, passphrase: bytes) -> str:
        """Generate an Ed448 pair; return the public key's fingerprint. Nothing is replaced.

        passphrase: empty for a key that is not encrypted. Raises BadInput.
        """
        for path in (self.private_path, self.public_path):
            if os.path.lexists(path):
                raise BadInput(f"{path} already exists; remove it, or choose another prefix")
        key = crypto.new_key()
        public = crypto.public_pem(key.public_key())
        try:
            with wholefiles.open_temporary(self.private_path, crypto.private_pem(key, passphrase)) as file:
                file.commit(replace=False)
            with wholefiles.open_temporary(self.public_path, public, 0o644) as file:
                file.commit(replace=False)
        except OSError as error:
            raise BadInput(f"{self._base}*: {reason_of(error)}; name a writable directory") from None
        return crypto.fingerprint(key.public_key())


def read_pem(path: str | os.PathLike[str]) -> bytes:
    """The content of a key file, up to one byte over the limit, so that callers see if it is too long."""
    with open(path, "rb") as file:
        return file.read(crypto.MOST_PEM + 1)


def public_text(path: str) -> str:
    """The text of a file with a public key. Raises BadInput."""
    try:
        return read_pem(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {reason_of(error)}; name a file with a public key") from None


def public_key(path: str, option: str) -> crypto.PublicKey:
    """A public key. option: the option that named the file. Raises BadInput."""
    try:
        return crypto.load_public(read_pem(path))
    except (OSError, crypto.KeyProblem) as error:
        raise unusable(path, option, error) from None


def unusable(path: str, option: str, error: Exception) -> BadInput:
    """The error for a key file. option: the option that named it."""
    if isinstance(error, OSError):
        return BadInput(f"{option} {path}: {reason_of(error)}; name a file with a key in PEM")
    return BadInput(f"{option} {path}: {error}")
