"""Links that log in once: `ssh alice@host web` with OpenSSH's client, pysftpd and pysftpweb."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import socket
import subprocess
import tempfile
import unittest
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh

from pysftpserver.people.users import User
from pysftpserver.service.admin_client import AdminError, ask
from pysftpserver.sshd import weblinks
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from pysftpserver.web.links import MOST_EACH, SECONDS, Links
from pysftpserver.web.linksocket import LONGEST_QUESTION, LinkSocket, NoLink
from tests.integration.sshd import TARGET
from tests.sshd.certifying import WorkshopCase
from tests.sshd.inprocess import asynchronous, running
from tests.sshd.running import Place
from tests.support.auditing import records_of
from tests.support.cases import InAPlace
from tests.support.processes import Program, command, program, require
from tests.support.waiting import PATIENCE, until

URL = re.compile(r"http://127\.0\.0\.1:\d+/link/[\w-]{32}\n")


def setUpModule() -> None:
    require("ssh")


def asked(
    url: str, method: str = "GET", target: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """(status, headers, body) of a request. target: None: the URL's own."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target or parts.path, None, named)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read().decode()
    finally:
        connection.close()


class WithOpenSSH(Place):
    """pysftpd and pysftpweb for the same users, as an administrator starts them."""

    def door(self, *options: object) -> Program:
        words = ["--users", self.place / "users.toml", "--sftp-path", self.place / "files", "--port", "0"]
        words += ["--link-socket", self.place / "links", "--state", self.place / "state", "--allow-root"]
        door = Program(command("pysftpweb", *words, *map(str, options)), self.place / "web.log")
        self.addCleanup(door.stop)
        door.said("listening on http")  # and on the socket
        return door

    def web(self) -> subprocess.CompletedProcess[str]:
        argv = [program("ssh"), "-F", self.alice.ssh_config, TARGET, "web"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)

    def test_a_link_opens_the_session_of_its_user_once(self) -> None:
        audit = self.place / "audit"
        server = self.server("--web-socket", self.place / "links", "--audit", audit)
        away = self.web()
        self.assertEqual((away.returncode, away.stdout), (1, ""))
        self.assertEqual(
            away.stderr, "no link: the server for browsers does not answer; tell its administrator\n"
        )
        self.door()
        self.assertEqual(Path(self.place / "links").stat().st_mode & 0o777, 0o600)
        given = self.web()
        self.assertEqual((given.returncode, given.stderr), (0, ""))
        self.assertRegex(given.stdout, URL)
        url = given.stdout.strip()
        for method in ("GET", "HEAD", "GET"):  # as a chat program looks at a link
            status, headers, page = asked(url, method)
            self.assertEqual(status, 200)
            self.assertNotIn("Set-Cookie", headers)
            self.assertEqual(headers["Referrer-Policy"], "no-referrer")
        self.assertIn("Log in as alice", page)
        self.assertIn(f'action="{urllib.parse.urlsplit(url).path}"', page)
        foreign = asked(url, "POST", Sec_Fetch_Site="cross-site")
        self.assertEqual(foreign[0], 403)
        status, headers, _ = asked(url, "POST")
        self.assertEqual((status, headers["Location"]), (303, "/"))
        cookie = headers["Set-Cookie"]
        self.assertIn("HttpOnly; SameSite=Lax", cookie)
        # Whoever has a session may post to /logout, and learns that the form lacks its token.
        self.assertEqual(asked(url, "POST", "/logout")[2], "Log in first.\n")
        form = {"Cookie": cookie.partition(";")[0], "Content_Type": "application/x-www-form-urlencoded"}
        self.assertIn("another session", asked(url, "POST", "/logout", **form)[2])
        for method in ("POST", "GET"):
            status, headers, page = asked(url, method)
            self.assertEqual(status, 410)
            self.assertNotIn("Set-Cookie", headers)
        record, *more = [one for one in records_of(audit.read_bytes()) if one["result"] == "OK"]
        self.assertEqual((record["request"], record["user"], more), ("web", "alice", []))
        token = url.rpartition("/")[2]
        for place in (audit, server.stderr, self.place / "web.log"):
            self.assertNotIn(token, place.read_text())
        server.logs("was given a link for a browser")
        # Of users as they are now: a link that waits for one who is deactivated opens nothing.
        url = self.web().stdout.strip()
        server.write_users({"alice": {"folder": "a", "keys": [self.alice.public], "active": False}})
        until(lambda: "Log in first" in asked(url, "POST", "/logout", **form)[2], "the session has ended")
        self.assertEqual(asked(url, "POST")[0], 403)
        self.assertEqual(asked(url, "POST")[0], 410)
        with self.assertRaisesRegex(AdminError, "does not let this user in"):
            ask(str(self.place / "links"), {"user": "alice", "address": "127.0.0.1"})


