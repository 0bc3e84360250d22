"""How a command logs in: keys from files, a passphrase if one is needed, remembered servers.

What may not enter: what the session is for.
"""

from __future__ import annotations

import getpass
import os
import sys

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.remo import client, crypto
from pysftpserver.remo.config import PASSPHRASE, ClientSettings
from pysftpserver.remo.keyfiles import public_key, unusable
from pysftpserver.remo.known import KnownServers
from pysftpserver.service.terminal import state_directory

COMMAND = "pysftpremo"


def state_file(name: str) -> str:
    """The path of a file in which the command keeps state for its user."""
    return os.path.join(state_directory(COMMAND, os.environ), name)


def log_in(host: str, values: ClientSettings) -> client.Client:
    """A session with a host, or the server of a URL. Raises BadInput, Unavailable."""
    user = values.user or getpass.getuser()
    key = values.key or f"{user}_key.pem"

    def passphrase() -> str:
        if PASSPHRASE in os.environ:
            return os.environ[PASSPHRASE]
        if not sys.stdin.isatty():
            raise BadInput(f"--key {key}: the key is encrypted; set {PASSPHRASE}, or use a terminal")
        return getpass.getpass(f"Passphrase for {key}: ")

    public = public_key(values.server, "--server")
    known = KnownServers(state_file("numbered"))
    was_numbered = known.is_numbered(crypto.fingerprint(public))
    try:
        opened = client.connect(
            host,
            values.port,
            user=user,
            key=key,
            passphrase=passphrase,
            server_key=public,
            require_numbered=values.require_numbered or was_numbered,
            timeout=values.timeout,
        )
    except (OSError, crypto.KeyProblem) as error:
        raise unusable(key, "--key", error) from None
    except ValueError as error:
        raise BadInput(str(error)) from None
    except client.NotNumbered as error:
        hint = f"; it did before, according to {known.path}" if was_numbered else ""
        raise Unavailable(f"{error}{hint}") from None
    except client.RemoError as error:
        raise Unavailable(str(error)) from None
    if opened.is_numbered:
        known.remember(crypto.fingerprint(public))
    opened.encoding = values.encoding
    return opened
