"""ONE table: every command with its room, its extra, its page and its tests.

setup.py installs what is in bin/; the README's table, the checks of the pages, of the packaging and of the
installation come from here. To add a door is to add a row (docs/architecture.md has the other places).
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """A command that people type. module: in cli/, its main() runs it. room: where the work is done.

    extra: what installs its libraries; "" for none. page: in docs/. tests: below tests/. summary: what it is
    for, in half a sentence. section: of its manual page: 1 for what users run, 8 for what administrators do.
    """

    name: str
    module: str
    room: str
    extra: str
    page: str
    tests: str
    summary: str
    section: int = 8


PROGRAMS = tuple(
    Program(*row)
    for row in (
        (
            "pysftpjail", "pysftpjail", "stdio", "", "openssh.md", "cli",
            "one directory over SFTP and nothing else, started by OpenSSH's `sshd`",
        ),
        (
            "pysftpserver", "pysftpserver", "stdio", "", "openssh.md", "cli",
            "the whole host over SFTP, with the options of `sftp-server(8)` in its place",
        ),
        (
            "pysftp-warm", "pysftp_warm", "warm", "", "openssh.md", "warm",
            "sessions of the two above from prepared processes, so that each begins sooner",
        ),
        (
            "pysftpmongo", "pysftpmongo", "stdio", "mongo", "gridfs.md", "mongo",
            "a MongoDB database (GridFS) over SFTP, started by `sshd`",
        ),
        (
            "pysftpsite", "pysftpsite", "stdio", "", "storages.md", "cli",
            "any storage by its name, or several in one tree, over SFTP, started by `sshd`",
        ),
        (
            "pysftp-deliver", "pysftp_deliver", "site", "", "site.md", "site",
            "the events of a site, delivered to programs, URLs and sockets",
        ),
        (
            "pysftpproxy", "pysftpproxy", "stdio", "", "proxy.md", "proxy",
            "the files of another SFTP server, started by `sshd`",
        ),
        (
            "pysftpd", "pysftpd", "sshd", "sshd", "sshd.md", "sshd",
            "a standalone SSH server for SFTP, with users in Redis or in a file",
        ),
        (
            "pysftpctl", "pysftpctl", "sshd", "sshd", "sshd.md", "sshd",
            "users, sessions and bans of `pysftpd`",
        ),
        (
            "pysftp-keys", "pysftp_keys", "sshd", "sshd", "sshd.md", "sshd",
            "the users of `pysftpd` for OpenSSH's `AuthorizedKeysCommand`",
        ),
        (
            "pysksync", "pysksync", "sksync", "sksync", "sksync.md", "sksync", "SK Sync, server and client",
            1,
        ),
        (
            "pysftpremo", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "files and commands of a host over plain HTTP, encrypted from end to end; server and client",
            1,
        ),
        (
            "add_user", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "an older name of `pysftpremo users`", 1,
        ),
        (
            "build_key_pair", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "an older name of `pysftpremo keygen`", 1,
        ),
        (
            "pysftpweb", "pysftpweb", "web", "web", "web.md", "web",
            "files in a browser and over WebDAV, for the users of `pysftpd`",
        ),
        (
            "pysftp-audit", "pysftp_audit", "service", "", "audit.md", "service",
            "nothing: it verifies audit logs, and tells who stored, fetched or removed a file",
        ),
        (
            "pysftp-probe", "pysftp_probe", "probe", "", "probe.md", "probe",
            "nothing: it tries any SFTP server against the rules of the protocol", 1,
        ),
        (
            "pysftplab", "pysftplab", "laboratory", "laboratory", "laboratory.md", "laboratory",
            "a message server with services that you write, and its clients", 1,
        ),
    )
)  # fmt: skip


def markdown_table() -> str:
    """The commands for the README."""
    rows = ["| command | what it serves | install | page |", "| --- | --- | --- | --- |"]
    for program in PROGRAMS:
        if program.summary.startswith("an older name"):
            continue
        install = f"`pip install '.[{program.extra}]'`" if program.extra else "`pip install .`"
        page = f"[docs/{program.page}](docs/{program.page})"
        rows.append(f"| `{program.name}` | {program.summary} | {install} | {page} |")
    return "\n".join(rows) + "\n"