class OfPysftpd(WorkshopCase):
    """What a user is told who asks for a link, whatever listens on the socket."""

    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = str(self.place / "links")

    async def told(self, connection: Any) -> tuple[Any, str, str]:
        done = await asyncio.wait_for(connection.run("web"), PATIENCE)
        return done.exit_status, done.stdout, done.stderr

    def serving(self, *users: User, **options: str) -> Any:
        files = self.place / "files"
        files.mkdir(exist_ok=True)
        return running(lambda user: SFTPServerVirtualChroot(files), *users, options=options)

    def answering(self, *lines: bytes | None) -> Any:
        """A server that gives these answers; None: it waits for the client to go."""
        left = list(lines)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            question = await reader.readline()
            if not question:  # the client has left without one
                writer.close()
                return
            self.question = json.loads(question)
            line = left.pop(0)
            if line is None:
                await reader.read()
            else:
                writer.write(line)
            writer.close()

        return asyncio.start_unix_server(answer, self.path)

    @asynchronous
    async def test_without_the_setting_the_command_is_refused(self) -> None:
        async with self.serving() as server, await server.connect() as connection:
            with self.assertRaises(asyncssh.ChannelOpenError):
                await connection.run("web")

    @asynchronous
    async def test_whatever_the_other_end_does_the_user_is_told_in_time(self) -> None:
        answers = {
            b'{"url": "https://files.example/link/x"}\n': "",
            b'{"error": "not this one"}\n': "no link: not this one\n",
            None: f"{weblinks.AWAY}\n",
            b"": f"{weblinks.AWAY}\n",
            b"[]\n": f"{weblinks.AWAY}\n",
            b'{"url": 1}\n': f"{weblinks.AWAY}\n",
            b'{"url": "\\u001b[2J"}\n': f"{weblinks.AWAY}\n",
            b"x" * (2 * weblinks.LONGEST_ANSWER): f"{weblinks.AWAY}\n",
        }
        self.enterContext(mock.patch.object(weblinks, "PATIENCE", 0.3))
        async with (
            await self.answering(*answers),
            self.serving(web_socket=self.path) as server,
            await server.connect() as connection,
        ):
            for answer, words in answers.items():
                with self.subTest(answer=answer and answer[:20]):
                    with mock.patch.object(weblinks, "PATIENCE", PATIENCE if answer is not None else 0.3):
                        status, out, errors = await self.told(connection)
                    self.assertEqual((status, errors), (1 if words else 0, words))
                    self.assertEqual(out, "" if words else "https://files.example/link/x\n")
                    self.assertEqual(self.question, {"user": "alice", "address": "127.0.0.1"})
            (await connection.start_sftp_client()).exit()  # the connection is as good as before
            self.assertFalse([line for line in server.lines if "link/x" in line])

    @asynchronous
    async def test_a_server_of_another_account_is_not_believed(self) -> None:
        async with (
            await self.answering(b'{"url": "https://evil.example/"}\n'),
            self.serving(web_socket=self.path) as server,
            await server.connect() as connection,
        ):
            with mock.patch.object(weblinks, "CREDENTIALS") as credentials:
                credentials.size, credentials.unpack.return_value = 12, (1, 4242, 1)
                self.assertEqual(await self.told(connection), (1, "", f"{weblinks.AWAY}\n"))
            self.assertTrue([line for line in server.lines if "user 4242 listens there" in line])

    @asynchronous
    async def test_there_is_no_link_where_it_cannot_be_recorded(self) -> None:
        audit = str(self.place / "missing" / "audit")
        async with (
            await self.answering(b'{"url": "https://files.example/link/x"}\n'),
            self.serving(web_socket=self.path, audit=audit) as server,
            await server.connect() as connection,
        ):
            self.assertEqual(await self.told(connection), (1, "", f"{weblinks.UNRECORDED}\n"))

    @asynchronous
    async def test_a_certificate_that_forces_sftp_gives_no_link(self) -> None:
        forced = self.workshop.certify(self.authority, self.key, "-O", "force-command=internal-sftp")
        free = self.workshop.certify(self.authority, self.key)
        trusted = self.place / "trusted"
        trusted.write_bytes(self.authority.with_suffix(".pub").read_bytes())
        alice = User("alice", "alice", "alice", True, frozenset())
        async with (
            await self.answering(b'{"url": "https://files.example/link/x"}\n'),
            self.serving(alice, web_socket=self.path, trusted_user_ca_keys=str(trusted)) as server,
        ):
            for certificate, is_forced in ((forced, True), (free, False)):
                pair = asyncssh.load_keypairs([(str(self.key), str(certificate))])
                async with await server.connect(client_keys=pair) as connection:
                    if is_forced:
                        with self.assertRaises(asyncssh.ChannelOpenError):
                            await connection.run("web")
                    else:
                        self.assertEqual((await self.told(connection))[0], 0)


