"""Properties of WebDAV: those that PROPFIND reports, and those that PROPPATCH may change.

What may not enter: HTTP, sessions. Facts: RFC 4918 (sections 9.1, 9.2 and 15), RFC 4331 (quotas); Microsoft's
[MS-WDVME] for the times that its redirector sets.
"""

from __future__ import annotations

import functools
import mimetypes
from dataclasses import dataclass, field
from xml.etree import ElementTree

from pysftpserver.failures import show
from pysftpserver.web.dav_conditions import etag_of, http_date, time_of
from pysftpserver.web.dav_xml import BadXML, dav, escaped, opened, serialized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.dav_locks import Lock
    from pysftpserver.web.files import Entry

    Value = Callable[[Entry], str | None]  # the content of a property, XML; None: the entry has none

#: Number of properties that a PROPFIND may name: each entry of a directory repeats them.
MOST_NAMED = 200
MOST_OF_NAMES = 16384  # characters of all names
ANYTHING = "application/octet-stream"
MICROSOFT = "{urn:schemas-microsoft-com:}"
MODIFIED = MICROSOFT + "Win32LastModifiedTime"
#: Windows sets these after each upload, and shows an error if it cannot. They are not kept here.
IGNORED = {MICROSOFT + name for name in ("Win32CreationTime", "Win32LastAccessTime", "Win32FileAttributes")}
SUPPORTED_LOCKS = "".join(
    f"<D:lockentry><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
    for scope in ("exclusive", "shared")
)
PROTECTED = (
    "creationdate displayname getcontentlength getcontenttype getetag getlastmodified lockdiscovery "
    "quota-available-bytes quota-used-bytes resourcetype supportedlock"
).split()
EVERY = (  # for allprop: those of RFC 4918
    *("displayname", "getcontentlength", "getcontenttype", "getetag", "getlastmodified", "resourcetype"),
    *("lockdiscovery", "supportedlock"),
)


@functools.cache
def _types() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()


def type_of(name: bytes) -> str:
    """The media type that a file name implies."""
    stem, dot, ending = name.rpartition(b".")
    return _type_of_ending(ending) if stem and dot else ANYTHING


@functools.lru_cache(512)
def _type_of_ending(ending: bytes) -> str:
    found, encoding = _types().guess_type("file." + ending.decode("latin-1"))
    return found if found and not encoding else ANYTHING


_date = functools.lru_cache(4096)(http_date)


@dataclass
class Wanted:
    """What a PROPFIND asks for. tags: those that are named; None: all, or all names."""

    tags: list[str] | None = None
    only_names: bool = False
    more: list[str] = field(default_factory=list)  # those of an include, in addition to all


def wanted_of(root: ElementTree.Element | None) -> Wanted:
    """What a PROPFIND with that body asks for. Raises BadXML."""
    if root is None:
        return Wanted()
    if root.tag != dav("propfind"):
        raise BadXML("The body is not a propfind.")
    children = {child.tag: child for child in root}
    kinds = [tag for tag in (dav("prop"), dav("allprop"), dav("propname")) if tag in children]
    if len(kinds) != 1:
        raise BadXML("The body does not say which properties are wanted.")
    if kinds[0] == dav("prop"):
        return Wanted(_named(children[kinds[0]]))
    include = children.get(dav("include"))
    more = _named(include) if include is not None else []
    return Wanted(None, kinds[0] == dav("propname"), more)


def _named(element: ElementTree.Element) -> list[str]:
    """The properties in an element. Raises BadXML for more than any client needs."""
    tags = list(dict.fromkeys(child.tag for child in element))
    if len(tags) > MOST_NAMED or sum(map(len, tags)) > MOST_OF_NAMES:
        raise BadXML("The body names too many properties.")
    return tags


