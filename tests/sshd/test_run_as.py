"""Sessions as accounts of the host: what root keeps, what is given up, and what nobody gets."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import asyncssh

import pysftpserver
from pysftpserver.cli import pysftpd
from pysftpserver.failures import BadInput
from pysftpserver.host import privileges
from pysftpserver.host.privileges import Account
from pysftpserver.people.user_storages import Openers, UserStorages
from pysftpserver.people.users import User
from pysftpserver.service.admin_client import ask
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.sshd.forkserver import FORK_SERVER, ForkServer
from pysftpserver.sshd.orders import BEGIN, ENDED, FIRST, LONGEST, NOT_BEGUN, ORDER, SIGNAL
from pysftpserver.sshd.run_as import RunAs, own_account
from pysftpserver.sshd.tickets import Ticket
from pysftpserver.storages.sharing import Storages
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sshd.inprocess import HOST, asynchronous, raw
from tests.sshd.isolating import CREAT, WRITE, answer
from tests.sshd.running import Place, Pysftpd, make_key
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, NO_ATTRS, OK, string, u32, u64
from tests.support.paths import ROOT
from tests.support.processes import command, descendants, is_alive
from tests.support.waiting import PATIENCE, eventually, until

SERVER, SESSIONS, OTHERS = "daemon", "nobody", "bin"  # accounts of every host
PROBER = "tests.sshd.proberstorage:Prober"
PERMISSIONS = u32(4)
HANDLE = string(u32(1))
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


class RootsServer(Pysftpd):
    """A server that root has started; the folders belong to the accounts of their users."""

    def __init__(self, python: str, *options: str, **users: dict[str, str]) -> None:
        place = Path(tempfile.mkdtemp(prefix="pysftpserver-run-as-"))
        place.chmod(0o755)
        super().__init__(
            place,
            *("--account", SERVER, "--admin-socket", place / "admin", "--drain-seconds", "0"),
            *("--storage-classes", PROBER, *options),
        )
        make_key(place / "key")
        self.key = asyncssh.read_private_key(place / "key")
        public = (place / "key.pub").read_text().strip()
        self.write_users({name: {**fields, "keys": [public]} for name, fields in users.items()})
        for name, fields in users.items():
            (self.files / name).mkdir(exist_ok=True)
            shutil.chown(self.files / name, fields.get("run_as", SERVER))
        for path in (place, *self.host_keys.iterdir(), self.host_keys, self.users):
            shutil.chown(path, SERVER)
        self.argv[1:3] = [f"PYTHONPATH={ROOT}:{LIBRARIES}", python]

    def stop(self, seconds: float = PATIENCE) -> None:
        try:
            super().stop(seconds)
        finally:
            shutil.rmtree(self.directory)

    async def begun(self, name: str) -> Any:
        """A channel on which INIT was answered."""
        connection = await asyncssh.connect(
            *(HOST, self.port), username=name, client_keys=[self.key], known_hosts=None, config=None
        )
        channel = await raw(connection)
        channel.send(HELLO)
        await channel.packet()
        return channel

    async def over(self, *channels: Any) -> None:
        """End sessions, and wait until their processes have ended."""
        for channel in channels:
            channel.writer.channel.get_connection().abort()
        await eventually(lambda: not self.sessions(), "no session is left")

    def forks(self) -> int:
        """The process that others are forked from."""
        named = {name: pid for pid, name, _ in descendants(self.pid)}
        return named[FORK_SERVER]


@unittest.skipUnless(os.geteuid() == 0, "only root can become others")
class Sessions(unittest.TestCase):
    shared: ClassVar[RootsServer | None] = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        found = None if "PYSFTPSERVER_BIN" in os.environ else python()
        if found is None:
            raise unittest.SkipTest(f"no Python here that account {SERVER} can run")
        cls.python = found

    def served(self) -> RootsServer:
        """The server that most tests share."""
        if self.shared is None:
            server = RootsServer(
                self.python,
                *("--run-as-accounts", f"{SESSIONS},root,@{OTHERS}", "--allow-setid", "--audit", "audit"),
                alice={"run_as": SESSIONS},
                bob={"run_as": OTHERS},
                carol={},
                prober={"run_as": SESSIONS, "storage": f'{PROBER} "files/{{name}}"'},
                root={"run_as": "root"},
                mail={"run_as": "mail"},
            )
            self.addClassCleanup(server.stop)
            server.start()
            type(self).shared = server
        return self.shared

    def started(self, *options: str, **users: dict[str, str]) -> RootsServer:
        server = RootsServer(self.python, *options, **users)
        self.addCleanup(server.stop)
        server.start()
        return server

    @asynchronous
    async def test_files_belong_to_the_account_and_nothing_of_root_is_left_where_clients_are_heard(self):
        server = self.served()
        accounts = {"alice": SESSIONS, "bob": OTHERS, "carol": SERVER}
        for name, account in accounts.items():
            channel = await server.begun(name)
            await answer(channel, "open", 1, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            await answer(channel, "write", 2, HANDLE, u64(0), string(b"x"))
            await answer(channel, "close", 3, HANDLE)
            mode = PERMISSIONS + u32(0o6755)
            self.assertEqual((await answer(channel, "setstat", 4, string(b"/f"), mode))[9:13], u32(OK))
            (process,) = server.sessions()
            entry = pwd.getpwnam(account)
            told = status(process)
            self.assertEqual(told["Uid"], " ".join([str(entry.pw_uid)] * 4))
            self.assertEqual(told["Gid"], " ".join([str(entry.pw_gid)] * 4))
            groups = sorted(os.getgrouplist(account, entry.pw_gid))
            self.assertEqual(told["Groups"], " ".join(map(str, groups)))
            self.assertEqual({told[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")}, {"0" * 16})
            # Others of the account cannot look into it: it has the server's passwords in its memory.
            self.assertEqual(os.stat(f"/proc/{process}/mem").st_uid, 0)
            found = (server.files / name / "f").stat()
            self.assertEqual((found.st_uid, found.st_gid), (entry.pw_uid, entry.pw_gid))
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o755)
            await server.over(channel)
        kept = sum(1 << number for number in privileges.TO_BECOME_OTHERS)
        own = pwd.getpwnam(SERVER).pw_uid
        for process, uid, mask in ((server.pid, own, 0), (server.forks(), 0, kept)):
            told = status(process)
            self.assertEqual((told["Uid"], told["NoNewPrivs"]), (" ".join([str(uid)] * 4), "1"))
            self.assertEqual({told[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")}, {f"{mask:016x}"})
        log = server.directory / "audit"
        records = [json.loads(line) for line in log.read_text().splitlines()]
        ended = {record["user"] for record in records if record["request"] == "end"}
        self.assertLessEqual(set(accounts), ended)
        self.assertEqual(log.owner(), SERVER)

    @asynchronous
    async def test_a_session_can_neither_get_rights_back_nor_reach_other_processes(self):
        server = self.served()
        alice = await server.begun("alice")
        (process,) = server.sessions()
        prober = await server.begun("prober")
        others = "-".join(map(str, (server.pid, server.forks(), process)))
        packet = await answer(prober, "readlink", 1, string(f"/{others}".encode()))
        told = json.loads(packet[17 : 17 + int.from_bytes(packet[13:17], "big")])
        self.assertEqual(told["done"], [])
        entry = pwd.getpwnam(SESSIONS)
        self.assertEqual(told["ids"], [[entry.pw_uid] * 3, [entry.pw_gid] * 3, [entry.pw_gid]])
        self.assertIsNone(told["home"])
        await server.over(alice, prober)

    @asynchronous
    async def test_an_account_that_is_not_allowed_gets_no_session_and_the_log_says_why(self):
        server = self.served()
        for name in ("root", "mail"):
            with self.assertRaises(asyncssh.ChannelOpenError):
                await server.begun(name)
        server.logs("'root': no session: account root has uid 0")
        server.logs("'mail': no session: run_as mail: not in run_as_accounts")
        await server.over()

    @asynchronous
    async def test_a_session_that_hangs_as_another_account_is_ended_all_the_same(self):
        server = self.served()
        await server.begun("alice")
        (hanging,) = server.sessions()
        os.kill(hanging, signal.SIGSTOP)
        question = {"ask": "end", "user": "alice"}
        await asyncio.to_thread(ask, str(server.directory / "admin"), question)
        await eventually(lambda: not server.sessions(), "no session is left")

    @unittest.skipUnless(IS_HARD, "another server")
    @asynchronous
    async def test_sessions_of_other_accounts_end_with_the_process_that_forks(self):
        server = self.started("--run-as", SESSIONS, alice={"run_as": SESSIONS})
        await server.begun("alice")
        (process,) = server.sessions()
        os.kill(server.forks(), signal.SIGKILL)
        await eventually(lambda: not is_alive(process), "the session has ended")
        self.assertEqual(await asyncio.to_thread(server.wait), 1)
        server.process = None

    @unittest.skipUnless(IS_HARD, "another server")
    def test_a_server_that_needs_nothing_of_root_keeps_nothing_of_it(self) -> None:
        server = self.started(carol={})
        for process in (server.pid, server.forks()):
            told = status(process)
            self.assertEqual(told["Uid"], " ".join([str(pwd.getpwnam(SERVER).pw_uid)] * 4))
            self.assertEqual(told["CapEff"], "0" * 16)


@unittest.skipUnless(os.geteuid() == 0, "only root can become others")
class Unreadable(InAPlace):
    def test_a_server_whose_account_cannot_read_its_code_says_so_in_a_line(self) -> None:
        (self.place / "pysftpserver").symlink_to(Path(pysftpserver.__file__).parent)
        self.place.chmod(0o700)
        code = "import sys; from pysftpserver.cli.pysftpd import main; sys.exit(main())"
        words = [sys.executable, "-c", code, "--account", SERVER]
        environment = {"PYTHONPATH": os.fspath(self.place)}
        done = subprocess.run(
            words, cwd=self.place, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertRegex(done.stderr, rf"\Apysftpd: account {SERVER}: \S+: permission denied; install .*\n\Z")
        self.assertEqual(done.returncode, 2)

    @unittest.skipUnless(IS_HARD, "six servers")
    def test_what_its_account_may_not_use_is_named_with_the_account(self) -> None:
        found = python()
        if found is None:
            self.skipTest("no Python that other accounts can run")
        argv = command("pysftpd")
        argv[1:3] = [f"PYTHONPATH={ROOT}:{LIBRARIES}", found]
        self.place.chmod(0o755)
        closed = self.place / "closed"
        closed.mkdir(0o700)
        key, users, files = closed / "key", self.place / "users.toml", self.place / "files"
        key.touch(0o600)
        users.touch(0o644)
        files.mkdir()
        own = self.place / "host-keys"
        own.mkdir()
        shutil.chown(own, SERVER)
        keys = "--host-key-dir", own
        for options, what in (
            (("--host-key", key), f"host key {key}"),
            (("--host-key-dir", closed / "keys"), f"host key directory {closed}/keys"),
            ((*keys, "--admin-socket", closed / "admin"), f"admin_socket {closed}/admin"),
            ((*keys, "--logfile", closed / "log"), f"logfile {closed}/log"),
            ((*keys, "--pid-file", closed / "pid"), f"pid_file {closed}/pid"),
            ((*keys, "--users", closed / "users"), f"users file {closed}/users"),
        ):
            words = ("--account", SERVER, "--port", "0", "--users", users, "--sftp-path", files, *options)
            with self.subTest(what):
                done = subprocess.run([*argv, *words], capture_output=True, text=True, timeout=PATIENCE)
                self.assertIn(f"pysftpd: {what}: permission denied for user {SERVER}", done.stderr)
                self.assertIn(done.returncode, (1, 2))


class Asked(unittest.TestCase):
    """What the process that forks does for one that serves SSH and has been taken over."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can become others")
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-run-as-"))
        self.addCleanup(shutil.rmtree, self.place)
        shutil.chown(self.place, SESSIONS)
        policy = RunAs(privileges.account(SERVER), (SESSIONS,), None)
        jail = os.fspath(self.place)
        one = ForkServer(lambda user: SFTPServerVirtualChroot(jail), 1, pysftpd.prepare, policy, 9)
        self.addCleanup(one.close)
        self.forks = one
        self.sock = one.sockets[0]

    def ask(self, user: User, pairs: int = 2, **fields: Any) -> tuple[int, list[dict[str, Any]]]:
        """(the wait status of the process for a ticket, what it said)."""
        ticket = Ticket(user, "::1", 22, 1, 3, **fields).packed()
        name = user.name.encode()
        ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(pairs)]
        message = BEGIN + FIRST.pack(1, 0, len(name)) + name + ticket
        socket.send_fds(self.sock, [message], [theirs.fileno() for _, theirs in ends])
        for _, theirs in ends:
            theirs.close()
        ends[0][0].shutdown(socket.SHUT_WR)
        said = []
        while message := ends[-1][0].recv(LONGEST):
            said.append(json.loads(message))
        for ours, _ in ends:
            ours.close()
        return self.ended()[1], said

    def assert_served(self, user: User) -> None:
        status, said = self.ask(user)
        self.assertEqual(status, 0, said)

    def ended(self) -> tuple[int, int]:
        """The next session that has ended, and its wait status."""
        self.sock.settimeout(PATIENCE)
        found: tuple[int, int] = ENDED.unpack(self.sock.recv(ENDED.size))
        return found

    def test_it_begins_sessions_of_listed_accounts_and_does_nothing_else(self) -> None:
        user = User("1", "alice", "alice", True, frozenset(), None, SESSIONS)
        self.assert_served(user)
        for wrong, fields, words in (
            (replace(user, run_as="root"), {}, "account root has uid 0"),
            (replace(user, run_as=OTHERS), {}, "not in run_as_accounts"),
            (replace(user, folder="../etc"), {}, "not a single name"),
            (user, {"audit": f"{self.place}/.profile"}, "the audit log was not handed over"),
        ):
            with self.subTest(words):
                status, said = self.ask(wrong, **fields)
                self.assertEqual(status, 1 << 8)
                self.assertIn(words, said[0]["log"][1])
                self.assertEqual(said[1:], [{"begun": False}])
        self.assertEqual(self.ask(user, pairs=1), (1 << 8, []))
        self.assertEqual(os.listdir(self.place), [])

    def test_a_session_says_nothing_to_a_service_that_was_handed_over(self) -> None:
        """Some (syslog, systemd) believe what the kernel says of each sender, which is another account."""
        user = User("1", "alice", "alice", True, frozenset(), None, SESSIONS)
        name = user.name.encode()
        message = BEGIN + FIRST.pack(1, 0, len(name)) + name + Ticket(user, "::1", 22, 1, 3).packed()
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected,
        ):
            service.bind(f"{self.place}/service")
            service.setblocking(False)
            connected.connect(f"{self.place}/service")
            socket.send_fds(self.sock, [message], [connected.fileno()] * 2)
            self.assertEqual(self.ended(), (1, 1 << 8))
            with self.assertRaises(BlockingIOError):
                service.recv(LONGEST)

    def test_rubbish_ends_what_it_is_for_and_not_the_process_that_forks(self) -> None:
        """All sessions of all workers end with that."""
        user = User("1", "alice", "alice", True, frozenset(), None, SESSIONS)
        self.assert_served(user)
        descriptors = f"/proc/{self.forks.pid}/fd"
        before = len(os.listdir(descriptors))
        name = user.name.encode()
        begin = BEGIN + FIRST.pack(7, 0, len(name)) + name + Ticket(user, "::1", 22, 1, 3).packed()
        ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(4)]
        for pair in (ends[:2], ends[2:]):  # the same number twice
            socket.send_fds(self.sock, [begin], [theirs.fileno() for _, theirs in pair])
        for message in (BEGIN, BEGIN + b"x", SIGNAL + b"x", SIGNAL + ORDER.pack(7, 200)):
            socket.send_fds(self.sock, [message], [self.sock.fileno()] * 3)
        self.assertEqual(self.ended(), (7, NOT_BEGUN))
        for one, theirs in ends:
            theirs.close()
            one.close()
        self.assertEqual(self.ended()[0], 7)
        self.assert_served(user)
        # A spare process may have come, and others are open for a moment while it is forked.
        until(lambda: len(os.listdir(descriptors)) <= before + 1, "all descriptors are closed")

    def test_one_that_does_not_hear_how_sessions_end_is_not_heard(self) -> None:
        """Or what it is to be told would fill the memory of the process that forks."""
        self.sock.settimeout(2)
        message = BEGIN + FIRST.pack(1, 0, 0)
        with self.assertRaises(TimeoutError):
            for _ in range(3000):
                socket.send_fds(self.sock, [message], [])


