"""Each action of the table, through each request that can do it: refused where it is not allowed, and else
done."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pysftpserver.site.actions import ACTIONS, REQUESTS
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.differential.packets import Attributes, attrs
from tests.site.test_guard_contract import under
from tests.support.cases import InADirectory
from tests.support.packets import (
    APPEND,
    CREAT,
    NO_ATTRS,
    OK,
    PERMISSION_DENIED,
    READ,
    TRUNC,
    WRITE,
    Client,
    string,
    u32,
    u64,
)

MODE = attrs(Attributes(permissions=0o600))
TIMES = attrs(Attributes(times=(5, 6)))
SIZE = attrs(Attributes(size=3))
CHECKED = string(b"f"), string(b"md5"), u64(0), u64(0), u32(0)
BOTH = attrs(Attributes(size=3, permissions=0o600))


def ask(name: str, *parts: bytes) -> Callable[[Client], object]:
    """One request; its reply is a status, or a handle, which is OK."""

    def send(client: Client) -> object:
        reply = client.ask(name, *parts)
        return reply.content if reply.kind == "status" else OK

    return send


def opened(path: bytes, flags: int) -> Callable[[Client], object]:
    return ask("open", string(path), u32(flags), NO_ATTRS)


def through(path: bytes, flags: int, name: str, *parts: bytes) -> Callable[[Client], object]:
    """A request on a handle."""

    def send(client: Client) -> object:
        reply = client.ask("open", string(path), u32(flags), NO_ATTRS)
        if reply.kind == "status":
            return reply.content
        return client.status(name, string(reply.content), *parts)

    return send


def copied(client: Client) -> object:
    """copy-data from f to a new file."""
    handles = []
    for path, flags in ((b"f", READ), (b"new", WRITE | CREAT)):
        reply = client.ask("open", string(path), u32(flags), NO_ATTRS)
        if reply.kind == "status":
            return reply.content
        handles.append(string(reply.content))
    return client.status("copy-data", handles[0], u64(0), u64(0), handles[1], u64(0))


class Case(NamedTuple):
    """What a request needs. asks: sends it. action, needed: the row of the table, and what else has to be
    allowed."""

    request: str
    when: str
    asks: Callable[[Client], object]
    needed: tuple[str, ...]


CASES = (
    Case("opendir", "", ask("opendir", string(b"d")), ("list",)),
    Case("open", "READ", opened(b"f", READ), ("download",)),
    Case("open", "READ", opened(b"l", READ), ("download",)),
    Case("open", "READ", opened(b"f", READ | WRITE), ("download", "overwrite")),
    Case("open", "READ", copied, ("download", "upload")),
    Case("check-file-name", "", ask("check-file-name", *CHECKED), ("download",)),
    Case("open", "CREATE, if there is no such file", opened(b"new", WRITE | CREAT), ("upload",)),
    Case("open", "CREATE, if there is no such file", opened(b"new", WRITE | CREAT | TRUNC), ("upload",)),
    Case("open", "CREATE, if there is no such file", opened(b"new", WRITE | CREAT | APPEND), ("upload",)),
    Case("open", "CREATE, if there is no such file", opened(b"new", READ | CREAT), ("upload", "download")),
    Case("open", "WRITE, if the file is there", opened(b"f", WRITE), ("overwrite",)),
    Case("open", "WRITE, if the file is there", opened(b"l", WRITE), ("overwrite",)),
    Case("open", "WRITE, if the file is there", opened(b"f", WRITE | CREAT), ("overwrite",)),
    Case("open", "WRITE and APPEND, if the file is there", opened(b"f", WRITE | APPEND), ("append",)),
    Case("open", "WRITE and APPEND, if the file is there", opened(b"f", WRITE | CREAT | APPEND), ("append",)),
    Case("open", "TRUNCATE, if the file is there", opened(b"f", WRITE | CREAT | TRUNC), ("overwrite",)),
    Case("open", "TRUNCATE, if the file is there", opened(b"f", WRITE | APPEND | TRUNC), ("overwrite",)),
    Case("open", "TRUNCATE, if the file is there", opened(b"f", READ | TRUNC), ("overwrite", "download")),
    Case("setstat", "a size", ask("setstat", string(b"f"), SIZE), ("overwrite",)),
    Case("setstat", "a size", ask("setstat", string(b"l"), SIZE), ("overwrite",)),
    Case("setstat", "a size", ask("setstat", string(b"f"), BOTH), ("overwrite", "setstat")),
    Case("setstat", "anything else", ask("setstat", string(b"f"), TIMES), ("setstat",)),
    Case("fsetstat", "a size", through(b"f", WRITE | APPEND, "fsetstat", SIZE), ("append", "overwrite")),
    Case("fsetstat", "anything else, unless", through(b"f", READ, "fsetstat", MODE), ("download", "setstat")),
    Case("fsetstat", "anything else", through(b"f", WRITE, "fsetstat", TIMES), ("overwrite", "setstat")),
    Case("lsetstat", "", ask("lsetstat", string(b"l"), TIMES), ("setstat",)),
    Case("mkdir", "", ask("mkdir", string(b"new"), NO_ATTRS), ("mkdir",)),
    Case("rmdir", "", ask("rmdir", string(b"d")), ("rmdir",)),
    Case("remove", "", ask("remove", string(b"f")), ("delete",)),
    Case("remove", "", ask("remove", string(b"l")), ("delete",)),
    Case("rename", "", ask("rename", string(b"f"), string(b"new")), ("rename",)),
    Case("rename", "", ask("rename", string(b"d"), string(b"new")), ("rename",)),
    Case("rename", "from a temporary name to the final one",
         ask("rename", string(b"t.filepart"), string(b"t")), ("upload",)),
    Case("posix-rename", "", ask("posix-rename", string(b"f"), string(b"new")), ("rename",)),
    Case("posix-rename", "if the new name is there",
         ask("posix-rename", string(b"f"), string(b"g")), ("rename", "overwrite")),
    Case("posix-rename", "if the new name is there",
         ask("posix-rename", string(b"g.filepart"), string(b"g")), ("upload", "overwrite")),
    Case("symlink", "", ask("symlink", string(b"f"), string(b"new")), ("symlink",)),
    Case("hardlink", "", ask("hardlink", string(b"f"), string(b"new")), ("link",)),
)  # fmt: skip
#: What is a part of what was allowed when the file was opened.
PARTS = (
    (through(b"new", WRITE | CREAT, "fsetstat", BOTH), ("upload",)),
    (through(b"f", WRITE | CREAT | TRUNC, "fsetstat", BOTH), ("overwrite",)),
    (through(b"f", WRITE, "fsetstat", SIZE), ("overwrite",)),
    (through(b"t.filepart", WRITE, "fsetstat", SIZE), ("upload",)),
    (through(b"new", WRITE | CREAT, "write", u64(0), string(b"x")), ("upload",)),
    (ask("setstat", string(b"f"), NO_ATTRS), ()),
    (ask("stat", string(b"f")), ()),
)


class EachAction(InADirectory):
    def build(self, number: int) -> Path:
        root = self.root / str(number)
        (root / "d").mkdir(parents=True)
        for name in ("f", "g", "t.filepart", "g.filepart"):
            (root / name).write_bytes(b"0123456789")
            os.utime(root / name, (1, 2))
        (root / "l").symlink_to("f")
        return root

    def client_of(self, root: Path, actions: tuple[str, ...]) -> Client:
        allow = "".join(f'"{action}", ' for action in actions)
        rule = f"allow = [{allow}]" if actions else 'deny = "all"'
        storage = under(SFTPServerVirtualChroot(root), f'[[rule]]\npath = "/**"\n{rule}\n')
        client = Client(storage, checksums=True)
        self.addCleanup(client.server.close)
        return client

    def state(self, root: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(root.rglob("*")):
            st = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            found[path.name] = (st.st_mode, st.st_nlink, int(st.st_mtime) if content else 0, content)
        return found

    def test_every_row_of_the_table_is_tried(self) -> None:
        tried = {(case.request, case.when[:20], case.needed) for case in CASES}
        for row in REQUESTS:
            if row.action is not None:
                found = [
                    case for case in CASES if case.request == row.request and row.when.startswith(case.when)
                ]
                self.assertTrue(
                    any(row.action in case.needed for case in found), (row.request, row.when, tried)
                )

    def test_it_is_refused_without_and_done_with_what_it_needs(self) -> None:
        numbers = itertools.count()
        for case in CASES:
            with self.subTest(case.request, when=case.when, needed=case.needed):
                root = self.build(next(numbers))
                before = self.state(root)
                for missing in case.needed:
                    others = tuple(action for action in ACTIONS if action != missing)
                    if "rename" in case.request:  # where either of two would do
                        others = tuple(action for action in others if action not in ("upload", "rename"))
                    client = self.client_of(root, others)
                    self.assertEqual(case.asks(client), PERMISSION_DENIED, f"without {missing}")
                    client.server.close()
                    after = self.state(root)
                    if case.asks is copied and missing == "download" or len(case.needed) > 1:
                        after.pop("new", None)  # the first of two handles made it
                    self.assertEqual(before, after, f"without {missing}")
                self.assertEqual(case.asks(self.client_of(self.build(next(numbers)), case.needed)), OK)

    def test_what_is_a_part_of_it_is_done_as_well(self) -> None:
        for number, (asks, needed) in enumerate(PARTS):
            reply = asks(self.client_of(self.build(number), needed))
            self.assertEqual(reply, OK, number)
