"""Logins with certificates that ssh-keygen has made: who gets in, who does not, and who has to leave."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import asyncssh
import paramiko

from pysftpserver.people.keys import fingerprint, key_line
from pysftpserver.people.users import User
from pysftpserver.service.shared import Penalties, Shared
from pysftpserver.sshd import authorities
from pysftpserver.sshd.certificates import BadCertificate, faults, is_certificate, option_faults, parse
from pysftpserver.sshd.login import Login
from tests.sshd.certifying import WorkshopCase, blob_of, certificate_in
from tests.sshd.inprocess import HOST, Running, asynchronous, raw, running
from tests.sshd.test_logins import files
from tests.sshd.test_ways_in import HASH, PASSWORD, Client
from tests.support.hard import IS_HARD
from tests.support.packets import string
from tests.support.processes import program
from tests.support.waiting import eventually

NOW = time.time()


def person(name: str, *principals: str, is_active: bool = True, keys: tuple[bytes, ...] = ()) -> User:
    return User(name, name, name, is_active, frozenset(keys), principals=principals)


def pair_of(key: Path, certificate: Path) -> asyncssh.SSHKeyPair:
    """What a client offers, however odd, and signs with."""
    (pair,) = asyncssh.load_keypairs([str(key)])
    pair._cert = mock.Mock(is_x509_chain=False)  # only then it keeps the algorithm
    pair.algorithm, pair.public_data = certificate.read_text().split()[0].encode(), blob_of(certificate)
    return pair


class WhatIsInACertificate(WorkshopCase):
    def test_its_fields_are_what_ssh_keygen_was_told(self) -> None:
        for kind, bits in (("ed25519", None), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048)):
            with self.subTest(kind, bits=bits):
                key = self.workshop.key(kind, bits)
                options = "-O", "clear", "-O", "force-command=internal-sftp", "-V", "20260101Z:20260102Z"
                path = self.workshop.certify(
                    self.authority, key, *options, principals="al,bo", key_id="k\u00e9y", serial=1 << 63
                )
                self.assertTrue(is_certificate(blob_of(path)))
                it = certificate_in(path)
                self.assertEqual(it.key, blob_of(key.with_suffix(".pub")))
                self.assertEqual(it.authority, blob_of(self.authority.with_suffix(".pub")))
                self.assertEqual((it.serial, it.kind, it.key_id.decode()), (1 << 63, 1, "k\u00e9y"))
                self.assertEqual(it.principals, ("al", "bo"))
                self.assertEqual((it.valid_after, it.valid_before), (1767225600, 1767312000))
                self.assertEqual(it.options, ((b"force-command", string(b"internal-sftp")),))
                self.assertEqual(it.signed + string(it.signature), blob_of(path))

    def test_keys_of_security_keys_are_certified_under_names_of_their_own(self) -> None:
        for kind, name in (("ed25519", b"ssh-ed25519"), ("ecdsa", b"ecdsa-sha2-nistp256")):
            plain = blob_of(self.workshop.key(kind).with_suffix(".pub")).removeprefix(string(name))
            name = b"sk-" + name + b"@openssh.com"
            content = string(name) + plain + string(b"ssh:")
            public = self.workshop.place / "sk.pub"
            public.write_text(key_line(content) + "\n")
            certificate = self.workshop.certify(self.authority, public)
            self.assertIn(b"sk-", blob_of(certificate)[:8])
            self.assertEqual(certificate_in(certificate).key, content)
            self.assertEqual(faults(certificate_in(certificate), {"alice"}, HOST, NOW), [])

    def test_a_damaged_one_is_a_bad_certificate_and_nothing_else(self) -> None:
        content = blob_of(self.workshop.certify(self.authority, self.key, principals="alice,bob"))
        for length in range(len(content)):
            with self.assertRaises(BadCertificate):
                parse(content[:length])
        for place in range(len(content)):
            for value in (0, 1, 127, 255):
                changed = content[:place] + bytes([value]) + content[place + 1 :]
                try:
                    it = parse(changed)
                except BadCertificate as error:
                    self.assertTrue(str(error).isprintable())
                else:
                    self.assertTrue(all(map(str.isprintable, (str(it), *faults(it, {"alice"}, HOST, NOW)))))

    def test_a_certificate_or_a_DSA_key_is_not_a_CA(self) -> None:
        inner = self.workshop.certify(self.authority, self.key)
        content = blob_of(self.workshop.certify(self.key, self.workshop.key()))
        plain, nested = (string(blob_of(path)) for path in (self.key.with_suffix(".pub"), inner))
        self.assertEqual(content.count(plain), 1)
        dsa = string(b"".join(map(string, (b"ssh-dss", *([b"\1"] * 4)))))
        for other in (nested, dsa):
            with self.assertRaisesRegex(BadCertificate, "not a supported type"):
                parse(content.replace(plain, other))

    def test_source_addresses_are_networks_without_tricks(self) -> None:
        for networks, address, words in (
            ("10.0.0.0/8,192.0.2.1", "10.1.2.3", None),
            ("10.0.0.0/8,192.0.2.1", "192.0.2.1", None),
            ("10.0.0.0/8", "::ffff:10.1.2.3", None),
            ("2001:db8::/32", "2001:db8::1", None),
            ("fe80::/10", "fe80::1%eth0", None),
            ("10.0.0.0/8", "11.0.0.1", "not for this address"),
            ("::/0", "10.0.0.1", "not for this address"),
            ("10.0.0.1/8", "10.0.0.1", "malformed"),
            ("10.0.0.0/8, 0.0.0.0/0", "10.0.0.1", "malformed"),
            ("!10.0.0.0/8", "11.0.0.1", "malformed"),
            ("*", "10.0.0.1", "malformed"),
            ("", "10.0.0.1", "malformed"),
        ):
            with self.subTest(networks, address=address):
                found = option_faults([(b"source-address", string(networks.encode()))], address)
                self.assertEqual(len(found), 0 if words is None else 1, found)
                self.assertIn(words or "", "".join(found))
        command = (b"force-command", string(b"internal-sftp"))
        for options, words in (
            ([command, command], "twice"),
            ([(b"force-command", string(b"/bin/sh"))], "is not internal-sftp"),
            ([(b"force-command", string(b"internal-sftp") + b"x")], "malformed"),
            ([(b"verify-required", b"")], 'unknown critical option "verify-required"'),
        ):
            self.assertIn(words, option_faults(options, HOST)[0])


class Logins(WorkshopCase):
    """A server that trusts the CA; alice and bob have no keys."""

    def setUp(self) -> None:
        self.trusted = self.workshop.place / "trusted"
        self.trusted.write_text(f"# ours\n{self.authority.with_suffix('.pub').read_text()}")
        self.revoked = self.workshop.place / "revoked"
        self.revoked.write_text("")

    @asynccontextmanager
    async def serving(self, *people: User) -> AsyncIterator[Running]:
        paths = {"trusted_user_ca_keys": str(self.trusted), "revoked_keys": str(self.revoked)}
        options = {**paths, "auth_methods": "publickey password"}
        async with running(files, *(people or (person("alice"),)), options={**options}) as server:
            server.server.authorities._interval = 0.02
            yield server

    async def enter(
        self, server: Running, certificate: Path, name: str = "alice", key: Path | None = None
    ) -> Any:
        return await server.connect(name, client_keys=[pair_of(key or self.key, certificate)])

    async def refused(self, server: Running, certificate: Path, reason: str, **more: Any) -> str:
        """A login must fail, and the log say why; what the client is told."""
        server.lines.clear()
        with self.assertRaises(asyncssh.PermissionDenied) as caught:
            await self.enter(server, certificate, **more)
        await eventually(lambda: any("login failed" in line for line in server.lines))
        (line,) = (line for line in server.lines if "login failed" in line)
        self.assertIn(reason, line)
        server.server.penalties = Penalties(Shared(1, 10), 0)  # without delays
        return str(caught.exception)

    @asynchronous
    async def test_every_kind_of_key_and_CA_opens_for_openssh_asyncssh_and_paramiko(self) -> None:
        workshop = self.workshop
        kinds = [("ed25519", None), ("ecdsa", 256), ("rsa", 2048)]
        keys = [workshop.key(*kind) for kind in kinds]
        self.trusted.write_text("".join(key.with_suffix(".pub").read_text() for key in keys))
        async with self.serving() as server:
            for authority, key in zip(keys[1:] + keys[:1], keys, strict=True):
                certificate = workshop.certify(authority, key, key_id="her laptop", serial=7)
                it = certificate_in(certificate)
                with self.subTest(key.read_text()[:30]):
                    (await self.enter(server, certificate, key=key)).close()
                    login = workshop.login(key, certificate)
                    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
                    words = [word for one in options for word in ("-o", one)]
                    words += ["-F", "none", "-i", str(login), "-P", str(server.port), "-b", "/dev/null"]
                    process = await asyncio.create_subprocess_exec(
                        program("sftp"), *words, f"alice@{HOST}", stderr=asyncio.subprocess.PIPE
                    )
                    said = (await process.communicate())[1]
                    self.assertEqual(process.returncode, 0, said)
                    await asyncio.to_thread(self.by_paramiko, server.port, key, certificate)
                    line = (
                        f"'alice': logged in with certificate \"her laptop\", serial 7, of CA "
                        f"{fingerprint(it.authority)}, key {fingerprint(it.key)}"
                    )
                    await eventually(lambda: sum(one.endswith(line) for one in server.lines) == 3)  # noqa: B023

    def by_paramiko(self, port: int, key: Path, certificate: Path) -> None:
        secret = paramiko.PKey.from_path(key)
        secret.load_certificate(str(certificate))
        with paramiko.Transport((HOST, port)) as transport:
            transport.connect(username="alice", pkey=secret)

    @asynchronous
    async def test_every_odd_one_is_refused_in_the_same_words_and_the_log_says_why(self) -> None:
        workshop = self.workshop
        old, short = workshop.key("rsa", 2048), workshop.key("rsa", 1024)
        with self.trusted.open("a") as file:
            file.write(old.with_suffix(".pub").read_text())
        forged = self.forged(workshop.certify(self.authority, self.key))
        made = {
            "expired": ["-V", "-2d:-1d"],
            "not valid yet": ["-V", "+1d:+2d"],
            "not a user's certificate": ["-h"],
            "unknown critical option": ["-O", "critical:shape=round"],
            "force-command is not": ["-O", "force-command=/bin/sh"],
            "not for this address": ["-O", "source-address=192.0.2.0/24"],
            "source-address is malformed": ["-O", "critical:source-address=127.0.0.1/8"],
        }
        odd = {reason: workshop.certify(self.authority, self.key, *words) for reason, words in made.items()}
        odd |= {
            "none of its principals": workshop.certify(self.authority, self.key, principals="bob,Alice"),
            "no principals": workshop.certify(self.authority, self.key, principals=None),
            "its CA is not trusted": workshop.certify(self.key, self.key),
            "with an algorithm that": workshop.certify(old, self.key, "-t", "ssh-rsa"),
            "RSA with 1024 bits": workshop.certify(short, self.key),
            "the CA's signature is wrong": forged,
        }
        right = workshop.certify(self.authority, self.key, principals="alice,nobody,mallory,bob")
        async with self.serving(
            person("alice"), person("mallory", is_active=False), person("bob", "deploy")
        ) as server:
            said, asked = set(), set()
            for reason, certificate in odd.items():
                with self.subTest(reason):
                    server.users.asked.clear()
                    said.add(await self.refused(server, certificate, reason))
                    asked.add(len(server.users.asked))
            for reason, name in (
                ("unknown user", "nobody"),
                ("inactive user", "mallory"),
                ("none of its principals", "bob"),
            ):
                server.users.asked.clear()
                said.add((await self.refused(server, right, reason, name=name)).replace(name, "alice"))
                asked.add(len(server.users.asked))
            self.assertEqual((len(said), len(asked)), (1, 1), (said, asked))
            self.assertFalse(server.server.metrics.logins["accepted"])
            (await self.enter(server, right)).close()

    @asynchronous
    async def test_a_refusal_takes_the_same_whoever_the_user_is(self) -> None:
        names = ("alice", "nobody", "mallory", "bob")
        blob = blob_of(
            self.forged(self.workshop.certify(self.authority, self.key, principals=",".join(names)))
        )
        spent: dict[str, list[float]] = {name: [] for name in names}
        people = person("alice"), person("mallory", is_active=False), person("bob", "deploy")
        async with self.serving(*people) as server:
            (trusted,) = server.server.authorities._now.trusted.values()
            with mock.patch.object(trusted, "verify", wraps=trusted.verify) as verify:
                for _ in range(200 if IS_HARD else 1):
                    for name in names:
                        login = Login(server.server, Client())
                        began = time.process_time()
                        self.assertIsNone(await login.key_to_verify(name, blob))
                        spent[name].append(time.process_time() - began)
            self.assertEqual(verify.call_count, len(names) * len(spent["alice"]))
        if IS_HARD:
            medians = {name: statistics.median(values) for name, values in spent.items()}
            self.assertLess(max(medians.values()) / min(medians.values()), 1.15, medians)

    def forged(self, certificate: Path) -> Path:
        """Change a bit of its signature."""
        content = blob_of(certificate)
        content = content[:-1] + bytes([content[-1] ^ 1])
        kind = certificate.read_text().split()[0]
        certificate.write_text(f"{kind} {base64.b64encode(content).decode()}\n")
        return certificate

    @asynchronous
    async def test_nobody_enters_with_a_certificate_whose_key_is_another_ones(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key)
        async with self.serving() as server:
            with self.assertRaises(asyncssh.PermissionDenied):
                await self.enter(server, certificate, key=self.workshop.key())
            await eventually(lambda: any("no proof of having the key" in line for line in server.lines))

    @asynchronous
    async def test_a_certificate_is_a_key_where_a_password_is_needed_as_well(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key, serial=3)
        both = {"password": HASH, "methods": ("publickey,password",)}
        async with self.serving(replace(person("alice"), **both)) as server:
            await self.refused(server, certificate, "the key had been right")
            pair = pair_of(self.key, certificate)
            connection = await server.connect(client_keys=[pair], password=PASSWORD)
            await eventually(
                lambda: any("and a password" in line and "serial 3" in line for line in server.lines)
            )
            self.trusted.write_text("")
            await connection.wait_closed()

    @asynchronous
    async def test_what_is_revoked_before_the_second_factor_lets_nobody_in(self) -> None:
        plain = blob_of(self.key.with_suffix(".pub"))
        certificate = self.workshop.certify(self.authority, self.key, serial=3)
        krl = self.workshop.revoke("serial: 3", "-s", self.authority.with_suffix(".pub")).read_bytes()
        trusted = self.trusted.read_text()

        async def is_let_in(offered: Any, file: Path, content: bytes) -> bool:
            """Whether a password is enough after a key for which a file has changed meanwhile."""
            self.trusted.write_text(trusted)
            self.revoked.write_text("")

            class Slow(asyncssh.SSHClient):
                async def password_auth_requested(self) -> str | None:
                    if file.read_bytes() == content:
                        return None
                    before = server.server.authorities._now
                    file.write_bytes(content)
                    await eventually(lambda: server.server.authorities._now is not before)
                    return PASSWORD

            both = {"password": HASH, "methods": ("publickey,password",)}
            async with self.serving(replace(person("alice", keys=(plain,)), **both)) as server:
                try:
                    (await server.connect(client_keys=[offered], client_factory=Slow)).close()
                except asyncssh.PermissionDenied:
                    await eventually(lambda: any("no longer" in line for line in server.lines))
                    return False
                return True

        pair, lines = pair_of(self.key, certificate), self.key.with_suffix(".pub").read_bytes()
        self.assertTrue(await is_let_in(str(self.key), self.revoked, b"# nothing\n"))
        self.assertFalse(await is_let_in(str(self.key), self.revoked, lines))
        self.assertTrue(await is_let_in(pair, self.revoked, b"# nothing\n"))
        self.assertFalse(await is_let_in(pair, self.revoked, krl))
        self.assertFalse(await is_let_in(pair, self.trusted, b"# none\n"))

    @asynchronous
    async def test_principals_of_the_record_stand_in_for_the_name(self) -> None:
        own = self.workshop.certify(self.authority, self.key, principals="alice")
        group = self.workshop.certify(
            self.authority, self.key, "-O", "force-command=internal-sftp", principals="x,deploy"
        )
        async with self.serving(person("alice", "admin", "deploy")) as server:
            connection = await self.enter(server, group)
            await raw(connection)
            await self.refused(server, own, "none of its principals")
            server.users.put(person("alice", "admin"))
            await connection.wait_closed()

    @asynchronous
    async def test_whoever_is_revoked_leaves_at_once_and_expiry_ends_nothing(self) -> None:
        workshop = self.workshop
        short = workshop.certify(self.authority, self.key, "-V", "-1d:+1d", serial=1)
        other_key = workshop.key()
        ca, plain = self.authority.with_suffix(".pub"), other_key.with_suffix(".pub")
        for text, words, reason in (
            ("serial: 5", ["-s", ca], "it is revoked"),
            ("id: gone", ["-s", "none"], "it is revoked"),
            (f"hash: {fingerprint(blob_of(self.key.with_suffix('.pub')))}", [], "its key is revoked"),
            (f"key: {ca.read_text()}", [], "its CA is revoked"),
        ):
            krl = workshop.revoke(text, *words)
            certificate = workshop.certify(self.authority, self.key, serial=5, key_id="gone")
            self.revoked.write_text("")
            async with self.serving(person("alice", keys=(blob_of(plain),))) as server:
                connection = await self.enter(server, certificate)
                by_key = await server.connect(client_keys=[str(other_key)])  # type: ignore[list-item]
                if text.startswith("serial"):
                    lasting = await self.enter(server, short)
                    later = certificate_in(short).valid_before
                    clock = mock.patch.object(authorities, "time", SimpleNamespace(time=lambda: later))  # noqa: B023
                    clock.start()
                    self.addCleanup(clock.stop)
                self.revoked.write_bytes(krl.read_bytes())
                await connection.wait_closed()
                await self.refused(server, certificate, reason)
                (await server.connect(client_keys=[str(other_key)])).close()  # type: ignore[list-item]
                await raw(by_key)
                if text.startswith("serial"):
                    await raw(lasting)
                    await self.refused(server, short, "expired")
                    clock.stop()
                self.revoked.write_text(plain.read_text())
                await by_key.wait_closed()
                with self.assertRaises(asyncssh.PermissionDenied):
                    await server.connect(client_keys=[str(other_key)])  # type: ignore[list-item]
                await eventually(lambda: any("revoked, key SHA256:" in line for line in server.lines))

    @asynchronous
    async def test_a_list_that_cannot_be_read_lets_nobody_in_and_ends_nothing(self) -> None:
        krl = self.workshop.revoke("serial: 5", "-s", self.authority.with_suffix(".pub")).read_bytes()
        certificate = self.workshop.certify(self.authority, self.key)
        plain = blob_of(self.key.with_suffix(".pub"))
        broken: list[Any] = [
            lambda: self.revoked.write_bytes(krl[:-1]),
            lambda: self.revoked.unlink(),
            lambda: (self.revoked.write_bytes(krl), self.revoked.chmod(0o666)),
        ]
        async with self.serving(person("alice", keys=(plain,))) as server:
            connection = await self.enter(server, certificate)
            for action in broken:
                server.lines.clear()
                action()
                await eventually(lambda: server.server.authorities.troubles())
                await self.refused(server, certificate, "revoked_keys cannot be read")
                server.lines.clear()
                with self.assertRaises(asyncssh.PermissionDenied):
                    await server.connect(client_keys=[str(self.key)])  # type: ignore[list-item]
                await eventually(
                    lambda: any("revoked_keys cannot be read, key" in one for one in server.lines)
                )
                server.server.penalties = Penalties(Shared(1, 10), 0)
                await raw(connection)
                self.revoked.unlink(missing_ok=True)
                self.revoked.write_bytes(krl)
                await eventually(lambda: not server.server.authorities.troubles())
            (await self.enter(server, certificate)).close()

    @asynchronous
    async def test_a_CA_that_is_taken_out_takes_its_users_along(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key)
        other = self.workshop.key()
        async with self.serving() as server:
            connection = await self.enter(server, certificate)
            self.trusted.write_text("ssh-ed25519 nonsense\n")
            await eventually(lambda: any("nobody" in one or "anybody" in one for one in server.lines))
            await self.refused(server, certificate, "trusted_user_ca_keys cannot be read")
            await raw(connection)
            self.trusted.write_text(other.with_suffix(".pub").read_text())
            await connection.wait_closed()
            (await self.enter(server, self.workshop.certify(other, self.key))).close()
            server.server.settings._values["trusted_user_ca_keys"] = None
            server.server.apply_limits()  # as on SIGHUP
            gone = f"no longer ssh-ed25519 {fingerprint(blob_of(other.with_suffix('.pub')))}"
            await eventually(lambda: any(gone in line for line in server.lines))

    @asynchronous
    async def test_certificates_count_as_tries(self) -> None:
        certificates = [
            (str(self.key), str(self.workshop.certify(self.authority, self.key, principals="bob")))
            for _ in range(7)
        ]
        async with self.serving() as server:
            with self.assertRaises(asyncssh.DisconnectError):
                await server.connect(client_keys=certificates)  # type: ignore[arg-type]
            await eventually(lambda: any("too many attempts" in line for line in server.lines))
        certificate = self.workshop.certify(self.authority, self.key)
        both = {"password": HASH, "methods": ("publickey,password",)}
        async with self.serving(replace(person("alice"), **both)) as server:
            server.server.settings._values["auth_tries"] = 1  # one that is right is none
            (await server.connect(client_keys=[pair_of(self.key, certificate)], password=PASSWORD)).close()


class WithoutAnySetting(unittest.TestCase):
    @asynchronous
    async def test_no_certificate_opens_and_no_file_is_looked_at(self) -> None:
        case = WorkshopCase()
        case.setUpClass()
        self.addCleanup(case.doClassCleanups)
        certificate = case.workshop.certify(case.authority, case.key)
        async with running(files, replace(person("alice"))) as server:
            with self.assertRaises(asyncssh.PermissionDenied):
                await server.connect(client_keys=[(str(case.key), str(certificate))])  # type: ignore[arg-type]
            await eventually(lambda: any("its CA is not trusted" in line for line in server.lines))
