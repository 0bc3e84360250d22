"""The server against the client that people have, which says one line at a time, and against bare words."""

from __future__ import annotations

import hashlib
import os
import random
import unittest
from pathlib import Path

from pysftpserver.sksync import shares
from pysftpserver.sksync.sending import BLOCK
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync import oldstyle
from tests.sksync.oldstyle import TITLES
from tests.sksync.serving import NOW, Directories, cuts, put, tree

LATIN, GREEK, JAPANESE = "caf\u00e9", "\u03b1\u03b2\u03b3", "\u65e5\u672c\u8a9e"
CAPTURED = (
    b"sksync 1\n",
    b"Protocol Established\n",
    b"5\n",
    b"0\n/tmp/skmemos\n/sdcard/skmemos\n"
    b"1345316070000 test2.txt\n1345316082000 test1.txt\n1345316010000 test3.txt\n\n",
)
#: (client's, server's) seconds of each file; None where it is missing.
FILES: dict[str, tuple[int | None, int | None]] = {
    "ours only": (NOW, None),
    "theirs only": (None, NOW),
    "same": (NOW, NOW),
    "newer here": (NOW + 1, NOW),
    "newer there": (NOW, NOW + 1),
    "d/ours only": (NOW, None),
    "d/e/theirs only": (None, NOW),
    f"{LATIN}/newer here": (NOW + 5000, NOW),
}
CONTENTS = [b"", b"x", b"\n", b"0123456789" * 100, bytes(range(256)) * 2000]


def expected(kind: int, is_recursive: bool) -> tuple[set[str], set[str]]:
    """Names that go to the server and that come from it, said once more."""
    sent, received = set(), set()
    for name, (ours, theirs) in FILES.items():
        if "/" in name and not is_recursive:
            continue
        if kind % 3 != 2 and ours is not None:
            if theirs is None or (kind < 3 and ours > theirs):
                sent.add(name)
        if kind % 3 != 1 and theirs is not None:
            if ours is None or (kind < 3 and theirs > ours):
                received.add(name)
    return sent, received


class Everything(Directories):
    """Every dialect, every type, recursive or not."""

    def fill(self, number: int) -> tuple[Path, str]:
        """A pair of directories with FILES in them: the client's, and the path of the server's."""
        here = self.here / str(number)
        there = self.there / str(number)
        here.mkdir()
        there.mkdir()
        for index, (name, (ours, theirs)) in enumerate(FILES.items()):
            content = CONTENTS[index % len(CONTENTS)]
            if ours is not None:
                put(here, name, content + b"here", ours)
            if theirs is not None:
                put(there, name, b"there" + content, theirs)
        return here, f"there/{number}"

    def test_every_dialect_type_and_depth_moves_what_the_protocol_says_and_nothing_the_second_time(
        self,
    ) -> None:
        port = self.serve().port
        number = 0
        for title in TITLES:
            for kind in range(6):
                for is_recursive in (True, False):
                    number += 1
                    with self.subTest(title=title, kind=kind, is_recursive=is_recursive):
                        here, path = self.fill(number)
                        before_here, before_there = tree(here), tree(self.root / path)
                        sent, received = oldstyle.client(port, here, title, kind, is_recursive, path)
                        self.assertEqual((set(sent), set(received)), expected(kind, is_recursive))
                        self.assertEqual(tree(here), before_here | {n: before_there[n] for n in received})
                        after = before_there | {name: before_here[name] for name in sent}
                        self.assertEqual(tree(self.root / path), after)
                        again = oldstyle.client(port, here, title, kind, is_recursive, path)
                        self.assertEqual(again, ([], []))

    def test_names_in_latin_greek_and_japanese_go_both_ways_and_only_once(self) -> None:
        served = self.serve()
        for title in TITLES:
            for name in (LATIN, GREEK, JAPANESE):
                put(self.here, f"{title}/{name}/h{name}", b"here", NOW)
                put(self.there, f"{title}/{name}/t{name}", b"there", NOW)
        for title in TITLES:
            with self.subTest(title):
                here, path = self.here / title, f"there/{title}"
                sent, received = oldstyle.client(served.port, here, title, 0, path=path)
                sayable = [LATIN] if title == "sksync 1" else [LATIN, GREEK, JAPANESE]
                self.assertEqual(sorted(sent), sorted(f"{name}/h{name}" for name in sayable))
                self.assertEqual(sorted(received), sorted(f"{name}/t{name}" for name in sayable))
                for name in sayable:
                    content = (self.there / title / name / f"h{name}").read_bytes()
                    self.assertEqual(content, b"here")
                again = oldstyle.client(served.port, here, title, 0, path=path)
                self.assertEqual(again, ([], []))
        self.assertIn("2 names cannot be encoded in sksync 1", served.log.wait("cannot be encoded"))
        self.assertFalse((self.here / "sksync 1" / GREEK / f"t{GREEK}").exists())


