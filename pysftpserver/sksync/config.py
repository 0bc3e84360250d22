"""sksync.json: one file for the server and for clients, read, checked and turned into values.

Files in the field have a comma after the last item; that is taken. Everything else that is wrong is said in
one line, with the key it is at, or with file, line and column. What may not enter: sockets, TLS, storages,
how users are changed. Facts: docs/sksync.md has the keys and their defaults.
"""

from __future__ import annotations

import json
import re

from pysftpserver.sksync.wire import DEFAULT_PORT, Dialect, SyncType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEFAULT_FILE = "sksync.json"
LONE_CLIENT = "client"  # the section, and what its client is called
POLICIES = ("deny", "silent")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
SYNC_TYPES = {kind.name.lower(): kind for kind in SyncType}
DIALECTS = {dialect.title: dialect for dialect in Dialect}
EVERYWHERE = ("", "0.0.0.0", "::")  # where a server listens; no client can connect to it
MOST_BYTES = 10 << 20  # of the file
_TEXT_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])')
_SALT = re.compile(r"(?:[0-9a-fA-F]{2})+")
_VERIFIER = re.compile(r"0*[1-9a-fA-F][0-9a-fA-F]*")
_TYPES = {str: "a text", bool: "true or false", dict: "an object", list: "a list", type(None): "null"}


class ConfigError(Exception):
    """The configuration cannot be used. The text is one line, which names the key or the place."""

    def __init__(self, message: str) -> None:
        # Keys and names are the file's, and may hold anything.
        super().__init__("".join(one if one.isprintable() else ascii(one)[1:-1] for one in message))


class Kind:
    """What the value of a key may be. says: that, in words. fits: whether a value does."""

    def __init__(self, says: str, fits: Callable[[Any], bool]) -> None:
        self.says = says
        self.fits = fits


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and not re.search("[\ud800-\udfff]", value)


def _one_of(*choices: str) -> Kind:
    return Kind(f"one of {', '.join(choices)}", lambda value: value in choices)


TEXT = Kind("a text", _is_text)
TEXT_OR_NULL = Kind("a text", lambda value: value is None or _is_text(value))
YES_OR_NO = Kind("true or false", lambda value: isinstance(value, bool))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
PORT = Kind(
    "a whole number from 0 to 65535", lambda value: isinstance(value, int) and _is_number(value, 0, 65535)
)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
OBJECT_OR_NULL = Kind("an object", lambda value: value is None or isinstance(value, dict))
COUNT = Kind("a whole number above 0", lambda value: isinstance(value, int) and _is_number(value, 1, 1 << 62))
SECONDS = Kind("a number of seconds, 0.1 to 1000000", lambda value: _is_number(value, 0.1, 1_000_000))

