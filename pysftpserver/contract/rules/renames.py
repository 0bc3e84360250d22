"""Rules for RENAME and posix-rename@openssh.com."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import FAILED, NOT_FOUND, Refused, status_name
from pysftpserver.contract.rules.tree import REMOVING, STATUSES, unchanged
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import CLIENT, MUST, OPENSSH, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

REPLACING = f"{OPENSSH}, 4.3; {POSIX}, rename()"
POSIX_RENAME = "posix-rename@openssh.com"
ROUNDS = 8  # of rules about two sessions at once


# --- what both do --------------------------------------------------------------------------------------


def kept_by(subject: Subject, rename: str) -> None:
    """Check that a renamed file has its content and attributes under the new name."""
    old, new = subject.file(b"old", b"content"), subject.path(b"new")
    before = subject.client.lstat(old)
    getattr(subject.client, rename)(old, new)
    subject.check(not subject.exists(old), "the old name is still there")
    subject.equal(subject.content(new), b"content", "the content under the new name")
    after = subject.client.lstat(new)
    for field in ("size", "uid", "gid", "permissions", "mtime"):
        if field != "mtime" or "times" not in subject.lacks:
            subject.equal(getattr(after, field), getattr(before, field), f"the {field} under the new name")


def moved_by(subject: Subject, rename: str) -> None:
    """Check that a renamed directory keeps its entries, also in another directory."""
    subject.make({b"a": None, b"a/sub": None, b"b": None, b"a/sub/f": b"content"})
    getattr(subject.client, rename)(subject.path(b"a"), subject.path(b"b/c"))
    subject.check(not subject.exists(subject.path(b"a")), "the old name is still there")
    subject.equal(subject.content(subject.path(b"b/c/sub/f")), b"content", "the content of a file in it")


def without_source(subject: Subject, rename: str) -> None:
    """Check that a rename of a missing file, or into a missing directory, is refused with NO_SUCH_FILE."""
    subject.file(b"f", b"content")
    for old, new in ((b"missing", b"new"), (b"f", b"missing/new"), (b"f", b"f/new")):
        call = getattr(subject.client, rename)
        subject.refuses(NOT_FOUND, call, subject.path(old), subject.path(new))
    unchanged(subject, f=b"content")


def into_itself(subject: Subject, rename: str) -> None:
    """Check that a rename of a directory into itself is refused."""
    subject.make({b"d": None, b"d/sub": None})
    for new in (b"d/new", b"d/sub/new"):
        call = getattr(subject.client, rename)
        subject.refuses(ANY_FAILURE, call, subject.path(b"d"), subject.path(new))
    subject.check(subject.exists(subject.path(b"d/sub")), "what was in the directory is gone")


def link_moved_by(subject: Subject, rename: str) -> None:
    """Check that a renamed link is the same link under the new name."""
    subject.file(b"f")
    for number, target in enumerate((b"f", b"missing")):
        old, new = subject.path(b"link"), subject.path(b"moved-%d" % number)
        subject.client.symlink(target, old)
        getattr(subject.client, rename)(old, new)
        subject.check(not subject.exists(old), "the old name of the link is still there")
        subject.equal(subject.client.readlink(new), target, "the text of the link under its new name")
    subject.check(subject.exists(subject.path(b"f")), "what the link led to is gone")


# --- RENAME --------------------------------------------------------------------------------------------


@rule(
    MUST,
    REMOVING,
    "RENAME gives a file a new name, with its content and attributes.",
    "rename",
    "lstat",
    "open",
    "read",
    "close",
)
def rename_of_file(subject: Subject) -> None:
    kept_by(subject, "rename")


@rule(
    MUST,
    REMOVING,
    "RENAME gives a directory a new name or another parent, with all that is in it.",
    "rename",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
)
def rename_of_directory(subject: Subject) -> None:
    moved_by(subject, "rename")


@rule(
    SHOULD,
    POSIX,
    "RENAME of a link gives the link itself a new name.",
    "rename",
    "symlink",
    "readlink",
    "lstat",
)
def rename_of_link(subject: Subject) -> None:
    link_moved_by(subject, "rename")


@rule(
    MUST,
    REMOVING,
    "RENAME to an existing name is refused for files and directories, and changes neither.",
    "rename",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
)
def rename_onto_existing(subject: Subject) -> None:
    subject.make({b"f": b"f", b"g": b"g", b"d": None, b"e": None, b"full": None, b"full/h": b"h"})
    for old in (b"f", b"d", b"full"):
        for new in {b"g", b"e", b"full"} - {old}:
            subject.refuses(ANY_FAILURE, subject.client.rename, subject.path(old), subject.path(new))
    unchanged(subject, **{"f": b"f", "g": b"g", "d": None, "e": None, "full/h": b"h"})


@rule(
    SHOULD,
    f"{STATUSES}; OpenSSH's sftp-server",
    "RENAME to an existing name fails with FAILURE, as version 3 has no better status.",
    "rename",
    "mkdir",
)
def rename_onto_existing_status(subject: Subject) -> None:
    subject.make({b"f": b"", b"g": b"", b"d": None})
    for new in (b"g", b"d"):
        subject.refuses(FAILED, subject.client.rename, subject.path(b"f"), subject.path(new))


@rule(
    MUST,
    REMOVING,
    "RENAME to the name of a link is refused, even of a dangling one.",
    "rename",
    "symlink",
    "readlink",
    "lstat",
)
def rename_onto_link(subject: Subject) -> None:
    file = subject.file(b"f")
    for name, target in ((b"link", b"f"), (b"dangling", b"missing")):
        path = subject.path(name)
        subject.client.symlink(target, path)
        subject.refuses(ANY_FAILURE, subject.client.rename, file, path)
        subject.equal(subject.client.readlink(path), target, "the text of the link")
    subject.check(subject.exists(file), "the file is gone")


@rule(
    SHOULD,
    f"{REMOVING}; {POSIX}",
    "RENAME to the same name changes nothing, whether it is refused or not.",
    "rename",
    "mkdir",
    "open",
    "read",
    "close",
)
def rename_onto_itself(subject: Subject) -> None:
    subject.make({b"f": b"content", b"d": None, b"d/g": b"inside"})
    for name in (b"f", b"d"):
        try:
            subject.client.rename(subject.path(name), subject.path(name))
        except Refused:
            continue
    unchanged(subject, **{"f": b"content", "d/g": b"inside"})


@rule(
    SHOULD,
    f"{STATUSES}; {POSIX}",
    "RENAME of a missing file, or to a missing directory, is refused with NO_SUCH_FILE.",
    "rename",
    "open",
    "read",
    "close",
)
def rename_without_source(subject: Subject) -> None:
    without_source(subject, "rename")


@rule(SHOULD, POSIX, "RENAME of a directory into itself is refused.", "rename", "mkdir", "lstat")
def rename_into_itself(subject: Subject) -> None:
    into_itself(subject, "rename")


@rule(
    SHOULD,
    f"{REMOVING}; OpenSSH's sftp-server links and unlinks",
    "Of two sessions that RENAME two files to one free name, one is refused, and no content is lost.",
    "rename",
    "lstat",
    "open",
    "read",
    "close",
    of_server=True,
)
def rename_race(subject: Subject) -> None:
    clients = (subject.client, subject.another())
    for number in range(ROUNDS):
        new = subject.path(b"new-%d" % number)
        olds = [subject.file(b"%s-%d" % (name, number), name) for name in (b"a", b"b")]
        asked = [
            client.send(wire.SSH2_FXP_RENAME, packets.sftpstring(old), packets.sftpstring(new))
            for client, old in zip(clients, olds, strict=True)
        ]
        done = [answers_ok(client, number) for client, number in zip(clients, asked, strict=True)]
        subject.equal(sorted(done), [False, True], "what the two were told (whether it was done)")
        winner = done.index(True)
        subject.equal(subject.content(new), b"ab"[winner : winner + 1], "the content under the new name")
        subject.check(subject.exists(olds[1 - winner]), "the file that was not renamed is gone")


def answers_ok(client: Client, request_id: int) -> bool:
    """Whether the STATUS that answers a request is OK."""
    return client.status_in(client.reply(request_id))[0] == wire.SSH2_FX_OK


# --- posix-rename@openssh.com --------------------------------------------------------------------------


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com gives a file a new name, with its content and attributes.",
    "rename",
    "lstat",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_of_file(subject: Subject) -> None:
    kept_by(subject, "posix_rename")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com gives a directory a new name or another parent, with all that is in it.",
    "rename",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_of_directory(subject: Subject) -> None:
    moved_by(subject, "posix_rename")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com of a link gives the link itself a new name.",
    "rename",
    "symlink",
    "readlink",
    "lstat",
    POSIX_RENAME,
)
def posix_rename_of_link(subject: Subject) -> None:
    link_moved_by(subject, "posix_rename")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com replaces a file that has the new name.",
    "rename",
    "lstat",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_replaces_file(subject: Subject) -> None:
    subject.make({b"old": b"new content", b"target": b"old content, which is longer"})
    subject.client.posix_rename(subject.path(b"old"), subject.path(b"target"))
    unchanged(subject, target=b"new content")
    subject.check(not subject.exists(subject.path(b"old")), "the old name is still there")


@rule(
    SHOULD,
    POSIX,
    "A handle of a file that posix-rename@openssh.com has replaced reads the content of that file.",
    "rename",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_leaves_open_file(subject: Subject) -> None:
    subject.make({b"old": b"new content", b"target": b"old content"})
    handle = subject.client.open(subject.path(b"target"))
    subject.client.posix_rename(subject.path(b"old"), subject.path(b"target"))
    subject.equal(subject.client.read(handle, 0, 100), b"old content", "what the handle reads")
    subject.client.close_handle(handle)


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com of a file to its own name changes nothing.",
    "rename",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_onto_itself(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    subject.client.posix_rename(path, path)
    unchanged(subject, f=b"content")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com onto a link replaces the link and not its target.",
    "rename",
    "symlink",
    "open",
    "read",
    "close",
    "lstat",
    POSIX_RENAME,
)
def posix_rename_replaces_link(subject: Subject) -> None:
    subject.make({b"target": b"target", b"f": b"f"})
    subject.client.symlink(b"target", subject.path(b"link"))
    subject.client.posix_rename(subject.path(b"f"), subject.path(b"link"))
    unchanged(subject, link=b"f", target=b"target")
    subject.check(not subject.exists(subject.path(b"f")), "the old name is still there")


@rule(
    SHOULD,
    REPLACING,
    "posix-rename@openssh.com of a directory replaces an empty directory, and no other.",
    "rename",
    "mkdir",
    "opendir",
    "lstat",
    POSIX_RENAME,
)
def posix_rename_replaces_empty_directory(subject: Subject) -> None:
    subject.make({b"d": None, b"empty": None, b"other": None, b"d/f": b"", b"other/g": b""})
    call = subject.client.posix_rename
    subject.refuses(ANY_FAILURE, call, subject.path(b"d"), subject.path(b"other"))
    subject.equal(subject.names(subject.path(b"other")), [b"g"], "what is in the directory that is not empty")
    call(subject.path(b"d"), subject.path(b"empty"))
    subject.equal(subject.names(subject.path(b"empty")), [b"f"], "what is in the directory that was empty")
    subject.check(not subject.exists(subject.path(b"d")), "the old name is still there")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com does not replace a directory by a file, or a file by a directory.",
    "rename",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_between_kinds(subject: Subject) -> None:
    subject.make({b"f": b"content", b"d": None})
    for old, new in ((b"f", b"d"), (b"d", b"f")):
        subject.refuses(ANY_FAILURE, subject.client.posix_rename, subject.path(old), subject.path(new))
    unchanged(subject, f=b"content", d=None)


@rule(
    SHOULD,
    f"{STATUSES}; {POSIX}",
    "posix-rename@openssh.com of a missing file, or to a missing directory, fails with NO_SUCH_FILE.",
    "rename",
    "open",
    "read",
    "close",
    POSIX_RENAME,
)
def posix_rename_without_source(subject: Subject) -> None:
    without_source(subject, "posix_rename")


@rule(
    MUST,
    REPLACING,
    "posix-rename@openssh.com of a directory into itself is refused.",
    "rename",
    "mkdir",
    "lstat",
    POSIX_RENAME,
)
def posix_rename_into_itself(subject: Subject) -> None:
    into_itself(subject, "posix_rename")


@rule(
    CLIENT,
    "WinSCP, rclone, lftp, sshfs and editors on it save by renaming over the old file",
    "posix-rename@openssh.com replaces atomically: other sessions always find the name.",
    "rename",
    "stat",
    POSIX_RENAME,
    of_server=True,
)
def posix_rename_without_gap(subject: Subject) -> None:
    other, target = subject.another(), subject.file(b"target", b"0")
    olds = [subject.file(b"old-%d" % number, b"content") for number in range(ROUNDS)]
    name = packets.sftpstring(POSIX_RENAME.encode())
    renames, stats = [], []
    for old in olds:
        fields = name, packets.sftpstring(old), packets.sftpstring(target)
        renames.append(subject.client.send(wire.SSH2_FXP_EXTENDED, *fields))
        stats += [other.send(wire.SSH2_FXP_STAT, packets.sftpstring(target)) for _ in range(ROUNDS)]
    for request_id in renames:
        subject.check(answers_ok(subject.client, request_id), "posix-rename@openssh.com was refused")
    for request_id in stats:
        reply = other.reply(request_id)
        if reply[4] == wire.SSH2_FXP_STATUS:
            status = other.status_in(reply)[0]
            subject.broken(f"STAT of the name was answered with {status_name(status)} while it was replaced")
