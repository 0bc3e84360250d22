"""Sessions as accounts of the host: what root keeps, what is given up, and what nobody gets."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.host import privileges
from pysftpserver.host.privileges import Account
from pysftpserver.sshd.admin_client import ask
from pysftpserver.sshd.forkserver import FORK_SERVER
from pysftpserver.sshd.run_as import RunAs
from pysftpserver.sshd.users import User
from tests.sshd.inprocess import HOST, raw
from tests.sshd.running import Place, Pysftpd, make_key
from tests.sshd.test_isolation import CREAT, FIRST, WRITE, answer
from tests.support.packets import HELLO, NO_ATTRS, OK, string, u32, u64
from tests.support.paths import ROOT
from tests.support.processes import descendants, is_alive
from tests.support.waiting import PATIENCE, eventually

SERVER, SESSIONS, OTHERS = "daemon", "nobody", "bin"  # accounts of every host
PROBER = "tests.sshd.proberstorage:Prober"
PERMISSIONS = u32(4)
LIBRARIES = Path(asyncssh.__file__).parent.parent


def python() -> str | None:
    """A Python that the server's account can run; None: there is none."""
    own = pwd.getpwnam(SERVER)
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [path, "-c", "import asyncssh, pysftpserver, os; os.close(os.open(os.__file__, 0))"],
                env={"PYTHONPATH": f"{ROOT}:{LIBRARIES}"},
                user=own.pw_uid,
                group=own.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                timeout=PATIENCE,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return path
    return None


