"""The pages of commands, and what they have in addition to --help: files, environment, other pages."""

from __future__ import annotations

from collections.abc import Sequence

from pysftpserver.cli.common import STATUSES
from pysftpserver.cli.options import Command, Commands, Option
from pysftpserver.cli.pysftpmongo import VARIABLE as MONGO_URI
from pysftpserver.cli.pysftpproxy import VARIABLE as PROXY_PASSWORD
from pysftpserver.cli.registry import PROGRAMS, Program
from pysftpserver.laboratory.config import PASSWORD_VARIABLE
from pysftpserver.remo.config import PASSPHRASE
from pysftpserver.warm.client import PLACE
from tools.manual import roff
from tools.manual.commands import (
    OLDER,
    arguments_of,
    declaration,
    help_of,
    options_of,
    programs,
    section_of,
    summary,
    walk,
)

Rows = tuple[tuple[str, str], ...]

# --- what is not in the declarations --------------------------------------------------------------------

_SSHD_FILES: Rows = (
    ("~/.ssh/authorized_keys", "Names the command for each key, with restrict and command=."),
    ("/etc/ssh/sshd_config", "Names the command for accounts (ForceCommand) or for all (Subsystem)."),
)
_USERS = ("users.toml", "The users, unless they are in Redis; see `pysftpd-users`(5).")
_PASSWD = ("/etc/pysftpserver/", "The usual place for configuration files, users and site files.")
_WARM_SOCKET = (
    "/run/pysftp-warm/socket, /run/user/UID/pysftp-warm/socket",
    "The sockets of pysftp-warm: root's, and those of other accounts.",
)
_STATE = "$XDG_STATE_HOME or ~/.local/state"
FILES: dict[str, Rows] = {
    "pysftpjail": (*_SSHD_FILES, _WARM_SOCKET),
    "pysftpserver": (*_SSHD_FILES[1:], _WARM_SOCKET),
    "pysftp-warm": (_WARM_SOCKET,),
    "pysftp-users": (
        *_SSHD_FILES,
        ("/srv/sftp/", "The customers' folders, unless --path names another directory."),
        ("/etc/ssh/authorized_keys/", "The customers' keys, with --own-accounts."),
    ),
    "pysftpmongo": _SSHD_FILES,
    "pysftpsite": (*_SSHD_FILES, _PASSWD),
    "pysftp-deliver": (_PASSWD,),
    "pysftpproxy": (
        *_SSHD_FILES,
        ("~/.ssh/config, /etc/ssh/ssh_config", "The configuration of ssh, which connects to the server."),
        ("~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts", "The keys of known hosts."),
    ),
    "pysftpd": (
        _PASSWD,
        _USERS,
        ("host-keys/", "The host keys, unless host_key or host_key_dir names others."),
    ),
    "pysftpctl": (_USERS,),
    "pysftp-keys": (
        ("/etc/ssh/sshd_config", "Names the command (AuthorizedKeysCommand) and its account."),
        _USERS,
    ),
    "pysftpweb": (_PASSWD, _USERS),
    "pysksync": (("sksync.json", "The configuration, if no other is named; see `sksync.json`(5)."),),
    "pysftpremo": (
        ("remo_serv_key.pem, remo_serv.pem", "The server's private and public key."),
        ("USER_key.pem, USER.pem", "A user's private and public key."),
        ("users_db.sqlite", "The user database."),
        ("pysftpremo/numbered, pysftpremo/history", f"Known servers, and lines typed; below {_STATE}."),
    ),
    "pysftplab": (
        ("pysftplab/window.json", f"The last server of the window; below {_STATE}."),
        ("pysftplab/history", f"Lines typed at the prompt; below {_STATE}."),
    ),
    "pysftp-audit": (("FILE.chain", "The head of the chain of the audit log FILE."),),
    "pysftp-probe": (("~/.ssh/config", "The configuration of ssh, which connects to hosts."),),
}
_SSHD: Rows = (
    ("SSH_CONNECTION", "Set by sshd; the client's address in the log and in the audit log."),
    ("SSH_ORIGINAL_COMMAND", "Set by sshd; what the client asked for. Clients of scp and rsync are refused."),
)
_WARM = (PLACE.decode(), "The socket of pysftp-warm; empty: serve without it.")
_USER = ("USER", "Whom the session is for, where no option says it.")
_STORAGES = ("AWS_*, AZURE_*, GOOGLE_*", "Credentials of object stores; see `pysftp-storages`(7).")
_SYSTEMD: Rows = (
    ("LISTEN_FDS, LISTEN_PID", "Set by systemd; listening sockets that are taken over."),
    ("NOTIFY_SOCKET", "Set by systemd; the socket that is told when the server is ready."),
)
_LABORATORY: Rows = (
    (PASSWORD_VARIABLE, "The server's password."),
    ("DISPLAY", "The X display of the window."),
    ("XDG_STATE_HOME", "Where the clients remember things."),
)
ENVIRONMENT: dict[str, Rows] = {
    "pysftpjail": (*_SSHD, _USER, _WARM),
    "pysftpserver": (*_SSHD, _WARM),
    "pysftpmongo": (*_SSHD, (MONGO_URI, "The URI of the database, if nothing else names one.")),
    "pysftpsite": (*_SSHD, _USER, _STORAGES),
    "pysftpproxy": (*_SSHD, (PROXY_PASSWORD, "The password, if neither an option nor the name has one.")),
    "pysftp-deliver": (
        ("PYSFTP_ID, PYSFTP_PATH, ...", "Set for the programs that run names: the fields of the event."),
        _STORAGES,
    ),
    "pysftpd": (*_SYSTEMD, _STORAGES),
    "pysftpweb": (*_SYSTEMD, _STORAGES),
    "pysksync": (*_SYSTEMD, _STORAGES),
    "pysftpctl": (("SUDO_USER", "Who asked for a link to the operators' page, for the log."),),
    "pysftpremo": (
        (PASSPHRASE, "The passphrase of an encrypted key, where it cannot be asked for."),
        ("XDG_STATE_HOME", "Where the client remembers servers and typed lines."),
        *_SYSTEMD,
        _STORAGES,
    ),
    "pysftplab": (*_LABORATORY, *_SYSTEMD),
    "pysftp-probe": (("NO_COLOR, TERM", "Whether the report has colours."),),
}
_STDIO = "sftp(1) sftp-server(8) sshd(8) sshd_config(5)"
_SETTINGS = "pysftpsite(5) pysftp-storages(7)"
SEE: dict[str, str] = {
    "pysftpjail": f"{_STDIO} pysftpserver(8) pysftpsite(8) pysftp-warm(8) pysftp-audit(8) pysftpsite(5)",
    "pysftpserver": f"{_STDIO} pysftpjail(8) pysftp-warm(8) pysftp-audit(8)",
    "pysftp-users": "pysftpjail(8) pysftpctl(8) sshd(8) sshd_config(5)",
    "pysftp-warm": "pysftpjail(8) pysftpserver(8) pysftp-warm.toml(5)",
    "pysftpmongo": f"{_STDIO} pysftpsite(8) pysftp-audit(8) pysftp-storages(7)",
    "pysftpsite": f"{_STDIO} pysftpjail(8) pysftp-deliver(8) pysftp-audit(8) {_SETTINGS}",
    "pysftp-deliver": f"pysftpsite(8) {_SETTINGS}",
    "pysftpproxy": f"{_STDIO} ssh(1) ssh_config(5) pysftpsite(8) pysftp-storages(7)",
    "pysftpd": "sftp(1) pysftpctl(8) pysftpweb(8) pysftp-audit(8) pysftpd.toml(5) pysftpd-users(5) "
    f"{_SETTINGS}",
    "pysftpctl": f"pysftpd(8) pysftpweb(8) pysftpd.toml(5) pysftpd-users(5) {_SETTINGS}",
    "pysftp-keys": "sshd_config(5) pysftpd(8) pysftpjail(8) pysftpsite(8) pysftpd.toml(5) pysftpd-users(5)",
    "pysftpweb": f"pysftpd(8) pysftpctl(8) pysftpweb.toml(5) pysftpd-users(5) {_SETTINGS}",
    "pysksync": f"sksync.json(5) {_SETTINGS}",
    "pysftpremo": f"pysftpremo.toml(5) {_SETTINGS}",
    "pysftplab": "pysftplab.toml(5) pysftp-storages(7)",
    "pysftp-audit": "pysftpjail(8) pysftpd(8)",
    "pysftp-probe": "sftp(1) ssh_config(5) pysftpserver(8)",
}

