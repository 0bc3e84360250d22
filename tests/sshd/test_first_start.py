"""pysftpd's first start, typed by root on a fresh host, with nothing to go by but the messages."""

from __future__ import annotations

import unittest

from tests.support import hosts
from tests.support.hard import IS_HARD
from tests.support.ports import free_port

TYPED = """\
says() { "$@" >said 2>&1 && exit 1; cat said; [ "$(wc -l < said)" -gt 0 ]; }
told() { sed -n "s/.*$1.*/\\\\1/p" said | tail -n 1; }
serve() { timeout -s TERM 20 pysftpd --port 0 "$@" >log 2>&1 & }
listens() { for try in $(seq 200); do grep -q ' ready$' log && return; sleep 0.05; done; cat log; exit 1; }
port() { sed -n 's/.*listening on 0.0.0.0 port //p' log; }
mkdir -m 700 closed; cd closed; ssh-keygen -q -t ed25519 -N '' -f key
A="--users users.toml --sftp-path /srv/new"
says pysftpd $A --allow-root
says pysftpctl $A add alice --key key.pub
$(told 'make it with: \\(install -d [^ ]*\\)')
pysftpctl $A add alice --key key.pub
says pysftpd $A
serve $A "$(told 'to try it, add \\(--allow-root\\);')"; listens
echo pwd | client key alice
kill %1; wait || true
$(told 'make an account with: \\(useradd --system pysftpd\\),')
says pysftpd $A --account pysftpd
install -d "$(told 'such as \\(\\/etc\\/pysftpserver\\)')"; mv users.toml /etc/pysftpserver
A="--users /etc/pysftpserver/users.toml --sftp-path /srv/new --account pysftpd"
says pysftpd $A
$(told 'root makes one with: \\(install .*\\)')
says pysftpd $A --host-key-dir /var/lib/pysftpd
eval "$(told 'run \\(chgrp .* && chmod 640 [^ ,]*\\)')"
serve $A --host-key-dir /var/lib/pysftpd; listens
echo pwd | client key alice || grep 'no session' log | tee said
$(told 'run \\(chown pysftpd .*\\)')
echo 'put key.pub' | client key alice
ls -l /srv/new/alice
"""


@unittest.skipUnless(IS_HARD, "it copies a host: PYSFTP_TEST_HARD=1")
class FirstStart(unittest.TestCase):
    def test_what_the_messages_say_leads_to_a_server_that_runs(self) -> None:
        client = hosts.CLIENT.replace("{port}", "$(port)")
        done = hosts.run(client + TYPED, free_port())
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        for words in (
            "users file users.toml: no such file or directory; create it with: pysftpctl",
            "running as root is refused",
            "Remote working directory: /\n",
            "permission denied for user pysftpd, which may not enter /tmp/closed",
            "no session: the storage cannot be opened: folder /srv/new/alice: permission denied",
        ):
            self.assertIn(words, done.stdout)
        self.assertRegex(done.stdout, r"pysftpd .* key\.pub\n")


if __name__ == "__main__":
    unittest.main()
