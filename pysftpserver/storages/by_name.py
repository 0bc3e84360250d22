"""ONE table of the storages and their names, and functions that open a storage by its name.

Options, configuration files, user records and site files all use this syntax for names (docs/storages.md).
Only commands know concrete storages; doors get a function that opens them. The library of a storage is
imported when such a storage is opened. What may not enter: doors, how names are parsed (syntax.py), what they
lead to (reach.py).
"""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput, Unavailable, missing, one_line, reason_of
from pysftpserver.pysftpexceptions import SFTPException, SFTPNotFound
from pysftpserver.storages import syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    Split = Callable[["Name", Mapping[str, str]], tuple[object, str]]
    Open = Callable[["Name", "Opening"], SFTPAbstractServerStorage]

NOBODY: Mapping[str, str] = {}  # if no user is known


class Opening:
    """How storages are opened; the same for names that lead to further names.

    values: of the fields in names, and, for the rules of a site, address and session. dress: returns the
    class to use in place of one for real files, such as one with atomic uploads. is_touched: whether to
    create what a database lacks, such as indexes. tell: gets messages about what does not prevent a session:
    why one of several storages cannot be reached, why indexes are missing; None: the latter is an error.
    waits: whether to wait for a first answer that may take long. opens: opens the parts of a site; None:
    opened(). is_bare: leave out the layers of a site.
    """

    def __init__(
        self,
        values: Mapping[str, str] = NOBODY,
        dress: Callable[[type], type] = lambda kind: kind,
        is_touched: bool = True,
        tell: Callable[[str], object] | None = None,
        waits: bool = True,
        opens: Callable[[Name, str, Opening], SFTPAbstractServerStorage] | None = None,
    ) -> None:
        self.values, self.dress, self.is_touched = values, dress, is_touched
        self.tell, self.waits = tell, waits
        self.opens = opens or opened
        self.is_bare = False

    def with_values(self, values: Mapping[str, str], waits: bool | None = None) -> Opening:
        """The same with other values."""
        waits = self.waits if waits is None else waits
        return Opening(values, self.dress, self.is_touched, self.tell, waits, self.opens)


class Scheme:
    """A kind of storage.

    form: of its names, for help and pages. what: its description, for pages. extra: the extra that installs
    its library; "" for none. opens: opens one; it raises ValueError, OSError, SFTPException or BadInput.
    uses_network: whether it talks to other hosts; None: ask the opened storage. is_url: whether fields are
    percent-encoded. module: what to import before the process is confined. cannot: methods, and attributes
    that SETSTAT sets, which the storage lacks, as its test declares to the contract suite; None: it depends.
    split: if sessions can share connections, returns what is the same for those that do, and the directory in
    it, with their fields filled in; it raises ValueError. is_frank: it talks to other hosts, and tells what
    it needs on this one, so that a process can be confined to that.
    """

    def __init__(
        self,
        form: str,
        what: str,
        extra: str,
        opens: Open,
        uses_network: bool | None,
        module: str,
        is_url: bool = False,
        cannot: str | None = None,
        split: Split | None = None,
        is_frank: bool = False,
    ) -> None:
        self.is_frank = is_frank
        self.form, self.what, self.extra, self.opens = form, what, extra, opens
        self.cannot = None if cannot is None else frozenset(cannot.split())
        self.split = split
        self.uses_network, self.module, self.is_url = uses_network, module, is_url


