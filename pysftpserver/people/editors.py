"""Chooses the editor for the directory of users that the settings name.

What may not enter: what is changed, commands.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.people.editing import UsersEditor
    from pysftpserver.people.settings import PeopleSettings


def editor(settings: PeopleSettings) -> UsersEditor:
    """The directory of users, open for changes. Raises DirectoryError."""
    if not settings.is_in_redis:
        from pysftpserver.people.file_editing import FileEditor

        return FileEditor(settings.users_file)
    from pysftpserver.people.redis_editing import RedisEditor
    from pysftpserver.people.redis_records import RedisAddress

    return RedisEditor(RedisAddress.of(settings))
