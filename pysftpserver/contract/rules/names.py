"""Rules for names: which are possible, and which paths lead to them."""

from __future__ import annotations

from posixpath import relpath

from pysftpserver.contract.client import NOT_FOUND, Closed, Refused
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import DRAFT, MUST, POSIX, SHOULD, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.contract.subject import Subject

FILE_NAMES = f"{DRAFT}, 6.2"
#: Names that some servers cannot store.
NAMES = (
    b"with space",
    b" leading and trailing ",
    b"new\nline",
    b"quote'and\"quote",
    b"back\\slash",
    b"-dash",
    b"...",
    b"~",
    b"~root",
    b"*?[a]",
    b"%s%n",
    b"\xc3\xa4\xe2\x82\xac",  # UTF-8
    b"\xff\xfe\x80",  # not UTF-8
    b"\x01\x7f\t\r",
    b"CON",
    b"x" * 255,
)
MEANT = (
    b"$HOME",
    b"`id`",
    b"a;b|c&d",
    b"{a,b}",
    b"!1",
    b"#",
    b"-rf",
    b"nul",
    b"AUX.txt",
    b"a:b",
    b"<>",
    b"..a",
)
PRINTABLE = bytes(byte for byte in range(0x20, 0x7F) if byte != ord("/"))
BACKSLASH = b"back\\slash"  # of NAMES
CONTROL = bytes((*range(1, 0x20), 0x7F))
UTF_8 = ("\u00e4\u00df\u20ac", "\u65e5\u672c\u8a9e", "\U0001f600", "\u05d0\u0639", "a\u200bb")
NOT_UTF_8 = (bytes(range(0x80, 0xC0)), bytes(range(0xC0, 0x100)), b"\xc3(", b"\xed\xa0\x80", b"\xc0\xae")
LONG = 255  # bytes


def kept(subject: Subject, names: Iterable[bytes]) -> None:
    """Check that files with these names can be made and are listed under them."""
    top = subject.path(b"names")
    subject.client.mkdir(top)
    expected = sorted(set(names) - subject.unencodable)
    for name in expected:
        subject.put(top + b"/" + name, b"")
    subject.equal(subject.names(top), expected, "what is listed in the directory")


# --- which names there can be --------------------------------------------------------------------------


@rule(
    SHOULD,
    POSIX,
    "A name can contain every printable ASCII character except the slash.",
    "mkdir",
    "opendir",
)
def printable_names(subject: Subject) -> None:
    printable = PRINTABLE.replace(b"\\", b"") if BACKSLASH in subject.unencodable else PRINTABLE
    half = len(printable) // 2
    kept(subject, (printable, b"a" + printable[:half], b"a" + printable[half:]))


@rule(
    SHOULD,
    POSIX,
    "A name can contain every control character except NUL, also line breaks.",
    "mkdir",
    "opendir",
)
def control_characters_in_names(subject: Subject) -> None:
    kept(subject, (CONTROL, b"line\nend", b"tab\tand\r", b"\x1b[31mred"))


@rule(
    SHOULD,
    f"{POSIX}; WinSCP, FileZilla and Cyberduck send UTF-8",
    "A name in UTF-8 is kept byte for byte.",
    "mkdir",
    "opendir",
)
def utf8_names(subject: Subject) -> None:
    kept(subject, [name.encode() for name in UTF_8])


@rule(
    SHOULD,
    POSIX,
    "A name that is not UTF-8 is kept byte for byte or refused, never changed.",
    "mkdir",
    "opendir",
    "open",
    "write",
    "close",
)
def names_that_are_not_utf8(subject: Subject) -> None:
    top = subject.path(b"names")
    subject.client.mkdir(top)
    made = []
    for name in NOT_UTF_8:
        try:
            subject.client.put(top + b"/" + name, b"")
        except Refused:
            continue
        made.append(name)
    subject.equal(subject.names(top), sorted(made), "what is listed in the directory")


