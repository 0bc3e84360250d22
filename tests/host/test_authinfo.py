"""The key that sshd says a client has logged in with, against what ssh-keygen says of it."""

from __future__ import annotations

import os
import secrets
import subprocess
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from pysftpserver.host import authinfo
from tests.support.processes import program, require


def setUpModule() -> None:
    require("ssh-keygen")


def keygen(*words: object) -> str:
    argv = [program("ssh-keygen"), *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        place = TemporaryDirectory(prefix="pysftpserver-authinfo-")
        cls.addClassCleanup(place.cleanup)
        cls.place = Path(place.name)
        keygen("-q", "-t", "ed25519", "-N", "", "-f", cls.place / "ca")

    def said(self, *lines: str, name: str = "") -> str | None:
        """What is found where sshd's file has these lines."""
        path = Path(name or f"/tmp/sshauth.{secrets.token_hex(8)}")
        path.write_text("".join(f"{line}\n" for line in lines))
        self.addCleanup(path.unlink)
        with mock.patch.dict(os.environ, SSH_USER_AUTH=str(path)):
            return authinfo.key()

    def test_the_fingerprint_is_ssh_keygen_s_of_keys_and_of_certificates(self) -> None:
        for kind in ("ed25519", "ecdsa", "rsa"):
            with self.subTest(kind):
                key = self.place / kind
                keygen("-q", "-t", kind, "-N", "", "-f", key)
                keygen("-q", "-s", self.place / "ca", "-I", "al's \u00e9", "-n", "al", "-z", "17", key)
                shown = keygen("-lf", key).split()[1]
                plain = " ".join(Path(f"{key}.pub").read_text().split()[:2])
                signed = " ".join(Path(f"{key}-cert.pub").read_text().split()[:2])
                self.assertEqual(self.said(f"publickey {plain}"), shown)
                self.assertEqual(self.said("password", f"publickey {plain}"), shown)
                found = self.said(f"publickey {signed}")
                self.assertEqual(found, f'{shown} (certificate "al\'s \\xe9", serial 17)')

    def test_what_is_no_key_or_not_from_sshd_is_not_taken(self) -> None:
        plain = Path(f"{self.place}/ca.pub").read_text()
        for lines in ((), ("password",), ("publickey",), ("publickey ssh-ed25519 AAAA",), ("publickey x !",)):
            with self.subTest(lines=lines):
                self.assertIsNone(self.said(*lines))
        for name in (f"{self.place}/sshauth.abc", f"/tmp/notauth.{secrets.token_hex(8)}"):
            self.assertIsNone(self.said(f"publickey {plain}", name=name))
        with mock.patch.dict(os.environ, SSH_USER_AUTH="/tmp/sshauth.not/there"):
            self.assertIsNone(authinfo.key())
        cut = plain.split()[1][:-8]
        self.assertNotIn("\n", self.said(f"publickey ssh-ed25519-cert-v01@openssh.com {cut}") or "")

    def test_a_file_that_another_account_has_made_says_nothing(self) -> None:
        plain = Path(f"{self.place}/ca.pub").read_text()
        own = os.getuid()
        self.assertIsNotNone(self.said(f"publickey {plain}"))
        path = Path(f"/tmp/sshauth.{secrets.token_hex(8)}")
        path.write_text(f"publickey {plain}")
        self.addCleanup(path.unlink)
        if own == 0:
            os.chown(path, 65534, 65534)
        with (
            mock.patch("os.getuid", return_value=own + 1),
            mock.patch.dict(os.environ, SSH_USER_AUTH=str(path)),
        ):
            self.assertIsNone(authinfo.key())


if __name__ == "__main__":
    unittest.main()
