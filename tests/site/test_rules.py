"""Which rule decides, for whom and when, and what moving things around may not change."""

from __future__ import annotations

import os
import time
import unittest
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import BadInput
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
    status_of,
)
from pysftpserver.site import file, opening
from pysftpserver.site.rules import NameRules, Rules
from pysftpserver.site.who import Who
from pysftpserver.uploads.files import open_temporary
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.security.attempts import every_request
from tests.site.test_guard_contract import under
from tests.support.cases import InADirectory
from tests.support.packets import Client

BOX = """
[[rule]]
path = "/in/**"
allow = ["list", "upload"]
"""
MONDAY = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))


def rules(text: str, who: Who | None = None, at: float = MONDAY) -> Rules:
    return Rules(file.parse(text, "s.toml"), who or Who("al"), lambda: at)


class Decisions(unittest.TestCase):
    def test_the_first_rule_that_matches_decides_and_without_one_all_is_allowed(self) -> None:
        found = rules(
            '[[rule]]\npath = "/a/b/**"\nallow = "list"\n[[rule]]\npath = ["/a/**", "/c"]\ndeny = "list"\n'
            '[[rule]]\npath = "/a/**"\nhidden = true\n'
        )
        for path, allowed, place in (
            (b"/a/b/c", {"list"}, "s.toml: line 1: rule 1"),
            (b"/a/b", {"list"}, "s.toml: line 1: rule 1"),
            (b"/a", None, "s.toml: line 4: rule 2"),
            (b"/c", None, "s.toml: line 4: rule 2"),
        ):
            decision = found.decide(path)
            assert decision.rule is not None
            self.assertEqual(decision.rule.place, place)
            if allowed is not None:
                self.assertEqual(decision.allowed, allowed)
            else:
                self.assertNotIn("list", decision.allowed)
                self.assertIn("delete", decision.allowed)
        self.assertIsNone(found.decide(b"/c/d").rule)
        self.assertIn("delete", found.decide(b"/").allowed)

    def test_rules_are_for_users_groups_and_networks(self) -> None:
        text = '[group]\nstaff = ["al", "b*"]\n[[rule]]\n{}\nhidden = true\n'
        for what, who, is_for in (
            ('users = "al"', Who("al"), True),
            ('users = "a*"', Who("al"), True),
            ('users = "bo"', Who("al"), False),
            ('users = "*"', Who(None), False),
            ('groups = "staff"', Who("bo"), True),
            ('groups = "staff"', Who("cy"), False),
            ('users = "cy"\ngroups = "staff"', Who("cy"), True),
            ('networks = "10.0.0.0/8"', Who("al", address="10.1.2.3"), True),
            ('networks = "10.0.0.0/8"', Who("al", address="::ffff:10.1.2.3"), True),
            ('networks = ["10.0.0.0/8", "fe80::/10"]', Who("al", address="fe80::1%eth0"), True),
            ('networks = "10.0.0.0/8"', Who("al", address="11.1.2.3"), False),
            ('networks = "10.0.0.0/8"', Who("al", address="UNKNOWN"), False),
            ('networks = "0.0.0.0/0"', Who("al"), False),
        ):
            with self.subTest(what, who=who):
                site = file.parse(text.format(what), "s.toml")
                address = {"address": who.address} if who.address else {}
                whole = opening.who_of(site, {**({"user": who.user} if who.user else {}), **address})
                self.assertEqual(Rules(site, whole).decide(b"/x").is_hidden, is_for)

    def test_rules_hold_at_hours(self) -> None:
        now = [MONDAY]
        text = '[[rule]]\nhours = ["mon-fri 08:00-12:30", "sat-sun 22:00-02:00"]\nhidden = true\n'
        found = Rules(file.parse(text, "s.toml"), Who(), lambda: now[0])
        hour, day = 3600, 86_400
        for moment, holds in (
            (MONDAY, True),
            (MONDAY + hour / 2 - 1, True),
            (MONDAY + hour / 2, False),
            (MONDAY - 4 * hour, True),
            (MONDAY - 4 * hour - 1, False),
            (MONDAY - 11 * hour, True),  # 01:00, which belongs to Sunday
            (MONDAY - 10 * hour, False),
            (MONDAY + 5 * day + 9.9 * hour, False),
            (MONDAY + 5 * day + 10 * hour, True),
            (MONDAY + 5 * day - 11 * hour, False),  # 01:00 of a Saturday belongs to Friday
        ):
            now[0] = moment
            self.assertEqual(found.decide(b"/x").is_hidden, holds, time.ctime(moment))

    def test_fields_in_paths_are_names_and_no_patterns(self) -> None:
        text = (
            '[[rule]]\npath = ["/home/{user}/**", "/of/{group}/*"]\nallow = "all"\n[[rule]]\ndeny = "all"\n'
        )
        found = rules(text, Who("a*", ("x", "y")))
        for path, allowed in (
            (b"/home/a*/x", True), (b"/home/ab/x", False), (b"/of/x/1", True), (b"/of/y/1", True),
            (b"/of/x", False),
        ):  # fmt: skip
            self.assertEqual(bool(found.decide(path).allowed), allowed, path)
        self.assertFalse(rules(text, Who("b")).decide(b"/of/x/1").allowed)
        for who in (Who(None), Who("../x"), Who("..")):
            with self.assertRaisesRegex(BadInput, "s.toml: {user}: "):
                rules(text, who)

    def test_names_of_uploads_and_of_what_is_refused(self) -> None:
        site = file.parse('[names]\nrefuse = ["*.exe", "con"]\n', "s.toml")
        names = NameRules(site.names)
        for name in ("a.exe", "A.EXE", ".exe", "CON", "a.exe.filepart", ".in.a.exe"):
            self.assertIsNotNone(names.refusal(name), name)
        for name in ("a.exe.txt", "exe", "console"):
            self.assertIsNone(names.refusal(name), name)
        for name, final in (("x.filepart", "x"), ("x.csv.1a2b3c4d.partial", "x.csv"), (".in.x", "x")):
            self.assertTrue(names.is_upload_of(name, final), name)
        for name, final in (("x.filepart", "y"), ("x", "x"), (".filepart", ""), ("xy.filepart", "x")):
            self.assertFalse(names.is_upload_of(name, final), name)


