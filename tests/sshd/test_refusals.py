"""What the server does not do: everything of SSH but the sftp subsystem, and old algorithms."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess

import asyncssh
from asyncssh.packet import Boolean, String, UInt32

from tests.integration.clients import asyncssh_connection
from tests.integration.harness import FAILS
from tests.integration.sshd import HOST, TARGET
from tests.sshd.running import DaemonCase, Place, pysftpd
from tests.support.processes import program
from tests.support.waiting import PATIENCE

OLD = {
    "Ciphers": ("aes128-cbc", "aes256-cbc", "3des-cbc"),
    "MACs": ("hmac-sha1", "hmac-sha1-etm@openssh.com", "hmac-md5", "umac-64@openssh.com"),
    "KexAlgorithms": (
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ),
    "HostKeyAlgorithms": ("ssh-rsa",),
}
CURL_LOGIN_DENIED = 67
COUNTER = ("-o", "Ciphers=aes128-ctr")  # with GCM there is no MAC


class TestOtherServices(DaemonCase):
    def ssh(self, *words: str, status: int | None = FAILS) -> str:
        return self.client(["ssh", "-F", self.sshd.ssh_config, *words], status=status).text

    def test_there_is_no_shell_and_no_command(self) -> None:
        self.ssh(TARGET)
        self.ssh(TARGET, "touch", "here")
        self.ssh(TARGET, "internal-sftp")
        self.assertEqual(os.listdir(self.jail), [])

    def test_there_is_no_other_subsystem(self) -> None:
        for name in ("netconf", "SFTP", "sftp ", ""):
            self.ssh("-s", TARGET, name)
        self.sftp("pwd")

    def test_there_is_no_terminal(self) -> None:
        text = self.ssh("-tt", "-v", "-o", "LogLevel=DEBUG1", "-s", TARGET, "sftp", status=None)
        self.assertIn("PTY allocation request failed", text)

    def test_nothing_is_forwarded_to_this_host(self) -> None:
        with socket.create_server((HOST, 0)) as target:
            port = target.getsockname()[1]
            text = self.ssh("-W", f"{HOST}:{port}", TARGET)
            self.assertIn("forwarding failed", text)
            target.setblocking(False)
            with self.assertRaises(BlockingIOError):
                target.accept()

    def test_nothing_is_forwarded_from_this_host(self) -> None:
        text = self.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"0:{HOST}:1", TARGET)
        self.assertIn("remote port forwarding failed", text)
        path = self.place / "socket"
        self.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{path}:{HOST}:1", TARGET)
        self.assertFalse(path.exists())

    def test_no_connection_is_made_for_a_forwarded_port_or_a_proxy(self) -> None:
        async def attempt() -> None:
            async with asyncssh_connection(self.sshd) as connection:
                with socket.create_server((HOST, 0)) as target:
                    with self.assertRaises(asyncssh.ChannelOpenError):
                        await connection.open_connection(HOST, target.getsockname()[1])
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await connection.open_unix_connection("/run/nothing")
                with self.assertRaises(asyncssh.ChannelListenError):
                    await connection.start_server(lambda *_: None, HOST, 0)
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await connection.open_tun()

        asyncio.run(asyncio.wait_for(attempt(), PATIENCE))

    def test_no_agent_and_no_x11_is_forwarded(self) -> None:
        async def attempt() -> None:
            async with asyncssh_connection(self.sshd) as connection:
                channel, _ = await connection.create_session(
                    asyncssh.SSHClientSession, subsystem="sftp", encoding=None
                )
                x11 = (Boolean(False), String(b"MIT-MAGIC-COOKIE-1"), String(b"00"), UInt32(0))
                for request, fields in ((b"auth-agent-req@openssh.com", ()), (b"x11-req", x11)):
                    # There is no public call that asks for these and wants an answer.
                    self.assertFalse(await channel._make_request(request, *fields), request)
                channel.abort()

        asyncio.run(asyncio.wait_for(attempt(), PATIENCE))

    def test_no_password_is_asked_for(self) -> None:
        text = self.client(
            ["ssh", "-F", self.sshd.ssh_config, "-v", "-o", "LogLevel=DEBUG1"]
            + ["-o", "PubkeyAuthentication=no", "-s", TARGET, "sftp"],
            status=255,
        ).text
        self.assertIn("Authentications that can continue: publickey\n", text.replace("\r", ""))


class TestOldAlgorithms(DaemonCase):
    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("sftp"), "-F", str(self.sshd.ssh_config), "-b", "/dev/null"]
            + [*words, "-o", "LogLevel=INFO", TARGET],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )

    def test_none_of_them_is_agreed_on(self) -> None:
        for option, names in OLD.items():
            for name in names:
                with self.subTest(name):
                    more = COUNTER if option == "MACs" else ()
                    run = self.attempt("-o", f"{option}={name}", *more)
                    self.assertEqual(run.returncode, 255)
                    self.assertIn("no matching", run.stderr)

    def test_an_rsa_key_signs_with_sha_2_and_not_with_sha_1(self) -> None:
        self.sshd = self.logins["rsa"]  # type: ignore[misc, assignment]
        for name, status in (("rsa-sha2-256", 0), ("rsa-sha2-512", 0), ("ssh-rsa", 255)):
            with self.subTest(name):
                run = self.attempt("-o", f"PubkeyAcceptedAlgorithms={name}")
                self.assertEqual(run.returncode, status, run.stderr)

    def test_a_signature_by_sha_1_is_refused_from_a_client_that_ignores_what_is_announced(self) -> None:
        login = self.logins["rsa"]

        async def attempt(*names: str) -> None:
            # The first is for the host's key.
            async with asyncssh_connection(login, signature_algs=["ssh-ed25519", *names]):  # type: ignore[arg-type]
                pass

        asyncio.run(asyncio.wait_for(attempt("rsa-sha2-512"), PATIENCE))
        with self.assertRaises(asyncssh.PermissionDenied):
            asyncio.run(asyncio.wait_for(attempt("ssh-rsa"), PATIENCE))

    def test_curl_with_an_old_libssh2_which_knows_sha_1_only_is_refused(self) -> None:
        version = subprocess.run([program("curl"), "-V"], capture_output=True, text=True).stdout
        if not re.search(r"libssh2/1\.(\d|10)\.", version):
            self.skipTest("this curl signs with SHA-2, or knows no SFTP")
        statuses = {}
        for kind in ("rsa", "ecdsa"):
            login = self.logins[kind]
            url = f"sftp://{HOST}:{login.port}/"
            keys = ["--key", login.client_key, "--pubkey", login.client_key.with_suffix(".pub")]
            run = subprocess.run(
                [program("curl"), "-q", "-sS", "-k", "-u", f"{login.user}:", *keys, url],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            statuses[kind] = run.returncode
        self.assertEqual(statuses, {"rsa": CURL_LOGIN_DENIED, "ecdsa": 0})

    def test_what_is_offered_has_nothing_of_sha_1_cbc_dsa_or_md5(self) -> None:
        run = self.attempt("-vv", "-o", "LogLevel=DEBUG2")
        offered = run.stderr.partition("peer server KEXINIT proposal")[2].partition("debug1: kex: ")[0]
        self.assertIn("ciphers ctos: ", offered)
        for word in ("sha1\n", "sha1,", "-cbc", "ssh-dss", "md5", "arcfour", "ssh-rsa,", "ssh-rsa\n", "zlib"):
            self.assertNotIn(word, offered)


class TestChosenAlgorithms(Place):
    def test_those_that_are_named_are_offered_and_no_others(self) -> None:
        names = {
            "ciphers": ("Ciphers", "aes256-ctr", "aes128-gcm@openssh.com"),
            "macs": ("MACs", "hmac-sha2-512", "hmac-sha2-256"),
            "kex": ("KexAlgorithms", "ecdh-sha2-nistp384", "curve25519-sha256"),
        }
        self.server(*(word for name, (_, own, _) in names.items() for word in (f"--{name}", own)))
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)
        for option, own, other in names.values():
            more = ("-o", "Ciphers=aes256-ctr") if option == "MACs" else ()
            more = ("-o", "LogLevel=INFO", *more)
            taken = self.sftp(self.alice, "pwd", flags=["-o", f"{option}={own}", *more])
            self.assertEqual(taken.returncode, 0, taken.stderr)
            refused = self.sftp(self.alice, "pwd", flags=["-o", f"{option}={other}", *more])
            self.assertEqual(refused.returncode, 255)
            self.assertIn("no matching", refused.stderr)

    def test_one_that_is_unknown_is_a_line_that_names_it(self) -> None:
        for name in ("ciphers", "macs", "kex"):
            with self.subTest(name):
                status, text = self.fails(
                    *pysftpd("--sftp-port", "0", "--listen-address", HOST, f"--{name}", "rot13,rot26")
                )
                self.assertEqual(status, 2, text)
                line = text.splitlines()[-1]
                self.assertIn(f"pysftpd: {name}: rot13, rot26: unknown", line)
                self.assertFalse(any("Traceback" in one for one in text.splitlines()))
