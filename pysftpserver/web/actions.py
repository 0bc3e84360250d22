"""Does what the forms on pages ask for: new folders, renames, moves, deletes, undoing them, zips.

Each is the answer to one POST at the path of a directory. What may not enter: concrete storages, uploads.
Facts: RFC 9110, section 15.4.4 (See Other).
"""

from __future__ import annotations

import os
import posixpath
import urllib.parse

from pysftpserver.http.files import FileProblem
from pysftpserver.uploads.temporary import is_temporary
from pysftpserver.web import zipping
from pysftpserver.web.deletions import is_within
from pysftpserver.web.files import joined
from pysftpserver.web.html import count_text, element, hidden, name_value, page, plain, shown, token
from pysftpserver.web.wire import Refusal, Reply, quoted, unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.html import Markup
    from pysftpserver.web.pages import Visit

MOST_OFFERED = 300  # directories offered as targets of a move


class Form:
    """The fields of a form."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def value(self, name: str) -> str:
        """The last value of a field; "" if there is none."""
        return next((value for key, value in reversed(self._fields) if key == name), "")

    def names(self) -> list[bytes]:
        """The names that were chosen. Raises Refusal."""
        found = [unquoted(value) for key, value in self._fields if key == "name"]
        if any(not name or b"/" in name or b"\0" in name or name in (b".", b"..") for name in found) or any(
            map(is_temporary, found)
        ):
            raise Refusal(400, "That is not the name of a file; load the page again.")
        return list(dict.fromkeys(found))


def act(visit: Visit, form: Form) -> Reply:
    """Do what a form asks for. Raises Refusal, FileProblem."""
    action = ACTIONS.get(form.value("do"))
    if action is None:
        raise Refusal(400, "This form asks for nothing that is known; load the page again.")
    return action(visit, form)


def make_folder(visit: Visit, form: Form) -> Reply:
    """Make a directory."""
    name = form.value("new")
    path = joined(visit.path, name)
    visit.files.deletions.settle(visit.session, path)
    try:
        visit.tree.make_directory(path)
    except FileProblem as error:
        if visit.tree.look(path) is not None:
            error = FileProblem("there is something of that name already; choose another one", error.result)
        visit.note("mkdir", path, error)
        return visit.tell_problem("The folder ", shown(os.fsencode(name)), f" was not made: {error}.")
    visit.note("mkdir", path)
    return visit.tell("The folder ", shown(os.fsencode(name)), " is there now.")


def delete(visit: Visit, form: Form) -> Reply:
    """Delete the chosen entries, unless that is undone."""
    names = _chosen(form)
    paths = [posixpath.join(visit.path, name) for name in names]
    visit.files.deletions.add(visit.session, visit.tree, paths)
    return visit.back()


def undo(visit: Visit, form: Form) -> Reply:
    """Undo a delete."""
    if visit.files.deletions.undo(visit.session, form.value("id")) is None:
        return visit.tell_problem("It is too late to undo that: the ten seconds are over.")
    return visit.tell("Nothing was deleted.")


def rename(visit: Visit, form: Form) -> Reply:
    """Rename the chosen entry, or ask for the new name first."""
    names = _chosen(form)
    if len(names) > 1:
        return visit.tell_problem(
            "Choose one file or folder to rename; several have to be renamed one by one."
        )
    old = posixpath.join(visit.path, names[0])
    if not form.value("new"):
        return _rename_page(visit, names[0])
    new = joined(visit.path, form.value("new"))
    if new == old:
        return visit.back()
    problem = _move(visit, old, new)
    if problem:
        return visit.tell_problem(shown(names[0]), f" was not renamed: {problem}.")
    return visit.tell(shown(names[0]), " is now called ", shown(posixpath.basename(new)), ".")


def move(visit: Visit, form: Form) -> Reply:
    """Move the chosen entries to another directory, or ask for it first."""
    names = _chosen(form)
    if not form.value("to"):
        return _move_page(visit, names)
    typed = form.value("typed").strip()
    to = os.fsencode(typed) if typed else unquoted(form.value("to"))
    to = posixpath.normpath(b"/" + posixpath.join(visit.path, to).lstrip(b"/"))
    is_path = b"\0" not in to and not any(map(is_temporary, to.split(b"/")))
    found = visit.tree.find(to) if is_path and not visit.hides(to) else None
    if found is None or not found.is_directory:
        return visit.tell_problem("There is no folder ", shown(to), ".")
    moved = 0
    for name in names:
        problem = _move(visit, posixpath.join(visit.path, name), posixpath.join(to, name))
        if problem:
            visit.say(shown(name), f" was not moved: {problem}.", is_problem=True)
        else:
            moved += 1
    if not moved:
        return visit.back()
    where = element("a", shown(posixpath.basename(to) or b"Files"), href=visit.address(to, True))
    return visit.tell(count_text(moved, "entry was", "entries were"), " moved to ", where, ".")


def download_as_zip(visit: Visit, form: Form) -> Reply:
    """Send the chosen entries as one zip."""
    paths = [posixpath.join(visit.path, name) for name in _chosen(form)]
    if any(visit.hides(path) for path in paths):
        raise FileProblem("no such file or directory", "NO_SUCH_FILE")
    for path in paths:
        visit.note("get", path)
    return zipping.zip_reply(visit.tree, paths)


def share(visit: Visit, form: Form) -> Reply:
    """Send the browser to the page that makes a link to the chosen entry."""
    names = _chosen(form)
    if len(names) > 1:
        return visit.tell_problem("Choose one file or folder to share; several have to be in one folder.")
    return Reply(b"", 303, [("Location", visit.share_address(posixpath.join(visit.path, names[0])))])


ACTIONS: dict[str, Callable[[Visit, Form], Reply]] = {
    "mkdir": make_folder,
    "delete": delete,
    "undo": undo,
    "rename": rename,
    "move": move,
    "zip": download_as_zip,
    "share": share,
}
CHANGE_NOTHING = ("zip", "share")


def _chosen(form: Form) -> list[bytes]:
    names = form.names()
    if not names:
        raise FileProblem("choose files or folders first: tick the boxes beside their names", "BAD_MESSAGE")
    return names


def _move(visit: Visit, old: bytes, new: bytes) -> str:
    """Rename an entry; return why that failed, or ""."""
    if is_within(new, old) and new != old:
        return "a folder cannot be moved into itself"
    if visit.hides(old):
        return "no such file or directory"
    try:
        visit.files.deletions.settle(visit.session, new)
        visit.files.deletions.settle(visit.session, old)
        visit.tree.move(old, new)
    except FileProblem as error:
        visit.note("rename", old, error, target=new)
        try:
            is_taken = visit.tree.look(old) is not None and visit.tree.look(new) is not None
        except FileProblem:
            is_taken = False
        return "there is something of that name already" if is_taken else str(error)
    visit.note("rename", old, target=new)
    return ""


def _asking(visit: Visit, title: str, *fields: Markup, names: list[bytes], do: str, label: str) -> Reply:
    """A page with a form that asks for something more."""
    form = element(
        "form",
        token(visit.session),
        *(hidden("name", name_value(name)) for name in names),
        *fields,
        element(
            "p",
            element("button", label, name="do", value=do, class_="primary"),
            element("a", "Cancel", href=visit.place(), class_="button"),
            class_="buttons",
        ),
        method="post",
        action=visit.place(),
        class_="ask",
    )
    return page(visit.request, title, element("h1", title), form, kind="narrow")


def _rename_page(visit: Visit, name: bytes) -> Reply:
    field = element(
        "input", id="new", name="new", value=plain(name), required=True, autofocus=True, maxlength=255,
        autocomplete="off", spellcheck="false", dir="auto",
    )  # fmt: skip
    label = element("label", "New name for ", shown(name), for_="new")
    return _asking(visit, "Rename", element("p", label, field), names=[name], do="rename", label="Rename")


def _move_page(visit: Visit, names: list[bytes]) -> Reply:
    offered = _places(visit, names)
    options = [
        element("option", plain(path) if path != b"/" else "/ (all files)", value=name_value(path))
        for path in offered
    ]
    what = shown(names[0]) if len(names) == 1 else f"{len(names)} entries"
    chosen = (
        element("label", "Move ", what, " to the folder", for_="to"),
        element("select", *options, id="to", name="to"),
    )
    typed = (
        element("label", "or to this one, by its path", for_="typed"),
        element(
            "input",
            id="typed",
            name="typed",
            placeholder="/folder/in/a/folder",
            autocomplete="off",
            dir="auto",
        ),
    )
    return _asking(
        visit, "Move", element("p", *chosen), element("p", *typed), names=names, do="move", label="Move"
    )


def _places(visit: Visit, names: list[bytes]) -> list[bytes]:
    """Directories near this one: those in it, above it, and next to it."""
    moved = {posixpath.join(visit.path, name) for name in names}
    found: list[bytes] = []
    above = visit.path
    while above != b"/":
        above = posixpath.dirname(above)
        found.append(above)
    for directory in dict.fromkeys((visit.path, posixpath.dirname(visit.path), b"/")):
        if len(found) > MOST_OFFERED:
            break
        try:
            below = sorted(entry.path for entry in visit.tree.entries(directory) if entry.is_directory)
        except FileProblem:
            continue
        found += below
    usable = [path for path in dict.fromkeys(found) if path != visit.path and path not in moved]
    return [path for path in usable if not visit.hides(path)][:MOST_OFFERED]


def query_text(query: dict[str, str]) -> str:
    """A query in the form that follows a path in a URL."""
    return "?" + urllib.parse.urlencode(query, errors="replace") if query else ""


def address_of(root: bytes, path: bytes, is_directory: bool) -> str:
    """The path in URLs of a path in the storage."""
    return quoted(root + b"/files" + path.rstrip(b"/") + (b"/" if is_directory else b""))
