"""pysftpctl: lists and changes the users of pysftpd, and shows and ends sessions and bans.

Its subcommands and options; pysftpserver/sshd/control.py and live.py do the work.
"""

from __future__ import annotations

import os
from functools import partial

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Commands, Option, Subcommand, load, options_of
from pysftpserver.cli.pysftpd import CONFIG
from pysftpserver.failures import BadInput, needed, one_line
from pysftpserver.host.accounts import own_name
from pysftpserver.people.settings import METHODS
from pysftpserver.service.settings import FLAG, UNSET, span
from pysftpserver.sshd import control, live
from pysftpserver.sshd.config import ServerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.people.users import User

PROG = "pysftpctl"
SHARED = (
    CONFIG,
    *options_of(
        ServerSettings,
        ("users", "redis_host", "redis_port", "redis_dbindex", "redis_pass", "redis_channel", "admin_socket"),
    ),
    *options_of(ServerSettings, ("web_socket",)),
    *options_of(ServerSettings, ("sftp_path",)),
    Option("--json", name="as_json", help="Print JSON. The default is text for people."),
)
BAN_SECONDS = 3600.0
NAME = ("name", "The name of the user.")


def time_span(text: str) -> float:
    """Seconds. Raises BadValue."""
    try:
        return span(text)
    except ValueError as error:
        raise BadValue(f"has to be {error}, not {one_line(text)!r}") from None


def yes_or_no(text: str) -> bool:
    """Raises BadValue."""
    try:
        if text:
            return FLAG.parse(text)
    except ValueError:
        pass
    raise BadValue(f"has to be yes or no, not {one_line(text)!r}")


def _keys(flag: str, name: str, help: str) -> Option:
    return Option(
        flag,
        name=name,
        metavar="KEY",
        is_repeated=True,
        help=f"{help} It may be given several times. There is none by default.",
    )


def _unless_unset(text: str) -> str:
    return "" if text.lower() in UNSET else text


def _methods(text: str) -> tuple[str, ...]:
    """Raises BadValue."""
    try:
        return () if text.lower() in UNSET else METHODS.parse(text)
    except ValueError as error:
        raise BadValue(f"has to be {error}") from None


def _place(folder: str, storage: str, account: str, networks: str) -> tuple[Option, ...]:
    """The options for a user's files, their owner, and the user's networks. Arguments: the defaults."""
    return (
        Option(
            "--folder",
            metavar="FOLDER",
            help=f"The user's folder below the server's sftp_path. The default is {folder}.",
        ),
        Option(
            "--storage",
            metavar="STORAGE",
            convert=_unless_unset,
            help="Keep the user's files in the storage with this name; none means the server's choice, which "
            f"is the folder unless storage is set. The default is {storage}.",
        ),
        Option(
            "--run-as",
            metavar="ACCOUNT",
            convert=_unless_unset,
            help=f"Account of the host that the user's sessions run as; none means the server's choice. "
            f"The default is {account}.",
        ),
        Option(
            "--site",
            metavar="FILE",
            convert=_unless_unset,
            help="Put the user's files under this site file, by its absolute path; none means the server's "
            f"choice. The default is {account}.",
        ),
        Option(
            "--principals",
            metavar="NAMES",
            convert=_unless_unset,
            help="Principals, separated by commas, of which a certificate of the user needs one; none means "
            f"the user's name. The default is {'no change' if folder == 'no change' else 'the name'}.",
        ),
        Option(
            "--networks",
            metavar="NETWORKS",
            convert=_unless_unset,
            help="Let the user log in from these networks only, separated by commas, and not from those "
            f"after a !; none means from everywhere. The default is {networks}.",
        ),
    )


def _subcommand(
    word: str,
    summary: str,
    act: Callable[..., int],
    arguments: Sequence[tuple[str, str]] = (),
    options: Sequence[Option] = (),
    examples: Sequence[tuple[str, str]] = (),
    statuses: Sequence[tuple[int, str]] = (),
) -> Subcommand:
    """A subcommand. act gets the settings, and by name the arguments, the options and as_json."""

    def declared() -> Command:
        words = {"examples": examples, "statuses": statuses}
        return Command(f"{PROG} {word}", summary, "", (*options, *SHARED), arguments, **words)  # type: ignore[arg-type]

    def run(words: Sequence[str]) -> int:
        values = declared().parse(words)
        own = (*(name for name, _ in arguments), *(option.name for option in options), "as_json")
        settings = load(ServerSettings, values["config"], values)
        return act(settings, **{name: values[name] for name in own})

    return Subcommand(word, summary, run, declared)


