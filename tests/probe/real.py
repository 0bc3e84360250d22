"""The real clients, each at each task that it is asked to do in a directory `task` of the server."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.clients import asyncssh_client, lftp, paramiko_client
from tests.integration.harness import ServedCase, empty
from tests.integration.sshd import HOST, TARGET
from tests.sshd.filezilla import Failed, FileZilla
from tests.support.processes import program, rclone
from tests.support.waiting import PATIENCE, until

Run = Callable[[ServedCase], None]
#: By client and task, in the order of the report.
REAL: dict[tuple[str, str], Run] = {}
MTIME = 1_600_000_000


def real(client: str, task: str) -> Callable[[Run], Run]:
    def enter(run: Run) -> Run:
        REAL[client, task] = run
        return run

    return enter


def content(size: int) -> bytes:
    """Of the file f here, and of "there" at the server."""
    return random.Random(1).randbytes(size)


def prepare(case: ServedCase, size: int) -> None:
    """What every task finds: at the server "there" and half of f, here f and half of "there", and a tree."""
    for directory in (case.jail, case.local):
        empty(directory)
    task, local, whole = case.jail / "task", case.local, content(size)
    task.mkdir()
    for file, part in ((task / "there", whole), (task / "half", whole[: size // 2])):
        file.write_bytes(part)
    for file, part in ((local / "f", whole), (local / "some", whole[: size // 2])):
        file.write_bytes(part)
        file.chmod(0o640)
    (local / "tree" / "d").mkdir(parents=True)
    (local / "tree" / "a").write_bytes(b"a" * 1000)
    (local / "tree" / "d" / "b").write_bytes(b"b" * 3000)
    for file in (local / "f", local / "tree" / "a", local / "tree" / "d" / "b", task / "there"):
        os.utime(file, (MTIME, MTIME))


def check(case: ServedCase, client: str, task: str) -> None:
    """What the client left is right. Raises AssertionError, FileNotFoundError."""
    there, local, whole = case.jail / "task", case.local, (case.local / "f").read_bytes()
    if client == "restic":
        assert task == "upload" or (local / "back" / "f").read_bytes() == whole
    elif task == "upload":
        assert (there / "f").read_bytes() == whole
    elif task == "download":
        assert (local / "back").read_bytes() == whole
    elif task == "resume":
        assert (there / "half").read_bytes() == whole
        assert client in ("sshfs", "paramiko", "asyncssh") or (local / "some").read_bytes() == whole
    elif task == "sync":
        for file in (local / "tree").rglob("*"):
            found = there / "tree" / file.relative_to(local / "tree")
            assert file.is_dir() or found.read_bytes() == file.read_bytes()
    elif client == "FileZilla":
        assert (there / "there").read_bytes() == whole[: len(whole) // 2]
    elif client == "sshfs":
        assert (there / "there").read_bytes() == b"new"
    else:
        assert (there / "there").read_bytes() == whole[:1000] + b"edited" + whole[1006:]


def _half(case: ServedCase) -> int:
    return (case.local / "f").stat().st_size // 2


@real("OpenSSH sftp", "upload")
def sftp_upload(case: ServedCase) -> None:
    case.sftp("cd task", "put -p f")


@real("OpenSSH sftp", "download")
def sftp_download(case: ServedCase) -> None:
    case.sftp("cd task", "get -p there back")


@real("OpenSSH sftp", "resume")
def sftp_resume(case: ServedCase) -> None:
    case.sftp("cd task", "reput f half", "reget there some")


@real("OpenSSH scp", "upload")
def scp_upload(case: ServedCase) -> None:
    case.client(["scp", "-p", "-F", case.sshd.ssh_config, "f", f"{TARGET}:task/f"])


@real("OpenSSH scp", "download")
def scp_download(case: ServedCase) -> None:
    case.client(["scp", "-p", "-F", case.sshd.ssh_config, f"{TARGET}:task/there", "back"])


@contextmanager
def filezilla(case: ServedCase) -> Iterator[FileZilla]:
    key = case.sshd.directory / "client_key.ppk"
    if not key.exists():
        words = [program("puttygen"), str(case.sshd.client_key), "-O", "private", "-o", str(key)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    with FileZilla(case.home) as client:
        client.open(case.sshd.user, case.sshd.port, {}, key)
        client.do("pwd")
        client.do('cd "task"')
        yield client


def put(client: FileZilla, local: Path, name: str, *, again: bool = False) -> None:
    """Upload as FileZilla does, which goes on when the time is refused."""
    try:
        client.put(local, name, again=again)
    except Failed as error:
        if "set attrs" not in str(error):
            raise


@real("FileZilla", "upload")
def filezilla_upload(case: ServedCase) -> None:
    with filezilla(case) as client:
        client.ls()
        put(client, case.local / "f", "f")
        with suppress(Failed):  # which it says in any case
            client.do('chmod 640 "f"')


@real("FileZilla", "download")
def filezilla_download(case: ServedCase) -> None:
    with filezilla(case) as client:
        client.ls()
        client.get("there", case.local / "back")


@real("FileZilla", "resume")
def filezilla_resume(case: ServedCase) -> None:
    with filezilla(case) as client:
        client.ls()
        put(client, case.local / "f", "half", again=True)
        client.get("there", case.local / "some", again=True)


@real("FileZilla", "edit")
def filezilla_edit(case: ServedCase) -> None:
    with filezilla(case) as client:
        client.ls()
        client.get("there", case.local / "back")
        client.do('mtime "there"')
        edited = case.local / "edited"
        edited.write_bytes((case.local / "back").read_bytes()[: _half(case)])
        os.utime(edited, (MTIME, MTIME))
        put(client, edited, "there")


@real("lftp", "upload")
def lftp_upload(case: ServedCase) -> None:
    lftp(case, "cd task", "put f")


@real("lftp", "download")
def lftp_download(case: ServedCase) -> None:
    lftp(case, "cd task", "get there -o back")


@real("lftp", "resume")
def lftp_resume(case: ServedCase) -> None:
    lftp(case, "cd task", "put -c f -o half", "get -c there -o some")


@real("lftp", "sync")
def lftp_sync(case: ServedCase) -> None:
    lftp(case, "mirror -R tree task/tree")
    lftp(case, "mirror -R tree task/tree")


def run_rclone(case: ServedCase, *words: str) -> None:
    environment = {"HOME": str(case.home), "PATH": os.defpath, "RCLONE_CONFIG": ""}
    there = f":sftp,host={HOST},port={case.sshd.port},user={case.sshd.user},"
    there += f"key_file={case.sshd.client_key},known_hosts_file={case.sshd.known_hosts}:"
    argv = [
        rclone(),
        "--retries",
        "1",
        "--low-level-retries",
        "1",
        *(w.replace("THERE:", there) for w in words),
    ]
    done = subprocess.run(
        argv, cwd=case.local, env=environment, capture_output=True, timeout=3 * PATIENCE, check=False
    )
    case.assertEqual(done.returncode, 0, done.stderr)


@real("rclone", "upload")
def rclone_upload(case: ServedCase) -> None:
    run_rclone(case, "copyto", "f", "THERE:task/f")


@real("rclone", "download")
def rclone_download(case: ServedCase) -> None:
    run_rclone(case, "copyto", "THERE:task/there", "back")


@real("rclone", "sync")
def rclone_sync(case: ServedCase) -> None:
    words = "sync", "--transfers", "1", "--checkers", "1", "tree", "THERE:task/tree"
    shutil.rmtree(case.local / "tree" / "d")
    run_rclone(case, *words)
    run_rclone(case, *words)
    (case.local / "tree" / "a").write_bytes(b"b" * 2000)
    os.utime(case.local / "tree" / "a", (MTIME, MTIME))
    run_rclone(case, *words)


@contextmanager
def mounted(case: ServedCase) -> Iterator[str]:
    there = case.place / "mounted"
    there.mkdir(exist_ok=True)
    words = [program("sshfs"), "-f", "-F", str(case.sshd.ssh_config), f"{TARGET}:task", str(there)]
    sshfs = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: os.path.ismount(there) or sshfs.poll() is not None, "sshfs has mounted")
        yield str(there)
    finally:
        subprocess.run(["fusermount3", "-u", str(there)], capture_output=True, check=False)
        sshfs.wait(PATIENCE)
        assert sshfs.stderr is not None
        sshfs.stderr.close()


def _do(script: str, *words: str) -> None:
    subprocess.run([sys.executable, "-c", script, *words], check=True, timeout=3 * PATIENCE)


@real("sshfs", "upload")
def sshfs_upload(case: ServedCase) -> None:
    with mounted(case) as there:
        subprocess.run(["df", there], check=True, capture_output=True)
        subprocess.run(["cp", "-p", str(case.local / "f"), f"{there}/f"], check=True)


@real("sshfs", "download")
def sshfs_download(case: ServedCase) -> None:
    with mounted(case) as there:
        subprocess.run(["cp", f"{there}/there", str(case.local / "back")], check=True)


@real("sshfs", "resume")
def sshfs_resume(case: ServedCase) -> None:
    with mounted(case) as there:
        _do(
            "import sys; open(sys.argv[1], 'ab').write(open(sys.argv[2], 'rb').read()[int(sys.argv[3]) :])",
            f"{there}/half",
            str(case.local / "f"),
            str(_half(case)),
        )


@real("sshfs", "edit")
def sshfs_edit(case: ServedCase) -> None:
    with mounted(case) as there:
        _do(
            "import os, sys; new = sys.argv[1] + '/new'; file = open(new, 'wb'); file.write(b'new');"
            "file.flush(); os.fsync(file); file.close(); os.rename(new, sys.argv[1] + '/there')",
            there,
        )


@real("restic", "upload")
def restic_upload(case: ServedCase) -> None:
    restic(case, "init")
    restic(case, "backup", "f")


@real("restic", "download")
def restic_download(case: ServedCase) -> None:
    restic(case, "init")
    restic(case, "backup", "f")
    restic(case, "restore", "latest", "--target", "back")


def restic(case: ServedCase, *words: str) -> None:
    ssh = f"{program('ssh')} -F {case.sshd.ssh_config} {TARGET} -s sftp"
    argv = [
        program("restic"),
        "--no-cache",
        "-o",
        f"sftp.command={ssh}",
        "-r",
        f"sftp:{TARGET}:task/repo",
        *words,
    ]
    environment = {"HOME": str(case.home), "PATH": os.defpath, "RESTIC_PASSWORD": "x"}
    done = subprocess.run(
        argv, cwd=case.local, env=environment, capture_output=True, timeout=3 * PATIENCE, check=False
    )
    case.assertEqual(done.returncode, 0, done.stderr)


@real("paramiko", "upload")
def paramiko_upload(case: ServedCase) -> None:
    with paramiko_client(case.sshd) as client:
        client.put(str(case.local / "f"), "task/f")


@real("paramiko", "download")
def paramiko_download(case: ServedCase) -> None:
    with paramiko_client(case.sshd) as client:
        client.get("task/there", str(case.local / "back"))


@real("paramiko", "resume")
def paramiko_resume(case: ServedCase) -> None:
    with paramiko_client(case.sshd) as client, client.open("task/half", "ab") as file:
        file.write((case.local / "f").read_bytes()[_half(case) :])


@real("paramiko", "edit")
def paramiko_edit(case: ServedCase) -> None:
    with paramiko_client(case.sshd) as client, client.open("task/there", "r+b") as file:
        file.seek(1000)
        file.write(b"edited")


def in_asyncssh(case: ServedCase, *acts: str) -> None:
    async def run() -> None:
        async with asyncssh_client(case.sshd) as client:
            for act in acts:
                if act == "put":
                    await client.put(str(case.local / "f"), "task/f", preserve=True)
                elif act == "get":
                    await client.get("task/there", str(case.local / "back"), preserve=True)
                elif act == "append":
                    async with client.open("task/half", "ab") as file:
                        await file.write((case.local / "f").read_bytes()[_half(case) :])
                else:
                    async with client.open("task/there", "r+b") as file:
                        await file.write(b"edited", 1000)

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))


@real("asyncssh", "upload")
def asyncssh_upload(case: ServedCase) -> None:
    in_asyncssh(case, "put")


@real("asyncssh", "download")
def asyncssh_download(case: ServedCase) -> None:
    in_asyncssh(case, "get")


@real("asyncssh", "resume")
def asyncssh_resume(case: ServedCase) -> None:
    in_asyncssh(case, "append")


@real("asyncssh", "edit")
def asyncssh_edit(case: ServedCase) -> None:
    in_asyncssh(case, "edit")
