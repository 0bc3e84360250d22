"""Files sent by a form: received piece by piece, each put under its name when all of it has arrived.

What may not enter: how a body is parsed, resumed uploads, concrete storages.
"""

from __future__ import annotations

import posixpath

from pysftpserver.http import ProtocolError
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.web.application import CSRF, check_csrf
from pysftpserver.web.files import joined
from pysftpserver.web.html import count_text, plain, shown
from pysftpserver.web.multipart import Malformed, boundary_of, form_parts
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.web.multipart import FormPart
    from pysftpserver.web.pages import Visit
    from pysftpserver.web.wire import Reply

MOST_FIELD = 4096  # bytes
MOST_FIELDS = 100
KEEP, REPLACE, SKIP = "keep", "replace", "skip"  # what becomes of a file whose name is taken


def receive(visit: Visit) -> Reply:
    """Receive the files of a form, whose fields come before them. Raises Refusal."""
    environ = visit.request.environ
    fields: dict[bytes, str] = {}
    is_ours = False
    stored: list[bytes] = []
    try:
        for part in form_parts(environ["wsgi.input"].read, boundary_of(environ.get("CONTENT_TYPE", ""))):
            if part.filename is None:
                if len(fields) >= MOST_FIELDS:
                    raise Malformed
                fields[part.name] = part.value(MOST_FIELD).decode("utf-8", "replace")
                continue
            if not is_ours:
                check_csrf(visit.session, fields.get(CSRF.encode(), ""))
                is_ours = True
            if part.filename:
                path = _store(visit, part, fields.get(b"existing", KEEP))
                stored += [path] if path else []
    except (Malformed, ProtocolError, TimeoutError) as error:
        words = str(error) if isinstance(error, Malformed) else "The upload broke off; try again."
        if stored:
            visit.say(f"{count_text(len(stored), 'file', 'files')} arrived before that.")
        raise Refusal(400, words) from None
    if not is_ours:
        check_csrf(visit.session, fields.get(CSRF.encode(), ""))
        return visit.tell_problem("Choose at least one file to upload.")
    if not stored:
        return visit.back()
    what = shown(posixpath.basename(stored[0])) if len(stored) == 1 else f"{len(stored)} files"
    return visit.tell(what, " uploaded.")


def _store(visit: Visit, part: FormPart, existing: str) -> bytes | None:
    """Store a file; return its path. Failures are reported on the next page."""
    name = (part.filename or b"").replace(b"\\", b"/").rpartition(b"/")[2]
    path = b""
    try:
        path = joined(visit.path, name.decode("utf-8", "surrogateescape"))
        if visit.hides(visit.path):
            raise FileProblem("the folder was deleted", "NO_SUCH_FILE")
        visit.files.deletions.settle(visit.session, path)
        if existing == SKIP and visit.tree.look(path) is not None:
            visit.say(shown(name), " was left as it is.")
            return None
        file = visit.tree.receive(path, existing == REPLACE)
        try:
            for piece in part.pieces:
                with as_problems():
                    file.write(memoryview(piece))
        except BaseException:
            file.discard()
            raise
        with as_problems():
            file.commit()
    except FileProblem as error:
        if path:
            visit.note("put", path, error)
        visit.say(f"{plain(name)} was not uploaded: {error}.", is_problem=True)
        return None
    visit.note("put", file.path, size=file.size)
    return file.path
