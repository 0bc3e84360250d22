"""Several files, or a whole folder, as one zip that is made while it is sent.

Only the names are kept: content goes from the storage to the client in pieces, without a temporary file. The
members are found before the first byte is sent, so that a tree with too many names is refused with a message;
if a file cannot be read after that, the connection ends, and no client takes the part for the whole. What may
not enter: sessions, who may ask for what. Facts: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5; Info-ZIP's
proginfo/extrafld.txt for the time stamps; RFC 6266 and RFC 8187.
"""

from __future__ import annotations

import posixpath
import re
import struct
import time
import unicodedata
import urllib.parse
import zipfile
from collections import deque
from contextlib import closing
from dataclasses import dataclass

from pysftpserver.http import ReplyBroken
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.web.wire import Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from pysftpserver.web.files import Entry, Tree

    Chain = tuple[bytes, "Chain | None"]  # the real path of a directory, and the same of those above

MOST_ENTRIES = 50_000  # about 1,000 bytes of memory each, until the end
MOST_DEPTH = 64  # nested directories
PIECE = 256 << 10  # bytes that are read and sent at once
LEVEL = 1  # of deflate: the network should be the limit, not the processor
LONGEST = 255  # bytes of one name, as in file systems
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\/:\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")
FIRST_TIME, LAST_TIME = 315_619_200, 4_354_732_799  # 1980-01-02 to 2107-12-30, whatever the time zone
MOST_STAMP = (1 << 31) - 1  # seconds since the epoch that the extra field can hold
#: Endings of files that are compressed already, which are stored as they are.
COMPRESSED = frozenset(
    "7z aac apk avi avif br bz2 cbz deb dmg docx epub flac gif gz heic jar jpeg jpg lz4 lzma m4a m4v mkv mov "
    "mp3 mp4 odp ods odt ogg ogv opus pdf png pptx rar rpm tbz2 tgz txz webm webp whl wmv woff woff2 xlsx xz "
    "zip zst".split()
)
LOCAL, CENTRAL, END, END_64 = 30, 46, 22, 76  # bytes of zip's records, without names and extra fields
EXTRA_64, DESCRIPTOR, DESCRIPTOR_64 = 20, 16, 24


@dataclass(frozen=True, slots=True)
class Member:
    """One name in a zip. name: without the slash that directories get. size: bytes, 0 where not known."""

    path: bytes
    name: str
    is_directory: bool
    size: int
    mtime: int | None

    @property
    def is_compressed(self) -> bool:
        """Whether the file's name shows that compressing it again is useless."""
        return self.name.rpartition(".")[2].lower() in COMPRESSED

    def info(self) -> zipfile.ZipInfo:
        """The member as zipfile's ZipInfo."""
        now = time.time() if self.mtime is None else self.mtime
        when = time.localtime(min(max(now, FIRST_TIME), LAST_TIME))[:6]
        info = zipfile.ZipInfo(self.name + ("/" if self.is_directory else ""), when)
        if self.is_directory:
            info.external_attr = 0o40755 << 16 | 0x10  # the latter is MS-DOS's
            info.CRC = info.compress_size = 0
        else:
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_STORED if self.is_compressed else zipfile.ZIP_DEFLATED
            info._compresslevel = LEVEL  # type: ignore[attr-defined]  # compress_level from Python 3.13 on
        if self.mtime is not None and 0 <= self.mtime <= MOST_STAMP:
            info.extra = struct.pack("<HHBL", 0x5455, 5, 1, self.mtime)  # in UTC, as the other is not
        return info


def zip_reply(
    tree: Tree,
    paths: Sequence[bytes],
    name: str = "",
    most: int = MOST_ENTRIES,
    finished: Callable[[], object] = lambda: None,
) -> Reply:
    """A zip of files and of directories with all that is in them.

    name: of the zip, without its ending; by default, that of a single path. most: maximum number of
    names in it. finished: called once, when the reply is over, whole or not. Raises Refusal, FileProblem;
    finished is then not called.
    """
    if not name:
        name = safe_name(posixpath.basename(paths[0])) if len(paths) == 1 and paths[0] != b"/" else "files"
    members = members_of(tree, paths, most)
    headers = [("Content-Disposition", attachment(f"{name}.zip"))]
    body = Body(tree, members, length := length_of(members), finished)
    return Reply(body, 200, headers, "application/zip", length)


