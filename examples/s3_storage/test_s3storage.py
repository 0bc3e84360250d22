"""The storage on a bucket keeps the storage contract, in memory; sftp works with it on a server of S3's
protocol.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from obstore.store import MemoryStore
from s3storage import SFTPServerS3Storage

from pysftpserver.pysftpexceptions import SFTPBadMessage
from pysftpserver.testing import StorageContract

HERE = Path(__file__).parent
LEFT_OUT = (
    "owner permissions times setstat lsetstat fsetstat fsync rename symlink readlink link statvfs fstatvfs"
)


class S3StorageKeepsTheContract(StorageContract, unittest.TestCase):
    unsupported = frozenset(LEFT_OUT.split())
    unencodable = frozenset({b"\xff\xfe\x80"})
    many = 300
    test_control_characters_in_names = None  # obstore refuses them: see below

    def make_storage(self):
        return SFTPServerS3Storage(MemoryStore())


class Uploads(unittest.TestCase):
    def test_control_characters_are_refused(self):
        with self.assertRaises(SFTPBadMessage):
            SFTPServerS3Storage(MemoryStore()).open(b"/a\nb", os.O_WRONLY | os.O_CREAT, 0o644)

    def test_an_upload_is_there_when_it_is_closed_and_not_before(self):
        store = MemoryStore()
        one, other = SFTPServerS3Storage(store), SFTPServerS3Storage(store)
        for end, names in ((one.abandon, []), (one.close, [b"f"])):
            handle = one.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            one.write(handle, 0, b"content")
            self.assertEqual([name for name, _ in other.opendir(b"/")], [b".", b".."])
            end(handle)
            self.assertEqual([name for name, _ in other.opendir(b"/")], [b".", b"..", *names])


@unittest.skipUnless(os.environ.get("PYSFTP_TEST_HARD") == "1", "it starts a server: PYSFTP_TEST_HARD=1")
class OnAServer(unittest.TestCase):
    def setUp(self):
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self.addCleanup(server.stop)
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        self.environment = {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        request = ["curl", "-sf", "-X", "PUT", f"http://{host}:{port}/files"]
        subprocess.run(request, check=True, stdout=subprocess.DEVNULL, timeout=30)

    def test_sftp_puts_lists_gets_and_removes(self):
        sftp = shutil.which("sftp")
        self.assertIsNotNone(sftp, "OpenSSH's client is needed")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "note").write_bytes(os.urandom(12_000_000))
            done = subprocess.run(
                [sftp, "-b", "-", "-D", shlex.join([sys.executable, str(HERE / "serve.py"), "files"])],
                input="mkdir d\nput note d/note\nls -l d\nget d/note back\nrm d/note\nrmdir d\nls\n",
                cwd=directory,
                env={**self.environment, "PYTHONPATH": str(HERE.parents[1]), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("12000000", done.stdout)
            self.assertEqual(Path(directory, "back").read_bytes(), Path(directory, "note").read_bytes())


if __name__ == "__main__":
    unittest.main()
