"""The lines of authorized_keys for one user, which force a command in the user's directory.

What may not enter: SSH, how a directory holds its users, and, with a file, anything that is slow to import.
Facts: sshd(8) on authorized_keys.
"""

from __future__ import annotations

import os
import shlex

from pysftpserver.failures import BadInput
from pysftpserver.people import forced
from pysftpserver.people.keys import entry_line, key_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.people.records import Record
    from pysftpserver.people.users import User
    from pysftpserver.sshd.config import ServerSettings


def find(settings: ServerSettings, name: str) -> Record | None:
    """The record of a user, in the file of users or else in Redis; None: there is none.

    Raises DirectoryError, BadInput.
    """
    if settings.users is not None:
        from pysftpserver.people import users_file

        loaded = users_file.load(os.path.abspath(settings.users), any_owner=os.geteuid() == 0)
        return next((record for record in loaded.records if record.name == name), None)
    from pysftpserver.people.redis_editing import Reader, connect, told
    from pysftpserver.people.redis_records import RedisAddress

    address = RedisAddress.of(settings)
    with told(address), connect(address) as client:
        reader = Reader(client)
        id = reader.id_of(name)
        return reader.record(id) if id is not None else None


def in_folder(user: User, sftp_path: str, command: str) -> str:
    """The words of a command for a user's folder. command: words for a shell; the directory is added."""
    return f"{command} {shlex.quote(os.path.join(sftp_path, user.folder))}"


def in_storage(user: User, name: str, command: str) -> str:
    """The words of a command for a storage with a name. command: words for a shell; these are added."""
    return f"{command} {shlex.quote(f'--user={user.name}')} -- {shlex.quote(name)}"


def lines_for(user: User, words: str) -> list[str]:
    """A line for each key of a user. words: of the command to be forced. Raises BadInput."""
    try:
        options = forced.options(words, user.networks or "")
    except ValueError as error:
        raise BadInput(f"user {user.name}: {error}; rename the folder") from None
    lines = [f"{options} {key_line(blob)}" for blob in sorted(user.keys)]
    for blob, principals in sorted(user.authorities):
        # Named always: without this option, some versions of sshd accept a certificate without principals.
        names = principals or (user.name,)
        if not set(user.name) & set('",\\'):  # the name of a system account has none of these
            lines.append(f"{options},{entry_line((blob, names))}")
    return lines
