"""Lines of authorized_keys and sshd_config of the pages, in a real sshd, and what is typed beside them."""

from __future__ import annotations

import getpass
import hashlib
import re
import unittest

from tests.docs.stage import Stage, block_of, line_of, runs
from tests.sshd.running import make_key
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

VISITS = "month,visits\n2026-01,120\n2026-02,180\n"


@unittest.skipUnless(IS_HARD, "daily, the lines of README.md are run")
class UnderSshd(Stage):
    def jailed(self, page: str, command: str, directory: str) -> None:
        """A line of authorized_keys serves this directory, as /."""
        (self.place / directory).mkdir(parents=True)
        self.behind_sshd(line_of(page, f'restrict,command="{command}"'))
        self.assert_jailed(directory)

    def assert_jailed(self, directory: str) -> None:
        said = self.batch("sftp server", "pwd", "mkdir made", "-get /etc/passwd")
        self.assertIn("Remote working directory: /\n", said)
        self.assertNotIn("root:", said)
        self.assertTrue((self.place / directory / "made").is_dir())

    @runs("docs/openssh.md", "/opt/pysftpserver/bin/pysftpjail /srv/jail")
    def test_a_key_of_the_page_on_openssh(self, command: str) -> None:
        self.jailed("docs/openssh.md", command, "srv/jail")

    @runs("docs/openssh.md", "/opt/pysftpserver/bin/pysftpserver -l INFO")
    def test_a_subsystem_for_the_whole_host(self, command: str) -> None:
        self.behind_sshd(self.public, f"Subsystem sftp {command}")
        self.assertIn(f"{self.place}/srv\n", self.batch("sftp server", f"cd {self.place}/srv", "pwd"))

    @runs(
        "docs/openssh.md",
        "pysftpjail --allow-requests realpath,stat,lstat,open,write,close,fstat,setstat,fsetstat "
        "/srv/dropbox",
    )
    def test_a_drop_box(self, command: str) -> None:
        (self.place / "srv/dropbox").mkdir()
        (self.home / "x").write_text("content")
        said = self.batch(f"sftp -D '{command}'", "put x", "-ls", "-get x back", "-rm x", where=self.home)
        self.assertEqual((self.place / "srv/dropbox/x").read_text(), "content")
        self.assertEqual(said.count("Permission denied"), 3, said)

    @runs(
        "docs/checksums.md",
        "/opt/pysftpserver/bin/pysftpjail --checksums /srv/jail",
        "ssh files.example.com md5sum 'reports/visits.csv'",
    )
    def test_a_checksum_of_a_file_in_a_jail(self, command: str, asked: str) -> None:
        self.jailed("docs/checksums.md", command, "srv/jail")
        (self.place / "srv/jail/reports").mkdir()
        (self.place / "srv/jail/reports/visits.csv").write_text(VISITS)
        digest = hashlib.md5(VISITS.encode()).hexdigest()
        self.assertEqual(self.type(asked), f"{digest}  reports/visits.csv\n")

    @runs("docs/storages.md", "/opt/pysftpserver/bin/pysftpsite 'jail:/srv/partners/{user}' --user alice")
    def test_a_storage_by_its_name(self, command: str) -> None:
        self.jailed("docs/storages.md", command, "srv/partners/alice")

    @runs("docs/storages.md", "/opt/pysftpserver/bin/pysftpsite /etc/pysftpserver/partners.toml")
    def test_a_group_with_a_site_file(self, command: str) -> None:
        block = block_of("docs/storages.md", "Match Group partners")
        self.assertIn(f"ForceCommand {command}", block)
        site = self.place / "etc/pysftpserver/partners.toml"
        site.parent.mkdir(parents=True)
        site.write_text(f'storage = "jail:{self.place}/srv/partners/{{user}}"\n')
        directory = f"srv/partners/{getpass.getuser()}"
        (self.place / directory).mkdir(parents=True)
        self.behind_sshd(self.public, *block.replace("Group partners", "all").splitlines())
        self.assert_jailed(directory)

    @runs("docs/storages.md", "pysftpsite --check 'jail:/srv/partners/{user}' --user alice")
    def test_a_check_of_a_storage(self, command: str) -> None:
        (self.place / "srv/partners/alice").mkdir(parents=True)
        said = self.type(command)
        shown = block_of("docs/storages.md", f"$ {command}").splitlines()[1:]
        for line in shown[1:]:
            if line.strip() != "...":
                with self.subTest(line):
                    self.assertRegex(said, rf"(?m)^{line[:34].rstrip()}")

    @runs(
        "docs/site.md",
        "/opt/pysftpserver/bin/pysftpsite /etc/pysftpserver/tamper-evident.toml --user alice "
        "--audit /var/log/pysftpserver/audit --audit-chain --audit-digests",
        "pysftp-audit verify --head NUMBER:HASH /var/log/pysftpserver/audit",
        "pysftp-audit who /x.csv /var/log/pysftpserver/audit",
    )
    def test_a_store_that_shows_who_did_what(self, command: str, verify: str, who: str) -> None:
        for directory in ("srv/records", "etc/pysftpserver", "var/log/pysftpserver"):
            (self.place / directory).mkdir(parents=True)
        site = (ROOT / "examples/sites/tamper-evident.toml").read_text()
        (self.place / "etc/pysftpserver/tamper-evident.toml").write_text(self.moved(site))
        self.behind_sshd(line_of("docs/site.md", f'restrict,command="{command}"'))
        (self.home / "x.csv").write_text(VISITS)
        said = self.batch("sftp server", "put x.csv", "-put x.csv", "-rm x.csv", where=self.home)
        self.assertEqual(said.count("Permission denied"), 2, said)
        head = self.type(verify.replace("--head NUMBER:HASH ", "")).rpartition("head ")[2].strip()
        self.assertIn("no problem", self.type(verify.replace("NUMBER:HASH", head)))
        self.type(verify.replace("NUMBER:HASH", head[:-1] + "x"), status=1)
        self.assertIn(f"stored {len(VISITS)} bytes", self.type(who))

    @runs(
        "docs/audit.md",
        "pysftp-audit verify /var/log/sftp.audit.1 /var/log/sftp.audit",
        "pysftp-audit who /in/x.csv /var/log/sftp.audit",
    )
    def test_an_audit_log_that_was_rotated_and_then_changed(self, verify: str, who: str) -> None:
        for directory in ("srv/jail/in", "var/log"):
            (self.place / directory).mkdir(parents=True)
        (self.home / "x.csv").write_text(VISITS)
        session = "sftp -D 'pysftpjail --audit /var/log/sftp.audit --audit-chain /srv/jail'"
        log = self.place / "var/log/sftp.audit"
        self.batch(session, "put x.csv in", where=self.home)
        log.rename(log.with_name("sftp.audit.1"))
        self.batch(session, "get in/x.csv back", where=self.home)
        self.assertIn("no problem", self.type(verify))
        self.assertRegex(self.type(who), rf"fetched {len(VISITS)} bytes.*: /in/x.csv")
        old = log.with_name("sftp.audit.1")
        old.write_text(old.read_text().replace(f'"written":{len(VISITS)}', '"written":7', 1))
        self.assertRegex(self.type(verify, status=1), r"sftp\.audit\.1, line \d+: record \d+ was changed")

    @runs(
        "docs/plugins.md",
        "/opt/pysftpserver/bin/python3 /srv/plugin/serve.py",
        'sftp -D "/opt/pysftpserver/bin/python3 serve.py"',
        "PYTHONPATH=. /opt/pysftpserver/bin/pysftpsite --check greetings:GreetingsStorage",
        'sftp -D "/opt/pysftpserver/bin/pysftpsite greetings:GreetingsStorage"',
    )
    def test_a_storage_of_the_guide(self, command: str, trial: str, check: str, by_name: str) -> None:
        from tests.test_plugin_guide import programs

        (self.place / "srv/plugin").mkdir()
        for name, text in programs().items():
            (self.place / "srv/plugin" / name).write_text(text)
        self.behind_sshd(line_of("docs/plugins.md", f'restrict,command="{command}"'))
        self.assertIn("esperanto", self.batch("sftp server", "ls"))
        plugin = self.place / "srv/plugin"
        self.assertIn("esperanto", self.batch(trial, "ls", where=plugin))
        self.assertRegex(self.type(check, where=plugin), r"list a directory +works")
        listing = self.type(
            by_name.replace("sftp ", "sftp -b - ", 1),
            given="ls\n",
            PYTHONPATH=str(plugin),  # as if installed
        )
        self.assertIn("esperanto", listing)

    @runs("docs/site.md", 'pysftpsite partners.toml --user alice --explain "put /in/x.csv"')
    def test_an_explanation_of_a_rule(self, command: str) -> None:
        (self.place / "srv/partners/alice").mkdir(parents=True)
        site = block_of("docs/site.md", 'storage = "jail:/srv/partners/{user}"')
        (self.home / "partners.toml").write_text(self.moved(site))
        _, shown = block_of("docs/site.md", f"$ {command}").split("\n", 1)
        self.assertEqual(self.type(command), shown)

    @runs(
        "examples/authorized_keys.sample",
        "/opt/pysftpserver/bin/pysftpjail /srv/sftp/alice",
        "/opt/pysftpserver/bin/pysftpjail --read-only --name auditor /srv/sftp/alice",
        "/opt/pysftpserver/bin/pysftpjail --umask 027 --start-directory /incoming /srv/sftp/scanner",
        "/opt/pysftpserver/bin/pysftpjail '/srv/sftp/Print Room'",
    )
    def test_each_line_of_the_sample_of_keys(self, *commands: str) -> None:
        for name in ("alice", "scanner/incoming", "Print Room"):
            (self.place / "srv/sftp" / name).mkdir(parents=True)
        lines = [line_of("examples/authorized_keys.sample", f'restrict,command="{commands[0]}"')]
        lines += [
            next(
                line
                for line in (ROOT / "examples/authorized_keys.sample").read_text().splitlines()
                if f'command="{command}"' in line
            )
            for command in commands[1:]
        ]
        keys = [make_key(self.home / f"key{number}") for number, _ in enumerate(lines)]
        texts = [
            re.sub(r"ssh-ed25519 \S+", lambda _, key=key: key, line).replace("192.0.2.0/24", "127.0.0.0/8")
            for line, key in zip(lines, keys, strict=True)
        ]
        self.config.write_text(self.config.read_text().replace("IdentityFile", "# IdentityFile"))
        self.behind_sshd("\n".join(texts))
        (self.home / "x").write_text("content")
        for number, (where, status) in enumerate([("/", 0), ("/", 1), ("/incoming", 0), ("/", 0)]):
            with self.subTest(lines[number]):
                login = f"sftp -i ~/key{number} -o IdentitiesOnly=yes server"
                said = self.batch(login, "pwd", "put x", status=status, where=self.home)
                self.assertIn(f"Remote working directory: {where}\n", said)

    @runs(
        "examples/sshd_config.sample",
        "/opt/pysftpserver/bin/pysftpserver -l INFO",
        '/opt/pysftpserver/bin/pysftpjail "/srv/sftp/$USER"',
        "/opt/pysftpserver/bin/pysftpjail --read-only /srv/mirror",
    )
    def test_each_part_of_the_sample_for_sshd(self, subsystem: str, jail: str, mirror: str) -> None:
        whole = (ROOT / "examples/sshd_config.sample").read_text()
        _, *parts = [part.partition("\n\n")[0] for part in re.split(r"^# \d\. ", whole, flags=re.MULTILINE)]
        user = getpass.getuser()
        (self.place / "srv/mirror").mkdir()
        (self.place / "srv/sftp" / user).mkdir(parents=True)
        (self.place / "etc/ssh/authorized_keys").mkdir(parents=True)
        (self.place / "etc/ssh/authorized_keys" / user).write_text(self.public)
        (self.home / "x").write_text("content")
        for part, command, put, place in zip(
            parts, (subsystem, jail, mirror), (0, 0, 1), (None, "srv/sftp/" + user, "srv/mirror"), strict=True
        ):
            with self.subTest(command):
                self.assertIn(command, part)
                lines = [line for line in part.splitlines()[1:] if not line.startswith("#")]
                lines = [re.sub(r"^Match .*", "Match all", line) for line in lines]
                server = self.behind_sshd(self.public, *lines)
                target = "x" if place else f"{self.place}/srv/x"
                self.batch("sftp server", f"put x {target}", status=put, where=self.home)
                server.stop()
