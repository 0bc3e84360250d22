"""CAs among the keys of a user: whose certificates let that user in, and nobody else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import os
import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh

from pysftpserver.people.file_users import FileUsers
from pysftpserver.service.shared import Penalties, Shared
from pysftpserver.sshd import authorities
from pysftpserver.sshd.authorized_keys import lines_for
from pysftpserver.sshd.login import Login
from tests.sshd.certifying import WorkshopCase, blob_of
from tests.sshd.inprocess import HOST, Running, asynchronous, running
from tests.sshd.running import write_private
from tests.sshd.test_certificates import pair_of
from tests.sshd.test_logins import files
from tests.sshd.test_ways_in import Client
from tests.support.hard import IS_HARD
from tests.support.lines import Lines
from tests.support.ports import free_port
from tests.support.processes import Program, program
from tests.support.waiting import eventually


class Case(WorkshopCase):
    def setUp(self) -> None:
        self.users = self.workshop.place / "users.toml"
        self.revoked = self.workshop.place / "revoked"
        self.revoked.write_text("")
        self.public = self.authority.with_suffix(".pub").read_text().strip()

    def write(self, **users: list[str]) -> None:
        """The users, each with lines of keys."""
        text = "".join(f"[users.{name}]\nkeys = {[*lines]!r}\n" for name, lines in users.items())
        write_private(self.users, f"[users]\n{text}")

    @asynccontextmanager
    async def serving(self, **users: list[str]) -> AsyncIterator[Running]:
        self.write(**users)
        directory = FileUsers(self.users, Lines().log, interval=0.02)
        options: dict[str, Any] = {"revoked_keys": str(self.revoked)}
        async with running(files, options=options, directory=directory) as server:
            server.server.authorities._interval = 0.02
            yield server

    async def enters(self, server: Running, certificate: Path, name: str = "alice") -> Any:
        """The connection, or None: it was refused."""
        server.server.penalties = Penalties(Shared(1, 10), 0)
        with contextlib.suppress(asyncssh.PermissionDenied):
            return await server.connect(name, client_keys=[pair_of(self.key, certificate)])

    async def refused(self, server: Running, certificate: Path, reason: str, name: str = "alice") -> None:
        server.lines.clear()
        self.assertIsNone(await self.enters(server, certificate, name))
        await eventually(lambda: any("login failed" in line and reason in line for line in server.lines))


class Logins(Case):
    async def openssh(self, port: int, name: str, login: Path) -> int | None:
        """The exit status of OpenSSH's sftp with a key and its certificate."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        words = [word for one in (*options, "IdentitiesOnly=yes") for word in ("-o", one)]
        words += ["-q", "-F", "none", "-i", str(login), "-P", str(port), "-b", "/dev/null"]
        process = await asyncio.create_subprocess_exec(program("sftp"), *words, f"{name}@{HOST}")
        return await process.wait()

    @asynchronous
    async def test_a_certificate_lets_in_its_user_by_the_name_or_the_principals_of_the_line(self) -> None:
        workshop = self.workshop
        by_name = workshop.certify(self.authority, self.key)
        by_role = workshop.certify(self.authority, self.key, principals="x,deploy")
        async with self.serving(
            alice=[f"cert-authority {self.public}"],
            bob=[f'cert-authority,principals="deploy,admin" {self.public}'],
            carol=[self.public],
            dora=[],
        ) as server:
            for name, certificate, reason in (
                ("alice", by_name, ""),
                ("alice", by_role, "none of its principals"),
                ("bob", by_role, ""),
                ("bob", by_name, "none of its principals"),
                ("carol", by_name, "its CA is not trusted"),  # it is a key of hers
                ("dora", by_name, "its CA is not trusted"),
                ("nobody", by_name, "its CA is not trusted"),
            ):
                with self.subTest(name, certificate=certificate.name):
                    if reason:
                        await self.refused(server, certificate, reason, name)
                    else:
                        (await self.enters(server, certificate, name)).close()
            login = self.workshop.login(self.key, by_role)
            self.assertEqual(await self.openssh(server.port, "bob", login), 0)
            self.assertNotEqual(await self.openssh(server.port, "alice", login), 0)
            # The CA itself is no key of alice's.
            with self.assertRaises(asyncssh.PermissionDenied):
                await server.connect("alice", client_keys=[str(self.authority)])  # type: ignore[list-item]
            (await server.connect("carol", client_keys=[str(self.authority)])).close()  # type: ignore[list-item]

    @asynchronous
    async def test_what_is_wrong_with_others_is_wrong_with_these(self) -> None:
        make, key = self.workshop.certify, self.key
        async with self.serving(alice=[f"cert-authority {self.public}"]) as server:
            for words, reason in (
                (["-V", "-2d:-1d"], "expired"),
                (["-h"], "not a user's certificate"),
                (["-O", "force-command=/bin/sh"], "force-command"),
                (["-O", "source-address=192.0.2.0/24"], "not for this address"),
            ):
                await self.refused(server, make(self.authority, key, *words), reason)
            await self.refused(server, make(self.authority, key, principals=None), "no principals")
            await self.refused(server, make(self.workshop.key(), key), "its CA is not trusted")
            right = make(self.authority, key)
            content = blob_of(right)
            forged = base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()
            right.write_text(f"{right.read_text().split()[0]} {forged}\n")
            await self.refused(server, right, "the CA's signature is wrong")

    @asynchronous
    async def test_connections_end_when_the_line_goes_or_the_CA_is_revoked(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key, principals="deploy")
        line = f'cert-authority,principals="deploy" {self.public}'
        async with self.serving(alice=[line]) as server:
            for change in (
                lambda: self.write(alice=[f"cert-authority {self.public}"]),
                lambda: self.write(alice=[]),
                lambda: self.revoked.write_text(f"{self.public}\n"),
            ):
                self.write(alice=[line])
                connection = None
                while connection is None:  # the server has not looked at the file yet
                    connection = await self.enters(server, certificate)
                change()
                await connection.wait_closed()
            await self.refused(server, certificate, "its CA is revoked")

    @asynchronous
    async def test_the_signature_is_verified_whoever_the_user_is(self) -> None:
        """How long a refusal takes must not tell strangers whose CA it is."""
        blob = blob_of(self.workshop.certify(self.authority, self.key, principals="nobody"))
        async with self.serving(alice=[f"cert-authority {self.public}"], bob=[]) as server:
            with mock.patch.object(authorities, "_imported", wraps=authorities._imported) as imported:
                for count, name in enumerate(("alice", "bob", "mallory"), 1):
                    self.assertIsNone(await Login(server.server, Client()).key_to_verify(name, blob))
                    self.assertEqual(imported.call_count, count)


