"""The pages of files: a directory with its tools, one file, and the requests of their forms.

What may not enter: concrete storages, how users log in, the content of files. Facts: HTML Living
Standard; ARIA in HTML; Web Content Accessibility Guidelines 2.2.
"""

from __future__ import annotations

import contextlib
import posixpath
from typing import Any

from pysftpserver.failures import BadInput
from pysftpserver.http.files import FileProblem
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.uploads.temporary import is_temporary
from pysftpserver.web import actions, downloads, listing, previews, upload
from pysftpserver.web.actions import Form, address_of, query_text
from pysftpserver.web.application import check_csrf
from pysftpserver.web.deletions import Deletions
from pysftpserver.web.downloads import Streamed
from pysftpserver.web.files import Tree
from pysftpserver.web.html import (
    Messages,
    count_text,
    element,
    hidden,
    icon,
    joined,
    message,
    name_value,
    page,
    plain,
    refusal_page,
    shown,
    size_text,
    time_element,
    token,
)
from pysftpserver.web.listing import DATE, NAME, SIZE, View
from pysftpserver.web.wire import Refusal, Reply, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.files import Entry
    from pysftpserver.web.html import Markup
    from pysftpserver.web.listing import Seen
    from pysftpserver.web.session import Session
    from pysftpserver.web.wire import Request

COLUMNS = ((NAME, "Name"), (SIZE, "Size"), (DATE, "Changed"))


