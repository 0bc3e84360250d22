"""sksync.json: one file for the server and for clients, read, checked and turned into settings.

A comma after the last item is accepted, because files in the field have one. All other mistakes are reported
in one line, with the key, or with file, line and column. The server's settings are options of the command as
well. What may not enter: sockets, TLS, storages, how users are changed. Facts: docs/sksync.md.
"""

from __future__ import annotations

import json
import re

from pysftpserver.failures import BadInput, one_line
from pysftpserver.formats import SKSYNC
from pysftpserver.service.settings import (
    BYTES,
    COUNT,
    DIRECTORY,
    FILE,
    FLAG,
    IF_GIVEN,
    PORT,
    Kind,
    ServiceSettings,
    Setting,
    Settings,
    one_of,
    optional,
    read_file,
    seconds,
    text,
    texts,
    whole,
)
from pysftpserver.sksync.wire import DEFAULT_PORT, Dialect, SyncType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Self

DEFAULT_FILE = "sksync.json"
LONE_CLIENT = "client"  # the section, and also the name of its client
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
SYNC_TYPES = {kind.name.lower(): kind for kind in SyncType}
DIALECTS = {dialect.title: dialect for dialect in Dialect}
LONGEST_FILE = 10 << 20  # bytes
EVERYWHERE = ("", "0.0.0.0", "::")  # addresses to listen on, which no client can connect to
NOT_WITH, NOT_BOTH = "cannot be combined with", "set one of them to false"
NO_TLS = f"sksync1_compat: {NOT_WITH} use_ssl; {NOT_BOTH}"
USER = '{"NAME": {"authsrp": [SALT, VERIFIER]}}, both in hexadecimal'
_TEXT_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])')
_SALT = re.compile(r"(?:[0-9a-fA-F]{2})+")
_VERIFIER = re.compile(r"0*[1-9a-fA-F][0-9a-fA-F]*")


# --- kinds of values that only this file has ----------------------------------------------------------------


