"""Rules for longname, the line of `ls -l` that READDIR returns for each entry.

The draft recommends its format, and tells clients not to parse it; FileZilla, WinSCP and lftp do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from stat import S_IFMT, filemode

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import longnames
from pysftpserver.contract.rules.listings import NAMES, entry_of, filled, new_entry
from pysftpserver.contract.table import CLIENT, SHOULD, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.rules.listings import Entry
    from pysftpserver.contract.subject import Subject

FILEZILLA = "FileZilla, directorylistingparser.cpp"
WINSCP = "WinSCP, RemoteFiles.cpp"
LFTP = "lftp, FileSet.cc"
OLD = SFTPAttributes(atime=1_000_000_000, mtime=1_000_000_000)  # in 2001
A_DAY = 24 * 3600  # seconds; how far a server's time zone may shift a date
#: Names that may confuse parsers of longnames.
ODD = (b"two words", b"a -> b", b"x Jan  1 10:00 y", b" 7", b"1 2 3", b"tab\there")


def fields_of(subject: Subject, entry: Entry) -> dict[str, bytes]:
    """The fields of an entry's longname."""
    found = longnames.fields(entry[1])
    if found is None:
        subject.broken(f"the longname {entry[1]!r} has another format than `ls -l`")
    return found


@rule(
    SHOULD,
    NAMES,
    "longname has mode, link count, owner, group, size, date and name, as `ls -l` prints them.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_fields(subject: Subject) -> None:
    fields_of(subject, new_entry(subject))


@rule(
    SHOULD,
    NAMES,
    "The fields of longname are as wide as the draft recommends: 10, 3, 8, 8, 8 and 12 characters.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_widths(subject: Subject) -> None:
    entry = new_entry(subject)
    fields_of(subject, entry)
    narrow = longnames.too_narrow(entry[1])
    subject.check(narrow is None, f"in {entry[1]!r}, {narrow} is narrower")


@rule(
    CLIENT,
    f"{FILEZILLA}; {WINSCP}: both show these permissions",
    "The mode in longname is that of the entry's permissions.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_mode(subject: Subject) -> None:
    path = filled(subject, b"f")
    subject.client.mkdir(path + b"/sub")
    for entry in subject.listing(path):
        mode = entry[2].permissions
        if mode is not None and S_IFMT(mode):
            subject.equal(fields_of(subject, entry)["mode"], filemode(mode).encode(), "the mode")


@rule(
    CLIENT,
    f"{FILEZILLA}: the size that it shows and resumes by",
    "The size in longname is that of the entry.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_size(subject: Subject) -> None:
    found = fields_of(subject, new_entry(subject, content=b"x" * 12_345))
    subject.equal(int(found["size"]), 12_345, "the size in longname")


def near(subject: Subject, entry: Entry) -> None:
    """Check that the date in longname is that of mtime, in some time zone."""
    text, mtime = fields_of(subject, entry)["date"], entry[2].mtime
    date = longnames.date_of(text)
    if date is None or mtime is None:
        subject.broken(f"the date {text!r} is none, or mtime {mtime} is missing")
    zones = [datetime.fromtimestamp(mtime + shift, UTC) for shift in (-A_DAY, 0, A_DAY)]
    month, day, year = date
    subject.check(
        any((at.month, at.day) == (month, day) and year in (None, at.year) for at in zones),
        f"the date {text!r} is not that of mtime, {zones[1]:%Y-%m-%d %H:%M} UTC",
    )


@rule(
    SHOULD,
    NAMES,
    "The date in longname of a new file is its modification time as `Mon dd hh:mm`.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_of_new_file(subject: Subject) -> None:
    entry = new_entry(subject)
    near(subject, entry)
    text = fields_of(subject, entry)["date"]
    subject.check(b":" in text, f"the date is {text!r}, without a time")


@rule(
    SHOULD,
    f"{NAMES}; `ls -l`",
    "The date in longname of a file that is years old is its modification time as `Mon dd  yyyy`.",
    "mkdir",
    "opendir",
    "setstat",
    "times",
    of_server=True,
)
def longname_of_old_file(subject: Subject) -> None:
    path = filled(subject, b"f")
    subject.client.setstat(path + b"/f", OLD)
    entry = entry_of(subject, path, b"f")
    near(subject, entry)
    text = fields_of(subject, entry)["date"]
    subject.check(b":" not in text, f"the date is {text!r}, without a year")


@rule(
    SHOULD,
    NAMES,
    "longname ends with the name, byte for byte, or with the name, an arrow and a link's target.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_ends_with_name(subject: Subject) -> None:
    path = filled(subject, *ODD)
    for name, longname, _ in subject.listing(path):
        if name in ODD:
            subject.check(longname.endswith(b" " + name), f"the longname of {name!r} is {longname!r}")


@rule(
    SHOULD,
    NAMES,
    "The link count in longname is that of the file.",
    "mkdir",
    "opendir",
    "link",
    "nlink",
    of_server=True,
)
def longname_link_count(subject: Subject) -> None:
    path = filled(subject, b"f", b"g")
    subject.client.link(path + b"/f", path + b"/h")
    for name, expected in ((b"f", 2), (b"g", 1), (b"h", 2)):
        found = fields_of(subject, entry_of(subject, path, name))["links"]
        subject.equal(found.decode(), str(expected), f"the link count of {name!r}")


@rule(
    CLIENT,
    f"{FILEZILLA}: type, permissions, size, owner and group come from longname alone",
    "FileZilla's parser finds in longname what the attributes say, whatever the name.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_for_filezilla(subject: Subject) -> None:
    path = filled(subject, *ODD, b"plain")
    subject.client.mkdir(path + b"/sub dir")
    for name, longname, attributes in subject.listing(path):
        found = longnames.as_filezilla(longname)
        if found is None:
            subject.broken(f"FileZilla cannot parse {longname!r}")
        if attributes.permissions is not None and S_IFMT(attributes.permissions):
            mode = filemode(attributes.permissions).encode()
            subject.equal(found["type"], mode[:1], f"the type of {name!r}")
        if attributes.size is not None:
            subject.equal(found["size"], attributes.size, f"the size of {name!r}")
        subject.equal(len(found["owners"].split()), 2, f"the number of owners of {name!r}")


@rule(
    CLIENT,
    f"{WINSCP}: type, rights, owner and group come from longname if it can be parsed",
    "WinSCP's parser finds in longname what the attributes say, whatever the name.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_for_winscp(subject: Subject) -> None:
    path = filled(subject, *ODD, b"plain")
    subject.client.mkdir(path + b"/sub dir")
    for name, longname, attributes in subject.listing(path):
        found = longnames.as_winscp(longname)
        if found is None:
            subject.broken(f"WinSCP cannot parse {longname!r}")
        if attributes.permissions is not None and S_IFMT(attributes.permissions):
            mode = filemode(attributes.permissions).encode()
            subject.equal(found["type"] + found["rights"], mode, f"type and rights of {name!r}")
        subject.check(b" " not in found["group"], f"the group of {name!r} is {found['group']!r}")


@rule(
    CLIENT,
    f"{LFTP}: link count, owner and group come from longname",
    "lftp's parser of longname finds a link count, an owner and a group.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_for_lftp(subject: Subject) -> None:
    path = filled(subject, *ODD, b"plain")
    for name, longname, _ in subject.listing(path):
        found = longnames.as_lftp(longname)
        if found is None:
            subject.broken(f"lftp cannot parse {longname!r}")
        subject.check(found["links"] > 0, f"the link count of {name!r} is {found['links']}")
        subject.check(found["group"] is not None, f"the group of {name!r} is missing")


@rule(
    CLIENT,
    "OpenSSH's sftp, psftp and others print longname as it is, on one line",
    "longname has no line break that is not in the name.",
    "mkdir",
    "opendir",
    of_server=True,
)
def longname_is_one_line(subject: Subject) -> None:
    entry = new_entry(subject)
    subject.check(not set(b"\r\n") & set(entry[1]), f"longname is {entry[1]!r}")
