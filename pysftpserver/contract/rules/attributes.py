"""Rules for attributes: STAT, LSTAT, FSTAT, SETSTAT, FSETSTAT and lsetstat@openssh.com."""

from __future__ import annotations

from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_IMODE

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import DENIED, NEW, NOT_FOUND, READ, WRITE, refusal_of
from pysftpserver.contract.table import (
    CLIENT,
    DRAFT,
    MUST,
    OPENSSH,
    OPENSSH_SERVER,
    POSIX,
    SHOULD,
    rule,
)
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.subject import Subject

FIELDS = f"{DRAFT}, 5"
ASKING = f"{DRAFT}, 6.8"
SETTING = f"{DRAFT}, 6.9"
TYPES = "OpenSSH sftp, sshfs, FileZilla, WinSCP, rclone, paramiko (tell files from directories by it)"
LONG_AGO = 1_000_000_000  # seconds since the epoch
EARLIER = 900_000_000
DEFINED = (
    wire.SSH2_FILEXFER_ATTR_SIZE
    | wire.SSH2_FILEXFER_ATTR_UIDGID
    | wire.SSH2_FILEXFER_ATTR_PERMISSIONS
    | wire.SSH2_FILEXFER_ATTR_ACMODTIME
    | wire.SSH2_FILEXFER_ATTR_EXTENDED
)
COMPARED = ("size", "uid", "gid", "permissions", "mtime")  # reading may change atime
PAIR = packets.sftpstring(b"unknown@example.com") + packets.sftpstring(b"\0value\xff")


def mode_of(attrs: SFTPAttributes) -> str:
    """Permissions without the type, for a sentence."""
    return f"{S_IMODE(attrs.permissions or 0):o}"


def same(subject: Subject, found: SFTPAttributes, expected: SFTPAttributes, what: str) -> None:
    """Check that all fields except atime agree."""
    for field in COMPARED:
        subject.equal(getattr(found, field), getattr(expected, field), f"{what}: {field}")


def has_type(subject: Subject, attrs: SFTPAttributes, expected: int, what: str) -> None:
    """Check that there are permissions, with these type bits."""
    subject.check(attrs.permissions is not None, f"{what} says nothing about permissions")
    subject.equal(oct(S_IFMT(attrs.permissions or 0)), oct(expected), f"the file type in {what}")


# --- asking -------------------------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 5, 6.8",
    "STAT, LSTAT and FSTAT return the size of a file in bytes.",
    *"open close stat lstat fstat".split(),
)
def stat_size(subject: Subject) -> None:
    for size in (0, 1, 5, 70_000):
        path = subject.file(b"f-%d" % size, bytes(size))
        handle = subject.client.open(path)
        for name, attrs in (
            ("STAT", subject.client.stat(path)),
            ("LSTAT", subject.client.lstat(path)),
            ("FSTAT", subject.client.fstat(handle)),
        ):
            subject.equal(attrs.size, size, f"the size in {name}")
        subject.client.close_handle(handle)


@rule(
    SHOULD,
    ASKING,
    "STAT, LSTAT and FSTAT of the same file return the same attributes.",
    *"open close stat lstat fstat".split(),
)
def stat_agrees(subject: Subject) -> None:
    path = subject.file(b"f", b"12345")
    expected = subject.client.stat(path)
    same(subject, subject.client.lstat(path), expected, "LSTAT")
    same(subject, subject.client.fstat(subject.client.open(path)), expected, "FSTAT")


@rule(
    MUST,
    FIELDS,
    "ATTRS says with its flags which fields follow, and has none that version 3 does not define.",
    *"open close stat lstat fstat".split(),
    of_server=True,
)
def stat_flags(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"12345")
    handle = client.open(path)
    for kind, of in (
        (wire.SSH2_FXP_STAT, path),
        (wire.SSH2_FXP_LSTAT, path),
        (wire.SSH2_FXP_FSTAT, handle),
        (wire.SSH2_FXP_STAT, subject.path()),
    ):
        reply = client.ask(kind, packets.sftpstring(of))
        client.expect("STAT", reply, packets.get_sftpstat)  # decodes to its last byte
        flags = wire.u32_at(reply, 9, len(reply))
        subject.check(not flags & ~DEFINED, f"ATTRS has flags that are not defined: {flags & ~DEFINED:#x}")


