"""Settings of servers and clients: options, configuration files, WSGI environs and docs use these tables.

What may not enter: what a setting does, files.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput
from pysftpserver.http.settings import HTTPSettings
from pysftpserver.service.settings import (
    BYTES,
    COUNT,
    DIRECTORY,
    FILE,
    FLAG,
    IF_GIVEN,
    PORT,
    Kind,
    Setting,
    Settings,
    optional,
    seconds,
    text,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PASSPHRASE = "PYSFTPREMO_PASSPHRASE"  # in the environment
PREFIX = "remo_serv."  # of settings in a WSGI environ
OTHER_KEYS = {"KEYFILE": "key_file", "USER_SERVICE": "user_service"}  # settings without the prefix


# fmt: off
class ServerSettings(HTTPSettings):
    """The settings of `pysftpremo serve`, and of the application under another WSGI server."""

    port = Setting(PORT, 8080, "Listen on this port; 0 is any free one, which the log names.", "-p")
    listen_address = Setting(
        text("ADDRESS"), "127.0.0.1",
        "Listen on this address or host name; 0.0.0.0 is every interface.", "-i",
        aliases=("host", "interface"),
    )
    user_service = Setting(
        text("SERVICE"), "SQLiteUserService:users_db.sqlite",
        "The user database: SQLiteUserService:PATH, made by `pysftpremo users add`.", "-u",
    )
    key_file = Setting(
        FILE, "remo_serv_key.pem", "The server's private key, made by keygen without a passphrase.", "-k",
    )
    audit = Setting(
        optional(FILE), None, "Append the audit log to this file, one JSON object per operation.",
        unset="the log",
    )
    logging_config = Setting(
        optional(FILE), None, "Configure logging with this file for Python's logging.config; the other "
        "settings of the log are then ignored.", aliases=("log", "-l"),
    )
    debug = Setting(FLAG, False, "Log more, as with --log-level DEBUG.", "-d", reloads=True)
    root = Setting(
        optional(DIRECTORY), None, "Serve this directory as /, a jail for files: the storage jail:DIR."
    )
    storage = Setting(
        optional(text("STORAGE")), None,
        "Serve the files of the storage with this name, such as jail:/srv/{user} or s3://bucket/{user}, in "
        "which {user} stands for the user's name.", unset="this host's file system",
    )
    site = Setting(
        optional(FILE), None,
        "Put the storage under this site file, which has no storage of its own: its mounts and rules. "
        "Commands are not bound by it.",
    )
    commands = Setting(
        IF_GIVEN, None, "Allow users to run commands.",
        unset="yes for this host's file system, but no with root, storage or site, which commands can leave",
    )
    require_numbered = Setting(FLAG, False, "Refuse sessions in plain mode.", reloads=True)
    session_timeout = Setting(
        seconds(), 600.0, "End a session after this many seconds without a request.", "-s",
        aliases=("session", "timeout"), reloads=True,
    )
    login_grace = Setting(
        seconds(), 30.0,
        "Drop a new session that has not shown that it knows its key after this many seconds.", reloads=True,
    )
    max_per_user = Setting(
        COUNT, 64, "Maximum number of sessions of one user; another login ends the least recently used one.",
        aliases=("most_per_user",), reloads=True,
    )
    drain_seconds = Setting(
        seconds(0.0), 5.0, "Seconds that running transfers and commands get to finish after SIGTERM.",
        reloads=True,
    )
    command_seconds = Setting(seconds(), 3600.0, "Stop a command after this many seconds.", reloads=True)
    command_output = Setting(BYTES, 1 << 30, "Stop a command after this many bytes of output.", reloads=True)
    command_input = Setting(BYTES, 1 << 30, "Maximum length of a command's input, in bytes.", reloads=True)
    max_token = Setting(
        whole(1024, 1 << 30, "BYTES"), 16 << 20,
        "Maximum length of a token, in bytes; some clients send a whole file as one.",
        aliases=("most_token",), reloads=True,
    )
    max_put = Setting(
        optional(BYTES), None, "Maximum length of an uploaded file, in bytes.", aliases=("most_put",),
        unset="no limit", reloads=True,
    )
# fmt: on


def from_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The values in a WSGI environ, by name: KEYFILE, USER_SERVICE and `remo_serv.NAME`. Raises BadInput."""
    names = {}
    for name, setting in ServerSettings.table().items():
        for spelled in (name, *(alias for alias in setting.aliases if alias != "-l")):
            names.update({spelled: setting, spelled.replace("_", "-"): setting})
    values = {}
    for key, value in environ.items():
        if key.startswith(PREFIX):
            word = key.removeprefix(PREFIX)
        elif key in OTHER_KEYS:
            word = OTHER_KEYS[key]
        else:
            continue
        if word not in names:
            raise BadInput(f"{key}: unknown key; the keys are {PREFIX}NAME with one of {', '.join(names)}")
        setting = names[word]
        try:
            is_text = isinstance(value, str)
            values[setting.name] = setting.kind.parse(value) if is_text else setting.kind.from_toml(value)
        except ValueError as error:
            raise setting.complaint(key, error, value) from None
    return values


def _encoding(word: str) -> str:
    try:
        "".encode(word)
    except LookupError:
        raise ValueError("an encoding such as utf-8 or latin-1") from None
    return word


# fmt: off
class ClientSettings(Settings):
    """The settings of the commands that log in to a server."""

    server = Setting(FILE, "remo_serv.pem", "The server's public key.", "-s")
    user = Setting(optional(text("NAME")), None, "The user to log in as.", "-u", unset="this host's user")
    key = Setting(
        optional(FILE), None, "The user's private key; the passphrase of an encrypted key is asked for, or "
        f"taken from the environment variable {PASSPHRASE}.", "-k", unset="NAME_key.pem",
    )
    encoding = Setting(
        Kind(_encoding, "NAME"), "utf-8", "The encoding of names and commands on the server.", "-e",
    )
    require_numbered = Setting(FLAG, False, "Refuse a server that speaks plain mode only.")
    timeout = Setting(seconds(), 60.0, "Give up when the server is silent for this many seconds.")
    port = Setting(
        optional(whole(1, 65535, "PORT")), None, "Connect to this port.", "-p", unset="8080, or the URL's",
    )
# fmt: on
