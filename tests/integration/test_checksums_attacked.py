"""Commands for checksums, attacked through real servers: all but exactly one path, and what is no file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import unittest
from pathlib import Path

from pysftpserver.service.sums import Refused, Sum, understood
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.integration.clients import paramiko_client
from tests.integration.harness import Finished, ServedCase
from tests.integration.sshd import TARGET
from tests.sshd.inprocess import asynchronous, running, user
from tests.sshd.running import DaemonCase
from tests.support.cases import InADirectory, InAPlace
from tests.support.hard import IS_HARD
from tests.support.processes import require
from tests.support.waiting import PATIENCE, until

CONTENT = b"content"
SUM = hashlib.md5(CONTENT).hexdigest()
PIECES = [bytes([byte]) for byte in b"fg \t'\"\\\n$`*?[]~/-=#!{}%^;&|<>()\r\v\1\x7f\x85\xff:+,@."]
PIECES += [
    b"--",
    b"{a,b}",
    b"a b",
    b"\\\n",
    b"..",
    b"~root",
    b"a=~",
    b":~",
    b"\xc3\xa9",
    b"\xc2\xa0",
    b"\xe2\x80\x83",
]
REFUSED = (
    b"md5sum -- f", b"md5sum --", b"md5sum -c sums", b"md5sum --check sums", b"md5sum -b f", b"md5sum f f",
    b"md5sum f\nid", b"md5sum f\n", b"md5sum 'f'\n'f'", b"md5sum *", b"md5sum ?", b"md5sum [f]",
    b"md5sum {f,g}", b"md5sum ~/f", b"md5sum a=~", b"md5sum $HOME", b'md5sum "$(id)"', b"md5sum `id`",
    b"md5sum f;id", b"md5sum f&", b"md5sum f|id", b"md5sum <f", b"md5sum f>g", b"md5sum f 2>&1",
    b"md5sum (f)", b"md5sum #f", b"md5sum ''", b"md5sum 'f", b'md5sum "f', b"md5sum f\\", b"md5sum $'f'",
)  # fmt: skip
ODD = (b"a b", b"a\nb", b"a\\b", b"a\rb", b"\xc3\xa9", b"$HOME", b"*", b"'", b'"', b"-c", b"\x1b[2J", b"a=~")
NOT_THESE = (
    b"/usr/bin/md5sum f", b"./md5sum f", b"MD5SUM f", b"md5sum.exe f", b"b2sum f", b"sh -c 'md5sum f'",
    b"A=b md5sum f", b"env md5sum f", b"cat f", b"scp -t f", b"rsync --server . f", b"echo $ShellId",
)  # fmt: skip


def setUpModule() -> None:
    if IS_HARD:
        require("ssh", "sftp", "md5sum")


class Attacks:
    """For any real server with the jail."""

    def ssh(self, command: bytes, status: int | None = None) -> Finished:
        argv = ["ssh", "-F", self.sshd.ssh_config, TARGET, os.fsdecode(command)]  # type: ignore[attr-defined]
        return self.client(argv, status=status)  # type: ignore[attr-defined, no-any-return]

    def test_everything_but_one_path_is_refused_and_runs_nothing(self: ServedCase) -> None:
        for name in ("f", "g", "sums"):
            (self.jail / name).write_bytes(CONTENT)
        before = sorted(os.listdir(self.jail))
        for line in (*REFUSED, *NOT_THESE):
            run = self.ssh(line)  # type: ignore[attr-defined]
            if line in REFUSED:  # sshd begins an SFTP session for others
                self.assertNotEqual(run.status, 0, line)
            self.assertNotIn(SUM, run.out, line)
            self.assertNotIn("uid=", run.out + run.err, line)
        self.assertEqual(sorted(os.listdir(self.jail)), before)

    def test_odd_names_are_taken_and_shown_as_by_coreutils(self: ServedCase) -> None:
        for name in (*ODD, *(() if isinstance(self, DaemonCase) else (b"\xff\xfe",))):
            Path(os.fsdecode(os.fsencode(self.jail) + b"/" + name)).write_bytes(CONTENT)
            path = b"./" + name if name.startswith(b"-") else name
            quoted = b"'" + path.replace(b"'", b"'\\''") + b"'"
            real = subprocess.run([b"md5sum", path], cwd=self.jail, capture_output=True, check=True)
            argv = ["ssh", "-F", self.sshd.ssh_config, TARGET, os.fsdecode(b"md5sum " + quoted)]
            run = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
            self.assertEqual((run.stdout, run.returncode), (real.stdout, 0), name)

    def test_what_is_no_file_or_outside_is_one_line_and_nobody_waits_for_it(self: ServedCase) -> None:
        (self.outside / "secret").write_bytes(b"secret")
        (self.jail / "out").symlink_to(self.outside / "secret")
        (self.jail / "dir").mkdir()
        (self.jail / "loop").symlink_to("loop")
        (self.jail / "dangling").symlink_to("nothing")
        os.mkfifo(self.jail / "fifo")
        (self.jail / "closed").write_bytes(CONTENT)
        (self.jail / "closed").chmod(0)
        secret = hashlib.md5(b"secret").hexdigest()
        for name in (
            "out", "dir", "loop", "dangling", "fifo", "/etc/passwd", "../../../../../../etc/passwd", "dir/..",
            "nothing/..", "/proc/self/environ", "x" * 300, "x/" * 3000, str(self.outside / "secret"),
        ):  # fmt: skip
            run = self.ssh(b"md5sum " + name.encode(), status=1)  # type: ignore[attr-defined]
            self.assertEqual((run.out, run.err.count("\n")), ("", 1), (name, run))
            self.assertTrue(run.err.startswith("md5sum: "), run)
            self.assertNotIn(secret, run.err)

    def test_blocks_of_any_size_and_ranges_beyond_the_end(self: ServedCase) -> None:
        content = random.Random(9).randbytes(100_003)
        (self.jail / "f").write_bytes(content)
        (self.jail / "empty").write_bytes(b"")
        with paramiko_client(self.sshd) as client, client.open("f", "rb") as file:
            for start, length, block in (
                (0, 0, 0), (0, 0, 257), (1, 0, 999), (0, 100_003, 256), (99_999, 0, 256), (50, 10**12, 4096),
                (7, 300, 256), (7, 255, 256), (0, 0, 100_003), (0, 0, 100_004), (0, 0, 2**31),
                (100_002, 1, 256),
                (262_143, 5, 0), (100_003, 0, 0), (200_000, 10, 0), (2**40, 2**40, 0),
            ):  # fmt: skip
                part = content[start : start + length if length else None]
                size = block or max(len(part), 1)
                parts = [part[at : at + size] for at in range(0, len(part), size)]
                if not block and not parts:
                    parts = [b""]
                expected = b"".join(hashlib.sha1(one).digest() for one in parts)
                self.assertEqual(file.check("sha1", start, length, block), expected, (start, length, block))
            for start, length, block in ((0, 0, 1), (0, 0, 255), (2**63, 0, 0), (2**64 - 1, 2**64 - 1, 256)):
                with self.assertRaises(OSError):
                    file.check("sha1", start, length, block)
            self.assertEqual(file.check("nothing,sha1", 0, 0, 0), hashlib.sha1(content).digest())
            self.assertEqual(file.read(10), content[:10])  # it goes on

    def test_a_client_that_leaves_while_a_huge_file_is_read_leaves_nobody_reading(self: ServedCase) -> None:
        with open(self.jail / "huge", "wb") as file:
            file.truncate(1 << 42)
        for signal in ("kill", "terminate"):
            words = ["ssh", "-F", self.sshd.ssh_config, TARGET, "sha512sum huge"]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            until(lambda: _readers(self.jail / "huge"), "somebody reads")
            getattr(process, signal)()
            process.communicate()
            until(lambda: not _readers(self.jail / "huge"), "nobody reads any more")


def _readers(path: Path) -> list[str]:
    """The processes that have a file open."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(os.readlink(entry) == str(path) for entry in Path(f"/proc/{number}/fd").iterdir()):
                found.append(number)
        except OSError:
            continue
    return found