class Name:
    """A storage's name, parsed, and checked without opening anything. scheme: its key in SCHEMES.

    place: the text after the scheme and its colon; for a class, `MODULE:CLASS`; for a site file, its path;
    for a URL, all of it. settings: of gridfs, by name. arguments: of a class, JSON. is_read_only: whether a
    site file says so. values: those of its fields, if a site file has other ones than its caller.
    """

    is_read_only = False
    values: Mapping[str, str] | None = None

    def __init__(self, text: str) -> None:
        """Raises ValueError, with a text without secrets."""
        self.settings: dict[str, str] = {}
        self.arguments = ""
        head, colon, rest = text.partition(":")
        if head in SCHEMES and head not in (CLASS, SITE) and (colon or head == "plain"):
            self.scheme, self.place = head, rest
        elif text.endswith(".toml") and (not colon or "/" in head):
            self.scheme, self.place = SITE, text
        elif _is_class(text.partition(" ")[0]):
            self.scheme = CLASS
            self.place, _, self.arguments = text.partition(" ")
            return
        else:
            shown = syntax.shown(text if "://" in text else text.rpartition("@")[2])
            raise ValueError(f"{shown or 'no name'}: unknown storage; write {FORMS}")
        if self.scheme == "gridfs":
            self._take_settings()
        elif self.kind.is_url:
            self._check_url()
        if not self.place and self.scheme != "plain":
            raise ValueError(f"{self.scheme}: write {self.kind.form}")
        if not self.kind.is_url:
            for part in (self.place, *self.settings.values()):
                syntax.check_braces(part)

    @property
    def kind(self) -> Scheme:
        """The row of the table."""
        return SCHEMES[self.scheme]

    @property
    def fields(self) -> set[str]:
        """The fields that have to be filled in before it can be opened."""
        known = (*syntax.FIELDS, *syntax.OLDER) if self.arguments else syntax.FIELDS
        found = syntax.fields(" ".join((self.place, self.arguments, *self.settings.values())), known)
        return {syntax.OLDER.get(field, field) for field in found}

    def path(self, values: Mapping[str, str]) -> str:
        """A path of this host, with its fields filled in. Raises ValueError."""
        return syntax.filled(self.place, values)

    def setting(self, name: str, values: Mapping[str, str]) -> str | None:
        """A setting with its fields filled in. Raises ValueError."""
        return syntax.filled(self.settings[name], values) if name in self.settings else None

    def url(self, values: Mapping[str, str]) -> str:
        """A URL, with its fields filled in, percent-encoded. Raises ValueError."""
        return syntax.filled_url(self.place, values)

    def files(self, values: Mapping[str, str]) -> list[str]:
        """The files of this host that the name itself leads to. Raises ValueError."""
        if self.scheme in (SITE, "gridfs"):
            return [self.path(values)]
        if not self.kind.is_url:
            return []
        from urllib.parse import unquote

        settings = syntax.pairs(self.url(values).partition("?")[2])
        found = [unquote(value) for setting, _, value in settings if setting in FILE_SETTINGS]
        return [os.path.expanduser(path) for path in found]

    def _take_settings(self) -> None:
        if "://" in self.place:
            raise ValueError(
                "gridfs: no URI in a name; write it into the first line of a file, and name the file"
            )
        self.place, mark, query = self.place.partition("?")
        if not mark:  # the older spelling, gridfs:FILE,bucket=NAME
            self.place, *older = self.place.split(",")
            query = "&".join(part.replace("%", "%25").replace("&", "%26") for part in older)
        try:
            self.settings = syntax.settings_of(query, GRIDFS_SETTINGS)
        except ValueError as error:
            raise ValueError(f"gridfs: {error}") from None

    def _check_url(self) -> None:
        is_fsspec = self.scheme == "fsspec"
        url = self.place if is_fsspec else f"{self.scheme}:{self.place}"
        if not is_fsspec and not self.place.startswith("//"):
            raise ValueError(f"{self.scheme}: write {self.kind.form}")
        has_user = "@" in self.place.removeprefix("//").partition("/")[0].partition("?")[0]
        if syntax.has_password(url) or has_user and self.scheme in OBJECT_STORES:
            raise ValueError(f"{self.scheme}: {CREDENTIALS[self.scheme]}")
        if "#" in url and not is_fsspec:
            raise ValueError(f"{self.scheme}: no # in a name; write %23")
        self.place = url
        syntax.check_braces(url)
        for part in url.split("::"):
            host = part.partition("://")[2].partition("/")[0].partition("?")[0]
            if syntax.fields(host.rpartition("@")[2]):
                raise ValueError("{user} and other fields cannot be in a host or a bucket, but behind it")
        for setting, _, value in () if is_fsspec else syntax.pairs(url.partition("?")[2]):
            if syntax.fields(value) and setting not in FILE_SETTINGS:
                raise ValueError(
                    f"{{user}} and other fields can be in {', '.join(FILE_SETTINGS)} and in the path"
                )


def _is_class(text: str) -> bool:
    """Whether a text has the form MODULE:CLASS."""
    module, _, kind = text.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), *kind.split(".")))


# --- opening ------------------------------------------------------------------------------------------------


def parse(text: str, key: str, known: tuple[str, ...] = syntax.FIELDS) -> Name:
    """Parse a name. key: the option or key with this value. known: the fields that will have a value.

    Raises BadInput for an invalid name; nothing is opened, and what it names need not exist.
    """
    try:
        name = Name(text)
        for field in name.fields - set(known):
            raise ValueError(f"{{{field}}}: no {field} is known here")
    except ValueError as error:
        raise BadInput(f"{key}: {error}") from None
    return name


