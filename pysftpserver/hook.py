"""Hooks: watch or veto any request. The audit log is one hook; quotas and notifications are others.

A hook says which requests it wants to see. It gets them by their names in the table of requests, with
decoded arguments. READ and WRITE take the engine's fast path if no hook wants them. What may not enter: wire
formats, storages.
"""

from __future__ import annotations

from pysftpserver.pysftpexceptions import SSH2_FX_PERMISSION_DENIED, SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any


class SFTPEvent:
    """One request, before and after it is served.

    name: as `pysftpjail -Q` prints it ("open", "read", "posix-rename", ...), or "init".
    arguments: the decoded arguments by name; paths and handles are bytes as the client sent them.
    path: the path that the request is about, or that its handle was opened with; None if there is none.
    target: the second path, if there is one: a new name, a link's text, the file that copy-data copies to.

    Set when the request has been served.
    status: the SSH2_FX_* code; also SSH2_FX_OK if the reply carries data instead of a status.
    message: the text that was sent with a failure.
    size: how many bytes of file content were read, written or copied.
    seconds: how long it took.
    read, written: when a file is closed, bytes read and written through its handle, copies included.
    sha256: of what was stored or fetched, if a hook wants digests; sha256_missing: why there is none.
    """

    # Class attributes, to keep events cheap: one is made for each request that a hook hears of.
    status = 0
    message = b""
    size = 0
    seconds = 0.0
    read: int | None = None
    written: int | None = None
    sha256: str | None = None
    sha256_missing = ""

    def __init__(
        self, name: str, arguments: dict[str, Any], path: bytes | None, target: bytes | None = None
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.path = path
        self.target = target

    def __repr__(self) -> str:
        return f"SFTPEvent({self.name!r}, path={self.path!r}, status={self.status}, size={self.size})"


class SFTPHook:
    """The base class of hooks. Override before() and after(), or methods for single requests.

    A method named `before_` or `after_` plus the name of a request, with `_` for `-` (before_remove,
    after_close, before_posix_rename), is called with the event of that request. Raising an SFTPException
    or an OSError before a request vetoes it, and the client gets its status; any other exception vetoes
    it too, as a FAILURE. An exception after a request is logged. SFTPSessionEnd, before or after, ends
    the session. Methods about a request take its event. The fields that are set when a request has been
    served are set only in after(), refused(), rejected() and abandoned().
    """

    #: Names of the requests that before() and after() are called for. None: those that it has methods for,
    #: or all, if it overrides before() or after().
    wants: Collection[str] | None = None

    #: Whether events of files that are closed have the SHA-256 of what was stored or fetched.
    wants_digests = False

    def hears(self, name: str) -> bool:
        """Whether before() and after() are called for requests of that name. Asked when a session begins."""
        if self.wants is not None:
            return name in self.wants
        for method in (self.before, self.after):
            if getattr(method, "__func__", None) not in (SFTPHook.before, SFTPHook.after):
                return True
        name = name.replace("-", "_")
        return hasattr(self, f"before_{name}") or hasattr(self, f"after_{name}")

    def started(self) -> None:
        """The session begins."""

    def ended(self) -> None:
        """The session is over, and its handles are closed."""

    def before(self, event: SFTPEvent) -> None:
        """A request is about to be served."""
        self._call("before_", event)

    def after(self, event: SFTPEvent) -> None:
        """A request was served, refused or failed; its reply is on its way."""
        self._call("after_", event)

    def refused(self, event: SFTPEvent) -> None:
        """A request that before() and after() are not called for was refused with PERMISSION_DENIED. Not
        called for READ and WRITE on the fast path."""

    def replying(self) -> None:
        """The replies to what was served so far are about to be sent, together if the requests came together.
        If this raises SFTPSessionEnd, they are dropped."""

    def rejected(self, event: SFTPEvent) -> None:
        """A request could not be served, because it is unknown ("unknown" is its name then), malformed or
        over a limit, or because its input is not SFTP. There was no before() for it, and there is no
        after()."""

    def abandoned(self, event: SFTPEvent) -> None:
        """The session is over, and a file is closed that the client has left open. "abandoned" is the name;
        before() and after() are not called."""

    def _call(self, prefix: str, event: SFTPEvent) -> None:
        method = getattr(self, prefix + event.name.replace("-", "_"), None)
        if method is not None:
            method(event)


class SFTPHooks(SFTPHook):
    """Several hooks as one. Each hears of the requests that it wants. The first veto counts; hooks after it
    are not asked about that request."""

    def __init__(self, *hooks: SFTPHook) -> None:
        self.hooks = hooks
        self.wants_digests = any(hook.wants_digests for hook in hooks)
        self._hearing: dict[str, list[SFTPHook]] = {}

    def started(self) -> None:
        for hook in self.hooks:
            hook.started()

    def ended(self) -> None:
        _call_all([hook.ended for hook in self.hooks])

    def hears(self, name: str) -> bool:
        return any(hook.hears(name) for hook in self.hooks)

    def before(self, event: SFTPEvent) -> None:
        for hook in self._that_hear(event.name):
            hook.before(event)

    def after(self, event: SFTPEvent) -> None:
        hearing = self._that_hear(event.name)
        methods = [hook.after for hook in hearing]
        if event.status == SSH2_FX_PERMISSION_DENIED:
            methods += [hook.refused for hook in self.hooks if hook not in hearing]
        _call_all(methods, event)

    def refused(self, event: SFTPEvent) -> None:
        _call_all([hook.refused for hook in self.hooks], event)

    def replying(self) -> None:
        _call_all([hook.replying for hook in self.hooks])

    def rejected(self, event: SFTPEvent) -> None:
        _call_all([hook.rejected for hook in self.hooks], event)

    def abandoned(self, event: SFTPEvent) -> None:
        _call_all([hook.abandoned for hook in self.hooks], event)

    def _that_hear(self, name: str) -> list[SFTPHook]:
        if name not in self._hearing:
            self._hearing[name] = [hook for hook in self.hooks if hook.hears(name)]
        return self._hearing[name]


def _call_all(methods: list[Callable[..., None]], *arguments: object) -> None:
    """Call all methods, then raise the first exception; SFTPSessionEnd and KeyboardInterrupt go first."""
    failure: BaseException | None = None
    for method in methods:
        try:
            method(*arguments)
        except BaseException as error:
            if failure is None or isinstance(error, (SFTPSessionEnd, KeyboardInterrupt)):
                failure = error
    if failure is not None:
        raise failure
