"""pysftpctl: who may log in to pysftpd, who is logged in, and what they move.

Users are changed in their directory, and need no server that runs; sessions are asked for on the server's
admin socket. What may not enter: where a directory keeps users, what the socket's lines look like.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common, pysftpd
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.sshd.config import BY_NAME, NO, UNSET, YES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pysftpserver.sshd.config import Options
    from pysftpserver.sshd.editing import UsersEditor
    from pysftpserver.sshd.records import Record
    from pysftpserver.sshd.users import User

PROG = "pysftpctl"
SHARED = ("users", "redis_host", "redis_port", "redis_dbindex", "redis_pass", "redis_channel", "admin_socket")
MOST_KEYS = 1 << 20  # bytes of a file with keys
NONE_FOUND = 1


def yes_or_no(text: str) -> bool:
    """Raises BadValue."""
    if text and text.lower() in (*YES, *NO):
        return text.lower() in YES
    raise BadValue(f"invalid answer {text!r}: yes or no")


def storage(text: str) -> str:
    """What a user's storage field is to be; empty: the folder."""
    return "" if text.lower() in UNSET else text


def _shared(name: str) -> Option:
    """An option that pysftpd has, too."""
    flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    texts = {
        "users": f"Users are in this TOML file. The default is {pysftpd.DEFAULT_USERS}, or Redis if an "
        "option says where that is.",
        "admin_socket": "Ask the server that listens on this local socket. The default is none, and without "
        "one there are no sessions to be seen.",
    }
    default = BY_NAME[name].default
    said = f"{BY_NAME[name].help} The default is {'none' if default is None else default}."
    return Option(*flags, metavar="VALUE", help=texts.get(name, said), name=name)


COMMAND = Command(
    PROG,
    description="Says and changes who may log in to pysftpd, and shows and ends sessions.",
    epilog="DO is one of: list; add NAME, with --key, --folder and --storage; change NAME, with --add-key, "
    "--remove-key, --folder, --storage and --active; activate NAME; deactivate NAME, which ends the user's "
    "sessions as well; remove NAME, which leaves the files; sessions; end NUMBER, or end NAME for all "
    "sessions of a user; live, which shows sessions and transfers until Ctrl-C. The exit status is 0, or 1 "
    "if the directory or the server refuses or there is no such session, or 2 for bad arguments. A password "
    "belongs in FILE of --config: what is typed can be seen by others on this host.",
    arguments=(("do", "What to do."),),
    rest=("names", "The user or the session, where DO needs one."),
    options=(
        Option(
            "--config",
            metavar="FILE",
            help="Read options from this INI file, that of pysftpd. The default is to read none.",
        ),
        *map(_shared, SHARED),
        Option(
            "--key",
            metavar="FILE_OR_LINE",
            is_repeated=True,
            help="The new user has this public key, or those in this file, a line each. It may be given "
            "several times. The default is none.",
        ),
        Option(
            "--add-key",
            metavar="FILE_OR_LINE",
            is_repeated=True,
            help="Add this key, or those in this file. It may be given several times. The default is none.",
        ),
        Option(
            "--remove-key",
            metavar="KEY",
            is_repeated=True,
            help="Remove this key, or those in this file, or the one with this fingerprint (SHA256:...). It "
            "may be given several times. The default is none.",
        ),
        Option(
            "--folder",
            metavar="FOLDER",
            help="The user's folder below the server's sftp_path. The default is a new one.",
        ),
        Option(
            "--storage",
            metavar="STORAGE",
            convert=storage,
            help="Keep the user's files in this storage; none means the folder. The default is the folder.",
        ),
        Option(
            "--active",
            metavar="YES_OR_NO",
            convert=yes_or_no,
            help="Whether the user may log in. The default is to leave that as it is.",
        ),
        Option(
            "--by-name",
            help="Take what follows end for a user, even if it is a number. The default is not to.",
        ),
        Option("--json", help="Print JSON. The default is text for people."),
    ),
)
OF_USERS = ("key", "add_key", "remove_key", "folder", "storage", "active")


# --- what was asked for -----------------------------------------------------------------------------------


