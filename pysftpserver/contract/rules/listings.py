"""Rules for OPENDIR and READDIR: which entries are listed, when they end, and what is told about each."""

from __future__ import annotations

from stat import S_ISDIR, S_ISLNK, S_ISREG

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import EOF, NOT_FOUND, Refused
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, POSIX, SHOULD, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

    Entry = tuple[bytes, bytes, SFTPAttributes]

SCANNING = f"{DRAFT}, 6.7"
NAMES = f"{DRAFT}, 7"
DOTS = (b".", b"..")
MANY = 300  # entries with names of 100 bytes: more than fit in one reply
LONGEST = 1 << 18  # bytes; OpenSSH's sftp ends a session if a packet is longer


def filled(subject: Subject, *names: bytes) -> bytes:
    """A new directory with empty files of these names; its path."""
    path = subject.path(b"d")
    subject.client.mkdir(path)
    for name in names:
        subject.put(path + b"/" + name, b"")
    return path


def rest_of(subject: Subject, handle: bytes) -> list[bytes]:
    """The remaining names of a listing."""
    found: list[bytes] = []
    while True:
        try:
            part = subject.client.readdir(handle)
        except Refused as refusal:
            subject.equal(refusal.status, EOF, "the status at the end of the listing")
            return found
        subject.check(bool(part), "READDIR was answered with a NAME without names")
        found += [name for name, _, _ in part]


def entry_of(subject: Subject, path: bytes, name: bytes) -> Entry:
    """The entry of a name in a directory."""
    for entry in subject.listing(path):
        if entry[0] == name:
            return entry
    subject.broken(f"{name!r} is not in the listing of its directory")


def new_entry(subject: Subject, name: bytes = b"file", content: bytes = b"content") -> Entry:
    """The entry of a new file."""
    path = subject.path(b"d")
    subject.client.mkdir(path)
    subject.put(path + b"/" + name, content)
    return entry_of(subject, path, name)


# --- which entries come --------------------------------------------------------------------------------


@rule(MUST, SCANNING, "A listing has every name in the directory exactly once.", "mkdir", "opendir")
def listing_is_complete(subject: Subject) -> None:
    path = filled(subject, b"one", b"two", b".hidden", b"three")
    subject.client.mkdir(path + b"/sub")
    subject.equal(
        subject.names(path), [b".hidden", b"one", b"sub", b"three", b"two"], "what is in the listing"
    )


@rule(
    MUST,
    NAMES,
    "READDIR returns names relative to the directory, without path components.",
    "mkdir",
    "opendir",
    "lstat",
)
def listing_has_names_and_no_paths(subject: Subject) -> None:
    path = filled(subject, b"one", b"two")
    for name in subject.names(path):
        subject.check(b"/" not in name, f"{name!r} has a slash")
        subject.client.lstat(path + b"/" + name)


@rule(
    CLIENT,
    "clients leave out the names `.` and `..`, and take no others for them",
    "A listing has `.` and `..` at most once each, and both as directories.",
    "mkdir",
    "opendir",
)
def listing_of_dots(subject: Subject) -> None:
    entries = [entry for entry in subject.listing(filled(subject, b"f")) if entry[0] in DOTS]
    subject.check(len(entries) == len({name for name, _, _ in entries}), "`.` or `..` came twice")
    for name, _, attributes in entries:
        mode = attributes.permissions
        subject.check(mode is None or S_ISDIR(mode), f"{name!r} has the mode {mode or 0:o}")


@rule(MUST, SCANNING, "An empty directory can be listed.", "mkdir", "opendir")
def listing_of_empty_directory(subject: Subject) -> None:
    subject.equal(subject.names(filled(subject)), [], "what is in the listing")