@rule(
    SHOULD,
    POSIX,
    "Names that are special to shells, format strings or Windows are ordinary names.",
    "mkdir",
    "opendir",
)
def names_without_meaning(subject: Subject) -> None:
    kept(subject, MEANT)


@rule(
    SHOULD,
    POSIX,
    "Files with unusual characters in their names can be listed, renamed and removed.",
    "mkdir",
    "opendir",
    "rename",
    "rm",
)
def unusual_names(subject: Subject) -> None:
    top, other = subject.path(b"names"), subject.path(b"names/tmp")
    subject.client.mkdir(top)
    names = sorted(set(NAMES) - subject.unencodable)
    for name in names:
        subject.put(top + b"/" + name, b"")
    subject.equal(subject.names(top), names, "what is listed in the directory")
    for name in names:
        path = top + b"/" + name
        subject.client.rename(path, other)
        subject.client.rename(other, path)
        subject.client.remove(path)
    subject.equal(subject.names(top), [], "what is listed when all are removed")


@rule(SHOULD, f"{POSIX}, NAME_MAX of common file systems", f"A name can have {LONG} bytes.", "lstat")
def names_of_255_bytes(subject: Subject) -> None:
    path = subject.file(b"y" * LONG, b"content")
    subject.equal(subject.client.lstat(path).size, 7, f"the size of a file with a name of {LONG} bytes")


@rule(
    SHOULD,
    POSIX,
    "A name of 300 bytes is stored whole or refused, never truncated.",
    "mkdir",
    "opendir",
    "open",
    "write",
    "close",
)
def overlong_names(subject: Subject) -> None:
    top, name = subject.path(b"d"), b"z" * 300
    subject.client.mkdir(top)
    expected = [name]
    try:
        subject.client.put(top + b"/" + name, b"")
    except Refused:
        expected = []
    subject.equal(subject.names(top), expected, "what is in the directory")


@rule(SHOULD, POSIX, "A path can have 800 bytes.", "mkdir", "lstat")
def long_paths(subject: Subject) -> None:
    path = subject.path(b"p" * 200)
    for _ in range(3):
        subject.client.mkdir(path)
        path += b"/" + b"p" * 200
    subject.put(path, b"content")
    subject.equal(subject.client.lstat(path).size, 7, "the size of a file with a long path")


@rule(
    SHOULD,
    f"{POSIX}; rclone and restic overwrite one file with the other otherwise",
    "Names that differ in case are different names.",
    "mkdir",
    "opendir",
)
def names_differ_in_case(subject: Subject) -> None:
    kept(subject, (b"name", b"Name", b"NAME", "\u00e4".encode(), "\u00c4".encode()))


@rule(
    SHOULD,
    POSIX,
    "Names that differ in the Unicode form of a character are different names.",
    "mkdir",
    "opendir",
)
def names_differ_in_form(subject: Subject) -> None:
    kept(subject, ("\u00e4".encode(), "a\u0308".encode(), "\u212b".encode(), "\u00c5".encode()))


@rule(
    SHOULD,
    POSIX,
    "Names that differ in dots or spaces at their ends are different names.",
    "mkdir",
    "opendir",
)
def names_differ_at_their_ends(subject: Subject) -> None:
    kept(subject, (b"a", b"a ", b"a.", b"a..", b" a", b".a"))


@rule(
    SHOULD,
    f"{POSIX}; {DRAFT}, 7",
    "A path with a NUL in it is refused with a STATUS, and the session goes on.",
    "stat",
    "lstat",
)
def nul_is_refused(subject: Subject) -> None:
    file, other = subject.file(b"f"), subject.another()
    try:
        subject.refuses(ANY_FAILURE, other.stat, file + b"\0g")
    except Closed as end:
        subject.broken(f"STAT of a path with a NUL: {end}")
    other.lstat(file)


# --- which paths lead to a name ------------------------------------------------------------------------