@unittest.skipUnless(os.geteuid() == 0, "only root's links are followed")
class Folders(Place):
    def test_a_link_that_is_not_root_s_leads_to_no_folder(self) -> None:
        """The server's account could make one if sftp_path is its own, to the home of any account."""
        (self.place / "home").mkdir()
        files = self.place / "files"
        files.mkdir()
        (files / "alice").symlink_to("../home")
        settings = ServerSettings(sftp_path=str(files), run_as_accounts=(SESSIONS,))
        openers = Openers(SFTPServerVirtualChroot, pysftpd.gridfs, Storages())
        user = User("1", "alice", "alice", True, frozenset(), None, SESSIONS)
        UserStorages(settings, openers, True).of(user)
        os.chown(files / "alice", pwd.getpwnam(SERVER).pw_uid, 0, follow_symlinks=False)
        with self.assertRaisesRegex(ValueError, "a link that is not root's"):
            UserStorages(settings, openers, True).of(user)
        UserStorages(ServerSettings(sftp_path=str(files)), openers).of(user)


class Starting(Place):
    def test_settings_that_do_not_go_together_are_errors(self) -> None:
        config = self.place / "config"
        config.touch(0o666)
        config.chmod(0o666)
        own = {"account": SERVER}
        for settings, words in (
            ({"run_as": SESSIONS}, "run_as needs account"),
            ({"account": "root"}, "account root has uid 0"),
            ({"account": "no-such"}, "there is no account no-such on this host"),
            ({**own, "run_as": "root"}, "account root has uid 0"),
            ({**own, "run_as": SESSIONS, "isolation": "thread"}, "run_as needs isolation = process"),
            (own, "it is writable by others" if os.geteuid() == 0 else "only root"),
        ):
            with self.subTest(settings), self.assertRaisesRegex(BadInput, words):
                own_account(ServerSettings(**settings), str(config))

    def test_a_process_that_is_the_account_already_goes_on_as_it_unless_it_needs_root(self) -> None:
        with mock.patch("os.geteuid", return_value=privileges.account(SERVER).uid):
            self.assertIsNone(own_account(ServerSettings(account=SERVER), None))
            with mock.patch.object(privileges, "has", return_value=False):
                for more in ({"run_as": SESSIONS}, {"run_as_accounts": (SESSIONS,)}):
                    with self.assertRaisesRegex(BadInput, "only root can start"):
                        own_account(ServerSettings(account=SERVER, **more), None)


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