@rule(
    SHOULD,
    SCANNING,
    "A large directory is listed completely, in as many replies as it takes, every name once.",
    "mkdir",
    "opendir",
)
def listing_of_large_directory(subject: Subject) -> None:
    path = filled(subject)
    expected = [b"%0100d" % number for number in range(MANY)]
    subject.fill(path, expected)
    subject.equal(subject.names(path), expected, "what is in the listing")


@rule(
    SHOULD,
    f"{POSIX}, readdir()",
    "A name that is there during the whole listing is listed once, while others come and go.",
    "mkdir",
    "opendir",
    "rm",
    of_server=True,
)
def listing_while_names_change(subject: Subject) -> None:
    names = {kind: [b"%s-%0100d" % (kind, n) for n in range(MANY // 2)] for kind in (b"stays", b"goes")}
    path = filled(subject)
    subject.fill(path, [name for pair in zip(*names.values(), strict=True) for name in pair])
    handle = subject.client.opendir(path)
    found = [name for name, _, _ in subject.client.readdir(handle)]
    for number, name in enumerate(names[b"goes"]):
        subject.client.remove(path + b"/" + name)
        if not number % 8:
            subject.put(path + b"/new-%d" % number, b"")
    found += rest_of(subject, handle)
    subject.client.close_handle(handle)
    subject.equal(len(found), len(set(found)), "the number of names in the listing")
    subject.equal(sorted(set(names[b"stays"]) - set(found)), [], "what is missing in the listing")
    now = [name for name in subject.names(path) if not name.startswith(b"new-")]
    subject.equal(now, names[b"stays"], "what a new listing has of the names that were there")


@rule(MUST, f"{SCANNING}, 7", "OPENDIR of a missing directory is refused with NO_SUCH_FILE.", "opendir")
def opendir_of_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.opendir, subject.path(b"missing"))


@rule(MUST, SCANNING, "OPENDIR of a file is refused.", "opendir")
def opendir_of_file(subject: Subject) -> None:
    subject.refuses(ANY_FAILURE, subject.client.opendir, subject.file(b"f"))


# --- replies, handles and the end ----------------------------------------------------------------------


@rule(
    MUST,
    f"{SCANNING}, 7",
    "After the last name READDIR is answered with STATUS EOF, however often it is sent.",
    "mkdir",
    "opendir",
)
def listing_ends_for_good(subject: Subject) -> None:
    handle = subject.client.opendir(filled(subject, b"f"))
    rest_of(subject, handle)
    for _ in range(3):
        subject.refuses(EOF, subject.client.readdir, handle)
    subject.client.close_handle(handle)


@rule(MUST, SCANNING, "A NAME reply to READDIR has at least one name.", "mkdir", "opendir")
def readdir_has_names(subject: Subject) -> None:
    handle = subject.client.opendir(filled(subject, b"f"))
    while True:
        try:
            subject.check(bool(subject.client.readdir(handle)), "READDIR was answered with a NAME of none")
        except Refused:
            break
    subject.client.close_handle(handle)


@rule(
    CLIENT,
    f"OpenSSH's sftp, SFTP_MAX_MSG_LENGTH; {DRAFT}, 3",
    f"A reply to READDIR has at most {LONGEST:,} bytes.",
    "mkdir",
    "opendir",
    of_server=True,
)
def readdir_fits_packet(subject: Subject) -> None:
    path = filled(subject)
    subject.fill(path, [b"%0200d" % number for number in range(subject.many)])
    handle = subject.client.opendir(path)
    rest_of(subject, handle)
    subject.client.close_handle(handle)
    longest = max(len(exchange.reply or b"") for exchange in subject.client.exchanges)
    subject.check(longest <= LONGEST + 4, f"a reply has {longest} bytes")


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "A listing can be closed before its end, and the directory can then be removed.",
    "mkdir",
    "opendir",
    "rm",
    "rmdir",
    "lstat",
)
def listing_closed_early(subject: Subject) -> None:
    path = filled(subject, b"f")
    for read in (False, True):
        handle = subject.client.opendir(path)
        if read:
            subject.client.readdir(handle)
        subject.client.close_handle(handle)
    subject.client.remove(path + b"/f")
    subject.client.rmdir(path)
    subject.check(not subject.exists(path), "the directory is still there after RMDIR")


@rule(
    SHOULD,
    SCANNING,
    "Two listings of one directory at the same time do not affect each other.",
    "mkdir",
    "opendir",
    of_server=True,
)
def listings_are_independent(subject: Subject) -> None:
    path = filled(subject)
    expected = [b"%0100d" % number for number in range(MANY)]
    subject.fill(path, expected)
    first, second = subject.client.opendir(path), subject.client.opendir(path)
    subject.check(first != second, f"both have the handle {first!r}")
    names = [name for name, _, _ in subject.client.readdir(first)]
    other = rest_of(subject, second)
    subject.client.close_handle(second)
    names += rest_of(subject, first)
    subject.client.close_handle(first)
    for found in (names, other):
        subject.equal(sorted(set(found) - set(DOTS)), expected, "what is in a listing")
        subject.equal(len(found), len(set(found)), "the number of names in a listing")


# --- attributes ----------------------------------------------------------------------------------------


def same_as_lstat(subject: Subject, path: bytes) -> None:
    """Check that a listing and LSTAT agree about entries, in all fields that both have."""
    for name, _, attributes in subject.listing(path):
        if name in DOTS:
            continue
        alone = subject.client.lstat(path + b"/" + name)
        for field in ("size", "uid", "gid", "permissions", "mtime"):  # reading may change atime
            found, expected = getattr(attributes, field), getattr(alone, field)
            if found is not None and expected is not None:
                subject.equal(found, expected, f"the {field} of {name!r} in a listing")


@rule(SHOULD, NAMES, "The attributes of an entry are those that LSTAT returns.", "mkdir", "opendir", "lstat")
def listing_attributes(subject: Subject) -> None:
    path = filled(subject, b"empty")
    subject.put(path + b"/file", b"content")
    subject.client.mkdir(path + b"/sub")
    same_as_lstat(subject, path)


@rule(
    SHOULD,
    f"{NAMES}; sshfs, lftp and rclone do not ask for each entry",
    "A link is listed as a link, whatever it points to.",
    "mkdir",
    "opendir",
    "lstat",
    "symlink",
)
def listing_of_links(subject: Subject) -> None:
    path = filled(subject, b"f")
    for name, target in ((b"link", b"f"), (b"dangling", b"missing"), (b"up", b"..")):
        subject.client.symlink(target, path + b"/" + name)
        mode = entry_of(subject, path, name)[2].permissions
        subject.check(mode is None or S_ISLNK(mode), f"{name!r} is listed with the mode {mode or 0:o}")
    same_as_lstat(subject, path)


@rule(
    CLIENT,
    f"{DRAFT}, 5; OpenSSH's sftp get -r, sshfs, lftp, rclone, paramiko's walks",
    "The permissions of an entry say whether it is a file or a directory.",
    "mkdir",
    "opendir",
)
def listing_says_types(subject: Subject) -> None:
    path = filled(subject, b"f")
    subject.client.mkdir(path + b"/sub")
    for name, is_type in ((b"f", S_ISREG), (b"sub", S_ISDIR)):
        mode = entry_of(subject, path, name)[2].permissions
        subject.check(mode is not None and is_type(mode), f"{name!r} is listed with the mode {mode or 0:o}")


@rule(
    CLIENT,
    "rclone, lftp mirror, WinSCP's and FileZilla's comparisons",
    "The attributes of a file in a listing have its size and its time of modification.",
    "mkdir",
    "opendir",
)
def listing_says_size_and_time(subject: Subject) -> None:
    _, _, attributes = new_entry(subject)
    subject.equal(attributes.size, 7, "the size of a file in a listing")
    subject.check(attributes.mtime is not None, "the time of modification is missing")
