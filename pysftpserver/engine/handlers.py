"""How each request is served: one short function for each.

A handler does three things: parse (already done by the decoder in its row of the table), act (through the
storage), reply. It raises errors, which the engine answers. A handler that moves file content returns how
many bytes it moved. What may not enter: I/O other than the storage's, wire encodings.
Facts: draft-ietf-secsh-filexfer-02, sections 6 and 8; OpenSSH's PROTOCOL, section 4, and what its
sftp-server does where the draft is silent.
"""

from __future__ import annotations

import errno
import os
import time
from itertools import islice

from pysftpserver.abstractstorage import known_checksum
from pysftpserver.engine import wire
from pysftpserver.engine.copying import copy_data
from pysftpserver.engine.log import VERBOSE
from pysftpserver.engine.session import check_count, check_offset
from pysftpserver.failures import os_error, show
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPEndOfFile,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.attributes import NameOfId, SFTPAttributes
    from pysftpserver.engine.session import Session

# --- files --------------------------------------------------------------------------------------------

_OPEN_FLAGS = (
    (wire.SSH2_FXF_APPEND, os.O_APPEND),
    (wire.SSH2_FXF_CREAT, os.O_CREAT),
    (wire.SSH2_FXF_TRUNC, os.O_TRUNC),
    (wire.SSH2_FXF_EXCL, os.O_EXCL),
)


NAMES_HEADER = 9  # bytes of a NAME between its length field and its entries
NAMING = 0.04  # seconds of processor time for the names of users, and for those of groups
MAX_NAMES = 64 << 10  # bytes of a READDIR reply: sshfs takes 128 KiB, and larger ones are no faster


def _open_flags(pflags: int) -> int:
    """The os.O_* flags for the SSH2_FXF_* ones. If neither READ nor WRITE is set, open for reading."""
    writes = pflags & wire.SSH2_FXF_WRITE
    if pflags & wire.SSH2_FXF_READ and writes:
        flags = os.O_RDWR
    else:
        flags = os.O_WRONLY if writes else os.O_RDONLY
    for portable, native in _OPEN_FLAGS:
        if pflags & portable:
            flags |= native
    return flags


OPEN_FLAGS = tuple(map(_open_flags, range(2 * wire.SSH2_FXF_EXCL)))


def serve_open(session: Session, rid: int, path: bytes, pflags: int, attrs: SFTPAttributes) -> None:
    """SSH_FXP_OPEN, section 6.3: a HANDLE."""
    flags = OPEN_FLAGS[pflags % len(OPEN_FLAGS)]
    if session.read_only and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        session.log.write(VERBOSE, "Refusing open request in read-only mode")
        raise SFTPForbidden
    session.handles.check_room()
    opened = session.storage.open(session.path(path), flags, session.mode(attrs, 0o666))
    session.send_handle(rid, session.handles.add_file(path, flags, opened))


def serve_close(session: Session, rid: int, handle: bytes) -> None:
    """SSH_FXP_CLOSE, section 6.3: a STATUS."""
    session.handles.close(handle)
    session.send_status(rid)


def serve_read(session: Session, rid: int, handle: bytes, offset: int, length: int) -> int:
    """SSH_FXP_READ, section 6.4: a DATA, shorter than asked for only at the end of the file."""
    file = session.handles.file(handle)
    size = min(length, session.limits.data)
    check_offset(offset)
    data = session.storage.read(file.object, offset, size)
    if not data and size:  # asking for 0 bytes is odd, but not an error
        if file.fetched is not None:
            file.fetched.end = offset
        raise SFTPEndOfFile
    if type(data) is not bytes:
        data = bytes(memoryview(data or b""))  # the storage may use its buffer again before this is sent
    if len(data) > size:
        data = data[:size]
    session.send_data(rid, data)
    file.bytes_read += len(data)
    if file.fetched is not None:
        file.fetched.feed(offset, data)
    return len(data)