# --- pages ------------------------------------------------------------------------------------------------


def all_pages() -> dict[tuple[str, int], str]:
    """The pages of all commands, by name and section."""
    found = {(program.name, section_of(program.name)): page(program) for program in programs()}
    for program in PROGRAMS:
        if program.name in OLDER:
            found[program.name, section_of(program.name)] = _page_of_older(program)
    return found


def _page_of_older(program: Program) -> str:
    body = [
        *roff.section("SYNOPSIS", f"{roff.bold(program.name)} [{roff.italic('ARGUMENT')} ...]"),
        *roff.section("DESCRIPTION", roff.text(f"This is {program.summary}, and takes the same arguments.")),
        *roff.section("SEE ALSO", see_also(f"{OLDER[program.name]}({section_of(program.name)})")),
    ]
    return roff.page(program.name, section_of(program.name), program.summary.replace("`", ""), body)


def page(program: Program) -> str:
    """The page of a command."""
    declared = declaration(program)
    return roff.page(
        program.name,
        section_of(program.name),
        summary(declared),
        [
            *roff.section("SYNOPSIS", *_synopsis(declared)),
            *roff.section("DESCRIPTION", *_description(declared)),
            *roff.section("COMMANDS", *_commands(declared)),
            *roff.section("OPTIONS", *_entries(declared)),
            *roff.section("EXIT STATUS", *_statuses(with_common(declared.statuses))),
            *roff.section("ENVIRONMENT", *_rows(ENVIRONMENT.get(program.name, ()))),
            *roff.section("FILES", *_rows(FILES.get(program.name, ()))),
            *roff.section("EXAMPLES", *roff.examples(_examples(declared))),
            *roff.section("SEE ALSO", see_also(SEE[program.name])),
        ],
    )