@rule(
    SHOULD,
    f"{FIELDS} (the server returns all that it knows)",
    "STAT and LSTAT of a file have its size, its permissions and its times.",
    *"stat lstat".split(),
    of_server=True,
)
def stat_fields(subject: Subject) -> None:
    path = subject.file(b"f", b"12345")
    for name, ask in (("STAT", subject.client.stat), ("LSTAT", subject.client.lstat)):
        attrs = ask(path)
        missing = [field for field in ("size", "permissions", "mtime") if getattr(attrs, field) is None]
        subject.equal(missing, [], f"what {name} leaves out")


@rule(
    CLIENT,
    TYPES,
    "The permissions of a file have the type bits of a regular file.",
    *"open close stat lstat fstat".split(),
)
def type_of_a_file(subject: Subject) -> None:
    path = subject.file(b"f")
    has_type(subject, subject.client.stat(path), S_IFREG, "STAT")
    has_type(subject, subject.client.lstat(path), S_IFREG, "LSTAT")
    has_type(subject, subject.client.fstat(subject.client.open(path)), S_IFREG, "FSTAT")


@rule(
    CLIENT,
    TYPES,
    "The permissions of a directory have the type bits of a directory.",
    *"mkdir stat lstat".split(),
)
def type_of_a_directory(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    for path in (subject.path(b"d"), subject.path()):
        has_type(subject, subject.client.stat(path), S_IFDIR, "STAT")
        has_type(subject, subject.client.lstat(path), S_IFDIR, "LSTAT")


@rule(
    MUST,
    f"{DRAFT}, 7",
    "STAT and LSTAT of a path that does not exist fail with NO_SUCH_FILE.",
    *"stat lstat".split(),
)
def stat_missing(subject: Subject) -> None:
    for path in (subject.path(b"missing"), subject.path(b"missing/f")):
        for ask in (subject.client.stat, subject.client.lstat):
            subject.refuses(NOT_FOUND, ask, path)


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "STAT and LSTAT of a path that has a file where a directory should be fail with NO_SUCH_FILE.",
    *"stat lstat".split(),
)
def stat_below_a_file(subject: Subject) -> None:
    path = subject.file(b"f") + b"/below"
    for ask in (subject.client.stat, subject.client.lstat):
        subject.refuses(NOT_FOUND, ask, path)


@rule(
    MUST,
    f"{DRAFT}, 6.1",
    "FSTAT shows the size after the WRITEs sent before it on the same handle.",
    *"open close write fstat".split(),
)
def fstat_grows(subject: Subject) -> None:
    handle = subject.client.open(subject.path(b"f"), NEW)
    for size in (1, 10, 100_000):
        subject.client.write(handle, size - 1, b"x")
        subject.equal(subject.client.fstat(handle).size, size, "the size")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{DRAFT}, 6.1; sshfs",
    "STAT of an open file shows the size after the WRITEs that were answered.",
    *"open close write stat".split(),
)
def stat_grows(subject: Subject) -> None:
    path = subject.file(b"f")
    handle = subject.client.open(path, WRITE)
    for size in (1, 10, 100_000):
        subject.client.write(handle, size - 1, b"x")
        subject.equal(subject.client.stat(path).size, size, "the size")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{POSIX}, fstat",
    "FSTAT answers for a handle whose file was removed or renamed.",
    *"open close fstat rm rename".split(),
    of_server=True,
)
def fstat_without_a_name(subject: Subject) -> None:
    client = subject.client
    for name in (b"removed", b"renamed"):
        handle = client.open(subject.file(name, b"12345"))
        if name == b"removed":
            client.remove(subject.path(name))
        else:
            client.rename(subject.path(name), subject.path(b"new"))
        subject.equal(client.fstat(handle).size, 5, f"the size of a file that was {name.decode()}")
        client.close_handle(handle)


