"""Hands a session over to pysftp-warm, if that is running, in the first milliseconds of a command.

The resident gets this process's standard descriptors and working directory. This process stays until the
session ends, passes signals on, and exits with its status. The resident serves nothing before this process
has sent GO, so a session is served once: by the resident, or here if anything fails before that.
What may not enter: imports, except modules built into the interpreter, and _socket once it is needed.
Facts: unix(7), cmsg(3), sshd(8).
"""

# No "from __future__ import annotations": that is an import as well.
import _signal as signal  # type: ignore[import-not-found]
import posix
import sys

PLACE = b"PYSFTP_WARM"  # in the environment: another socket; empty for none
#: Directories of the socket: of a resident of the same account, and of root's.
OWN, SHARED = "/run/user/%d/pysftp-warm", "/run/pysftp-warm"
NAME = "socket"

FORMAT = b"1"  # of the request
READY, GO = b"ready", b"go"  # each followed by a random number from the resident, so neither is sent early
PATIENCE = 2.0  # seconds for an answer
LONGEST = 1 << 16  # bytes of a request
ANSWER = 16  # bytes
#: Variables of the environment that a session obeys.
ENVIRONMENT = (
    *(b"HOME", b"LOGNAME", b"SSH_CONNECTION", b"SSH_ORIGINAL_COMMAND", b"SSH_USER_AUTH", b"TZ", b"USER"),
)
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
LOST = 1  # exit status if the session's own is not known
WRITABLE_BY_OTHERS = 0o022
KIND, DIRECTORY, SOCKET = 0o170000, 0o040000, 0o140000  # bits of a mode


def hand_over(prog: str) -> None:
    """Have the session of a command served by a resident, and end; return if this process has to serve it.

    prog: the command, which was started with sys.argv.
    """
    if "--check" in sys.argv:
        return  # this command itself is being tested
    uid = posix.getuid()
    for place in _places(uid):
        try:
            if _is_safe(place, uid):
                _hand_over_to(place, uid, prog)
        except OSError:
            pass


def _places(uid: int) -> list[bytes]:
    told = posix.environ.get(PLACE)
    if told is not None:
        return [told] if told else []
    return [f"{directory}/{NAME}".encode() for directory in (OWN % uid, SHARED)]


def _is_safe(place: bytes, uid: int) -> bool:
    """Whether only this account or root can have created that socket. Raises OSError."""
    for path, kind in ((place.rpartition(b"/")[0] or b".", DIRECTORY), (place, SOCKET)):
        found = posix.lstat(path)
        if found.st_mode & KIND != kind or found.st_uid not in (0, uid):
            return False
        if kind == DIRECTORY and found.st_mode & WRITABLE_BY_OTHERS:
            return False
    return True


def code() -> bytes:
    """Identifies this code: the interpreter and the package's directory, which a newer version replaces."""
    found = posix.stat(__file__.rpartition("/warm/")[0])
    return b"%d %d %d" % (sys.hexversion, found.st_dev, found.st_ino)


def _hand_over_to(place: bytes, uid: int, prog: str) -> None:
    """Hand over to the resident that listens there, and end; return or raise OSError if it does not."""
    import _socket

    request = _request(prog)
    if len(request) > LONGEST or posix.geteuid() != uid:
        return
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    sock.settimeout(PATIENCE)
    sock.connect(place)
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    if int.from_bytes(credentials[4:8], sys.byteorder) not in (0, uid):
        return
    sock.send(request)
    answer = sock.recv(ANSWER)
    if not answer.startswith(READY):
        return
    here = posix.open(".", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    posix.fchdir(here)  # otherwise the resident may not be able to
    descriptors = b"".join(one.to_bytes(4, sys.byteorder) for one in (0, 1, 2, here))

    def pass_on(number: int, frame: object) -> None:
        try:
            sock.send(b"%d" % number)
        except OSError:
            pass  # it has ended

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    # Not earlier: descriptors that are never received would keep the session's streams open.
    sock.sendmsg([GO, answer.removeprefix(READY)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
    posix._exit(_status(sock))


def _request(prog: str) -> bytes:
    mask = posix.umask(0o077)
    posix.umask(mask)
    environment = [b"%s=%s" % (name, posix.environ[name]) for name in ENVIRONMENT if name in posix.environ]
    words = [FORMAT, code(), prog.encode(), b"%o" % mask, b"%d" % len(environment), *environment]
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    words += [word.encode(encoding, errors) for word in sys.argv[1:]]
    return b"\0".join(words)


def _status(sock: object) -> int:
    """Wait for the end of the session; return the exit status."""
    sock.settimeout(None)  # type: ignore[attr-defined]
    while True:
        try:
            answer = sock.recv(ANSWER)  # type: ignore[attr-defined]
        except ConnectionResetError:
            continue  # a signal that it did not hear; what it said before is still there
        except OSError:
            answer = b""
        return int(answer) if answer.isdigit() else LOST