def control(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit status. Raises BadInput."""
    values = COMMAND.parse(arguments)
    name = check(values)
    options = read_options(values)
    action: Callable[[Options, dict[str, Any], str], int] = ACTIONS[values["do"]][0]
    if action is not change_users and action is not list_users:
        return action(options, values, name)
    from pysftpserver.sshd.users import DirectoryError

    try:
        return action(options, values, name)
    except DirectoryError as error:
        raise Unavailable(str(error)) from None


def check(values: dict[str, Any]) -> str:
    """The one name, or "". Raises BadInput for words and options that do not go together."""
    do, names = values["do"], values["names"]
    if do not in ACTIONS:
        raise BadInput(f"{do}: say one of {', '.join(ACTIONS)}")
    _, wants_name, takes = ACTIONS[do]
    if len(names) != wants_name:
        raise BadInput(f"{do}: give {'one name' if wants_name else 'no name'} after it")
    for option in (*OF_USERS, "by_name"):
        if values[option] not in (None, False) or option == "active" and values[option] is False:
            if option not in takes:
                raise BadInput(f"--{option.replace('_', '-')} does not go with {do}")
    if do == "change" and all(values[option] is None for option in takes):
        raise BadInput("change: say what, with --add-key, --remove-key, --folder, ...")
    return str(names[0]) if names else ""


def read_options(values: dict[str, Any]) -> Options:
    """The options that pysftpd has as well, typed or in its file. Raises BadInput."""
    typed = {name: values[name] for name in SHARED}
    in_redis = any(typed[name] is not None for name in SHARED if name.startswith(pysftpd.REDIS))
    if in_redis and typed["users"] is not None:
        raise BadInput("--users and --redis-...: give one of them")
    if in_redis:
        typed["users"] = "none"  # whatever the file says: the command line wins
    return pysftpd.read_options({**dict.fromkeys(BY_NAME), "config": values["config"], **typed})


def sockets(options: Options) -> str:
    """Where the server is to be asked. Raises BadInput."""
    if options.admin_socket is None:
        raise BadInput("say which server with --admin-socket, or in the file of --config")
    return str(options.admin_socket)


def print_json(value: object) -> None:
    import json

    print(json.dumps(value), flush=True)


# --- users ------------------------------------------------------------------------------------------------


def editor(options: Options) -> UsersEditor:
    """The users, to be changed. Raises DirectoryError."""
    if options.users is not None or not any(name.startswith(pysftpd.REDIS) for name in options.given):
        from pysftpserver.sshd.file_editing import FileEditor

        return FileEditor(options.users or pysftpd.DEFAULT_USERS)
    from pysftpserver.sshd.redis_editing import RedisEditor
    from pysftpserver.sshd.redis_records import RedisAddress

    address = RedisAddress(
        options.redis_host,
        options.redis_port,
        options.redis_dbindex,
        options.redis_pass,
        options.redis_channel,
    )
    return RedisEditor(address)


def keys_of(given: Iterable[str] | None) -> list[str]:
    """Keys in files or as they are. Raises BadInput for a file that cannot be read, or has none."""
    found: list[str] = []
    for text in given or ():
        if " " in text.strip() or text.startswith(("AAAA", "SHA256:")) or not text:
            found.append(text)
            continue
        lines = [line for line in map(str.strip, lines_of(text)) if line and not line.startswith("#")]
        if not lines:
            raise BadInput(f"key file {text}: there is no key in it")
        found += lines
    return found


def lines_of(path: str) -> list[str]:
    """A file's lines. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            return file.read(MOST_KEYS).decode().splitlines()
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"key file {path}: {reason}; name a file, or give a key's line") from None
    except UnicodeDecodeError:
        raise BadInput(f"key file {path}: no text") from None


def list_users(options: Options, values: dict[str, Any], _: str) -> int:
    """Print all users."""
    with editor(options) as users:
        records = users.records()
    if values["json"]:
        print_json([described(record) for record in records])
        return 0
    rows = [("USER", "ACTIVE", "KEYS", "FOLDER", "STORAGE")]
    for record in records:
        user = record.user
        if user is None:
            rows.append((record.name or record.id, "unusable", "", "", ""))
        else:
            active = "yes" if user.is_active else "no"
            rows.append((user.name, active, str(len(user.keys)), user.folder, user.storage or ""))
    print_table(rows)
    for record in records:
        for problem in record.problems:
            common.tell(f"{PROG}: user {one_line(record.name or record.id)}: {problem}")
    return 0


