"""Both sides of the rows on WebDAV: curl as the client, pysftpweb and nginx on one directory.

Both servers are running. Neither waits for the disk: nginx never does, and pysftpweb is started with
unsynced.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from argon2 import PasswordHasher

from bench import drivers
from bench.rows import random_file
from bench.webdav import Sizes

USER, PASSWORD = "bench", "a long password for a benchmark"
MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
PARTS = 8  # puts to one name: one in a single piece would measure how fast this host allocates memory
STARTS_WITHIN = 60  # seconds
CONF = """
load_module {module};
worker_processes 1; daemon off; pid {top}/nginx.pid; error_log {top}/nginx.log; {user}
events {{}}
http {{
  access_log off; sendfile on; client_max_body_size 0; client_body_buffer_size 1m;
  client_body_temp_path {top}/body; proxy_temp_path {top}/t1; fastcgi_temp_path {top}/t2;
  scgi_temp_path {top}/t3; uwsgi_temp_path {top}/t4; dav_ext_lock_zone zone=locks:1m;
  server {{
    listen 127.0.0.1:{port};
    location /dav/ {{
      alias {files}/; dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
      dav_ext_lock zone=locks;
    }}
  }}
}}
"""

T = TypeVar("T")


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with both servers running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """Both servers, and the work that is measured on them."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.top, self.sizes = top, sizes
        self.files = top / "files" / USER
        (self.files / "many").mkdir(parents=True)
        top.chmod(0o755)
        for number in range(sizes.entries):
            (self.files / "many" / f"file-{number:06d}.txt").write_bytes(b"x")
        random_file(self.files / "big", sizes.transfer)
        self._part = random_file(top / "part", sizes.transfer // PARTS)
        self._ports = {"pysftpweb": self._start_ours(stack), "nginx": self._start_nginx(stack)}

    def _start_ours(self, stack: contextlib.ExitStack) -> int:
        users = self.top / "users.toml"
        users.touch(0o600)
        users.write_text(f"[users.{USER}]\npassword = '{PasswordHasher().hash(PASSWORD)}'\n")
        log = self.top / "server.log"
        words = ["--port=0", f"--users={users}", f"--sftp-path={self.files.parent}", f"--logfile={log}"]
        words += [f"--state={self.top / 'state.sqlite'}", "--auth-methods=password", "--allow-root"]
        self.process = subprocess.Popen([*drivers.unsynced_command("pysftpweb"), *words])
        stack.callback(_end, self.process)
        found = _within(lambda: log.exists() and re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text()))
        assert found
        return int(found[1])

    def _start_nginx(self, stack: contextlib.ExitStack) -> int:
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None or not MODULE.exists():
            raise RuntimeError("nginx with dav-ext is missing: run tools/debian.sh bench")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        conf = self.top / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        conf.write_text(CONF.format(module=MODULE, top=self.top, port=port, files=self.files, user=user))
        process = subprocess.Popen([program, "-e", str(self.top / "nginx.log"), "-c", str(conf)])
        stack.callback(_end, process)

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        _within(answers)
        return port

    # --- what is timed ------------------------------------------------------------------------------------

    def _curl(self, server: str, name: str, *words: str) -> float:
        url = f"http://127.0.0.1:{self._ports[server]}/dav/{name}"
        user = ["-u", f"{USER}:{PASSWORD}"] if server == "pysftpweb" else []
        return drivers.timed(["curl", "-sSf", *user, "-o", "/dev/null", *words, url])

    def get(self, server: str) -> float:
        """Get a file and discard it."""
        return self._curl(server, "big")

    def put(self, server: str) -> float:
        """Put a part repeatedly to one name, until as many bytes are sent."""
        return sum(self._curl(server, "stored", "-T", str(self._part)) for _ in range(PARTS))

    def list(self, server: str) -> float:
        """List a directory, with all properties."""
        words = ("-X", "PROPFIND", "-H", "Depth: 1")
        return sum(self._curl(server, "many/", *words) for _ in range(self.sizes.listings))

    def growth(self) -> int:
        """Return the peak of our server's resident memory (bytes) minus that of the idle server."""
        place = Path(f"/proc/{self.process.pid}")
        self.list("pysftpweb")
        (place / "clear_refs").write_text("5")  # resets the peak
        before = _field(place / "status", "VmRSS")
        self.get("pysftpweb")
        self._curl("pysftpweb", "stored", "-T", str(self.files / "big"))
        return _field(place / "status", "VmHWM") - before


def _within(condition: Callable[[], T]) -> T:
    """Return the first true result of a condition. Raises RuntimeError."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError("a server did not start")
        time.sleep(0.05)
    return found


def _field(status: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