class InAJail(InADirectory):
    def setUp(self) -> None:
        super().setUp()
        for name in ("in", "out", "out/d", "out/d/keep", "in/d"):
            (self.root / name).mkdir()
        for name in ("in/old", "out/f", "out/d/keep/f"):
            (self.root / name).write_bytes(b"old")

    def guarded(self, text: str) -> SFTPAbstractServerStorage:
        return under(SFTPServerVirtualChroot(self.root), text)

    def refused(self, method: object, *arguments: object) -> str:
        with self.assertRaises(SFTPForbidden) as raised:
            method(*arguments)  # type: ignore[operator]
        return str(raised.exception)

    def put(self, storage: SFTPAbstractServerStorage, path: bytes, flags: int = os.O_TRUNC) -> None:
        handle = storage.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        storage.write(handle, 0, b"new")
        storage.close(handle)


class OnAJail(InAJail):
    def test_a_drop_box_takes_new_files_and_nothing_else(self) -> None:
        storage = self.guarded(BOX)
        self.put(storage, b"/in/new")
        self.assertEqual((self.root / "in/new").read_bytes(), b"new")
        self.put(storage, b"/in/x.filepart")
        storage.rename(b"/in/x.filepart", b"/in/x")
        self.put(storage, b"/in/y.filepart")
        self.put(storage, b"/in/y.filepart", 0)  # goes on
        self.assertEqual(self.refused(self.put, storage, b"/in/old"), "Not allowed here: overwrite")
        for path in (b"/in/old", b"/out/../in/old", b"in//./old"):
            self.refused(storage.open, path, os.O_RDONLY, 0)
            self.refused(storage.rm, path)
        self.refused(storage.rename, b"/in/old", b"/out/old")
        self.refused(storage.rename, b"/out/f", b"/in/f")
        self.refused(storage.rename, b"/in", b"/out/in")
        self.refused(storage.rename, b"/in/y.filepart", b"/in/old", True)
        self.refused(storage.rmdir, b"/in")
        self.assertEqual((self.root / "in/old").read_bytes(), b"old")
        self.assertEqual(
            self.refused(storage.open, b"/in/none", os.O_RDONLY, 0), "Not allowed here: download"
        )

    def test_it_is_what_a_link_leads_to_that_counts(self) -> None:
        (self.root / "out" / "l").symlink_to("../in/old")
        (self.root / "out" / "m").symlink_to("/in")
        (self.root / "out" / "n").symlink_to("../in/none")
        (self.root / "in" / "o").symlink_to("../out/f")
        storage = self.guarded(BOX)
        for path in (b"/out/l", b"/out/m/old", b"/out/d/../m/old"):
            self.refused(storage.open, path, os.O_RDONLY, 0)
            self.refused(self.put, storage, path)
        self.put(storage, b"/out/n", 0)
        self.assertEqual((self.root / "in/none").read_bytes(), b"new")
        self.refused(storage.rm, b"/out/m/old")
        storage.rm(b"/out/l")
        self.put(storage, b"/in/o")  # it leads out of the box
        self.assertEqual((self.root / "out/f").read_bytes(), b"new")

    def test_no_other_name_of_a_file_allows_more(self) -> None:
        storage = self.guarded('[[rule]]\npath = "/in/**"\ndeny = ["download", "list"]\n')
        self.assertIn("could be read there", self.refused(storage.rename, b"/in/old", b"/out/x"))
        self.assertIn("would allow more", self.refused(storage.link, b"/in/old", b"/out/x"))
        self.assertIn("could be read there", self.refused(storage.rename, b"/in/d", b"/out/x"))
        storage.rename(b"/in/old", b"/in/x")
        storage.link(b"/out/f", b"/in/f")
        storage = self.guarded('[[rule]]\npath = "/out/**"\ndeny = "setstat"\n')
        self.assertIn("would allow more", self.refused(storage.link, b"/out/f", b"/in/g"))

    def test_a_directory_does_not_take_what_has_rules_of_its_own_along(self) -> None:
        storage = self.guarded('[[rule]]\npath = "/out/d/keep/**"\ndeny = ["rename", "delete"]\n')
        self.refused(storage.rename, b"/out/d", b"/in/x")
        self.refused(storage.rename, b"/out", b"/x")
        storage.rename(b"/out/f", b"/in/f")
        self.refused(storage.rename, b"/in/d", b"/out/d/keep/x")
        storage = self.guarded('hidden = ["/out/d/keep/**", "/x/y"]\n')
        self.refused(storage.rename, b"/out/d", b"/in/x")
        self.refused(storage.rename, b"/in/d", b"/x")
        storage = self.guarded('hidden = "/**/keep/**"\n')
        storage.rename(b"/out/d", b"/in/x")  # hidden here as there
        self.assertTrue((self.root / "in/x/keep/f").exists())
        text = '[[rule]]\npath = "/in/**"\nallow = "all"\n[[rule]]\npath = "/in/x/keep/**"\ndeny = "all"\n'
        self.guarded(text).rename(b"/in/x", b"/out/x")  # the second rule says nothing

    def test_a_door_receives_files_where_names_with_a_leading_dot_are_refused(self) -> None:
        for text in ("", BOX, '[[gate]]\npath = "/in/**"\nlimit = { size = 10 }\n'):
            storage = self.guarded(text + '[names]\nrefuse = [".*", "*-*"]\n')
            for path in (b"/in/new", b"/in/.new", b"/in/a-b"):
                received = open_temporary(storage, path, None)
                received.write(memoryview(b"new"))
                if path == b"/in/new":
                    received.commit()
                else:
                    self.assertIn("are not allowed here", self.refused(received.commit))
            self.refused(storage.mkdir, b"/in/.pysftp-0123456789ab-1-1-0123456789abcdef", 0o777)
            self.assertEqual(sorted(os.listdir(self.root / "in")), ["d", "new", "old"])
            os.unlink(self.root / "in/new")

    def test_new_names_that_are_refused_and_the_largest_file(self) -> None:
        storage = self.guarded('[names]\nrefuse = "*.exe"\nlargest = 3\n')
        for act in (
            lambda: self.put(storage, b"/x.EXE"),
            lambda: self.put(storage, b"/x.exe.filepart"),
            lambda: storage.mkdir(b"/x.exe", 0o777),
            lambda: storage.rename(b"/out/f", b"/x.exe"),
            lambda: storage.link(b"/out/f", b"/x.exe"),
            lambda: storage.symlink(b"/x.exe", b"f"),
        ):
            self.assertEqual(self.refused(act), "Names such as *.exe are not allowed here")
        (self.root / "y.exe").write_bytes(b"old")
        self.put(storage, b"/y.exe")  # it is there already
        for flags, content in ((os.O_TRUNC, b""), (os.O_APPEND, b"new")):
            handle = storage.open(b"/y.exe", os.O_WRONLY | flags, 0)
            self.assertEqual(storage.fileno(handle), handle)
            for act in (
                lambda handle=handle: storage.write(handle, 1, b"abc"),
                lambda handle=handle: storage.check_write(handle, 0, 4),
                lambda handle=handle: storage.fsetstat(handle, SFTPAttributes(size=4)),
                lambda: storage.setstat(b"/y.exe", SFTPAttributes(size=4)),
            ):
                self.assertRaisesRegex(SFTPFailure, "larger than 3 bytes", act)
            storage.close(handle)
            self.assertEqual((self.root / "y.exe").read_bytes(), content)
            self.put(storage, b"/y.exe")

    def test_a_link_that_appears_where_a_new_file_may_be_is_no_way_to_overwrite(self) -> None:
        storage = self.guarded(BOX)
        (self.root / "in" / "l").symlink_to("old")
        self.refused(self.put, storage, b"/in/l")
        (self.root / "in" / "m").symlink_to("not-yet")
        self.put(storage, b"/in/m")
        self.assertEqual((self.root / "in/not-yet").read_bytes(), b"new")

    def test_a_path_that_never_holds_still_fails(self) -> None:
        storage = self.guarded(BOX)
        with mock.patch.object(type(storage), "_resolved", lambda *_: b"/out/l"):
            (self.root / "out" / "l").symlink_to("f")
            with self.assertRaises(OSError):
                storage.stat(b"/out/l")