class Words(Directories):
    """What is said, byte for byte."""

    def test_the_captured_session_of_the_original_client_gets_the_original_answers(self) -> None:
        memos = self.root / "tmp" / "skmemos"
        for number, mtime in ((2, 1345316070), (1, 1345316082), (3, 1345316010)):
            put(memos, f"test{number}.txt", b"", mtime)
        client = self.raw(self.serve().port)
        client.say(CAPTURED[0])
        self.assertEqual(client.line(), CAPTURED[1])
        client.say(*CAPTURED[2:])
        self.assertEqual(client.rest(), b"\n\n")

    def test_it_gets_them_however_it_is_cut(self) -> None:
        (self.root / "tmp" / "skmemos").mkdir(parents=True)
        port = self.serve().port
        for how in (0, 1, 2, 7, -1, -2, -3):
            with self.subTest(how):
                client = self.raw(port)
                client.say(*cuts(CAPTURED[0] + CAPTURED[2] + CAPTURED[3], how))
                self.assertEqual(client.rest(), CAPTURED[1] + b"\n\n")

    def test_a_stray_empty_line_after_an_empty_listing_changes_nothing(self) -> None:
        port = self.serve().port
        put(self.there, "f", b"content")
        for title in TITLES:
            for kind in range(6):
                here = self.here / f"{title} {kind}"
                here.mkdir()
                with self.subTest(title=title, kind=kind):
                    sent, received = oldstyle.client(port, here, title, kind, is_stray=True)
                    self.assertEqual((sent, received), ([], ["f"] if kind % 3 != 1 else []))

    def test_an_upload_in_any_pieces_is_the_same_upload(self) -> None:
        port = self.serve().port
        contents = {"a": b"", "b": b"x\n" * 500, "c": bytes(range(256))}
        for title in TITLES:
            head = f"{title}\n1\n0\n"
            body = "".join(f"{NOW}999 {name}\n" for name in contents) + "\n"
            follows = b""
            for content in contents.values():
                digest = hashlib.md5(content).hexdigest().encode() + b"\n"
                follows += b"%d\n" % len(content) + content + (digest if title == "pysksync 2" else b"")
            md5 = b"md5\n" if title == "pysksync 2" else b""
            for how in (0, 1, 3, -11, -12, -13):
                with self.subTest(title=title, how=how):
                    path = f"there/{title} {how}"
                    client = self.raw(port)
                    client.say(*cuts(f"{head}{path}\n/here\n{body}".encode() + follows, how))
                    said = b"Protocol Established\n" + md5 + b"a\nb\nc\n\n\n"
                    self.assertEqual(client.rest(), said)
                    after = {name: (content, NOW) for name, content in contents.items()}
                    self.assertEqual(tree(self.root / path), after)

    def test_a_download_is_what_the_page_says(self) -> None:
        put(self.there, "a b", b"abc\n", NOW + 0.999)
        put(self.there, "d/empty", b"", NOW)
        port = self.serve().port
        digests = [hashlib.md5(content).hexdigest() + "\n" for content in (b"abc\n", b"")]
        for title in TITLES:
            first, second = digests if title == "pysksync 2" else ("", "")
            md5 = "md5\n" if title == "pysksync 2" else ""
            with self.subTest(title):
                client = self.raw(port)
                client.say(f"{title}\n2\n0\n/there\n/x\n\n".encode())
                files = f"a b\n{NOW}000\n4\nabc\n{first}d/empty\n{NOW}000\n0\n{second}"
                said = f"Protocol Established\n{md5}\n{files}\n"
                self.assertEqual(client.rest().decode(), said)

    def test_the_server_speaks_before_the_client_is_through(self) -> None:
        client = self.raw(self.serve().port)
        client.say(b"pysksync 2\n")
        self.assertEqual(client.line(), b"Protocol Established\n")
        client.say(b"0\n0\nthere\nhere\n")
        self.assertEqual(client.line(), b"md5\n")

    def test_a_client_that_has_ended_its_side_still_gets_all(self) -> None:
        put(self.there, "f", b"content")
        client = self.raw(self.serve().port)
        client.say(b"pysksync 1\n5\n0\nthere\nhere\n\n")
        client.socket.shutdown(1)
        self.assertTrue(client.rest().endswith(b"\nf\n%d000\n7\ncontent\n" % NOW))

    def test_with_sksync1_compat_only_that_name_is_taken(self) -> None:
        served = self.serve(sksync1_compat=True)
        self.assertEqual(oldstyle.client(served.port, self.here, "sksync 1"), ([], []))
        for title in TITLES[1:]:
            with self.assertRaises(oldstyle.Ended):
                oldstyle.client(served.port, self.here, title)


