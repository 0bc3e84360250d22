"""The pages for visitors with a shared link: a file, a folder, or a form to send files.

What may not enter: storages, links.
"""

from __future__ import annotations

from pysftpserver.web import listing
from pysftpserver.web.html import (
    count_text,
    element,
    icon,
    joined,
    page,
    plain,
    shown,
    size_text,
    time_element,
)
from pysftpserver.web.listing import View
from pysftpserver.web.previews import icon_of
from pysftpserver.web.wire import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.web.files import Entry
    from pysftpserver.web.html import Markup
    from pysftpserver.web.wire import Reply, Request


def file(request: Request, entry: Entry, name: bytes) -> Reply:
    """The page of a file. name: under which it is downloaded."""
    facts = joined([size_text(entry.size), " · " if entry.mtime else "", time_element(entry.mtime)])
    return page(
        request,
        plain(name),
        element("h1", shown(name)),
        element("p", facts, class_="facts"),
        _button("Download", "./" + quoted(name)),
        kind="narrow share",
    )


def folder(request: Request, name: bytes, entries: Iterable[Entry], has_above: bool) -> Reply:
    """The page of a folder. has_above: whether its parent folder is shared as well."""
    seen = listing.look(entries, View.of(request.query()))
    heads = [element("th", words, scope="col") for words in ("Name", "Size", "Changed")]
    table = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *(_row(entry) for entry in seen.entries)),
    )
    others = [
        element("a", words, href=f"./?page={number}")
        for words, number in (("Page before", seen.page - 1), ("Next page", seen.page + 1))
        if 1 <= number <= seen.pages
    ]
    facts = f"{count_text(seen.found, 'entry', 'entries')}, {size_text(seen.size)} in files"
    return page(
        request,
        plain(name) if name else "Shared folder",
        element("h1", shown(name) if name else "Shared folder"),
        element("p", facts, class_="facts"),
        element("p", element("a", "To the folder above", href="../")) if has_above else "",
        _button("Download all as a zip", "./?zip=1"),
        table if seen.entries else element("p", "This folder is empty.", class_="none"),
        element("p", *others, class_="pages") if others else "",
        kind="share",
    )


def drop(request: Request, user: str, said: Iterable[Markup] = (), status: int = 200) -> Reply:
    """The page to send files to a user. said: messages about files that were sent."""
    form = element(
        "form",
        element("label", "Files", for_="files"),
        element("input", type="file", id="files", name="file", multiple=True, required=True),
        element("p", element("button", icon("upload"), "Send", class_="primary")),
        method="post",
        action="./",
        enctype="multipart/form-data",
    )
    return page(
        request,
        "Send files",
        element("h1", "Send files to ", user),
        element("p", "You will not see what others have sent, nor your own files again."),
        *said,
        form,
        status=status,
        kind="narrow share",
    )


def _row(entry: Entry) -> Markup:
    address = "./" + quoted(entry.name) + ("/" if entry.is_directory else "")
    name = shown(entry.name)
    link = element("a", icon_of(entry), name, href=address)
    return element(
        "tr",
        element("th", link if entry.is_file or entry.is_directory else name, scope="row", class_="name"),
        element("td", size_text(entry.size) if entry.is_file else "", class_="size"),
        element("td", time_element(entry.mtime), class_="date"),
    )


def _button(words: str, address: str) -> Markup:
    return element("p", element("a", icon("download"), words, href=address, class_="button primary"))
