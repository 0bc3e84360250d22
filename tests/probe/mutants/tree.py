"""Mutants for the rules of names, paths, links, listings, longnames and the tree."""

from __future__ import annotations

import errno
import itertools
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from stat import S_IMODE, S_ISDIR, S_ISLNK, filemode
from typing import Any
from unittest import mock

import memorystorage

from pysftpserver.attributes import LongnameFormatter, SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPFailure, SFTPNotFound
from tests.probe.mutation import Mutant, handler, instead, replies
from tests.support.memory import SFTPServerMemoryStorage

HARD_LINK = b"hardlink@openssh.com"
POSIX_RENAME = b"posix-rename@openssh.com"
FLAGS = slice(72, 80)  # of the body of a reply to statvfs@openssh.com


class Memory(SFTPServerMemoryStorage):
    """What the storages here have in common."""

    def is_link(self, path: bytes) -> bool:
        """Whether a link has this path."""
        node = self._find(path, follow=False).node
        return node is not None and S_ISLNK(node.mode)

    def is_there(self, path: bytes) -> bool:
        """Whether something has this path."""
        return self._find(path, follow=False).node is not None

    def unlink(self, path: bytes) -> None:
        """Remove a file or a link that may be there."""
        place = self._find(path, follow=False)
        if place.node is not None and not S_ISDIR(place.node.mode):
            self._forget(place)


def storage(name: str, fault: Callable[..., Any]) -> type[Memory]:
    """A storage of which one method is replaced. fault: called with that of Memory, bound, the storage, and
    the arguments."""

    def faulty(self: Memory, *arguments: Any, **more: Any) -> Any:
        return fault(getattr(super(broken, self), name), self, *arguments, **more)

    broken = type("Broken", (Memory,), {name: faulty})
    return broken


def named(change: Callable[[bytes], bytes]) -> type[Memory]:
    """A storage that changes all paths that it is given."""
    return storage("_find", lambda find, _, path, follow=True: find(change(path), follow))


def listed(change: Callable[[Memory, bytes, Iterator[Any]], Iterator[Any]]) -> type[Memory]:
    """A storage whose listings are changed."""
    return storage("opendir", lambda opendir, self, path: change(self, path, opendir(path)))


def longname(change: Callable[..., bytes]) -> Any:
    """A fault in longnames."""
    return instead(LongnameFormatter, "longname", lambda original, _, name, attrs: change(name, attrs))


def line(name: bytes, attrs: SFTPAttributes, form: bytes = b"%b   1 owner    group    %8d %b %b") -> bytes:
    """A right longname but for what form says."""
    when = time.strftime("%b %e %H:%M", time.localtime(attrs.mtime)).encode()
    return form % (filemode(attrs.permissions or 0).encode(), attrs.size or 0, when, name)


# --- names ---------------------------------------------------------------------------------------------


def composed(path: bytes) -> bytes:
    """The path in Unicode's composed form, if it is UTF-8."""
    try:
        return unicodedata.normalize("NFC", path.decode()).encode()
    except UnicodeDecodeError:
        return path


def trimmed(path: bytes) -> bytes:
    """The path without spaces and dots at the ends of names."""
    parts = path.split(b"/")
    return b"/".join(part if part in (b".", b"..") else part.rstrip(b" .") or part for part in parts)


def below_a_file(find: Any, _: Memory, path: bytes, follow: bool = True) -> Any:
    try:
        return find(path, follow)
    except NotADirectoryError:
        raise SFTPFailure from None


