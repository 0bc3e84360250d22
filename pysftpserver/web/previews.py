"""Pages that show one file: an image, text, a PDF, audio or video, or else its name and a download link.

What may not enter: concrete storages, types that a file claims for itself. Facts: HTML Living Standard.
"""

from __future__ import annotations

import contextlib
from posixpath import splitext

from pysftpserver.web.downloads import disposition, sent
from pysftpserver.web.html import element, icon, name_value, plain, shown, size_text, time_element, token
from pysftpserver.web.wire import Refusal, Reply, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.files import Entry, Tree
    from pysftpserver.web.html import Markup
    from pysftpserver.web.pages import Visit
    from pysftpserver.web.wire import Request

MOST_TEXT = 262144  # bytes shown of a text
IMAGE, PDF, AUDIO, VIDEO, TEXT = "image", "pdf", "audio", "video", "text"
#: How a file with this ending is shown, and the type with which it is sent. No other types are used; none
#: of them is one that a browser shows as a page with scripts.
SHOWN = {
    **{b".png": (IMAGE, "image/png"), b".gif": (IMAGE, "image/gif"), b".webp": (IMAGE, "image/webp")},
    **{b".jpg": (IMAGE, "image/jpeg"), b".jpeg": (IMAGE, "image/jpeg"), b".avif": (IMAGE, "image/avif")},
    **{b".bmp": (IMAGE, "image/bmp"), b".ico": (IMAGE, "image/x-icon"), b".pdf": (PDF, "application/pdf")},
    **{b".mp3": (AUDIO, "audio/mpeg"), b".ogg": (AUDIO, "audio/ogg"), b".m4a": (AUDIO, "audio/mp4")},
    **{b".wav": (AUDIO, "audio/wav"), b".flac": (AUDIO, "audio/flac"), b".opus": (AUDIO, "audio/ogg")},
    **{b".mp4": (VIDEO, "video/mp4"), b".webm": (VIDEO, "video/webm"), b".m4v": (VIDEO, "video/mp4")},
}
TEXTS = frozenset(
    b".txt .md .rst .csv .tsv .log .json .jsonl .toml .yaml .yml .ini .cfg .conf .xml .html .htm .svg .css "
    b".js .ts .py .pyi .sh .bash .c .h .cc .cpp .hpp .rs .go .java .kt .rb .pl .lua .sql .tex .bib .srt .vtt "
    b".diff .patch .asc .pem .pub .ics .eml .mk .cmake .r .swift .php .ps1 .bat".split()
)


def kind_of(name: bytes) -> tuple[str, str]:
    """How a file is shown, and with which type; ("", "") if its content has to be looked at."""
    ending = splitext(name)[1].lower()
    if ending in TEXTS:
        return TEXT, ""
    return SHOWN.get(ending, ("", ""))


def icon_of(entry: Entry) -> Markup:
    """The icon next to a name."""
    if entry.is_directory:
        return icon("folder")
    how = kind_of(entry.name)[0]
    return icon({AUDIO: "media", VIDEO: "media"}.get(how, how or "file"))


def inline(request: Request, tree: Tree, entry: Entry, finished: Callable[[int], object]) -> Reply:
    """The content for an element of a page. finished: as for downloads.sent().

    Raises Refusal for a file that is not shown, FileProblem.
    """
    kind = kind_of(entry.name)[1]
    if not kind:
        raise Refusal(404, "This file has no preview; download it.")
    return sent(request, tree, entry, kind, disposition(entry.name, "inline"), finished)


def preview(tree: Tree, entry: Entry) -> Markup:
    """The preview of a file on its page. Raises FileProblem."""
    how = kind_of(entry.name)[0]
    address = "?inline=1"
    name = plain(entry.name)
    if how == IMAGE:
        return element("img", src=address, alt=f"Preview of {name}", class_="shown")
    if how == PDF:
        return element("iframe", src=address, title=f"Preview of {name}", class_="shown")
    if how in (AUDIO, VIDEO):
        return element(how, src=address, controls=True, preload="metadata", aria_label=name, class_="shown")
    text, is_cut = _text(tree, entry)
    if text is None:
        return element(
            "p", "There is no preview of this kind of file. Download it to open it.", class_="none"
        )
    if not text:
        return element("p", "The file is empty.", class_="none")
    cut = (
        element("p", f"These are the first {size_text(MOST_TEXT)}. Download the file to read all of it.")
        if is_cut
        else ""
    )
    shown_text = element(
        "pre", text, tabindex="0", role="region", aria_label=f"Content of {name}", class_="shown"
    )
    return element("div", shown_text, cut)


def _text(tree: Tree, entry: Entry) -> tuple[str | None, bool]:
    """The beginning of a text and whether there is more; None: it is not a text."""
    with contextlib.closing(tree.source(entry.path)) as source:
        data = b"".join(source.pieces(MOST_TEXT + 1, stop=MOST_TEXT + 1))
    is_cut = len(data) > MOST_TEXT
    data = data[:MOST_TEXT]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace"), is_cut
    if b"\0" in data:
        return None, False
    if kind_of(entry.name)[0] != TEXT:
        try:
            data[:4096].decode()
        except UnicodeDecodeError as error:
            if error.start < len(data[:4096]) - 3:
                return None, False
    return data.decode("utf-8-sig", "replace"), is_cut


def facts(entry: Entry) -> Markup:
    """Size and time of a file, in a line."""
    changed = (", changed ", time_element(entry.mtime)) if entry.mtime is not None else ()
    return element("p", size_text(entry.size), *changed, class_="facts")


def title_of(entry: Entry) -> Markup:
    """The heading of the page."""
    return element("h1", icon_of(entry), shown(entry.name))


def tools(visit: Visit, entry: Entry, place: str) -> Markup:
    """The tools for a file. place: the path of its directory in URLs."""
    address = "./" + quoted(entry.name)
    found = [element("a", icon("download"), "Download", href=address, class_="button primary")]
    if visit.may_share:
        found.append(
            element("a", icon("share"), "Share", href=visit.share_address(entry.path), class_="button")
        )
    if visit.may_change:
        field = element("input", type="hidden", name="name", value=name_value(entry.name))
        buttons = [
            element("button", icon(picture), words, name="do", value=picture)
            for picture, words in (("rename", "Rename"), ("move", "Move"), ("delete", "Delete"))
        ]
        found.append(
            element(
                "form", token(visit.session), field, *buttons, method="post", action=place, class_="tools"
            )
        )
    return element("div", *found, class_="tools")