#: Keys of the whole file: what they may be, and their defaults.
KEYS: dict[str, tuple[Kind, Any]] = {
    "host": (TEXT, "0.0.0.0"),
    "port": (PORT, DEFAULT_PORT),
    "protocol": (_one_of(*DIALECTS), Dialect.PYSKSYNC_2.title),
    "sksync1_compat": (YES_OR_NO, False),
    "require_auth": (YES_OR_NO, None),  # true, unless sksync1_compat is
    "server_dir_whitelist": (TEXTS, []),
    "server_dir_whitelist_policy": (_one_of(*POLICIES), "deny"),
    "ignore_time_errors": (YES_OR_NO, False),
    "users": (OBJECT, {}),
    "username": (TEXT_OR_NULL, None),
    "password": (TEXT_OR_NULL, None),
    "use_ssl": (YES_OR_NO, False),
    "ssl_server_certfile": (TEXT_OR_NULL, None),
    "ssl_server_keyfile": (TEXT_OR_NULL, None),
    "ssl_client_certfile": (TEXT_OR_NULL, None),
    "ssl_client_keyfile": (TEXT_OR_NULL, None),
    "ssl_minimum_version": (_one_of(*TLS_VERSIONS), "TLSv1.2"),
    "filter_fnmatch_exclude": (TEXTS, []),
    "clients": (OBJECT, {}),
    LONE_CLIENT: (OBJECT_OR_NULL, None),
    "server_root": (TEXT_OR_NULL, None),
    "storage": (OBJECT_OR_NULL, None),
    "max_names": (COUNT, 1_000_000),
    "max_listing_bytes": (COUNT, 256 << 20),
    "max_clients": (COUNT, 100),
    "timeout": (SECONDS, 120),
}
#: Keys of a client's section that are only there.
CLIENT_KEYS: dict[str, tuple[Kind, Any]] = {
    "server_path": (TEXT, None),
    "client_path": (TEXT, None),
    "recursive": (YES_OR_NO, False),
    "sync_type": (_one_of(*SYNC_TYPES), "from_server_use_time"),
    "storage": (OBJECT_OR_NULL, None),
}
#: Keys of a client's section whose defaults are the whole file's values.
SHARED_KEYS = (
    "host port protocol sksync1_compat username password use_ssl ssl_server_certfile ssl_client_certfile "
    "ssl_client_keyfile ssl_minimum_version filter_fnmatch_exclude ignore_time_errors timeout"
).split()
#: Keys of a storage that is no directory.
STORAGE_KEYS: dict[str, tuple[Kind, Any]] = {
    "type": (_one_of("gridfs"), None),
    "uri": (TEXT_OR_NULL, None),
    "uri_file": (TEXT_OR_NULL, None),
    "database": (TEXT_OR_NULL, None),
    "bucket": (TEXT, "fs"),
    "prefix": (TEXT, ""),
}
#: What may hold a secret, or was meant to: a value of these that does not fit is not shown.
SECRETS = ("password", "uri", "users", "storage", "clients", LONE_CLIENT)


class StorageSettings:
    """Which storage that is no directory is meant: a bucket in MongoDB. One of uri and uri_file is set."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.uri: str | None = values["uri"]
        self.uri_file: str | None = values["uri_file"]
        self.database: str | None = values["database"]
        self.bucket: str = values["bucket"]
        self.prefix: str = values["prefix"]


class ClientSettings:
    """What a client is to do.

    storage: None where client_path is a directory of this host. trusted: the file of the certificate that the
    server has to have, None for any. timeout: seconds.
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self.host: str = "127.0.0.1" if values["host"] in EVERYWHERE else values["host"]
        self.port: int = values["port"]
        self.server_path: str = values["server_path"]
        self.client_path: str = values["client_path"]
        self.recursive: bool = values["recursive"]
        self.sync_type = SYNC_TYPES[values["sync_type"]]
        self.dialect = Dialect.SKSYNC_1 if values["sksync1_compat"] else DIALECTS[values["protocol"]]
        self.username: str | None = values["username"]
        self.password: str | None = values["password"]
        self.use_ssl: bool = values["use_ssl"]
        self.trusted: str | None = values["ssl_server_certfile"]
        self.certfile: str | None = values["ssl_client_certfile"]
        self.keyfile: str | None = values["ssl_client_keyfile"]
        self.minimum_version: str = values["ssl_minimum_version"]
        self.excluded: list[str] = values["filter_fnmatch_exclude"]
        self.ignore_time_errors: bool = values["ignore_time_errors"]
        self.timeout: float = values["timeout"]
        self.max_names: int = values["max_names"]
        self.storage: StorageSettings | None = values["storage"]


