"""The command: what it refuses to begin with, what SIGHUP changes, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.sksync.certificates import Pair
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until
from tests.web.serving import HOST, Browser, user_lines


class TestTheCommand(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-web-")))
        self.conf = self.place / "web.toml"
        self.log = self.place / "log"
        users = self.place / "users.toml"
        users.touch(0o600)
        users.write_text("[users]\n" + user_lines("alice"))
        (self.place / "files" / "alice").mkdir(parents=True)
        self.words = [
            *("--config", str(self.conf), "--users", str(users), "--logfile", str(self.log)),
            *("--sftp-path", str(self.place / "files"), "--state", str(self.place / "state")),
        ]
        if os.geteuid() == 0:
            self.words.append("--allow-root")

    def begin(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command("pysftpweb", *self.words))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, words: str, count: int = 1) -> str:
        """The log, once it has the words."""
        until(lambda: self.log.exists() and self.log.read_text().count(words) >= count, words)
        return self.log.read_text()

    def test_what_would_send_passwords_in_the_clear_does_not_begin(self) -> None:
        self.conf.write_text('port = 0\nlisten_address = "0.0.0.0"\n')
        done = subprocess.run(command("pysftpweb", *self.words), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^pysftpweb: listen_address 0\.0\.0\.0: .*give a certificate, .*\n$")

    def test_sighup_takes_over_settings_certificate_and_log_and_sigterm_ends_in_good_order(self) -> None:
        old, new = Pair(self.place, "old", (HOST,)), Pair(self.place, "new", (HOST,))
        conf = (
            'port = 0\nthreads = {threads}\ncertificate = "{pair.certfile}"\nprivate_key = "{pair.keyfile}"\n'
        )
        self.conf.write_text(conf.format(threads=4, pair=old))
        process = self.begin()
        said = re.search(r"listening on https://127\.0\.0\.1:(\d+)/", self.wait_for("listening on"))
        assert said is not None
        for number, pair in enumerate((old, new)):
            browser = Browser(int(said[1]), context=ssl.create_default_context(cafile=pair.certfile))
            self.assertEqual(browser.log_in().status, 303)
            browser.close()
            if not number:
                self.conf.write_text(conf.format(threads=5, pair=new))
                self.log.rename(self.place / "log.1")
                process.send_signal(signal.SIGHUP)
                self.assertIn("threads has changed: restart", self.wait_for("reloaded"))
        self.conf.write_text(conf.format(threads=5, pair=new).replace(".crt", ".missing"))
        process.send_signal(signal.SIGHUP)
        self.wait_for("not reloaded: certificate: ")
        browser = Browser(int(said[1]), context=ssl.create_default_context(cafile=new.certfile))
        self.addCleanup(browser.close)
        self.assertEqual(browser.get("/login").status, 200)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertIn("stopped", self.log.read_text())
