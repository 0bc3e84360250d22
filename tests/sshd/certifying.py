"""Keys, certificates and lists of revoked ones, as ssh-keygen makes them."""

from __future__ import annotations

import base64
import itertools
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import ClassVar

from pysftpserver.sshd.certificates import Certificate, parse
from tests.sshd.running import make_key
from tests.support.processes import Argument, program


def keygen(*words: Argument) -> str:
    """Run ssh-keygen, which must succeed; return what it printed."""
    done = subprocess.run(
        [program("ssh-keygen"), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blob_of(path: Path) -> bytes:
    """The blob in a public key's file."""
    return base64.b64decode(path.read_text().split()[1])


class Workshop:
    """A directory in which keys are made, certified and revoked."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-certs-"))
        self._numbers = itertools.count(1)

    def close(self) -> None:
        shutil.rmtree(self.place)

    def key(self, kind: str = "ed25519", bits: int | None = None) -> Path:
        """A new private key's file; the public one is beside it, with .pub."""
        path = self.place / f"key{next(self._numbers)}"
        if (kind, bits) == ("rsa", 2048):
            make_key(path, "rsa")
            return path
        form = ["-m", "PEM"] if kind == "ecdsa" else []  # the only one that paramiko reads
        keygen("-q", "-t", kind, *form, *(["-b", str(bits)] if bits else []), "-N", "", "-C", "", "-f", path)
        return path

    def certify(
        self,
        authority: Path,
        key: Path,
        *words: Argument,
        principals: str | None = "alice",
        key_id: str = "a laptop",
        serial: int = 0,
    ) -> Path:
        """The file of a certificate for a key. words: further ones for ssh-keygen."""
        copy = self.place / f"copy{next(self._numbers)}"
        shutil.copy(key.with_suffix(".pub"), copy.with_suffix(".pub"))
        names = [] if principals is None else ["-n", principals]
        options = ["-q", "-s", authority, "-I", key_id, "-z", str(serial)]
        keygen(*options, *names, *words, copy.with_suffix(".pub"))
        return copy.with_name(copy.name + "-cert.pub")

    def login(self, key: Path, certificate: Path) -> Path:
        """A private key's file with a certificate beside it, as clients look for it."""
        path = self.place / f"login{next(self._numbers)}"
        shutil.copy(key, path)
        shutil.copy(key.with_suffix(".pub"), path.with_suffix(".pub"))
        shutil.copy(certificate, path.with_name(path.name + "-cert.pub"))
        return path

    def revoke(self, text: str, *words: Argument) -> Path:
        """A KRL of what a text says. words: further ones for ssh-keygen, before the text's file."""
        about = self.place / f"about{next(self._numbers)}"
        about.write_text(text)
        krl = self.place / f"krl{next(self._numbers)}"
        keygen("-q", "-k", "-f", krl, *words, about)
        return krl

    def asks(self, krl: Path, *files: Path) -> list[bool] | None:
        """Whether ssh-keygen takes each of the keys and certificates for revoked; None: it cannot say."""
        done = subprocess.run(
            [program("ssh-keygen"), "-Q", "-f", krl, *files], capture_output=True, text=True, errors="replace"
        )
        lines = done.stdout.splitlines()
        found = [line.endswith(": REVOKED") for line in lines if line.endswith((": REVOKED", ": ok"))]
        return found if len(found) == len(files) else None


class WorkshopCase(unittest.TestCase):
    """A case with a workshop, a CA and a user's key, all made once."""

    workshop: ClassVar[Workshop]
    authority: ClassVar[Path]
    key: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.workshop = Workshop()
        cls.addClassCleanup(cls.workshop.close)
        cls.authority, cls.key = cls.workshop.key(), cls.workshop.key()


def certificate_in(path: Path) -> Certificate:
    """The certificate in a file."""
    return parse(blob_of(path))