NAMES = (
    Mutant(
        "names are folded",
        "names-differ-in-case",
        storage=named(bytes.lower),
        also=(
            "names-without-meaning",
            "printable-names",
            "unusual-names",
        ),
    ),
    Mutant("names are composed", "names-differ-in-form", storage=named(composed)),
    Mutant(
        "ends of names are trimmed",
        "names-differ-at-their-ends",
        storage=named(trimmed),
        also=(
            "realpath-keeps-bytes",
            "unusual-names",
        ),
    ),
    Mutant(
        "names are cut to 255 bytes",
        "overlong-names",
        storage=named(lambda path: b"/".join(part[:255] for part in path.split(b"/"))),
        also=("statvfs-namemax-is-a-limit",),
    ),
    Mutant(
        "names are decoded with replacements",
        "names-that-are-not-utf8",
        storage=named(lambda path: path.decode("utf-8", "replace").encode()),
        also=("unusual-names",),
    ),
    Mutant(
        "a backslash separates",
        "printable-names",
        storage=named(lambda path: path.replace(b"\\", b"/")),
        also=(
            "realpath-keeps-bytes",
            "unusual-names",
        ),
    ),
    Mutant(
        "a NUL ends a path",
        "paths-with-a-nul-byte",
        instead(
            wire,
            "path_at",
            lambda _, *where: (lambda path, end: (path.split(b"\0")[0], end))(*wire.string_at(*where)),
        ),
        also=("paths-with-a-nul-byte",),
    ),
    Mutant(
        "below a file is FAILURE",
        "stat-below-a-file",
        storage=storage("_find", below_a_file),
        also=tuple(
            (
                "mkdir-without-directory open-below-a-file posix-rename-without-source rename-without-"
                "source stat-below-a-file"
            ).split()
        ),
    ),
)

# --- REALPATH ------------------------------------------------------------------------------------------


def only_existing(realpath: Any, self: Memory, path: bytes) -> Any:
    self._get(path)
    return realpath(path)


def no_empty_path(serve: Any, session: Any, rid: int, path: bytes) -> Any:
    if not path:
        raise SFTPNotFound
    return serve(session, rid, path)


PATHS = (
    Mutant(
        "REALPATH leaves two dots",
        "realpath-is-canonical",
        storage=storage("realpath", lambda right, _, path: path if b"/../" in path else right(path)),
        also=(
            "realpath-above-the-top",
            "realpath-of-missing",
        ),
    ),
    Mutant(
        "REALPATH is relative",
        "realpath-is-absolute",
        storage=storage("realpath", lambda right, _, path: right(path).lstrip(b"/")),
        also=(
            "absolute-link",
            "expand-path-of-a-tilde",
            "realpath-above-the-top",
        ),
    ),
    Mutant(
        "REALPATH of a missing file fails",
        "realpath-of-missing",
        storage=storage("realpath", only_existing),
        also=(
            "expand-path-of-a-tilde",
            "realpath-keeps-bytes",
        ),
    ),
    Mutant(
        "REALPATH of nothing fails", "realpath-of-nothing", handler(wire.SSH2_FXP_REALPATH, no_empty_path)
    ),
    Mutant(
        "REALPATH follows no links",
        "realpath-follows-links",
        storage=storage("realpath", lambda right, _, path: os.path.normpath(b"/" + path.lstrip(b"/"))),
        also=("realpath-up-from-link",),
    ),
)

# --- links ---------------------------------------------------------------------------------------------


def replacing(symlink: Any, self: Memory, path: bytes, target: bytes) -> None:
    self.unlink(path)
    symlink(path, target)


def following_excl(opened: Any, self: Memory, path: bytes, flags: int, mode: int) -> Any:
    return opened(path, flags & ~os.O_EXCL if self.is_link(path) else flags, mode)


def sizeless(lstat: Any, _: Memory, path: bytes) -> SFTPAttributes:
    attrs: SFTPAttributes = lstat(path)
    if S_ISLNK(attrs.permissions or 0):
        attrs.size = 0
    return attrs


def copying(_: Any, self: Memory, old: bytes, new: bytes) -> None:
    node = self._get(old, follow=False)
    if S_ISDIR(node.mode):
        raise os_error(errno.EPERM)
    self._enter(self._get_free(new), memorystorage.Node(node.mode, bytearray(node.content)))


def linking_over(link: Any, self: Memory, old: bytes, new: bytes) -> None:
    self._get(old, follow=False)
    if old != new:
        self.unlink(new)
    link(old, new)


