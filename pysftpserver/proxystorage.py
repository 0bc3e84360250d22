"""The storage on another SFTP server: every method is a request to it, and every answer is its own.

READ and WRITE can be promised (promise_read, promise_write): an engine then has many of them in flight, and
passes each reply on when it comes. No WRITE is answered before the server behind has answered it. What may
not enter: sessions, the loop of a door.
Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4.
"""

from __future__ import annotations

import errno
import os
import posixpath
from functools import partial
from itertools import count
from stat import S_IMODE

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import (
    SFTPEndOfFile,
    SFTPException,
    SFTPFailure,
    SFTPNotFound,
    SFTPSessionEnd,
    SFTPUnavailable,
    SFTPUnsupported,
)
from pysftpserver.storages.sftp import replies
from pysftpserver.storages.sftp.address import TIMEOUT, Address, settings_of
from pysftpserver.storages.sftp.connection import GONE, OVER, Answer, Connection, ConnectionLost
from pysftpserver.storages.sftp.process import SSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from pysftpserver.storages.sftp.connection import Buffer
    from pysftpserver.storages.sftp.starter import Starter

    T = TypeVar("T")

WINDOW = 8 << 20  # bytes of READs and WRITEs in flight
CONNECTING = 30.0  # seconds for the connection, the login and the first replies
HURRY = 5.0  # the same for one of several storages
USUAL_READ = 32768  # bytes that every server takes in a READ or WRITE (the draft, section 3)
LEAST_READ = 4096  # bytes: a server that takes less would get very many requests for one
MOST_IN_VAIN = 100  # replies of a listing, one after the other, without a name that can be shown
LISTED_NAMES = 4096  # names of users, and of groups, that are kept from listings
SLOW = 10  # times the timeout: fsync, copies and checksums
COMPUTED = 20 << 20  # bytes a second that a server computes a checksum of, at least

_FLAGS = (
    (os.O_APPEND, wire.SSH2_FXF_APPEND),
    (os.O_CREAT, wire.SSH2_FXF_CREAT),
    (os.O_TRUNC, wire.SSH2_FXF_TRUNC),
    (os.O_EXCL, wire.SSH2_FXF_EXCL),
)
_ACCESS = {
    os.O_RDONLY: wire.SSH2_FXF_READ,
    os.O_WRONLY: wire.SSH2_FXF_WRITE,
    os.O_RDWR: wire.SSH2_FXF_READ | wire.SSH2_FXF_WRITE,
}
#: Extensions of the server behind, and the methods that need them, as the engine's table has them.
NEEDED = {
    b"posix-rename@openssh.com": "rename(replace)",
    b"statvfs@openssh.com": "statvfs",
    b"fstatvfs@openssh.com": "fstatvfs",
    b"hardlink@openssh.com": "link",
    b"fsync@openssh.com": "fsync",
    b"lsetstat@openssh.com": "lsetstat",
    b"users-groups-by-id@openssh.com": "username",
}


class File:
    """An open file of the server behind. connection: which knows it. name: its handle, encoded. reading,
    writing: the last promises.
    """

    __slots__ = ("connection", "is_appended", "is_written", "name", "reading", "writing")

    def __init__(self, connection: Connection, name: bytes, flags: int) -> None:
        self.connection = connection
        self.name = name
        self.is_appended = bool(flags & os.O_APPEND)
        self.is_written = flags & os.O_ACCMODE != os.O_RDONLY
        self.reading: Answer | None = None
        self.writing: Answer | None = None


class Promise:
    """A READ or WRITE that is in flight; parts of it where the server behind takes no more at once.

    is_kept() does not wait. result() waits; it returns what read() would, or raises what read() or write()
    would. fileno() becomes readable when is_kept() may have another result, at the latest after
    seconds_left(), when it has to be asked again.
    """

    __slots__ = ("_connection", "_parts")

    def __init__(self, connection: Connection, parts: list[tuple[Answer, int]]) -> None:
        self._connection = connection
        self._parts = parts

    def is_kept(self) -> bool:
        last = self._parts[-1][0]
        if not last.is_here:
            self._connection.look()
        return all(answer.is_here for answer, _ in self._parts)

    def fileno(self) -> int:
        return self._connection.readiness.fileno()

    def seconds_left(self) -> float:
        return max(0.0, self._connection.seconds_left())


