"""Behind a real HAProxy and a real nginx: what they send is understood, and their own checks cost nothing.

Daily where they are installed; `make test-hard` installs them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from tests.sshd.inprocess import HOST, KEY, Running, asynchronous, running
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.ports import free_port
from tests.support.processes import Program
from tests.support.waiting import PATIENCE

CLIENT = "127.0.0.9"
#: Nothing may come of the proxies' own connections, which are not in these networks.
OPTIONS = {"proxy_from": HOST, "allow_networks": f"{CLIENT}/32", "bans": "yes", "ban_points": "2"}

HAPROXY = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen sftp
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{server} {how} check inter 100ms
"""
NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid {place}/pid;
error_log stderr;
events {{}}
stream {{
    server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{server}; proxy_protocol on; proxy_timeout 1h; }}
}}
"""


def program(name: str) -> str | None:
    """Where it is; Debian's are for root."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


@unittest.skipUnless(IS_HARD or (program("haproxy") and program("nginx")), "neither hard nor installed")
class Balancers(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-balancer-"))
        self.addCleanup(shutil.rmtree, self.place)

    def start(self, name: str, options: Sequence[str], config: str, **values: object) -> int:
        """Start a balancer; returns its port."""
        path, port = self.place / "config", free_port()
        path.write_text(config.format(place=self.place, port=port, **values))
        found = program(name)
        assert found is not None, f"{name} is not installed; run tools/debian.sh hard"
        balancer = Program([found, *options, path], self.place / "log")
        self.addCleanup(balancer.stop)
        return port

    async def serves(self, server: Running, port: int) -> None:
        """A user logs in from CLIENT, and the server sees that address."""

        async def log_in() -> bool:
            try:
                found = await asyncssh.connect(
                    HOST,
                    port,
                    local_addr=(CLIENT, 0),
                    username="alice",
                    client_keys=[KEY],
                    known_hosts=None,
                    agent_path=None,
                    config=None,
                )
            except (OSError, asyncssh.ConnectionLost):  # it has not started yet
                return False
            async with found:
                (there,) = [one for one in server.server.connections if one.user is not None]
                self.assertEqual(there.address, CLIENT)
                self.assertEqual(there.port, found.get_extra_info("sockname")[1])
                async with found.start_sftp_client() as sftp:
                    await sftp.stat("/")
            return True

        async with asyncio.timeout(PATIENCE):
            while not await log_in():
                await asyncio.sleep(0.05)
        self.assertEqual(server.server.banning.listed(), [])

    async def haproxy(self, how: str) -> None:
        async with running(files, options=OPTIONS) as server:
            port = self.start("haproxy", ["-q", "-db", "-f"], HAPROXY, server=server.port, how=how)
            await self.serves(server, port)

    @asynchronous
    async def test_haproxy_with_version_1(self) -> None:
        await self.haproxy("send-proxy")

    @asynchronous
    async def test_haproxy_with_version_2(self) -> None:
        await self.haproxy("send-proxy-v2")

    @asynchronous
    async def test_haproxy_with_version_2_and_extensions(self) -> None:
        await self.haproxy("send-proxy-v2 proxy-v2-options crc32c,unique-id")

    @asynchronous
    async def test_nginx(self) -> None:
        async with running(files, options=OPTIONS) as server:
            port = self.start("nginx", ["-p", str(self.place), "-c"], NGINX, server=server.port)
            await self.serves(server, port)