class Finder:
    """Makes the responses of one PROPFIND. locks: returns an entry's locks as XML; None: there are none.

    space: returns (bytes used, bytes free) at an entry. href: returns the URL of a path, of a directory or
    not.
    """

    def __init__(
        self,
        wanted: Wanted,
        locks: Value | None,
        space: Callable[[Entry], tuple[int, int] | None],
        href: Callable[[bytes, bool], str],
    ) -> None:
        self._locks, self._space, self._href = locks, space, href
        self._only_names = wanted.only_names
        self._all = wanted.tags is None
        tags = wanted.tags
        if tags is None:
            tags = list(dict.fromkeys([*map(dav, EVERY), *wanted.more]))
        self._wanted = [(tag, *_shapes(tag), self._live(tag)) for tag in tags]
        self._template, self._values = self._compiled()

    def _live(self, tag: str) -> Value | None:
        values: dict[str, Value] = {
            "displayname": lambda entry: escaped(show_name(entry.name)),
            "getcontentlength": lambda entry: str(entry.size) if entry.is_file else None,
            "getcontenttype": lambda entry: type_of(entry.name) if entry.is_file else None,
            "getetag": etag_of,
            "getlastmodified": lambda entry: None if entry.mtime is None else _date(entry.mtime),
            "resourcetype": lambda entry: "<D:collection/>" if entry.is_directory else "",
            "lockdiscovery": self._locks or (lambda entry: ""),
            "supportedlock": lambda entry: SUPPORTED_LOCKS,
            "quota-used-bytes": lambda entry: self._quota(entry, 0),
            "quota-available-bytes": lambda entry: self._quota(entry, 1),
        }
        return values.get(tag.removeprefix("{DAV:}")) if tag.startswith("{DAV:}") else None

    def _quota(self, entry: Entry, index: int) -> str | None:
        space = self._space(entry) if entry.is_directory else None
        return None if space is None else str(space[index])

    def _compiled(self) -> tuple[str, list[Value]]:
        """The response for a file that has exactly the wanted properties, as most have.

        A template for the URL and for the values of some functions.
        """
        text, values = "", []
        always = {dav("resourcetype"): "", dav("supportedlock"): SUPPORTED_LOCKS}
        if self._locks is None:
            always[dav("lockdiscovery")] = ""
        for tag, begin, alone, end, live in self._wanted:
            if self._only_names or live is None:
                return "", []
            if tag in always:
                text += f"{begin}{always[tag]}{end}" if always[tag] else alone
            else:
                text += f"{begin}%s{end}"
                values.append(live)
        return f"<D:response><D:href>%s</D:href>{propstat(text, '200 OK')}</D:response>", values

    def response(self, entry: Entry, dead: dict[str, str]) -> str:
        """The response for an entry. dead: its dead properties, XML by tag."""
        href = self._href(entry.path, entry.is_directory)
        if self._template and not dead and entry.is_file and entry.mtime is not None:
            told = [value(entry) for value in self._values]
            if None not in told:
                return self._template % (href, *told)
        found, missing = [], []
        for tag, begin, alone, end, live in self._wanted:
            value = live(entry) if live is not None else None
            if value is not None:
                found.append(f"{begin}{value}{end}" if value and not self._only_names else alone)
            elif tag in dead:
                found.append(dead[tag])
            elif not self._all:
                missing.append(alone)
        if self._all:
            found += [empty(tag) if self._only_names else xml for tag, xml in dead.items()]
        text = f"<D:response><D:href>{href}</D:href>"
        if found or not missing:
            text += propstat("".join(found), "200 OK")
        if missing:
            text += propstat("".join(missing), "404 Not Found")
        return text + "</D:response>"


def show_name(name: bytes) -> str:
    """A name as a text."""
    try:
        return name.decode()  # as nearly all are
    except UnicodeDecodeError:
        return show(name)


@functools.lru_cache(1024)
def _shapes(tag: str) -> tuple[str, str, str]:
    begin, end = opened(tag)
    return begin + ">", begin + "/>", end


def empty(tag: str) -> str:
    """An element with nothing in it."""
    return _shapes(tag)[1]


def propstat(properties: str, status: str, more: str = "") -> str:
    """A part of a response. more: XML after the status."""
    return (
        f"<D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 {status}</D:status>{more}</D:propstat>"
    )


def lock_text(lock: Lock, user: str, href: str) -> str:
    """A lock as in lockdiscovery; only its own user is told its token."""
    scope = "exclusive" if lock.is_exclusive else "shared"
    token = f"<D:locktoken><D:href>{lock.token}</D:href></D:locktoken>" if lock.user == user else ""
    return (
        f"<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope>"
        f"<D:depth>{'infinity' if lock.is_deep else '0'}</D:depth>{lock.owner}"
        f"<D:timeout>Second-{lock.seconds_left}</D:timeout>{token}"
        f"<D:lockroot><D:href>{href}</D:href></D:lockroot></D:activelock>"
    )


@dataclass
class Change:
    """One change that a PROPPATCH asks for. xml: what to keep; None: remove it. text: of its content."""

    tag: str
    xml: str | None
    text: str

    @property
    def is_protected(self) -> bool:
        """Whether only the server may change it."""
        return self.tag.startswith("{DAV:}") and self.tag.removeprefix("{DAV:}") in PROTECTED

    @property
    def mtime(self) -> int | None:
        """The time that it sets for the file, if it is a time."""
        return time_of(self.text) if self.tag == MODIFIED and self.xml is not None else None

    @property
    def is_ignored(self) -> bool:
        """Whether it is accepted and has no effect."""
        return self.tag in IGNORED or self.tag == MODIFIED and self.xml is None


def changes_of(root: ElementTree.Element | None) -> list[Change]:
    """The changes of a PROPPATCH, in their order. Raises BadXML."""
    if root is None or root.tag != dav("propertyupdate"):
        raise BadXML("The body is not a propertyupdate.")
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    changes = []
    for part in root:
        if part.tag not in (dav("set"), dav("remove")):
            continue
        for properties in part.findall(dav("prop")):
            spoken = properties.get(language) or part.get(language) or root.get(language)
            for element in properties:
                if spoken is not None:
                    element.attrib.setdefault(language, spoken)
                xml = serialized(element) if part.tag == dav("set") else None
                changes.append(Change(element.tag, xml, "".join(element.itertext()).strip()))
    if not changes:
        raise BadXML("The body names no property.")
    return changes