class ReadPromise(Promise):
    __slots__ = ()

    def result(self) -> Buffer:
        """The content, empty at the end of the file."""
        found: list[memoryview] = []
        for answer, size in self._parts:
            data = self._connection.decoded(answer, partial(replies.data_in, size))
            found.append(data)
            if len(data) < size:
                break
        return found[0] if len(found) == 1 else b"".join(found)


class WritePromise(Promise):
    __slots__ = ()

    def result(self) -> None:
        """Returns when all is stored."""
        failure = None
        for answer, _ in self._parts:
            try:
                self._connection.decoded(answer, replies.expect_ok)
            except SFTPException as error:
                failure = failure or error
        if failure is not None:
            raise failure


class Listing:
    """The entries of a directory, one READDIR ahead of the client. Raises again what it has raised."""

    def __init__(
        self, connection: Connection, name: bytes, learn: Callable[[bytes, SFTPAttributes], None]
    ) -> None:
        self._connection = connection
        self._name = name
        self._learn = learn
        self._entries: Iterator[tuple[bytes, bytes, SFTPAttributes]] = iter(())
        self._next: Answer = connection.send(wire.SSH2_FXP_READDIR, name)

    def __iter__(self) -> Listing:
        return self

    def __next__(self) -> tuple[bytes, SFTPAttributes]:
        for number in count():
            for name, longname, attrs in self._entries:
                self._learn(longname, attrs)
                return name, attrs
            if number == MOST_IN_VAIN:
                self._connection.lose("it broke the protocol: a listing without names that does not end")
            try:
                self._entries = iter(self._connection.decoded(self._next, replies.entries_in))
            except SFTPEndOfFile:
                raise StopIteration from None
            self._next = self._connection.send(wire.SSH2_FXP_READDIR, self._name)
        raise AssertionError

    def close(self) -> None:
        """The client is done."""
        if self._connection.lost is None:
            self._connection.send(wire.SSH2_FXP_CLOSE, self._name)


def _completed(
    attrs: SFTPAttributes, ask: Callable[[Any], SFTPAttributes], where: bytes | File
) -> SFTPAttributes:
    """Attributes to set, with both times and both owners where there is one: they travel only together."""
    if (attrs.atime is None) == (attrs.mtime is None) and (attrs.uid is None) == (attrs.gid is None):
        return attrs
    now = ask(where)
    full = SFTPAttributes(attrs.size, attrs.uid, attrs.gid, attrs.permissions, attrs.atime, attrs.mtime)
    for one, other in (("atime", "mtime"), ("mtime", "atime"), ("uid", "gid"), ("gid", "uid")):
        if getattr(attrs, one) is None and getattr(attrs, other) is not None:
            setattr(full, one, getattr(now, one))
    return full


