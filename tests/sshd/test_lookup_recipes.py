"""The programs of examples/lookups behind a server: LDAP with a real slapd, PAM, and an HTTP service."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysftpserver.people.keys import key_line
from tests.sshd.inprocess import KEY, OTHER_KEY, asynchronous, running, user
from tests.sshd.running import Place
from tests.sshd.test_logins import files
from tests.sshd.test_ways_in import HASH, ONLY_PASSWORD, PASSWORD, is_let_in, setUpModule
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.processes import Program, require
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from tests.sshd.inprocess import Running

__all__ = ["setUpModule"]

RECIPES = ROOT / "examples" / "lookups"
BOTH = {"auth_methods": "publickey password", "lookup_cache": "0", "lookup_seconds": "20"}
SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY
  MAY ( sshPublicKey $ uid ) )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {place}/pid
TLSCertificateFile {place}/certificate.pem
TLSCertificateKeyFile {place}/key.pem
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw secret
directory {place}/data
"""
PEOPLE = """dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: uid=alice,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: ldapPublicKey
uid: alice
cn: alice
sn: alice
userPassword: {password}
sshPublicKey: {key}

dn: uid=twin,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
uid: twins
cn: twin
sn: twin
userPassword: {password}

dn: cn=another twin,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: another twin
sn: twin
userPassword: {password}
"""


async def with_password(server: Running, name: str, password: str) -> bool:
    return await is_let_in(server, name, password=password, **ONLY_PASSWORD)


def recipe(name: str, *words: object) -> dict[str, str | bool]:
    """The options for a program of examples/lookups."""
    argv = [sys.executable, RECIPES / name, *words]
    return {**BOTH, "lookup_command": shlex.join(map(str, argv))}


class TestHTTPService(unittest.TestCase):
    @asynchronous
    async def test_users_of_its_file_log_in_with_a_password_or_a_key(self) -> None:
        spec = importlib.util.spec_from_file_location("http_service", RECIPES / "http_service.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tempfile.TemporaryDirectory() as directory:
            users, token = Path(directory, "users.json"), Path(directory, "token")
            token.write_text("a-token\n")
            alice = {"folder": "a", "password": HASH, "keys": [key_line(KEY.public_data)]}
            users.write_text(json.dumps({"alice": alice}))
            service = module.service(users, 0, "a-token")
            threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
            try:
                url = {**BOTH, "lookup_url": f"http://127.0.0.1:{service.server_port}/"}
                own: dict[str, Any] = {**url, "lookup_token_file": str(token)}
                async with running(files, user("bob"), options=own) as server:
                    self.assertTrue(await with_password(server, "alice", PASSWORD))
                    self.assertTrue(await is_let_in(server))
                    self.assertFalse(await with_password(server, "alice", "a wrong guess"))
                    self.assertFalse(await is_let_in(server, client_keys=[OTHER_KEY]))
                    self.assertFalse(await with_password(server, "nobody", PASSWORD))
                async with running(files, user("bob"), options=url) as server:  # without the token
                    self.assertFalse(await with_password(server, "alice", PASSWORD))
            finally:
                service.shutdown()
                service.server_close()


@unittest.skipUnless(IS_HARD, "starts slapd")
class TestLDAP(unittest.TestCase):
    def setUp(self) -> None:
        require("slapd", "slapadd", "openssl")
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.place / "data").mkdir()
        config = self.place / "slapd.conf"
        config.write_text(SLAPD.format(place=self.place))
        made = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        out = ["-keyout", self.place / "key.pem", "-out", self.place / "certificate.pem"]
        self.run_to_the_end("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made, *out)
        people = PEOPLE.format(password=PASSWORD, key=key_line(KEY.public_data))
        self.run_to_the_end(self.sbin("slapadd"), "-f", config, input=people.encode())
        self.plain, self.secure = (f"ldap://127.0.0.1:{free_port()}", f"ldaps://localhost:{free_port()}")
        argv = [self.sbin("slapd"), "-f", str(config), "-h", f"{self.plain} {self.secure}", "-d", "0"]
        self.slapd = Program(argv, self.place / "log")
        self.addCleanup(self.slapd.wait, PATIENCE)
        self.addCleanup(self.slapd.terminate)
        until((self.place / "pid").exists, "slapd runs")

    def sbin(self, name: str) -> str:
        found = shutil.which(name, path="/usr/sbin:/usr/bin")
        assert found is not None
        return found

    def run_to_the_end(self, *argv: Any, **how: Any) -> None:
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE, **how)
        self.assertEqual(done.returncode, 0, done.stderr)

    def options(self, url: str) -> dict[str, str | bool]:
        config, secret = self.place / "ldap.toml", self.place / "secret"
        secret.write_text("secret\n")
        config.write_text(
            f"url = '{url}'\nca_file = '{self.place}/certificate.pem'\nbase = 'dc=example,dc=org'\n"
            f"bind_dn = 'cn=admin,dc=example,dc=org'\nbind_password_file = '{secret}'\n"
            "filter = '(&(objectClass=inetOrgPerson)(uid={name}))'\n"
            "keys = 'sshPublicKey'\nfolder = 'uid'\nseconds = 15\n"
        )
        return recipe("ldap_lookup.py", config)

    @asynchronous
    async def test_passwords_and_keys_of_its_people_open_and_nothing_else(self) -> None:
        for url in (self.plain, self.secure):
            async with running(files, user("bob"), options=self.options(url)) as server:
                self.assertTrue(await with_password(server, "alice", PASSWORD), server.lines)
                self.assertTrue(await is_let_in(server))
                self.assertFalse(await is_let_in(server, client_keys=[OTHER_KEY]))
                for name, password in (
                    ("alice", "a wrong guess"),
                    ("alice", ""),  # slapd takes a bind without a password for one of nobody
                    ("al*", PASSWORD),
                    ("alice)(uid=*", PASSWORD),
                    ("ALICE", PASSWORD),  # for LDAP the same
                    ("al  ice", PASSWORD),
                    ("twin", PASSWORD),  # which one?
                    ("admin", "secret"),
                ):
                    self.assertFalse(await with_password(server, name, password), name)
                self.assertFalse(any("lookup of" in line for line in server.lines), server.lines)

    @asynchronous
    async def test_without_a_server_that_is_trusted_nobody_is_let_in(self) -> None:
        other = self.secure.replace("localhost", "127.0.0.1")  # a name that its certificate does not have
        async with running(files, user("bob"), options=self.options(other)) as server:
            self.assertFalse(await with_password(server, "alice", PASSWORD))
            self.assertTrue(any("ended with status 1" in line for line in server.lines), server.lines)
            self.slapd.terminate()
            self.slapd.wait(PATIENCE)
            self.assertFalse(await with_password(server, "alice", PASSWORD))
            self.assertTrue(await is_let_in(server, "bob"))


