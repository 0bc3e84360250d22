"""README.md: its lines work when they are pasted."""

from __future__ import annotations

from tests.docs.stage import Stage, line_of, runs
from tests.support.paths import ROOT

PAGE = "README.md"


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

    @runs(
        PAGE,
        "mkdir -p ~/sftp/files && cd ~/sftp",
        "/opt/pysftpserver/bin/pysftpctl --users users.toml --sftp-path files "
        "add alice --key ~/.ssh/id_ed25519.pub",
        "/opt/pysftpserver/bin/pysftpd --users users.toml --sftp-path files",
    )
    def test_a_standalone_server_lets_alice_in_as_it_says(self, *commands: str) -> None:
        port = self.serve(*commands).said(r"listening on \S+ port (\d+)$")[1]
        self.assertIn("`sftp -P 2200 alice@localhost`", (ROOT / PAGE).read_text())
        said = self.batch(f"sftp -P {port} alice@localhost", "pwd", "mkdir made")
        self.assertIn("Remote working directory: /\n", said)
        self.assertTrue((self.home / "sftp" / "files" / "alice" / "made").is_dir())
        self.assertEqual(
            sorted(path.name for path in (self.home / "sftp").iterdir()), ["files", "host-keys", "users.toml"]
        )