LINKS = (
    Mutant(
        "READLINK answers an absolute path",
        "link-text",
        storage=storage("readlink", lambda right, _, path: b"/" + right(path).lstrip(b"/")),
        also=tuple(
            (
                "link-circle-can-be-removed open-excl-of-link open-makes-target posix-rename-of-link "
                "rename-of-link rename-onto-link symlink-over-existing"
            ).split()
        ),
    ),
    Mutant(
        "SYMLINK takes the draft's order",
        "symlink-target-first",
        handler(wire.SSH2_FXP_SYMLINK, lambda serve, session, rid, a, b: serve(session, rid, b, a)),
        also=tuple(
            (
                "absolute-link checksum-through-a-link dangling-link kinds-of-link-replies link-chain link-"
                "circle-can-be-removed link-inside-path link-text listing-of-links lsetstat-of-link lstat-"
                "of-link lstat-of-link-size mkdir-over-link open-excl-of-link open-follows-links open-"
                "makes-target opendir-follows-links posix-rename-of-link realpath-follows-links realpath-"
                "up-from-link relative-link remove-of-link rename-of-link rename-onto-link rmdir-of-link "
                "setstat-follows-links stat-follows-links symlink-over-existing symlink-without-directory"
            ).split()
        ),
    ),
    Mutant("SYMLINK replaces", "symlink-over-existing", storage=storage("symlink", replacing)),
    Mutant(
        "STAT follows no links",
        "stat-follows-links",
        storage=storage("stat", lambda _, self, path: self.lstat(path)),
        also=(
            "dangling-link",
            "link-chain",
            "link-circle",
        ),
    ),
    Mutant(
        "LSTAT follows links",
        "lstat-of-link",
        storage=storage("lstat", lambda right, self, path: self.stat(path)),
        also=tuple(
            (
                "dangling-link link-circle-can-be-removed listing-of-links lsetstat-of-link lstat-of-link-"
                "size"
            ).split()
        ),
    ),
    Mutant(
        "LSTAT of a link has no size",
        "lstat-of-link-size",
        storage=storage("lstat", sizeless),
        also=("listing-of-links",),
    ),
    Mutant(
        "four links are the most", "link-chain", lambda: mock.patch.object(memorystorage, "MOST_LINKS", 4)
    ),
    Mutant("EXCL follows links", "open-excl-of-link", storage=storage("open", following_excl)),
    Mutant(
        "SETSTAT follows no links",
        "setstat-follows-links",
        storage=storage("setstat", lambda _, self, path, attrs: self.lsetstat(path, attrs)),
    ),
    Mutant(
        "lsetstat follows links",
        "lsetstat-of-link",
        storage=storage("lsetstat", lambda _, self, path, attrs: self.setstat(path, attrs)),
    ),
    Mutant(
        "a hard link is a copy",
        "hardlink-same-file",
        storage=storage("link", copying),
        also=("longname-link-count",),
    ),
    Mutant("a hard link replaces", "hardlink-over-existing", storage=storage("link", linking_over)),
)

# --- listings ------------------------------------------------------------------------------------------


def twice(_: Memory, path: bytes, entries: Iterator[Any]) -> Iterator[Any]:
    for number, entry in enumerate(entries):
        yield entry
        if number == 200:
            yield entry


def with_path(_: Memory, path: bytes, entries: Iterator[Any]) -> Iterator[Any]:
    for name, attrs in entries:
        yield (path + b"/" + name if name == b"two" else name), attrs


def typeless(_: Memory, path: bytes, entries: Iterator[Any]) -> Iterator[Any]:
    for name, attrs in entries:
        attrs.permissions = S_IMODE(attrs.permissions)
        yield name, attrs


def followed(self: Memory, path: bytes, entries: Iterator[Any]) -> Iterator[Any]:
    for name, attrs in entries:
        where = path.rstrip(b"/") + b"/" + name
        yield name, (self.stat(where) if self._find(where).node is not None else attrs)


def empty_after_the_end(serve: Any, session: Any, rid: int, handle: bytes) -> Any:
    directory = session.handles.directory(handle)
    if directory.entries == ():
        session.send(wire.SSH2_FXP_NAME, rid, wire.encode_names([]))
        return
    try:
        serve(session, rid, handle)
    except SFTPEndOfFile:
        directory.entries = ()
        raise