@unittest.skipUnless(IS_HARD, "starts a server")
class TestStarted(Place):
    def test_a_user_who_is_looked_up_has_a_session_with_a_process_and_a_folder(self) -> None:
        record = {"keys": ["KEY"], "folder": "of-bob"}
        script = self.place / "lookup"
        options = ("--lookup-command", script, "--create-folders", "--admin-socket", self.place / "admin")
        server = self.server(*options, start=False)
        record["keys"] = [self.alice.public]
        script.write_text(f"#!/bin/sh\ngrep -q '\"name\": \"bob\"' && echo '{json.dumps(record)}'\n")
        script.chmod(0o700)
        self.addCleanup(server.stop)
        server.start()
        self.alice.meet(server)
        done = self.sftp(self.alice, "mkdir here", flags=["-o", "User=bob"])
        self.assertEqual(done.returncode, 0, server.log())
        self.assertTrue((server.files / "of-bob" / "here").is_dir())
        self.assertNotEqual(self.sftp(self.alice, "pwd", flags=["-o", "User=carol"]).returncode, 0)
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)
        server.logs("by lookup")


@unittest.skipUnless(IS_HARD, "starts many programs")
class TestPAM(unittest.TestCase):
    @asynchronous
    async def test_passwords_that_pam_accepts_open(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            check = place / "check"
            check.write_text(f'#!/bin/sh\n[ "$PAM_USER" = alice ] && [ "$(tr -d "\\000")" = "{PASSWORD}" ]\n')
            check.chmod(0o700)
            (place / "sftp").write_text(
                f"auth required pam_exec.so expose_authtok quiet {check}\naccount required pam_permit.so\n"
            )
            (place / "closed").write_text("auth required pam_permit.so\naccount required pam_deny.so\n")
            if not Path("/usr/lib/x86_64-linux-gnu/security/pam_exec.so").exists():
                self.skipTest("there is no pam_exec")
            async with running(files, user("bob"), options=recipe("pam_lookup.py", "sftp", place)) as server:
                self.assertTrue(await with_password(server, "alice", PASSWORD), server.lines)
                self.assertFalse(await with_password(server, "alice", "a wrong guess"))
                self.assertFalse(await with_password(server, "alice", ""))
                self.assertFalse(await with_password(server, "carol", PASSWORD))
                self.assertFalse(await is_let_in(server))
            async with running(
                files, user("bob"), options=recipe("pam_lookup.py", "closed", place)
            ) as server:
                self.assertFalse(await with_password(server, "alice", PASSWORD))


if __name__ == "__main__":
    unittest.main()