class Files:
    """The part of the door that shows files. is_current: as for Deletions."""

    needs_login = True
    is_for_programs = False

    def __init__(self, values: WebSettings, is_current: Callable[[User], bool] = lambda user: True) -> None:
        self.values = values
        self.messages = Messages()
        self.deletions = Deletions(self._removed, is_current)

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show a directory or a file, or do what a form asks for."""
        assert request.session is not None
        try:
            return self._answer(request, request.session, rest)
        except (Refusal, FileProblem) as error:
            return refusal_page(request, error)

    def _answer(self, request: Request, session: Session, rest: bytes) -> Reply:
        path = path_in(rest)
        with contextlib.ExitStack() as opened:
            try:
                storage = opened.enter_context(session.storage())
            except (OSError, SFTPException, BadInput):
                raise Refusal(503, "Your files cannot be reached now; try again later.") from None
            visit = Visit(self, request, session, Tree(storage), path)
            reply = self._reply(visit, rest.endswith(b"/"))
            if not isinstance(reply.body, list):  # it needs the storage until it is sent
                reply.body = Streamed(reply.body, opened.pop_all().close)
            return reply

    def _reply(self, visit: Visit, is_directory: bool) -> Reply:
        request = visit.request
        request.allow("GET", "HEAD", "POST")
        if request.method == "POST":
            return self._post(visit)
        if visit.hides(visit.path):
            raise FileProblem("this was deleted", "NO_SUCH_FILE")
        found = visit.tree.find(visit.path)
        if found is None:
            raise FileProblem(
                "there is no such file or folder; it may have been moved or deleted", "NO_SUCH_FILE"
            )
        if found.is_directory:
            return self._directory(visit) if is_directory else visit.see(visit.path, True)
        if is_directory:
            return visit.see(visit.path, False)
        if not found.is_file:
            raise FileProblem("this is neither a file nor a folder", "OP_UNSUPPORTED")
        query = request.query()
        if "view" in query:
            return self._file(visit, found)
        send = previews.inline if "inline" in query else downloads.download
        return send(request, visit.tree, found, lambda size: visit.note("get", found.path, size=size))

    def _post(self, visit: Visit) -> Reply:
        kind = visit.request.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            visit.check_may_change()
            return upload.receive(visit)
        form = Form(visit.request.fields())
        check_csrf(visit.session, form.value("csrf"))
        if form.value("do") not in actions.CHANGE_NOTHING:
            visit.check_may_change()
        try:
            return actions.act(visit, form)
        except FileProblem as error:
            return visit.tell_problem(f"That was not done: {error}.")

    def _removed(self, session: Session, path: bytes, error: FileProblem | None) -> None:
        """Note that a deleted entry has been removed, or could not be."""
        session.note("remove", path, error=error)
        if error is not None:
            self.messages.add(
                session, shown(posixpath.basename(path)), f" was not deleted: {error}.", is_problem=True
            )

    # --- pages ----------------------------------------------------------------------------------------

    def _file(self, visit: Visit, found: Entry) -> Reply:
        try:
            shown_content = previews.preview(visit.tree, found)
        except FileProblem as error:
            shown_content = message(f"The file cannot be read: {error}.", is_problem=True)
        directory = visit.address(posixpath.dirname(visit.path), True)
        return page(
            visit.request,
            plain(found.name),
            *visit.said(),
            element(
                "div",
                element("div", previews.title_of(found), previews.facts(found)),
                previews.tools(visit, found, directory),
                class_="head",
            ),
            shown_content,
            place=breadcrumbs(visit, posixpath.dirname(visit.path)),
            kind="file",
        )

    def _directory(self, visit: Visit) -> Reply:
        view = View.of(visit.request.query())
        entries = (entry for entry in visit.tree.entries(visit.path) if not visit.hides(entry.path))
        seen = listing.look(entries, view)
        name = posixpath.basename(visit.path)
        return page(
            visit.request,
            plain(name) if name else "Files",
            *visit.said(),
            element(
                "div",
                element("div", element("h1", shown(name) if name else "Files"), summary(visit, seen)),
                toolbar(visit),
                class_="head",
            ),
            filter_form(view),
            table(visit, seen, view) if seen.entries else nothing(visit, view),
            pages_nav(seen, view),
            place=breadcrumbs(visit, posixpath.dirname(visit.path) if name else None),
            kind="listing",
        )


class Visit:
    """A request for a path. tree: of the person's storage."""

    def __init__(self, files: Files, request: Request, session: Session, tree: Tree, path: bytes) -> None:
        self.files, self.request, self.session, self.tree, self.path = files, request, session, tree, path
        self.may_change = not files.values.read_only and not tree.is_read_only(path)

    def hides(self, path: bytes) -> bool:
        """Whether a path was deleted, so that pages no longer show it."""
        return self.files.deletions.hides(self.session, path)

    def check_may_change(self) -> None:
        """Raises Refusal if everything is read-only."""
        if not self.may_change:
            raise Refusal(403, "These files can be read, and not changed.")

    def address(self, path: bytes, is_directory: bool) -> str:
        """The path in URLs of a path in the storage."""
        return address_of(self.request.place, path, is_directory)

    @property
    def may_share(self) -> bool:
        """Whether links to entries here can be made."""
        return bool(self.files.values.share_days)

    def share_address(self, path: bytes) -> str:
        """The URL of the page that makes a link to a path."""
        return quoted(self.request.place) + "/shares/new" + query_text({"path": name_value(path)})

    def place(self) -> str:
        """The URL of this directory, with the current order and filter."""
        return self.address(self.path, True) + query_text(View.of(self.request.query()).query())

    def see(self, path: bytes, is_directory: bool) -> Reply:
        """Send the browser to a path."""
        return Reply(b"", 303, [("Location", self.address(path, is_directory))])

    def back(self) -> Reply:
        """Send the browser to the directory."""
        return Reply(b"", 303, [("Location", self.place())])

    def say(self, *content: object, is_problem: bool = False) -> None:
        """Tell the person something on the next page."""
        self.files.messages.add(self.session, *content, is_problem=is_problem)

    def tell(self, *content: object) -> Reply:
        """Send the browser to the directory, with a message."""
        self.say(*content)
        return self.back()

    def tell_problem(self, *content: object) -> Reply:
        """The same for a problem."""
        self.say(*content, is_problem=True)
        return self.back()

    def note(self, request: str, path: bytes, error: FileProblem | None = None, **details: Any) -> None:
        """Write a record into the audit log."""
        self.session.note(request, path, error=error, **details)

    def said(self) -> list[Markup]:
        """The messages on this page: deletes that can be undone, and what happened."""
        pending = [undo_form(self, one) for one in self.files.deletions.of(self.session)]
        undos = [element("div", *pending, class_="undos")] if pending else []
        return [*self.files.messages.take(self.session), *undos]


def path_in(rest: bytes) -> bytes:
    """The path in the storage of a path of the door. Raises Refusal."""
    names = [name for name in rest.split(b"/") if name]
    if b"\0" in rest or b"." in names or b".." in names or any(map(is_temporary, names)):
        raise Refusal(404, "There is no such file.")
    return b"/" + b"/".join(names)


