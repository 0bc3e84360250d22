"""The table of supplied services, and how those that a server offers are made from its settings.

The one that needs another library is imported only if it is offered. What may not enter: what services do,
concrete storages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.failures import BadInput, needed, one_line
from pysftpserver.laboratory.config import ServerSettings
from pysftpserver.laboratory.service import Service, title_of
from pysftpserver.laboratory.services.chat import Chat
from pysftpserver.laboratory.services.clock import Time
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.services.files import Files

OpenStorage = Callable[[str], SFTPAbstractServerStorage]
Make = Callable[[ServerSettings, OpenStorage], Service]


def _http(settings: ServerSettings, open_storage: OpenStorage) -> Service:
    with needed("laboratory", "httpx"):
        from pysftpserver.laboratory.services.http import HTTP
    try:
        return HTTP(settings.http_allow, settings.http_timeout, settings.http_max_bytes)
    except ValueError as error:
        raise BadInput(f"http_allow: {error}") from None


def _files(settings: ServerSettings, open_storage: OpenStorage) -> Service:
    storage = settings.files
    if storage is None:
        raise BadInput("service files: it has no storage; name one with --files")
    open_storage(storage).release()  # report a mistake in the name now, not when a client connects
    return Files(lambda: open_storage(storage), settings.files_max_bytes, settings.files_read_only)


#: The function that makes each service, and whether it is offered if no setting names services.
SUPPLIED: dict[str, tuple[Make, Callable[[ServerSettings], bool]]] = {
    "echo": (lambda settings, _: Echo(), lambda settings: True),
    "chat": (lambda settings, _: Chat(settings.chat_history, settings.chat_rooms), lambda settings: True),
    "time": (lambda settings, _: Time(), lambda settings: True),
    "http": (_http, lambda settings: bool(settings.http_allow)),
    "files": (_files, lambda settings: settings.files is not None),
}


def services_of(
    settings: ServerSettings, open_storage: OpenStorage, named: Callable[[str], Any]
) -> list[Service]:
    """The services to offer; clients begin with the first.

    open_storage: opens a storage by name. named: returns what `module:Class` names. Raises BadInput.
    """
    if not settings.service:
        return [
            make(settings, open_storage) for make, is_offered in SUPPLIED.values() if is_offered(settings)
        ]
    found = [
        SUPPLIED[name.lower()][0](settings, open_storage) if name.lower() in SUPPLIED else _own(name, named)
        for name in settings.service
    ]
    if len({title_of(service).casefold() for service in found}) < len(found):
        raise BadInput("service: two services have the same name; offer one of them")
    return found


def _own(name: str, named: Callable[[str], Any]) -> Service:
    if ":" not in name:
        raise BadInput(f"service {name}: not a supplied service; write {', '.join(SUPPLIED)} or module:Class")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that people can try out their own services
    kind = named(name)
    if not isinstance(kind, type) or not issubclass(kind, Service):
        raise BadInput(f"service {name}: not a subclass of pysftpserver.laboratory.service.Service")
    try:
        return kind()
    except (Exception, SystemExit) as error:
        raise BadInput(f"service {name}: {type(error).__name__}: {one_line(str(error))}") from None
