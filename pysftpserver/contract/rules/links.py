"""Rules for symbolic and hard links."""

from __future__ import annotations

from stat import S_ISLNK

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import CREAT, EXCL, NOT_FOUND, WRITE
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, OPENSSH, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

LINKS = f"{DRAFT}, 6.10"
STATS = f"{DRAFT}, 6.8"
HARD_LINKS = f"{OPENSSH}, 4.5"
TEXTS = (b"f", b"/absolute/path", b"../..//up/./", b"missing \xff\n'\"", b"x" * 1000, b"%s")
CHAIN = 8  # links in a row, the minimum that POSIX's SYMLOOP_MAX allows
THEN = SFTPAttributes(atime=1_000_000_000, mtime=1_000_000_001)


def links(subject: Subject, **targets: bytes) -> dict[str, bytes]:
    """Make a link for each keyword, with that name and target; return their paths by keyword."""
    paths = {name: subject.path(name.encode()) for name in targets}
    for name, target in targets.items():
        subject.client.symlink(target, paths[name])
    return paths


def link_to(subject: Subject, text: bytes) -> bytes:
    """Make a link through which something will be made, and check that it has this text: a server that
    changes the text could make that thing outside the rule's directory."""
    link = subject.path(b"link")
    subject.client.symlink(text, link)
    subject.equal(subject.client.readlink(link), text, "the text of the link")
    return link


# --- SYMLINK and READLINK ------------------------------------------------------------------------------


@rule(MUST, LINKS, "READLINK returns a link's target byte for byte.", "symlink", "readlink")
def link_text(subject: Subject) -> None:
    for number, text in enumerate(TEXTS):
        path = subject.path(b"link-%d" % number)
        subject.client.symlink(text, path)
        subject.equal(subject.client.readlink(path), text, "the text of a link")


@rule(
    CLIENT,
    f"{OPENSSH}, 4.1; all clients that make links send this order",
    "SYMLINK takes the target first and the link's path second, as OpenSSH does.",
    "symlink",
    "readlink",
)
def symlink_target_first(subject: Subject) -> None:
    # With the draft's order, the link is made at the target: that must be in the directory as well.
    path, target = subject.path(b"link"), subject.path(b"target")
    fields = packets.sftpstring(target), packets.sftpstring(path)
    status = subject.client.status_of(wire.SSH2_FXP_SYMLINK, *fields)
    subject.equal(status, wire.SSH2_FX_OK, "the status of SYMLINK with a target that does not exist")
    subject.equal(subject.client.readlink(path), target, "the text of the link")


@rule(MUST, LINKS, "READLINK of a file or a directory is refused.", "readlink", "mkdir")
def readlink_of_no_link(subject: Subject) -> None:
    subject.make({b"f": b"", b"d": None})
    subject.refuses(ANY_FAILURE, subject.client.readlink, subject.path(b"f"))
    subject.refuses(ANY_FAILURE, subject.client.readlink, subject.path(b"d"))


@rule(MUST, f"{DRAFT}, 7", "READLINK of a path that does not exist is refused with NO_SUCH_FILE.", "readlink")
def readlink_of_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.readlink, subject.path(b"missing"))


@rule(
    SHOULD,
    POSIX,
    "SYMLINK over an existing file, directory or link is refused and changes nothing.",
    "symlink",
    "readlink",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
)
def symlink_over_existing(subject: Subject) -> None:
    subject.make({b"f": b"content", b"d": None})
    link = links(subject, link=b"old")["link"]
    for path in (subject.path(b"f"), subject.path(b"d"), link):
        subject.refuses(ANY_FAILURE, subject.client.symlink, b"new", path)
    subject.equal(subject.content(subject.path(b"f")), b"content", "the file's content")
    subject.check(subject.exists(subject.path(b"d")), "SYMLINK removed the directory that was there")
    subject.equal(subject.client.readlink(link), b"old", "the text of the link that was there")


@rule(
    SHOULD,
    POSIX,
    "SYMLINK in a directory that does not exist is refused with NO_SUCH_FILE.",
    "symlink",
)
def symlink_without_directory(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.symlink, b"f", subject.path(b"missing/link"))


# --- where links lead ----------------------------------------------------------------------------------


@rule(MUST, STATS, "STAT of a link returns the attributes of its target.", "symlink", "stat")
def stat_follows_links(subject: Subject) -> None:
    subject.file(b"f", b"12345")
    link = links(subject, link=b"f")["link"]
    subject.equal(subject.client.stat(link).size, 5, "the size that STAT of a link to 5 bytes gives")


@rule(MUST, STATS, "LSTAT of a link returns the attributes of the link itself.", "symlink", "lstat")
def lstat_of_link(subject: Subject) -> None:
    subject.file(b"f", b"12345")
    link = links(subject, link=b"f")["link"]
    mode = subject.client.lstat(link).permissions
    subject.check(mode is None or S_ISLNK(mode), f"LSTAT of a link has the mode {mode or 0:o}")
    subject.check(mode is not None, "LSTAT of a link does not say what it is: permissions are missing")


