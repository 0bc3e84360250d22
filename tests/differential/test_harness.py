"""The comparison itself: it finds what is different, and nothing where nothing is."""

import os
import pwd
import tempfile
import unittest
import unittest.mock
from pathlib import Path

from tests.support.examples import HealthCheck, Phase, given, seed, settings

from . import compare, model, packets, twins
from .compare import REFERENCE, Disagreement, Server
from .model import Handle, step
from .packets import CREAT, READ, WRITE, Attributes
from .session import Session, SessionEnded


class Comparing(unittest.TestCase):
    def test_the_reference_agrees_with_itself(self):
        @seed(1)
        @settings(
            max_examples=5,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(model.sequences(pwd.getpwuid(os.getuid()).pw_name, False, 100))
        def agrees(steps):
            self.assertIsNone(compare.disagreement(REFERENCE, steps))

        agrees()

    def test_a_different_reply_is_found_and_the_sequence_cut_down_to_it(self):
        culprit = step("mkdir", b"new")
        innocent = [step("stat", b"f"), step("open", b"f", READ), step("read", Handle("file"), 0, 5)] * 7
        read_only = Server((*REFERENCE.program, "-R"))
        steps, text = compare.minimal(read_only, [*innocent, culprit, *innocent])
        self.assertEqual(steps, [culprit])
        self.assertIn("reference: OK", text)
        self.assertIn("ours:      PERMISSION_DENIED", text)

    def test_a_different_tree_is_found(self):
        other_umask = Server((*REFERENCE.program, "-u", "077"))
        text = compare.disagreement(other_umask, [step("open", b"new", WRITE | CREAT)])
        self.assertIn("'./tree/new': mode '0o100644' (reference), '0o100600' (ours)", text or "no difference")

    def test_a_server_that_ends_is_found(self):
        with self.assertRaises((SessionEnded, Disagreement)):
            compare.run(Server(("false",)), [step("stat", b"f")])

    def test_times_are_the_same_or_both_about_now(self):
        clock = twins.Clock()
        now = int(clock._start) + twins.FRESH
        self.assertTrue(clock.agree(5, 5))
        self.assertTrue(clock.agree(now, now + 1))
        self.assertFalse(clock.agree(5, 6))
        self.assertFalse(clock.agree(now, twins.LONG_PAST))

    def test_attributes_that_differ_are_found(self):
        with compare.Pair(REFERENCE) as pair:
            for field, one, other in (
                ("size", Attributes(size=1), Attributes(size=2)),
                ("owner", Attributes(owner=(1, 2)), Attributes(owner=(1, 3))),
                ("permissions", Attributes(permissions=0o100644), Attributes(permissions=0o644)),
                ("times", Attributes(times=(1, 2)), Attributes(times=(1, 3))),
                ("size", Attributes(), Attributes(size=0)),
            ):
                self.assertEqual(pair._attributes_difference(one, other), f"different {field}")
                self.assertEqual(pair._attributes_difference(one, one), "")


class Replies(unittest.TestCase):
    """What no client could parse is an error, not a reply."""

    def parse(self, kind: int, body: bytes) -> packets.Reply:
        return packets.parse(kind, packets.Reader(body))

    def test_a_status_without_message_or_language_is_bad(self):
        whole = packets.u32(0) + packets.string(b"Success") + packets.string(b"")
        self.assertEqual(self.parse(packets.STATUS, whole), packets.Reply("status", 0, b"Success"))
        for size in (4, 15):
            with self.assertRaises(packets.BadReply):
                self.parse(packets.STATUS, whole[:size])

    def test_bytes_left_over_are_bad(self):
        with self.assertRaises(packets.BadReply):
            self.parse(packets.HANDLE, packets.string(b"1") + b"x")

    def test_attributes_are_read_as_they_are_written(self):
        value = Attributes(1 << 40, (1, 2), 0o100644, (3, 4), ((b"name", b"value"),))
        self.assertEqual(packets.Reader(packets.attrs(value)).attrs(), value)


class Patience(unittest.TestCase):
    def test_a_server_that_says_nothing_is_not_waited_for_for_ever(self):
        with (
            unittest.mock.patch("tests.differential.session.PATIENCE", 0.2),
            Session(("sleep", "60")) as session,
            self.assertRaises(SessionEnded),
        ):
            session.hello()


class Climbing(unittest.TestCase):
    """Paths that leave the twin are told from those that stay, as the kernel reads them."""

    def test_levels_above_the_root_are_counted_through_links(self):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(os.path.realpath(directory)) / "tree"
            twins.plant(root)
            os.symlink(b"..", root / "d" / "parent")
            os.symlink(b"/", root / "top")
            for path, levels in (
                (b"", 0),
                (b"f", 0),
                (b"/d/../f", 0),
                (b"d/../d/e/../..", 0),
                (b"to-d/../f", 0),
                (b"loop/..", 0),
                (b"d/parent", 0),
                (b"..", 1),
                (b"d/../../tree/f", 1),
                (b"d/parent/..", 1),
                (b"../x", 1),
                (b"../../x", 2),
                (b"top", 2),
            ):
                with self.subTest(path):
                    climbed = [twins.climbs(root, path, allowed) for allowed in (0, 1)]
                    self.assertEqual(climbed, [levels > 0, levels > 1])
