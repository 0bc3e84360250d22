"""Refusals over WebDAV, and how problems of a storage are reported to clients.

What may not enter: sessions, methods. Facts: RFC 4918 (sections 11 and 16), RFC 4331 (section 6).
"""

from __future__ import annotations

import errno

from pysftpserver.http.files import FileProblem
from pysftpserver.web.dav_xml import KIND, error
from pysftpserver.web.wire import TEXT, Refusal, Reply

STATUS_OF_RESULT = {
    "NO_SUCH_FILE": 404,
    "PERMISSION_DENIED": 403,
    "OP_UNSUPPORTED": 403,
    "BAD_MESSAGE": 400,
    "NO_CONNECTION": 503,
    "CONNECTION_LOST": 503,
}
STATUS_OF_ERRNO = {
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EFBIG: 507,
    errno.EROFS: 403,
    errno.ELOOP: 403,
    errno.EXDEV: 403,
    errno.EEXIST: 405,
    errno.EISDIR: 405,
    errno.ENOTDIR: 409,
    errno.ENOTEMPTY: 409,
    errno.EBUSY: 409,
}


class DavRefusal(Refusal):
    """A refusal with a condition that programs understand. condition: the content of D:error, XML."""

    def __init__(self, status: int, words: str, condition: str) -> None:
        super().__init__(status, words)
        self.condition = condition


RESULTS = {404: "NO_SUCH_FILE", 403: "PERMISSION_DENIED", 400: "BAD_MESSAGE"}


def refusal_of(problem: FileProblem) -> Refusal:
    """The refusal for a problem of a storage."""
    status = STATUS_OF_ERRNO.get(problem.errno) or STATUS_OF_RESULT.get(problem.result)
    if status is None:
        status = 500 if problem.errno else 403  # a storage has refused it, in its own words
    words = str(problem)
    if status == 507:
        return DavRefusal(507, words, "<D:quota-not-exceeded/>")
    return Refusal(status, words)


def problem_of(refusal: Refusal) -> FileProblem:
    """A refusal as a problem, for the audit log."""
    return FileProblem(refusal.words, RESULTS.get(refusal.status, "FAILURE"))


def reply_of(refusal: Refusal) -> Reply:
    """A refusal as a reply: XML if there is a condition, else a line of text."""
    condition = getattr(refusal, "condition", "")
    if condition:
        return Reply(error(condition), refusal.status, refusal.headers, KIND)
    return Reply(refusal.words.encode() + b"\n", refusal.status, refusal.headers, TEXT)
