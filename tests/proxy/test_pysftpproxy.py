"""The command pysftpproxy as a process: what it serves, how it logs in, and what ends it."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pysftpserver.storages.sftp.address import Address
from pysftpserver.storages.sftp.connection import GONE
from tests.proxy.servers import BehindTheProxy, script
from tests.support import packets as sftp
from tests.support.doors import FILE, Door, DoorCase, Wire
from tests.support.forked import environment, run
from tests.support.packets import request, string, u32, u64
from tests.support.paths import ROOT
from tests.support.processes import is_alive, program
from tests.support.waiting import NEVER, until

PASSWORD = "se:cr@t pass"
BIG = 4 << 20  # bytes


class ProxyCase(BehindTheProxy, DoorCase):
    """The command, with a directory of programs before all others on its path: `ssh` is the server behind."""

    def setUp(self) -> None:
        super().setUp()
        self.programs = self.place / "programs"
        self.programs.mkdir()
        self.play_ssh(f"exec {shlex.join(self.server())}")

    def play_ssh(self, text: str) -> None:
        script(self.programs / "ssh", f"echo $$ > {self.place}/pid\n{text}")

    def variables(self, **more: str) -> dict[str, str]:
        return environment(PATH=f"{self.programs}:{os.environ['PATH']}", **more)

    def argv(self, *arguments: str) -> list[str]:
        log = ("-l", str(self.place / "log"))
        return [sys.executable, str(ROOT / "bin" / "pysftpproxy"), *log, *arguments]

    def run_it(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end, with a client that says hello and leaves."""
        return run(self.argv(*arguments), sftp.HELLO, env=self.variables(**variables), cwd=self.place)

    def serve(self, *arguments: str, **variables: str) -> tuple[Door, Wire]:
        """A session; SSH_CONNECTION is not set."""
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        door = self.start_door(
            self.argv(*arguments), self.place / "log", their_in, their_out, env=self.variables(**variables)
        )
        for descriptor in (their_in, their_out):
            os.close(descriptor)
        self.ends = [our_in, our_out]
        self.addCleanup(self.leave)
        wire = Wire(our_in, our_out)
        wire.hello()
        return door, wire

    def leave(self) -> None:
        """The client goes away."""
        while self.ends:
            os.close(self.ends.pop())

    def ssh(self) -> int:
        """The process of `ssh`."""
        return int(until(lambda: (self.place / "pid").read_text(), "ssh is started"))

    def open(self, wire: Wire, path: Path, flags: int = sftp.READ) -> None:
        reply = wire.ask("open", string(os.fsencode(path)), u32(flags), sftp.NO_ATTRS)
        self.assertEqual((reply.kind, FILE), ("handle", string(reply.content)))


