"""How servers are started on loopback, and which versions they have.

For each there is a command whose standard input and output speak SFTP: the server itself, or OpenSSH's ssh to
a listening server. What may not enter: rules, and texts about a server.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pysftpserver
from pysftpserver.contract.client import Closed
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
from tests.integration.sshd import TARGET, Sshd, Way, write_ssh_config
from tests.objects import stores
from tests.objects.fake import FakeS3
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.ports import free_port
from tests.support.processes import Program, command, program, rclone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Line

PEERS = Path(__file__).with_name("peers")
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
GO_STANDALONE = "github.com/pkg/sftp/server_standalone"


class Absent(Exception):
    """A server is not available here; the text says why."""


@dataclass
class Running:
    """A server that can be probed. argv: the command. directory: where the probe works, b"" for where
    sessions begin. connect: opens a line to a server in this process, for which argv is empty."""

    argv: list[str]
    directory: bytes = b""
    connect: Callable[[], Line] | None = None


# --- versions -----------------------------------------------------------------------------------------


def debian(package: str, path: str = "") -> Callable[[], str]:
    """The version of a Debian package. path: a file that it has to contain."""

    def version() -> str:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
            capture_output=True,
            text=True,
        )
        status, _, number = done.stdout.partition(" ")
        if status != "installed" or (path and not Path(path).exists()):
            raise Absent(f"the Debian package {package} is not installed")
        return f"{number} (Debian)"

    return version


def python(distribution: str) -> Callable[[], str]:
    """The version of a distribution of PyPI."""

    def version() -> str:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            raise Absent(f"{distribution} is not installed") from None

    return version


def ours() -> str:
    """This project's version."""
    return pysftpserver.__version__


def as_root(version: Callable[[], str]) -> Callable[[], str]:
    """The version of a server that only root can start."""

    def checked() -> str:
        if os.geteuid() != 0:
            raise Absent("it can be started by root only")
        return version()

    return checked


# --- ways to start ------------------------------------------------------------------------------------


def pipe(*argv: str, inside: bool = True) -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """A command that is the server itself. {files} is the directory with its files. inside: whether sessions
    begin there; otherwise the probe is told where to work."""

    @contextlib.contextmanager
    def start(place: Path) -> Iterator[Running]:
        files = made(place / "files")
        words = [word.replace("{files}", str(files)) for word in argv]
        yield Running(words, b"" if inside else os.fsencode(files))

    return start


def made(path: Path) -> Path:
    """Make a directory; return its path."""
    path.mkdir()
    return path


