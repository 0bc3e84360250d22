"""docs/openssh.md, typed as it stands, on a host to throw away: accounts, a real sshd, OpenSSH's sftp."""

from __future__ import annotations

import re
import unittest

from tests.support import hosts
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.ports import free_port

PAGE = (ROOT / "docs" / "openssh.md").read_text()
KEYS = 'for name in {}; do ssh-keygen -q -t ed25519 -N "" -C "" -f "$name"; done\n'


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(title: str) -> list[str]:
    """What is to be typed in a section, or written to a file."""
    found = re.findall(r"^( *)```\n(.*?)^ *```$", section(title), re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@unittest.skipUnless(IS_HARD, "it copies a host: PYSFTP_TEST_HARD=1")
class OnAHost(unittest.TestCase):
    def play(self, script: str) -> str:
        done = hosts.run(script, free_port())
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        return done.stdout

    def test_the_steps_for_force_command_lead_to_a_jail(self) -> None:
        group, folder, key, match, check = blocks("Many accounts: ForceCommand")
        path = re.search(r"Write this to `([^`]+)`", section("Many accounts: ForceCommand"))
        self.assertIsNotNone(path)
        said = self.play(
            f"{KEYS.format('alice')}start_sshd\n{group}{folder}{key}cat > {path[1]} "
            f"<<'END'\n{match}END\n{check}"
            "echo 'put alice.pub\nls -l\npwd\nget /etc/passwd' | client alice alice || echo refused\n"
            "ls -l /srv/sftp/alice /etc/passwd\n"
        )
        self.assertIn("ok       command /opt/pysftpserver/bin/pysftpjail /srv/sftp/alice\n", said)
        self.assertNotIn("wrong", said)
        self.assertIn("Remote working directory: /\n", said)
        self.assertRegex(said, r"alice +\d+ .* alice\.pub")
        self.assertIn("refused\n", said)

    def test_customers_share_an_account_and_the_log_tells_them_apart(self) -> None:
        dry, do = blocks("Many customers: pysftp-users")[1].splitlines()
        said = self.play(
            KEYS.format("$(seq 30)") + "echo ExposeAuthInfo yes > /etc/ssh/sshd_config.d/a.conf\nstart_sshd\n"
            "(echo name,key,read_only; for n in $(seq 30); do\n"
            "echo customer$n,$n.pub,$([ $n = 30 ] && echo yes); done) > customers.csv\n"
            f"{dry} > dry; ! getent passwd sftp\n{do} "
            f"--command '{hosts.BIN}/pysftpjail -l /tmp/sftp.log' > done\n"
            "sed 's/^would //' dry | cmp - done; touch sftp.log; chown sftp sftp.log\n"
            f"{do} --command '{hosts.BIN}/pysftpjail -l /tmp/sftp.log'\n"
            "for n in 1 29; do echo 'put customers.csv\nls' | client $n sftp; done\n"
            "echo 'put customers.csv' | client 30 sftp || echo read only\n"
            "pysftp-users --account sftp deactivate customer2; echo ls | client 2 sftp || echo switched off\n"
            "pysftp-users --account sftp activate customer2; echo pwd | client 2 sftp\n"
            "pysftp-users --account sftp check > checked || { cat checked; exit 1; }; grep -c '^  ok' "
            "checked\n"
            "find /srv/sftp -name customers.csv; ssh-keygen -lf 29 | cut -d' ' -f2; grep 'opened for "
            "customer29' sftp.log\n"
        )
        for words in (
            "nothing to do: all 30 are as they should be\n",
            "read only\n",
            "switched off\n",
            "Remote working directory: /\n",
            "/srv/sftp/customer1/customers.csv\n",
            "/srv/sftp/customer29/customers.csv\n",
        ):
            self.assertIn(words, said)
        self.assertNotIn("/srv/sftp/customer30/customers.csv", said)
        shown = re.search(r"^SHA256:\S+$", said, re.MULTILINE)
        self.assertIn(f"customer29 (local user sftp) from [127.0.0.1] with key {shown[0]}\n", said)

    def test_customers_have_accounts_that_go_with_them(self) -> None:
        texts = blocks("Many customers: pysftp-users")
        (do,) = (text for text in texts if text.startswith("pysftp-users --own-accounts"))
        (match,) = (text for text in texts if text.startswith("Match Group"))
        said = self.play(
            KEYS.format("alice bob")
            + "start_sshd\necho 'name,key\nalice,alice.pub\nbob,bob.pub' > customers.csv\n"
            f"{do.strip()} > done && exit 1; sed -n '/^Match/,$p' done > /etc/ssh/sshd_config.d/a.conf\n"
            "systemctl reload ssh\n"
            f"cat /etc/ssh/sshd_config.d/a.conf\n{do}pysftp-users --own-accounts check\n"
            "echo 'put alice.pub\npwd' | client alice alice\n"
            "echo pwd | client alice bob || echo not as bob\n"
            "pysftp-users --own-accounts remove alice; getent passwd alice || echo no alice; ls "
            "/srv/sftp/alice\n"
            "echo pwd | client bob bob\n"
        )
        self.assertIn(match, said)
        self.assertIn("nothing to do: all 2 are as they should be\n", said)
        self.assertNotIn("wrong", said)
        self.assertIn("not as bob\n", said)
        self.assertIn("no alice\nalice.pub\n", said)
        self.assertEqual(said.count("Remote working directory: /\n"), 2)

    def test_a_program_that_the_account_cannot_read_is_found(self) -> None:
        said = self.play(
            "useradd -m -s /bin/sh al; install -d -o al /srv/files; chmod 700 /opt\n"
            f"{hosts.BIN}/pysftpjail --check --account al /srv/files || chmod 755 /opt\n"
            "mkdir -m 777 /home/al/.ssh; chown al /home/al/.ssh; touch /home/al/.ssh/authorized_keys\n"
            f"usermod -s /usr/sbin/nologin al; {hosts.BIN}/pysftpjail --check --account al /home/al || true\n"
        )
        self.assertIn("/opt may not be entered by this account (mode 0700); install pysftpserver", said)
        self.assertIn("ok       directory /srv/files\n", said)
        self.assertIn("it runs no commands, not even a forced one; run usermod --shell /bin/sh al", said)
        self.assertIn("/home/al/.ssh is writable by others (mode 0777): sshd does not read it", said)


if __name__ == "__main__":
    unittest.main()