@rule(
    SHOULD,
    FILE_NAMES,
    "`.` in a path is the directory itself.",
    "mkdir",
    "lstat",
    "opendir",
)
def dot_is_the_directory(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b"content"})
    for name in (b"d/./f", b"./d/f", b"d/././f"):
        subject.equal(subject.client.lstat(subject.path(name)).size, 7, f"the size of {name!r}")
    subject.equal(subject.names(subject.path(b"d/.")), [b"f"], "what is listed in `d/.`")


@rule(
    SHOULD,
    FILE_NAMES,
    "`..` in a path is the parent of the directory.",
    "mkdir",
    "lstat",
    "opendir",
)
def dots_are_the_parent(subject: Subject) -> None:
    subject.make({b"d": None, b"d/e": None, b"d/f": b"content"})
    for name in (b"d/../d/f", b"d/e/../f", b"d/e/../../d/f"):
        subject.equal(subject.client.lstat(subject.path(name)).size, 7, f"the size of {name!r}")
    subject.equal(subject.names(subject.path(b"d/e/..")), [b"e", b"f"], "what is listed in `d/e/..`")


@rule(
    SHOULD,
    POSIX,
    "`.` and `..` can be neither created nor removed.",
    "mkdir",
    "rmdir",
    "rm",
    "lstat",
    "opendir",
)
def dots_are_no_names(subject: Subject) -> None:
    subject.make({b"d": None, b"d/e": None})
    for name in (b"d/e/.", b"d/e/.."):
        path = subject.path(name)
        for call in (subject.client.mkdir, subject.client.rmdir, subject.client.remove):
            subject.refuses(ANY_FAILURE, call, path)
    subject.equal(subject.names(subject.path(b"d")), [b"e"], "what is listed afterwards")


@rule(SHOULD, POSIX, "Several slashes in a path count as one.", "mkdir", "lstat")
def several_slashes(subject: Subject) -> None:
    subject.make({b"d": None, b"d/f": b"content"})
    for name in (b"d//f", b"d///f"):
        subject.equal(subject.client.lstat(subject.path(name)).size, 7, f"the size of {name!r}")


@rule(
    SHOULD,
    f"{POSIX}; WinSCP and sshfs send such paths",
    "The path of a directory may end with a slash.",
    "mkdir",
    "rmdir",
    "lstat",
    "opendir",
)
def slash_behind_directories(subject: Subject) -> None:
    path = subject.path(b"d/")
    subject.client.mkdir(path)
    subject.file(b"d/f")
    subject.client.lstat(path)
    subject.equal(subject.names(path), [b"f"], "what is listed in `d/`")
    subject.client.mkdir(subject.path(b"d/e"))
    subject.client.rmdir(subject.path(b"d/e/"))
    subject.equal(subject.names(path), [b"f"], "what is listed after RMDIR of `d/e/`")


@rule(
    SHOULD,
    POSIX,
    "The path of a file with a slash at its end does not lead to the file.",
    "stat",
    "open",
    of_server=True,
)
def slash_behind_files(subject: Subject) -> None:
    path = subject.file(b"f") + b"/"
    subject.refuses(ANY_FAILURE, subject.client.stat, path)
    subject.refuses(ANY_FAILURE, subject.client.open, path)


@rule(
    MUST,
    FILE_NAMES,
    "A path without a slash at its start is relative to the directory that REALPATH of `.` returns.",
    "lstat",
)
def relative_paths(subject: Subject) -> None:
    absolute = subject.client.realpath(subject.file(b"f", b"content"))
    relative = relpath(absolute, subject.client.realpath(b"."))
    subject.equal(subject.client.lstat(relative).size, 7, f"the size of {relative!r}")


@rule(
    SHOULD,
    f"{FILE_NAMES}; OpenSSH's sftp-server",
    "STAT and OPENDIR of an empty path are answered for the default directory, or with NO_SUCH_FILE.",
    "stat",
    "opendir",
)
def empty_path(subject: Subject) -> None:
    for call in (subject.client.stat, subject.client.opendir):
        try:
            call(b"")
        except Refused as refusal:
            subject.equal(refusal.status, NOT_FOUND, f"the status of {refusal.request} of an empty path")