def begins_again(serve: Any, session: Any, rid: int, handle: bytes) -> Any:
    directory = session.handles.directory(handle)
    entries = list(directory.entries)
    if entries:
        directory.entries = iter(entries)
        session.again = entries
    try:
        return serve(session, rid, handle)
    except SFTPEndOfFile:
        directory.entries = iter(session.again)
        raise


class OneIterator(Memory):
    """All listings of a directory go on where the last one stopped."""

    def opendir(self, path: bytes) -> Iterator[Any]:
        self.iterators = getattr(self, "iterators", {})
        if path not in self.iterators:
            self.iterators[path] = iter(list(super().opendir(path)))
        return iter(self.iterators[path])


LISTINGS = (
    Mutant(
        "a name is left out",
        "listing-is-complete",
        storage=listed(lambda _, path, entries: (entry for entry in entries if entry[0] != b"three")),
    ),
    Mutant(
        "a name comes twice",
        "listing-of-large-directory",
        storage=listed(twice),
        also=(
            "listing-while-names-change",
            "listings-are-independent",
        ),
    ),
    Mutant(
        "the dots come twice",
        "listing-of-dots",
        storage=listed(lambda _, path, entries: itertools.chain([next(entries)] * 2, entries)),
        also=(
            "listing-while-names-change",
            "listings-are-independent",
        ),
    ),
    Mutant(
        "a name comes with its path",
        "listing-has-names-and-no-paths",
        storage=listed(with_path),
        also=("listing-is-complete",),
    ),
    Mutant(
        "READDIR after the end is an empty NAME",
        "listing-ends-for-good",
        handler(wire.SSH2_FXP_READDIR, empty_after_the_end),
        also=("readdirs-in-flight",),
    ),
    Mutant(
        "a listing begins again after its end",
        "listing-ends-for-good",
        handler(wire.SSH2_FXP_READDIR, begins_again),
        also=("readdirs-in-flight",),
    ),
    Mutant(
        "listings share their place",
        "listings-are-independent",
        storage=OneIterator,
        also=tuple(
            (
                "changes-cut-off cut-off-names-are-not-used handle-requests-cut-off listing-of-links "
                "listing-says-types listing-while-names-change listings-left-open longname-link-count look-"
                "ups-cut-off slash-behind-directories"
            ).split()
        ),
    ),
    Mutant("links are listed as what they lead to", "listing-of-links", storage=listed(followed)),
    Mutant(
        "entries have no type",
        "listing-says-types",
        storage=listed(typeless),
        also=tuple(
            (
                "listing-attributes listing-of-dots listing-of-links longname-fields longname-for-filezilla "
                "longname-for-lftp longname-link-count longname-of-new-file longname-of-old-file longname-"
                "size longname-widths"
            ).split()
        ),
    ),
)

LONGNAMES = (
    Mutant(
        "longname is the name",
        "longname-fields",
        longname(lambda name, attrs: name),
        also=tuple(
            (
                "longname-ends-with-name longname-for-filezilla longname-for-lftp longname-for-winscp "
                "longname-link-count longname-mode longname-of-new-file longname-of-old-file longname-size "
                "longname-widths"
            ).split()
        ),
    ),
    Mutant(
        "longname has no link count",
        "longname-for-lftp",
        longname(lambda name, attrs: line(name, attrs, b"%b owner    group    %8d %b %b")),
        also=tuple(
            (
                "longname-fields longname-link-count longname-mode longname-of-new-file longname-of-old-"
                "file longname-size longname-widths"
            ).split()
        ),
    ),
    Mutant(
        "longname has no group",
        "longname-for-winscp",
        longname(lambda name, attrs: line(name, attrs, b"%b   1 owner    %8d %b %b")),
        also=tuple(
            (
                "longname-fields longname-for-filezilla longname-for-lftp longname-link-count longname-mode "
                "longname-of-new-file longname-of-old-file longname-size longname-widths"
            ).split()
        ),
    ),
    Mutant(
        "longname is narrow",
        "longname-widths",
        longname(lambda name, attrs: line(name, attrs, b"%b 1 owner group %d %b %b")),
        also=(
            "longname-link-count",
            "longname-of-old-file",
        ),
    ),
    Mutant(
        "longname has another size",
        "longname-size",
        longname(lambda name, attrs: line(name, attrs, b"%b   1 owner    group    9%07d %b %b")),
        also=(
            "longname-for-filezilla",
            "longname-link-count",
            "longname-of-old-file",
        ),
    ),
    Mutant(
        "longname is of January",
        "longname-of-old-file",
        longname(lambda name, attrs: line(name, attrs).replace(b" Sep ", b" Jan ")),
        also=("longname-link-count",),
    ),
    Mutant(
        "longname's mode has no type",
        "longname-mode",
        longname(lambda name, attrs: b"-" + line(name, attrs)[1:]),
        also=(
            "longname-for-filezilla",
            "longname-for-winscp",
            "longname-link-count",
            "longname-of-old-file",
        ),
    ),
)