MAKING = ("mkdir", "symlink", "rename", "posix-rename", "hardlink", "open", "realpath", "expand-path")
MISSING = str(status_of(FileNotFoundError(2, "")))
HIDDEN = 'hidden = ["/out/d/**", "/**/.git/**"]\n[[rule]]\npath = "/in/old"\nusers = "al"\nhidden = true\n'


class Hidden(InAJail):
    def setUp(self) -> None:
        super().setUp()
        (self.root / "in" / ".git").mkdir()
        (self.root / "out" / "d" / "link").symlink_to("/in")
        self.hidden = (b"/out/d", b"/out/d/", b"/out/d/keep/f", b"/in/old", b"/in/.git", b"/out/d/link/x")
        self.storage_ = self.guarded(HIDDEN)

    def answer(self, storage: SFTPAbstractServerStorage, method: str, *arguments: object) -> str:
        try:
            getattr(storage, method)(*arguments)
        except Exception as error:
            return str(status_of(error))
        return "done"

    def test_every_request_answers_as_if_nothing_were_there(self) -> None:
        gone = {b"/out/d": b"/out/n", b"/in/old": b"/in/non", b"/in/.git": b"/in/none"}
        with mock.patch("os.urandom", lambda count: b"x" * count):
            for path in self.hidden:
                missing = path
                for name, other in gone.items():
                    missing = missing.replace(name, other)
                for method, *more in (
                    ("stat",), ("lstat",), ("opendir",), ("readlink",), ("rm",), ("rmdir",), ("statvfs",),
                    ("setstat", SFTPAttributes(permissions=0o600)), ("open", os.O_RDONLY, 0),
                    ("lsetstat", SFTPAttributes(atime=1, mtime=1)), ("open", os.O_WRONLY, 0),
                    ("rename", b"/in/x"), ("link", b"/in/x"),
                ):  # fmt: skip
                    answers = [self.answer(self.storage_, method, p, *more) for p in (path, missing)]
                    with self.subTest(method, path=path):
                        self.assertEqual(*answers)
                        self.assertEqual(MISSING, answers[0])
        for path, real in ((b"/out/d", b"/out/d"), (b"/in/old", b"/in/old"), (b"/in/.git/", b"/in/.git")):
            self.assertEqual(self.storage_.realpath(path), real)
        with self.assertRaises(FileNotFoundError):
            self.storage_.realpath(b"/out/d/keep")

    def test_nothing_is_made_there(self) -> None:
        for path in (b"/out/d/new", b"/in/.git", b"/in/.git/new", b"/in/old"):
            for method, *more in (
                ("mkdir", 0o777), ("symlink", b"x"), ("open", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666),
            ):  # fmt: skip
                self.assertEqual(MISSING, self.answer(self.storage_, method, path, *more))
            self.assertEqual(MISSING, self.answer(self.storage_, "rename", b"/out/f", path, True))
        self.assertEqual((self.root / "in/old").read_bytes(), b"old")

    def test_no_listing_and_no_link_shows_it(self) -> None:
        names = {path: {name for name, _ in self.storage_.opendir(path)} for path in (b"/out", b"/in")}
        self.assertEqual(names, {b"/out": {b".", b"..", b"f"}, b"/in": {b".", b"..", b"d"}})
        for text, path in (
            ("d/keep/f", b""),
            ("d", b"/keep"),
            ("/out/d/link", b"/d"),
            ("d/keep/../../f", b""),
        ):
            (self.root / "out" / "l").unlink(missing_ok=True)
            (self.root / "out" / "l").symlink_to(text)
            with self.assertRaises((SFTPNotFound, FileNotFoundError), msg=text):
                self.storage_.stat(b"/out/l" + path)
            self.storage_.lstat(b"/out/l")
        with self.assertRaises(FileNotFoundError):
            self.storage_.stat(b"/out/d/../f")
        listing = self.storage_.opendir(b"/in")
        listing.close()  # type: ignore[attr-defined]

    def test_for_others_it_is_there(self) -> None:
        storage = under(SFTPServerVirtualChroot(self.root), HIDDEN, Who("bo"))
        storage.stat(b"/in/old")

    def test_names_of_uploads_that_wait_and_quarantines_are_hidden_where_there_are_gates(self) -> None:
        from pysftpserver.uploads import temporary

        name = temporary.new_name()
        (self.root / "in" / os.fsdecode(name)).touch()
        storage = self.guarded('[[gate]]\nclamd = "/run/c"\nquarantine = "/out/d"\n')
        self.assertNotIn(name, [name for name, _ in storage.opendir(b"/in")])
        for path in (b"/in/" + name, b"/out/d/keep"):
            with self.assertRaises(FileNotFoundError):
                storage.stat(path)

    def test_a_door_may_receive_a_file_under_such_a_name(self) -> None:
        from pysftpserver.uploads import temporary
        from pysftpserver.uploads.files import open_temporary

        for text in ('[[gate]]\nclamd = "/run/c"\nor = "accept"\n', ""):
            storage = self.guarded(f'{text}[[rule]]\npath = "/in/**"\nallow = ["list", "upload"]\n')
            file = open_temporary(storage, b"/in/new" + text[:1].encode(), None)
            file.write(b"new")
            file.commit()
            self.assertEqual((self.root / f"in/new{text[:1]}").read_bytes(), b"new")
            with self.assertRaisesRegex(SFTPForbidden, "overwrite"):
                file = open_temporary(storage, b"/in/old2", None)
                (self.root / "in/old2").touch()
                file.commit()
            (self.root / "in/old2").unlink()
            self.assertEqual(storage._staged, set())  # type: ignore[attr-defined]
            others = b"/in/" + temporary.new_name()
            (self.root / os.fsdecode(others[1:])).touch()
            with self.assertRaises((OSError, SFTPException)):
                storage.open(others, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with self.assertRaises((SFTPForbidden, FileNotFoundError)):
                storage.rm(others)
            (self.root / os.fsdecode(others[1:])).unlink()
            self.assertEqual(
                {name for name in os.listdir(self.root / "in") if name.startswith(".pysftp")}, set()
            )

    def test_every_request_of_the_attack_suite_gets_the_replies_of_what_is_missing(self) -> None:
        client = Client(self.storage_)
        self.addCleanup(client.server.close)
        (self.root / "stash").mkdir()
        for hidden, missing in (
            (b"/out/d/keep/f", b"/out/n/keep/f"),
            (b"/out/d", b"/out/n"),
            (b"out/d/../f", b"out/n/../f"),
            (b"/in/old", b"/in/non"),
            (b"/in/.git/", b"/in/.not/"),
            (b"/out/d/link/old", b"/out/n/link/old"),
        ):
            (self.root / "stash" / "file").write_bytes(b"x")
            pairs = zip(
                every_request(hidden, b"/stash/file"), every_request(missing, b"/stash/file"), strict=True
            )
            for attempt, other in pairs:
                if attempt.kind in MAKING:
                    continue  # there is nothing, but nothing can be made: the test above
                with self.subTest(attempt.kind, path=hidden):
                    replies = [client.ask(one.kind, *one.parts) for one in (attempt, other)]
                    self.assertEqual(*((one.kind, one.content, one.message) for one in replies))