class Tokens(unittest.TestCase):
    def test_a_link_works_for_a_minute_and_once_however_many_use_it_at_once(self) -> None:
        now = 1000.0
        links: Links[int] = Links(clock=lambda: now)
        token = links.add("alice", 1)
        self.assertGreaterEqual(len(token), 22)  # 128 bits
        self.assertNotIn(token, repr(vars(links)))
        now += SECONDS - 1
        self.assertEqual(links.look(token), 1)
        with ThreadPoolExecutor(8) as pool:
            used = list(pool.map(lambda _: links.use(token), range(64)))
        self.assertEqual(sorted(filter(None, used)), [1])
        late = links.add("alice", 2)
        now += SECONDS
        self.assertIsNone(links.look(late))
        self.assertIsNone(links.use(late))

    def test_one_user_s_links_are_bounded_and_do_not_push_out_another_s(self) -> None:
        links: Links[str] = Links()
        other = links.add("bob", "bob")
        tokens = [links.add("alice", "alice") for _ in range(2 * MOST_EACH)]
        self.assertEqual(len(links), MOST_EACH + 1)
        self.assertEqual(links.use(other), "bob")
        self.assertIsNone(links.use(tokens[0]))
        self.assertEqual(links.use(tokens[-1]), "alice")


class OnTheSocket(InAPlace):
    def talk(self, data: bytes) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(PATIENCE)
            one.connect(str(self.place / "links"))
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            with one.makefile("rb") as answers:
                return dict(json.loads(answers.readline()))

    def test_questions_are_checked_and_another_account_is_refused(self) -> None:
        def url(question: dict[str, str]) -> str:
            if "operator" in question:
                raise NoLink("no operators\nhere")
            return "http://x/" + question["user"]

        log = logging.getLogger("pysftpserver.web")
        one = LinkSocket(str(self.place / "links"), url, log)
        self.addCleanup(one.close)
        self.assertEqual(self.talk(b'{"user": "a", "address": "b"}\n'), {"url": "http://x/a"})
        self.assertNotIn("\n", self.talk(b'{"operator": "a"}\n')["error"])
        for bad in (b"", b"\n", b"[", b"[]", b"{}", b'{"user": "a"}', b'{"user": "a", "address": 1}'):
            self.assertIn("error", self.talk(bad + b"\n"))
        self.assertIn("error", self.talk(b'{"operator": "' + b"x" * (LONGEST_QUESTION - 40) + b'"}\n'))
        with (
            mock.patch("pysftpserver.web.linksocket.CREDENTIALS") as credentials,
            self.assertLogs(log, "ERROR"),
        ):
            credentials.size, credentials.unpack.return_value = 12, (1, 4242, 1)
            self.assertIn("only root", self.talk(b'{"user": "a", "address": "b"}\n')["error"])
        one.close()
        self.assertFalse((self.place / "links").exists())


if __name__ == "__main__":
    unittest.main()