# --- the tree ------------------------------------------------------------------------------------------


def already(mkdir: Any, self: Memory, path: bytes, mode: int) -> None:
    if not self.is_there(path):
        mkdir(path, mode)


def with_parents(mkdir: Any, self: Memory, path: bytes, mode: int) -> None:
    parent = path.rstrip(b"/").rpartition(b"/")[0]
    if (
        parent
        and self._find(parent.rpartition(b"/")[0] or b"/").node is not None
        and not self.is_there(parent)
    ):
        mkdir(parent, mode)
    mkdir(path, mode)


def recursive(rmdir: Any, self: Memory, path: bytes) -> None:
    node = self._find(path, follow=False).node
    if node is not None and S_ISDIR(node.mode):
        node.content.clear()
    rmdir(path)


def through_link(rmdir: Any, self: Memory, path: bytes) -> None:
    rmdir(self.realpath(path))


def removing_all(rm: Any, self: Memory, path: bytes) -> None:
    node = self._find(path, follow=False).node
    if node is not None and S_ISDIR(node.mode):
        self.rmdir(path)
    else:
        rm(path)


def unlinking(rmdir: Any, self: Memory, path: bytes) -> None:
    self.unlink(path)
    rmdir(path)


def failing(rm: Any, self: Memory, path: bytes) -> None:
    if not self.is_there(path):
        raise SFTPFailure
    rm(path)


def renewing(rename: Any, self: Memory, old: bytes, new: bytes, replace: bool = False) -> None:
    rename(old, new, replace)
    self._get(new, follow=False).mtime = 1


def through(rename: Any, self: Memory, old: bytes, new: bytes, replace: bool = False) -> None:
    rename(self.realpath(old) if self._find(old).node is not None else old, new, replace)


def losing_itself(rename: Any, self: Memory, old: bytes, new: bytes, replace: bool = False) -> None:
    if replace:
        self._get(old, follow=False)
        if old == new:
            self.unlink(new)
    rename(old, new, replace)


def over_links(rename: Any, self: Memory, old: bytes, new: bytes, replace: bool = False) -> None:
    rename(old, self.realpath(new) if replace and self.is_link(new) else new, replace)


TREE = (
    Mutant(
        "MKDIR of what is there is OK",
        "mkdir-over-existing",
        storage=storage("mkdir", already),
        also=(
            "dots-are-no-names",
            "mkdir-over-existing-status",
            "mkdir-over-link",
            "slash-behind-directories",
        ),
    ),
    Mutant("MKDIR makes parents", "mkdir-without-directory", storage=storage("mkdir", with_parents)),
    Mutant(
        "MKDIR does not look at permissions",
        "mkdir-permissions",
        storage=storage("mkdir", lambda mkdir, _, path, mode: mkdir(path, 0o777)),
    ),
    Mutant(
        "RMDIR removes what is inside",
        "rmdir-of-full-directory",
        storage=storage("rmdir", recursive),
        also=(
            "dots-are-no-names",
            "rmdir-of-full-directory-status",
        ),
    ),
    Mutant("RMDIR follows links", "rmdir-of-link", storage=storage("rmdir", through_link)),
    Mutant(
        "RMDIR removes files", "rmdir-of-file", storage=storage("rmdir", unlinking), also=("rmdir-of-link",)
    ),
    Mutant(
        "REMOVE removes directories",
        "remove-of-directory",
        storage=storage("rm", removing_all),
        also=(
            "dots-are-no-names",
            "remove-of-directory-status",
        ),
    ),
    Mutant(
        "REMOVE follows links",
        "remove-of-link",
        storage=storage("rm", lambda rm, self, path: rm(self.realpath(path))),
        also=("link-circle-can-be-removed",),
    ),
    Mutant("REMOVE of what is missing is FAILURE", "remove-of-missing", storage=storage("rm", failing)),
)

