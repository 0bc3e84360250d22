"""Certificates that a client of ours must not be content with, and those beside them that it may."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import unittest
from pathlib import Path

from pysftpserver.sksync.client import ClientTLS, SyncError, SyncType, sync
from pysftpserver.sksync.tls import server_context
from tests.sksync.peers import PeerCase

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
REFUSED = "not the one in ssl_server_certfile|not trusted"


@unittest.skipUnless(shutil.which("openssl"), "openssl(1) is not installed")
class Certificates(PeerCase):
    def made(self, name: str, names: str = "", signer: Path | None = None) -> Path:
        """A certificate, whose key lies beside it. signer: None for itself."""
        path = self.place / name
        words = ["req", "-x509", *CURVE, "-subj", f"/CN={path.name}"]
        words += ["-keyout", f"{path}.key", "-out", str(path)]
        if names:
            words += ["-addext", f"subjectAltName={names}"]
        if signer is not None:
            words += ["-CA", str(signer), "-CAkey", f"{signer}.key"]
            words += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(["openssl", *words], check=True, capture_output=True)
        return path

    def syncs(self, shows: Path, trusts: Path) -> None:
        """Sync with a server that shows the one, as a client that trusts the other."""
        serving = self.serve(tls=server_context(str(shows), f"{shows}.key", None, "TLSv1.2"))
        try:
            request = self.request(serving.port, SyncType.TO_SERVER_USE_TIME, tls=ClientTLS(str(trusts)))
            sync(self.jailed(self.share), request)
        finally:
            serving.stop()

    def test_another_certificate_of_the_same_name_is_refused(self) -> None:
        pinned = self.made("server", "IP:127.0.0.1")
        self.syncs(pinned, pinned)
        (self.place / "others").mkdir()
        with self.assertRaisesRegex(SyncError, REFUSED):
            self.syncs(self.made("others/server", "IP:127.0.0.1"), pinned)

    def test_one_of_the_trusted_signer_has_to_name_the_host(self) -> None:
        signer = self.made("signer")
        self.syncs(self.made("right", "IP:127.0.0.1", signer), signer)
        for number, names in enumerate(
            ("IP:127.0.0.2", "DNS:example.org", "DNS:127.0.0.1", "DNS:*.0.0.1", "")
        ):
            with self.subTest(names), self.assertRaisesRegex(SyncError, REFUSED):
                self.syncs(self.made(f"wrong{number}", names, signer), signer)

    def test_one_that_the_pinned_certificate_has_signed_is_refused(self) -> None:
        signer = self.made("signer")
        pinned = self.made("pinned", "IP:127.0.0.1", signer)
        with self.assertRaisesRegex(SyncError, REFUSED):
            self.syncs(self.made("below", "IP:127.0.0.1", pinned), pinned)

    def test_a_handshake_that_does_not_go_on_is_ended(self) -> None:
        def silent(raw: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while raw.recv(1 << 16):
                    pass

        faked = self.fake(silent)
        with self.nothing_changes():
            self.fails("TLS: the handshake failed: ", self.request(faked.port, tls=ClientTLS(), timeout=0.3))