def see_also(names: str) -> str:
    """The line of names such as sshd(8)."""
    parts = (name.removesuffix(")").split("(") for name in names.split())
    return ",\n".join(f"{roff.bold(name)}({section})" for name, section in parts)


def _synopsis(declared: Command | Commands) -> list[str]:
    lines = []
    for words, command in walk(declared):
        if isinstance(command, Commands) and command.own is None:
            continue
        lines += [*([".br"] if lines else []), _call(declared.prog, words, command)]
    return lines


def _call(prog: str, words: tuple[str, ...], command: Command | Commands) -> str:
    parts = [roff.bold(" ".join((prog, *words))), f"[{roff.italic('OPTION')} ...]"]
    for name, _, is_rest in arguments_of(command):
        parts.append(f"[{roff.italic(name.upper())} ...]" if is_rest else roff.italic(name.upper()))
    return " ".join(parts)


def _description(declared: Command | Commands) -> list[str]:
    found = roff.paragraphs(declared.description)
    command = declared.own if isinstance(declared, Commands) and declared.own is not None else declared
    return found + ([".PP", *roff.paragraphs(command.epilog)] if command.epilog else [])


def _commands(declared: Command | Commands) -> list[str]:
    if not isinstance(declared, Commands):
        return []
    found = []
    shared = {id(option) for option in declared.shared}
    for words, command in walk(declared):
        if not words:
            continue
        found += roff.subsection(" ".join((declared.prog, *words)), roff.text(command.description))
        found += [".PP", *roff.paragraphs(command.epilog)] if command.epilog else []
        found += _arguments(command)
        for option in command.options if isinstance(command, Command) else command.shared:
            if id(option) not in shared:
                found += _option(option)
        if command.statuses:
            found += [".PP", "Exit status:", *_statuses(sorted(command.statuses))]
        if command.examples:
            found += [".PP", *roff.examples(command.examples)]
    return found


def _entries(declared: Command | Commands) -> list[str]:
    found = _arguments(declared)
    for option in options_of(declared):
        found += _option(option)
    return found


def _arguments(command: Command | Commands) -> list[str]:
    found = []
    for name, words, _ in arguments_of(command):
        found += roff.tagged(roff.italic(name.upper()), words)
    return found


def _option(option: Option) -> list[str]:
    value = "" if option.metavar is None else f" {roff.italic(option.metavar)}"
    return roff.tagged(", ".join(f"{roff.bold(flag)}{value}" for flag in option.flags), help_of(option))


def _examples(declared: Command | Commands) -> Rows:
    if isinstance(declared, Commands) and declared.own is not None:
        return (*declared.own.examples, *declared.examples)
    return tuple(declared.examples)


def with_common(own: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The exit statuses of a command; its own text about a status comes first.

    For a failure that all commands have, the common text is added to the command's own.
    """
    common, said = dict(STATUSES), dict(own)
    both = {
        status: f"{text.removesuffix('.')}; or {common[status][:1].lower()}{common[status][1:]}"
        for status, text in own
        if status in common and status
    }
    return sorted({**common, **said, **both}.items())


def _statuses(rows: list[tuple[int, str]]) -> list[str]:
    return [line for status, words in rows for line in roff.tagged(roff.bold(str(status)), words)]


def _rows(rows: Rows) -> list[str]:
    return [line for name, words in rows for line in roff.tagged(roff.bold(name), words)]
