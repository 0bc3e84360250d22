"""Files of customers, lines of authorized_keys, and what is made of both."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import unittest
from unittest import mock

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.host import wholefiles
from pysftpserver.people import customers, forced, jailing
from pysftpserver.people.customers import Customer
from pysftpserver.people.steps import Step, carry_out
from tests.sshd.material import line
from tests.support.cases import InAPlace

FOREIGN = f'# mine\nrestrict,command="echo \\"hi, there\\"" {line(90)}\n\n{line(91)} admin\n'
ACCOUNT = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
JAIL = "/opt/pysftpserver/bin/pysftpjail"


class Files(InAPlace):
    def read(self, text: str) -> list[tuple[str, int, dict[str, str]]]:
        file = self.place / "customers.csv"
        file.write_bytes(text.encode())
        return [(one.name, len(one.keys), one.fields) for one in customers.read(str(file))]

    def test_commas_semicolons_and_tabs_and_what_spreadsheets_write_are_read(self) -> None:
        (self.place / "two.pub").write_text(f"# both\n{line(1)} one\n{line(2)}\n")
        wanted = [("alice", 3, {"networks": "192.0.2.0/24"}), ("b ob", 1, {"read_only": "yes"})]
        for text in (
            f"name,key,networks,read_only\nalice,two.pub,192.0.2.0/24,\nalice,{line(3)}\nb "
            f"ob,{line(4)},,Yes\n",
            f'\ufeffName;Key;networks;read_only\r\n\r\n"alice";"two.pub";192.0.2.0/24\r\nalice;"{line(3)}";;;\r\n'
            f"b ob;{line(4)};;YES\r\n",
            f"read_only\tname\tnetworks\tkey\n\talice\t192.0.2.0/24\ttwo.pub\n# no\n\talice\t\t{line(3)}\n"
            f"yes\tb ob\t\t{line(4)}\n",
        ):
            with self.subTest(text=text):
                text = text.replace(";;;\r", "\r")
                self.assertEqual(self.read(text), wanted)

    def test_every_mistake_is_named_with_its_line(self) -> None:
        with self.assertRaises(BadInput) as raised:
            self.read(
                f"name,key,folder,read_only\n../x,{line(1)}\n,{line(1)}\nal,ssh-rsa AAAA\nal,missing.pub\n"
                f"bo,{line(1)},f\nbo,{line(2)},g\ncy,{line(3)},,maybe\ndi,{line(4)},,,,\n"
            )
        for words in (
            "line 2: ../x: the folder is not a single name",
            "line 3: the name is empty",
            "line 4: al: key: ",
            "line 5: al: key file",
            "line 7: bo: another folder",
            "line 8: cy: read_only has to be yes or no",
            "line 9: 6 columns",
        ):
            self.assertIn(words, raised.exception.message)
        for text, words in (
            ("", "no customers"),
            ("key\n", "no column name"),
            ("name,kee\n", "'kee' is unknown"),
        ):
            with self.subTest(text), self.assertRaisesRegex(BadInput, words):
                self.read(text)

    def test_a_private_key_is_refused_and_not_repeated(self) -> None:
        (self.place / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
        with self.assertRaisesRegex(BadInput, "this is a private key") as raised:
            self.read("name,key\nal,key\n")
        self.assertNotIn("c2VjcmV0", raised.exception.message)


class Lines(unittest.TestCase):
    def test_a_line_is_read_as_it_was_written_and_others_stay_byte_by_byte(self) -> None:
        words = f"{JAIL} -R --name 'al \"x\", y' '/srv/al \"x\"'"
        own = f"{forced.options(words, '192.0.2.0/24, !192.0.2.7')} {line(1)}"
        self.assertIn('command="/opt/pysftpserver/bin/pysftpjail -R --name \'al \\"x\\", y\'', own)
        read = forced.Line(own)
        self.assertEqual((read.customer, read.directory), ('al "x", y', '/srv/al "x"'))
        self.assertEqual(read.options["from"], "!192.0.2.7/32,192.0.2.0/24")
        self.assertIsNotNone(read.blob)
        text = forced.with_lines(FOREIGN, {'al "x", y': [own, own]})
        self.assertEqual(text, f"{FOREIGN}{own}\n{own}\n")
        self.assertEqual(forced.with_lines(text, {'al "x", y': []}), FOREIGN)
        self.assertEqual([one.customer for one in forced.lines_of(FOREIGN)], [None] * 5)

    def test_what_cannot_be_written_there_is_refused(self) -> None:
        for words in ("a\nb", "a\\"):
            with self.subTest(words), self.assertRaises(ValueError):
                forced.options(words)


class Making(InAPlace):
    """As root, for nobody; otherwise for the account that runs the tests."""

    def setUp(self) -> None:
        super().setUp()
        self.place.chmod(0o755)
        self.keys = self.place / "authorized_keys"
        self.files = self.place / "files"

    def jails(self, **more: object) -> jailing.Jails:
        return jailing.Jails(
            jailing.Where(ACCOUNT, "sftponly", str(self.files), str(self.keys), JAIL, **more)
        )

    def make(self, *wanted: Customer) -> int:
        steps = self.jails().making(wanted)
        carry_out(steps)
        return len(steps)

    def test_customers_are_made_once_kept_switched_off_and_removed(self) -> None:
        self.keys.write_text(FOREIGN)
        self.keys.chmod(0o600)
        many = [Customer(f"c{number}", [line(number)]) for number in range(30)]
        self.assertEqual(self.make(*many), 62)
        self.assertEqual(self.make(*many), 0, "nothing is done twice")
        self.assertTrue(self.keys.read_text().startswith(FOREIGN))
        self.assertEqual(stat.S_IMODE(self.keys.stat().st_mode), 0o600)
        folder = (self.files / "c7").stat()
        self.assertEqual((stat.S_IMODE(folder.st_mode), folder.st_uid), (0o700, pwd.getpwnam(ACCOUNT).pw_uid))
        carry_out(self.jails().switching(["c7"], False))
        self.assertEqual([one.name for one in self.jails().found().values() if not one.is_on], ["c7"])
        self.make(Customer("c7", [line(7), line(50)], read_only="yes"))
        found = self.jails().found()["c7"]
        self.assertEqual((found.is_on, len(found.lines)), (False, 2), "a new key switches nobody on")
        self.assertIn("--read-only", found.lines[1].words)
        carry_out(self.jails().switching(["c7"], True))
        self.assertTrue(self.jails().found()["c7"].is_on)
        carry_out(self.jails().removing([f"c{number}" for number in range(30)]))
        self.assertEqual(self.keys.read_text(), FOREIGN)
        self.assertTrue((self.files / "c7").is_dir(), "files stay")
        with self.assertRaisesRegex(BadInput, "no customer named c7"):
            self.jails().removing(["c7"])

    def test_all_that_speaks_against_it_is_said_before_anything_is_done(self) -> None:
        self.keys.write_text(FOREIGN)
        self.files.mkdir()
        (self.files / "link").symlink_to("/")
        (self.files / "file").write_text("")
        with self.assertRaises(BadInput) as raised:
            self.make(
                Customer("new", [line(1)]),
                Customer("same", [line(1)]),
                Customer("admin", [line(91)]),
                Customer("keyless"),
                Customer("link", [line(2)]),
                Customer("file", [line(3)]),
            )
        for words in (
            "customer new and customer same have it",
            f"line 4 of {self.keys} and customer admin have it",
            "customer keyless: no key",
            "link: not a directory",
            "file: not a directory",
        ):
            self.assertIn(words, raised.exception.message)
        self.assertEqual(self.keys.read_text(), FOREIGN)
        self.assertEqual(sorted(os.listdir(self.files)), ["file", "link"])

    def test_nothing_in_a_table_is_run_by_the_login_shell(self) -> None:
        name, options = "al'; touch ran; '", "--audit '$(touch ran)' --umask `touch${IFS}ran`"
        self.make(Customer(name, [line(1)], options=options, folder="a $(touch ran)"))
        (found,) = self.jails().found().values()
        self.assertEqual((found.name, found.lines[0].directory), (name, f"{self.files}/a $(touch ran)"))
        command = found.lines[0].options["command"].replace(JAIL, "printf '%s|'", 1)
        done = subprocess.run(["sh", "-c", command], cwd=self.place, capture_output=True, text=True)
        words = [
            "--audit",
            "$(touch ran)",
            "--umask",
            "`touch${IFS}ran`",
            "--name",
            name,
            f"{self.files}/a $(touch ran)",
        ]
        self.assertEqual(done.stdout.split("|")[:-1], words)
        self.assertFalse((self.place / "ran").exists())

    def test_a_customer_does_not_get_another_folder_by_mistake(self) -> None:
        self.make(Customer("c", [line(1)]))
        keys = self.keys.read_text()
        self.files = self.place / "elsewhere"
        with self.assertRaisesRegex(
            BadInput, "its folder would be .*elsewhere/c and no longer .*files/c; say"
        ):
            self.make(Customer("c", [line(1)]))
        self.assertEqual(self.keys.read_text(), keys)

    def test_what_becomes_of_each_customer_is_said(self) -> None:
        self.make(Customer("a", [line(1)]), Customer("b", [line(2)]))
        wanted = [
            Customer("a", [line(3)]),
            Customer("b", [line(2)], read_only="yes"),
            Customer("c", [line(4)]),
        ]
        words = [step.words for step in self.jails().making(wanted)]
        self.assertIn("change customer a: keys", words)
        self.assertIn("add customer c", words)
        (changed,) = (one for one in words if one.startswith("change customer b"))
        self.assertRegex(changed, r"pysftpjail --name b .*, becomes .*pysftpjail --read-only --name b ")

    def test_a_keys_file_that_sshd_would_not_read_is_refused(self) -> None:
        self.keys.write_text(FOREIGN)
        self.keys.chmod(0o660)
        with self.assertRaisesRegex(BadInput, "run chmod go-w"):
            self.make(Customer("c", [line(1)]))
        self.keys.unlink()
        self.keys.symlink_to(self.place / "other")
        with self.assertRaisesRegex(BadInput, "it is a link"):
            self.make(Customer("c", [line(1)]))

    def test_what_fails_half_way_is_undone(self) -> None:
        self.keys.write_text(FOREIGN)
        steps = self.jails().making([Customer("a", [line(1)]), Customer("b", [line(2)])])
        full = mock.patch.object(wholefiles.TemporaryFile, "commit", side_effect=OSError(28, "No space"))
        with full, self.assertRaisesRegex(Unavailable, "no space left on device; nothing was changed"):
            carry_out(steps)
        self.assertEqual(self.keys.read_text(), FOREIGN)
        self.assertFalse(self.files.exists())
        self.assertEqual(sorted(os.listdir(self.place)), ["authorized_keys"])

    def test_what_cannot_be_undone_is_named(self) -> None:
        failing = mock.Mock(side_effect=OSError(28, "No space"))
        steps = [Step("remove the account a", lambda: None), Step("write b", failing)]
        with self.assertRaisesRegex(Unavailable, "cannot be undone: remove the account a$"):
            carry_out(steps)

    def test_a_file_that_another_has_changed_meanwhile_is_not_overwritten(self) -> None:
        self.keys.write_text(FOREIGN)
        steps = self.jails().making([Customer("a", [line(1)])])
        self.keys.write_text(FOREIGN + "# more\n")
        with self.assertRaisesRegex(Unavailable, "it was changed just now; try again"):
            carry_out(steps)
        self.assertEqual(self.keys.read_text(), FOREIGN + "# more\n")

    def test_a_folder_above_the_home_or_of_another_account_is_refused(self) -> None:
        home = mock.patch.object(jailing, "home_of", return_value=str(self.files / "c" / "home"))
        with home, self.assertRaisesRegex(BadInput, "it would hold .*home, from which programs are started"):
            self.make(Customer("c", [line(1)]))
        if os.geteuid() == 0:
            (self.files / "d").mkdir(parents=True)
            with self.assertRaisesRegex(BadInput, f"it belongs to root and not to {ACCOUNT}"):
                self.make(Customer("d", [line(1)]))

    def test_with_an_account_for_each_nobody_gets_the_account_of_the_host_s(self) -> None:
        where = jailing.Where(None, "sftponly", str(self.files), f"{self.place}/keys/%u", JAIL)
        for name, words in (
            ("root", "there is an account of that name"),
            ("Al ice", "an account cannot have this name"),
        ):
            with self.subTest(name), self.assertRaisesRegex(BadInput, words):
                jailing.Jails(where).making([Customer(name, [line(1)])])


if __name__ == "__main__":
    unittest.main()
