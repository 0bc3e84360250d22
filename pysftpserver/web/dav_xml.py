"""XML of WebDAV: bodies of requests, parsed within limits, and the text of replies.

What may not enter: HTTP, storages, what properties mean. Facts: RFC 4918 (section 17), Namespaces in XML 1.0.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.parsers import expat

MOST = 1 << 18  # bytes of a body
MOST_ELEMENTS = 4000
DEEPEST = 64  # nested elements
DAV = "DAV:"
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
KIND = "application/xml; charset=utf-8"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
_PLAIN = re.compile("[A-Za-z0-9 ._/%-]*").fullmatch
#: Characters that XML 1.0 cannot contain.
_UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class BadXML(Exception):
    """A body that is not well-formed, or too large. The text is for people."""


def dav(name: str) -> str:
    """The tag of an element of WebDAV's own namespace, as ElementTree writes it."""
    return f"{{{DAV}}}{name}"


def parse(body: bytes) -> ElementTree.Element:
    """The root of a document. A document type is refused: no client needs one, and it can expand.

    Raises BadXML.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    open_elements = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_elements, count
        open_elements, count = open_elements + 1, count + 1
        if open_elements > DEEPEST or count > MOST_ELEMENTS:
            raise BadXML("The XML has too many elements.")
        builder.start(_tag(name), {_tag(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal open_elements
        open_elements -= 1
        builder.end(_tag(name))

    def refuse(*_: object) -> None:
        raise BadXML("The XML has a document type.")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise BadXML(f"The XML is not well-formed: {error}.") from None


def _tag(name: str) -> str:
    return "{" + name if "}" in name else name


def escaped(text: str) -> str:
    """A text as the content of an element or attribute. Characters not allowed in XML are replaced."""
    if _PLAIN(text):
        return text
    return _UNSAYABLE.sub("\ufffd", text).translate(_ESCAPES)


def opened(tag: str) -> tuple[str, str]:
    """The start tag of an element, without its last character, and the end tag."""
    namespace, _, name = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
    if namespace == DAV:
        return f"<D:{name}", f"</D:{name}>"
    if not namespace:
        return f'<{name} xmlns=""', f"</{name}>"
    return f'<x:{name} xmlns:x="{escaped(namespace)}"', f"</x:{name}>"


def serialized(element: ElementTree.Element) -> str:
    """An element with all of its content, and without the text that follows it."""
    tail, element.tail = element.tail, None
    try:
        return ElementTree.tostring(element, encoding="unicode")
    finally:
        element.tail = tail


def multistatus(*responses: str) -> bytes:
    """The whole body of a multistatus reply."""
    return f'{HEAD}<D:multistatus xmlns:D="DAV:">{"".join(responses)}</D:multistatus>'.encode()


def error(condition: str) -> bytes:
    """The body of a refusal. condition: the content of D:error, XML."""
    return f'{HEAD}<D:error xmlns:D="DAV:">{condition}</D:error>'.encode()