@unittest.skipUnless(IS_HARD, "starts sshd")
class BesideSshd(Case):
    def sshd(self, keys: Path) -> int:
        """Start sshd with a file of authorized keys, which it reads at each login; its port."""
        host_key, port = self.workshop.key(), free_port()
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = self.workshop.place / f"sshd_config{port}"
        config.write_text(
            f"Port {port}\nListenAddress {HOST}\nHostKey {host_key}\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n"
            f"AuthorizedKeysFile {keys}\n"
        )
        server = Program([program("sshd"), "-D", "-e", "-f", str(config)], self.workshop.place / f"log{port}")
        self.addCleanup(server.stop)
        server.said("Server listening")
        return port

    async def is_let_in_by_sshd(self, port: int, name: str, certificate: Path) -> bool:
        pair = pair_of(self.key, certificate)
        how: dict[str, Any] = {"known_hosts": None, "agent_path": None, "config": None, "client_keys": [pair]}
        with contextlib.suppress(asyncssh.PermissionDenied):
            async with asyncssh.connect(HOST, port, username=name, **how):
                return True
        return False

    @asynchronous
    async def test_sshd_lets_in_the_same_with_the_same_lines_and_with_those_of_pysftp_keys(self) -> None:
        name, place = getpass.getuser(), self.workshop.place
        written, forced = place / "written", place / "forced"
        ports = self.sshd(written), self.sshd(forced)
        names = (name, "deploy", f"x,{name}", "x,deploy", "Deploy", "nobody")
        made = [self.workshop.certify(self.authority, self.key, principals=one) for one in names]
        made.append(self.workshop.certify(self.workshop.key(), self.key, principals=name))
        counts = {True: 0, False: 0}
        for options in (
            "cert-authority",
            'cert-authority,principals="deploy"',
            f'principals="nobody,{name}",CERT-AUTHORITY',
            'cert-authority,principals="*"',
        ):
            written.write_text(f"{options} {self.public}\n")
            write_private(self.users, f'[users."{name}"]\nauthorized_keys = "written"\n')
            directory = FileUsers(self.users, Lines().log)
            async with running(files, directory=directory) as server:
                user = server.server.directory.find(name)
                assert user is not None
                forced.write_text("\n".join(lines_for(user, "internal-sftp")) + "\n")
                for certificate in made:
                    connection = await self.enters(server, certificate, name)
                    here = connection is not None
                    there = [await self.is_let_in_by_sshd(port, name, certificate) for port in ports]
                    with self.subTest(options, principals=certificate.name):
                        self.assertEqual(there, [here, here])
                    counts[here] += 1
        self.assertGreater(min(counts.values()), 5, counts)
