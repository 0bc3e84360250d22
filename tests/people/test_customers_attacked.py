"""Customers of sshd, as hostile accounts, tables and interruptions have them."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from unittest import mock

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.host import making, privileges, wholefiles
from pysftpserver.people import customers, forced, jailing, keys_files
from pysftpserver.people.customers import Customer
from pysftpserver.people.steps import carry_out
from tests.sshd.material import line
from tests.support.cases import InAPlace

ACCOUNT = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
JAIL = "/opt/pysftpserver/bin/pysftpjail"


class Tables(InAPlace):
    def refused(self, text: str) -> str:
        file = self.place / "customers.csv"
        file.write_text(text)
        with self.assertRaises(BadInput) as raised:
            customers.read(str(file))
        return raised.exception.message

    def test_a_field_that_is_too_long_is_a_mistake_in_its_line(self) -> None:
        self.assertIn("line 2: ", self.refused(f"name,key\n{'a' * 200_000},x\n"))

    def test_of_many_mistakes_the_first_are_told(self) -> None:
        said = self.refused("name,key\n" + ",x\n" * 1000)
        self.assertIn("line 2: the name is empty", said)
        self.assertIn("and 990 more", said)


class Attacked(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.place.chmod(0o755)
        self.keys = self.place / "authorized_keys"
        self.files = self.place / "files"

    def jails(self) -> jailing.Jails:
        return jailing.Jails(jailing.Where(ACCOUNT, "sftponly", str(self.files), str(self.keys), JAIL))

    def make(self, *wanted: Customer) -> None:
        carry_out(self.jails().making(wanted))

    def test_a_key_that_another_line_has_is_not_let_in_by_it_once_the_customer_s_is_off(self) -> None:
        self.make(Customer("al", [line(1)]))
        self.keys.write_text(f"{self.keys.read_text()}{line(1)} with a shell\n")
        before = self.keys.read_text()
        for steps in (lambda: self.jails().switching(["al"], False), lambda: self.jails().removing(["al"])):
            with self.assertRaisesRegex(BadInput, "line 2 of .* has the key of customer al; remove it"):
                steps()
        self.assertEqual(self.keys.read_text(), before)

    def test_options_cannot_give_another_name(self) -> None:
        for options in ("--name bo", "-R --name=bo"):
            with self.subTest(options), self.assertRaisesRegex(BadInput, "customer al: options: --name is"):
                self.jails().making([Customer("al", [line(1)], options=options)])

    def test_a_name_that_would_be_an_option_is_refused(self) -> None:
        for name in ("-R", "--name"):
            with self.subTest(name), self.assertRaisesRegex(BadInput, "the name begins with -"):
                self.jails().making([Customer(name, [line(1)])])

    def test_an_account_cannot_be_root_s_hand_by_a_link(self) -> None:
        if os.geteuid():
            self.skipTest("root is needed")
        nobody, secret = pwd.getpwnam(ACCOUNT), self.place / "secret"
        own = self.place / "own"
        for directory in (secret, own):
            directory.mkdir()
        os.chown(own, nobody.pw_uid, nobody.pw_gid)
        (own / ".ssh").symlink_to(secret)
        (secret / "authorized_keys").write_text(f"{line(90)} root's\n")
        (secret / "authorized_keys").chmod(0o600)
        self.keys = own / ".ssh" / "authorized_keys"
        with self.assertRaisesRegex(BadInput, "permission denied"):
            self.make(Customer("al", [line(1)]))
        self.assertEqual((secret / "authorized_keys").read_text(), f"{line(90)} root's\n")

    def test_a_lock_that_another_account_holds_does_not_stop_root_for_ever(self) -> None:
        self.make(Customer("al", [line(1)]))
        steps = self.jails().switching(["al"], False)
        descriptor = os.open(self.place, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        began = time.monotonic()
        with (
            mock.patch.object(keys_files, "LOCK_PATIENCE", 0.2),
            self.assertRaisesRegex(Unavailable, "another process has locked"),
        ):
            carry_out(steps)
        self.assertLess(time.monotonic() - began, 30)

    def test_what_is_interrupted_is_undone(self) -> None:
        steps = self.jails().making([Customer("al", [line(1)])])
        stopped = mock.patch.object(wholefiles.TemporaryFile, "commit", side_effect=KeyboardInterrupt)
        with stopped, self.assertRaises(KeyboardInterrupt):
            carry_out(steps)
        self.assertEqual(os.listdir(self.place), [])

    def test_what_was_killed_between_making_a_folder_and_giving_it_away_is_completed(self) -> None:
        if os.geteuid():
            self.skipTest("root is needed")
        (self.files / "al").mkdir(parents=True, mode=0o700)
        self.make(Customer("al", [line(1)]))
        self.assertEqual((self.files / "al").stat().st_uid, pwd.getpwnam(ACCOUNT).pw_uid)

    def test_a_file_that_is_too_large_is_not_cut(self) -> None:
        self.keys.write_text("# mine\n" * 100)
        self.keys.chmod(0o600)
        with mock.patch.object(keys_files, "LARGEST", 100), self.assertRaisesRegex(BadInput, "larger than"):
            self.make(Customer("al", [line(1)]))
        self.assertEqual(self.keys.read_text(), "# mine\n" * 100)

    def test_thousands_of_customers_take_seconds(self) -> None:
        one = line(1).split()[1]
        with mock.patch.object(forced, "with_lines", wraps=forced.with_lines) as called:
            self.jails().making([Customer(f"c{number}", [f"ssh-ed25519 {one}"]) for number in range(1)])
            few = called.call_count
            self.jails().making([Customer(f"c{number}", [line(number)]) for number in range(20)])
        self.assertEqual(called.call_count, 2 * few, "the file is put together once")


class OwnAccounts(InAPlace):
    def test_a_line_in_the_file_of_an_account_is_no_other_customer_s(self) -> None:
        for name, customer in (("al", "bo"), ("bo", "bo")):
            words = forced.options(f"{JAIL} --name {customer} /srv/{customer}")
            (self.place / name).write_text(f"{words} {line(1)}\n")
            (self.place / name).chmod(0o600)
        where = jailing.Where(None, "sftponly", "/srv", f"{self.place}/%u", JAIL)
        found = jailing.Jails(where).found()
        self.assertEqual([(one.name, one.file.path) for one in found.values()], [("bo", f"{self.place}/bo")])

    def test_one_file_for_all_accounts_is_refused(self) -> None:
        with self.assertRaisesRegex(BadInput, "%u"):
            jailing.Where(None, "sftponly", "/srv", f"{self.place}/keys", JAIL)

    def test_two_accounts_cannot_have_one_folder(self) -> None:
        where = jailing.Where(None, "sftponly", str(self.place), f"{self.place}/%u", JAIL)
        both = [Customer("x-al", [line(1)], folder="f"), Customer("x-bo", [line(2)], folder="f")]
        with self.assertRaisesRegex(BadInput, "customer x-bo: folder .* is customer x-al's"):
            jailing.Jails(where).making(both)


class Leading(InAPlace):
    def test_an_account_leads_where_it_can_write_a_directory_or_owns_a_link(self) -> None:
        if os.geteuid():
            self.skipTest("root is needed")
        self.place.chmod(0o755)
        nobody, path = privileges.account(ACCOUNT), f"{self.place}/link/a/b"
        (self.place / "link").symlink_to(self.place)
        (self.place / "a").mkdir(mode=0o775)
        self.assertFalse(making.is_led_by(nobody, path))
        os.lchown(self.place / "link", nobody.uid, 0)
        self.assertTrue(making.is_led_by(nobody, path))
        os.lchown(self.place / "link", 0, 0)
        os.chown(self.place / "a", 0, nobody.gid)
        (self.place / "a").chmod(0o775)
        self.assertTrue(making.is_led_by(nobody, path))
        (self.place / "a").chmod(0o1777)
        self.assertFalse(making.is_led_by(nobody, path))
        self.assertFalse(making.is_led_by(nobody, f"{self.place}/none/b"))
        (self.place / "link").unlink()
        (self.place / "link").symlink_to("link")
        self.assertTrue(making.is_led_by(nobody, path))
