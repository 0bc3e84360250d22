"""The longname of a directory entry, read as clients that parse it do.

Each parser here accepts what the client's own accepts, as far as lines of `ls -l` are concerned, and returns
what the client takes from it, or None if it takes nothing. What may not enter: rules. Sources are named at
each parser; the recommended format is in draft-ietf-secsh-filexfer-02, section 7.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MODE = rb"[-bcdlpsD][-rwxsStT]{9}"
_RECENT = re.compile(rb"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d)\Z")
_OLD = re.compile(rb"([A-Z][a-z]{2}) ([ \d]\d) {1,2}(\d{4})\Z")
_FIELDS = re.compile(
    rb"(?P<mode>" + _MODE + rb")[+@.]? +(?P<links>\d+) +(?P<owner>\S+) +(?P<group>\S+) +(?P<size>\d+) "
    rb"(?P<date>[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d|  ?\d{4})) (?P<name>.*)\Z",
    re.DOTALL,
)
#: The widths that the draft recommends, between edges: (field, its edge, field, its edge, characters).
#: Numbers are padded on the left and names on the right, so that these edges stay aligned.
_START, _END = 0, 1
_WIDTHS = (
    ("mode", _START, "links", _END, 10 + 1 + 3),
    ("owner", _START, "group", _START, 8 + 1),
    ("group", _START, "size", _END, 8 + 1 + 8),
    ("date", _START, "date", _END, 12),
)


def fields(longname: bytes) -> dict[str, bytes] | None:
    """The seven fields of the draft's format; None if the format is another one."""
    found = _FIELDS.match(longname)
    return None if found is None else found.groupdict()


def too_narrow(longname: bytes) -> str | None:
    """The fields that are narrower than the draft recommends, for a sentence; None if there are none."""
    found = _FIELDS.match(longname)
    for first, edge, last, other, width in _WIDTHS if found is not None else ():
        assert found is not None
        if found.span(last)[other] - found.span(first)[edge] < width:
            return first if first == last else f"{first} to {last}"
    return None


def date_of(text: bytes) -> tuple[int, int, int | None] | None:
    """(month, day, year) of a date field; year is None if there is a time in its place."""
    found = _RECENT.match(text) or _OLD.match(text)
    if found is None or found[1].lower() not in MONTHS:
        return None
    year = int(found[3]) if found.re is _OLD else None
    return MONTHS.index(found[1].lower()) + 1, int(found[2]), year


def as_filezilla(longname: bytes) -> dict[str, Any] | None:
    """What FileZilla 3 takes: type, permissions, size, and owner and group in one field.

    It takes the name and the modification time from the packet; if it cannot parse the line, the entry lacks
    all other fields. Source: src/engine/directorylistingparser.cpp, ParseAsUnix() and ParseUnixDateTime().
    Only the two date formats of `ls -l` are here.
    """
    words = longname.split()
    if len(words) < 4 or words[0][:1] not in (b"b", b"c", b"d", b"l", b"p", b"s", b"-"):
        return None
    start = 2 if words[1].isdigit() else 1  # the link count may be missing
    for owners in (3, 2, 1, 0):  # words for owner and group: as many as leave a size and a date
        rest = words[start + owners :]
        if len(rest) >= 5 and re.fullmatch(rb"[\d.,]+[kKMGTP]?", rest[0]) and _filezilla_date(rest[1:4]):
            return {
                "type": words[0][:1],
                "permissions": words[0],
                "size": int(rest[0]) if rest[0].isdigit() else None,
                "owners": b" ".join(words[start : start + owners]),
            }
    return None


def _filezilla_date(words: list[bytes]) -> bool:
    """Whether three words are month, day, and time or year; it takes the first two in any order."""
    month, day, last = words
    if month.isdigit() and not day.isdigit():
        month, day = day, month
    if month.lower() not in MONTHS or not (day.isdigit() and 1 <= int(day) <= 31):
        return False
    if b":" in last:
        hour, _, minute = last.partition(b":")
        return hour.isdigit() and minute.isdigit() and int(hour) <= 23 and int(minute) <= 59
    return last.isdigit() and int(last) <= 3000


def as_winscp(longname: bytes) -> dict[str, bytes] | None:
    """What WinSCP takes: type, rights, owner and group.

    It takes the rest from the packet, and type and rights too if it cannot parse the line. Source:
    source/core/RemoteFiles.cpp, TRemoteFile::SetListingStr(), called by SftpFileSystem.cpp, GetFile().
    """
    line = longname.replace(b"\t", b" ")
    kind, rights, line = line[:1], line[1:10], line[10:]
    if not re.fullmatch(rb"[-rwxsStTlL]{9}", rights):
        return None
    line = re.sub(rb"\A ?[+@.]", b"", line).lstrip(b" ")
    words = re.split(rb" +", line)
    if words[:1] and words[0].isdigit():  # the link count may be missing
        words = words[1:]
    if len(words) < 2:
        return None
    owner, group = words[0], [words[1]]
    for word in words[2:]:
        if re.fullmatch(rb"-?\d+", word) and int(word) >= 0:
            return {"type": kind, "rights": rights, "owner": owner, "group": b" ".join(group)}
        group.append(word)  # a group may have spaces
    return None


def as_lftp(longname: bytes) -> dict[str, Any] | None:
    """What lftp takes: links, owner and group. It takes the rest from the packet.

    Source: src/SFtp.cc, MakeFileInfo(), and src/FileSet.cc, FileInfo::parse_ls_line().
    """
    words = longname.split()
    if len(words) < 6 or words[0][:1] not in (b"l", b"d", b"-"):
        return None
    links, owner, rest = words[1], words[2], words[3:]
    group = None
    if not rest[0].isdigit() or (len(rest) > 1 and rest[1].isdigit()):  # the group may be missing
        group, rest = rest[0], rest[1:]
    if len(rest) < 4 or not rest[0].isdigit() or rest[1].lower() not in MONTHS or not rest[2].isdigit():
        return None
    return {"links": int(links) if links.isdigit() else 0, "owner": owner, "group": group}
