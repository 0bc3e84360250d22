"""What a server lacks, in the words of Rule.needs: from the extensions that it announces, and by trying.

A server lacks what it refuses with OP_UNSUPPORTED or PERMISSION_DENIED. Any other failure is for the rules to
judge. What may not enter: verdicts.
"""

from __future__ import annotations

from stat import S_ISDIR

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import EXTENSIONS, METHODS
from pysftpserver.contract.client import DENIED, READ, UNSUPPORTED, WRITE, Broken, Refused, refusal_of
from pysftpserver.contract.rules import RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.client import Client
    from pysftpserver.probe.sessions import Sessions

#: Extensions that give one method each.
GIVES = {
    name: method
    for name, (method, *_) in EXTENSIONS.items()
    if name.endswith(b"@openssh.com") and method != "rename"
}
FIELDS = ("owner", "permissions", "times", "size")
#: Everything that changes something: a read-only server lacks all of it.
WRITING = frozenset(
    "write setstat fsetstat lsetstat mkdir rmdir rm rename symlink link fsync".split() + list(FIELDS)
)
SAYS_SO = (UNSUPPORTED, DENIED)


def announced(client: Client) -> set[str]:
    """What a server lacks, according to the extensions that it announces."""
    needs = (
        {need for rule in RULES.values() for need in rule.needs} - METHODS - {*FIELDS, "nlink", "realpath"}
    )
    lacks = {need for need in needs if need.encode() not in client.extensions}
    lacks |= {method for name, method in GIVES.items() if name not in client.extensions}
    return lacks  # a file's link count has no field, but can be read in listings


def tried(sessions: Sessions, directory: bytes, allow: Callable[[], None]) -> set[str]:
    """What a server lacks when it is tried in an empty directory. Sets the client's target_first.

    allow: called before each part, to give more time. A lost session is replaced: why it was lost is for the
    rules to judge.
    """
    trial = _Trial(sessions, directory)
    for part in (trial.written, trial.opened, trial.changed, trial.named, trial.linked, trial.linked_hard):
        allow()
        try:
            part()
        except Broken:
            sessions.replace()
    return trial.lacks


class _Trial:
    """Tries each request once. lacks: what was refused."""

    def __init__(self, sessions: Sessions, directory: bytes) -> None:
        self.lacks: set[str] = set()
        self._sessions = sessions
        self._directory = directory
        self._file = self._path(b"file")

    @property
    def _client(self) -> Client:
        return self._sessions.client()

    def _path(self, name: bytes) -> bytes:
        return self._directory.rstrip(b"/") + b"/" + name

    def _try(self, what: str, call: Callable[..., object], *arguments: object) -> Refused | None:
        """Try a request; if the server says that it is unsupported, add it to lacks. Returns the refusal."""
        refusal = refusal_of(call, *arguments)
        if refusal is not None and refusal.status in SAYS_SO:
            self.lacks.add(what)
        return refusal

    def written(self) -> None:
        """Try to make files."""
        self._try("write", self._client.put, self._file, b"content")

    def opened(self) -> None:
        """Try to read a file, and to change its attributes through a handle."""
        client = self._client
        try:
            handle = client.open(self._file, READ)
        except Refused as refusal:
            if refusal.status in SAYS_SO:
                self.lacks |= {"open", "read", "fstat"}
            return
        self._try("read", client.read, handle, 0, 1)
        self._try("fstat", client.fstat, handle)
        self._try("close", client.close_handle, handle)
        try:
            handle = client.open(self._file, WRITE)
        except Refused:
            return
        mode = SFTPAttributes(permissions=0o644)
        refusals = [refusal_of(client.fsetstat, handle, attributes) for attributes in (mode, _times())]
        if all(refusal is not None and refusal.status in SAYS_SO for refusal in refusals):
            self.lacks.add("fsetstat")
        refusal_of(client.close_handle, handle)

    def changed(self) -> None:
        """Try which attributes can be changed; fields that the server does not report are lacking as well."""
        client, path = self._client, self._file
        self._try("stat", client.stat, path)
        try:
            found = client.lstat(path)
        except Refused as refusal:
            if refusal.status in SAYS_SO:
                self.lacks.add("lstat")
            found = SFTPAttributes()
        fields = {
            "permissions": SFTPAttributes(permissions=0o640),
            "times": _times(),
            "size": SFTPAttributes(size=3),
        }
        if found.uid is None:
            self.lacks.add("owner")
        else:
            fields["owner"] = SFTPAttributes(uid=found.uid, gid=found.gid)
        for field, attributes in fields.items():
            self._try(field, client.setstat, path, attributes)
        if found.permissions is None:
            self.lacks.add("permissions")
        if found.mtime is None:
            self.lacks.add("times")
        if fields.keys() <= self.lacks:
            self.lacks.add("setstat")
        if b"lsetstat@openssh.com" in client.extensions:
            self._try("lsetstat", client.lsetstat, path, fields["permissions"])

    def named(self) -> None:
        """Try to list, rename and remove names."""
        client = self._client
        self._try("opendir", self._list)
        self._try("rename", client.rename, self._file, self._path(b"renamed"))
        self._try("rm", client.remove, self._path(b"renamed"))
        self._try("mkdir", client.mkdir, self._path(b"directory"))
        self._try("rmdir", client.rmdir, self._path(b"directory"))
        if b"statvfs@openssh.com" in client.extensions:
            self._try("statvfs", client.statvfs, self._directory)

    def _list(self) -> None:
        handle = self._client.opendir(self._directory)
        self._client.readdir(handle)
        self._client.close_handle(handle)

    def linked(self) -> None:
        """Try SYMLINK in OpenSSH's order: which of the two paths became the link shows the server's order."""
        client, first, second = self._client, self._path(b"first"), self._path(b"second")
        client.target_first = True
        if self._try("symlink", client.symlink, first, second) is not None:
            self._try("readlink", client.readlink, second)
            return
        # Before READLINK, which may end the session: with the wrong order, links are made outside.
        client.target_first = refusal_of(client.lstat, first) is not None
        self._look_through_a_link(b"to-here")
        if self._try("readlink", client.readlink, second) is None:
            client.target_first = True
        elif refusal_of(client.readlink, first) is None:
            client.target_first = False
        elif client.target_first and refusal_of(client.lstat, second) is not None:
            self.lacks.add("symlink")  # it is unknown which of the two paths becomes the link
        self._look_through_a_link(b"to-here-too")

    def _look_through_a_link(self, name: bytes) -> None:
        """Find out whether LSTAT follows a link to a directory, which must then not be emptied."""
        client, link = self._client, self._path(name)
        if refusal_of(client.symlink, self._directory, link) is None:
            mode = None if refusal_of(client.lstat, link) else client.lstat(link).permissions
            client.lstat_follows = client.lstat_follows or mode is not None and S_ISDIR(mode)

    def linked_hard(self) -> None:
        """Try to give a file another name."""
        client = self._client
        if b"hardlink@openssh.com" in client.extensions:
            refusal_of(client.put, self._file, b"")
            self._try("link", client.link, self._file, self._path(b"other"))


def _times() -> SFTPAttributes:
    return SFTPAttributes(atime=1_000_000_000, mtime=1_000_000_001)
