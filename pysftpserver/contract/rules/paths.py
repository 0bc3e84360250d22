"""Rules for REALPATH."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.table import DRAFT, MUST, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.contract.subject import Subject

SECTION = f"{DRAFT}, 6.11"
FILE_NAMES = f"{DRAFT}, 6.2"
#: Ways to write the path of a name, all with the same canonical form.
WAYS = (b"f", b"./f", b".//./f", b"d/../f", b"d/e/../../f", b"d/./../f")


def answer(subject: Subject, path: bytes) -> list[tuple[bytes, bytes, SFTPAttributes]]:
    """All entries of the NAME reply to REALPATH."""
    reply = subject.client.ask(wire.SSH2_FXP_REALPATH, packets.sftpstring(path))
    return subject.client.expect("REALPATH", reply, packets.get_sftpentries)


def top_of(subject: Subject) -> bytes:
    """The canonical path of the rule's directory, with a slash at its end."""
    return subject.client.realpath(subject.path(b".")).rstrip(b"/") + b"/"


@rule(MUST, SECTION, "REALPATH returns a NAME with exactly one name.")
def realpath_one_name(subject: Subject) -> None:
    for path in (b".", subject.path(b".")):
        subject.equal(len(answer(subject, path)), 1, f"the number of names for {path!r}")


@rule(
    SHOULD,
    f"{SECTION}: a dummy attributes value",
    "The attributes in REALPATH's reply are a dummy: no flag is set.",
    of_server=True,
)
def realpath_attributes(subject: Subject) -> None:
    for _, _, attributes in answer(subject, subject.path(b".")):
        subject.check(attributes.is_empty(), f"the attributes are {attributes!r}")


@rule(MUST, SECTION, "REALPATH returns an absolute path.")
def realpath_is_absolute(subject: Subject) -> None:
    subject.file(b"f")
    for path in (b".", subject.path(b"."), subject.path(b"f")):
        found = subject.client.realpath(path)
        subject.check(found.startswith(b"/"), f"REALPATH of {path!r} is {found!r}")


@rule(MUST, SECTION, "REALPATH resolves `.`, `..` and redundant slashes.", "mkdir")
def realpath_is_canonical(subject: Subject) -> None:
    subject.make({b"d": None, b"d/e": None, b"f": b""})
    top = top_of(subject)
    for way in WAYS:
        subject.equal(subject.client.realpath(subject.path(way)), top + b"f", f"REALPATH of {way!r}")


@rule(
    SHOULD,
    SECTION,
    "REALPATH of a directory returns the same path with and without a slash or a dot at its end.",
    "mkdir",
)
def realpath_of_directory(subject: Subject) -> None:
    subject.make({b"d": None})
    expected = top_of(subject) + b"d"
    for way in (b"d", b"d/", b"d/.", b"d/./", b"d//"):
        subject.equal(subject.client.realpath(subject.path(way)), expected, f"REALPATH of {way!r}")


@rule(SHOULD, SECTION, "REALPATH of a path that REALPATH returned is the same path.", "mkdir")
def realpath_is_stable(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b""})
    for path in (b".", subject.path(b"d"), subject.path(b"d/../d/f")):
        found = subject.client.realpath(path)
        subject.equal(subject.client.realpath(found), found, f"REALPATH of {found!r}")


@rule(
    MUST,
    FILE_NAMES,
    "REALPATH of an empty path returns the default directory, as of `.`.",
)
def realpath_of_nothing(subject: Subject) -> None:
    subject.equal(subject.client.realpath(b""), subject.client.realpath(b"."), "REALPATH of an empty path")


@rule(
    SHOULD,
    f"{SECTION}; OpenSSH's sftp and scp ask for the path of a file that they are about to make",
    "REALPATH of a path whose last component does not exist returns its canonical form.",
    "mkdir",
)
def realpath_of_missing(subject: Subject) -> None:
    subject.make({b"d": None})
    top = top_of(subject)
    for way in (b"missing", b"./missing", b"d/../missing"):
        found = subject.client.realpath(subject.path(way))
        subject.equal(found, top + b"missing", f"REALPATH of {way!r}")


@rule(SHOULD, SECTION, "REALPATH works for files as it does for directories.", "mkdir", "lstat")
def realpath_of_file(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b"content"})
    found = subject.client.realpath(subject.path(b"d/f"))
    subject.equal(found, top_of(subject) + b"d/f", "REALPATH of the file")
    subject.equal(subject.client.lstat(found).size, 7, "the size of what REALPATH answered")


@rule(SHOULD, POSIX, "`..` of `/` is `/`.")
def realpath_above_the_top(subject: Subject) -> None:
    for path in (b"/", b"//", b"/..", b"/../..", b"/./../.", b"/../"):
        subject.equal(subject.client.realpath(path), b"/", f"REALPATH of {path!r}")


@rule(SHOULD, POSIX, "REALPATH does not change the bytes of names.")
def realpath_keeps_bytes(subject: Subject) -> None:
    top = top_of(subject)
    for name in (b" a b ", "\u00e4\u20ac".encode(), b"a\\b", b"~", b"%41", b"*"):
        subject.equal(subject.client.realpath(subject.path(name)), top + name, f"REALPATH of {name!r}")


@rule(
    SHOULD,
    f"{SECTION}; {POSIX}",
    "REALPATH follows links, to the same file or directory as STAT.",
    "symlink",
    "mkdir",
    "stat",
)
def realpath_follows_links(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b"12345"})
    for name, target in ((b"to-f", b"d/f"), (b"to-d", b"d"), (b"d/back", b"../to-f")):
        subject.client.symlink(target, subject.path(name))
    expected = top_of(subject) + b"d/f"
    for name in (b"to-f", b"to-d/f", b"d/back", b"to-d/back"):
        found = subject.client.realpath(subject.path(name))
        subject.equal(found, expected, f"REALPATH of {name!r}")
    subject.equal(subject.client.stat(expected).size, 5, "the size of what REALPATH answered")


@rule(
    SHOULD,
    POSIX,
    "`..` after a link to a directory is the parent of that directory.",
    "symlink",
    "mkdir",
)
def realpath_up_from_link(subject: Subject) -> None:
    subject.make({b"d": None, b"d/e": None})
    subject.client.symlink(b"d/e", subject.path(b"link"))
    found = subject.client.realpath(subject.path(b"link/.."))
    subject.equal(found, top_of(subject) + b"d", "REALPATH of `link/..`")
