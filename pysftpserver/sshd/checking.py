"""Finds everything that would keep the server from starting or a user from logging in, for --check-config.

It creates no files and opens no port. What may not enter: options, concrete storages.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from pysftpserver.engine.log import SFTPLog
from pysftpserver.failures import USAGE_STATUS, BadInput, one_line
from pysftpserver.people import methods
from pysftpserver.people.editors import editor
from pysftpserver.people.lookups import Command, source_of
from pysftpserver.people.users import DirectoryError
from pysftpserver.sshd import greeting, processes, run_as
from pysftpserver.sshd.authorities import Authorities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.people.user_storages import UserStorages
    from pysftpserver.sshd.config import ServerSettings

USERS_STATUS = 1  # the server starts, but some users cannot log in


def check(settings: ServerSettings, path: str | None, storages: Callable[[], UserStorages]) -> int:
    """Print what is wrong; return the exit status. path: the settings' file. storages: opens users'."""
    worst = 0
    for status, text in _problems(settings, path, storages):
        worst = max(worst, status)
        print(f"pysftpd: {one_line(text)}", file=sys.stderr)
    if not worst:
        print("the configuration is in order")
    return worst


def _problems(
    settings: ServerSettings, path: str | None, storages: Callable[[], UserStorages]
) -> Iterator[tuple[int, str]]:
    """(Exit status, what is wrong) for each mistake."""
    steps: list[Callable[[], object]] = [
        lambda: run_as.own_account(settings, path),
        lambda: processes.check(settings),
        lambda: greeting.check(settings),
        lambda: storages().load(),
    ]
    for step in steps:
        try:
            step()
        except DirectoryError as error:
            yield USAGE_STATUS, error.message
        except BadInput as error:
            yield error.status, error.message
    authorities = Authorities(settings, SFTPLog(), any_owner=os.geteuid() == 0)
    authorities.load()
    yield from ((USAGE_STATUS, trouble) for trouble in authorities.troubles())
    with suppress(BadInput):  # it has been reported
        source = source_of(settings)
        if isinstance(source, Command) and (lacks := source.problem()) is not None:
            yield USERS_STATUS, lacks
    try:
        with editor(settings) as users:
            records = users.records()
    except DirectoryError as error:
        yield (USERS_STATUS if settings.is_in_redis else USAGE_STATUS), error.message
        return
    for record in records:
        for problem in record.problems:
            yield USERS_STATUS, f"user {record.name or record.id}: {problem}"
        user = record.user
        if user is not None and user.is_active and not methods.of_user(user, settings):
            wanted = ", or ".join(user.methods or settings.auth_methods)
            how = methods.how_to_offer(user, settings)
            words = f"user {user.name}: no method that the server has lets the user in: {wanted}{how}"
            yield USERS_STATUS, words
