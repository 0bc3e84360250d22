"""The processes of pysftpd: one that serves, or several that share the port and one that looks after them.

Sockets are opened, keys are read and memory is shared before there is a second process; whoever looks after
the others keeps the sockets open, so that no client finds the door closed while a process is replaced.
What may not enter: options' texts, SSH, users' data. Facts: sd_listen_fds(3), socket(7) on SO_REUSEPORT.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import signal
import socket
import time

from pysftpserver.cli import common
from pysftpserver.cli.pysftpd import DEFAULT_USERS, REDIS
from pysftpserver.cli.pysftpd_local import LocalDoors
from pysftpserver.cli.pysftpd_storages import Storages
from pysftpserver.engine.log import SFTPLog
from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.host.linux import end_with_parent
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.logs import ServiceLog
from pysftpserver.sshd import hostkeys
from pysftpserver.sshd.algorithms import UnknownAlgorithm, chosen
from pysftpserver.sshd.hooks import hook_of
from pysftpserver.sshd.server import Server
from pysftpserver.sshd.shared import Shared
from pysftpserver.sshd.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncssh

    from pysftpserver.sshd.config import Options
    from pysftpserver.sshd.users import UserDirectory

BACKLOG = 512
EVERYWHERE = ("0.0.0.0", "::")
FIRST_PASSED = 3  # the first descriptor that systemd hands over
DESCRIPTORS_EACH = 12  # that a connection may take, about
PAUSE = 1.0  # seconds before a process that ended at once is replaced
MIB = 1 << 20
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Service:
    """What all processes have in common. again: reads the options anew."""

    def __init__(self, options: Options, again: Callable[[], Options]) -> None:
        self.options = options
        self.again = again
        self.log = ServiceLog("pysftpd", options)  # type: ignore[arg-type]
        self.keys = host_keys(options, self.log)
        self.storages = Storages(options)
        self.shared = Shared(options.workers, options.max_connections)
        self.doors: LocalDoors

    def directory(self, log: SFTPLog | None = None) -> UserDirectory:
        """Where the users are. log: the server's, if it is None. Raises BadInput."""
        options = self.options
        log = log or self.log
        if not is_in_redis(options):
            from pysftpserver.sshd.file_users import FileUsers

            return FileUsers(options.users or DEFAULT_USERS, log)
        from pysftpserver.sshd.redis_records import RedisAddress
        from pysftpserver.sshd.redis_users import RedisUsers

        address = RedisAddress(
            options.redis_host,
            options.redis_port,
            options.redis_dbindex,
            options.redis_pass,
            options.redis_channel,
        )
        return RedisUsers(address, log)

    def check_users(self) -> None:
        """Whether the users can be read: better one process says no than all, again and again.

        Raises DirectoryError.
        """
        from pysftpserver.sshd import file_users, users_file

        directory = self.directory(SFTPLog(lambda level, text: None, self.log.level))
        if isinstance(directory, file_users.FileUsers):
            users_file.load(os.path.abspath(self.options.users or DEFAULT_USERS))
        else:
            asyncio.run(_try(directory))

    def reload(self) -> None:
        """SIGHUP: the log's file, and what options can change while it runs. Raises BadInput."""
        new = self.again()
        self.log.reload(new)  # type: ignore[arg-type]
        self.options.take_over(new)


async def _try(directory: UserDirectory) -> None:
    """Raises DirectoryError for options that cannot be right."""
    await directory.start(lambda name: None)
    await directory.close()


def run(options: Options, again: Callable[[], Options]) -> int:
    """Serve until a signal comes; return the exit status. Raises BadInput."""
    check(options)
    try:
        service = Service(options, again)
        service.directory()  # whether it can be had at all
        if options.workers > 1:
            service.check_users()
    except DirectoryError as error:
        raise BadInput(str(error)) from None
    raise_limit(options)
    sockets = listening(options)
    for address in sorted({one.getsockname()[:2] for group in sockets for one in group}):
        service.log.info(f"listening on {address[0]} port {address[1]}")
    with LocalDoors(options, service.log) as service.doors:
        write_pid(options)
        signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGCHLD))  # until there is who takes them
        try:
            if len(sockets) == 1:
                return asyncio.run(serve(service, sockets[0], 0))
            return look_after(service, sockets)
        finally:
            remove_pid(options)


def is_in_redis(options: Options) -> bool:
    """Whether the users are in Redis: an option says where it is, and none names a file."""
    return options.users is None and any(name.startswith(REDIS) for name in options.given)


def check(options: Options) -> None:
    """Raises BadInput for what is wrong for certain, before any file is made."""
    try:
        chosen(options)
    except UnknownAlgorithm as error:
        raise BadInput(str(error)) from None
    path = options.users or DEFAULT_USERS
    if not is_in_redis(options) and not os.path.lexists(path):
        how = f"pysftpctl --users {path} add NAME --key FILE makes it"
        raise BadInput(f"users file {path}: No such file or directory; {how}")


# --- what is there before the first client ----------------------------------------------------------------


def host_keys(options: Options, log: SFTPLog) -> Sequence[asyncssh.SSHKey]:
    """The host's keys. Raises BadInput."""
    if options.host_key is not None and options.host_key_dir is not None:
        raise BadInput("host_key and host_key_dir: give one of them")
    try:
        made: list[str] = []
        if options.host_key is not None:
            keys = [hostkeys.from_file(options.host_key)]
        else:
            keys, made = hostkeys.from_directory(options.host_key_dir or "host-keys")
    except hostkeys.HostKeyError as error:
        raise BadInput(str(error)) from None
    for path in made:
        log.info(f"made the host key {path}")
    for key in keys:
        log.info(f"host key {key.algorithm.decode()} {key.get_fingerprint()}")
    return keys


