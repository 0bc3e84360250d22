"""asyncssh's own SFTPServer on a port of loopback: asyncssh_server.py HOST_KEY AUTHORIZED_KEYS"""

from __future__ import annotations

import asyncio
import sys

import asyncssh


async def main(host_key: str, authorized_keys: str) -> None:
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        sftp_factory=asyncssh.SFTPServer,
    )
    print(f"listening on {server.get_port()}", flush=True)
    await server.wait_closed()


asyncio.run(main(*sys.argv[1:]))
