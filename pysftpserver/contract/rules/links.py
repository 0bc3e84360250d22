"""Rules for symbolic and hard links."""

from __future__ import annotations

from pysftpserver.contract.client import FAILED, NOT_FOUND, SENSELESS
from pysftpserver.contract.table import DRAFT, MUST, OPENSSH, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

TEXTS = (b"f", b"/absolute/path", b"../..//up/./", b"missing \xff\n'\"", b"x" * 1000, b"%s")


@rule(MUST, f"{DRAFT}, 6.10", "READLINK answers a link's text byte for byte.", "symlink", "readlink")
def link_text(subject: Subject) -> None:
    for number, text in enumerate(TEXTS):
        path = subject.path(b"link-%d" % number)
        subject.client.symlink(text, path)
        subject.equal(subject.client.readlink(path), text, "the text of a link")


@rule(
    MUST,
    f"{OPENSSH}, 4.1",
    "SYMLINK takes the target first and the link's path second, as OpenSSH does.",
    "symlink",
    "readlink",
)
def symlink_target_first(subject: Subject) -> None:
    path = subject.path(b"link")
    subject.client.symlink(b"target", path)
    subject.equal(subject.client.readlink(path), b"target", "the text of the link")


@rule(
    MUST,
    f"{DRAFT}, 6.10",
    "READLINK of what is no link fails; of what does not exist with NO_SUCH_FILE.",
    "readlink",
    "open",
    "close",
    "write",
)
def readlink_of_no_link(subject: Subject) -> None:
    subject.refuses((FAILED, SENSELESS), subject.client.readlink, subject.file(b"f"))
    subject.refuses(NOT_FOUND, subject.client.readlink, subject.path(b"missing"))
