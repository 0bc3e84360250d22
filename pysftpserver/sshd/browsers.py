"""`web`: runs pysftpweb next to the server, for the same users, and restarts it when it has ended.

Its settings reach it in a file without a name, because there may be passwords in them. What may not enter:
HTTP, what pysftpweb does with its settings. Facts: memfd_create(2), prctl(2) on PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

from pysftpserver.engine.log import ERROR, INFO
from pysftpserver.failures import BadInput, one_line
from pysftpserver.host.linux import end_with_parent
from pysftpserver.people.methods import PUBLICKEY
from pysftpserver.people.settings import PeopleSettings
from pysftpserver.service.networks import is_loopback
from pysftpserver.service.settings import ServiceSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.config import ServerSettings

PAUSE = 1.0  # seconds before it is restarted; doubled each time that it has ended soon
LONGEST_PAUSE = 60.0
LONG = 60.0  # seconds that it has to run for the next pause to be short again
LONGEST_LINE = 1 << 16  # bytes of its log
OTHERS = ("read_only", "durable", "audit", "audit_chain", "log_level", "log_rate", "drain_seconds")


class Browsers:
    """pysftpweb as a child process. argv: the command that runs it. admin: path of the admin socket. links:
    path of the socket on which links are asked for.

    Raises BadInput for settings that it would refuse.
    """

    def __init__(
        self, settings: ServerSettings, argv: Sequence[str], admin: str, links: str, log: SFTPLog
    ) -> None:
        self.links = os.path.abspath(links)
        self._config = config_of(settings, admin, self.links)
        self._argv = argv
        self._log = log
        self._drain = settings.drain_seconds
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Run it until close()."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Tell it to end; its transfers get drain_seconds."""
        if self._task is not None and not self._is_stopping:
            self._is_stopping = True
            self._task.cancel()

    async def close(self) -> None:
        """Wait for its end."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop, pause = asyncio.get_running_loop(), PAUSE
        while True:
            began = loop.time()
            try:
                status = str(await self._run_once())
            except OSError as error:
                status = one_line(str(error))
            pause = PAUSE if loop.time() - began > LONG else min(2 * pause, LONGEST_PAUSE)
            self._log.error(f"web: pysftpweb has ended ({status}); another one in {pause:g} seconds")
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        """Run it once; return its exit status. Raises OSError."""
        descriptor, parent = os.memfd_create("pysftpweb", 0), os.getpid()
        try:
            os.write(descriptor, self._config)
            path = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
            path += filter(None, [os.environ.get("PYTHONPATH")])
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                "--config",
                f"/proc/self/fd/{descriptor}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(descriptor,),
                limit=LONGEST_LINE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                preexec_fn=lambda: _begin(parent),
            )
        finally:
            os.close(descriptor)
        reading = asyncio.ensure_future(self._pass_on(process))
        try:
            return await process.wait()
        finally:  # also when it is told to end
            if process.returncode is None:
                await self._end(process)
            await asyncio.wait([reading], timeout=PAUSE)
            reading.cancel()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._drain + PAUSE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        """Write the lines of its log to this one."""
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # a longer line, which is left out
            if not line:
                return
            try:
                told = json.loads(line)
                level, text = told["level"], str(told["message"])
            except (ValueError, LookupError, TypeError):
                level, text = "error", line.decode("utf-8", "backslashreplace").strip()
            self._log.write(ERROR if level in ("error", "fatal") else INFO, one_line(f"web: {text}"))


def _begin(parent: int) -> None:
    """In the new process, before it becomes pysftpweb."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    end_with_parent(parent, signal.SIGTERM)


def config_of(settings: ServerSettings, admin: str, links: str) -> bytes:
    """The configuration of pysftpweb, as TOML: the same users and storages. Raises BadInput."""
    host, colon, port = str(settings.web).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_port = colon and port.isascii() and port.isdecimal()
    if not is_port or not host or not is_loopback(host):
        raise BadInput(
            f"web {settings.web}: give an address of this host alone, such as 127.0.0.1:8088; else run "
            "pysftpweb with a certificate, or put a proxy in front and say where with web_url"
        )
    own = PeopleSettings.table().keys() - ServiceSettings.table().keys() - {"auth_methods"}
    values = {name: getattr(settings, name) for name in (*sorted(own), *OTHERS) if name in settings.given}
    if not settings.is_in_redis:
        values["users"] = settings.users_file
    keys = os.path.abspath(settings.host_key_dir or "host-keys")
    values |= {
        "listen_address": host,
        "port": int(port),
        # Users who need a key log in over SSH, with a link.
        "auth_methods": [text for text in settings.auth_methods if PUBLICKEY not in text.split(",")],
        "operators": admin,
        "link_socket": links,
        "state": os.path.join(os.path.dirname(keys), "pysftpweb.sqlite"),
        "log_format": "json",
        "allow_root": settings.allow_root,
    }
    if settings.web_url is not None:
        values |= {"url": settings.web_url, "proxies": ["127.0.0.0/8", "::1"]}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items()).encode()


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if value is None:
        return '"none"'
    return json.dumps(value)
