"""Rules for statvfs@openssh.com and fstatvfs@openssh.com."""

from __future__ import annotations

from pysftpserver.contract.client import NOT_FOUND
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import MUST, OPENSSH, POSIX, SHOULD, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

SECTION = f"{OPENSSH}, 4.4"
FIELDS = (
    "bsize",
    "frsize",
    "blocks",
    "bfree",
    "bavail",
    "files",
    "ffree",
    "favail",
    "fsid",
    "flag",
    "namemax",
)
FIXED = ("bsize", "frsize", "blocks", "flag", "namemax")  # figures that do not change with use
READ_ONLY, NO_SUID = 1, 2  # the only bits of flag
LONGEST = 1024  # bytes of the longest name that a rule makes


def figures(subject: Subject, name: bytes = b"f") -> dict[str, int]:
    """The figures for a new file, by the names of their fields."""
    return dict(zip(FIELDS, subject.client.statvfs(subject.file(name)), strict=True))


@rule(
    MUST,
    SECTION,
    "statvfs@openssh.com is answered with an EXTENDED_REPLY of eleven uint64.",
    "statvfs",
    "statvfs@openssh.com",
)
def statvfs_figures(subject: Subject) -> None:
    subject.equal(len(subject.client.statvfs(subject.file(b"f"))), len(FIELDS), "the number of figures")


@rule(
    SHOULD,
    f"{POSIX}; df on sshfs and file managers show them",
    "statvfs@openssh.com returns block sizes above 0, and no more free blocks than there are.",
    "statvfs",
    "statvfs@openssh.com",
)
def statvfs_plausible(subject: Subject) -> None:
    found = figures(subject)
    for name in ("bsize", "frsize"):
        subject.check(0 < found[name] < 1 << 40, f"f_{name} is {found[name]}")
    for less, more in (("bfree", "blocks"), ("bavail", "bfree"), ("ffree", "files"), ("favail", "ffree")):
        subject.check(
            found[less] <= found[more], f"f_{less} is {found[less]}, more than f_{more}, {found[more]}"
        )


@rule(
    MUST,
    SECTION,
    "The flags of statvfs@openssh.com are ST_RDONLY (1) and ST_NOSUID (2), and no others.",
    "statvfs",
    "statvfs@openssh.com",
)
def statvfs_flags(subject: Subject) -> None:
    flags = figures(subject)["flag"]
    subject.check(flags & ~(READ_ONLY | NO_SUID) == 0, f"f_flag is {flags:#x}")


@rule(
    SHOULD,
    SECTION,
    "statvfs@openssh.com does not report ST_RDONLY where a file was just created.",
    "statvfs",
    "open",
    "write",
    "close",
    "statvfs@openssh.com",
)
def statvfs_writable(subject: Subject) -> None:
    subject.check(not figures(subject)["flag"] & READ_ONLY, "f_flag says that the file system is read-only")


@rule(
    SHOULD,
    SECTION,
    "A name can be as long as f_namemax of statvfs@openssh.com.",
    "statvfs",
    "lstat",
    "statvfs@openssh.com",
)
def statvfs_namemax(subject: Subject) -> None:
    longest = figures(subject)["namemax"]
    subject.check(longest > 0, "f_namemax is 0")
    path = subject.file(b"x" * min(longest, LONGEST))
    subject.check(subject.exists(path), f"a file with a name of {min(longest, LONGEST)} bytes is not there")


@rule(
    SHOULD,
    SECTION,
    "A name longer than f_namemax of statvfs@openssh.com is refused, never truncated.",
    "statvfs",
    "open",
    "mkdir",
    "opendir",
    "statvfs@openssh.com",
)
def statvfs_namemax_is_a_limit(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    longest = figures(subject)["namemax"]
    if longest >= LONGEST:
        return
    name = subject.path(b"d/" + b"x" * (longest + 1))
    subject.refuses(ANY_FAILURE, subject.client.put, name, b"")
    subject.refuses(ANY_FAILURE, subject.client.mkdir, name)
    subject.equal(subject.names(subject.path(b"d")), [], "what is in the directory")


@rule(
    SHOULD,
    POSIX,
    "statvfs@openssh.com of a path that does not exist is refused with NO_SUCH_FILE.",
    "statvfs",
    "statvfs@openssh.com",
)
def statvfs_of_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.statvfs, subject.path(b"missing"))


@rule(
    SHOULD,
    POSIX,
    "statvfs@openssh.com of a directory reports the same file system as of a file in it.",
    "statvfs",
    "mkdir",
    "statvfs@openssh.com",
)
def statvfs_of_directory(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    found = figures(subject, b"d/f")
    same = dict(zip(FIELDS, subject.client.statvfs(subject.path(b"d")), strict=True))
    for name in FIXED:
        subject.equal(same[name], found[name], f"f_{name} of the directory")


@rule(
    SHOULD,
    SECTION,
    "fstatvfs@openssh.com of a handle reports the same file system as statvfs@openssh.com of its path.",
    "statvfs",
    "fstatvfs",
    "open",
    "close",
    "statvfs@openssh.com",
    "fstatvfs@openssh.com",
)
def fstatvfs_of_handle(subject: Subject) -> None:
    found = figures(subject)
    handle = subject.client.open(subject.path(b"f"))
    same = dict(zip(FIELDS, subject.client.fstatvfs(handle), strict=True))
    subject.client.close_handle(handle)
    for name in FIXED:
        subject.equal(same[name], found[name], f"f_{name} of the handle")
