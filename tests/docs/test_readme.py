"""README.md: its lines work when they are pasted."""

from __future__ import annotations

import unittest

from tests.docs.stage import Stage, line_of, runs
from tests.support import hosts
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.ports import free_port

PAGE = "README.md"
STANDALONE = (
    "mkdir -p ~/sftp/files && cd ~/sftp",
    "/opt/pysftpserver/bin/pysftpctl --users users.toml --sftp-path files "
    "add alice --key ~/.ssh/id_ed25519.pub",
    "/opt/pysftpserver/bin/pysftpd --users users.toml --sftp-path files",
)


class Readme(Stage):
    @runs(
        PAGE,
        "mkdir -p ~/jail",
        "cp README.md ~/jail",
        'sftp -D "env PYTHONPATH=. python3 bin/pysftpjail $HOME/jail"',
    )
    def test_three_lines_open_a_session_on_a_jail(self, make: str, copy: str, sftp: str) -> None:
        self.type(make, copy, where=ROOT)
        said = self.batch(sftp, "pwd", "ls -1", where=ROOT)
        self.assertIn("Remote working directory: /\n", said)
        self.assertIn("README.md\n", said)

    @runs(PAGE, "/opt/pysftpserver/bin/pysftpjail /srv/jail")
    def test_the_line_of_authorized_keys_jails_a_key(self, command: str) -> None:
        (self.place / "srv" / "jail").mkdir()
        self.behind_sshd(line_of(PAGE, f'restrict,command="{command}"'))
        said = self.batch("sftp server", "pwd", "mkdir made", "-cd /../../etc", "-get /etc/passwd")
        self.assertIn("Remote working directory: /\n", said)
        self.assertNotIn("root:", said)
        self.assertTrue((self.place / "srv" / "jail" / "made").is_dir())

    @runs(PAGE, *STANDALONE)
    def test_a_standalone_server_lets_alice_in_as_it_says(self, *commands: str) -> None:
        port = self.serve(*commands).said(r"listening on \S+ port (\d+)$")[1]
        self.assertIn("`sftp -P 2200 alice@localhost`", (ROOT / PAGE).read_text())
        said = self.batch(f"sftp -P {port} alice@localhost", "pwd", "mkdir made")
        self.assertIn("Remote working directory: /\n", said)
        self.assertTrue((self.home / "sftp" / "files" / "alice" / "made").is_dir())
        self.assertEqual(
            sorted(path.name for path in (self.home / "sftp").iterdir()), ["files", "host-keys", "users.toml"]
        )


@unittest.skipUnless(IS_HARD, "it copies a host; daily, the same lines are typed by whoever runs the tests")
class OnAHost(unittest.TestCase):
    def test_an_account_without_rights_serves_and_root_is_refused(self) -> None:
        make, add, serve = STANDALONE
        port = free_port()
        script = f"""
            ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
            {make}
            {add}
            {serve} --listen-address 127.0.0.1 --port {port} 2> log &
            until grep -q 'listening on' log; do sleep 0.1; done
            echo pwd | sftp -b - -P {port} -o StrictHostKeyChecking=no alice@localhost
        """
        done = hosts.run(
            f"cd ~ && {serve.replace('files', '/tmp')} || echo status $?\n"
            "useradd --create-home --shell /bin/bash bob\n"
            f"su - bob <<'END'\n{script}\nEND\n",
            port,
        )
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        self.assertIn("status 2\n", done.stdout)
        self.assertIn("root is refused", done.stderr)
        self.assertIn("Remote working directory: /\n", done.stdout)