@rule(
    SHOULD,
    f"{POSIX}; sshfs passes it on, and programs size their buffers by it",
    "LSTAT of a link has the length of its target's path as the size.",
    "symlink",
    "lstat",
)
def lstat_of_link_size(subject: Subject) -> None:
    link = links(subject, link=b"x" * 100)["link"]
    subject.equal(subject.client.lstat(link).size, 100, "the size of a link with a text of 100 bytes")


@rule(SHOULD, POSIX, f"A chain of {CHAIN} links is followed to its end.", "symlink", "stat")
def link_chain(subject: Subject) -> None:
    subject.file(b"link-0", b"12345")
    for number in range(CHAIN):
        subject.client.symlink(b"link-%d" % number, subject.path(b"link-%d" % (number + 1)))
    found = subject.client.stat(subject.path(b"link-%d" % CHAIN))
    subject.equal(found.size, 5, "the size at the end of the chain")


@rule(
    SHOULD,
    POSIX,
    "STAT, OPEN and OPENDIR of links that form a loop are refused.",
    "symlink",
    "stat",
    "open",
    "opendir",
)
def link_circle(subject: Subject) -> None:
    made = links(subject, self=b"self", a=b"b", b=b"a")
    subject.refuses(ANY_FAILURE, subject.client.open, made["self"])
    subject.refuses(ANY_FAILURE, subject.client.stat, made["a"])
    subject.refuses(ANY_FAILURE, subject.client.opendir, made["a"] + b"/d")


@rule(
    SHOULD,
    POSIX,
    "A link to itself can be looked up with LSTAT, read and removed.",
    "symlink",
    "lstat",
    "readlink",
    "rm",
)
def link_circle_can_be_removed(subject: Subject) -> None:
    path = links(subject, self=b"self")["self"]
    subject.check(subject.exists(path), "LSTAT does not find a link that leads to itself")
    subject.equal(subject.client.readlink(path), b"self", "the link's text")
    subject.client.remove(path)
    subject.check(not subject.exists(path), "the link is still there after REMOVE")


@rule(
    MUST,
    f"{STATS}, 7",
    "STAT and OPEN of a dangling link are refused with NO_SUCH_FILE; LSTAT finds the link.",
    "symlink",
    "stat",
    "lstat",
    "open",
)
def dangling_link(subject: Subject) -> None:
    link = links(subject, link=b"missing")["link"]
    subject.refuses(NOT_FOUND, subject.client.stat, link)
    subject.refuses(NOT_FOUND, subject.client.open, link)
    subject.check(subject.exists(link), "LSTAT does not find the link")


@rule(
    SHOULD,
    POSIX,
    "OPEN with CREAT of a dangling link creates its target.",
    "symlink",
    "readlink",
    "open",
    "read",
    "write",
    "close",
)
def open_makes_target(subject: Subject) -> None:
    link = link_to(subject, b"target")
    handle = subject.client.open(link, WRITE | CREAT)
    subject.client.write(handle, 0, b"content")
    subject.client.close_handle(handle)
    subject.equal(subject.content(subject.path(b"target")), b"content", "the content of the link's target")


@rule(
    SHOULD,
    POSIX,
    "OPEN with CREAT and EXCL of a link is refused, even of a dangling one.",
    "symlink",
    "readlink",
    "open",
    "lstat",
)
def open_excl_of_link(subject: Subject) -> None:
    link = link_to(subject, b"target")
    subject.refuses(ANY_FAILURE, subject.client.open, link, WRITE | CREAT | EXCL)
    subject.check(not subject.exists(subject.path(b"target")), "the link's target was made all the same")


@rule(SHOULD, POSIX, "OPEN follows a link to a file.", "symlink", "open", "read", "close")
def open_follows_links(subject: Subject) -> None:
    subject.file(b"f", b"content")
    link = links(subject, link=b"f")["link"]
    subject.equal(subject.content(link), b"content", "what is read through the link")


@rule(SHOULD, POSIX, "OPENDIR follows a link to a directory.", "symlink", "mkdir", "opendir")
def opendir_follows_links(subject: Subject) -> None:
    subject.make({b"d": None, b"d/inside": b""})
    link = links(subject, link=b"d")["link"]
    subject.equal(subject.names(link), [b"inside"], "what is listed through the link")


@rule(
    SHOULD,
    POSIX,
    "A relative link is resolved from the directory that it is in.",
    "symlink",
    "mkdir",
    "open",
    "read",
    "close",
)
def relative_link(subject: Subject) -> None:
    subject.make({b"d": None, b"f": b"above", b"d/f": b"below"})
    for name, target, expected in ((b"d/same", b"f", b"below"), (b"d/up", b"../f", b"above")):
        subject.client.symlink(target, subject.path(name))
        subject.equal(subject.content(subject.path(name)), expected, f"what a link to {target!r} leads to")


