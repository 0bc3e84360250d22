"""The storage on another SFTP server: every method sends a request to it and returns its answer.

READ and WRITE can be promised (promise_read, promise_write): an engine then has many of them in flight, and
passes each reply on when it arrives. No WRITE is answered before the server behind has answered it. The parts
are in storages/sftp/: behind (the connection, and what the server can do), handles (what is open there),
connection (requests and replies), replies (what they say), process and starter (`ssh`), address.
What may not enter: sessions, the loop of a door.
Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4.
"""

from __future__ import annotations

import os
import posixpath
from functools import partial
from stat import S_IMODE

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPFailure, SFTPNotFound, SFTPUnsupported
from pysftpserver.storages.sftp import replies
from pysftpserver.storages.sftp.address import settings_of
from pysftpserver.storages.sftp.behind import SLOW, ServerBehind
from pysftpserver.storages.sftp.connection import ConnectionLost
from pysftpserver.storages.sftp.handles import File, Listing, ReadPromise, WritePromise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.storages.sftp.connection import Answer, Buffer

LISTED_NAMES = 4096  # names of users, and of groups, that are kept from listings
COMPUTED = 20 << 20  # bytes a second: the least speed at which a server computes a checksum

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


def _completed(
    attrs: SFTPAttributes, ask: Callable[[Any], SFTPAttributes], where: bytes | File
) -> SFTPAttributes:
    """Attributes to set, with both times, or both owners, if one is set: they travel only together."""
    if (attrs.atime is None) == (attrs.mtime is None) and (attrs.uid is None) == (attrs.gid is None):
        return attrs
    now = ask(where)
    full = SFTPAttributes(attrs.size, attrs.uid, attrs.gid, attrs.permissions, attrs.atime, attrs.mtime)
    for one, other in (("atime", "mtime"), ("mtime", "atime"), ("uid", "gid"), ("gid", "uid")):
        if getattr(attrs, one) is None and getattr(attrs, other) is not None:
            setattr(full, one, getattr(now, one))
    return full


class SFTPServerProxyStorage(ServerBehind):
    """Another SFTP server's files, through OpenSSH's `ssh`.

    remote: [user[:password]@]host; the host may be an alias of ssh_config. key: a file with the private key;
    None: those that ssh tries. port: None: the one of ssh_config, or 22. ssh_config_path: None: the user's
    and the system's. ssh_agent: whether an agent may be asked. known_hosts_path: the only file with known
    hosts; None: ssh's own. check_host_key: False lets any host pose as this one. root: a path there that
    becomes "/"; None: its own "/". password, password_file: instead of one in remote; the first line of the
    file. timeout: seconds without any reply after which the connection is closed. ends_session: whether
    requests after that end the session, so that clients connect again; otherwise they fail. program: the
    program to run as ssh. Raises ValueError for an invalid argument, BadInput for a password file that cannot
    be read. connect() starts it.
    """

    @classmethod
    def from_name(cls, name: str) -> SFTPServerProxyStorage:
        """The storage with a name such as sftp://user@host:22/path?key=FILE, not connected yet.

        Raises ValueError, with one line that has no secrets.
        """
        return cls(**settings_of(name))

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
        """The clients' path for a path there; None if it is outside the root."""
        if not self._root:
            return path if path.startswith(b"/") else b"/" + path
        if path == self._root:
            return b"/"
        return path[len(self._root) :] if path.startswith(self._root + b"/") else None

    def realpath(self, path: bytes) -> bytes:
        found = self._ask(replies.path_in, wire.SSH2_FXP_REALPATH, self._path(path or b"/"))
        inside = self._inside(found)
        # A link leads out: clients must not learn where.
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
        """Parse what only the longname has: the number of links, and the names of user and group."""
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
        """Copy size bytes on the server behind, and return size; None if it cannot."""
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
        # OpenSSH's order of arguments, which every server expects.
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
