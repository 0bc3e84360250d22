"""The processes of the server: one that serves, or several on one port and a parent that replaces them.

Sockets are opened, keys read and memory shared before the first fork. The parent keeps the sockets open, so
the port stays open while a process is replaced. What may not enter: SSH, users' data.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import math
import os
import shlex
import signal
import time
from functools import partial

from pysftpserver.engine.log import LEVELS, SFTPLog
from pysftpserver.failures import BadInput, Unavailable, needed
from pysftpserver.host.accounts import own_name, own_reason
from pysftpserver.host.linux import end_with_parent
from pysftpserver.people.lookups import source_of
from pysftpserver.people.methods import PASSWORD
from pysftpserver.people.redis_records import RedisAddress
from pysftpserver.people.user_storages import uri_of
from pysftpserver.people.users import DirectoryError
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service import handover, serving
from pysftpserver.service.hangups import heed_held_hangup
from pysftpserver.service.logs import ServiceLog
from pysftpserver.service.notifying import Life
from pysftpserver.service.rereading import Rereading
from pysftpserver.service.shared import Shared
from pysftpserver.sshd import greeting
from pysftpserver.sshd.algorithms import chosen
from pysftpserver.sshd.authorities import Authorities
from pysftpserver.sshd.endpoints import LocalEndpoints
from pysftpserver.sshd.forker import Forker
from pysftpserver.sshd.handing import Handing, successor
from pysftpserver.sshd.server import Server
from pysftpserver.sshd.sessionprocess import log_sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from pysftpserver.people.lookups import Source
    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.user_storages import UserStorages
    from pysftpserver.service.handover import Predecessor, Successor
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.forkserver import ForkServer

DESCRIPTORS_EACH = 12  # for a connection
PID_MODE = 0o644
PAUSE_IN_CHANGE = 0.05  # seconds between two checks whether a process of another version is ready
PAUSE = 1.0  # seconds before a process that ended at once is replaced
INTERNAL_ERROR = 1  # exit status
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WATCHED = (*SIGNALS, handover.SIGNAL, signal.SIGCHLD)


class Again:
    """Rereads the settings in the parent of several processes, for those that it starts later."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._new: ServerSettings | None = None
        self._rereading = Rereading(self._read)

    def _read(self) -> None:
        with contextlib.suppress(Exception):  # the other processes say what is wrong
            self._new, _ = self._service.read()

    def ask(self) -> None:
        """SIGHUP: reread them, in a thread."""
        self._rereading.ask()

    def take(self) -> bool:
        """Use the settings read last; return whether reading is over."""
        # After PAUSE, the thread can only be waiting for a disk: it holds no lock that a new process needs.
        is_over = self._rereading.is_over(PAUSE)
        new, self._new = self._new, None
        if new is not None:
            self._service.settings.take_over(new)
            self._service.log.level = LEVELS[new.log_level]
        return is_over