class Config:
    """All of the file; every key has its value or its default.

    users: (salt, verifier) by name. client_certfile: of the certificates that clients have to have, None for
    no matter which. unknown: keys that mean nothing here. timeout: seconds.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.host: str = values["host"]
        self.port: int = values["port"]
        self.sksync1_compat: bool = values["sksync1_compat"]
        self.require_auth: bool = values["require_auth"]
        self.users: dict[str, tuple[bytes, int]] = values["users"]
        self.whitelist: list[str] = values["server_dir_whitelist"]
        self.is_silent: bool = values["server_dir_whitelist_policy"] == "silent"
        self.ignore_time_errors: bool = values["ignore_time_errors"]
        self.use_ssl: bool = values["use_ssl"]
        self.certfile: str | None = values["ssl_server_certfile"]
        self.keyfile: str | None = values["ssl_server_keyfile"]
        self.client_certfile: str | None = values["ssl_client_certfile"]
        self.minimum_version: str = values["ssl_minimum_version"]
        self.excluded: list[str] = values["filter_fnmatch_exclude"]
        self.server_root: str | None = values["server_root"]
        self.storage: StorageSettings | None = values["storage"]
        self.max_names: int = values["max_names"]
        self.max_listing_bytes: int = values["max_listing_bytes"]
        self.max_clients: int = values["max_clients"]
        self.timeout: float = values["timeout"]
        self.unknown: list[str] = values["unknown"]

    def check_server(self) -> None:
        """Raises ConfigError for what only a server needs."""
        if self.use_ssl and self.certfile is None:
            raise ConfigError(
                "ssl_server_certfile: missing; use_ssl needs a certificate (pysksync make-cert)"
            )

    def client(self, name: str) -> ClientSettings:
        """The settings of a client. Raises ConfigError for one that is not configured."""
        clients = self._values["clients"]
        if name not in clients:
            known = ", ".join(sorted(clients)) or "none"
            raise ConfigError(f"clients: there is no client {name!r}; those configured: {known}")
        values = clients[name]
        for key in ("server_path", "client_path"):
            if not values[key]:
                raise ConfigError(f"{values['section']}.{key}: missing; name a directory")
        if not values["port"]:
            raise ConfigError("port: 0 is no port that a client can connect to")
        if values["username"] is not None and values["password"] is None:
            raise ConfigError("password: missing; username needs one")
        return ClientSettings(name, values)


# --- reading ----------------------------------------------------------------------------------------------


def read(text: str, where: str) -> Config:
    """The configuration in a file's text. where: what the file is called. Raises ConfigError."""
    return checked(parse(text, where))


def parse(text: str, where: str) -> dict[str, Any]:
    """The keys and values in a file's text, unchecked. where: what the file is called. Raises ConfigError."""
    try:
        given = json.loads(
            without_trailing_commas(text), object_pairs_hook=_object, parse_constant=_no_number
        )
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise ConfigError(f"{where}, line {error.lineno}, column {error.colno}: {reason}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{where}: nested too deeply, or with a number that is too long") from None
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: no object; it has to begin with {{ and to end with }}")
    return given


def without_trailing_commas(text: str) -> str:
    """The text with a space in the place of each comma after a last item: lines and columns stay."""
    return _TEXT_OR_COMMA.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    if found[0] != ",":
        return found[0]
    before = found.start() - 1
    while before >= 0 and found.string[before].isspace():
        before -= 1
    return "," if found.string[before : before + 1] in ("", "[", "{", ",") else " "


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"{key}: given twice; keep one of them")
        found[key] = value
    return found


def _no_number(word: str) -> float:
    raise ConfigError(f"{word}: no number that JSON has")


# --- checking ---------------------------------------------------------------------------------------------


def checked(given: dict[str, Any]) -> Config:
    """The configuration with those keys. Raises ConfigError, which names the key."""
    values = _filled(KEYS, given, "")
    lone = values.pop(LONE_CLIENT)
    if lone is not None:
        if LONE_CLIENT in values["clients"]:
            raise ConfigError(f"{LONE_CLIENT}: there is one in clients as well; keep one of them")
        values["clients"] = {**values["clients"], LONE_CLIENT: lone}
    if values["require_auth"] is None:
        values["require_auth"] = not values["sksync1_compat"]
    values["unknown"] = _unknown_keys(given)
    values["storage"] = _storage(values["storage"], "storage")
    values["users"] = _users(values["users"])
    _check_server_keys(values)
    _check_together(values, "")
    sections = {name: f"clients.{name}" for name in values["clients"]}
    if lone is not None:
        sections[LONE_CLIENT] = LONE_CLIENT
    clients = values["clients"]
    values["clients"] = {name: _client(sections[name], clients[name], values) for name in clients}
    return Config(values)


