"""The vocabulary: what a request is made of, and random sequences of requests that get in each other's way.

The names are few on purpose: a random RENAME must often meet what a random MKDIR made. Handles are
symbolic, "the second of the files that are open now", so that a step means the same to both servers and
still means something after a shorter sequence was tried.
"""

import tempfile
from typing import NamedTuple

from tests.support.examples import st

from . import packets
from .packets import APPEND, CREAT, EXCL, READ, TRUNC, WRITE, Attributes
from .twins import LONG_NAME, LONG_PAST


def _last_offset() -> tuple[int, ...]:
    """The last offset, where the file system of the trees has none so large, as ext4 has not.

    On a tmpfs, the reference's position stays there, so that an append fails afterwards, and a copy to there
    reads or not. What is asked there once is in test_file_rules.py.
    """
    with tempfile.TemporaryFile() as file:
        try:
            file.seek((1 << 63) - 1)
        except OSError:
            return ((1 << 63) - 1,)
    return ()


# What follows the id (of an extended request: its name) on the wire. "target" is the text of a symlink.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "open": ("path", "u32", "attrs"),
    "close": ("handle",),
    "read": ("handle", "u64", "u32"),
    "write": ("handle", "u64", "string"),
    "lstat": ("path",),
    "fstat": ("handle",),
    "setstat": ("path", "attrs"),
    "fsetstat": ("handle", "attrs"),
    "opendir": ("path",),
    "readdir": ("handle",),
    "remove": ("path",),
    "mkdir": ("path", "attrs"),
    "rmdir": ("path",),
    "realpath": ("path",),
    "stat": ("path",),
    "rename": ("path", "path"),
    "readlink": ("path",),
    "symlink": ("target", "path"),
    "posix-rename@openssh.com": ("path", "path"),
    "statvfs@openssh.com": ("path",),
    "fstatvfs@openssh.com": ("handle",),
    "hardlink@openssh.com": ("path", "path"),
    "fsync@openssh.com": ("handle",),
    "lsetstat@openssh.com": ("path", "attrs"),
    "limits@openssh.com": (),
    "expand-path@openssh.com": ("path",),
    "copy-data": ("handle", "u64", "u64", "handle", "u64"),
    "home-directory": ("string",),
    "users-groups-by-id@openssh.com": ("string", "string"),
    # Unknown to both.
    "": ("string",),
    "fsync": ("handle",),
    "no-such-extension@example.com": ("string",),
}


class Handle(NamedTuple):
    """The `number`-th (modulo their count) handle of a kind.

    Kinds: "file" and "directory" are open now, "closed" was open once, "bogus" never was. A kind of which
    there is none stands for a handle that was never issued.
    """

    kind: str
    number: int = 0

    def __repr__(self) -> str:
        return f"Handle({self.kind!r}, {self.number})"


