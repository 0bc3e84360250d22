"""What no log may have: whoever reads one of them must not be able to read or take over a session."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from pysftpserver.cli import pysftpremo_keys
from pysftpserver.remo import crypto
from tests.remo.hosting import USER, Answer, HostCase, Login, Peer, request
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

CONTENT = b"the content of a file, which is nobody's business"
INPUT = b"what a command is told on its standard input"
PASSPHRASE = "the passphrase of a key"


class Logs(HostCase):
    options = ("--debug",)

    def setUp(self) -> None:
        super().setUp()
        self.secrets: set[bytes] = set()

    def ask(self, said: bytes) -> Answer:
        """One request; its tokens, and those of the answer, are secrets."""
        answer = self.one(said)
        for text in (said, answer.body):
            for word in text.replace(b"/", b" ").split():
                if word.startswith(b"gAAAA"):
                    self.secrets.add(word)
        return answer

    def logged_in(self) -> Peer:
        login = Login(USER, self.host.user_key)
        answer = self.ask(request("POST", "/auth", login.body))
        key = login.key(answer.body)
        raw = base64.urlsafe_b64decode(key)
        self.secrets |= {key, raw, raw.hex().encode(), raw[:16].hex().encode(), raw[16:].hex().encode()}
        self.secrets |= {base64.b64encode(raw), *answer.body.split()}
        self.secrets.add(answer.cookie.encode()[6:])  # the beginning names a session in the log
        return Peer(answer.cookie, key)

    def check(self) -> None:
        logs = (self.host.log() + self.host.audit_path.read_text()).encode()
        self.assertGreaterEqual(len(self.secrets), 2)
        for secret in self.secrets | {CONTENT, INPUT}:
            # A part will do for who wants to guess the rest.
            for part in {secret, secret[:40], secret[-40:]} - {b""}:
                self.assertNotIn(part, logs)

    def tearDown(self) -> None:
        self.check()
        super().tearDown()

    def test_a_session_in_plain_mode_leaves_no_secret(self) -> None:
        peer = self.logged_in()
        for word, argument, pieces in (
            ("put", b"/new", (CONTENT,)),
            ("get", b"/new", ()),
            ("get", b"/not/there", ()),
            ("lst", b"/", ()),
            ("cmd", b"cat", (INPUT,)),
            ("cmd", b"no-such-command", (INPUT,)),
            ("icm", b"cat", (INPUT,)),
            ("idt", None, (INPUT,)),
            ("edt", None, ()),
            ("pty", b"80x24 cat", (INPUT,)),
            ("sts", None, ()),
        ):
            self.ask(peer.plain(word, argument, *pieces))
        self.ask(request("POST", "/auth", b"", peer.cookie))

    def test_a_session_in_numbered_mode_leaves_no_secret(self) -> None:
        peer = self.logged_in()
        for word, argument, pieces in (
            ("put", b"/new", (CONTENT, CONTENT)),
            ("get", b"/new", ()),
            ("get", b"/not/there", ()),
            ("cmd", b"cat", (INPUT,)),
            ("icm", b"cat", (INPUT,)),
            ("edt", None, (INPUT,)),
        ):
            peer.opened(self.ask(peer.numbers(word, argument, *pieces)))

    def test_what_goes_wrong_leaves_no_secret_either(self) -> None:
        peer = self.logged_in()
        token = peer.tokens(CONTENT)
        self.ask(peer.request("POST", peer.path("put", b"/new"), token[:-8]))
        self.ask(peer.request("POST", peer.path("put", b"/new")[:-6], token))
        self.ask(peer.request("POST", peer.path("nowhere", b"/new"), token))
        self.ask(peer.request("BREW", peer.path("get", b"/new"), token))
        head = peer.request("POST", peer.path("put", b"/new")).replace(
            b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.ask(head + b"%x\r\n%b\r\nwrong\r\n" % (len(token), token))
        self.ask(head.replace(b"HTTP/1.1", b"HTTP/x") + token)
        self.ask(head.replace(b"HTTP/1.1", b"HTTP/1.1\r\nContent-Length: 5") + token)
        for way in ("reset", "close"):
            with self.host.raw() as raw:
                raw.say(head + b"%x\r\n%b" % (len(token) + 5, token))
                getattr(raw, way)()
        peer.opened(self.ask(peer.numbers("sts")))
        self.ask(peer.request("POST", peer.path("put", b"/new"), token))

    def test_refused_logins_leave_no_secret(self) -> None:
        good = Login(USER, self.host.user_key).body
        self.secrets |= {word for word in good.replace(b'"', b" ").split() if len(word) > 30}
        for body in (good.replace(b'"alice"', b'"mallory"'), good[:-1], good.replace(b'"key"', b'"k"')):
            self.ask(request("POST", "/auth", body))


class Passphrases(unittest.TestCase):
    def test_a_wrong_passphrase_is_not_told_to_anybody(self) -> None:
        pem = crypto.private_pem(crypto.new_key(), b"another one")
        with self.assertRaises(crypto.KeyProblem) as caught:
            crypto.load_private(pem, PASSPHRASE.encode())
        self.assertNotIn(PASSPHRASE, repr(caught.exception))
        self.assertIsNone(caught.exception.__cause__)

    def test_the_key_pair_command_writes_no_passphrase_and_no_private_key_to_the_terminal(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, str(ROOT / "bin/pysftpremo"), "keygen", "k", place]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), pysftpremo_keys.PASSPHRASE: PASSPHRASE},
                timeout=PATIENCE,
                start_new_session=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(b"ENCRYPTED", (Path(place) / "k_key.pem").read_bytes())
            said = done.stdout + done.stderr
            self.assertNotIn(PASSPHRASE.encode(), said)
            self.assertNotIn(b"PRIVATE", said)
