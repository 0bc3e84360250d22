"""Record the session that the README shows, docs/images/session.svg: .venv/bin/python tools/recording.py

A shell on a pseudo-terminal starts OpenSSH's sftp, which logs in to a real sshd on loopback, whose
authorized_keys has the line of the README with this checkout's pysftpjail. The output is drawn line by line,
animated without a script. Times and rates of transfers are left out, and the session contains no path,
account or date of this machine: the same program gives the same bytes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.integration.sshd import TARGET, Sshd, Way  # noqa: E402
from tests.support.processes import command, program  # noqa: E402

RECORDING = ROOT / "docs" / "images" / "session.svg"
HOST = "files.example.org"
COLUMNS, PATIENCE = 76, 60.0
SHELL, SFTP = "$ ", "sftp> "
TYPED = (
    f"sftp {HOST}",
    "pwd",
    "ls -1",
    "cd /../../etc",
    "get passwd",
    "get reports/visits.csv",
    "put notes.txt",
    "ls -1",
    "bye",
)
RATE = re.compile(r"(\d+%) +\d+ .*")  # what follows the percentage is never the same twice
CELL, LINE, PAD, TOP = 8.4, 20, 16, 40
STYLE = """
text { font: 14px ui-monospace, monospace; fill: #e6edf3; animation: shown 1ms both }
.screen { fill: #0d1117; stroke: #444c56 }
.prompt { fill: #7ee787 }
.typed { fill: #a5d6ff }
.title { fill: #9ea7b3; animation: none }
@keyframes shown { from { visibility: hidden } to { visibility: visible } }
@media (prefers-reduced-motion: reduce) { text { animation: none } }
"""


class Screen:
    """The lines that a terminal shows. The only cursor movements it knows are CR, LF and BS."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self._column = 0

    def feed(self, text: str) -> None:
        for character in text:
            if character == "\n":
                self.lines.append([])
            elif character == "\r":
                self._column = 0
            elif character == "\b":
                self._column = max(self._column - 1, 0)
            elif character >= " ":
                self.lines[-1][self._column : self._column + 1] = [character]
                self._column += 1

    def text(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.lines]


class Terminal:
    """A shell on a pseudo-terminal. environment: the shell's; directory: where it starts."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 50, COLUMNS, 0, 0))
        self._shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc", "--noediting", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.screen = Screen()
        self._seen = ""

    def expect(self, *prompts: str) -> None:
        """Read until the output ends with one of these. Raises SystemExit."""
        deadline = time.monotonic() + PATIENCE
        while not self._seen.endswith(prompts):
            ready, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise SystemExit(f"no prompt after {PATIENCE:g} s:\n{self._seen}")
            data = os.read(self._master, 65536).decode()
            self._seen += data
            self.screen.feed(data)
        # sftp edits lines itself: what is typed before it has set up the terminal would be shown twice.
        while self._seen.endswith(SFTP) and termios.tcgetattr(self._master)[3] & termios.ICANON:
            if time.monotonic() > deadline:
                raise SystemExit(f"sftp does not read a line after {PATIENCE:g} s")
            time.sleep(0.01)

    def type(self, line: str) -> None:
        self._seen = ""
        os.write(self._master, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._master)
        self._shell.wait(PATIENCE)


def session() -> list[str]:
    """What a terminal shows of a session, line by line."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        jail, local = place / "jail", place / "local"
        (jail / "reports").mkdir(parents=True)
        local.mkdir()
        (place / "sshd").mkdir()
        (jail / "reports" / "visits.csv").write_text("month,visits\n2026-01,120\n2026-02,180\n")
        (jail / "passwd").symlink_to("/etc/passwd")
        (local / "notes.txt").write_text("Written on the client.\n")
        sshd = Sshd(place / "sshd", Way.AUTHORIZED_KEYS, command("pysftpjail", "-l", place / "log", jail))
        try:
            sshd.start()
            config = sshd.ssh_config.read_text().replace(f"Host {TARGET}", f"Host {HOST}")
            sshd.ssh_config.write_text(config.replace("LogLevel ERROR", "LogLevel INFO"))
            client = f'() {{ {program("sftp")} -F {sshd.ssh_config} "$@"; }}'
            terminal = Terminal(
                {
                    "PATH": os.environ.get("PATH", os.defpath),
                    "PS1": SHELL,
                    "TERM": "dumb",
                    "LC_ALL": "C.UTF-8",
                    "BASH_FUNC_sftp%%": client,  # the sftp that connects to this session's sshd
                },
                local,
            )
            try:
                for line in TYPED:
                    terminal.expect(SHELL, SFTP)
                    terminal.type(line)
                terminal.expect(SHELL)
            finally:
                terminal.close()
        finally:
            sshd.stop()
    lines = terminal.screen.text()
    shown = [RATE.sub(r"\1", line) for line in lines[: len(lines) - 1]]
    start = next(number for number, line in enumerate(shown) if line.startswith(SHELL + "sftp"))
    return shown[start:]


class Piece(NamedTuple):
    """A piece of a line, its first column, what it is, and when it appears, in seconds."""

    text: str
    column: int
    kind: str
    start: float


def pieces(line: str, now: float) -> tuple[list[Piece], float]:
    """The pieces of a line, and when the next line begins: commands take a while, answers come at once."""
    prompt = next((each for each in (SHELL, SFTP) if line.startswith(each)), "")
    if not prompt:
        return [Piece(line, 0, "", now)], now + 0.05
    typed = now + 0.9
    return [
        Piece(prompt.rstrip(), 0, "prompt", now + 0.3),
        Piece(line[len(prompt) :], len(prompt), "typed", typed),
    ], typed + 0.4


def client_version() -> str:
    """The version of OpenSSH, such as OpenSSH_9.2; other versions may print other words."""
    done = subprocess.run([program("ssh"), "-V"], capture_output=True, text=True, check=True)
    found = re.match(r"OpenSSH_[\d.]+", done.stderr)
    return found[0] if found else "an unknown client"


def drawing(lines: list[str]) -> str:
    """The SVG. A cell of the terminal is CELL wide in any font."""
    width, height = round(COLUMNS * CELL + 2 * PAD), TOP + len(lines) * LINE + PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        "<title>An sftp session in a jail of pysftpjail</title>",
        f"<style>{STYLE}</style>",
        f"<desc>Recorded with {client_version()}</desc>",
        f'<rect class="screen" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="8"/>',
        f'<text class="title" x="{PAD}" y="24">sftp, in a jail of pysftpjail</text>',
    ]
    now = 0.0
    for number, line in enumerate(lines):
        found, now = pieces(line, now)
        for piece in found:
            kind = f' class="{piece.kind}"' if piece.kind else ""
            words = escape(piece.text).replace(" ", "\N{NO-BREAK SPACE}")
            parts.append(
                f'<text{kind} x="{PAD + piece.column * CELL:.1f}" y="{TOP + (number + 0.75) * LINE:g}" '
                f'textLength="{len(piece.text) * CELL:.1f}" lengthAdjust="spacingAndGlyphs" '
                f'style="animation-delay:{piece.start:.2f}s">{words}</text>'
            )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Record, and write the picture."""
    lines = session()
    RECORDING.write_text(drawing(lines))
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