class SFTPServerProxyStorage(SFTPAbstractServerStorage):
    """Another SFTP server's files, through OpenSSH's `ssh`.

    remote: [user[:password]@]host; the host may be an alias of ssh_config. key: a file with the private
    key; None: those that ssh tries. ssh_config_path: None: the user's and the system's. ssh_agent: whether an
    agent may be asked. known_hosts_path: the one file with known hosts; None: ssh's own. check_host_key:
    False lets any host pose as this one. root: a path there that becomes "/"; None: its own "/". password,
    password_file: instead of one in remote; of the file, the first line. timeout: seconds without any reply
    after which the connection is given up. ends_session: whether requests after that end the session, so that
    clients connect anew; else they fail. program: what is started as ssh.
    Raises ValueError for what cannot be used, BadInput for a password file that cannot be read. connect()
    starts it.
    """

    home = b"/"
    window = WINDOW

    #: Whether it is connected when it is needed, and again once the connection is lost: for one of several
    #: storages. In a sandbox as well; what was open stays lost.
    keeps_trying = False

    def __init__(
        self,
        remote: str,
        key: str | None = None,
        port: int | None = None,
        ssh_config_path: str | None = None,
        ssh_agent: bool = False,
        known_hosts_path: str | None = None,
        *,
        check_host_key: bool = True,
        root: bytes | None = None,
        password: str | None = None,
        password_file: str | None = None,
        timeout: float = TIMEOUT,
        ends_session: bool = False,
        program: str = "ssh",
    ) -> None:
        self.address = Address(
            remote, key, port, ssh_config_path, ssh_agent, known_hosts_path, check_host_key
        )
        if password_file is not None:
            from pysftpserver.host.wholefiles import first_line

            password = first_line(password_file, "password file", keep_spaces=True)
        self._password = self.address.password if password is None else password
        self.address.password = None
        self.timeout = timeout
        self.ends_session = ends_session
        self.extensions: dict[bytes, bytes] = {}
        self.lacks: frozenset[str] = frozenset()
        self._root = b"" if root is None else root.rstrip(b"/")
        self._program = program
        self._ssh: SSH | None = None
        self._starter: Starter | None = None
        self._open: Connection | None = None
        self._most_read = self._most_write = USUAL_READ
        self._users: dict[int, bytes | None] = {}
        self._groups: dict[int, bytes | None] = {}

    @classmethod
    def from_name(cls, name: str) -> SFTPServerProxyStorage:
        """The storage with a name such as sftp://user@host:22/path?key=FILE, not connected yet.

        Raises ValueError, with one line that has no secrets.
        """
        return cls(**settings_of(name))

    @property
    def label(self) -> str:
        """How messages to the operator name the storage."""
        return f"{self.address}{os.fsdecode(self._root)}"

    # --- the connection -----------------------------------------------------------------------------

    def connect(self, patience: float = CONNECTING) -> None:
        """Start ssh, log in, and ask what the server can do.

        patience: seconds. Raises SFTPUnavailable with words for the operator. May be called again once the
        connection is lost; what was open stays lost.
        """
        self._hang_up()
        try:
            if self._starter is None:
                self._ssh = ssh = SSH(self._command(patience), self._password)
            else:
                self._ssh = ssh = self._starter.start()
        except OSError as error:
            raise SFTPUnavailable(f"{self._program} cannot be started: {reason_of(error)}") from None
        self.use(Connection(ssh.reading, ssh.writing, patience, ssh.errors, ssh.listen, ssh.words))
        ssh.forget_password()

    def _command(self, patience: float) -> list[str]:
        return self.address.ssh_command(self._program, self._password is not None, max(1, int(patience)))

    def use(self, connection: Connection) -> None:
        """Say hello on a connection, and serve it from now on. Raises SFTPUnavailable, and closes it."""
        self._open = connection
        try:
            self._begin(connection)
        except (SFTPException, replies.BadReply) as error:
            words = str(error) if connection.lost is None else connection.reason
            self._hang_up()
            raise SFTPUnavailable(words) from None
        connection.timeout = self.timeout
        self.uses_network = False  # ssh does, and it runs

    def _begin(self, connection: Connection) -> None:
        version, self.extensions = replies.extensions_in(connection.hello())
        if version != wire.SFTP_VERSION:
            raise replies.BadReply(f"it speaks version {version} of SFTP")
        self.lacks = frozenset(method for name, method in NEEDED.items() if name not in self.extensions)
        limits = None
        if b"limits@openssh.com" in self.extensions:
            limits = connection.send(wire.SSH2_FXP_EXTENDED, wire.encode_string(b"limits@openssh.com"))
        start = connection.send(wire.SSH2_FXP_REALPATH, wire.encode_string(self._root or b"."))
        if limits is not None:
            _, read, write, _ = connection.decoded(limits, replies.limits_in)
            self._most_read = min(max(read or USUAL_READ, LEAST_READ), wire.MAX_DATA)
            self._most_write = min(max(write or USUAL_READ, LEAST_READ), wire.MAX_DATA)
        path = connection.decoded(start, replies.path_in)
        if self._root:
            self._root = path.rstrip(b"/")
            attrs = connection.decoded(
                connection.send(wire.SSH2_FXP_STAT, wire.encode_string(path + b"/.")), replies.attributes_in
            )
            if not (attrs.permissions or 0o040000) & 0o040000:
                raise SFTPFailure(f"{os.fsdecode(path)}: not a directory")
        else:
            self.home = path

    def territory(self) -> Sequence[int]:
        """No files of this host. What connects again is started, if that may be needed."""
        if self.keeps_trying and self._starter is None:
            from pysftpserver.storages.sftp.starter import Starter

            self._starter = Starter(self._command(HURRY), self._password)
            self.uses_network = False
        return ()

    def release(self) -> None:
        self.close_client()

    def close_client(self) -> None:
        """End the connection, for good. May be called again."""
        self._hang_up()
        if self._starter is not None:
            self._starter.close()

    def _hang_up(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._ssh is not None:
            self._ssh.end()
            self._ssh = None

    @property
    def _connection(self) -> Connection:
        """The connection. Raises SFTPUnavailable if there is none, SFTPSessionEnd once it was lost."""
        connection = self._open
        is_lost = connection is None or connection.lost is not None and connection.reason != OVER
        if is_lost and self.keeps_trying:
            try:
                self.connect(HURRY)
            except SFTPUnavailable as error:  # whose words are the operator's
                raise ConnectionLost(GONE) from OSError(errno.ENOTCONN, str(error))
            connection = self._open
        if connection is None:
            raise SFTPUnavailable("The server behind is not connected")
        if connection.lost is None or connection.reason == OVER:
            return connection
        if self._ssh is not None:
            self._ssh.end()  # its descriptors and its process are of no use any more
            self._ssh = None
        if self.ends_session:
            raise SFTPSessionEnd(f"{self.label}: {connection.reason}")
        return connection

    def _ask(self, decode: Callable[[bytearray], T], kind: int, *fields: Buffer, slowly: bool = False) -> T:
        """Send a request, wait, and return what its reply says. slowly: it may take very long."""
        connection = self._connection
        if not slowly:
            return connection.decoded(connection.send(kind, *fields), decode)
        connection.timeout = SLOW * self.timeout
        try:
            return connection.decoded(connection.send(kind, *fields), decode)
        finally:
            connection.timeout = self.timeout

    def _extended(
        self, name: bytes, decode: Callable[[bytearray], T], *fields: Buffer, slowly: bool = False
    ) -> T:
        """The same for an extension. Raises SFTPUnsupported if the server behind does not have it."""
        if name not in self.extensions:
            raise SFTPUnsupported
        return self._ask(decode, wire.SSH2_FXP_EXTENDED, wire.encode_string(name), *fields, slowly=slowly)

    def _name(self, handle: File) -> bytes:
        """What the server behind calls an open file. Raises ConnectionLost if it was another connection's."""
        connection = handle.connection
        if connection is not self._open or self.keeps_trying and connection.lost is not None:
            raise ConnectionLost(GONE)
        return handle.name

    # --- paths --------------------------------------------------------------------------------------

    def _path(self, path: bytes) -> bytes:
        """The path there, encoded. With a root, `..` is resolved by the text, so that it cannot lead out."""
        if not path:
            raise SFTPNotFound
        if self._root:
            if b".." in path:
                is_directory = path.endswith((b"/", b"/.", b"/.."))
                path = posixpath.normpath(b"/" + path.lstrip(b"/")) + (b"/" if is_directory else b"")
            path = self._root + (path if path.startswith(b"/") else b"/" + path)
        return wire.encode_string(path)

    def _inside(self, path: bytes) -> bytes | None:
        """What clients call a path there; None if it is outside of the root."""
        if not self._root:
            return path if path.startswith(b"/") else b"/" + path
        if path == self._root:
            return b"/"
        return path[len(self._root) :] if path.startswith(self._root + b"/") else None

    def realpath(self, path: bytes) -> bytes:
        found = self._ask(replies.path_in, wire.SSH2_FXP_REALPATH, self._path(path or b"/"))
        inside = self._inside(found)
        # A link leads out: where to is not for clients to know.
        return inside if inside is not None else super().realpath(path)

    def userhome(self, user: bytes) -> bytes:
        if not user:
            return self.home or b"/"
        if b"home-directory" in self.extensions:
            try:
                found = self._extended(b"home-directory", replies.path_in, wire.encode_string(user))
            except ConnectionLost:
                raise
            except SFTPFailure:
                found = b""  # OpenSSH's status for a user that it does not know
        else:
            path = wire.encode_string(b"~" + user)
            try:
                found = self._extended(b"expand-path@openssh.com", replies.path_in, path)
            except SFTPUnsupported:
                found = b""
        inside = self._inside(found) if found else None
        if inside is None:
            raise SFTPNotFound("No such user")
        return inside

    def username(self, uid: int) -> bytes | None:
        return self._name_of(self._users, 0, uid)

    def groupname(self, gid: int) -> bytes | None:
        return self._name_of(self._groups, 1, gid)

    def _name_of(self, known: dict[int, bytes | None], which: int, number: int) -> bytes | None:
        if number not in known:
            if b"users-groups-by-id@openssh.com" not in self.extensions or len(known) >= LISTED_NAMES:
                return None
            lists = [wire.encode_string(b""), wire.encode_string(b"")]
            lists[which] = wire.encode_string(wire.encode_u32(number & 0xFFFFFFFF))
            found = self._extended(b"users-groups-by-id@openssh.com", replies.strings_in, *lists)[which]
            known[number] = found[0] or None if found else None
        return known[number]

    # --- attributes ---------------------------------------------------------------------------------

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._ask(replies.attributes_in, wire.SSH2_FXP_STAT, self._path(path))

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._ask(replies.attributes_in, wire.SSH2_FXP_LSTAT, self._path(path))

    def fstat(self, handle: File) -> SFTPAttributes:
        return self._ask(replies.attributes_in, wire.SSH2_FXP_FSTAT, self._name(handle))

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        fields = self._path(path), wire.encode_attributes(_completed(attrs, self.stat, path))
        self._ask(replies.expect_ok, wire.SSH2_FXP_SETSTAT, *fields)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        fields = self._path(path), wire.encode_attributes(_completed(attrs, self.lstat, path))
        self._extended(b"lsetstat@openssh.com", replies.expect_ok, *fields)

    def fsetstat(self, handle: File, attrs: SFTPAttributes) -> None:
        fields = self._name(handle), wire.encode_attributes(_completed(attrs, self.fstat, handle))
        self._ask(replies.expect_ok, wire.SSH2_FXP_FSETSTAT, *fields)

    # --- directories --------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Listing:
        connection = self._connection
        name = self._ask(replies.handle_in, wire.SSH2_FXP_OPENDIR, self._path(path))
        return Listing(connection, name, self._learn)

    def _learn(self, longname: bytes, attrs: SFTPAttributes) -> None:
        """Take what only the longname says: the number of links, and the names of user and group."""
        words = longname.split(None, 5)
        if len(words) != 6 or not words[1].isdigit() or words[4] != b"%d" % (attrs.size or 0):
            return  # no such line, or one with a name of several words
        attrs.nlink = int(words[1][:9])
        for known, number, name in ((self._users, attrs.uid, words[2]), (self._groups, attrs.gid, words[3])):
            if number is not None and number not in known and len(known) < LISTED_NAMES:
                known[number] = None if name.isdigit() else name

    def mkdir(self, path: bytes, mode: int) -> None:
        attrs = wire.encode_attributes(SFTPAttributes(permissions=S_IMODE(mode)))
        self._ask(replies.expect_ok, wire.SSH2_FXP_MKDIR, self._path(path), attrs)

    def rmdir(self, path: bytes) -> None:
        self._ask(replies.expect_ok, wire.SSH2_FXP_RMDIR, self._path(path))

    # --- files --------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> File:
        pflags = _ACCESS[flags & os.O_ACCMODE]
        for native, portable in _FLAGS:
            pflags |= portable if flags & native else 0
        attrs = SFTPAttributes(permissions=S_IMODE(mode)) if flags & os.O_CREAT else SFTPAttributes()
        fields = self._path(path), wire.encode_u32(pflags), wire.encode_attributes(attrs)
        connection = self._connection
        name = self._ask(replies.handle_in, wire.SSH2_FXP_OPEN, *fields)
        return File(connection, name, flags)

    def read(self, handle: File, off: int, size: int) -> Buffer:
        if not size:
            return b""
        found = bytearray()
        while len(found) < size:  # not every server reads as much as it was asked for
            parts = self._send_reads(handle, off + len(found), size - len(found))
            data = ReadPromise(self._connection, parts).result()
            if not data:
                break
            found += data
        return found

    def promise_read(self, handle: File, off: int, size: int) -> ReadPromise | None:
        """READ without waiting for the content; None if it would overtake a WRITE."""
        if handle.writing is not None and not handle.writing.is_here:
            return None
        parts = self._send_reads(handle, off, size)
        handle.reading = parts[-1][0]
        return ReadPromise(self._connection, parts)

    def _send_reads(self, handle: File, off: int, size: int) -> list[tuple[Answer, int]]:
        name, connection = self._name(handle), self._connection
        parts = []
        for start in range(0, size, self._most_read):
            part = min(self._most_read, size - start)
            where = wire.encode_u64(off + start) + wire.encode_u32(part)
            parts.append((connection.send(wire.SSH2_FXP_READ, name, where), part))
        return parts

    def write(self, handle: File, off: int, chunk: Buffer) -> None:
        WritePromise(self._connection, self._send_writes(handle, off, chunk)).result()

    def promise_write(self, handle: File, off: int, chunk: Buffer) -> WritePromise | None:
        """WRITE without waiting until it is stored; None if it would overtake a READ."""
        if handle.reading is not None and not handle.reading.is_here:
            return None
        parts = self._send_writes(handle, off, chunk)
        handle.writing = parts[-1][0]
        return WritePromise(self._connection, parts)

    def _send_writes(self, handle: File, off: int, chunk: Buffer) -> list[tuple[Answer, int]]:
        name, connection = self._name(handle), self._connection
        parts = []
        view = memoryview(chunk)
        for start in range(0, len(chunk) or 1, self._most_write):
            part = view[start : start + self._most_write]
            where = wire.encode_u64(off if handle.is_appended else off + start) + wire.encode_u32(len(part))
            parts.append((connection.send(wire.SSH2_FXP_WRITE, name, where, part), len(part)))
        return parts

    def copy_range(self, source: File, off: int, size: int, target: File, target_off: int) -> int | None:
        """Copy size bytes there, without moving them here; None if the server behind cannot."""
        if b"copy-data" not in self.extensions:
            return None
        ranges = wire.encode_u64(off) + wire.encode_u64(size)
        fields = self._name(source), ranges, self._name(target), wire.encode_u64(target_off)
        try:
            self._extended(b"copy-data", replies.expect_ok, *fields, slowly=True)
        except ConnectionLost:
            raise
        except (SFTPEndOfFile, SFTPFailure, SFTPUnsupported):
            return None  # reading and writing finds out more
        return size

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        """A digest that the server behind computes; None if it cannot, or not in time."""
        name = algorithm.encode()
        if name not in self.extensions.get(b"check-file", b"").split(b","):
            return None
        if (self.stat(path).size or 0) > SLOW * self.timeout * COMPUTED:
            return None
        fields = self._path(path), wire.encode_string(name), bytes(20)  # all of it, in one block
        ask = partial(self._ask, partial(replies.digest_in, name), wire.SSH2_FXP_EXTENDED, slowly=True)
        try:
            return ask(wire.encode_string(b"check-file-name"), *fields)
        except ConnectionLost:
            raise
        except (SFTPFailure, SFTPUnsupported):
            return None  # reading finds out more

    def close(self, handle: File) -> None:
        if not handle.is_written:  # whatever the answer is, nothing is lost
            name = self._name(handle)
            self._connection.send(wire.SSH2_FXP_CLOSE, name)
            return
        self._ask(replies.expect_ok, wire.SSH2_FXP_CLOSE, self._name(handle))

    def abandon(self, handle: File) -> None:
        """The same, unless the connection is lost: then the server behind has closed it."""
        if handle.connection is self._open and handle.connection.lost is None:
            try:
                self.close(handle)
            except ConnectionLost:
                pass

    def fsync(self, handle: File) -> None:
        self._extended(b"fsync@openssh.com", replies.expect_ok, self._name(handle), slowly=True)

    # --- the tree -----------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        self._ask(replies.expect_ok, wire.SSH2_FXP_REMOVE, self._path(path))

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        fields = self._path(old), self._path(new)
        if replace:
            self._extended(b"posix-rename@openssh.com", replies.expect_ok, *fields)
        else:
            self._ask(replies.expect_ok, wire.SSH2_FXP_RENAME, *fields)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        # OpenSSH's order of arguments, which is every server's.
        target = self._root + target if target.startswith(b"/") else target
        fields = wire.encode_string(target), self._path(linkpath)
        self._ask(replies.expect_ok, wire.SSH2_FXP_SYMLINK, *fields)

    def readlink(self, path: bytes) -> bytes:
        target = self._ask(replies.path_in, wire.SSH2_FXP_READLINK, self._path(path))
        inside = self._inside(target) if target.startswith(b"/") else None
        return target if inside is None else inside

    def link(self, old: bytes, new: bytes) -> None:
        fields = self._path(old), self._path(new)
        self._extended(b"hardlink@openssh.com", replies.expect_ok, *fields)

    def statvfs(self, path: bytes) -> replies.Figures:
        return self._extended(b"statvfs@openssh.com", replies.figures_in, self._path(path))

    def fstatvfs(self, handle: File) -> replies.Figures:
        return self._extended(b"fstatvfs@openssh.com", replies.figures_in, self._name(handle))