def _list(settings: ServerSettings, as_json: bool) -> int:
    for problem in control.list_users(settings, as_json):
        common.tell(f"{PROG}: {problem}")
    return 0


def _change(settings: ServerSettings, name: str, as_json: bool, **changes: Any) -> int:
    if all(value is None for value in changes.values()):
        raise BadInput(
            "change: say what, with --add-key, --remove-key, --folder, --storage, --run-as, --site, "
            "--principals, --networks, --methods or --active"
        )
    return control.change_user(settings, name, as_json, **changes)


def _activate(settings: ServerSettings, name: str, as_json: bool, is_active: bool = True) -> int:
    return control.change_user(settings, name, as_json, is_active=is_active)


def _sessions(settings: ServerSettings, as_json: bool) -> int:
    return live.show_sessions(_socket(settings), as_json, _warn)


def _end(settings: ServerSettings, session: str, by_name: bool, as_json: bool) -> int:
    return live.end_sessions(_socket(settings), session, by_name, as_json, _warn)


def _bans(
    settings: ServerSettings, add: str | None, seconds: float | None, lift: str | None, as_json: bool
) -> int:
    path = _socket(settings)
    if add is not None and lift is not None:
        raise BadInput("bans: --add and --lift: give one of them")
    if seconds is not None and add is None:
        raise BadInput("bans: --for needs --add")
    if add is not None:
        return live.add_ban(path, add, seconds or BAN_SECONDS, as_json, _warn)
    if lift is not None:
        return live.lift_ban(path, lift, as_json, _warn)
    return live.show_bans(path, as_json, _warn)


def _health(settings: ServerSettings, as_json: bool) -> int:
    return live.show_health(_socket(settings), settings.workers, as_json, _warn)


def _explain(settings: ServerSettings, name: str, address: str | None, key: str | None, as_json: bool) -> int:
    with needed("sshd", "asyncssh", "cryptography"):
        import asyncssh  # noqa: F401
    from pysftpserver.sshd import explaining

    return explaining.explain(settings, name, address, key, as_json, _try_storage, _warn)


def _try_storage(settings: ServerSettings, user: User) -> None:
    """Open a user's storage as a session would, but create nothing."""
    from pysftpserver.cli.pysftpd import storages_of

    asked = ServerSettings(**{name: getattr(settings, name) for name in settings.given - {"create_folders"}})
    storages_of(asked).of(user).release()


def _live(settings: ServerSettings, as_json: bool) -> int:
    path = _socket(settings)
    if as_json:
        return live.show_json(path, os.isatty(1), _warn)
    return live.show_table(path, _warn) if os.isatty(1) else live.show_once(path, _warn)


def _web(settings: ServerSettings, as_json: bool) -> int:
    path = settings.web_socket
    if path is None and settings.admin_socket is not None:  # a pysftpd that runs pysftpweb knows it
        path = live.web_socket_at(settings.admin_socket, _warn)
    if path is None:
        raise BadInput(
            "no server for browsers; give --web-socket, or --admin-socket of a pysftpd with the setting web"
        )
    return live.show_link(path, os.environ.get("SUDO_USER") or own_name(), as_json)


def _socket(settings: ServerSettings) -> str:
    """The server's admin socket. Raises BadInput."""
    if settings.admin_socket is None:
        raise BadInput("no admin socket; give --admin-socket, or with --config a file that has admin_socket")
    return settings.admin_socket


def _warn(text: str) -> None:
    common.tell(f"{PROG}: {one_line(text)}")