def serve_write(session: Session, rid: int, handle: bytes, offset: int, chunk: bytes | memoryview) -> int:
    """SSH_FXP_WRITE, section 6.4: a STATUS when all of the chunk is stored."""
    file = session.handles.file(handle)
    if file.flags & os.O_APPEND:
        offset = 0  # the client's offset is ignored: the end of the file is meant
    check_offset(offset)
    chunk = chunk if file.takes_views else bytes(chunk)
    answer = session.storage.write(file.object, offset, chunk)  # type: ignore[func-returns-value]
    if answer is not None:
        check_count(answer, len(chunk))
    file.bytes_written += len(chunk)
    if file.stored is not None:
        file.stored.feed(file.stored.position if file.flags & os.O_APPEND else offset, chunk)
    session.send_status(rid)
    return len(chunk)


def serve_fsync(session: Session, rid: int, handle: bytes) -> None:
    """fsync@openssh.com: a STATUS."""
    session.storage.fsync(session.handles.file(handle).object)
    session.send_status(rid)


def serve_copy_data(
    session: Session, rid: int, source: bytes, offset: int, length: int, target: bytes, target_offset: int
) -> int:
    """copy-data: a STATUS when the bytes are copied."""
    reading, writing = session.handles.file(source), session.handles.file(target)
    if writing.stored is not None:
        writing.stored.spoil()
    copied = copy_data(session, reading, offset, length, writing, target_offset)
    session.send_status(rid)
    return copied


def serve_check_file_name(
    session: Session, rid: int, path: bytes, algorithms: bytes, offset: int, length: int, block: int
) -> None:
    """check-file-name: an algorithm, and the digests of a part of a file. A digest of all may be known."""
    from pysftpserver.engine import checksums

    algorithm = checksums.chosen(algorithms, block)
    place = session.path(path)
    if not offset and not length and not block:
        known = known_checksum(session.storage, place, algorithm)
        if known is not None and len(known) == checksums.SIZES[algorithm]:
            session.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, wire.encode_string(algorithm.encode()) + known)
            return
    session.handles.check_room()
    file = session.handles.opened_file(path, os.O_RDONLY, session.storage.open(place, os.O_RDONLY, 0))
    try:
        body = checksums.reply(session, file, offset, length, block, algorithm, b"")
    finally:
        session.handles.close_file(file)
    session.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, body)


def serve_check_file_handle(
    session: Session, rid: int, handle: bytes, algorithms: bytes, offset: int, length: int, block: int
) -> None:
    """check-file-handle: the same of an open file."""
    _check_file(session, rid, handle, algorithms, (offset, length, block))


def serve_check_file(
    session: Session, rid: int, handle: bytes, algorithms: bytes, offset: int, length: int, block: int
) -> None:
    """check-file, as paramiko sends it: the same, after the name of the extension."""
    _check_file(session, rid, handle, algorithms, (offset, length, block), wire.encode_string(b"check-file"))


def _check_file(
    session: Session,
    rid: int,
    handle: bytes,
    algorithms: bytes,
    part: tuple[int, int, int],
    prefix: bytes = b"",
) -> None:
    from pysftpserver.engine import checksums

    algorithm = checksums.chosen(algorithms, part[2])
    body = checksums.reply(session, session.handles.file(handle), *part, algorithm, prefix)
    session.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, body)


# --- attributes ---------------------------------------------------------------------------------------