if IS_HARD:

    class BehindOpenSSH(Attacks, ServedCase):
        @classmethod
        def server_command(cls) -> list[str]:
            return cls.jail_command("--checksums")

    class ByPysftpd(Attacks, DaemonCase):
        pass

    class Shells(InAPlace):
        """What is understood is what real shells understand."""

        def test_words_are_those_of_dash_and_bash_in_any_locale(self) -> None:
            (self.place / "bin").mkdir()
            program = self.place / "bin" / "md5sum"
            program.write_text(
                "#!/usr/bin/python3 -IS\nimport os, sys\n"
                "os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])) + b'\\0\\0')\n"
            )
            program.chmod(0o755)
            for name in ("f", "g", "a b"):
                (self.place / name).touch()
            chance = random.Random(1)
            tried = 0
            while tried < 300:
                line = b"md5sum " + b"".join(chance.choice(PIECES) for _ in range(chance.randint(1, 7)))
                try:
                    command = understood(line)
                except Refused:
                    continue
                if not isinstance(command, Sum) or command.path is None:
                    continue
                tried += 1
                for shell in (["dash"], ["bash", "--norc"]):
                    environment = {
                        "PATH": f"{self.place}/bin:/usr/bin:/bin",
                        "HOME": "/root",
                        "LC_ALL": chance.choice(("C", "C.UTF-8")),
                    }
                    run = subprocess.run(
                        [*shell, "-c", line], cwd=self.place, env=environment, capture_output=True,
                        stdin=subprocess.DEVNULL,
                    )  # fmt: skip
                    self.assertEqual(run.stdout, command.path + b"\0\0", (shell, line))

    class Crowds(InADirectory):
        @asynchronous
        async def test_a_hundred_of_one_user_do_not_keep_another_waiting(self) -> None:
            (self.root / "f").write_bytes(CONTENT)
            with open(self.root / "huge", "wb") as file:
                file.truncate(1 << 42)
            jail = lambda user: SFTPServerVirtualChroot(self.root)  # noqa: E731
            options = {"max_checksums": "2", "max_connections": "500"}
            async with running(jail, user("alice"), user("bob"), options=options) as server:
                turns = server.server.turns_for_checksums
                async with await server.connect("bob") as bob:
                    crowd = [await server.connect("alice") for _ in range(10)]
                    waiting = [
                        asyncio.ensure_future(one.run("md5sum huge")) for one in crowd for _ in range(10)
                    ]
                    while not turns._taken:
                        await asyncio.sleep(0.01)
                    for _ in range(5):
                        run = await asyncio.wait_for(bob.run("md5sum f"), PATIENCE)
                        self.assertEqual((run.stdout, run.exit_status), (f"{SUM}  f\n", 0))
                    self.assertEqual(dict(turns._taken), {"alice": 1})
                    for one in crowd:
                        one.abort()
                    await asyncio.gather(*waiting, return_exceptions=True)
                while turns._taken:
                    await asyncio.sleep(0.01)


if __name__ == "__main__":
    unittest.main()
