"""The same certificates shown to OpenSSH's sshd and to pysftpd: both let in the same ones."""

from __future__ import annotations

import contextlib
import getpass
import os
import unittest
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.service.shared import Penalties, Shared
from tests.sshd.certifying import WorkshopCase
from tests.sshd.inprocess import HOST, asynchronous, running
from tests.sshd.test_certificates import pair_of, person
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.ports import free_port
from tests.support.processes import Program, program


@unittest.skipUnless(IS_HARD, "starts many connections")
class BesideSshd(WorkshopCase):
    def sshd(self, trusted: Path, revoked: Path) -> int:
        """Start sshd; its port."""
        host_key, port = self.workshop.key(), free_port()
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        lines = f"""Port {port}
ListenAddress {HOST}
HostKey {host_key}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
AuthorizedKeysFile none
LogLevel VERBOSE
MaxStartups 100
TrustedUserCAKeys {trusted}
RevokedKeys {revoked}
"""
        config = self.workshop.place / "sshd_config"
        config.write_text(lines)
        log = self.workshop.place / "sshd.log"
        server = Program([program("sshd"), "-D", "-e", "-f", str(config)], log)
        self.addCleanup(server.stop)
        server.said("Server listening")
        return port

    async def enters(self, port: int, name: str, pair: asyncssh.SSHKeyPair) -> bool:
        how: dict[str, Any] = {"known_hosts": None, "agent_path": None, "config": None, "client_keys": [pair]}
        with contextlib.suppress(asyncssh.PermissionDenied):
            async with asyncssh.connect(HOST, port, username=name, **how):
                return True
        return False

    @asynchronous
    async def test_both_let_in_the_same(self) -> None:
        workshop, name = self.workshop, getpass.getuser()
        kinds = (("ecdsa", 256), ("ecdsa", 384), ("rsa", 2048))
        other_ca, other, rsa = (workshop.key(*kind) for kind in kinds)
        authorities = self.authority, other_ca, rsa
        trusted = workshop.place / "trusted"
        trusted.write_text("".join(one.with_suffix(".pub").read_text() for one in authorities))
        text = f"serial: 7\nserial: 100-200\nid: gone\nkey: {other.with_suffix('.pub').read_text()}"
        revoked = workshop.revoke(text, "-s", self.authority.with_suffix(".pub"))
        port = self.sshd(trusted, revoked)
        options: list[list[str]] = [
            [],
            ["-V", "-2d:-1d"],
            ["-V", "+1d:+2d"],
            ["-V", "-1d:+1d"],
            ["-V", "always:forever"],
            ["-h"],
            ["-O", "clear"],
            ["-O", "no-touch-required"],
            ["-O", "extension:anything@example.com=x"],
            ["-O", "critical:anything@example.com=x"],
            ["-O", "source-address=127.0.0.0/8"],
            ["-O", "source-address=10.0.0.0/8,127.0.0.1"],
            ["-O", "source-address=10.0.0.0/8"],
            ["-O", "critical:source-address=127.0.0.1/8"],
            ["-O", "critical:source-address="],
            ["-O", "critical:source-address=nonsense"],
            ["-O", "force-command=internal-sftp"],
        ]
        made = []
        for words in options:
            certificate = workshop.certify(self.authority, self.key, *words, principals=name)
            made.append((str(words), self.key, certificate))
        for authority in (*authorities, self.key):
            for key in (self.key, other):
                for serial, key_id in ((0, "x"), (7, "x"), (99, "x"), (150, "x"), (201, "gone")):
                    how: dict[str, Any] = {"principals": name, "serial": serial, "key_id": key_id}
                    certificate = workshop.certify(authority, key, **how)
                    made.append((f"{authority.name} {key.name} {how}", key, certificate))
        for principals in (None, "nobody", f"nobody,{name}", name.upper(), f"{name}x", f"*,{name[:-1]}?"):
            certificate = workshop.certify(self.authority, self.key, principals=principals)
            made.append((f"principals {principals}", self.key, certificate))
        sha1 = workshop.certify(rsa, self.key, "-t", "ssh-rsa", principals=name)
        made.append(("SHA-1", self.key, sha1))
        paths = {"trusted_user_ca_keys": str(trusted), "revoked_keys": str(revoked)}
        counts = {True: 0, False: 0}
        async with running(files, person(name), options={**paths}) as server:
            for words, key, certificate in made:
                pair = pair_of(key, certificate)
                server.server.penalties = Penalties(Shared(1, 10), 0)
                here, there = await self.enters(server.port, name, pair), await self.enters(port, name, pair)
                with self.subTest(words):
                    self.assertEqual(here, there, server.lines[-1])
                counts[here] += 1
        self.assertTrue(min(counts.values()) > 10, counts)