class Object(Kind["dict[str, Any]"]):
    """A JSON object, which an option cannot have."""

    def __init__(self) -> None:
        super().__init__(lambda _: {}, "OBJECT", (dict,))

    def from_json(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("an object")
        return value


class Users(Object):
    """The users that may log in: (salt, verifier) by name."""

    def from_json(self, value: object) -> dict[str, Any]:
        users = {}
        for name, user in super().from_json(value).items():
            match user:
                case {"authsrp": [str(salt), str(stored)]} if _SALT.fullmatch(salt) and _VERIFIER.fullmatch(
                    stored
                ):
                    users[name] = bytes.fromhex(salt), int(stored, 16)
                case _:
                    what = f"{USER}; add '{one_line(name)}' again with pysksync users"
                    raise ValueError(what)
        return users


def _maybe_empty(value: str) -> str:
    if "\0" in value:
        raise ValueError("text without NUL characters")
    return value


class Storage(Kind["str | StorageSettings"]):
    """The storage to share instead of a directory: its name, or the older object for a database."""

    def __init__(self) -> None:
        super().__init__(lambda name: name, "STORAGE", (str, dict))

    def from_json(self, value: object) -> str | StorageSettings:
        if isinstance(value, str) and value:
            return value
        if not isinstance(value, dict):
            raise ValueError("the name of a storage, or an object")
        return StorageSettings.made(value)


OBJECT = Object()
MAYBE_EMPTY = Kind(_maybe_empty, "TEXT")
VERSION = one_of(*TLS_VERSIONS, metavar="VERSION")
PATIENCE = seconds(0.1, 1_000_000)


# --- the keys -----------------------------------------------------------------------------------------------


class ServerSettings(ServiceSettings):
    """The settings of a server, and the rest of its file.

    unknown: unknown keys of the file. clients: the settings of the file's clients, by name.
    """

    logfile = Setting(optional(FILE), None, "Append the log to this file.", "-l", unset="standard error")
    listen_address = Setting(
        optional(texts("ADDRESS", ",")),
        ("0.0.0.0",),
        "Listen on these addresses, separated by commas; none is all of IPv4 and IPv6.",
        aliases=("host",),
    )
    port = Setting(PORT, DEFAULT_PORT, "Listen on this port; 0 is any free one, which the log names.")
    max_connections = Setting(
        COUNT,
        100,
        "Maximum number of connections, unauthenticated ones included.",
        aliases=("max_clients",),
        reloads=True,
    )
    idle_timeout = Setting(
        PATIENCE,
        120.0,
        "Close a connection that is silent for this many seconds, or slower than 256 bytes a second.",
        aliases=("timeout",),
        reloads=True,
    )
    max_per_address = Setting(
        optional(COUNT),
        25,
        "Maximum number of connections from one address; a /64 of IPv6 is one.",
        reloads=True,
    )
    login_grace = Setting(
        seconds(),
        15.0,
        "Close a connection that has not logged in and named a directory after this many seconds.",
        reloads=True,
    )
    server_root = Setting(
        optional(DIRECTORY),
        None,
        'Share this directory, as a jail whose root is "/" for clients.',
        unset="the current directory, or the directories in server_dir_whitelist",
        reloads=True,
    )
    server_dir_whitelist = Setting(
        texts("PATH"),
        (),
        "Share this path only; may be given several times. Clients have to name it exactly.",
        unset="everything in server_root",
        reloads=True,
    )
    server_dir_whitelist_policy = Setting(
        one_of("deny", "silent", metavar="POLICY"),
        "deny",
        "End a connection that names another path (deny), or use the first path of the list (silent).",
        reloads=True,
    )
    storage = Setting(
        optional(Storage()),
        None,
        "Share the storage with this name instead of a directory, such as s3://bucket/prefix.",
        is_secret=True,
    )
    site = Setting(
        optional(FILE),
        None,
        "Put what is shared under this site file, which has no storage of its own: its mounts and rules. Its "
        "users and groups apply only where {user} is in the name of storage.",
    )
    require_auth = Setting(
        IF_GIVEN,
        None,
        "Refuse clients that do not log in.",
        unset="yes, but no with sksync1_compat",
        reloads=True,
    )
    users = Setting(
        Users(),
        {},
        "The users that may log in, as written by pysksync users.",
        unset="no users",
        is_secret=True,
        in_file_only=True,
        reloads=True,
    )
    sksync1_compat = Setting(
        FLAG, False, "Speak sksync 1 only: names in cp1252, no logins, no TLS.", reloads=True
    )
    use_ssl = Setting(FLAG, False, "Use TLS.", reloads=True)
    ssl_server_certfile = Setting(optional(FILE), None, "The server's certificate.", reloads=True)
    ssl_server_keyfile = Setting(
        optional(FILE),
        None,
        "The key of the server's certificate.",
        unset="the certificate's file",
        reloads=True,
    )
    ssl_client_certfile = Setting(
        optional(FILE),
        None,
        "Accept only clients with this certificate, or with one that it has signed.",
        unset="all clients",
        reloads=True,
    )
    ssl_minimum_version = Setting(
        VERSION,
        "TLSv1.2",
        "Lowest version of TLS: TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3; the first two allow weak ciphers.",
        reloads=True,
    )
    filter_fnmatch_exclude = Setting(
        texts("PATTERN"),
        (),
        "Leave out names that match this shell pattern: of a file, of a directory with everything in it, or "
        "of a whole path; may be given several times.",
        reloads=True,
    )
    ignore_time_errors = Setting(
        FLAG,
        False,
        "Log a modification time that cannot be set, and do not count it as a failure.",
        reloads=True,
    )
    max_names = Setting(
        whole(1, 1 << 62), 1_000_000, "Maximum number of files that a client may list.", reloads=True
    )
    max_listing_bytes = Setting(
        BYTES, 256 << 20, "Maximum size of a client's listing in bytes.", reloads=True
    )
    max_listing_memory = Setting(
        BYTES,
        1 << 30,
        "Maximum memory of all listings together, of clients and of shared directories, in bytes; one user, "
        "or one address without a login, may have three eighths of it.",
        reloads=True,
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.unknown: list[str] = []
        self.clients: dict[str, ClientSettings] = {}

    @classmethod
    def load(cls, path: str | None, typed: Mapping[str, Any]) -> Self:
        """Values from the command line (typed), else from a JSON file, else defaults. Raises BadInput."""
        given = {} if path is None else parse(read_file(path, LONGEST_FILE), path)
        return cls.made(given, path or DEFAULT_FILE, typed)

    @classmethod
    def made(cls, given: dict[str, Any], where: str, typed: Mapping[str, Any]) -> Self:
        """The settings with those keys of a file. where: the file's name. Raises BadInput."""
        of_server, unknown = cls.convert(given, where, from_json)
        of_clients, unknown_there = ClientKeys.convert(given, where, from_json)
        sections, _ = Sections.convert(given, where, from_json)
        settings = cls(**of_server | dict(typed))
        for fault in (*settings._faults(), *ClientKeys(**of_clients)._faults()):
            raise BadInput(f"{where}: {fault}")
        known = Sections.table()
        settings.unknown = [key for key in unknown if key in unknown_there and key not in known]
        settings._add_clients(Sections(**sections), given, where)
        return settings

    def _add_clients(self, sections: Sections, given: dict[str, Any], where: str) -> None:
        found = {name: (f"clients.{name}", section) for name, section in sections.clients.items()}
        if sections.client is not None:
            if LONE_CLIENT in found:
                raise BadInput(f"{where}: client: clients has a client of that name, too; keep one of them")
            found[LONE_CLIENT] = (LONE_CLIENT, sections.client)
        shared = {key: value for key, value in given.items() if key in ClientKeys.keys()}
        for name, (place, section) in found.items():
            if not isinstance(section, dict):
                raise BadInput(f"{where}: {place}: has to be an object")
            self.clients[name], unknown = ClientSettings.made(name, shared, section, f"{where}: {place}")
            self.unknown += [f"{place}.{key}" for key in unknown]

    def _faults(self) -> Iterator[str]:
        """Faults of server settings that exclude or need each other."""
        if self.sksync1_compat and self.require_auth:
            yield f"require_auth: {NOT_WITH} sksync1_compat, which has no logins; {NOT_BOTH}"
        if self.server_dir_whitelist_policy == "silent" and not self.server_dir_whitelist:
            yield "server_dir_whitelist_policy: silent needs a path in server_dir_whitelist"
        if self.storage is not None and self.server_root is not None:
            yield f"storage: {NOT_WITH} server_root; remove one of them"
        if self.sksync1_compat and self.use_ssl:
            yield NO_TLS
        # Clients have no use for the server's key: a client's section may accept any certificate.
        if self.ssl_server_keyfile is not None and self.ssl_server_certfile is None:
            yield "ssl_server_keyfile: needs ssl_server_certfile, the certificate of that key"

    def check_server(self) -> None:
        """Check settings that a server needs and a client does not. Raises BadInput."""
        if self.use_ssl and self.ssl_server_certfile is None:
            raise BadInput(
                "ssl_server_certfile: missing; use_ssl needs a certificate, which pysksync make-cert makes"
            )

    @property
    def needs_login(self) -> bool:
        """Whether clients have to log in."""
        return not self.sksync1_compat if self.require_auth is None else self.require_auth

    def client(self, name: str) -> ClientSettings:
        """The settings of a client. Raises BadInput for one that is not configured or incomplete."""
        if name not in self.clients:
            known = ", ".join(sorted(self.clients)) or "none"
            raise BadInput(f"no client named {name!r}; the configuration has {known}")
        client = self.clients[name]
        for key in ("server_path", "client_path"):
            if not getattr(client, key):
                raise BadInput(f"{client.place}: {key}: missing; name a directory")
        if not client.port:
            raise BadInput(f"{client.place}: port: a client cannot connect to port 0")
        if client.username is not None and client.password is None:
            raise BadInput(f"{client.place}: password: missing; username needs one")
        return client


class ClientKeys(Settings):
    """The keys of a client's section, each of which defaults to the whole file's value."""

    host = Setting(
        MAYBE_EMPTY, "127.0.0.1", "Connect to this host; an address that means all of a host's is 127.0.0.1."
    )
    port = Setting(PORT, DEFAULT_PORT, "Connect to this port.")
    protocol = Setting(
        one_of(*DIALECTS),
        Dialect.PYSKSYNC_2.title,
        "Speak pysksync 2, pysksync 1 (no digests, which TLS makes superfluous) or sksync 1.",
    )
    sksync1_compat = Setting(FLAG, False, "Speak sksync 1: names in cp1252, no logins, no TLS.")
    username = Setting(optional(text()), None, "Log in as this user.", unset="no login")
    password = Setting(optional(MAYBE_EMPTY), None, "The user's password.", is_secret=True)
    use_ssl = Setting(FLAG, False, "Use TLS.")
    ssl_server_certfile = Setting(
        optional(FILE),
        None,
        "Accept only a server with this certificate, or with one that it has signed for the host.",
        unset="any certificate, with a warning",
    )
    ssl_client_certfile = Setting(optional(FILE), None, "The client's certificate.")
    ssl_client_keyfile = Setting(
        optional(FILE), None, "The key of the client's certificate.", unset="the certificate's file"
    )
    ssl_minimum_version = Setting(VERSION, "TLSv1.2", "As for a server.")
    filter_fnmatch_exclude = Setting(texts("PATTERN"), (), "As for a server.")
    ignore_time_errors = Setting(FLAG, False, "As for a server.")
    idle_timeout = Setting(
        PATIENCE,
        120.0,
        "End a sync when the server is silent for this many seconds, or slower than 256 bytes a second.",
        aliases=("timeout",),
    )
    max_names = Setting(whole(1, 1 << 62), 1_000_000, "Maximum number of files that the server may send.")

    @classmethod
    def keys(cls) -> set[str]:
        """All keys, the older names included."""
        return {key for name, setting in cls.table().items() for key in (name, *setting.aliases)}

    def _faults(self) -> Iterator[str]:
        """Faults of client settings that exclude or need each other."""
        if self.sksync1_compat and self.use_ssl:
            yield NO_TLS
        if self.sksync1_compat and self.username is not None:
            yield f"sksync1_compat: {NOT_WITH} username, because it has no logins; {NOT_BOTH} or null"
        if self.ssl_client_keyfile is not None and self.ssl_client_certfile is None:
            yield "ssl_client_keyfile: needs its certificate, ssl_client_certfile"


class ClientSettings(ClientKeys):
    """A client's section. name: the client's. place: where the section is, for messages."""

    server_path = Setting(
        MAYBE_EMPTY,
        "",
        "The directory on the server. It is made for the first file that is sent; its parent has to exist.",
    )
    client_path = Setting(
        MAYBE_EMPTY,
        "",
        "The directory here. It is made for the first file that is received; its parent has to exist.",
    )
    recursive = Setting(FLAG, False, "Sync the directories in it, too.")
    sync_type = Setting(
        one_of(*SYNC_TYPES), "from_server_use_time", "What is sent and received: see the table above."
    )
    storage = Setting(
        optional(Storage()),
        None,
        "Sync the storage with this name instead of a directory of this host.",
        is_secret=True,
    )

    name = ""
    place = ""

    @classmethod
    def made(
        cls, name: str, shared: dict[str, Any], section: dict[str, Any], place: str
    ) -> tuple[Self, list[str]]:
        """The settings of a section, and its unknown keys. shared: the file's keys. Raises BadInput."""
        own, unknown = cls.convert(section, place, from_json)
        values, _ = cls.convert(shared, place, from_json)
        settings = cls(**values | own)
        settings.name, settings.place = name, place
        for fault in settings._faults():
            raise BadInput(f"{place}: {fault}")
        return settings, unknown

    @property
    def address(self) -> str:
        """The host to connect to."""
        return "127.0.0.1" if self.host in EVERYWHERE else self.host

    @property
    def dialect(self) -> Dialect:
        """The protocol to speak."""
        return Dialect.SKSYNC_1 if self.sksync1_compat else DIALECTS[self.protocol]


class Sections(Settings):
    """The keys of the whole file that are sections of clients."""

    clients = Setting(OBJECT, {}, "A section for each client, by name.", is_secret=True)
    client = Setting(optional(OBJECT), None, "The section of the client named client.", is_secret=True)


class StorageSettings(Settings):
    """A bucket in MongoDB, in a form older than storage names. One of uri and uri_file is set."""

    type = Setting(optional(one_of("gridfs")), None, "gridfs, a bucket in MongoDB.")
    uri = Setting(optional(text()), None, "mongodb://... or mongodb+srv://...", is_secret=True)
    uri_file = Setting(
        optional(FILE), None, "A file whose first line is the URI, for one with a password in it."
    )
    database = Setting(optional(text()), None, "The database, if the URI does not name one.")
    bucket = Setting(text(), "fs", "The GridFS bucket.")
    prefix = Setting(MAYBE_EMPTY, "", 'The directory of the bucket that is "/".', unset="all of the bucket")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageSettings) and self._values == other._values

    @classmethod
    def made(cls, given: dict[str, Any]) -> Self:
        """The settings of a section. Raises BadInput."""
        values, unknown = cls.convert(given, "storage", from_json)
        settings = cls(**values)
        if unknown:
            known = ", ".join(cls.table())
            raise BadInput(f"storage: unknown key {one_line(unknown[0])!r}; the keys are {known}")
        if settings.type is None:
            raise BadInput('storage: type: missing; it has to be "gridfs"')
        if (settings.uri is None) == (settings.uri_file is None):
            raise BadInput("storage: uri: set either uri or uri_file")
        return settings


def from_json(kind: Kind[Any], value: object) -> object:
    """Convert a JSON value to a kind's. Raises ValueError."""
    return kind.from_json(value)


# --- the text -----------------------------------------------------------------------------------------------


def read(source: str, where: str) -> ServerSettings:
    """The settings in the text of a file. where: the file's name. Raises BadInput."""
    return checked(parse(source, where), where)


def checked(given: dict[str, Any], where: str = DEFAULT_FILE) -> ServerSettings:
    """The settings with those keys. Raises BadInput."""
    return ServerSettings.made(given, where, {})


def parse(source: str, where: str) -> dict[str, Any]:
    """The keys and values in the text of a file, unchecked. where: the file's name. Raises BadInput."""
    try:
        given = json.loads(
            without_trailing_commas(source), object_pairs_hook=_object, parse_constant=_no_number
        )
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise BadInput(f"{where}, line {error.lineno}, column {error.colno}: {reason}") from None
    except BadInput as error:
        raise BadInput(f"{where}: {error.message}") from None
    except (RecursionError, ValueError):
        raise BadInput(f"{where}: nested too deeply, or a number in it is too long") from None
    if not isinstance(given, dict):
        raise BadInput(f"{where}: not an object; it has to begin with {{ and end with }}")
    SKSYNC.check(given.pop("version", None), f"{where}: version")
    return given


def without_trailing_commas(source: str) -> str:
    """The text with a space in place of each comma after a last item, so that lines and columns stay."""
    return _TEXT_OR_COMMA.sub(_blank, source)


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
            raise BadInput(f"{one_line(key)} is given twice; keep one of them")
        found[key] = value
    return found


def _no_number(word: str) -> float:
    raise BadInput(f"{word} is not a number in JSON")