def open_storage(text: str, key: str, opening: Opening | None = None) -> SFTPAbstractServerStorage:
    """Open the storage with this name. key: the option or key with this value, for messages.

    Raises BadInput for a name that cannot be opened, Unavailable if another host does not answer.
    """
    opening = opening or Opening()
    return opened(parse(text, key, tuple(opening.values)), key, opening)


def opened(name: Name, key: str, opening: Opening) -> SFTPAbstractServerStorage:
    """The same for a parsed name."""
    what = name.place if name.scheme == CLASS else name.scheme
    if name.values is not None:
        opening = opening.with_values(name.values)
    try:
        return name.kind.opens(name, opening)
    except BadInput as error:
        raise type(error)(f"{key}: {error.message}") from None
    except ModuleNotFoundError as error:
        if name.kind.extra and not (error.name or "").startswith("pysftpserver"):
            raise missing(one_line(error.name or "a library"), name.kind.extra) from None
        raise
    except TypeError as error:
        if name.scheme != CLASS:
            raise
        raise BadInput(f"{key}: {what}: {one_line(str(error))}") from None
    except ValueError as error:
        raise BadInput(f"{key}: {what}: {one_line(str(error))}") from None
    except (SFTPException, OSError) as error:
        how = Unavailable if name.kind.uses_network else BadInput
        raise how(f"{key}: {what}: {reason_of(error)}") from None


def in_site(text: str, place: str, values: Mapping[str, str]) -> Name:
    """The name of one of the storages of a site file. place: where it is in the file. values: of its fields.

    Raises BadInput.
    """
    name = parse(text, place, tuple(values))
    if name.scheme == SITE:
        raise BadInput(f"{place}: a site file cannot name another")
    name.values = values
    return name


def may_use_network(name: Name, key: str) -> bool:
    """Whether a storage with this name (not a site file) may talk to other hosts. Raises BadInput."""
    if name.scheme == CLASS:
        from pysftpserver.storages.classes import named

        return bool(getattr(named(name.place, key), "uses_network", True))
    return name.kind.uses_network is not False


# --- the storages -------------------------------------------------------------------------------------------


