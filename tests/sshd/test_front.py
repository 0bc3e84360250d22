"""What is refused before SSH begins, and what address a client has behind a load balancer."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import unittest
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh

from pysftpserver.service import bans as service_bans
from tests.service.test_proxyprotocol import SSH, TCP4, binary
from tests.sshd.inprocess import HOST, OTHER_KEY, Running, asynchronous, running
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE, eventually

PROXIED = {"proxy_from": "127.0.0.0/8"}
CLIENT = b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 22\r\n"
BANS = {"bans": "yes", "ban_points": "5", "ban_times": "1h"}


async def say(port: int, data: bytes) -> bytes:
    """What the server answers before it closes the connection."""
    with contextlib.suppress(ConnectionError):  # it may be reset before it is there
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
    return b""


@contextlib.asynccontextmanager
async def behind(server: Running, header: bytes, **more: Any) -> AsyncIterator[Any]:
    """A login through a proxy that sends a header."""
    import socket

    one = socket.create_connection((HOST, server.port))
    one.sendall(header)
    one.setblocking(False)
    with one:
        async with await server.connect(sock=one, **more) as connection:
            yield connection


class BehindAProxy(unittest.TestCase):
    @asynchronous
    async def test_the_client_of_either_version_is_the_one_that_is_seen_everywhere(self) -> None:
        audit = tempfile.NamedTemporaryFile()
        self.addCleanup(audit.close)
        async with running(files, options={**PROXIED, "audit": audit.name}) as server:
            for header in (CLIENT, binary(0x21, 0x11, TCP4)):
                async with behind(server, header) as client:
                    async with client.start_sftp_client() as sftp:
                        await sftp.stat("/")
                    (there,) = server.server.connections
                    self.assertEqual((there.address, there.port), ("192.0.2.1", 40000))
                    self.assertEqual(there.conn._peer_addr, "192.0.2.1")
                await eventually(lambda: not server.server.connections)
            self.assertTrue(any("192.0.2.1 'alice': logged in" in line for line in server.lines))
            records = await eventually(lambda: Path(audit.name).read_bytes().splitlines())
            self.assertIn(b'"192.0.2.1"', records[0])

    @asynchronous
    async def test_failures_and_limits_are_the_clients_and_not_the_proxys(self) -> None:
        async with running(files, options={**PROXIED, "max_per_address": "1"}) as server:
            with self.assertRaises(asyncssh.PermissionDenied):
                async with behind(server, CLIENT, key=OTHER_KEY):
                    pass
            await eventually(lambda: server.server.metrics.logins["refused"])
            gate, penalties = server.server.gate, server.server.penalties
            for _ in range(2):
                penalties.failed("192.0.2.1", time.monotonic())
            self.assertGreater(penalties.delay("192.0.2.1", time.monotonic()), 0)
            self.assertEqual(penalties.delay(HOST, time.monotonic()), 0)
            self.assertTrue(server.server.banning.lift("192.0.2.1"))  # as pysftpctl bans --lift does
            self.assertEqual(penalties.delay("192.0.2.1", time.monotonic()), 0)
            self.assertFalse(server.server.banning.lift("192.0.2.1"))
            async with behind(server, CLIENT.replace(b"192.0.2.1", b"192.0.2.2")):
                self.assertIn("max_per_address", gate.enter("192.0.2.2")[1] or "")
                self.assertIsNone(gate.enter(HOST)[1])

    @asynchronous
    async def test_a_proxy_that_connects_for_itself_has_its_own_address(self) -> None:
        networks = {"allow_networks": "192.0.2.0/24", **BANS}
        async with running(files, options={**PROXIED, **networks}) as server:
            for _ in range(20):  # health checks cost nothing and are not refused
                self.assertTrue((await say(server.port, binary(0x20, 0) + b"\n")).startswith(b"SSH-"))
            async with behind(server, binary(0x20, 0)):
                (there,) = await eventually(lambda: [one for one in server.server.connections if one.user])
                self.assertEqual(there.address, HOST)
            self.assertEqual(server.server.banning.listed(), [])
            # One that does not say for whom it connects is not let past the networks.
            self.assertEqual(await say(server.port, b"PROXY UNKNOWN\r\n" + SSH), b"")

    @asynchronous
    async def test_a_trusted_address_without_a_valid_header_gets_nothing(self) -> None:
        async with running(files, options=PROXIED) as server:
            for data in (SSH, CLIENT.replace(b"\r", b""), binary(0x21, 0x31, bytes(216)) + SSH):
                self.assertEqual(await say(server.port, data), b"")
            self.assertEqual(server.server.metrics.limited["proxy_from"], 3)
            refusals = [line for line in server.lines if "refused: PROXY header: " in line]
            self.assertIn("Unix-domain socket", refusals[-1])

    @asynchronous
    async def test_a_header_from_elsewhere_is_refused_and_the_log_says_so(self) -> None:
        for options, forged in (
            ({"proxy_from": "192.0.2.0/24"}, CLIENT),
            ({}, binary(0x21, 0x11, TCP4)),
            (PROXIED, CLIENT + CLIENT),  # the client itself sends the second one
        ):
            async with running(files, options=options) as server:
                answer = await say(server.port, forged + SSH)
                self.assertNotIn(b"\0", answer.partition(b"\r\n")[2])  # no key exchange
                await eventually(
                    lambda: any("PROXY header, and its address is not" in line for line in server.lines)
                )

    @asynchronous
    async def test_half_open_connections_at_the_proxied_port_leave_room_for_clients(self) -> None:
        async with running(files, options={**PROXIED, "max_connections": "5"}) as server:
            waiting = [await asyncio.open_connection(HOST, server.port) for _ in range(200)]
            for _, writer in waiting:
                writer.write(b"PROXY ")
            async with behind(server, CLIENT):
                self.assertEqual(len(server.server.connections), 1)
            for _, writer in waiting:
                writer.close()


class Networks(unittest.TestCase):
    @asynchronous
    async def test_clients_elsewhere_get_not_a_byte(self) -> None:
        for options in (
            {"allow_networks": "192.0.2.0/24"},
            {"deny_networks": "127.0.0.0/8"},
            {"allow_networks": "127.0.0.1", "deny_networks": "::ffff:127.0.0.1"},
        ):
            async with running(files, options=options) as server:
                self.assertEqual(await say(server.port, SSH), b"")
                (name,) = [name for name in ("allow_networks", "deny_networks") if name in server.lines[-1]]
                self.assertEqual(server.server.metrics.limited[name], 1)
                self.assertTrue(server.lines[-1].startswith(f"{HOST}: refused: "))
        async with running(files, options={"allow_networks": "127.0.0.0/8"}) as server:
            (await server.connect()).close()

    @asynchronous
    async def test_new_settings_hold_for_connections_that_come_later(self) -> None:
        async with running(files) as server:
            (await server.connect()).close()
            server.server.settings._values["deny_networks"] = ("127.0.0.0/8",)
            server.server.apply_limits()
            self.assertEqual(await say(server.port, SSH), b"")


class Bans(unittest.TestCase):
    @asynchronous
    async def test_who_fails_is_banned_and_refused_at_once(self) -> None:
        async with running(files, options=BANS) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)  # a stranger, who is ended
            for _ in range(2):
                with self.assertRaises(asyncssh.PermissionDenied):
                    await server.connect("nobody", OTHER_KEY)
            await eventually(lambda: server.server.metrics.bans["failed"] == 1)
            self.assertTrue(any(line.startswith(f"banned {HOST} for 3600") for line in server.lines))
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            self.assertEqual(await say(server.port, SSH), b"")
            self.assertEqual(server.server.metrics.limited["bans"], 1)

    @asynchronous
    async def test_scans_cost_points_and_a_login_or_a_key_exchange_alone_does_not(self) -> None:
        async with running(files, options={**BANS, "ban_points": "1000"}) as server:
            banning = server.server.banning

            async def cost(data: bytes) -> float:
                banning.lift(HOST)
                await say(server.port, data)
                await eventually(lambda: banning.listed())
                return float(banning.listed()[0]["points"])

            self.assertEqual(await cost(b"GET / HTTP/1.0\r\n\r\n"), 5)
            self.assertEqual(await cost(SSH + bytes(300)), 1)
            banning.lift(HOST)
            (await asyncio.open_connection(HOST, server.port))[1].close()
            await eventually(lambda: banning.listed())
            banning.lift(HOST)
            self.assertIsNotNone(await asyncssh.get_server_host_key(HOST, server.port, config=None))
            (await server.connect()).close()
            await eventually(lambda: not server.server.connections)
            self.assertEqual(banning.listed(), [])

    @asynchronous
    async def test_users_who_are_there_stay_when_their_address_is_banned(self) -> None:
        async with running(files, options={**BANS, "max_per_address": "2"}) as server:
            async with await server.connect() as user:
                server.server.banning.ban(HOST, 60)
                self.assertEqual(await say(server.port, SSH), b"")
                self.assertFalse(user.is_closed())

    @asynchronous
    async def test_strangers_are_ended_when_another_process_bans_their_address(self) -> None:
        async with running(files, options={**BANS, "idle_timeout": "0.2"}) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)
            await eventually(lambda: server.server.connections)
            bans = server.server.banning.bans
            service_bans.Bans(bans._memory, 0, bans._secret).ban(HOST, 60, "admin", time.monotonic())
            await asyncio.wait_for(reader.read(), PATIENCE)
            await eventually(lambda: any("its address is banned" in line for line in server.lines))
            writer.close()

    @unittest.skipUnless(IS_HARD, "long")
    @mock.patch.object(service_bans, "SETS", 64)  # 512 places
    @asynchronous
    async def test_scans_from_more_networks_than_have_room_lift_no_ban_and_keep_no_user_out(self) -> None:
        async with running(files, options={**PROXIED, **BANS, "ban_points": "6", "log_rate": "10"}) as server:
            banning = server.server.banning
            banning.ban("192.0.2.9", 3600)

            async def scan(first: int) -> None:
                for number in range(first, 1000, 20):
                    header = f"PROXY TCP6 2001:db8:{number:x}::1 ::2 {number + 1} 22\r\n"
                    await say(server.port, header.encode() + b"GET / HTTP/1.0\r\n\r\n")

            scans = [asyncio.create_task(scan(first)) for first in range(20)]
            while not all(one.done() for one in scans):
                began = time.monotonic()
                async with behind(server, CLIENT):
                    self.assertLess(time.monotonic() - began, PATIENCE)
                self.assertTrue(banning.is_banned("192.0.2.9"))
                await asyncio.sleep(0.2)
            await asyncio.gather(*scans)
            self.assertLessEqual(len(banning.listed()), service_bans.SETS * service_bans.WAYS)

    @asynchronous
    async def test_without_the_setting_nobody_is_banned(self) -> None:
        async with running(files) as server:
            for _ in range(10):
                await say(server.port, b"GET / HTTP/1.0\r\n\r\n")
            self.assertEqual(server.server.banning.listed(), [])
