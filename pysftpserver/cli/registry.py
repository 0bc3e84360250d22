"""ONE table: every command with its room, its extra, its page and its tests.

setup.py installs the files in bin/; the README's table and the checks of the pages, the packaging and the
installation use this table. To add a door, add a row (docs/architecture.md has the other places).
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """A command that people type. module: in cli/, its main() runs it. room: where the work is done.

    extra: installs its libraries; "" for none. page: in docs/. tests: below tests/. summary: its purpose, in
    half a sentence. For a door, by: how people reach it; storages: the scheme of the storage that it serves,
    or ALL.
    """

    name: str
    module: str
    room: str
    extra: str
    page: str
    tests: str
    summary: str
    by: str = ""
    storages: str = ""


ALL = "all"  # storages: any that has a name
_SSHD, _SSH, _WEB = "SFTP under OpenSSH", "SFTP, standalone", "browser, WebDAV"

PROGRAMS = tuple(
    Program(*row)
    for row in (
        (
            "pysftpjail", "pysftpjail", "stdio", "", "openssh.md", "cli",
            "one directory over SFTP and nothing else, started by OpenSSH's `sshd`",
            _SSHD, "jail",
        ),
        (
            "pysftpserver", "pysftpserver", "stdio", "", "openssh.md", "cli",
            "the whole host over SFTP, with the options of `sftp-server(8)` in its place",
            _SSHD, "plain",
        ),
        (
            "pysftp-warm", "pysftp_warm", "warm", "", "openssh.md", "warm",
            "sessions of `pysftpjail` and `pysftpserver` from prepared processes, so that each begins sooner",
        ),
        (
            "pysftp-users", "pysftp_users", "people", "", "openssh.md", "people",
            "adds, switches off and removes customers of `pysftpjail`, many at once",
        ),
        (
            "pysftpmongo", "pysftpmongo", "stdio", "mongo", "gridfs.md", "mongo",
            "a MongoDB database (GridFS) over SFTP, started by `sshd`",
            _SSHD, "gridfs",
        ),
        (
            "pysftpsite", "pysftpsite", "stdio", "", "storages.md", "cli",
            "any storage by its name, or several in one tree, over SFTP, started by `sshd`",
            _SSHD, ALL,
        ),
        (
            "pysftp-deliver", "pysftp_deliver", "site", "", "site.md", "site",
            "the events of a site, delivered to programs, URLs and sockets",
        ),
        (
            "pysftpproxy", "pysftpproxy", "stdio", "", "proxy.md", "proxy",
            "the files of another SFTP server, started by `sshd`",
            _SSHD, "sftp",
        ),
        (
            "pysftpd", "pysftpd", "sshd", "sshd", "sshd.md", "sshd",
            "a standalone SSH server for SFTP, with users in Redis or in a file",
            _SSH, ALL,
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
            "pysftpweb", "pysftpweb", "web", "web", "web.md", "web",
            "files in a browser and over WebDAV, for the users of `pysftpd`",
            _WEB, ALL,
        ),
        (
            "pysksync", "pysksync", "sksync", "sksync", "sksync.md", "sksync",
            "SK Sync, server and client", "SK Sync", ALL,
        ),
        (
            "pysftpremo", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "files and commands of a host over plain HTTP, encrypted from end to end; server and client",
            "HTTP, encrypted", ALL,
        ),
        (
            "add_user", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "an older name of `pysftpremo users add`",
        ),
        (
            "build_key_pair", "pysftpremo", "remo", "remo", "remo.md", "remo",
            "an older name of `pysftpremo keygen`",
        ),
        (
            "pysftp-audit", "pysftp_audit", "service", "", "audit.md", "service",
            "verifies audit logs, and tells who stored, fetched or removed a file",
        ),
        (
            "pysftp-probe", "pysftp_probe", "probe", "", "probe.md", "probe",
            "tries any SFTP server against the rules of the protocol",
        ),
        (
            "pysftplab", "pysftplab", "laboratory", "laboratory", "laboratory.md", "laboratory",
            "a message server with services that you write, and its clients",
            "messages", ALL,
        ),
    )
)  # fmt: skip


def _install(extra: str) -> str:
    return f"`pip install '.[{extra}]'`" if extra else "`pip install .`"


def doors() -> list[Program]:
    """The commands that serve files."""
    return [program for program in PROGRAMS if program.storages]


def door_table() -> str:
    """The doors by storages, for the README."""
    from pysftpserver.storages.tables import GROUPS

    titles = [f"[{title}](docs/{page})" for title, (page, _) in GROUPS.items()]
    rows = [
        f"| door | reached by | {' | '.join(titles)} | install |",
        "| --- |" + " --- |" * (len(titles) + 2),
    ]
    for door in doors():
        marks = ["yes" if door.storages in (ALL, *schemes) else "" for _, schemes in GROUPS.values()]
        cells = [f"[`{door.name}`](docs/{door.page})", door.by, *marks, _install(door.extra)]
        rows.append(("| " + " | ".join(cells) + " |").replace("  ", " "))
    return "\n".join(rows) + "\n"


def tool_table() -> str:
    """The other commands, for the README."""
    rows = ["| command | what it is for | install |", "| --- | --- | --- |"]
    for program in PROGRAMS:
        if not program.storages and not program.summary.startswith("an older name"):
            name = f"[`{program.name}`](docs/{program.page})"
            rows.append(f"| {name} | {program.summary} | {_install(program.extra)} |")
    return "\n".join(rows) + "\n"