@rule(
    SHOULD,
    POSIX,
    "A link to an absolute path that REALPATH returned is resolved to what the client sees there.",
    "symlink",
    "mkdir",
    "open",
    "read",
    "close",
)
def absolute_link(subject: Subject) -> None:
    subject.make({b"d": None, b"f": b"content"})
    link = subject.path(b"d/link")
    subject.client.symlink(subject.client.realpath(subject.path(b"f")), link)
    subject.equal(subject.content(link), b"content", "what the link leads to")


@rule(
    SHOULD,
    POSIX,
    "A link to a directory can be in the middle of a path.",
    "symlink",
    "mkdir",
    "lstat",
    "open",
    "read",
    "close",
)
def link_inside_path(subject: Subject) -> None:
    subject.make({b"d": None, b"d/sub": None, b"d/sub/f": b"content"})
    path = links(subject, link=b"d")["link"] + b"/sub/f"
    subject.equal(subject.content(path), b"content", "the content of the target of the link")
    subject.equal(subject.client.lstat(path).size, 7, "its size, with LSTAT")


@rule(SHOULD, POSIX, "SETSTAT of a link changes its target.", "symlink", "setstat", "stat", "times")
def setstat_follows_links(subject: Subject) -> None:
    file = subject.file(b"f")
    link = links(subject, link=b"f")["link"]
    subject.client.setstat(link, THEN)
    subject.equal(subject.client.stat(file).mtime, THEN.mtime, "the time of the file")


@rule(
    MUST,
    f"{OPENSSH}, 4.7",
    "lsetstat@openssh.com of a link changes the link and not its target.",
    "symlink",
    "lsetstat",
    "lstat",
    "times",
    "lsetstat@openssh.com",
)
def lsetstat_of_link(subject: Subject) -> None:
    file = subject.file(b"f")
    link = links(subject, link=b"f")["link"]
    before = subject.client.lstat(file).mtime
    subject.client.lsetstat(link, THEN)
    subject.equal(subject.client.lstat(link).mtime, THEN.mtime, "the time of the link")
    subject.equal(subject.client.lstat(file).mtime, before, "the time of the file")


@rule(
    MUST,
    f"{OPENSSH}, 4.7",
    "lsetstat@openssh.com of a file does what SETSTAT does.",
    "lsetstat",
    "lstat",
    "times",
    "lsetstat@openssh.com",
)
def lsetstat_of_file(subject: Subject) -> None:
    file = subject.file(b"f")
    subject.client.lsetstat(file, THEN)
    subject.equal(subject.client.lstat(file).mtime, THEN.mtime, "the time of the file")


# --- hardlink@openssh.com ------------------------------------------------------------------------------


@rule(
    MUST,
    HARD_LINKS,
    "hardlink@openssh.com gives a file a second name: what is written by one is read by the other.",
    "link",
    "open",
    "read",
    "write",
    "close",
)
def hardlink_same_file(subject: Subject) -> None:
    old, new = subject.file(b"old", b"content"), subject.path(b"new")
    subject.client.link(old, new)
    subject.equal(subject.content(new), b"content", "the content under the new name")
    handle = subject.client.open(new, WRITE)
    subject.client.write(handle, 0, b"C")
    subject.client.close_handle(handle)
    subject.equal(subject.content(old), b"Content", "the content under the old name")


@rule(
    SHOULD,
    POSIX,
    "A file with two names is kept under the second when the first is removed.",
    "link",
    "rm",
    "lstat",
    "open",
    "read",
    "close",
)
def hardlink_outlives_first_name(subject: Subject) -> None:
    old, new = subject.file(b"old", b"content"), subject.path(b"new")
    subject.client.link(old, new)
    subject.client.remove(old)
    subject.check(not subject.exists(old), "the first name is still there after REMOVE")
    subject.equal(subject.content(new), b"content", "the content under the second name")


@rule(
    SHOULD,
    POSIX,
    "hardlink@openssh.com over an existing name is refused and changes nothing.",
    "link",
    "open",
    "read",
    "close",
)
def hardlink_over_existing(subject: Subject) -> None:
    subject.make({b"f": b"f", b"g": b"g"})
    for name in (b"g", b"f"):
        subject.refuses(ANY_FAILURE, subject.client.link, subject.path(b"f"), subject.path(name))
        subject.equal(subject.content(subject.path(name)), name, "the content of the file that was there")


@rule(
    SHOULD,
    POSIX,
    "hardlink@openssh.com is refused with NO_SUCH_FILE if the file, or the new name's directory, is missing.",
    "link",
)
def hardlink_of_missing(subject: Subject) -> None:
    file = subject.file(b"f")
    subject.refuses(NOT_FOUND, subject.client.link, subject.path(b"missing"), subject.path(b"new"))
    subject.refuses(NOT_FOUND, subject.client.link, file, subject.path(b"missing/new"))


@rule(SHOULD, POSIX, "hardlink@openssh.com of a directory is refused.", "link", "mkdir", "lstat")
def hardlink_of_directory(subject: Subject) -> None:
    subject.make({b"d": None})
    subject.refuses(ANY_FAILURE, subject.client.link, subject.path(b"d"), subject.path(b"new"))
    subject.check(not subject.exists(subject.path(b"new")), "the new name is there all the same")