class Step(NamedTuple):
    """One request, or the whole reading of a directory handle ("readdir").

    The request "raw" has a packet type and a body as its arguments, sent as they are.
    """

    request: str
    arguments: tuple[object, ...]

    def __repr__(self) -> str:
        return f"Step({self.request!r}, {self.arguments!r})"

    def argument(self, kind: str, number: int = 0) -> object:
        """The `number`-th argument of this kind."""
        layout = LAYOUTS[self.request]
        places = [place for place, name in enumerate(layout) if name == kind]
        return self.arguments[places[number]]

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The arguments that name a file (a symlink's text does not)."""
        layout = LAYOUTS.get(self.request, ())
        return tuple(value for name, value in zip(layout, self.arguments, strict=False) if name == "path")


def step(request: str, *arguments: object) -> Step:
    """A step of a hand-written sequence; missing attributes are empty."""
    layout = LAYOUTS.get(request)
    if layout and layout[-1] == "attrs" and len(arguments) == len(layout) - 1:
        arguments += (Attributes(),)
    return Step(request, arguments)


class OpenHandle(NamedTuple):
    """A handle that both servers issued.

    `names` are the reference's and our name for it, `opened` the step that opened it, `inode` that of the
    reference's file, `directory` whether that is one, opened as a file.
    """

    kind: str
    names: tuple[bytes, bytes]
    opened: Step | None = None
    inode: int = 0
    directory: bool = False


NO_HANDLE = OpenHandle("none", (b"never issued", b"never issued"))
BOGUS_HANDLES = (b"never", b"", b"abc", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"h" * 300)

_PLAIN_NAMES = (b"f", b"g", b"d", b"d/f", b"d/e", b"empty", b"n", b"d/n", b"empty/n", b"hard", b"large")
_DIRECTORY_NAMES = (b"d", b"d/e", b"empty", b".", b"to-d", b"a b", b"n")
_LINK_NAMES = (b"to-f", b"to-d", b"dangling", b"loop", b"missing", b"to-d/f", b"to-d/n", b"d/up", b"to-to-f")
_ODD_NAMES = (
    b"",
    b".",
    b"..",
    b"/",
    b"//",
    b"/f",
    b"//f",
    b"/d/e",
    b"/d/../f",
    b"/nope/x",
    b"/n",
    b"./f",
    b"d//f",
    b"d/./f",
    b"d/..",
    b"d/../f",
    b"d/../n",
    b"d/.",
    b"to-d/..",
    b"to-d/../f",
    b"dangling/..",
    b"nope/..",
    b"nope/../f",
    b"f/",
    b"f/.",
    b"f/..",
    b"f/x",
    b"d/",
    b"d/e/",
    b"n/",
    b"empty//",
    b"to-f/",
    b"to-d/",
    b"dangling/",
    b"loop/",
    b"loop/x",
    b"d/to-loop",
    b"nope/x",
    b"../x",
    b"../tree/f",
    b"fifo",
    b"a b",
    b"a b/c d",
    b"new\nline",
    b"caf\xe9\xff",
    b"-rf",
    b"~",
    b"~/f",
    b"*",
    b"%s%n",
    LONG_NAME,
    b"x" * 255,
    b"x" * 256,
    b"d/" + b"y" * 256,
    b"d/../" * 700 + b"f",  # 3501 bytes
    b"d/../" * 1000 + b"f",  # over PATH_MAX
)
_TARGETS = (
    b"f",
    b"d",
    b"d/e",
    b"n",
    b"../f",
    b"to-f",
    b"loop",
    b"missing",
    b".",
    b"d/",
    b"",
    b"caf\xe9",
    b"t" * 256,
    b"t" * 4095,
    b"t" * 4096,
)
_ABSOLUTE_TARGETS = (b"/f", b"/d", b"/nope", b"/")
_USERS_OF_TILDE = (b"~no-such-user", b"~no-such-user/x", b"~~", b"~root", b"~root/x")
_SIZES = (0, 1, 3, 10, 11, 100, 65536, 300_000, 1 << 63, (1 << 64) - 1)
_OFFSETS = (0, 0, 0, 1, 5, 9, 10, 11, 100, 70_001, 281_599, *_last_offset(), 1 << 63, (1 << 64) - 1)
_READ_LENGTHS = (0, 1, 4, 10, 100, 65_537, 261_120, 261_121, 262_144, (1 << 32) - 1)
_COPY_LENGTHS = (0, 0, 1, 5, 65_536)
_MODES = (0, 0o400, 0o600, 0o644, 0o666, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o7777, 0o100640, 0o40711)
_MOMENTS = (0, 1, LONG_PAST, 1_700_000_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_OWNERS = (0, 1, 1000, 65534, (1 << 32) - 1)
_IDS = (b"", packets.u32(0), packets.u32(0) + packets.u32(1) + packets.u32(77777), packets.u32((1 << 32) - 1))
_FLAGS = (
    READ,
    WRITE,
    READ | WRITE,
    WRITE | CREAT,
    READ | WRITE | CREAT,
    WRITE | CREAT | TRUNC,
    WRITE | CREAT | EXCL,
    WRITE | APPEND,
    READ | WRITE | CREAT | APPEND,
)
MALFORMED_BODIES = (b"", b"\0\0\0", b"\0\0\0\x05ab", b"\xff\xff\xff\xff")
UNKNOWN_TYPES = (0, 2, 21, 99, 101, 105, 199, 201, 255)


def sequences(user: str, jailed: bool, length: int) -> st.SearchStrategy[list[Step]]:
    """Sequences of `length` steps. `user` is the one the servers run as."""
    name = st.one_of(
        st.sampled_from(_PLAIN_NAMES),
        st.sampled_from(_PLAIN_NAMES),
        st.sampled_from(_LINK_NAMES),
        st.sampled_from(_ODD_NAMES),
    )
    target = st.sampled_from(_TARGETS if jailed else _TARGETS + _ABSOLUTE_TARGETS)
    tilde = name if jailed else st.one_of(name, st.sampled_from(_USERS_OF_TILDE))
    number = st.integers(0, 6)
    file = st.builds(Handle, st.sampled_from(("file",) * 14 + ("directory", "closed", "bogus")), number)
    listing = st.builds(Handle, st.sampled_from(("directory",) * 8 + ("file", "closed", "bogus")), number)
    bad = st.builds(Handle, st.sampled_from(("closed", "bogus")), st.integers(0, len(BOGUS_HANDLES) - 1))
    any_handle = st.one_of(file, listing, bad)
    flags = st.one_of(st.sampled_from(_FLAGS), st.sampled_from(_FLAGS), st.integers(0, 0x7F))
    maybe = st.none
    mode = st.one_of(maybe(), st.sampled_from(_MODES))
    mode_only = mode.map(lambda permissions: Attributes(permissions=permissions))
    attributes = st.builds(
        Attributes,
        st.one_of(maybe(), maybe(), st.sampled_from(_SIZES)),
        st.one_of(maybe(), maybe(), st.tuples(st.sampled_from(_OWNERS), st.sampled_from(_OWNERS))),
        mode,
        st.one_of(maybe(), st.tuples(st.sampled_from(_MOMENTS), st.sampled_from(_MOMENTS))),
        st.sampled_from((None, None, None, (), ((b"name@example.com", b"value"),))),
    )
    creating = st.one_of(mode_only, mode_only, attributes)
    data = st.sampled_from((b"", b"x", b"abc", b"0123456789", b"z" * 5000, b"end"))
    home = st.sampled_from(
        (b"no-such-user", b"", b"0") if jailed else (user.encode(), b"no-such-user", b"", b"0")
    )
    ids = st.sampled_from(_IDS)
    offset = st.sampled_from(_OFFSETS)

    def steps(request: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
        return st.builds(Step, st.just(request), st.tuples(*arguments))

    weights = {
        steps("open", st.sampled_from(_PLAIN_NAMES), flags, creating): 8,
        steps("open", name, flags, creating): 6,
        steps("opendir", st.sampled_from(_DIRECTORY_NAMES)): 3,
        steps("opendir", name): 2,
        steps("read", file, offset, st.sampled_from(_READ_LENGTHS)): 5,
        steps("write", file, offset, data): 5,
        steps("fstat", file): 2,
        steps("fsetstat", file, attributes): 3,
        steps("readdir", listing): 4,
        steps("close", any_handle): 3,
        steps("copy-data", file, offset, st.sampled_from(_COPY_LENGTHS), file, offset): 5,
        steps("lstat", name): 4,
        steps("stat", name): 3,
        steps("setstat", name, attributes): 4,
        steps("lsetstat@openssh.com", name, attributes): 4,
        steps("realpath", name): 4,
        steps("readlink", name): 2,
        steps("mkdir", name, creating): 4,
        steps("rmdir", name): 2,
        steps("remove", name): 2,
        steps("rename", name, name): 5,
        steps("posix-rename@openssh.com", name, name): 4,
        steps("hardlink@openssh.com", name, name): 3,
        steps("symlink", target, name): 4,
        steps("expand-path@openssh.com", tilde): 3,
        steps("fsync@openssh.com", file): 1,
        steps("statvfs@openssh.com", name): 1,
        steps("fstatvfs@openssh.com", any_handle): 1,
        steps("limits@openssh.com"): 1,
        steps("home-directory", home): 1,
        steps("users-groups-by-id@openssh.com", ids, ids): 1,
        st.one_of(
            steps("fsync", file),
            steps("no-such-extension@example.com", data),
            steps("", data),
            steps(
                "raw",
                st.sampled_from(sorted(packets.REQUEST_TYPES.values())),
                st.sampled_from(MALFORMED_BODIES),
            ),
            steps("raw", st.sampled_from(UNKNOWN_TYPES), st.just(b"\0\0\0\x01f")),
            steps("stat", st.just(b"nul\0inside")),
        ): 2,
    }
    # Not one_of, which would take a strategy that occurs twice once.
    urn = [strategy for strategy, weight in weights.items() for _ in range(weight)]
    one = st.integers(0, len(urn) - 1).flatmap(urn.__getitem__)
    return st.lists(one, min_size=length, max_size=length).map(lambda drawn: [*_PREAMBLE, *drawn])


# So that there are handles to use from the first random step on.
_PREAMBLE = (
    step("open", b"f", READ | WRITE),
    step("open", b"large", READ),
    step("open", b"n", READ | WRITE | CREAT),
    step("opendir", b"d"),
    step("open", b"g", WRITE | APPEND),
    step("opendir", b"."),
)