class Times(Directories):
    def test_fractions_of_a_second_are_no_difference_in_either_direction(self) -> None:
        put(self.here, "f", b"here", NOW + 0.25)
        put(self.there, "f", b"there", NOW + 0.75)
        path = put(self.there, "g", b"there")
        os.utime(path, ns=(0, NOW * 10**9 + 999_999_999))
        put(self.here, "g", b"here")
        port = self.serve().port
        for odd in (0, 1, 999):
            for title in TITLES:
                found = oldstyle.client(port, self.here, title, 0, odd=odd)
                self.assertEqual(found, ([], []), (odd, title))

    def test_milliseconds_of_a_listing_are_cut(self) -> None:
        put(self.here, "f", b"here")
        port = self.serve().port
        self.assertEqual(oldstyle.client(port, self.here, odd=999), (["f"], []))
        self.assertEqual((self.there / "f").stat().st_mtime_ns, NOW * 10**9)
        self.assertEqual(oldstyle.client(port, self.here), ([], []))

    def test_files_from_before_1970_and_after_2038_come_and_do_not_come_again(self) -> None:
        put(self.there, "old", b"old", -1000)
        put(self.there, "new", b"new", 1 << 32)
        put(self.there, "newer", b"newer", 5_000_000_000)
        port = self.serve().port
        for title in TITLES:
            here = self.here / title
            here.mkdir()
            found = oldstyle.client(port, here, title)
            self.assertEqual((found[0], set(found[1])), ([], {"old", "new", "newer"}))
            expected = {"old": (b"old", 0), "new": (b"new", 1 << 32), "newer": (b"newer", 5_000_000_000)}
            self.assertEqual(tree(here), expected)
            self.assertEqual(oldstyle.client(port, here, title), ([], []))

    def test_they_can_be_sent_to_the_server_too(self) -> None:
        put(self.here, "epoch", b"", 0)
        put(self.here, "new", b"new", 5_000_000_000)
        port = self.serve().port
        self.assertEqual(oldstyle.client(port, self.here), (["epoch", "new"], []))
        self.assertEqual(tree(self.there), tree(self.here))
        self.assertEqual(oldstyle.client(port, self.here), ([], []))


class Shrinking(SFTPServerVirtualChroot):
    """A jail in which the file `big` loses its end when its first block was read."""

    path: Path

    def read(self, handle: object, off: int, size: int) -> bytes | bytearray | memoryview:
        found = super().read(handle, off, size)
        if off == 0 and size == BLOCK:
            os.truncate(self.path, BLOCK + 10)
        return found