def status(process: int) -> dict[str, str]:
    """What /proc says of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


@unittest.skipUnless(os.geteuid() == 0, "only root can become others")
class AsRoot(Place):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        found = None if "PYSFTPSERVER_BIN" in os.environ else python()
        if found is None:
            raise unittest.SkipTest(f"no Python here that account {SERVER} can run")
        cls.python = found

    def serve(self, *options: str, **users: dict[str, str]) -> Pysftpd:
        """A server that root has started; the folders belong to the accounts of their users."""
        self.place.chmod(0o755)
        server = Pysftpd(
            self.place,
            *("--account", SERVER, "--admin-socket", self.place / "admin", "--drain-seconds", "0"),
            *("--storage-classes", PROBER, *options),
        )
        make_key(self.place / "key")
        self.key = asyncssh.read_private_key(self.place / "key")
        public = (self.place / "key.pub").read_text().strip()
        server.write_users({name: {**fields, "keys": [public]} for name, fields in users.items()})
        for name, fields in users.items():
            folder = server.files / name
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, fields.get("run_as", SERVER))
        for path in (self.place, *server.host_keys.iterdir(), server.host_keys, server.users):
            shutil.chown(path, SERVER)
        server.argv[1:3] = [f"PYTHONPATH={ROOT}:{LIBRARIES}", self.python]
        self.addCleanup(server.stop)
        server.start()
        self.running = server
        return server

    async def begun(self, name: str) -> Any:
        connection = await asyncssh.connect(
            *(HOST, self.running.port), username=name, client_keys=[self.key], known_hosts=None, config=None
        )
        channel = await raw(connection)
        channel.send(HELLO)
        await channel.packet()
        return channel

    def run_async(self, test: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(), 3 * PATIENCE)

        asyncio.run(limited())

    def forks(self) -> int:
        """The process that others are forked from."""
        named = {name: pid for pid, name, _ in descendants(self.running.pid)}
        return named[FORK_SERVER]


class Sessions(AsRoot):
    def test_files_belong_to_the_account_and_nothing_of_root_is_left_where_clients_are_heard(self) -> None:
        self.serve(
            *("--run-as-accounts", f"{SESSIONS},@{OTHERS}", "--allow-setid", "--audit", "audit"),
            alice={"run_as": SESSIONS},
            bob={"run_as": OTHERS},
            carol={},
        )
        accounts = {"alice": SESSIONS, "bob": OTHERS, "carol": SERVER}

        async def test() -> None:
            for name, account in accounts.items():
                channel = await self.begun(name)
                flags = u32(WRITE | CREAT), NO_ATTRS
                await answer(channel, "open", 1, string(b"/f"), *flags)
                await answer(channel, "write", 2, FIRST, u64(0), string(b"x"))
                await answer(channel, "close", 3, FIRST)
                mode = PERMISSIONS + u32(0o6755)
                self.assertEqual((await answer(channel, "setstat", 4, string(b"/f"), mode))[9:13], u32(OK))
                (process,) = self.running.sessions()
                entry = pwd.getpwnam(account)
                groups = " ".join(map(str, sorted(os.getgrouplist(account, entry.pw_gid))))
                told = status(process)
                self.assertEqual(told["Uid"], " ".join([str(entry.pw_uid)] * 4))
                self.assertEqual(told["Gid"], " ".join([str(entry.pw_gid)] * 4))
                self.assertEqual(told["Groups"], groups)
                self.assertEqual(
                    {told[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")}, {"0" * 16}
                )
                # Others of the account cannot look into it: it has the server's passwords in its memory.
                self.assertEqual(os.stat(f"/proc/{process}/mem").st_uid, 0)
                channel.writer.channel.get_connection().abort()
                await eventually(lambda: not self.running.sessions(), "no session is left")

        self.run_async(test)
        for name, account in accounts.items():
            found = (self.running.files / name / "f").stat()
            entry = pwd.getpwnam(account)
            self.assertEqual((found.st_uid, found.st_gid), (entry.pw_uid, entry.pw_gid))
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o755)
        front = status(self.running.pid)
        self.assertEqual(front["Uid"], " ".join([str(pwd.getpwnam(SERVER).pw_uid)] * 4))
        self.assertEqual({front[kind] for kind in ("CapPrm", "CapEff", "CapBnd")}, {"0" * 16})
        self.assertEqual(front["NoNewPrivs"], "1")
        kept = sum(1 << number for number in privileges.TO_BECOME_OTHERS)
        forks = status(self.forks())
        self.assertEqual({forks[kind] for kind in ("CapPrm", "CapEff", "CapBnd")}, {f"{kept:016x}"})
        self.assertEqual(forks["NoNewPrivs"], "1")
        records = [json.loads(line) for line in (self.place / "audit").read_text().splitlines()]
        self.assertEqual({record["user"] for record in records if record["request"] == "end"}, set(accounts))
        self.assertEqual((self.place / "audit").owner(), SERVER)

    def test_a_session_can_neither_get_rights_back_nor_reach_other_processes(self) -> None:
        storage = f'{PROBER} "{self.place}/files/{{name}}"'
        self.serve(
            *("--run-as-accounts", SESSIONS),
            alice={"run_as": SESSIONS, "storage": storage},
            bob={"run_as": SESSIONS},
        )

        async def test() -> None:
            await self.begun("bob")
            (bobs,) = self.running.sessions()
            alice = await self.begun("alice")
            others = "-".join(map(str, (self.running.pid, self.forks(), bobs)))
            packet = await answer(alice, "readlink", 1, string(f"/{others}".encode()))
            told = json.loads(packet[17 : 17 + int.from_bytes(packet[13:17], "big")])
            self.assertEqual(told["done"], [])
            entry = pwd.getpwnam(SESSIONS)
            self.assertEqual(told["ids"], [[entry.pw_uid] * 3, [entry.pw_gid] * 3, [entry.pw_gid]])
            self.assertIsNone(told["home"])

        self.run_async(test)

    def test_an_account_that_is_not_allowed_gets_no_session_and_the_log_says_why(self) -> None:
        self.serve(
            *("--run-as-accounts", f"{SESSIONS},root"),
            root={"run_as": "root"},
            mail={"run_as": "mail"},
            alice={"run_as": SESSIONS},
        )

        async def test() -> None:
            for name in ("root", "mail"):
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await self.begun(name)
            await self.begun("alice")

        self.run_async(test)
        self.running.logs("'root': no session: account root has the number 0")
        self.running.logs("'mail': no session: run_as mail: it is not in run_as_accounts")

    def test_a_server_that_needs_nothing_of_root_keeps_nothing_of_it(self) -> None:
        self.serve(carol={})
        for process in (self.running.pid, self.forks()):
            told = status(process)
            self.assertEqual(told["Uid"], " ".join([str(pwd.getpwnam(SERVER).pw_uid)] * 4))
            self.assertEqual(told["CapEff"], "0" * 16)

    def test_the_end_reaches_sessions_of_other_accounts(self) -> None:
        self.serve("--run-as", SESSIONS, alice={"run_as": SESSIONS}, bob={"run_as": SESSIONS})

        async def test() -> None:
            await self.begun("alice")
            await self.begun("bob")
            self.hanging, self.other = sorted(self.running.sessions())
            os.kill(self.hanging, signal.SIGSTOP)
            question = {"ask": "end", "user": "alice"}
            await asyncio.to_thread(ask, str(self.place / "admin"), question)
            await eventually(lambda: self.running.sessions() == [self.other], "one session is left")
            os.kill(self.forks(), signal.SIGKILL)
            await eventually(lambda: not is_alive(self.other), "the other one has ended")

        self.run_async(test)
        self.assertEqual(self.running.wait(), 1)
        self.running.process = None


class Starting(AsRoot):
    def test_settings_that_do_not_go_together_are_errors(self) -> None:
        config = self.place / "config"
        config.write_text("port = 0\n")
        shutil.chown(config, SERVER)
        own = ("--account", SERVER)
        for options, words in (
            (("--run-as", SESSIONS), "run_as needs account"),
            (("--account", "root"), "account root has the number 0"),
            (("--account", "no-such"), "there is no account no-such on this host"),
            ((*own, "--run-as", "root"), "account root has the number 0"),
            ((*own, "--run-as", SESSIONS, "--isolation", "thread"), "run_as needs isolation = process"),
            ((*own, "--config", str(config)), "configuration"),
        ):
            with self.subTest(options):
                server = Pysftpd(self.place, *options)
                done, said = self.fails(*server.argv)
                self.assertNotEqual(done, 0)
                self.assertIn(words, said)


class Policy(unittest.TestCase):
    """What the fork server makes of what it is asked for, whoever asks."""

    def setUp(self) -> None:
        self.own = Account("own", 12345, 12345, (12345,))
        self.run_as = RunAs(self.own, (SESSIONS, "root"), None)

    def of(self, run_as: str | None, folder: str = "folder", policy: RunAs | None = None) -> Account:
        user = User("1", "name", folder, True, frozenset(), None, run_as)
        return (policy or self.run_as).account_of(user)

    def test_only_accounts_of_the_list_are_allowed_and_root_is_not_even_then(self) -> None:
        self.assertEqual(self.of(SESSIONS).uid, pwd.getpwnam(SESSIONS).pw_uid)
        self.assertIs(self.of(None), self.own)
        for name in ("root", "0", "65534", SERVER, "no-such", "@nogroup", "nobody\0", "\ud800", " nobody"):
            with self.subTest(name), self.assertRaises(ValueError):
                self.of(name)

    def test_an_empty_list_allows_the_default_alone(self) -> None:
        policy = RunAs(self.own, (), SERVER)
        self.assertEqual(self.of(None, policy=policy).name, SERVER)
        self.assertEqual(self.of(SERVER, policy=policy).name, SERVER)
        with self.assertRaises(ValueError):
            self.of(SESSIONS, policy=policy)

    def test_members_of_a_group_are_allowed(self) -> None:
        group = "@nogroup" if privileges.group_number("nogroup") else "@nobody"
        policy = RunAs(self.own, (group, "@no-such"), None)
        self.assertEqual(self.of(SESSIONS, policy=policy).name, SESSIONS)
        with self.assertRaises(ValueError):
            self.of(SERVER, policy=policy)

    def test_a_folder_leads_nowhere_else(self) -> None:
        for folder in ("..", "a/b", "", "/etc"):
            with self.subTest(folder), self.assertRaises(ValueError):
                self.of(SESSIONS, folder)