def keys(place: Path) -> SimpleNamespace:
    """A login for write_ssh_config: key pairs for both sides; the port is added later."""
    login = SimpleNamespace(
        port=0,
        user=getpass.getuser(),
        client_key=place / "client_key",
        host_key=place / "host_key",
        known_hosts=place / "known_hosts",
        ssh_config=place / "ssh_config",
    )
    for key in login.client_key, login.host_key:
        subprocess.run(
            [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
        )
    return login


def through_ssh(login: SimpleNamespace, port: int, *more: str) -> list[str]:
    """The ssh command to a server that listens on a port of loopback."""
    login.port = port
    public = login.host_key.with_suffix(".pub").read_text()
    login.known_hosts.write_text(f"[{LOOPBACK}]:{port} {public}")
    write_ssh_config(login, *more)
    return [program("ssh"), "-T", "-F", str(login.ssh_config), "-s", TARGET, "sftp"]


def script(name: str, chroot: bool = False) -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """A server of peers/. chroot: whether it gets the directory that clients see as / as an argument."""

    @contextlib.contextmanager
    def start(place: Path) -> Iterator[Running]:
        login, files = keys(place), made(place / "files")
        public = f"{login.client_key}.pub"
        argv = [sys.executable, str(PEERS / name), str(login.host_key), public]
        argv += [str(files)] if chroot else []
        environment = {**os.environ, "USER": login.user}
        with running(Program(argv, place / "log", cwd=files, env=environment)) as server:
            port = int(server.said(r"listening on (\d+)")[1])
            yield Running(through_ssh(login, port), b"" if chroot else os.fsencode(files))

    return start


@contextlib.contextmanager
def running(server: Program) -> Iterator[Program]:
    """A running program, which is ended with the block."""
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def internal_sftp(place: Path) -> Iterator[Running]:
    """OpenSSH's sshd, which serves SFTP itself."""
    sshd = Sshd(place, Way.SUBSYSTEM, ["internal-sftp"])
    files = made(place / "files")
    sshd.start()
    try:
        yield Running(
            [program("ssh"), "-T", "-F", str(sshd.ssh_config), "-s", TARGET, "sftp"], os.fsencode(files)
        )
    finally:
        sshd.stop()


class MemoryLine(ServerLine):
    """A line to a session in this process. left: as for PipeLine; always ""."""

    left = ""
    is_closed = False

    def send(self, data: bytes) -> None:
        """Pass the data to the session, which serves it."""
        if self.is_closed or self.server.ended is not None:
            raise Closed(f"the server ended the session: {self.server.ended}")
        super().send(data)

    def close(self) -> None:
        """End the session. May be called again."""
        if not self.is_closed:
            self.is_closed = True
            super().close()


@contextlib.contextmanager
def memory(place: Path) -> Iterator[Running]:
    """The example storage in memory, in this process: its sessions share one storage."""
    storage = SFTPServerMemoryStorage()
    yield Running([], connect=lambda: MemoryLine(storage))


@contextlib.contextmanager
def pysftpd(place: Path) -> Iterator[Running]:
    """Our standalone server over a jail."""
    login, files = keys(place), made(place / "files")
    login.user = "probe"
    made(files / login.user).chmod(0o700)
    hosts = made(place / "host-keys")
    users = place / "users.toml"
    users.write_text(f'[users.probe]\nkeys = ["{Path(f"{login.client_key}.pub").read_text().strip()}"]\n')
    users.chmod(0o600)
    argv = command(
        "pysftpd", "--listen-address", LOOPBACK, "--sftp-port", "0", "--users", users, "--sftp-path", files,
        "--host-key-dir", hosts, "--drain-seconds", "1",
    )  # fmt: skip
    argv += ["--allow-root"] if os.geteuid() == 0 else []
    with running(Program(argv, place / "log")) as server:
        port = int(server.said(r" listening on [^ ]* port (\d+)$")[1])
        login.host_key = hosts / "ssh_host_ed25519_key"
        public = subprocess.run(
            [program("ssh-keygen"), "-y", "-f", str(login.host_key)], check=True, capture_output=True
        )
        login.host_key.with_suffix(".pub").write_bytes(public.stdout)
        yield Running(through_ssh(login, port))


@contextlib.contextmanager
def gridfs(place: Path) -> Iterator[Running]:
    """Our server over GridFS, in a SecantusDB."""
    with EmbeddedMongo(place / "database") as database:
        uri = f"mongodb://{LOOPBACK}:{database.port}/probe"
        yield Running(command("pysftpmongo", "--logfile", place / "log", uri))


@contextlib.contextmanager
def objects(place: Path) -> Iterator[Running]:
    """Our server over a bucket on the tests' S3 server: with moto, all rules would take an hour."""
    environment = {**stores.NO_OTHERS, **stores.CREDENTIALS}
    store = FakeS3()
    store.buckets["probe"], store.uploads["probe"] = {}, {}
    try:
        name = f"s3://probe/?endpoint={store.url}&path_style=true&times=metadata&setstat=refuse"
        settings = [f"{name}={value}" for name, value in environment.items()]
        yield Running(["env", *settings, *command("pysftpsite", "--logfile", place / "log", name)])
    finally:
        store.close()


@contextlib.contextmanager
def proxy(place: Path) -> Iterator[Running]:
    """Our proxy in front of OpenSSH's sftp-server behind an sshd."""
    sshd = Sshd(place, Way.SUBSYSTEM, [SFTP_SERVER])
    files = made(place / "files")
    sshd.start()
    try:
        argv = command("pysftpproxy", "--logfile", place / "log", "--ssh-config", sshd.ssh_config)
        yield Running([*argv, TARGET], os.fsencode(files))
    finally:
        sshd.stop()


@contextlib.contextmanager
def rclone_sftp(place: Path) -> Iterator[Running]:
    """rclone on a directory, with a file cache: without one, files cannot be written at offsets."""
    login, files = keys(place), made(place / "files")
    argv = [
        rclone(), "serve", "sftp", str(files), "--addr", f"{LOOPBACK}:0", "--key", str(login.host_key),
        "--authorized-keys", f"{login.client_key}.pub", "--config", os.devnull, "-v",
        "--vfs-cache-mode", "full", "--cache-dir", str(place / "cache"),
    ]  # fmt: skip
    with running(Program(argv, place / "log")) as server:
        port = int(server.said(r"listening on 127\.0\.0\.1:(\d+)")[1])
        yield Running(through_ssh(login, port))


@contextlib.contextmanager
def proftpd(place: Path) -> Iterator[Running]:
    """ProFTPD with mod_sftp, and its own user, who has the uid of this process."""
    login, files = keys(place), made(place / "files")
    public = Path(f"{login.client_key}.pub")
    authorized = subprocess.run(
        [program("ssh-keygen"), "-e", "-f", str(public)], check=True, capture_output=True
    )
    (place / "authorized").write_bytes(authorized.stdout)
    login.user = "probe"
    users = place / "passwd"
    users.write_text(f"probe:x:{os.getuid()}:{os.getgid()}::{files}:/bin/sh\n")
    users.chmod(0o600)
    port = free_port()
    config = place / "proftpd.conf"
    config.write_text(
        f"""
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
ServerName probe
ServerType standalone
DefaultAddress {LOOPBACK}
Port {port}
User {login_name(os.getuid())}
Group root
PidFile {place}/pid
ScoreboardFile {place}/scoreboard
DelayEngine off
WtmpLog off
TransferLog none
UseReverseDNS off
RequireValidShell off
RootLogin on
AuthUserFile {users}
AuthOrder mod_auth_file.c
MaxInstances 100
AllowOverwrite on
AllowStoreRestart on
Umask 022
SFTPEngine on
SFTPLog {place}/sftp.log
SFTPHostKey {login.host_key}
SFTPAuthMethods publickey
SFTPAuthorizedUserKeys file:{place}/authorized
"""
    )
    with running(Program([program_of("proftpd"), "-n", "-c", str(config)], place / "log")) as server:
        server.said("standalone mode STARTUP|started")
        wait_for(port)
        yield Running(through_ssh(login, port), os.fsencode(files))


def login_name(uid: int) -> str:
    """The name of an account."""
    import pwd

    return pwd.getpwuid(uid).pw_name


def wait_for(port: int) -> None:
    """Wait until something listens on the port."""
    import socket

    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 5) as connection:
            if connection.recv(4) == b"SSH-":
                return
        time.sleep(0.1)
    raise Absent(f"nothing listens on port {port} after a minute")


