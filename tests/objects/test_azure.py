"""Azure's store: the contract and uploads on Azurite, which `make test-hard` installs where npm is."""

from __future__ import annotations

import atexit
import base64
import functools
import os
import shutil
import subprocess
import tempfile
import unittest
from contextlib import AbstractContextManager
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.storages.objects.web import Web
from pysftpserver.testing import StorageContract
from tests.objects.stores import StoreCase, cut_off
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import until

ACCOUNT, KEY = "testaccount", base64.b64encode(os.urandom(64)).decode()
INSTALLED = ROOT / ".venv-azurite" / "node_modules" / ".bin" / "azurite-blob"
AZURITE = str(INSTALLED) if INSTALLED.exists() else shutil.which("azurite-blob")
NEEDS_AZURITE = unittest.skipUnless(AZURITE, "Azurite is missing: run tools/azurite.sh, which needs npm")


@functools.cache
def azurite() -> str:
    """The URL of a server, which is started if it is not running yet."""
    directory = tempfile.mkdtemp(prefix="pysftpserver-azurite-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    port = free_port()
    process = subprocess.Popen(
        [AZURITE, "--blobHost", LOOPBACK, "--blobPort", str(port), "--location", directory, "--silent"]
        + ["--skipApiVersionCheck", "--disableTelemetry"],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.kill()
        process.wait()

    atexit.register(stop)

    def answers() -> bool:
        try:
            Web(f"http://{LOOPBACK}:{port}", 1).request("GET", "/", {})
        except SFTPException:
            return False
        return True

    until(answers, "Azurite does not answer")
    return f"http://{LOOPBACK}:{port}/{ACCOUNT}"


class AzureCase(StoreCase):
    server = "azurite"

    def setUp(self):
        self.enterContext(
            mock.patch.dict(os.environ, {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": KEY})
        )
        super().setUp()

    def start(self):
        return azurite()

    def make_bucket(self):
        self.other._ask("PUT", "", {"restype": "container"})

    def remove_bucket(self):
        self.other._ask("DELETE", "", {"restype": "container"})

    def name(self, prefix="", settings="", url=""):
        return f"az://{self.bucket}/{prefix}?endpoint={url or self.url}{self.settings}{settings}"


if IS_HARD:

    @NEEDS_AZURITE
    class KeepsTheContract(AzureCase, StorageContract):
        unsupported = frozenset(
            "symlink readlink link statvfs fstatvfs fsync owner permissions times".split()
        )
        unencodable = frozenset({b"\xff\xfe\x80", b"back\\slash"})
        settings = "&setstat=refuse"

        # Azurite fails with 500 with control characters
        test_unusual_names = None  # type: ignore[assignment]
        test_control_characters_in_names = None  # type: ignore[assignment]

        def make_storage(self) -> SFTPServerObjectStorage:
            return self.open_storage()

        def failing(self) -> AbstractContextManager[None]:
            return cut_off(self.storage)

    @NEEDS_AZURITE
    class Uploads(AzureCase):
        def test_a_large_file_is_sent_in_blocks_appended_to_and_read(self):
            storage, content = self.open_storage(), os.urandom(20 << 20)
            handle = storage.open(b"/f", os.O_WRONLY | os.O_CREAT, 0o666)
            for off in range(0, len(content), 1 << 20):
                storage.write(handle, off, content[off : off + (1 << 20)])
            self.assertEqual(self.all_keys(), [])
            storage.close(handle)
            handle = storage.open(b"/f", os.O_WRONLY | os.O_APPEND, 0)
            storage.write(handle, 0, b"more")
            storage.close(handle)
            self.assertTrue(self.get_object("f") == content + b"more")

        def test_a_file_that_appears_meanwhile_is_not_replaced(self):
            storage = self.open_storage()
            for content in (b"small", bytes(20 << 20)):
                handle = storage.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                storage.write(handle, 0, content)
                self.put_object("f", b"of another")
                with self.assertRaisesRegex(SFTPFailure, "exists already"):
                    storage.close(handle)
                self.assertEqual(self.get_object("f"), b"of another")
                storage.rm(b"/f")

        def test_times_in_metadata(self):
            storage = self.open_storage(settings="&times=metadata")
            self.put_object("f", b"content")
            storage.setstat(b"/f", SFTPAttributes(atime=5, mtime=1_000_000_000))
            storage.rename(b"/f", b"/g")
            self.assertEqual(storage.stat(b"/g").mtime, 1_000_000_000)

        def test_refusals_have_words_and_no_secret(self):
            with mock.patch.dict(os.environ, {"AZURE_STORAGE_KEY": base64.b64encode(b"wrong").decode()}):
                storage = self.open_storage()
            for call in (storage.connect, lambda: storage.stat(b"/f")):
                with self.assertRaisesRegex(SFTPException, "does not accept the credentials|denies access"):
                    call()
            with mock.patch.dict(os.environ, {"AZURE_STORAGE_KEY": "no key!"}):
                with self.assertRaisesRegex(ValueError, "^the key of the storage account is not valid$"):
                    self.open_storage()