def serve_stat(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_STAT, section 6.8: ATTRS, links followed."""
    session.send_attrs(rid, session.storage.stat(session.path(path)))


def serve_lstat(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_LSTAT, section 6.8: ATTRS of a link itself."""
    session.send_attrs(rid, session.storage.lstat(session.path(path)))


def serve_fstat(session: Session, rid: int, handle: bytes) -> None:
    """SSH_FXP_FSTAT, section 6.8: ATTRS of an open file."""
    session.send_attrs(rid, session.storage.fstat(session.handles.file(handle).object))


def serve_setstat(session: Session, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    """SSH_FXP_SETSTAT, section 6.9: a STATUS; without any attribute, it succeeds."""
    if not attrs.is_empty():
        session.storage.setstat(session.path(path), session.attributes(attrs))
        if attrs.size is not None:
            session.handles.spoil_digests()
    session.send_status(rid)


def serve_lsetstat(session: Session, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    """lsetstat@openssh.com: SETSTAT that follows no link."""
    if attrs.size is not None:
        raise SFTPBadMessage("lsetstat takes no size")
    if not attrs.is_empty():
        session.storage.lsetstat(session.path(path), session.attributes(attrs))
    session.send_status(rid)


def serve_fsetstat(session: Session, rid: int, handle: bytes, attrs: SFTPAttributes) -> None:
    """SSH_FXP_FSETSTAT, section 6.9: SETSTAT of an open file."""
    file = session.handles.file(handle)
    if attrs.size is not None and not file.flags & (os.O_WRONLY | os.O_RDWR):
        attrs.size = None  # the rest is changed all the same, as by sftp-server
        if not attrs.is_empty():
            session.storage.fsetstat(file.object, session.attributes(attrs))
        raise os_error(errno.EINVAL)  # as ftruncate(2), on any storage
    session.storage.fsetstat(file.object, session.attributes(attrs))
    if attrs.size is not None:
        session.handles.spoil_digests()
    session.send_status(rid)


# --- directories --------------------------------------------------------------------------------------


def serve_opendir(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_OPENDIR, section 6.7: a HANDLE."""
    session.handles.check_room()
    listing = session.storage.opendir(session.path(path))
    session.send_handle(rid, session.handles.add_directory(path, listing))


def serve_readdir(session: Session, rid: int, handle: bytes) -> None:
    """SSH_FXP_READDIR, section 6.7: a NAME with as many entries as MAX_NAMES holds, and at least one."""
    directory = session.handles.directory(handle)
    if directory.is_broken:
        raise SFTPFailure("The listing broke off; open the directory again")
    most = session.limits.packet - NAMES_HEADER
    room = min(most, MAX_NAMES - wire.PACKET_HEADER - NAMES_HEADER)
    entries = []
    if directory.waiting is not None:
        entries.append(directory.waiting)
        room -= len(directory.waiting)
        directory.waiting = None
    else:
        session.longnames.refresh()
    longname = session.longnames.longname
    try:
        for name, attrs in islice(directory.entries, session.limits.entries - len(entries)):
            entry = wire.encode_name_entry(name, longname(name, attrs), attrs)
            if len(entry) > most:
                session.log.error(f"a name of {len(name)} bytes does not fit into a packet, and is left out")
                continue
            room -= len(entry)
            if room < 0 and entries:
                directory.waiting = entry
                break
            entries.append(entry)
    except BaseException:
        # A generator that has raised would simply end next time, and the listing would look complete.
        directory.is_broken = getattr(directory.entries, "gi_frame", directory) is None
        raise
    if not entries:
        raise SFTPEndOfFile
    session.send(wire.SSH2_FXP_NAME, rid, wire.encode_names(entries))


def serve_mkdir(session: Session, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    """SSH_FXP_MKDIR, section 6.6: a STATUS."""
    session.storage.mkdir(session.path(path), session.mode(attrs, 0o777))
    session.send_status(rid)


def serve_rmdir(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_RMDIR, section 6.6: a STATUS."""
    if path.rstrip(b"/").rpartition(b"/")[2] == b".":
        session.storage.lstat(session.path(path))
        raise os_error(errno.EINVAL)  # as rmdir(2), on any storage
    session.storage.rmdir(session.path(path))
    session.send_status(rid)


# --- the tree -----------------------------------------------------------------------------------------


def serve_remove(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_REMOVE, section 6.5: a STATUS."""
    session.storage.rm(session.path(path))
    session.send_status(rid)


def serve_rename(session: Session, rid: int, path: bytes, target: bytes) -> None:
    """SSH_FXP_RENAME, section 6.5: a STATUS; an existing target is a failure."""
    session.storage.rename(session.path(path), session.path(target))
    session.send_status(rid)


def serve_posix_rename(session: Session, rid: int, path: bytes, target: bytes) -> None:
    """posix-rename@openssh.com: RENAME that replaces."""
    session.storage.rename(session.path(path), session.path(target), replace=True)
    session.send_status(rid)


def serve_symlink(session: Session, rid: int, target: bytes, path: bytes) -> None:
    """SSH_FXP_SYMLINK, section 6.10: a STATUS."""
    # OpenSSH's order of arguments, not the draft's, is what every client sends.
    session.storage.symlink(session.path(path), target)
    session.send_status(rid)


def serve_hardlink(session: Session, rid: int, path: bytes, target: bytes) -> None:
    """hardlink@openssh.com: a STATUS."""
    session.storage.link(session.path(path), session.path(target))
    session.send_status(rid)


def serve_readlink(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_READLINK, section 6.10: a NAME without attributes."""
    session.send_name(rid, session.storage.readlink(session.path(path)))


# --- names --------------------------------------------------------------------------------------------


def serve_realpath(session: Session, rid: int, path: bytes) -> None:
    """SSH_FXP_REALPATH, section 6.11: a NAME without attributes; no path is the start directory."""
    session.send_name(rid, session.storage.realpath(session.path(path or b".")))


def expand_tilde(session: Session, path: bytes) -> bytes:
    """The path to pass to the storage, for a client's path that may begin with `~` or `~user`."""
    if path.startswith(b"~"):
        user, slash, rest = path[1:].partition(b"/")
        path = session.storage.userhome(user) + slash + rest
    return session.path(path or b".")


def serve_expand_path(session: Session, rid: int, path: bytes) -> None:
    """expand-path@openssh.com: REALPATH that knows `~` and `~user`."""
    try:
        full = expand_tilde(session, path)
    except SFTPNotFound:
        user = path[1:].partition(b"/")[0]
        session.log.error(f"tilde_expand: No such user {show(user)}")
        raise
    session.send_name(rid, session.storage.realpath(full))


def serve_home_directory(session: Session, rid: int, user: bytes) -> None:
    """home-directory: a NAME with a user's home directory; no name means the session's own user."""
    try:
        session.send_name(rid, session.storage.userhome(user))
    except SFTPNotFound as error:
        raise SFTPFailure(str(error)) from None  # OpenSSH's status here; `~user` keeps its own


def _names(session: Session, name: NameOfId, numbers: tuple[int, ...]) -> Iterator[bytes]:
    end = time.thread_time() + NAMING
    for number in numbers:
        if session.stopping:  # there may be tens of thousands, each looked up on the host
            raise SFTPFailure("The server is going down")
        if time.thread_time() > end:
            raise SFTPFailure("Too many users or groups at once; ask for fewer")
        yield name(number) or b""


def serve_users_groups(session: Session, rid: int, uids: tuple[int, ...], gids: tuple[int, ...]) -> None:
    """users-groups-by-id@openssh.com: names, empty for unknown numbers."""
    users = wire.encode_string_list(_names(session, session.storage.username, uids))
    groups = wire.encode_string_list(_names(session, session.storage.groupname, gids))
    session.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, users + groups)


# --- figures ------------------------------------------------------------------------------------------


def serve_statvfs(session: Session, rid: int, path: bytes) -> None:
    """statvfs@openssh.com: statistics of a file system."""
    session.send_statvfs(rid, session.storage.statvfs(session.path(path)))


def serve_fstatvfs(session: Session, rid: int, handle: bytes) -> None:
    """fstatvfs@openssh.com: the same for an open file."""
    session.send_statvfs(rid, session.storage.fstatvfs(session.handles.file(handle).object))


def serve_limits(session: Session, rid: int) -> None:
    """limits@openssh.com: the limits of this server, in bytes and handles."""
    limits = session.limits
    body = wire.encode_limits(limits.packet, limits.data, limits.data, limits.handles)
    session.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, body)
