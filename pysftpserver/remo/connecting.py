"""How a command logs in: keys from files, a passphrase where one is needed, servers that are remembered.

What may not enter: what the session is for.
"""

from __future__ import annotations

import getpass
import os
import sys

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.remo import client, crypto
from pysftpserver.remo.keyfiles import private_key, public_key
from pysftpserver.remo.known import KnownServers
from pysftpserver.service.terminal import state_directory

PASSPHRASE = "PYSFTPREMO_PASSPHRASE"  # in the environment
COMMAND = "pysftpremo"


def state_file(name: str) -> str:
    """A file in which the command remembers something of its user."""
    return os.path.join(state_directory(COMMAND, os.environ), name)


def log_in(
    host: str,
    port: int | None,
    *,
    server: str,
    user: str | None,
    key: str | None,
    encoding: str,
    require_numbered: bool,
    timeout: float,
) -> client.Client:
    """A session. server: the file with the server's public key. user: None for this host's user. key: the
    file with the private key; None for USER_key.pem. timeout: seconds. Raises BadInput, Unavailable.
    """
    user = user or getpass.getuser()
    key = key or f"{user}_key.pem"

    def passphrase() -> str:
        if PASSPHRASE in os.environ:
            return os.environ[PASSPHRASE]
        if not sys.stdin.isatty():
            raise BadInput(f"--key {key}: the key is encrypted; set {PASSPHRASE}, or use a terminal")
        return getpass.getpass(f"Passphrase for {key}: ")

    private = private_key(key, "--key", passphrase)
    public = public_key(server, "--server")
    known = KnownServers(state_file("numbered"))
    was_numbered = known.is_numbered(crypto.fingerprint(public))
    try:
        opened = client.connect(
            host,
            port,
            user=user,
            key=private,
            server_key=public,
            require_numbered=require_numbered or was_numbered,
            timeout=timeout,
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
    except client.NotNumbered as error:
        hint = f"; it did before, according to {known.path}" if was_numbered else ""
        raise Unavailable(f"{error}{hint}") from None
    except client.RemoError as error:
        raise Unavailable(str(error)) from None
    if opened.is_numbered:
        known.remember(crypto.fingerprint(public))
    opened.encoding = encoding
    return opened