class Sessions(ProxyCase):
    def test_are_in_the_sandbox_with_neither_network_nor_programs_nor_files(self) -> None:
        door, wire = self.serve("server")
        self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")
        line = next(line for line in door.log().splitlines() if "sandbox: " in line)
        for words in ("no programs", "no network sockets"):
            self.assertIn(words, line)

    def test_keep_many_reads_and_writes_in_flight(self) -> None:
        content = random.Random(1).randbytes(BIG)
        (self.root / "f").write_bytes(content)
        _, wire = self.serve("server")
        self.open(wire, self.root / "f", sftp.READ | sftp.WRITE)
        size = BIG // 32
        os.kill(self.ssh(), signal.SIGSTOP)
        try:
            wire.send(b"".join(request("read", n, FILE, u64(n * size), u32(size)) for n in range(32)))
        finally:
            os.kill(self.ssh(), signal.SIGCONT)
        got = [wire.reply() for _ in range(32)]
        self.assertEqual([number for number, _ in got], list(range(32)))
        self.assertTrue(b"".join(reply.content for _, reply in got) == content)
        other = content[::-1]
        for n in range(32):
            wire.send(request("write", n, FILE, u64(n * size), string(other[n * size : (n + 1) * size])))
        self.assertEqual([(number, r.content) for number, r in (wire.reply() for _ in range(32))],
                         [(n, sftp.OK) for n in range(32)])  # fmt: skip
        self.assertEqual(wire.ask("close", FILE).content, sftp.OK)
        self.assertTrue((self.root / "f").read_bytes() == other)

    def test_end_when_the_server_behind_is_killed_and_what_waits_fails_with_words(self) -> None:
        (self.root / "f").write_bytes(bytes(BIG))
        door, wire = self.serve("server")
        self.open(wire, self.root / "f")
        other = wire.ask(
            "open", string(os.fsencode(self.root / "g")), u32(sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS
        )
        os.kill(self.ssh(), signal.SIGSTOP)
        wire.send(b"".join(request("read", n, FILE, u64(n), u32(1000)) for n in range(8)))
        wire.send(request("write", 8, string(other.content), u64(0), string(b"x")))
        door.wait_until_it_waits()
        os.kill(self.ssh(), signal.SIGKILL)
        for n in range(9):
            number, reply = wire.reply()
            self.assertEqual((number, reply.content, reply.message), (n, sftp.FAILURE, GONE.encode()))
        wire.send(request("stat", 10, string(b".")))
        self.assertEqual(wire.take(1), b"")
        self.assertEqual(door.end(), 11)
        self.assertIn("session ends: sftp://server: ", door.log())

    def test_end_when_the_server_behind_says_nothing_for_so_long(self) -> None:
        # The option goes before the name.
        door, wire = self.serve("--timeout", "1", "sftp://server?timeout=600")
        os.kill(self.ssh(), signal.SIGSTOP)
        try:
            wire.send(request("stat", 1, string(b".")))
            self.assertEqual(wire.reply()[1].message, GONE.encode())
            wire.send(request("stat", 2, string(b".")))
            self.assertEqual(door.end(), 11)
            self.assertIn("no answer for 1 second", door.log())
        finally:
            os.kill(self.ssh(), signal.SIGKILL)

    def test_end_at_once_when_told_to_or_left_while_the_server_behind_says_nothing(self) -> None:
        (self.root / "f").write_bytes(b"content")
        for options in ((), ("--audit", str(self.place / "audit"))):
            for end in ("told", "left"):
                with self.subTest(end=end, options=options):
                    door, wire = self.serve(*options, "--timeout", str(int(NEVER)), "server")
                    self.open(wire, self.root / "f")
                    os.kill(self.ssh(), signal.SIGSTOP)
                    try:
                        wire.send(request("read", 1, FILE, u64(0), u32(1000)))
                        wire.send(request("stat", 2, string(b".")))
                        door.wait_until_it_waits()
                        if end == "told":
                            os.kill(door.pid, signal.SIGTERM)
                        else:
                            self.leave()
                        self.assertEqual(door.end(), 0)
                    finally:
                        os.kill(self.ssh(), signal.SIGKILL)
                    self.leave()
                    self.assertNotIn("Traceback", door.log())
                    (self.place / "pid").unlink()

    def test_take_ssh_along_when_they_are_killed(self) -> None:
        door, _ = self.serve("server")
        ssh = self.ssh()
        door.process.kill()
        until(lambda: not is_alive(ssh), "ssh ends")

    def test_may_be_read_only_and_audited(self) -> None:
        audit = self.place / "audit"
        _, wire = self.serve("-R", "--audit", str(audit), "server")
        self.assertEqual(wire.ask("mkdir", string(b"d"), sftp.NO_ATTRS).content, sftp.PERMISSION_DENIED)
        self.assertIn('"request":"mkdir"', audit.read_text())

    def test_start_in_a_directory_of_a_path_that_is_their_root(self) -> None:
        (self.root / "a" / "b").mkdir(parents=True)
        (self.root / "a" / "b" / "f").write_bytes(b"content")
        _, wire = self.serve("--start-directory", "b", f"sftp://server{self.root}/a")
        self.assertEqual(wire.ask("realpath", string(b".")).content[0].name, b"/b")
        self.assertEqual(wire.ask("stat", string(b"f")).kind, "attrs")
        self.assertEqual(wire.ask("stat", string(b"/../../b/f")).kind, "attrs")
        self.assertEqual(wire.ask("stat", string(b"/etc")).content, sftp.NO_SUCH_FILE)


class LoggingIn(ProxyCase):
    """`ssh` asks for a password as the real one does."""

    def setUp(self) -> None:
        super().setUp()
        asking = (
            f'cd {self.place}; printf "%s\\n" "$@" > argv; tr "\\0" "\\n" < /proc/$$/environ > environ\n'
            'test -n "$SSH_ASKPASS" || echo none > answer\n'
            'test -z "$SSH_ASKPASS" || "$SSH_ASKPASS" "alice@server\'s password: " > answer\n'
            'test -z "$SSH_ASKPASS" || "$SSH_ASKPASS" "Are you sure (yes/no/[fingerprint])? " > trust\n'
            f"exec {shlex.join(self.server())}"
        )
        self.play_ssh(asking)

    def read(self, name: str) -> str:
        return (self.place / name).read_text()

    def assert_password(self, *arguments: str, **variables: str) -> None:
        done = self.run_it(*arguments, **variables)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(self.read("answer"), PASSWORD + "\n")
        self.assertEqual(self.read("trust"), "")
        self.assertNotIn(PASSWORD, self.read("argv") + self.read("environ") + self.read("log"))

    def test_with_a_password_from_the_argument_a_file_and_the_environment(self) -> None:
        file = self.place / "password"
        file.write_text(PASSWORD + "\nsecond line\n")
        self.assert_password(f"alice:{PASSWORD}@server")
        self.assert_password("--password-file", str(file), "alice@server")
        self.assert_password(f"sftp://alice@server?password_file={file}")
        self.assert_password("alice@server", PYSFTPPROXY_PASSWORD=PASSWORD)

    def test_hides_the_password_in_the_title(self) -> None:
        door, _ = self.serve(f"alice:{PASSWORD}@server")
        title = Path(f"/proc/{door.pid}/cmdline").read_bytes()
        self.assertIn(b"alice:" + b"*" * len(PASSWORD) + b"@server", title)

    forks = False  # a fork has the title of the process that it was forked from

    def test_without_a_password_asks_nobody(self) -> None:
        self.assertEqual(self.run_it("server").returncode, 0)
        self.assertEqual(self.read("answer"), "none\n")
        self.assertIn("BatchMode=yes", self.read("argv"))

    def test_ssh_config_neither_lets_unknown_hosts_in_nor_lends_the_connection_of_another_key(self) -> None:
        config = self.place / "config"
        lax = (
            "StrictHostKeyChecking no",
            "VerifyHostKeyDNS yes",
            "ControlMaster auto",
            "ControlPath ~/c-%r@%h",
        )
        config.write_text("\n".join(("Host *", "User alice", *lax)) + "\n")
        known = str(self.place / "known hosts")
        for more, expected in (({}, "known_hosts2"), ({"known_hosts_path": known}, known)):
            address = Address("server", ssh_config_path=str(config), **more)
            *command, _, _, host, _ = address.ssh_command(program("ssh"), False, 5)
            done = subprocess.run([*command, "-G", host], capture_output=True, text=True, check=True)
            settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
            self.assertEqual((settings["stricthostkeychecking"], settings["user"]), ("true", "alice"))
            self.assertEqual((settings["verifyhostkeydns"], settings["controlmaster"]), ("false", "false"))
            self.assertNotIn("controlpath", settings)
            self.assertIn(expected, settings["userknownhostsfile"])

    def test_without_host_keys_says_so_loudly(self) -> None:
        done = self.run_it("-d", "server")
        self.assertIn(b"WARNING: the host key of the server behind is NOT checked", done.stderr)
        self.assertIn("NOT checked", self.read("log"))
        self.assertIn("StrictHostKeyChecking=no", self.read("argv"))
        self.run_it("server")
        self.assertNotIn("StrictHostKeyChecking=no", self.read("argv"))


class Failures(ProxyCase):
    def assert_says(self, words: str, *arguments: str, status: int = 1, **variables: str) -> None:
        done = self.run_it(*arguments, **variables)
        self.assertEqual((done.returncode, done.stderr.decode()), (status, f"pysftpproxy: {words}\n"))

    def test_are_told_in_one_line_with_the_words_of_ssh(self) -> None:
        self.play_ssh('echo "alice@server: Permission denied (publickey)." >&2; exit 255')
        words = "alice@server: Permission denied (publickey)"
        hint = "; give a key with -k, or a password with --password-file"
        self.assert_says(f"sftp://alice@server: {words}{hint}", "alice@server")
        self.assert_says(
            "the server behind cannot be reached (syslog says more)", "alice@server", SSH_CONNECTION="1 2 3 4"
        )

    def test_of_what_is_no_sftp_server_are_told(self) -> None:
        self.play_ssh("echo This account is currently not available.; exit 1")
        done = self.run_it("server")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"pysftpproxy: sftp://server: it broke the protocol: a packet of ", done.stderr)

    def test_of_names_have_no_password(self) -> None:
        for remote in (
            f"alice:{PASSWORD}@-oProxyCommand=x",
            f"sftp://alice:{PASSWORD}@server",
            f":{PASSWORD}@server",
        ):
            done: Any = self.run_it(remote)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertNotIn(PASSWORD.encode(), done.stderr)
        self.assertFalse((self.place / "pid").exists())

    def test_of_a_program_that_is_missing_are_told(self) -> None:
        done = run(self.argv("server"), env=environment(PATH=str(self.place)), cwd=self.place)
        self.assertEqual(
            done.stderr, b"pysftpproxy: sftp://server: ssh cannot be started: no such file or directory\n"
        )