@rule(
    CLIENT,
    "rclone, WinSCP, lftp (compare times to see what has changed)",
    "WRITE updates the modification time.",
    *"open close write stat setstat times".split(),
)
def write_moves_mtime(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"old")
    client.setstat(path, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
    handle = client.open(path, WRITE)
    client.write(handle, 0, b"new")
    client.close_handle(handle)
    subject.check((client.stat(path).mtime or 0) > LONG_AGO, "mtime is what it was before the WRITE")


# --- size ---------------------------------------------------------------------------------------------


def _sizes(subject: Subject, set_size: Callable[[SFTPAttributes], None], path: bytes) -> None:
    for size, expected in ((4, b"0123"), (7, b"0123\0\0\0"), (0, b""), (3, b"\0\0\0")):
        set_size(SFTPAttributes(size=size))
        subject.equal(subject.client.stat(path).size, size, "the size")
        subject.equal(subject.content(path), expected, f"the content after its size was set to {size}")


@rule(
    MUST,
    SETTING,
    "SETSTAT of a size truncates a file, or extends it with zeros.",
    *"setstat stat open read close".split(),
)
def setstat_size(subject: Subject) -> None:
    path = subject.file(b"f", b"0123456789")
    _sizes(subject, lambda attrs: subject.client.setstat(path, attrs), path)


@rule(
    MUST,
    SETTING,
    "FSETSTAT of a size truncates a file, or extends it with zeros.",
    *"fsetstat stat open read write close".split(),
)
def fsetstat_size(subject: Subject) -> None:
    path = subject.file(b"f", b"0123456789")
    handle = subject.client.open(path, READ | WRITE)
    _sizes(subject, lambda attrs: subject.client.fsetstat(handle, attrs), path)


@rule(
    SHOULD,
    f"{POSIX}, ftruncate",
    "FSETSTAT of a size is refused on a handle that is open for reading only.",
    *"fsetstat open read close".split(),
)
def fsetstat_size_read_only(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path, READ)
    subject.refuses(None, subject.client.fsetstat, handle, SFTPAttributes(size=0))
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"content", "the content")


