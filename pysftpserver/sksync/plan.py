"""Decides which files go where: takes two listings and a type, returns the actions. What may not enter: I/O,
wire formats.

Facts: by time, a file that is missing on one side is copied there, and one that exists on both sides is
copied from the newer side if the times differ by a second or more. Ignoring time, only missing files are
copied. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pysftpserver.sksync.wire import SyncType

Listing = Mapping[str, int]


@dataclass
class Plan:
    """Names of files, in order. to_server: those that the server wants. from_server: those that the client
    lacks."""

    to_server: list[str]
    from_server: list[str]


def plan(client: Listing, server: Listing, sync_type: SyncType) -> Plan:
    """Plan a sync of that type. client, server: modification times in whole seconds, by name."""
    to_server = [name for name in client if sends_to_server(client[name], server.get(name), sync_type)]
    from_server = [name for name in server if sends_from_server(client.get(name), server[name], sync_type)]
    return Plan(sorted(to_server), sorted(from_server))


def sends_to_server(client: int, server: int | None, sync_type: SyncType) -> bool:
    """Whether a file of the client's goes to the server. server: its time there, None where it is missing."""
    return sync_type.to_server and (server is None or sync_type.by_time and client > server)


def sends_from_server(client: int | None, server: int, sync_type: SyncType) -> bool:
    """Whether a file of the server's goes to the client. client: its time there, None where it is missing."""
    return sync_type.from_server and (client is None or sync_type.by_time and server > client)