def program_of(name: str) -> str:
    """The path of a program, which may be in a directory for root."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise Absent(f"{name} is not installed")
    return found


@contextlib.contextmanager
def pkg_sftp(place: Path) -> Iterator[Running]:
    """The server of Go's pkg/sftp, built from the sources that Debian has."""
    built = place / "server"
    done = subprocess.run(
        [program_of("go"), "build", "-o", str(built), GO_STANDALONE],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        cwd=place,
    )
    if done.returncode:
        raise Absent(f"it cannot be built: {done.stderr.strip().splitlines()[-1]}")
    yield Running([str(built)], os.fsencode(made(place / "files")))


@contextlib.contextmanager
def mysecureshell(place: Path) -> Iterator[Running]:
    """MySecureShell with a configuration without limits in place of the host's."""
    files, config = made(place / "files"), place / "sftp_config"
    config.write_text(f"<Default>\nHome {files}\nStayAtHome false\nShowLinksAsLinks true\n</Default>\n")
    mounting = 'mount --bind "$0" /etc/ssh/sftp_config && exec mysecureshell -c sftp-server'
    argv = [program_of("unshare"), "--mount", "sh", "-c", mounting, str(config)]
    yield Running(argv, os.fsencode(files))


@contextlib.contextmanager
def perl(place: Path) -> Iterator[Running]:
    """Perl's Net::SFTP::SftpServer with all of its features allowed."""
    user = login_name(os.getuid())
    made(made(place / "files") / user)
    text = (
        "use Net::SFTP::SftpServer ({ log => 'local5' }, qw(:ACTIONS));"
        f"Net::SFTP::SftpServer->new(home => '{place}/files', allow => ALL)->run;"
    )
    yield Running(["perl", "-e", text])
