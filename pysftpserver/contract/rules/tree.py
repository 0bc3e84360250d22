"""Rules for the tree: MKDIR, RMDIR and REMOVE."""

from __future__ import annotations

from stat import S_ISDIR

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import FAILED, NOT_FOUND
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import DRAFT, MUST, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

REMOVING = f"{DRAFT}, 6.5"
DIRECTORIES = f"{DRAFT}, 6.6"
STATUSES = f"{DRAFT}, 7"


def unchanged(subject: Subject, **contents: bytes | None) -> None:
    """Check that the files still have this content, and that the directories (None) exist."""
    for name, content in contents.items():
        path = subject.path(name.encode())
        if content is None:
            subject.check(subject.exists(path), f"the directory {name} is gone")
        else:
            subject.equal(subject.content(path), content, f"the content of {name}")


# --- MKDIR and RMDIR -----------------------------------------------------------------------------------


@rule(MUST, DIRECTORIES, "MKDIR creates a directory in which files can be created.", "mkdir", "lstat")
def mkdir_makes_directory(subject: Subject) -> None:
    path = subject.path(b"d")
    subject.client.mkdir(path)
    mode = subject.client.lstat(path).permissions
    subject.check(mode is None or S_ISDIR(mode), f"what MKDIR made has the mode {mode or 0:o}")
    subject.check(subject.exists(subject.file(b"d/f")), "a file in the directory is not there")


@rule(
    SHOULD,
    DIRECTORIES,
    "MKDIR gives a directory the permissions asked for, or fewer.",
    "mkdir",
    "lstat",
    "permissions",
)
def mkdir_permissions(subject: Subject) -> None:
    for mode in (0o700, 0o750, 0o777):
        path = subject.path(b"mode-%o" % mode)
        subject.client.mkdir(path, SFTPAttributes(permissions=mode))
        found = subject.client.lstat(path).permissions
        if found is None:
            subject.broken("LSTAT does not tell the permissions of a directory")
        subject.equal(found & 0o777 & ~mode, 0, f"what a directory has beyond {mode:o}, {found & 0o777:o},")
        subject.equal(found & 0o700, 0o700, "what the owner may of its directory")


@rule(
    MUST,
    DIRECTORIES,
    "MKDIR over an existing file or directory is refused and changes nothing.",
    "mkdir",
    "open",
    "read",
    "close",
)
def mkdir_over_existing(subject: Subject) -> None:
    subject.make({b"d": None, b"d/g": b"inside", b"f": b"content"})
    for name in (b"d", b"f"):
        subject.refuses(ANY_FAILURE, subject.client.mkdir, subject.path(name))
    subject.equal(subject.content(subject.path(b"d/g")), b"inside", "the content of a file in the directory")
    unchanged(subject, f=b"content")


@rule(
    SHOULD,
    f"{STATUSES}; clients that make a path tell by it that a directory is there already",
    "MKDIR over something existing fails with FAILURE, as version 3 has no better status.",
    "mkdir",
)
def mkdir_over_existing_status(subject: Subject) -> None:
    subject.make({b"d": None, b"f": b""})
    for name in (b"d", b"f"):
        subject.refuses(FAILED, subject.client.mkdir, subject.path(name))


@rule(
    SHOULD,
    POSIX,
    "MKDIR over a link is refused, even over a dangling one.",
    "mkdir",
    "symlink",
    "lstat",
)
def mkdir_over_link(subject: Subject) -> None:
    link = subject.path(b"link")
    subject.client.symlink(b"missing", link)
    subject.refuses(ANY_FAILURE, subject.client.mkdir, link)
    subject.check(not subject.exists(subject.path(b"missing")), "MKDIR made the link's target")


@rule(
    SHOULD,
    f"{STATUSES}; {POSIX}",
    "MKDIR below a missing directory, or below a file, is refused with NO_SUCH_FILE.",
    "mkdir",
)
def mkdir_without_directory(subject: Subject) -> None:
    subject.file(b"f")
    for name in (b"missing/d", b"f/d"):
        subject.refuses(NOT_FOUND, subject.client.mkdir, subject.path(name))