def change_users(options: Options, values: dict[str, Any], name: str) -> int:
    """Change one user, and say what became of it."""
    do = values["do"]
    keys, add, remove = (keys_of(values[option]) for option in ("key", "add_key", "remove_key"))
    user = None
    with editor(options) as users:
        if do == "add":
            user = users.add(name, keys, values["folder"], values["storage"] or None)
        elif do == "remove":
            users.remove(name)
        else:
            is_active = {"activate": True, "deactivate": False}.get(do, values["active"])
            user = users.change(
                name,
                add_keys=add,
                remove_keys=remove,
                folder=values["folder"],
                storage=values["storage"],
                is_active=is_active,
            )
    if values["json"]:
        print_json({"removed": name} if user is None else described_user(user))
    elif user is None:
        print(f"removed {one_line(name)}; the files are still there")
    else:
        where = f"storage {user.storage}" if user.storage else f"folder {user.folder}"
        active = "active" if user.is_active else "not active"
        keys_said = "1 key" if len(user.keys) == 1 else f"{len(user.keys)} keys"
        print(one_line(f"{user.name}: {active}, {keys_said}, {where}"))
    return 0


def described(record: Record) -> dict[str, Any]:
    """A record for JSON."""
    if record.user is None:
        return {"id": record.id, "name": record.name, "problems": list(record.problems)}
    return {**described_user(record.user), "problems": list(record.problems)}


def described_user(user: User) -> dict[str, Any]:
    """A user for JSON."""
    from pysftpserver.sshd.keys import fingerprint, key_line

    return {
        "id": user.id,
        "name": user.name,
        "active": user.is_active,
        "folder": user.folder,
        "storage": user.storage,
        "keys": [{"fingerprint": fingerprint(blob), "line": key_line(blob)} for blob in sorted(user.keys)],
    }


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns, whose width is that of what is in them."""
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# --- sessions ---------------------------------------------------------------------------------------------


def list_sessions(options: Options, values: dict[str, Any], _: str) -> int:
    """Print all sessions."""
    from pysftpserver.cli import pysftpctl_live

    sessions = pysftpctl_live.sessions_at(sockets(options))
    if values["json"]:
        print_json(sessions)
    else:
        print_table(pysftpctl_live.session_rows(sessions))
    return 0


def end_sessions(options: Options, values: dict[str, Any], name: str) -> int:
    """End one session, or a user's."""
    from pysftpserver.cli import pysftpctl_live

    is_number = name.isascii() and name.isdecimal() and len(name) < 19 and not values["by_name"]
    question = {"ask": "end", **({"number": int(name)} if is_number else {"user": name})}
    answers = pysftpctl_live.ask_all(sockets(options), question)
    ended = sorted(number for answer in answers for number in answer["ended"])
    if values["json"]:
        print_json({"ended": ended})
    elif ended:
        print(f"ended {', '.join(map(str, ended))}")
    else:
        common.tell(f"{PROG}: {one_line(name)}: there is no such session")
    return 0 if ended else NONE_FOUND


def show_live(options: Options, values: dict[str, Any], _: str) -> int:
    """Show sessions and transfers: again and again on a terminal, once elsewhere."""
    from pysftpserver.cli import pysftpctl_live

    path = sockets(options)
    if values["json"]:
        return pysftpctl_live.show_json(path, again=os.isatty(1))
    return pysftpctl_live.show_table(path) if os.isatty(1) else pysftpctl_live.show_once(path)


#: (what does it, how many names it wants, the options that it takes)
ACTIONS: dict[str, tuple[Any, int, tuple[str, ...]]] = {
    "list": (list_users, 0, ()),
    "add": (change_users, 1, ("key", "folder", "storage")),
    "change": (change_users, 1, ("add_key", "remove_key", "folder", "storage", "active")),
    "activate": (change_users, 1, ()),
    "deactivate": (change_users, 1, ()),
    "remove": (change_users, 1, ()),
    "sessions": (list_sessions, 0, ()),
    "end": (end_sessions, 1, ("by_name",)),
    "live": (show_live, 0, ()),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, control, arguments)