COMMANDS = Commands(
    PROG,
    description="Lists and changes the users of pysftpd, and shows and ends sessions and bans.",
    subcommands=(
        _subcommand("list", "List all users.", _list),
        _subcommand(
            "add",
            "Add an active user.",
            control.add_user,
            [NAME],
            (
                _keys("--key", "keys", "A public key of the user, or a file with a key on each line."),
                *_place(
                    "the name, or a new folder for a user in Redis",
                    "the folder",
                    "the server's choice",
                    "from everywhere",
                ),
            ),
            (("Add a user with a key:", f"{PROG} --users users.toml add alice --key alice.pub"),),
        ),
        _subcommand(
            "import",
            "Make the users in a file what it says; others stay as they are.",
            control.import_users,
            [("file", "A table in CSV or TSV, whose first line names the columns.")],
            [Option("--dry-run", help="Print what would be done, and do nothing. The default is to do it.")],
        ),
        _subcommand(
            "change",
            "Change a user.",
            _change,
            [NAME],
            (
                _keys("--add-key", "add_keys", "Add this key, or those in this file."),
                _keys(
                    "--remove-key",
                    "remove_keys",
                    "Remove this key, those in this file, or the one with this fingerprint (SHA256:...).",
                ),
                *_place("no change", "no change", "no change", "no change"),
                Option(
                    "--methods",
                    metavar="METHODS",
                    convert=_methods,
                    help="What lets the user in, as in the setting auth_methods; none means the server's "
                    "choice. The default is no change.",
                ),
                Option(
                    "--active",
                    name="is_active",
                    metavar="YES_OR_NO",
                    convert=yes_or_no,
                    choices=FLAG.choices,
                    help="Whether the user may log in. The default is no change.",
                ),
            ),
            (
                (
                    "Let a user in from two networks:",
                    f"{PROG} change alice --networks 10.0.0.0/8,192.0.2.0/24",
                ),
            ),
        ),
        _subcommand(
            "passwd",
            "Set a user's password, asked for on the terminal or read from standard input.",
            control.set_password,
            [NAME],
            [Option("--remove", help="Remove the password. The default is no.")],
        ),
        _subcommand(
            "totp",
            "Make a new secret for a user's one-time codes, and print its address for an app.",
            control.set_code,
            [NAME],
            [
                Option(
                    "--issuer",
                    metavar="TEXT",
                    help="The name of the service that the app shows. The default is the name of this host.",
                ),
                Option("--remove", help="Remove the secret: the user needs no codes. The default is no."),
            ],
        ),
        _subcommand("activate", "Let a user log in.", _activate, [NAME]),
        _subcommand(
            "deactivate",
            "Refuse a user's logins and end the user's sessions.",
            partial(_activate, is_active=False),
            [NAME],
        ),
        _subcommand("remove", "Remove a user; the files stay.", control.remove_user, [NAME]),
        _subcommand("sessions", "List all sessions.", _sessions),
        _subcommand(
            "end",
            "End a session, or all sessions of a user.",
            _end,
            [("session", "The number of a session, or the name of a user.")],
            [
                Option(
                    "--by-name",
                    help="Take SESSION for a user's name, even if it is a number. The default is no.",
                )
            ],
        ),
        _subcommand(
            "bans",
            "List the addresses that are banned or have points, or ban one, or lift a ban.",
            _bans,
            (),
            (
                Option(
                    "--add",
                    metavar="ADDRESS",
                    help="Ban this address; of IPv6, its /64 network. There is none by default.",
                ),
                Option(
                    "--for",
                    name="seconds",
                    metavar="TIME",
                    convert=time_span,
                    help="Time of the ban, such as 90s, 5m, 4h or 1d. The default is 1h.",
                ),
                Option(
                    "--lift",
                    metavar="ADDRESS",
                    help="Lift the ban of this address and forget its points. There is none by default.",
                ),
            ),
            (("Ban an address for a day:", f"{PROG} --config pysftpd.toml bans --add 192.0.2.7 --for 1d"),),
        ),
        _subcommand(
            "health",
            "Say whether all processes of the server serve, and what is wrong.",
            _health,
            statuses=((1, "Something is wrong with the server."),),
        ),
        _subcommand(
            "explain",
            "Say whether a user can log in, and why not.",
            _explain,
            [NAME],
            [
                Option(
                    "--from",
                    name="address",
                    metavar="ADDRESS",
                    help="Address of the client. The default is any that is served.",
                ),
                Option(
                    "--key",
                    metavar="FILE",
                    help="File with the public key or the certificate, or a key's fingerprint (SHA256:...). "
                    "The default is to list the user's keys.",
                ),
            ],
            (
                (
                    "Say why a key does not let a user in:",
                    f"{PROG} explain alice --key alice.pub --from 192.0.2.7",
                ),
            ),
            ((1, "The user cannot log in, or there is no such user."),),
        ),
        _subcommand("web", "Print a link that opens the operators' page in a browser, once.", _web),
        _subcommand("live", "Show sessions and transfers as they go on, until Ctrl-C.", _live),
    ),
    epilog=f"Run {PROG} help COMMAND for the options of a command. Users are changed in their file "
    "or in Redis, whether a server runs or not; a running server follows at once.",
    shared=SHARED,
    examples=(
        ("List the users in a file:", f"{PROG} --users users.toml list"),
        ("Refuse a user from now on:", f"{PROG} --config pysftpd.toml deactivate alice"),
    ),
    statuses=((1, "There is no such user, session or ban."),),
)


main = common.main_of(PROG, COMMANDS.run)