@rule(
    SHOULD,
    f"{POSIX}, truncate",
    "SETSTAT of the size of a directory is refused.",
    *"setstat mkdir".split(),
)
def setstat_size_of_a_directory(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    subject.refuses(None, subject.client.setstat, subject.path(b"d"), SFTPAttributes(size=0))


@rule(
    MUST,
    SETTING,
    "SETSTAT of a size that no file can have is refused, and the file is not changed.",
    *"setstat open read close".split(),
)
def setstat_impossible_size(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    for size in (1 << 63, (1 << 64) - 1):
        subject.refuses(None, subject.client.setstat, path, SFTPAttributes(size=size))
    subject.equal(subject.content(path), b"content", "the content")


# --- permissions, times, owner ------------------------------------------------------------------------


@rule(
    MUST,
    SETTING,
    "SETSTAT sets the permissions of files and directories.",
    *"setstat lstat permissions mkdir".split(),
)
def setstat_permissions(subject: Subject) -> None:
    subject.make({b"f": b"", b"d": None})
    for name in (b"f", b"d"):
        path = subject.path(name)
        for mode in (0o600, 0o751, 0o700, 0o777):
            subject.client.setstat(path, SFTPAttributes(permissions=mode))
            subject.equal(mode_of(subject.client.lstat(path)), f"{mode:o}", "the permissions")


@rule(
    SHOULD,
    FIELDS,
    "SETSTAT accepts permissions with type bits, as STAT answers them, and does not change the type.",
    *"setstat lstat permissions mkdir".split(),
)
def setstat_type_bits(subject: Subject) -> None:
    subject.make({b"f": b"", b"d": None})
    for name, kind in ((b"f", S_IFREG), (b"d", S_IFDIR)):
        for bits in (kind, S_IFREG, S_IFDIR, S_IFLNK):
            subject.client.setstat(subject.path(name), SFTPAttributes(permissions=bits | 0o750))
            attrs = subject.client.lstat(subject.path(name))
            has_type(subject, attrs, kind, "LSTAT")
            subject.equal(mode_of(attrs), "750", "the permissions")


@rule(
    MUST,
    f"{DRAFT}, 5, 6.9",
    "SETSTAT sets the times of files and directories, to the second.",
    *"setstat lstat times mkdir".split(),
)
def setstat_times(subject: Subject) -> None:
    subject.make({b"f": b"", b"d": None})
    for name in (b"f", b"d"):
        path = subject.path(name)
        for atime, mtime in ((EARLIER, LONG_AGO), (EARLIER + 1, LONG_AGO + 1), (LONG_AGO, EARLIER)):
            subject.client.setstat(path, SFTPAttributes(atime=atime, mtime=mtime))
            attrs = subject.client.lstat(path)
            subject.equal((attrs.atime, attrs.mtime), (atime, mtime), "atime and mtime")


@rule(
    SHOULD,
    FIELDS,
    "SETSTAT accepts every time that an unsigned 32-bit number holds, from 1970 to 2106.",
    *"setstat lstat times".split(),
)
def setstat_times_range(subject: Subject) -> None:
    path = subject.file(b"f")
    for moment in (0, 1, (1 << 31) - 1, 1 << 31, 4_000_000_000, (1 << 32) - 1):
        subject.client.setstat(path, SFTPAttributes(atime=moment, mtime=moment))
        subject.equal(subject.client.lstat(path).mtime, moment, "mtime")


@rule(
    MUST,
    SETTING,
    "SETSTAT of the owner sets it, or is refused with PERMISSION_DENIED and changes nothing.",
    *"setstat lstat owner".split(),
)
def setstat_owner(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f")
    before = client.lstat(path)
    refusal = refusal_of(client.setstat, path, SFTPAttributes(uid=12345, gid=23456))
    after = client.lstat(path)
    if refusal is None:
        subject.equal((after.uid, after.gid), (12345, 23456), "the owner")
    else:
        subject.equal(refusal.status, DENIED, "the status of the refusal")
        subject.equal((after.uid, after.gid), (before.uid, before.gid), "the owner")


@rule(
    SHOULD,
    f"{POSIX}, chown",
    "SETSTAT of the owner that a file already has succeeds.",
    *"setstat lstat owner".split(),
)
def setstat_same_owner(subject: Subject) -> None:
    path = subject.file(b"f")
    attrs = subject.client.lstat(path)
    subject.client.setstat(path, SFTPAttributes(uid=attrs.uid, gid=attrs.gid))
    after = subject.client.lstat(path)
    subject.equal((after.uid, after.gid), (attrs.uid, attrs.gid), "the owner")


@rule(
    MUST,
    f"{FIELDS} (the values of the remaining attributes are not modified)",
    "SETSTAT does not change the attributes that it does not name.",
    *"setstat lstat permissions times".split(),
)
def setstat_leaves_the_rest(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"content")
    client.setstat(path, SFTPAttributes(permissions=0o640, atime=EARLIER, mtime=LONG_AGO))
    before = client.lstat(path)
    client.setstat(path, SFTPAttributes(permissions=0o600))
    after = client.lstat(path)
    subject.equal(mode_of(after), "600", "the permissions")
    for field in ("size", "uid", "gid", "atime", "mtime"):
        subject.equal(getattr(after, field), getattr(before, field), f"{field} after permissions were set")
    client.setstat(path, SFTPAttributes(atime=EARLIER + 1, mtime=LONG_AGO + 1))
    after = client.lstat(path)
    for field in ("size", "uid", "gid"):
        subject.equal(getattr(after, field), getattr(before, field), f"{field} after times were set")
    client.setstat(path, SFTPAttributes(size=3))
    subject.equal(mode_of(client.lstat(path)), "600", "the permissions after the size was set")


@rule(
    SHOULD,
    SETTING,
    "SETSTAT and FSETSTAT without any attribute succeed and change nothing.",
    *"setstat fsetstat lstat open close permissions times".split(),
)
def setstat_nothing(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"content")
    client.setstat(path, SFTPAttributes(permissions=0o640, atime=EARLIER, mtime=LONG_AGO))
    before = client.lstat(path)
    client.setstat(path, SFTPAttributes())
    handle = client.open(path, READ)
    client.fsetstat(handle, SFTPAttributes())
    client.close_handle(handle)
    same(subject, client.lstat(path), before, "LSTAT")


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "SETSTAT and FSETSTAT set size, permissions and times in this order, so that the times are kept.",
    *"setstat fsetstat open lstat permissions times close".split(),
)
def setstat_all_at_once(subject: Subject) -> None:
    attrs = SFTPAttributes(size=3, permissions=0o400, atime=EARLIER, mtime=LONG_AGO)
    subject.make({b"by-path": b"content", b"by-handle": b"content"})
    subject.client.setstat(subject.path(b"by-path"), attrs)
    handle = subject.client.open(subject.path(b"by-handle"), READ | WRITE)
    subject.client.fsetstat(handle, attrs)
    subject.client.close_handle(handle)
    for name in (b"by-path", b"by-handle"):
        after = subject.client.lstat(subject.path(name))
        subject.equal(after.size, 3, f"the size, set {name.decode()}")
        subject.equal((after.atime, after.mtime), (EARLIER, LONG_AGO), f"the times, set {name.decode()}")
        subject.equal(mode_of(after), "400", f"the permissions, set {name.decode()}")


@rule(
    MUST,
    SETTING,
    "SETSTAT of a path that does not exist fails with NO_SUCH_FILE.",
    *"setstat permissions times".split(),
)
def setstat_missing(subject: Subject) -> None:
    for attrs in (
        SFTPAttributes(permissions=0o600),
        SFTPAttributes(atime=1, mtime=1),
        SFTPAttributes(size=0),
    ):
        subject.refuses(NOT_FOUND, subject.client.setstat, subject.path(b"missing"), attrs)


@rule(
    MUST,
    SETTING,
    "FSETSTAT sets the permissions and the times of an open file.",
    *"fsetstat open close lstat permissions times".split(),
)
def fsetstat_fields(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"content")
    handle = client.open(path, READ | WRITE)
    client.fsetstat(handle, SFTPAttributes(permissions=0o640))
    client.fsetstat(handle, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
    client.close_handle(handle)
    attrs = client.lstat(path)
    subject.equal(mode_of(attrs), "640", "the permissions")
    subject.equal((attrs.atime, attrs.mtime), (EARLIER, LONG_AGO), "atime and mtime")


@rule(
    CLIENT,
    "OpenSSH sftp (put -p) and scp (-p), lftp",
    "Times that FSETSTAT sets after the last WRITE are kept when the file is closed.",
    *"fsetstat open close write stat times".split(),
)
def fsetstat_times_before_close(subject: Subject) -> None:
    client, path = subject.client, subject.path(b"f")
    handle = client.open(path, NEW)
    client.write(handle, 0, b"content")
    client.fsetstat(handle, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
    client.close_handle(handle)
    subject.equal(client.stat(path).mtime, LONG_AGO, "mtime after CLOSE")


@rule(
    CLIENT,
    "WinSCP, rclone, FileZilla (set the times after closing the file)",
    "STAT answers the times that SETSTAT has set after CLOSE.",
    *"setstat open close write stat times".split(),
)
def setstat_times_after_close(subject: Subject) -> None:
    client, path = subject.client, subject.path(b"f")
    client.put(path, b"content")
    client.setstat(path, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
    subject.equal(client.stat(path).mtime, LONG_AGO, "mtime")


# --- what a request may have besides ------------------------------------------------------------------


@rule(
    SHOULD,
    FIELDS,
    "SETSTAT and FSETSTAT ignore extended attributes that they do not know, and set the others.",
    *"setstat fsetstat stat open close".split(),
    of_server=True,
)
def setstat_extended(subject: Subject) -> None:
    client = subject.client
    flags = wire.SSH2_FILEXFER_ATTR_SIZE | wire.SSH2_FILEXFER_ATTR_EXTENDED
    attributes = packets.sftpint(flags) + packets.sftpint64(3) + packets.sftpint(2) + PAIR * 2
    for name in (b"by-path", b"by-handle"):
        path = subject.file(name, b"content")
        if name == b"by-path":
            kind, of = wire.SSH2_FXP_SETSTAT, path
        else:
            kind, of = wire.SSH2_FXP_FSETSTAT, client.open(path, READ | WRITE)
        client.expect("SETSTAT", client.ask(kind, packets.sftpstring(of), attributes), packets.get_sftpstatus)
        subject.equal(client.stat(path).size, 3, "the size")


@rule(
    MUST,
    f"{FIELDS}, 7",
    "A request with many extended attributes is answered, and the session goes on.",
    *"setstat stat".split(),
    of_server=True,
)
def setstat_many_extended(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"content")
    for count in (0, 1, 100, 1_000):
        attributes = packets.sftpint(wire.SSH2_FILEXFER_ATTR_EXTENDED) + packets.sftpint(count) + PAIR * count
        client.status_of(wire.SSH2_FXP_SETSTAT, packets.sftpstring(path), attributes)
    subject.equal(client.stat(path).size, 7, "the size")


# --- links --------------------------------------------------------------------------------------------


@rule(
    MUST,
    f"{OPENSSH}, 4.7",
    "lsetstat@openssh.com of a path that does not exist fails with NO_SUCH_FILE.",
    *"lsetstat@openssh.com permissions times".split(),
)
def lsetstat_missing(subject: Subject) -> None:
    for attrs in (SFTPAttributes(permissions=0o600), SFTPAttributes(atime=1, mtime=1)):
        subject.refuses(NOT_FOUND, subject.client.lsetstat, subject.path(b"missing"), attrs)