# --- parts of the page of a directory -----------------------------------------------------------------


def breadcrumbs(visit: Visit, path: bytes | None) -> Markup:
    """Links to the directories above. path: of the innermost one; None: there is none."""
    steps, above = [], b"/"
    for name in filter(None, (path or b"").split(b"/")):
        above = posixpath.join(above, name)
        steps.append(element("li", element("a", shown(name), href=visit.address(above, True))))
    if not steps:
        return element("span", class_="path")
    return element("nav", element("ol", *steps), aria_label="Folders above", class_="path")


def summary(visit: Visit, seen: Seen) -> Markup:
    """The number of entries, and the free space."""
    count = count_text(seen.found, "entry", "entries")
    if seen.found < seen.total:
        count = f"{seen.found:,} of {count_text(seen.total, 'entry', 'entries')}"
    parts: list[object] = [f"{count}, {size_text(seen.size)} in files"]
    if seen.is_cut:
        parts.append(". There are more than can be shown here")
    space = visit.tree.space(visit.path)
    if space is not None and any(space):
        used, free = space
        words = f"{size_text(free)} free of {size_text(used + free)}"
        parts += [
            " · ",
            element(
                "span",
                element(
                    "meter",
                    words,
                    min=0,
                    max=used + free,
                    value=used,
                    high=int((used + free) * 0.9),
                    aria_label="Space that is used",
                ),
                words,
                class_="space",
            ),
        ]
    if not visit.may_change:
        parts.append(" · Read only")
    return element("p", *parts, class_="facts")


def toolbar(visit: Visit) -> Markup:
    """The tools for the directory."""
    share = element("a", icon("share"), "Share", href=visit.share_address(visit.path), class_="button")
    shares = [share] if visit.may_share else []
    if not visit.may_change:
        return element("div", *shares, class_="tools")
    place = visit.place()
    new = element(
        "form",
        token(visit.session),
        element("label", "Name of the new folder", for_="new"),
        element("input", id="new", name="new", required=True, maxlength=255, autocomplete="off", dir="auto"),
        element("button", "Create", name="do", value="mkdir", class_="primary"),
        method="post",
        action=place,
    )
    return element(
        "div",
        element("details", element("summary", icon("add"), "New folder"), new, class_="pop"),
        element(
            "details",
            element("summary", icon("upload"), "Upload"),
            upload_form(visit, place),
            class_="pop main",
        ),
        *shares,
        class_="tools",
    )


def upload_form(visit: Visit, place: str) -> Markup:
    """The form to choose files. The order of its fields matters: content comes last."""
    choices = (("keep", "keep both"), ("replace", "replace it"), ("skip", "leave it as it is"))
    options = [element("option", words, value=value) for value, words in choices]
    return element(
        "form",
        token(visit.session),
        element("label", "If a name is taken", for_="existing"),
        element("select", *options, id="existing", name="existing"),
        element("label", "Files", for_="files"),
        element("input", type="file", id="files", name="file", multiple=True, required=True),
        element("button", "Upload", class_="primary"),
        element("p", "Or drop files and folders anywhere on this page.", class_="hint only-script"),
        method="post",
        action=place,
        enctype="multipart/form-data",
        id="upload",
    )


def filter_form(view: View) -> Markup:
    """The form to filter names."""
    kept = [hidden(name, value) for name, value in view.query(words="", page=1).items()]
    clear = element(
        "a", "Show all", href=query_text(view.query(words="", page=1)) or "./", class_="button quiet"
    )
    return element(
        "form",
        *kept,
        element("label", "Filter by name", for_="q", class_="unseen"),
        element(
            "input",
            type="search",
            id="q",
            name="q",
            value=view.words,
            placeholder="Filter by name",
            dir="auto",
        ),
        element("button", "Filter"),
        clear if view.words else "",
        method="get",
        action="./",
        role="search",
        class_="filter",
    )


