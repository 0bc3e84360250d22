"""paramiko's SFTP client: what most Python programs use, with its own ideas of prefetching."""

from __future__ import annotations

import io
import os

from tests.integration import material
from tests.integration.clients import paramiko_client
from tests.integration.harness import ServedCase
from tests.integration.material import GIB, MIB, Material, permissions
from tests.support.processes import require

LONG_AGO = 1_000_000_000


def setUpModule() -> None:
    require()


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class TestParamiko(ServedCase):
    def test_files_of_odd_sizes_go_both_ways(self) -> None:
        data = Material()
        data.odd_files(self.local)
        with paramiko_client(self.sshd) as client:
            for name in os.listdir(self.local):
                client.put(str(self.local / name), name)
                client.get(name, str(self.outside / name))
        material.assert_same_trees(self, self.local, self.jail, data.seed)
        material.assert_same_trees(self, self.local, self.outside, data.seed)

    def test_pipelined_writes_and_scattered_reads_are_identical(self) -> None:
        data = Material()
        content = data.bytes(MIB + 1)
        with paramiko_client(self.sshd) as client:
            with client.open("f", "wb") as file:
                file.set_pipelined(True)
                file.write(content)
            with client.open("f", "rb") as file:
                chunks = [(1, 1), (500_000, 100_000), (0, 32_769), (MIB, 1)]
                for (offset, size), found in zip(chunks, file.readv(chunks), strict=True):
                    self.assertEqual(found, content[offset : offset + size], data.seed)
            back = io.BytesIO()
            client.getfo("f", back)
        self.assertEqual(back.getvalue(), content, data.seed)

    def test_files_are_read_and_written_anywhere_beyond_4_gib(self) -> None:
        data = Material()
        block = data.bytes(100_000)
        with paramiko_client(self.sshd) as client, client.open("big", "w+b") as file:
            for offset in (4 * GIB - 50_000, 9 * GIB + 1):
                file.seek(offset)
                file.write(block)
                file.seek(offset)
                self.assertEqual(file.read(len(block)), block, data.seed)
            self.assertEqual(file.stat().st_size, 9 * GIB + 1 + len(block))
            file.truncate(6 * GIB)
            self.assertEqual(client.stat("big").st_size, 6 * GIB)

    def test_open_modes_do_what_they_say(self) -> None:
        with paramiko_client(self.sshd) as client:
            with client.open("f", "wx") as file:
                file.write(b"one")
            with self.assertRaises(OSError):
                client.open("f", "wx")
            with client.open("f", "a") as file:
                file.write(b"two")
            self.assertEqual((self.jail / "f").read_bytes(), b"onetwo")
            with client.open("f", "r+") as file:
                file.write(b"ONE")
            self.assertEqual((self.jail / "f").read_bytes(), b"ONEtwo")
            client.open("f", "w").close()
            self.assertEqual((self.jail / "f").read_bytes(), b"")

    def test_names_are_made_moved_linked_and_removed(self) -> None:
        with paramiko_client(self.sshd) as client:
            client.mkdir("d", 0o750)
            client.chdir("d")
            client.putfo(io.BytesIO(b"content"), "f")
            client.symlink("f", "link")
            client.symlink("/d/f", "absolute")
            self.assertEqual(client.readlink("link"), "f")
            self.assertEqual(client.normalize("absolute"), "/d/f")
            with self.assertRaises(OSError):
                client.rename("f", "link")
            client.posix_rename("f", "/g")
            self.assertEqual(sorted(client.listdir()), ["absolute", "link"])
            client.remove("link")
            client.unlink("absolute")
            client.chdir(None)
            client.rmdir("d")
            self.assertEqual(client.normalize("."), "/")
        self.assertEqual(material.contents(self.jail).keys(), {b"g"})

    def test_attributes_are_set_and_seen(self) -> None:
        (self.jail / "f").write_bytes(b"12345")
        (self.jail / "link").symlink_to("f")
        with paramiko_client(self.sshd) as client:
            client.chmod("link", 0o600)
            client.truncate("f", 7)
            client.utime("f", (LONG_AGO, LONG_AGO + 1))
            found = client.stat("f")
            self.assertEqual((found.st_size, found.st_mtime), (7, LONG_AGO + 1))
            self.assertEqual((found.st_atime, found.st_uid), (LONG_AGO, os.getuid()))
            client.chown("f", os.getuid(), os.getgid())
            with client.open("f", "r+") as file:
                file.chmod(0o640)
                file.utime((LONG_AGO, LONG_AGO))
            listed = {entry.filename: entry for entry in client.listdir_attr("/")}
        self.assertEqual(permissions(self.jail / "f"), 0o640)
        self.assertEqual(listed["f"].st_mtime, LONG_AGO)
        # paramiko's str() is the listing's line that the server sent.
        self.assertRegex(listed["f"].longname, r"^-rw-r----- .* 7 Sep  9  2001 f$")
        self.assertTrue(listed["link"].longname.startswith("l"))

    def test_any_name_works(self) -> None:
        with paramiko_client(self.sshd) as client:
            for name in material.AWKWARD_NAMES:
                with self.subTest(name=name):
                    with client.open(name, "wb") as file:
                        file.write(b"I am " + name)
                    client.posix_rename(name, name[::-1])
                    self.assertEqual(client.stat(name[::-1]).st_size, 5 + len(name))
                    client.posix_rename(name[::-1], name)
        material.awkward_files(self.local)
        material.assert_same_trees(self, self.local, self.jail)

    def test_any_name_that_is_utf_8_is_listed(self) -> None:
        # paramiko decodes listings and has no way round it: its limit, not the server's.
        names = [name for name in material.AWKWARD_NAMES if is_utf8(name)]
        material.awkward_files(self.jail, names)
        with paramiko_client(self.sshd) as client:
            self.assertEqual({name.encode() for name in client.listdir("/")}, set(names))

    def test_a_listing_of_thousands_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 1500)
        with paramiko_client(self.sshd) as client:
            self.assertEqual(sorted(client.listdir("many")), names)
            self.assertEqual(sorted(e.filename for e in client.listdir_iter("many")), names)

    def test_an_extension_nobody_has_is_unsupported_and_the_session_goes_on(self) -> None:
        (self.jail / "f").write_bytes(b"content")
        with paramiko_client(self.sshd) as client:
            with client.open("f") as file, self.assertRaisesRegex(OSError, "(?i)unsupported"):
                file.check("sha256")
            self.assertEqual(client.listdir(), ["f"])

    def test_errors_are_those_that_programs_test_for(self) -> None:
        (self.jail / "f").touch()
        with paramiko_client(self.sshd) as client:
            for request in (client.stat, client.open, client.listdir, client.remove, client.rmdir):
                with self.assertRaises(FileNotFoundError):
                    request("missing")
            with self.assertRaises(OSError) as raised:
                client.mkdir("f")
            self.assert_hides_the_jail(str(raised.exception))