class Body:
    """The bytes of a zip. members: consumed on the way. is_promised: whether their sizes are promised."""

    def __init__(
        self, tree: Tree, members: deque[Member], length: int | None, finished: Callable[[], object]
    ) -> None:
        self._pieces = _zipped(tree, members, length is not None)
        self._finished = finished
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Stop reading."""
        if not self._is_closed:
            self._is_closed = True
            try:
                self._pieces.close()
            finally:
                self._finished()


class _Sink:
    """The file that zipfile writes to: it cannot seek, so sizes and checksums follow the content."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: no data is held back."""

    def taken(self) -> Iterator[bytes]:
        """The written bytes, in large pieces."""
        pieces, self._pieces, self.size = self._pieces, [], 0
        some: list[bytes] = []
        size = 0
        for piece in pieces:
            some.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(some)
                some, size = [], 0
        if some:
            yield b"".join(some)


def _zipped(tree: Tree, members: deque[Member], is_promised: bool) -> Generator[bytes, None, None]:
    """The bytes of a zip. is_promised: whether files must have the sizes that were found before.

    Raises ReplyBroken.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as whole:  # type: ignore[call-overload]  # seeking is not needed
        while members:
            member = members.popleft()
            if member.is_directory:
                whole.mkdir(member.info())
            else:
                try:
                    yield from _file(tree, member, whole, sink, is_promised)
                except FileProblem as error:
                    raise ReplyBroken(f"{ascii(member.path)}: {error}") from None
            if sink.size >= PIECE:
                yield from sink.taken()
    yield from sink.taken()


def _file(
    tree: Tree, member: Member, whole: zipfile.ZipFile, sink: _Sink, is_promised: bool
) -> Iterator[bytes]:
    """Put a file into a zip; yield bytes to send meanwhile. A file that grows is cut at its former size."""
    with closing(tree.source(member.path)) as source:
        size = member.size if is_promised else source.size
        info = member.info()
        info.file_size = size or 0
        left = size
        with whole.open(info, "w", force_zip64=size is None) as target:
            for piece in source.pieces(PIECE) if left != 0 else ():
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                target.write(piece)
                if sink.size >= PIECE:
                    yield from sink.taken()
                if left == 0:
                    break
        if left:
            raise FileProblem("the file has become shorter")


def length_of(members: Iterable[Member]) -> int | None:
    """The size of a zip in bytes, if all its files are stored as they are; None: not known in advance.

    A storage that does not know a file's size says 0: such files make it unknown as well.
    """
    start, central, count = 0, 0, 0
    for member in members:
        if not member.is_directory and not (member.is_compressed and member.size):
            return None
        info = member.info()
        names = len(info.filename.encode()) + len(info.extra)
        fields = 2 * (member.size > zipfile.ZIP64_LIMIT) + (start > zipfile.ZIP64_LIMIT)
        central += CENTRAL + names + (4 + 8 * fields if fields else 0)
        start += LOCAL + names
        count += 1
        if not member.is_directory:
            is_large = member.size * 1.05 > zipfile.ZIP64_LIMIT  # as zipfile decides
            start += member.size + (EXTRA_64 + DESCRIPTOR_64 if is_large else DESCRIPTOR)
    needs_64 = count > zipfile.ZIP_FILECOUNT_LIMIT or max(start, central) > zipfile.ZIP64_LIMIT
    return start + central + END + (END_64 if needs_64 else 0)


def members_of(tree: Tree, paths: Iterable[bytes], most: int) -> deque[Member]:
    """The members of a zip, directories before their content.

    Links are followed, except those to a directory that they are in. Raises Refusal, FileProblem.
    """
    found: deque[Member] = deque()
    todo: list[tuple[Entry, str, Chain, int]] = []  # directories: with their names, real paths and depths

    def add(entry: Entry, prefix: str, taken: dict[str, int], above: Chain | None, depth: int) -> None:
        if not entry.is_directory and not entry.is_file:
            return  # a device, a FIFO or a socket
        chain: Chain | None = None
        if entry.is_directory:
            real = _real_path(tree, entry, above)
            if _has(above, real):
                return
            chain = real, above
        if len(found) >= most:
            raise Refusal(413, f"There are more than {most:,} files and folders; choose fewer.")
        if depth > MOST_DEPTH:
            raise Refusal(413, f"There are more than {MOST_DEPTH} folders in one another; choose fewer.")
        name = prefix
        if entry.name:  # of the root, which has none, the content is at the top
            name += told_apart(safe_name(entry.name), taken)
            found.append(Member(entry.path, name, entry.is_directory, entry.size, entry.mtime))
        if chain is not None:
            todo.append((entry, name + "/" if name else "", chain, depth + 1))

    top: dict[str, int] = {}
    for path in paths:
        entry = tree.find(path)
        if entry is None:
            raise FileProblem("no such file or directory", "NO_SUCH_FILE")
        add(entry, "", top, None, 0)
    while todo:
        directory, prefix, chain, depth = todo.pop()
        taken = {} if prefix else top
        try:
            with closing(tree.entries(directory.path)) as entries:  # type: ignore[type-var]  # a generator
                for entry in entries:
                    add(entry, prefix, taken, chain, depth)
        except FileProblem as error:
            raise FileProblem(f"{prefix.rstrip('/')}: {error}", error.result) from None
    return found


def _real_path(tree: Tree, directory: Entry, above: Chain | None) -> bytes:
    if above is not None and not directory.is_link:
        return posixpath.join(above[0], directory.name)
    with as_problems():
        return tree.storage.realpath(directory.path)


def _has(chain: Chain | None, real: bytes) -> bool:
    while chain is not None:
        if chain[0] == real:
            return True
        chain = chain[1]
    return False


def safe_name(name: bytes) -> str:
    """A name that no unpacker takes for a path, a drive or a stream of a file, and that is not deceptive.

    Bytes that are not UTF-8, control characters, those that change the direction of text, slashes,
    backslashes and colons become underscores, and so do names of dots and blanks.
    """
    text = shortened(UNSAFE.sub("_", name.decode("utf-8", "surrogateescape")), LONGEST)
    return text if text.strip(". ") else "_" * max(1, len(text))


def told_apart(name: str, taken: dict[str, int]) -> str:
    """The name, with a number if taken has the same name, ignoring case. It is added to taken.

    taken: how often each was asked for.
    """
    key = folded(name)
    unique, number = name, taken.get(key, 0)
    while folded(unique) in taken:
        number += 1
        unique = numbered(name, number)
        taken[key] = number
        number = max(number, len(taken))  # after a second attempt, a number that is rarely taken
    taken[folded(unique)] = 1
    return unique


def folded(name: str) -> str:
    """A form that is equal for two names that are the same on some system."""
    return unicodedata.normalize("NFC", name).casefold()


def numbered(name: str, number: int) -> str:
    """A name with a number before its ending, of at most LONGEST bytes."""
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > 16:
        stem, dot, ending = name, "", ""
    mark = f" ({number}){dot}{ending}"
    return shortened(stem, LONGEST - len(mark.encode())) + mark


def shortened(text: str, most: int) -> str:
    """The beginning of a text, at most this many bytes in UTF-8."""
    return text.encode()[:most].decode("utf-8", "ignore")


def attachment(name: str) -> str:
    """The Content-Disposition of a file that is downloaded under that name."""
    plain = re.sub(r'[^ -~]|["\\%/]', "_", name)
    full = urllib.parse.quote(name, safe="", errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"