def raise_limit(options: Options) -> None:
    """Allow as many descriptors as that many connections may need, or as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + DESCRIPTORS_EACH * options.max_connections
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listening(options: Options) -> list[list[socket.socket]]:
    """The sockets of each process. Raises BadInput, Unavailable."""
    passed = passed_sockets()
    if passed:
        return [passed] * options.workers
    groups: list[list[socket.socket]] = [[] for _ in range(options.workers)]
    port = options.sftp_port
    for address in options.listen_address or EVERYWHERE:
        for group in groups:
            try:
                if group is groups[0] and options.workers > 1:
                    listen(address, port, False).close()  # with SO_REUSEPORT it would join who is there
                one = listen(address, port, options.workers > 1)
            except OSError as error:
                if options.listen_address is None and address == "::":
                    break  # no IPv6 here
                reason = (error.strerror or str(error) or "failure").lower()
                raise Unavailable(f"listen_address {address}, port {port}: {reason}") from None
            group.append(one)
            port = one.getsockname()[1]  # if it was 0, now it is the same for all
    return groups


def listen(address: str, port: int, is_shared: bool) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        one.listen(BACKLOG)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def passed_sockets() -> list[socket.socket]:
    """The sockets that systemd has opened for this process. Raises Unavailable."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    try:
        sockets = [socket.socket(fileno=FIRST_PASSED + number) for number in range(int(count))]
    except (OSError, ValueError):
        raise Unavailable(f"LISTEN_FDS: {count} sockets were not handed over") from None
    for one in sockets:
        one.setblocking(False)
        os.set_inheritable(one.fileno(), False)
    return sockets


def write_pid(options: Options) -> None:
    """Raises BadInput."""
    if options.pid_file is not None:
        try:
            with open(options.pid_file, "w") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            reason = (error.strerror or "failure").lower()
            raise BadInput(f"pid_file {options.pid_file}: {reason}") from None


def remove_pid(options: Options) -> None:
    if options.pid_file is not None:
        try:
            os.unlink(options.pid_file)
        except OSError:
            pass


# --- one process ------------------------------------------------------------------------------------------


async def serve(service: Service, sockets: Sequence[socket.socket], number: int) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises BadInput."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    server = Server(
        service.options,
        service.directory(),
        service.keys,
        service.storages.of,
        service.log,
        hook_of=lambda connection: hook_of(server, connection),
        shared=service.shared,
        process=number,
    )

    def reload() -> None:
        try:
            service.reload()
            server.obey()
            service.log.info("reloaded")
        except BadInput as error:
            service.log.error(f"not reloaded: {error.message}")

    loop.add_signal_handler(signal.SIGHUP, reload)
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, told.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, signal.SIGCHLD))
    try:
        await loop.run_in_executor(None, service.storages.prepare)
    except (SFTPException, ValueError) as error:
        service.log.error(f"gridfs: {error}")
    try:
        await server.start(sockets)
    except DirectoryError as error:
        raise BadInput(str(error)) from None
    await service.doors.start(server, number)
    service.log.info("ready")
    await told.wait()
    service.log.info(f"ending, in {service.options.drain_seconds} seconds at the latest")
    await server.stop()
    await service.doors.close()
    return 0


# --- several ----------------------------------------------------------------------------------------------


def look_after(service: Service, sockets: Sequence[Sequence[socket.socket]]) -> int:
    """Start a process for each group of sockets, and replace those that end, until a signal comes."""
    watched = (*SIGNALS, signal.SIGCHLD)
    processes = {start(service, sockets, number): number for number in range(len(sockets))}
    started = dict.fromkeys(processes, time.monotonic())
    is_ending = False
    while processes:
        number = signal.sigwait(watched)
        if number in SIGNALS:
            if number == signal.SIGHUP:
                reload_quietly(service)
            else:
                is_ending = True
                for one in itertools.chain(*sockets):
                    one.close()
            for process in processes:
                os.kill(process, signal.SIGTERM if number == signal.SIGINT else number)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG) if processes else (0, 0))[0]:
            place = processes.pop(ended[0])
            if is_ending:
                continue
            service.log.error(f"process {ended[0]} ended with status {ended[1]}; another takes its place")
            if time.monotonic() - started[ended[0]] < PAUSE:
                time.sleep(PAUSE)
            service.shared.wipe(place)
            new = start(service, sockets, place)
            processes[new] = place
            started[new] = time.monotonic()
    return 0


def reload_quietly(service: Service) -> None:
    """The options for the processes that will be started; what is wrong is told by those that run."""
    try:
        service.reload()
    except BadInput:
        pass


def close_others(sockets: Sequence[Sequence[socket.socket]], number: int) -> None:
    """Close what other processes listen on: nobody shall wait at a door that its process has closed."""
    own = sockets[number]
    for group in sockets:
        for one in group:
            if one not in own:
                one.close()


def start(service: Service, sockets: Sequence[Sequence[socket.socket]], number: int) -> int:
    """Start one; return its process number. Signals are blocked; it takes them when it can."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = common.INTERNAL_ERROR
    try:
        end_with_parent(parent, signal.SIGTERM)
        close_others(sockets, number)
        status = asyncio.run(serve(service, sockets[number], number))
    except BadInput as error:
        service.log.error(error.message)
        status = error.status
    except BaseException as error:
        service.log.fault(error)
    finally:
        os._exit(status)