def _client(section: str, given: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a client's section, and of the whole file where that has none."""
    if not isinstance(given, dict):
        raise ConfigError(f"{section}: has to be an object, not {_type(given)}")
    keys = CLIENT_KEYS | {key: (KEYS[key][0], values[key]) for key in SHARED_KEYS}
    own = {**values, **_filled(keys, given, f"{section}.")}
    own["section"] = section
    own["storage"] = _storage(own["storage"], f"{section}.storage")
    _check_together(own, f"{section}.")
    return own


def _filled(keys: dict[str, tuple[Kind, Any]], given: dict[str, Any], section: str) -> dict[str, Any]:
    """A value for each of the keys: the given one, if it fits, or the default. Raises ConfigError."""
    values = {}
    for key, (kind, default) in keys.items():
        values[key] = given.get(key, default)
        if key in given and not kind.fits(given[key]):
            shown = _type(given[key]) if key in SECRETS else _show(given[key])
            raise ConfigError(f"{section}{key}: has to be {kind.says}, not {shown}")
    return values


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return _type(value)  # there may be secrets in it
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _type(value: Any) -> str:
    return _TYPES.get(type(value), "a number")


def _check_server_keys(values: dict[str, Any]) -> None:
    """Raises ConfigError for keys of the server that do not go together."""
    if values["sksync1_compat"] and values["require_auth"]:
        raise ConfigError(
            "require_auth: does not go with sksync1_compat, which has no logins; set one to false"
        )
    if values["server_dir_whitelist_policy"] == "silent" and not values["server_dir_whitelist"]:
        raise ConfigError("server_dir_whitelist_policy: silent needs a path in server_dir_whitelist")
    if values["storage"] is not None and values["server_root"] is not None:
        raise ConfigError("storage: does not go with server_root; the storage has a top of its own")


def _check_together(values: dict[str, Any], section: str) -> None:
    """Raises ConfigError for keys of server or client that do not go together."""
    if values["sksync1_compat"] and values["use_ssl"]:
        raise ConfigError(f"{section}sksync1_compat: does not go with use_ssl; set one of them to false")
    if values["sksync1_compat"] and values["username"] is not None:
        raise ConfigError(
            f"{section}sksync1_compat: does not go with username, for it has no logins; "
            "set one of them to false or null"
        )
    # The server's key is none of a client's business: its section may say that any certificate will do.
    for side in ("client",) if section else ("server", "client"):
        if values[f"ssl_{side}_keyfile"] is not None and values[f"ssl_{side}_certfile"] is None:
            certfile = f"ssl_{side}_certfile"
            raise ConfigError(f"{section}ssl_{side}_keyfile: needs {certfile}, the certificate of that key")


def _storage(given: dict[str, Any] | None, section: str) -> StorageSettings | None:
    if given is None:
        return None
    for key in given:
        if key not in STORAGE_KEYS:
            raise ConfigError(f"{section}.{key}: unknown; there are {', '.join(STORAGE_KEYS)}")
    values = _filled(STORAGE_KEYS, given, f"{section}.")
    if values["type"] is None:
        raise ConfigError(f"{section}.type: missing; it has to be gridfs")
    if (values["uri"] is None) == (values["uri_file"] is None):
        raise ConfigError(f"{section}.uri: give it or uri_file, one of them")
    return StorageSettings(values)


def _users(given: dict[str, Any]) -> dict[str, tuple[bytes, int]]:
    users = {}
    for name, user in given.items():
        match user:
            case {"authsrp": [str(salt), str(stored)]} if _SALT.fullmatch(salt) and _VERIFIER.fullmatch(
                stored
            ):
                users[name] = bytes.fromhex(salt), int(stored, 16)
            case _:
                says = '{"authsrp": [salt, verifier]}, both in hexadecimal'
                raise ConfigError(f"users.{name}: has to be {says}; pysksync useredit writes it")
    return users


def _unknown_keys(given: dict[str, Any]) -> list[str]:
    """Keys that mean nothing here; misspelt ones, perhaps."""
    found = [key for key in given if key not in KEYS]
    sections = {f"clients.{name}": section for name, section in given.get("clients", {}).items()}
    sections[LONE_CLIENT] = given.get(LONE_CLIENT)
    for name, section in sections.items():
        if isinstance(section, dict):
            found += [f"{name}.{key}" for key in section if key not in {*CLIENT_KEYS, *SHARED_KEYS}]
    return found