class Changing(Directories):
    def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_session_without_invented_bytes(
        self,
    ) -> None:
        content = random.Random(7).randbytes(4 * BLOCK)
        for title in TITLES:
            with self.subTest(title):
                storage = Shrinking(self.root)
                storage.path = put(self.there, "big", content)
                put(self.there, "small", b"never sent")
                served = self.serve(storage)
                client = self.raw(served.port)
                client.say(f"{title}\n5\n0\nthere\nhere\n\n".encode())
                said = client.rest()
                head = b"\nbig\n%d000\n%d\n" % (NOW, len(content))
                self.assertIn(head, said)
                came = said[said.index(head) + len(head) :]
                self.assertEqual(came, content[: len(came)])
                self.assertGreaterEqual(len(came), BLOCK)
                self.assertIn("became shorter", served.log.wait("ended: "))

    def test_a_file_that_is_shorter_before_it_is_sent_is_sent_as_it_is(self) -> None:
        class Late(SFTPServerVirtualChroot):
            def fstat(self, handle: object) -> object:  # type: ignore[override]
                attrs = super().fstat(handle)
                assert attrs.size is not None
                attrs.size += 5
                return attrs

        put(self.there, "f", b"short")
        port = self.serve(Late(self.root)).port
        self.assertEqual(oldstyle.client(port, self.here), ([], ["f"]))
        self.assertEqual(tree(self.here), tree(self.there))

    def test_a_file_that_went_away_is_passed_over_and_the_others_come(self) -> None:
        class Vanishing(SFTPServerVirtualChroot):
            def open(self, path: bytes, flags: int, mode: int) -> object:
                if path.endswith(b"/b"):
                    raise FileNotFoundError(2, "No such file or directory")
                return super().open(path, flags, mode)

        for name in "abc":
            put(self.there, name, name.encode())
        served = self.serve(Vanishing(self.root))
        self.assertEqual(oldstyle.client(served.port, self.here), ([], ["a", "c"]))
        served.log.wait("'b' was removed")


class Receiving(Directories):
    def test_a_replaced_file_keeps_its_permissions_and_a_new_one_gets_the_usual(self) -> None:
        for mode in (0o600, 0o640, 0o755, 0o444):
            put(self.here, f"{mode:o}", b"new", NOW + 10)
            put(self.there, f"{mode:o}", b"old", NOW).chmod(mode)
        put(self.here, "fresh", b"new")
        port = self.serve(SFTPServerVirtualChroot(self.root, umask=0o027)).port
        sent, _ = oldstyle.client(port, self.here)
        self.assertEqual(len(sent), 5)
        for mode in (0o600, 0o640, 0o755, 0o444):
            path = self.there / f"{mode:o}"
            self.assertEqual((path.stat().st_mode & 0o7777, path.read_bytes()), (mode, b"new"))
        self.assertEqual((self.there / "fresh").stat().st_mode & 0o7777, 0o640)

    @unittest.skipUnless(os.geteuid() == 0, "root alone gives files away")
    def test_a_replaced_file_keeps_its_owner(self) -> None:
        put(self.here, "f", b"new", NOW + 1)
        os.chown(put(self.there, "f", b"old"), 65534, 65533)
        os.chmod(self.there / "f", 0o600)
        oldstyle.client(self.serve().port, self.here, kind=1)
        found = (self.there / "f").stat()
        self.assertEqual((found.st_uid, found.st_gid, found.st_mode & 0o777), (65534, 65533, 0o600))
        self.assertEqual((self.there / "f").read_bytes(), b"new")


class OneOf(unittest.TestCase):
    def test_a_client_s_path_is_below_the_top_whatever_it_says(self) -> None:
        for path in ("", "/", ".", "..", "../..", "a/../..", "//"):
            self.assertEqual(shares.directory(path), b"/", path)
        for path in ("a/b", "/a/b/", "//a//b", "../a/./b", "a/b/c/.."):
            self.assertEqual(shares.directory(path), b"/a/b/", path)
