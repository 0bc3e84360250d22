"""The lines of authorized_keys for one user, which force a command in the user's directory.

What may not enter: SSH, how a directory holds its users, and, with a file, anything that is slow to import.
Facts: sshd(8) on authorized_keys; OpenSSH's misc.c, opt_dequote().
"""

from __future__ import annotations

import os
import shlex

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.sshd.keys import key_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.records import Record
    from pysftpserver.sshd.users import User


def find(settings: ServerSettings, name: str) -> Record | None:
    """The record of a user, in the file of users or else in Redis; None: there is none.

    Raises DirectoryError, BadInput.
    """
    if settings.users is not None:
        from pysftpserver.sshd import users_file

        loaded = users_file.load(os.path.abspath(settings.users), any_owner=os.geteuid() == 0)
        return next((record for record in loaded.records if record.name == name), None)
    from pysftpserver.sshd.redis_editing import Reader, connect, told
    from pysftpserver.sshd.redis_records import RedisAddress

    address = RedisAddress.of(settings)
    with told(address), connect(address) as client:
        reader = Reader(client)
        id = reader.id_of(name)
        return reader.record(id) if id is not None else None


def lines_for(user: User, sftp_path: str, command: str, storage: str | None = None) -> list[str]:
    """A line for each key of a user. command: words for a shell, to which the directory is added. storage: of
    users who have none of their own; None: their folder.

    Raises BadInput, and Unavailable for a user whose files are not in a directory.
    """
    storage = user.storage or storage
    if storage is not None:
        raise Unavailable(
            f"user {user.name}: the files are in {storage}, which is not a folder below sftp_path; serve "
            "this user with pysftpd"
        )
    words = f"{command} {shlex.quote(os.path.join(sftp_path, user.folder))}"
    # In the quotes of authorized_keys, \" is the only escape: a command that ends in a backslash and a line
    # end cannot be written.
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in words) or words.endswith("\\"):
        raise BadInput(
            f"user {user.name}: the command cannot be written in authorized_keys; rename the folder"
        )
    quoted = words.replace('"', '\\"')
    return [f'restrict,command="{quoted}" {key_line(blob)}' for blob in sorted(user.keys)]