def _plain(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.storage import SFTPServerStorage

    home = name.path(opening.values) or "."
    storage: SFTPAbstractServerStorage = opening.dress(SFTPServerStorage)(home)
    try:
        storage.stat((storage.home or b"") + b"/.")
    except OSError as error:
        raise BadInput(f"{home}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def _jail(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    return in_jail(name.path(opening.values), opening)


def in_jail(path: str, opening: Opening) -> SFTPAbstractServerStorage:
    """A jail in a directory of this host. Raises BadInput."""
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    try:
        storage: SFTPAbstractServerStorage = opening.dress(SFTPServerVirtualChroot)(path)
        storage.stat(b"/.")  # fails if the account may open the directory but not enter it
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def jail(path: str, key: str) -> SFTPAbstractServerStorage:
    """A jail in a directory of this host. key: the option or key that named it. Raises BadInput."""
    try:
        return in_jail(path, Opening())
    except BadInput as error:
        raise BadInput(f"{key}: {error.message}") from None


def _gridfs(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    settings = {key: name.setting(key, opening.values) for key in name.settings}
    keeps = syntax.truth(settings.pop("keep_revisions", None) or "false", "keep_revisions")
    touched = {"is_touched": opening.is_touched, "tell": opening.tell}
    from pysftpserver.storages.mongo.opening import bucket

    return bucket(None, name.path(opening.values), **settings, keep_revisions=keeps, **touched)  # type: ignore[arg-type]


def _split_gridfs(name: Name, values: Mapping[str, str]) -> tuple[object, str]:
    settings = {key: name.setting(key, values) or "" for key in name.settings}
    prefix = settings.pop("prefix", "")
    return ("gridfs", name.path(values), *sorted(settings.items())), prefix


def _objects(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.objectstorage import SFTPServerObjectStorage

    storage = SFTPServerObjectStorage(name.url(opening.values))
    return _answering(storage, storage.connect) if opening.waits else storage


def _split_objects(name: Name, values: Mapping[str, str]) -> tuple[object, str]:
    from urllib.parse import unquote

    url, _, query = name.url(values).partition("?")
    bucket, _, prefix = url.partition("://")[2].partition("/")
    return (name.scheme, bucket, query), unquote(prefix)


def _proxy(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.proxystorage import SFTPServerProxyStorage

    storage = SFTPServerProxyStorage.from_name(name.url(opening.values))
    storage.keeps_trying = not opening.waits
    return _answering(storage, storage.connect) if opening.waits else storage


def _fsspec(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.fsspecstorage import SFTPServerFsspecStorage

    storage = SFTPServerFsspecStorage(name.url(opening.values))
    try:
        return _answering(storage, storage.connect) if opening.waits else storage
    except SFTPNotFound:
        return storage  # on some storages, the top exists only if something is in it


def _answering(storage: Any, connect: Callable[[], None]) -> SFTPAbstractServerStorage:
    """A storage after its first answer. Raises Unavailable."""
    try:
        connect()
    except SFTPNotFound:
        raise
    except (SFTPException, OSError) as error:
        raise Unavailable(f"{one_line(storage.label)}: {reason_of(error)}") from None
    return storage  # type: ignore[no-any-return]


def _class(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.storages.classes import maker

    make = maker(name.place, "")
    storage = make(name.arguments, lambda argument: syntax.filled_arguments(argument, opening.values))
    if not isinstance(storage, SFTPAbstractServerStorage):
        raise ValueError(f"it makes a {type(storage).__name__}, which is not a storage")
    return storage


def _site(name: Name, opening: Opening) -> SFTPAbstractServerStorage:
    from pysftpserver.storages import sites

    return sites.opened(name.path(opening.values), opening)


CLASS, SITE = "module", "toml"  # the rows of names that do not begin with a scheme
OBJECT_STORES = ("s3", "gs", "az")
FILE_SETTINGS = ("credentials", "ca_file", "key", "config", "known_hosts", "password_file")
GRIDFS_SETTINGS = ("database", "bucket", "prefix", "keep_revisions")
_OF_STORES = (
    "no credentials in a name; they come from the environment, from the files of the service's own tools, or "
    "from credentials=FILE"
)
CREDENTIALS = {
    **dict.fromkeys(OBJECT_STORES, _OF_STORES),
    "sftp": "no password in a name; use ssh_config, key=FILE, agent=true or password_file=FILE",
    "fsspec": "no password in a name; fsspec reads it from its own configuration or the environment",
}
_OF_OBJECTS = "symlink readlink link statvfs fstatvfs fsync owner permissions times"
SCHEMES = {
    "plain": Scheme(
        "plain[:DIRECTORY]", "this host's file system, starting in a directory", "", _plain, False,
        "pysftpserver.storage", cannot="",
    ),
    "jail": Scheme(
        "jail:DIRECTORY", "a directory of this host, which clients cannot leave", "", _jail, False,
        "pysftpserver.virtualchroot", cannot="",
    ),
    "gridfs": Scheme(
        "gridfs:FILE[?bucket=NAME&prefix=DIR&database=NAME]",
        "a GridFS bucket in MongoDB; the first line of FILE is the URI", "mongo", _gridfs, True,
        "pysftpserver.mongostorage", cannot="link", split=_split_gridfs,
    ),
    "s3": Scheme(
        "s3://BUCKET[/PREFIX][?SETTING=VALUE&...]", "a bucket of S3, or of what speaks its protocol",
        "", _objects, True, "pysftpserver.objectstorage", True, _OF_OBJECTS, _split_objects, True,
    ),
    "gs": Scheme(
        "gs://BUCKET[/PREFIX][?SETTING=VALUE&...]", "a bucket of Google Cloud Storage", "objects", _objects,
        True, "pysftpserver.objectstorage", True, _OF_OBJECTS, _split_objects, True,
    ),
    "az": Scheme(
        "az://CONTAINER[/PREFIX][?SETTING=VALUE&...]", "a container of Azure Blob Storage", "",
        _objects, True, "pysftpserver.objectstorage", True, _OF_OBJECTS, _split_objects, True,
    ),
    "sftp": Scheme(
        "sftp://[USER@]HOST[:PORT][/DIR][?SETTING=VALUE&...]", "another SFTP server", "", _proxy, True,
        "pysftpserver.proxystorage", is_url=True, cannot="nlink", is_frank=True,
    ),
    "fsspec": Scheme(
        "fsspec:URL", "what fsspec opens: fsspec:memory://, fsspec:zip:///srv/a.zip and others", "fsspec",
        _fsspec, True, "pysftpserver.fsspecstorage", True, _OF_OBJECTS,
    ),
    CLASS: Scheme("MODULE:CLASS [JSON]", "a class of yours, with its arguments", "", _class, None, ""),
    SITE: Scheme(
        "FILE.toml", "a site file: storages in one tree, and who may do what there", "", _site, None,
        "pysftpserver.site.opening",
    ),
}  # fmt: skip
FORMS = ", ".join(scheme.form for scheme in list(SCHEMES.values())[:-1]) + f" or {SCHEMES[SITE].form}"
