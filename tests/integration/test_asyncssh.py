"""asyncssh's SFTP client: many requests in flight, and every extension of OpenSSH's."""

from __future__ import annotations

import asyncio
import os

import asyncssh

from tests.integration import material
from tests.integration.clients import asynchronous, asyncssh_client, asyncssh_connection
from tests.integration.harness import ServedCase
from tests.integration.material import GIB, KIB, MIB, Material, permissions
from tests.support.processes import require

LONG_AGO = 1_000_000_000


def setUpModule() -> None:
    require()


class TestAsyncssh(ServedCase):
    @asynchronous
    async def test_trees_go_both_ways_with_modes_and_times(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        data.odd_files(self.local / "tree" / "odd")
        os.chmod(self.local / "tree" / "a", 0o750)
        os.utime(self.local / "tree" / "f", (LONG_AGO, LONG_AGO))
        async with asyncssh_client(self.sshd) as client:
            await client.put(str(self.local / "tree"), "tree", recurse=True, preserve=True)
            await client.get("tree", str(self.local / "back"), recurse=True, preserve=True)
        for copy in (self.jail / "tree", self.local / "back"):
            material.assert_same_trees(self, self.local / "tree", copy, data.seed)
            self.assertEqual(permissions(copy / "a"), 0o750)
            self.assertEqual((copy / "f").stat().st_mtime, LONG_AGO)

    @asynchronous
    async def test_blocks_of_any_size_are_identical(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(MIB + 1))
        async with asyncssh_client(self.sshd) as client:
            for size in (1000, 32 * KIB, 255 * KIB, 256 * KIB - 1024):
                with self.subTest(block_size=size, seed=data.seed):
                    await client.put(str(self.local / "f"), "f", block_size=size)
                    await client.get("f", str(self.local / "g"), block_size=size)
                    content = (self.local / "f").read_bytes()
                    self.assertEqual((self.jail / "f").read_bytes(), content)
                    self.assertEqual((self.local / "g").read_bytes(), content)

    @asynchronous
    async def test_a_longer_read_than_the_limit_is_shortened(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(MIB))
        async with asyncssh_client(self.sshd) as client, client.open("f", "rb") as file:
            self.assertEqual(await file.read(MIB, 0), (self.jail / "f").read_bytes(), data.seed)

    @asynchronous
    async def test_files_are_read_and_written_anywhere_beyond_4_gib(self) -> None:
        data = Material()
        block = data.bytes(100_000)
        async with asyncssh_client(self.sshd) as client, client.open("big", "w+b") as file:
            for offset in (4 * GIB - 50_000, 9 * GIB + 1):
                await file.write(block, offset)
                self.assertEqual(await file.read(len(block), offset), block, data.seed)
            self.assertEqual(await file.read(10, 5 * GIB), bytes(10))
            self.assertEqual((await file.stat()).size, 9 * GIB + 1 + len(block))
            await file.truncate(6 * GIB)
        self.assertEqual((self.jail / "big").stat().st_size, 6 * GIB)

    @asynchronous
    async def test_open_modes_do_what_they_say(self) -> None:
        async with asyncssh_client(self.sshd) as client:
            async with client.open("f", "xb") as file:
                await file.write(b"one")
            with self.assertRaises(asyncssh.SFTPFailure):
                await client.open("f", "xb")
            async with client.open("f", "ab") as file:
                # The offset does not matter to a handle that appends.
                await file.write(b"two", 0)
            self.assertEqual((self.jail / "f").read_bytes(), b"onetwo")
            async with client.open("f", "r+b") as file:
                await file.write(b"ONE")
                await file.fsync()
            self.assertEqual((self.jail / "f").read_bytes(), b"ONEtwo")
            async with client.open("f", "wb"):
                pass
            self.assertEqual((self.jail / "f").read_bytes(), b"")

    @asynchronous
    async def test_names_are_made_moved_linked_and_removed(self) -> None:
        async with asyncssh_client(self.sshd) as client:
            await client.makedirs("a/b/c")
            async with client.open("a/f", "wb") as file:
                await file.write(b"f")
            await client.symlink("../f", "a/b/relative")
            await client.symlink("/a/f", "a/b/absolute")
            await client.link("a/f", "a/hard")
            self.assertEqual(await client.readlink("a/b/relative"), "../f")
            self.assertEqual(await client.realpath("a/b/absolute"), "/a/f")
            self.assertEqual(await client.realpath("a/b/missing"), "/a/b/missing")
            self.assertTrue(await client.islink("a/b/absolute"))
            self.assertTrue(await client.isfile("a/b/absolute"))
            with self.assertRaises(asyncssh.SFTPFailure):
                await client.rename("a/f", "a/hard")
            await client.posix_rename("a/b", "b")
            self.assertEqual(set(await client.listdir("b")), {".", "..", "c", "relative", "absolute"})
            await client.rmtree("a")
            await client.rmtree("b")
        self.assertEqual(os.listdir(self.jail), [])

    @asynchronous
    async def test_attributes_are_set_and_seen(self) -> None:
        (self.jail / "f").write_bytes(b"12345")
        (self.jail / "link").symlink_to("f")
        async with asyncssh_client(self.sshd) as client:
            await client.chmod("f", 0o640)
            await client.utime("link", (LONG_AGO, LONG_AGO + 1))
            await client.truncate("f", 3)
            attributes = await client.stat("link")
            self.assertEqual(attributes.size, 3)
            assert attributes.permissions is not None
            self.assertEqual(attributes.permissions & 0o7777, 0o640)
            await client.utime("f", (LONG_AGO, LONG_AGO + 1))
            self.assertEqual((await client.lstat("f")).mtime, LONG_AGO + 1)
            # Links have times of their own.
            await client.utime("link", (LONG_AGO + 5, LONG_AGO + 5), follow_symlinks=False)
            self.assertEqual((await client.lstat("link")).mtime, LONG_AGO + 5)
            self.assertEqual((await client.stat("link")).mtime, LONG_AGO + 1)

    @asynchronous
    async def test_the_file_system_is_described(self) -> None:
        expected = os.statvfs(self.jail)
        (self.jail / "f").touch()
        async with asyncssh_client(self.sshd) as client:
            by_path = await client.statvfs("/")
            async with client.open("f") as file:
                by_handle = await file.statvfs()
        for found in (by_path, by_handle):
            self.assertEqual(found.blocks, expected.f_blocks)
            self.assertEqual(found.bsize, expected.f_bsize)
            self.assertEqual(found.files, expected.f_files)
            self.assertEqual(found.namemax, expected.f_namemax)

    @asynchronous
    async def test_copies_are_made_on_the_server(self) -> None:
        data = Material()
        data.odd_files(self.jail / "odd")
        async with asyncssh_client(self.sshd) as client:
            self.assertTrue(client.supports_remote_copy)
            await client.copy("odd", "copy", recurse=True, remote_only=True)
        material.assert_same_trees(self, self.jail / "odd", self.jail / "copy", data.seed)

    @asynchronous
    async def test_any_name_works(self) -> None:
        async with asyncssh_client(self.sshd) as client:
            for name in material.AWKWARD_NAMES:
                with self.subTest(name=name):
                    async with client.open(name, "wb") as file:
                        await file.write(b"I am " + name)
                    await client.posix_rename(name, name[::-1])
                    self.assertEqual((await client.stat(name[::-1])).size, 5 + len(name))
                    self.assertEqual(await client.realpath(name[::-1]), b"/" + name[::-1])
                    await client.posix_rename(name[::-1], name)
            found = await client.listdir(b"/")
        self.assertEqual(set(found), {b".", b"..", *material.AWKWARD_NAMES})
        material.awkward_files(self.local)
        material.assert_same_trees(self, self.local, self.jail)

    @asynchronous
    async def test_a_listing_of_thousands_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 1500)
        async with asyncssh_client(self.sshd) as client:
            self.assertEqual(sorted(await client.listdir("many")), sorted([".", "..", *names]))
            self.assertEqual(len(await client.glob("many/entry 0123*")), 10)

    @asynchronous
    async def test_errors_have_the_status_that_fits(self) -> None:
        (self.jail / "d" / "full").mkdir(parents=True)
        (self.jail / "f").touch()
        async with asyncssh_client(self.sshd) as client:
            for error, request, *arguments in (
                (asyncssh.SFTPNoSuchFile, client.stat, "missing"),
                (asyncssh.SFTPNoSuchFile, client.open, "missing"),
                (asyncssh.SFTPNoSuchFile, client.listdir, "missing"),
                (asyncssh.SFTPNoSuchFile, client.stat, "f/below"),
                (asyncssh.SFTPFailure, client.mkdir, "d"),
                (asyncssh.SFTPFailure, client.rmdir, "d"),
                (asyncssh.SFTPFailure, client.remove, "d"),
                (asyncssh.SFTPFailure, client.symlink, "x", "f"),
                # As sftp-server answers EINVAL and ENAMETOOLONG.
                (asyncssh.SFTPBadMessage, client.readlink, "f"),
                (asyncssh.SFTPBadMessage, client.mkdir, "n" * 256),
            ):
                with self.subTest(request.__name__, arguments=arguments):
                    with self.assertRaises(error) as raised:
                        await request(*arguments)
                    self.assert_hides_the_jail(str(raised.exception))
            self.assertTrue(await client.isdir("d"))

    @asynchronous
    async def test_sessions_of_one_connection_do_not_mix(self) -> None:
        data = Material()
        contents = [data.bytes(500_000 + number) for number in range(6)]
        async with asyncssh_connection(self.sshd) as connection:

            async def round_trip(number: int) -> None:
                async with connection.start_sftp_client() as client:
                    async with client.open(f"f{number}", "wb") as file:
                        await file.write(contents[number])
                    async with client.open(f"f{number}", "rb") as file:
                        self.assertEqual(await file.read(), contents[number], data.seed)

            await asyncio.gather(*(round_trip(number) for number in range(6)))
        for number, content in enumerate(contents):
            self.assertEqual((self.jail / f"f{number}").read_bytes(), content, data.seed)