class Service:
    """What all processes have in common. again: rereads the settings. fork_server: None without one."""

    def __init__(
        self,
        settings: ServerSettings,
        again: Callable[[], ServerSettings],
        storages: UserStorages,
        fork_server: ForkServer | None,
    ) -> None:
        self.settings = settings
        self.again = again
        self.log = ServiceLog("pysftpd", settings)
        self.greeting = greeting.read(settings, self.log)
        self.storages = storages
        self.fork_server = fork_server
        self.shared = Shared(settings.workers, settings.max_connections)
        self.life = Life(settings.workers)
        self.sockets = handover.Sockets()
        self.endpoints: LocalEndpoints

    def handed_over(self, process: int) -> None:
        """A process of the new version serves new clients from now on."""
        self.log.info(f"process {process} serves new connections")
        self.life.hand_over(process)

    def stop_predecessor(self) -> None:
        """End the server from which this one has taken over, if it is still there."""
        if self.sockets.predecessor is not None:
            self.sockets.predecessor.stop()

    def await_predecessor(self) -> None:
        """Wait for the predecessor as long as its transfers have time: systemd then kills what is left."""
        if self.sockets.predecessor is not None:
            self.sockets.predecessor.has_ended(self.settings.drain_seconds + serving.LAST)

    def directory(self, log: SFTPLog | None = None) -> UserDirectory:
        """The directory of users. log: None: the server's. Raises BadInput."""
        log = log or self.log
        if not self.settings.is_in_redis:
            from pysftpserver.people.file_users import FileUsers

            return FileUsers(self.settings.users_file, log)
        from pysftpserver.people.redis_users import RedisUsers

        return RedisUsers(RedisAddress.of(self.settings), log)

    def check_users(self) -> None:
        """Read the users once, so that one process complains and not every process repeatedly.

        Raises DirectoryError.
        """
        asyncio.run(_try(self.directory(SFTPLog(lambda level, text: None, self.log.level))))

    def read(self) -> tuple[ServerSettings, Source | None]:
        """SIGHUP: the current settings, and the source for lookups. Raises BadInput."""
        new = self.again()
        check_methods(new)
        return new, source_of(new)

    def take(self, new: ServerSettings) -> None:
        """SIGHUP: reopen the log, and take the settings that may change."""
        self.log.reload(new)
        for name in self.settings.take_over(new):
            self.log.error(f"{name}: a change takes effect at the next start")

    def read_greeting(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        """SIGHUP: reread host keys and banner, in a thread, for clients that connect later."""
        try:
            new = greeting.read(self.settings, self.log, server.greeting)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(server.greet, new)
        except BadInput as error:
            self.log.error(f"not reloaded: {error.message}")
        except Exception as error:
            self.log.fault(error)


async def _try(directory: UserDirectory) -> None:
    """Raises DirectoryError if the users cannot be read."""
    await directory.start(lambda name: None)
    await directory.close()


def run(
    settings: ServerSettings,
    again: Callable[[], ServerSettings],
    storages: UserStorages,
    fork_server: ForkServer | None,
    web_argv: Sequence[str] = (),
) -> int:
    """Serve until a signal comes; return the exit status.

    again: rereads the settings, for SIGHUP. fork_server: for session processes; None: there are none.
    web_argv: the command that runs pysftpweb. Raises BadInput.
    """
    check(settings)
    try:
        service = Service(settings, again, storages, fork_server)
        service.directory()  # raises BadInput if there is none
        if settings.workers > 1:
            service.check_users()
        Authorities(settings, service.log).check()
    except DirectoryError as error:
        raise BadInput(error.message) from None
    if fork_server is not None:
        log_sandbox(service.log)
    serving.raise_descriptor_limit(settings.max_connections, DESCRIPTORS_EACH)
    sockets = serving.listening_sockets(
        settings.listen_address, settings.port, settings.workers, handed=service.sockets
    )
    serving.log_addresses(list(itertools.chain(*sockets)), service.log)
    endpoints = LocalEndpoints(settings, service.log, service.sockets, web_argv)
    with endpoints as service.endpoints, pid_in(settings.pid_file, service.sockets.predecessor):
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # until handlers are set
        heed_held_hangup()
        if len(sockets) == 1:
            return asyncio.run(serve(service, sockets[0], 0))
        return supervise(service, sockets)


def check(settings: ServerSettings) -> None:
    """Raises BadInput for settings that are certainly wrong, before any file is created."""
    chosen(settings)
    check_methods(settings)
    source_of(settings)
    path = settings.users_file
    try:
        if not settings.is_in_redis:
            os.lstat(path)
    except FileNotFoundError as error:
        how = f"create it with: pysftpctl --users {path} add NAME --key FILE"
        raise BadInput(f"users file {path}: {own_reason(error)}; {how}") from None
    except OSError as error:
        how = "keep it in a directory that this account may enter, such as /etc/pysftpserver"
        raise BadInput(f"users file {path}: {own_reason(error)}; {how}") from None
    check_folders(settings)


def check_methods(settings: ServerSettings) -> None:
    """Raises BadInput if no user could log in, or a library is missing."""
    if not settings.auth_methods:
        raise BadInput("auth_methods: nobody could log in; name publickey, password or both")
    if PASSWORD in settings.offered:
        with needed("sshd", "argon2"):
            import argon2  # noqa: F401


def check_folders(settings: ServerSettings) -> None:
    """Raises BadInput if users' folders cannot be used, unless no user may need one."""
    path = settings.sftp_path
    is_optional = "sftp_path" not in settings.given and (
        uri_of(settings) or settings.storage or settings.storage_schemes or settings.storage_classes
    )
    try:
        if not is_optional:
            os.stat(os.path.join(path, "."))
    except (OSError, ValueError) as error:
        how = f"create it with: install -d -o {shlex.quote(own_name())} {shlex.quote(path)}, or name another "
        how += "directory of the users' folders with --sftp-path"
        raise BadInput(f"sftp_path {path}: {own_reason(error)}; {how}") from None


@contextlib.contextmanager
def pid_in(path: str | None, predecessor: Predecessor | None = None) -> Iterator[None]:
    """Keep the process number in a file until the end of the block. Raises BadInput.

    predecessor: gets the file back if it goes on, because nothing was handed over.
    """
    before = ""
    try:
        if path is not None and predecessor is not None:
            with contextlib.suppress(FileNotFoundError), open(path) as file:
                before = file.read()
        if path is not None:
            with open(path, "w") as file:
                os.fchmod(file.fileno(), PID_MODE)  # whatever the umask: commands of other accounts read it
                file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise BadInput(f"pid_file {path}: {own_reason(error)}; name a file that can be written") from None
    try:
        yield
    finally:
        if path is not None:
            with contextlib.suppress(OSError), open(path, "r+") as file:
                if file.read() != f"{os.getpid()}\n":
                    pass  # it is a successor's
                elif predecessor is None or predecessor.has_ended():
                    os.unlink(path)
                else:
                    file.seek(0)
                    file.truncate()
                    file.write(before)


# --- one process ------------------------------------------------------------------------------------------


async def serve(service: Service, sockets: Sequence[socket.socket], number: int) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises BadInput."""
    with service.log.in_thread():
        return await _serve(service, sockets, number)


async def _serve(service: Service, sockets: Sequence[socket.socket], number: int) -> int:
    status = 0
    stop = asyncio.Event()

    def no_more_sessions() -> None:
        nonlocal status
        status = INTERNAL_ERROR
        service.log.error("the process that starts sessions has ended; ending, to be started anew")
        stop.set()

    forker = None
    if service.fork_server is not None:
        forker = Forker(service.fork_server.keep(number), no_more_sessions)
    server = Server(
        service.settings,
        service.directory(),
        service.greeting,
        service.storages.of,
        service.log,
        shared=service.shared,
        process=number,
        forker=forker,
        in_thread=service.storages.suits_threads,
        may_rest=service.storages.is_directory,
    )

    greetings = Rereading(partial(service.read_greeting, server, asyncio.get_running_loop()))

    def read() -> Callable[[], None]:
        new, source = service.read()

        def take() -> None:
            service.take(new)
            server.apply_limits()
            server.ask_about_users(source)
            greetings.ask()

        return take

    serves = asyncio.Event()
    handing = Handing(service, server, stop, serves)
    asyncio.get_running_loop().add_signal_handler(handover.SIGNAL, handing.asked)
    told = asyncio.create_task(serving.until_told(read, service.log, stop))
    await asyncio.sleep(0)  # now it has set its handlers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    try:
        await asyncio.get_running_loop().run_in_executor(None, service.storages.prepare)
    except (SFTPException, ValueError) as error:
        service.log.error(f"gridfs: {error}")
    try:
        await server.start(sockets)
    except DirectoryError as error:
        raise BadInput(error.message) from None
    if service.settings.bans and service.settings.is_in_redis:
        server.banning.share(RedisAddress.of(service.settings))
    await service.endpoints.start(server, number)
    gc.collect()
    gc.freeze()  # present objects stay: to look through many users again later would delay clients
    service.log.info("ready")
    if service.settings.workers == 1:
        service.sockets.ready()
    serves.set()
    living = asyncio.create_task(live(service, number))
    await told
    handing.end()
    if service.settings.workers == 1:
        service.life.stopping()
        service.stop_predecessor()
    service.log.info(f"stopping; running transfers have {service.settings.drain_seconds:g} seconds")
    serving.end_within(service.settings.drain_seconds, service.log, service.log.flush)
    service.endpoints.stopping()
    await server.stop()
    await service.endpoints.close()
    if forker is not None:
        forker.close()
    living.cancel()
    if service.settings.workers == 1:
        await asyncio.to_thread(service.await_predecessor)
    return status


async def live(service: Service, number: int) -> None:
    """Give signs of life while the event loop runs, as long as they are needed."""
    while True:
        service.life.beat(number)
        if service.settings.workers == 1:
            service.life.pass_on()
        pause = service.life.pause
        if pause is None:
            return
        await asyncio.sleep(pause)


# --- several ----------------------------------------------------------------------------------------------


def supervise(service: Service, sockets: Sequence[Sequence[socket.socket]]) -> int:
    """Start a process for each group of sockets, and replace those that end, until a signal comes."""
    processes = {start(service, sockets, number): number for number in range(len(sockets))}
    started = dict.fromkeys(processes, time.monotonic())
    again = Again(service)
    new_version: Successor | None = None
    is_ending = False
    is_asked = False  # to hand over, once all serve
    status = 0

    def end(number: int) -> None:
        if new_version is not None:
            new_version.abandon()
        service.life.stopping()
        service.stop_predecessor()
        end_processes(number)

    def end_processes(number: int) -> None:
        nonlocal is_ending
        is_ending = True
        for one in itertools.chain(*sockets):
            one.close()
        for process in processes:
            os.kill(process, number)

    def leave(new: Successor) -> None:
        nonlocal is_ending
        try:
            service.handed_over(new.process())
        except Unavailable as error:
            service.log.error(f"not handed over: {error.message}")
            return
        is_ending = True
        service.endpoints.handed_over()
        for one in itertools.chain(*sockets):
            one.close()
        for process in processes:
            os.kill(process, handover.SIGNAL)

    while processes:
        service.life.pass_on()
        if not is_ending and service.life.is_complete():
            try:
                service.sockets.ready()
            except Unavailable as error:
                service.log.error(error.message)
                service.sockets.predecessor = None  # if there is one, it goes on
                status = INTERNAL_ERROR
                end_processes(signal.SIGTERM)
        if is_asked and not is_ending and service.life.is_complete():
            is_asked = False
            try:
                new_version = successor(service)
            except Unavailable as error:
                service.log.error(f"not handed over: {error.message}")
        is_changing = new_version or is_asked or service.sockets.is_awaited
        pause = PAUSE_IN_CHANGE if is_changing else service.life.pause
        told = signal.sigwaitinfo(WATCHED) if pause is None else signal.sigtimedwait(WATCHED, pause)
        if new_version is not None and new_version.has_told():
            leave(new_version)
            new_version = None
        if told is None:
            continue
        number = told.si_signo
        if number == handover.SIGNAL:
            is_asked = is_asked or (not is_ending and new_version is None)
            continue
        if number in SIGNALS:
            if number == signal.SIGHUP:
                again.ask()
                for process in processes:
                    os.kill(process, number)
            else:
                end(signal.SIGTERM)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG) if processes else (0, 0))[0]:
            if service.fork_server is not None and ended[0] == service.fork_server.pid:
                status = INTERNAL_ERROR  # all processes say so
                end(signal.SIGTERM)
                continue
            place = processes.pop(ended[0])
            service.life.beat(place, math.inf if is_ending else None)  # the next one has time to start
            if is_ending:
                continue
            if time.monotonic() - started[ended[0]] < PAUSE:
                time.sleep(PAUSE)
            service.shared.wipe(place)
            has_latest = again.take()
            new = start(service, sockets, place)
            if not has_latest:
                os.kill(new, signal.SIGHUP)  # it reads them itself, as the others do
            processes[new] = place
            started[new] = time.monotonic()
            # Last: this process writes its own log, and a log that takes nothing delays it.
            service.log.error(f"process {ended[0]} ended with status {ended[1]}; started another")
    service.await_predecessor()
    return status


def close_others(sockets: Sequence[Sequence[socket.socket]], number: int) -> None:
    """Close the other processes' sockets: a port that its own process has closed must refuse clients."""
    own = sockets[number]
    for group in sockets:
        for one in group:
            if one not in own:
                one.close()


def start(service: Service, sockets: Sequence[Sequence[socket.socket]], number: int) -> int:
    """Fork a process that serves; return its process number. Signals are blocked until it handles them."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = INTERNAL_ERROR
    try:
        end_with_parent(parent, signal.SIGTERM)
        close_others(sockets, number)
        service.sockets.forget()
        status = asyncio.run(serve(service, sockets[number], number))
    except BadInput as error:
        service.log.error(error.message)
        status = error.status
    except BaseException as error:
        service.log.fault(error)
    finally:
        os._exit(status)