def table(visit: Visit, seen: Seen, view: View) -> Markup:
    """The entries, with check boxes."""
    name = posixpath.basename(visit.path)
    head = [element("th", _select_all(), scope="col", class_="pick")]
    head += [_column(key, label, view) for key, label in COLUMNS]
    head.append(element("th", element("span", "Download", class_="unseen"), scope="col", class_="get"))
    rows = [_row(visit, entry) for entry in seen.entries]
    caption = element("caption", "What is in ", shown(name) if name else "your files", class_="unseen")
    tools = [("zip", "download", "Download")]
    if visit.may_share:
        tools.append(("share", "share", "Share"))
    if visit.may_change:
        tools += [("move", "move", "Move"), ("rename", "rename", "Rename"), ("delete", "delete", "Delete")]
    buttons = [element("button", icon(picture), words, name="do", value=do) for do, picture, words in tools]
    return element(
        "form",
        token(visit.session),
        element(
            "div",
            element("span", "Chosen entries:", class_="count", aria_live="polite"),
            *buttons,
            role="group",
            aria_label="With the chosen entries",
            class_="chosen",
        ),
        element("table", caption, element("thead", element("tr", *head)), element("tbody", *rows)),
        method="post",
        action=visit.place(),
        id="selection",
    )


def _select_all() -> Markup:
    box = element("input", type="checkbox", id="all", aria_label="Choose all", class_="only-script")
    return joined([element("span", "Choose", class_="unseen"), box])


def _column(key: str, label: str, view: View) -> Markup:
    is_sorted = view.sort == key
    turned = not view.is_descending if is_sorted else key != NAME
    link = element(
        "a",
        label,
        element("span", "", class_="arrow", aria_hidden="true"),
        href="./" + query_text(view.query(sort=key, is_descending=turned, page=1)),
    )
    order = ("descending" if view.is_descending else "ascending") if is_sorted else None
    return element("th", link, scope="col", aria_sort=order, class_=key)


def _row(visit: Visit, entry: Entry) -> Markup:
    text = plain(entry.name)
    address = "./" + quoted(entry.name)
    box = element(
        "input", type="checkbox", name="name", value=name_value(entry.name), aria_label=f"Choose {text}"
    )
    target = address + ("/" if entry.is_directory else "?view=1" if entry.is_file else "")
    size = size_text(entry.size) if entry.is_file else ""
    changed = time_element(entry.mtime)
    link = element("a", previews.icon_of(entry), shown(entry.name), href=target)
    below = element("span", size, " · " if size and changed else "", changed, class_="below")
    get = (
        element("a", icon("download"), element("span", f"Download {text}", class_="unseen"), href=address)
        if entry.is_file
        else ""
    )
    return element(
        "tr",
        element("td", element("label", box), class_="pick"),
        element("th", link, below, scope="row", class_="name"),
        element("td", size, class_="size"),
        element("td", changed, class_="date"),
        element("td", get, class_="get"),
        class_="folder" if entry.is_directory else None,
    )


def nothing(visit: Visit, view: View) -> Markup:
    """The message in place of an empty table."""
    if view.words:
        return element("p", "No name here contains ", element("b", view.words), ".", class_="none")
    more = " Choose “Upload”, or drop files anywhere on this page." if visit.may_change else ""
    return element("p", "This folder is empty.", more, class_="none")


def pages_nav(seen: Seen, view: View) -> Markup:
    """Links to the other pages of a long directory."""
    if seen.pages == 1:
        return joined([])
    wanted = {1, seen.pages, *range(seen.page - 2, seen.page + 3)}
    links = [
        element(
            "li",
            element(
                "a",
                str(number),
                href="./" + query_text(view.query(page=number)),
                aria_current="page" if number == seen.page else None,
                aria_label=f"Page {number}",
            ),
        )
        for number in sorted(wanted)
        if 1 <= number <= seen.pages
    ]
    return element("nav", element("ol", *links), aria_label="Pages", class_="pages")


def undo_form(visit: Visit, deletion: Any) -> Markup:
    """A message about a delete that can still be undone."""
    names = [posixpath.basename(path) for path in deletion.paths]
    what = shown(names[0]) if len(names) == 1 else f"{len(names)} entries"
    seconds = max(1, int(deletion.seconds_left + 0.5))
    directory = posixpath.dirname(next(iter(deletion.paths)))
    return element(
        "form",
        token(visit.session),
        hidden("id", deletion.id),
        element("span", "Deleted: ", what, ". ", role="status"),
        element("button", "Undo", name="do", value="undo"),
        element("span", " for ", element("span", str(seconds), class_="left"), " s", class_="hint"),
        method="post",
        action=visit.address(directory, True),
        class_="message undo",
        data_seconds=seconds,
    )
