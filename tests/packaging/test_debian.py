"""The Debian package in a Debian of its own: installed, used, upgraded, purged."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from pysftpserver import __version__
from pysftpserver.cli.registry import PROGRAMS
from pysftpserver.sshd.config import ServerSettings
from tests.packaging.built import call, newer, package
from tests.packaging.chroots import HOME, Chroot, debian, needs_chroot
from tests.packaging.serving import Keyed
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

PACKAGING = ROOT / "packaging" / "debian"
# The package's dependencies, and what the tests need besides: a server that starts pysftpjail.
SYSTEM = ("adduser", "ca-certificates", "openssh-server", "python3", "python3-venv")
CONFIG = "/etc/pysftpserver/pysftpd.toml"
USERS = "/etc/pysftpserver/users.toml"
ACCOUNTS = {"pysftpd", "pysftp-deliver"}
OLD_NAMES = {program.name for program in PROGRAMS if program.summary.startswith("an older name")}
COMMANDS = sorted(program.name for program in PROGRAMS if program.name not in OLD_NAMES)


class Files(unittest.TestCase):
    """What can be said of the packaging files without building anything."""

    def test_the_settings_that_it_installs_are_settings_of_pysftpd_also_those_in_comments(self) -> None:
        text = (PACKAGING / "etc" / "pysftpd.toml").read_text()
        known = set(ServerSettings.table())
        for version in (text, re.sub(r"(?m)^#(?=\w+ = )", "", text)):
            self.assertLessEqual(set(tomllib.loads(version)), known)

    def test_the_units_that_it_installs_are_the_examples_with_paths_of_a_package(self) -> None:
        rules = (PACKAGING / "rules").read_text()
        listed = re.search(r"for unit in ([^;]+);", rules)
        assert listed is not None
        units = {
            path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".service", ".socket")
        }
        # One account's own systemd is that account's: it stays an example.
        self.assertEqual(set(listed[1].split()), units - {"pysftp-warm.user.service"})
        for line in re.findall(r"-e 's\|\^(\w+=[^|$]+)\$\$\|", rules):
            with self.subTest(line):
                texts = [(ROOT / "examples" / name).read_text().splitlines() for name in listed[1].split()]
                self.assertTrue(any(line in text for text in texts))

    def test_its_page_says_of_every_command_that_needs_libraries_how_to_get_them(self) -> None:
        page = (PACKAGING / "README.Debian").read_text()
        for row in PROGRAMS:
            if row.extra and row.name not in OLD_NAMES and row.extra != "mongo":
                self.assertIn(row.name, page)

    def test_a_purge_leaves_links_and_directories_in_use_and_does_not_fail(self) -> None:
        script = (PACKAGING / "pysftpserver.postrm").read_text().replace("#DEBHELPER#", "")
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            (root / "data").mkdir()
            (root / "data" / "file").touch()
            for path in ("srv", "etc", "var/lib/pysftpd", "var/log"):
                (root / path).mkdir(parents=True)
            for link in ("srv/pysftpd", "etc/pysftpserver", "var/lib/pysftpd/link", "var/log/pysftpd"):
                (root / link).symlink_to(root / "data")
            moved, count = re.subn(r"(?<=[ =])/(?=(?:srv|etc|var|usr)/)", f"{root}/", script)
            absolute = re.findall(r"(?<![\w.])/(?!bin/sh|dev/null)\w+", script)
            self.assertEqual(count, len(absolute), "otherwise those of this host are removed")
            done = subprocess.run(
                ["sh", "-c", moved, "sh", "purge"], capture_output=True, text=True, timeout=PATIENCE
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue((root / "srv" / "pysftpd").is_symlink())
            self.assertFalse((root / "var" / "lib" / "pysftpd").exists())
            self.assertEqual(os.listdir(root / "data"), ["file"])

    def test_the_accounts_that_the_units_name_are_made(self) -> None:
        script = (PACKAGING / "pysftpserver.postinst").read_text()
        self.assertEqual(set(re.findall(r"(?m)^    make_account (\S+)", script)), ACCOUNTS)
        named = {
            account
            for path in (ROOT / "examples").glob("*.service")
            for account in re.findall(r"(?m)^User=(.*)$", path.read_text())
        }
        self.assertEqual(named, ACCOUNTS)


@needs_chroot
class Package(Keyed):
    """One Debian for all; each test leaves the package installed, with nothing running."""

    system: Chroot

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.built = package()
        cls.system = cls.enterClassContext(debian(*SYSTEM))
        cls.system.lend_pip()
        cls.system.run("useradd", "--create-home", "alice")
        cls.system.copy(cls.built, f"{HOME}/first.deb")
        cls.before = cls.system.files()
        cls.accounts_before = cls.system.path("/etc/passwd").read_text()
        cls.said = cls.system.apt("install", f"{HOME}/first.deb")

    def test_it_needs_python_and_nothing_that_a_minimal_system_with_python_lacks(self) -> None:
        needs = call("dpkg-deb", "--field", self.built, "Depends")
        self.assertEqual(
            {re.split("[ (:]", need)[0] for need in needs.strip().split(", ")}, {"python3", "adduser"}
        )

    def test_every_command_is_there_and_tells_its_version(self) -> None:
        present = set(self.system.run("dpkg", "-L", "pysftpserver").split())
        found = {path.rpartition("/")[2] for path in present if path.startswith("/usr/bin/")}
        self.assertEqual(found, set(COMMANDS))
        for command in COMMANDS:
            with self.subTest(command):
                self.assertEqual(self.system.run(command, "--version"), f"{command} {__version__}\n")

    def test_a_command_whose_library_is_missing_says_how_to_install_it(self) -> None:
        extras = self.system.path("/usr/local/lib/pysftpserver")
        if extras.exists():  # another test has installed them
            aside = extras.rename(extras.with_name("aside"))
            self.addCleanup(aside.rename, extras)
        said = self.system.run("pysftpd", "--config", CONFIG, "--check-config", user="pysftpd", status=2)
        self.assertIn('run "sudo pysftpserver-extras sshd"', said)
        self.assertNotIn("Traceback", said)

    def test_the_command_for_extras_refuses_what_it_does_not_know(self) -> None:
        for words in ((), ("sshx",)):
            said = self.system.run("pysftpserver-extras", *words, status=2)
            for extra in ("sshd", "web", "mongo"):
                self.assertIn(extra, said)
            self.assertNotIn("conformance", said)

    def test_no_service_is_enabled_and_every_unit_is_valid(self) -> None:
        units = self.system.path("/lib/systemd/system")
        wants = self.system.path("/etc/systemd/system").rglob("pysftp*")
        self.assertEqual(list(wants), [])
        names = ("pysftpd.service", "pysftpd.socket", "pysftp-warm.service", "pysftp-deliver@.service")
        self.assertEqual({path.name for path in units.glob("pysftp*")}, set(names))
        for name in names:
            with self.subTest(name):
                text = (units / name).read_text()
                self.assertNotIn("/opt/", text)
                # systemd-analyze reads no file below another root; the commands have to be on this host.
                shown = re.sub(r"(?m)^(Exec\w+=)(\S+)", rf"\1{self.system.root}\2", text)
                (self.place / name).write_text(shown.replace("User=", "#User="))
        if shutil.which("systemd-analyze"):
            instance = self.place / "pysftp-deliver@customers.service"
            instance.write_text((self.place / "pysftp-deliver@.service").read_text())
            for name in (names[0], names[1], names[2], instance.name):
                said = call("systemd-analyze", "verify", "--man=no", self.place / name)
                self.assertNotIn("pysftp", said)

    def test_the_accounts_have_no_password_and_no_shell(self) -> None:
        rows = dict(line.split(":", 1) for line in self.system.path("/etc/shadow").read_text().splitlines())
        shells = {
            line.split(":")[0]: line.split(":")[6]
            for line in self.system.path("/etc/passwd").read_text().splitlines()
        }
        for account in ACCOUNTS:
            self.assertIn(rows[account].split(":")[0][:1], "!*")
            self.assertEqual(shells[account], "/usr/sbin/nologin")

    def test_what_it_installs_is_what_dpkg_verifies(self) -> None:
        self.assertEqual(self.system.run("dpkg", "--verify", "pysftpserver"), "")

    def test_a_key_under_sshd_has_a_jail(self) -> None:
        jail = self.system.path("/srv/sftp/alice")
        self.system.run("install", "-d", "-o", "alice", "/srv/sftp/alice")
        self.system.run("install", "-d", "-m", "700", "-o", "alice", "/home/alice/.ssh")
        forced = 'restrict,command="/usr/bin/pysftpjail /srv/sftp/alice"'
        authorized = self.system.path("/home/alice/.ssh/authorized_keys")
        authorized.write_text(f"{forced} {self.key.with_suffix('.pub').read_text()}")
        self.system.run("chown", "alice:", "/home/alice/.ssh/authorized_keys")
        with self.listening(
            self.system, "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -p PORT", "Server listening"
        ) as port:
            (self.place / "up").write_text("uploaded\n")
            said = self.sftp(
                port, "alice", f"put {self.place}/up report.txt\nls -la\ncd ..\npwd\nget /etc/passwd\n"
            )
        self.assertIn("report.txt", said)
        self.assertIn("Remote working directory: /\n", said)
        self.assertRegex(said, "(?i)not found|no such file")
        self.assertEqual((jail / "report.txt").read_text(), "uploaded\n")

    def test_pysftpd_serves_after_the_steps_of_its_page(self) -> None:
        page = (PACKAGING / "README.Debian").read_text()
        steps = [
            line.strip()
            for line in re.findall(r"(?m)^  (pysftp\w+-extras sshd|pysftpctl .*|runuser .*)$", page)
        ]
        self.assertEqual(len(steps), 3, steps)
        self.system.copy(self.key.with_suffix(".pub"), f"{HOME}/alice.pub")
        for step in steps:
            self.system.run("sh", "-c", f"cd /root && {step}", **self.system.pip_variables())
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment]
        unit.read(self.system.path("/lib/systemd/system/pysftpd.service"))
        service = unit["Service"]
        prepared = "".join(
            f"install -d -o pysftpd -g pysftpd {base}/{service[key]} && "
            for key, base in (
                ("StateDirectory", "/var/lib"),
                ("RuntimeDirectory", "/run"),
                ("LogsDirectory", "/var/log"),
            )
        )
        start = (
            f"{prepared} cd {service['WorkingDirectory']} && umask {service['UMask']} && "
            f"exec setpriv --reuid={service['User']} --regid={service['User']} --init-groups --no-new-privs "
            f"--bounding-set=-all {service['ExecStart']} --port PORT --listen-address {LOOPBACK}"
        )
        with self.listening(self.system, start, "listening on|ready") as port:
            (self.place / "up").write_text("uploaded\n")
            said = self.sftp(port, "alice", f"put {self.place}/up report.txt\nls -l\n")
        self.assertIn("report.txt", said)
        self.assertEqual(self.system.path("/srv/pysftpd/alice/report.txt").read_text(), "uploaded\n")
        self.assertTrue(any(self.system.path("/var/lib/pysftpd/host-keys").iterdir()))

    def test_an_upgrade_keeps_settings_that_were_changed_and_users(self) -> None:
        later = newer(self.system, "9.0-1", {CONFIG: "# A new comment.\n"})
        config, users = self.system.path(CONFIG), self.system.path(USERS)
        original, users_before = config.read_text(), users.read_text()
        status = users.stat()
        changed = original.replace("#atomic_uploads", "atomic_uploads")
        self.assertNotEqual(changed, original)
        config.write_text(changed)
        keep = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
        self.system.apt(*keep, "install", later)
        self.assertEqual(self.system.run("dpkg-query", "-W", "-f", "${Version}", "pysftpserver"), "9.0-1")
        self.assertEqual(config.read_text(), changed)
        self.assertTrue(config.with_name("pysftpd.toml.dpkg-dist").read_text().endswith("# A new comment.\n"))
        self.assertEqual((users.read_text(), users.stat().st_mode), (users_before, status.st_mode))
        self.assertEqual(oct(status.st_mode & 0o777), "0o640")
        # Who changed nothing gets the new settings, without a question.
        self.system.run("dpkg", "--install", "--force-downgrade", "--force-confnew", f"{HOME}/first.deb")
        self.assertEqual(config.read_text(), original)
        self.system.run("dpkg", "--install", later)
        self.assertEqual(config.read_text(), f"{original}# A new comment.\n")
        self.system.run("dpkg", "--install", "--force-downgrade", f"{HOME}/first.deb")

    def test_purged_it_leaves_files_of_users_and_its_accounts_and_nothing_else(self) -> None:
        folder = self.system.path("/srv/pysftpd/bob")
        folder.mkdir(exist_ok=True)
        (folder / "kept").write_text("kept")
        self.system.apt("purge", "pysftpserver")
        left = self.system.files("/srv", "/home", "/root") - self.before
        self.assertEqual(
            {
                name
                for name in left
                if not re.search(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$", name)
            },
            set(),
        )
        self.assertEqual((folder / "kept").read_text(), "kept")
        self.assertEqual(self.before - self.system.files(), set())
        added = set(self.system.path("/etc/passwd").read_text().splitlines()) - set(
            self.accounts_before.splitlines()
        )
        self.assertEqual({line.split(":")[0] for line in added}, ACCOUNTS)
        shutil.rmtree(self.system.path("/srv/pysftpd"))
        self.system.apt("install", f"{HOME}/first.deb")
        self.system.apt("purge", "pysftpserver")
        self.assertEqual(self.system.files("/srv/sftp", "/home", "/root") - self.before - left, set())
        self.system.apt("install", f"{HOME}/first.deb")