@rule(MUST, DIRECTORIES, "RMDIR removes an empty directory.", "mkdir", "rmdir", "lstat")
def rmdir_removes_directory(subject: Subject) -> None:
    subject.make({b"d": None, b"e": None})
    subject.client.rmdir(subject.path(b"d"))
    subject.check(not subject.exists(subject.path(b"d")), "the directory is still there after RMDIR")
    unchanged(subject, e=None)


@rule(
    MUST,
    DIRECTORIES,
    "RMDIR of a directory that is not empty is refused and removes nothing.",
    "mkdir",
    "rmdir",
    "opendir",
)
def rmdir_of_full_directory(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b"", b"d/e": None})
    subject.refuses(ANY_FAILURE, subject.client.rmdir, subject.path(b"d"))
    subject.equal(subject.names(subject.path(b"d")), [b"e", b"f"], "what is in the directory")


@rule(
    SHOULD,
    f"{STATUSES}; OpenSSH's sftp-server",
    "RMDIR of a directory that is not empty fails with FAILURE.",
    "mkdir",
    "rmdir",
)
def rmdir_of_full_directory_status(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b""})
    subject.refuses(FAILED, subject.client.rmdir, subject.path(b"d"))


@rule(MUST, DIRECTORIES, "RMDIR of a file is refused and keeps it.", "rmdir", "open", "read", "close")
def rmdir_of_file(subject: Subject) -> None:
    subject.refuses(ANY_FAILURE, subject.client.rmdir, subject.file(b"f", b"content"))
    unchanged(subject, f=b"content")


@rule(MUST, f"{DIRECTORIES}, 7", "RMDIR of a path that does not exist is refused with NO_SUCH_FILE.", "rmdir")
def rmdir_of_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.rmdir, subject.path(b"missing"))


@rule(
    MUST,
    DIRECTORIES,
    "RMDIR of a link to a directory is refused and removes neither.",
    "mkdir",
    "rmdir",
    "symlink",
    "lstat",
)
def rmdir_of_link(subject: Subject) -> None:
    subject.make({b"d": None})
    link = subject.path(b"link")
    subject.client.symlink(b"d", link)
    subject.refuses(ANY_FAILURE, subject.client.rmdir, link)
    subject.check(subject.exists(link), "the link is gone")
    unchanged(subject, d=None)


# --- REMOVE --------------------------------------------------------------------------------------------


@rule(MUST, REMOVING, "REMOVE removes a file and no other.", "rm", "lstat")
def remove_removes_file(subject: Subject) -> None:
    subject.make({b"f": b"", b"g": b""})
    subject.client.remove(subject.path(b"f"))
    subject.check(not subject.exists(subject.path(b"f")), "the file is still there after REMOVE")
    subject.check(subject.exists(subject.path(b"g")), "another file is gone")


@rule(MUST, f"{REMOVING}, 7", "REMOVE of a path that does not exist is refused with NO_SUCH_FILE.", "rm")
def remove_of_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.remove, subject.path(b"missing"))


@rule(MUST, REMOVING, "REMOVE of a directory is refused and does not remove it.", "mkdir", "rm", "lstat")
def remove_of_directory(subject: Subject) -> None:
    subject.make({b"d": None})
    subject.refuses(ANY_FAILURE, subject.client.remove, subject.path(b"d"))
    unchanged(subject, d=None)


@rule(
    SHOULD,
    f"{STATUSES}; OpenSSH's sftp-server",
    "REMOVE of a directory fails with FAILURE or PERMISSION_DENIED.",
    "mkdir",
    "rm",
)
def remove_of_directory_status(subject: Subject) -> None:
    subject.make({b"d": None})
    subject.refuses((FAILED, wire.SSH2_FX_PERMISSION_DENIED), subject.client.remove, subject.path(b"d"))


@rule(
    SHOULD,
    POSIX,
    "REMOVE of a link removes the link and not its target.",
    "mkdir",
    "rm",
    "symlink",
    "lstat",
)
def remove_of_link(subject: Subject) -> None:
    subject.make({b"f": b"", b"d": None})
    for name, target in ((b"to-f", b"f"), (b"to-d", b"d"), (b"dangling", b"missing")):
        path = subject.path(name)
        subject.client.symlink(target, path)
        subject.client.remove(path)
        subject.check(not subject.exists(path), f"the link to {target!r} is still there after REMOVE")
    for name in (b"f", b"d"):
        subject.check(subject.exists(subject.path(name)), f"what the link led to, {name!r}, is gone")