RENAMES = (
    Mutant(
        "RENAME replaces",
        "rename-onto-existing",
        storage=storage("rename", lambda rename, _, old, new, replace=False: rename(old, new, True)),
        also=(
            "rename-onto-existing-status",
            "rename-onto-link",
            "rename-race",
        ),
    ),
    Mutant(
        "posix-rename does not replace",
        "posix-rename-replaces-file",
        storage=storage("rename", lambda rename, _, old, new, replace=False: rename(old, new)),
        also=tuple(
            (
                "handle-of-a-replaced-file posix-rename-leaves-open-file posix-rename-onto-itself posix-"
                "rename-replaces-empty-directory posix-rename-replaces-link posix-rename-without-gap"
            ).split()
        ),
    ),
    Mutant(
        "RENAME changes the time",
        "rename-of-file",
        storage=storage("rename", renewing),
        also=("posix-rename-of-file",),
    ),
    Mutant(
        "RENAME follows links",
        "rename-of-link",
        storage=storage("rename", through),
        also=("posix-rename-of-link",),
    ),
    Mutant(
        "posix-rename of a file to its own name removes it",
        "posix-rename-onto-itself",
        storage=storage("rename", losing_itself),
    ),
    Mutant(
        "posix-rename replaces what a link leads to",
        "posix-rename-replaces-link",
        storage=storage("rename", over_links),
    ),
)

# --- statvfs -------------------------------------------------------------------------------------------


def figures(**changed: int) -> Callable[..., os.statvfs_result]:
    """A fault of statvfs(): other figures."""

    def fault(right: Any, *_: Any) -> os.statvfs_result:
        found = right(*_[1:])
        names = "f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_flag f_namemax f_fsid"
        return os.statvfs_result([changed.get(name, getattr(found, name)) for name in names.split()])

    return fault


STATVFS = (
    Mutant(
        "statvfs has ten figures",
        "statvfs-figures",
        replies(wire.SSH2_FXP_EXTENDED_REPLY, lambda body: body[:-8] if len(body) == 88 else body),
        also=tuple(
            (
                "fstatvfs-of-handle read-full statvfs-flags statvfs-namemax statvfs-namemax-is-a-limit "
                "statvfs-of-directory statvfs-plausible statvfs-writable"
            ).split()
        ),
    ),
    Mutant(
        "statvfs has other flags",
        "statvfs-flags",
        replies(
            wire.SSH2_FXP_EXTENDED_REPLY,
            lambda body: body[:72] + bytes(6) + b"\x10\0" + body[80:] if len(body) == 88 else body,
        ),
        also=("read-full",),
    ),
    Mutant(
        "statvfs says more free than there is",
        "statvfs-plausible",
        storage=storage("statvfs", figures(f_bavail=1 << 60)),
    ),
    Mutant(
        "statvfs says read-only",
        "statvfs-writable",
        storage=storage("statvfs", figures(f_flag=os.ST_RDONLY)),
        also=("fstatvfs-of-handle",),
    ),
    Mutant(
        "statvfs says that names can be longer",
        "statvfs-namemax",
        storage=storage("statvfs", figures(f_namemax=500)),
        also=("fstatvfs-of-handle",),
    ),
)

MUTANTS = (*NAMES, *PATHS, *LINKS, *LISTINGS, *LONGNAMES, *TREE, *RENAMES, *STATVFS)
