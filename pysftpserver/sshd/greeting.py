"""What every client is shown before its login: the host keys, and a banner.

What may not enter: users, connections.
"""

from __future__ import annotations

from typing import NamedTuple

from pysftpserver.failures import BadInput
from pysftpserver.host.accounts import own_reason
from pysftpserver.sshd import hostkeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncssh

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.config import ServerSettings

HOST_KEYS = "host-keys"  # the directory, unless the settings name another
LONGEST_BANNER = 16 << 10  # bytes


class Greeting(NamedTuple):
    """What clients are shown. keys: the host keys. banner: "" for none."""

    keys: tuple[asyncssh.SSHKey, ...]
    banner: str = ""


def read(settings: ServerSettings, log: SFTPLog, before: Greeting | None = None) -> Greeting:
    """What the files have now; host keys are generated where there are none. Raises BadInput.

    before: the greeting that was read last; its keys are not logged again.
    """
    _check_one(settings)
    made: list[str] = []
    if settings.host_key is not None:
        keys = [hostkeys.from_file(settings.host_key)]
    else:
        keys, made = hostkeys.from_directory(settings.host_key_dir or HOST_KEYS)
    new = Greeting(tuple(keys), banner(settings))
    for path in made:
        log.info(f"made the host key {path}")
    for key in keys:
        if before is None or key not in before.keys:
            log.info(f"host key {key.algorithm.decode()} {key.get_fingerprint()}")
    return new


def check(settings: ServerSettings) -> None:
    """Raises BadInput for host keys or a banner that cannot be used. Nothing is generated."""
    _check_one(settings)
    if settings.host_key is not None:
        hostkeys.from_file(settings.host_key)
    else:
        hostkeys.check(settings.host_key_dir or HOST_KEYS)
    banner(settings)


def _check_one(settings: ServerSettings) -> None:
    if settings.host_key is not None and settings.host_key_dir is not None:
        raise BadInput("host_key and host_key_dir: give one of them")


def banner(settings: ServerSettings) -> str:
    """The banner; "" for none. Raises BadInput."""
    path = settings.banner
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST_BANNER + 1)
        if len(content) > LONGEST_BANNER:
            raise BadInput(f"banner {path}: longer than {LONGEST_BANNER} bytes")
        return content.decode()
    except (OSError, ValueError) as error:
        raise BadInput(f"banner {path}: {own_reason(error)}; name a text file of this account") from None
