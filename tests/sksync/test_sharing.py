"""What a server shares with whom: white lists, excluded and taken names, and many clients at once."""

from __future__ import annotations

import random
from pathlib import Path

from pysftpserver.sksync.shares import Share, listed_directories, whole_storage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync import oldstyle
from tests.sksync.serving import NOW, Directories, put, tree
from tests.support.waiting import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sksync.shares import Find


class Paths(Directories):
    def listed(self, is_silent: bool) -> Find:
        """A list of two paths, each a jail of its own."""
        for name in ("one", "two"):
            put(self.place / name, name, name.encode())
        jails = {
            f"/srv/{name}": lambda name=name: Share(SFTPServerVirtualChroot(self.place / name))
            for name in ("one", "two")
        }
        return listed_directories(jails, is_silent)

    def test_a_path_of_the_white_list_is_that_directory_however_it_is_written(self) -> None:
        port = self.serve(shares=self.listed(False)).port
        for number, path in enumerate(("/srv/two", "srv/two", "/srv/two/", "/srv//./two", "/srv/x/../two")):
            here = self.here / str(number)
            here.mkdir()
            with self.subTest(path):
                self.assertEqual(oldstyle.client(port, here, path=path), ([], ["two"]))

    def test_any_other_path_ends_the_connection_under_deny(self) -> None:
        served = self.serve(shares=self.listed(False))
        put(self.here, "f")
        for path in ("/", "/srv", "/srv/three", "/srv/one/..", "/srv/one/x", "/srv/on", "", "../srv/three"):
            with self.subTest(path), self.assertRaises(oldstyle.Ended):
                oldstyle.client(served.port, self.here, path=path)
        served.log.wait("server_dir_whitelist", 8)
        self.assertEqual(set(tree(self.here)), {"f"})
        self.assertEqual(oldstyle.client(served.port, self.here, path="/srv/one"), (["f"], ["one"]))

    def test_any_other_path_is_the_first_of_the_list_under_silent(self) -> None:
        port = self.serve(shares=self.listed(True)).port
        for number, path in enumerate(("/", "/srv/three", "", "/srv/one")):
            here = self.here / str(number)
            here.mkdir()
            self.assertEqual(oldstyle.client(port, here, path=path), ([], ["one"]), path)

    def test_a_path_leads_nowhere_but_below_the_root(self) -> None:
        put(self.place, "secret/f", b"secret")
        put(self.root, "f", b"shared")
        (self.root / "way").symlink_to(self.place / "secret")
        served = self.serve()
        for number, path in enumerate(("/", "..", "../..", "there/../..", "/../../..")):
            here = self.place / "empty" / str(number)
            here.mkdir(parents=True)
            self.assertEqual(oldstyle.client(served.port, here, path=path), ([], ["f"]), path)
        for path in ("../secret", "way", f"{self.place}/secret"):
            with self.assertRaises(oldstyle.Ended):
                oldstyle.client(served.port, self.here, kind=2, path=path)
        self.assertEqual(tree(self.here), {})

    def test_a_link_that_the_server_s_owner_made_is_a_directory_to_name(self) -> None:
        put(self.there, "f", b"content")
        (self.root / "way").symlink_to("there")
        port = self.serve().port
        put(self.here, "g")
        self.assertEqual(oldstyle.client(port, self.here, path="way"), (["g"], ["f"]))
        self.assertEqual(set(tree(self.there)), {"f", "g"})

    def test_a_link_in_it_is_not_followed_by_what_comes(self) -> None:
        outside = self.root / "elsewhere"
        outside.mkdir()
        (self.there / "way").symlink_to("../elsewhere")
        (self.there / "l").symlink_to("../elsewhere/new")
        put(self.here, "way/f", b"content")
        put(self.here, "l", b"content")
        put(self.here, "ok", b"content")
        served = self.serve()
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(served.port, self.here)
        self.assertIn("2 failed", served.log.wait("ended: "))
        self.assertEqual(tree(outside), {})
        self.assertEqual((self.there / "ok").read_bytes(), b"content")

    def test_a_directory_that_is_missing_is_an_empty_one_to_send_to_and_an_error_to_send_from(self) -> None:
        served = self.serve()
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(served.port, self.here, kind=2, path="new")
        served.log.wait("no such file")
        self.assertEqual(oldstyle.client(served.port, self.here, kind=1, path="new"), ([], []))
        self.assertFalse((self.root / "new").exists())
        put(self.here, "d/f", b"content")
        self.assertEqual(oldstyle.client(served.port, self.here, kind=0, path="new"), (["d/f"], []))
        self.assertEqual(tree(self.root / "new"), tree(self.here))


class Excluded(Directories):
    def test_names_that_are_left_out_neither_come_nor_go(self) -> None:
        for name in ("f", "f.tmp", "cache/x", "d/cache/y"):
            put(self.there, f"t-{name}" if "/" not in name else name, b"there")
            put(self.here, f"h-{name}" if "/" not in name else f"{name}-h", b"here")
        served = self.serve(filter_fnmatch_exclude=["*.tmp", "cache"])
        self.assertEqual(oldstyle.client(served.port, self.here), (["h-f"], ["t-f"]))

    def test_a_name_that_is_left_out_here_is_not_replaced_by_a_newer_one(self) -> None:
        put(self.there, "f.tmp", b"there", NOW)
        put(self.here, "f.tmp", b"here", NOW + 10)
        served = self.serve(filter_fnmatch_exclude=["*.tmp"])
        self.assertEqual(oldstyle.client(served.port, self.here), ([], []))
        self.assertEqual((self.there / "f.tmp").read_bytes(), b"there")


class Taken(Directories):
    def test_a_name_that_is_a_directory_here_fails_alone_and_the_client_sees_no_good_end(self) -> None:
        put(self.here, "a", b"new")
        put(self.here, "b", b"new")
        (self.there / "a").mkdir()
        served = self.serve()
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(served.port, self.here)
        served.log.wait("'a': a directory")
        self.assertEqual(tree(self.there), {"b": (b"new", NOW)})
        self.assertTrue((self.there / "a").is_dir())

    def test_a_file_where_a_directory_would_have_to_be_fails_alone(self) -> None:
        put(self.here, "a/f", b"new")
        put(self.here, "b", b"new")
        put(self.there, "a", b"old")
        served = self.serve()
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(served.port, self.here, kind=1)
        served.log.wait("'a/f': ")
        self.assertEqual(tree(self.there), {"a": (b"old", NOW), "b": (b"new", NOW)})

    def test_a_time_that_cannot_be_set_is_an_error_unless_that_is_to_be_ignored(self) -> None:
        class Timeless(SFTPServerVirtualChroot):
            def fsetstat(self, handle: object, attrs: object) -> None:
                if attrs.mtime is not None:  # type: ignore[attr-defined]
                    raise PermissionError(1, "Operation not permitted")
                super().fsetstat(handle, attrs)  # type: ignore[arg-type]

        put(self.here, "f", b"content")
        served = self.serve(Timeless(self.root))
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(served.port, self.here)
        self.assertEqual(tree(self.there), {})
        served = self.serve(Timeless(self.root), ignore_time_errors=True)
        self.assertEqual(oldstyle.client(served.port, self.here, kind=1), (["f"], []))
        self.assertEqual((self.there / "f").read_bytes(), b"content")
        served.log.wait("1 modification times could not be set")


class Many(Directories):
    def directory(self, number: int) -> Path:
        path = self.place / "clients" / str(number)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def test_two_clients_that_send_the_same_names_leave_whole_files_of_one_or_the_other(self) -> None:
        port = self.serve().port
        for seed in range(8):
            chance = random.Random(seed)
            names = [f"d{index % 3}/f{index}" for index in range(6)]
            contents: dict[str, set[bytes]] = {name: set() for name in names}
            for number in range(2):
                for name in names:
                    content = chance.randbytes(1) * chance.choice((0, 10, 70_000, 600_000))
                    put(self.directory(number), f"{seed}/{name}", content, NOW + number)
                    contents[name].add(content)

            def work(number: int, seed: int = seed) -> None:
                here = self.directory(number) / str(seed)
                oldstyle.client(port, here, kind=4, path=f"there/{seed}".replace("/", "-"))

            self.at_once(2, work)
            found = tree(self.root / f"there-{seed}")
            self.assertEqual(set(found), set(names), f"seed {seed}")
            for name, (content, mtime) in found.items():
                self.assertIn(content, contents[name], f"seed {seed}: {name}")
                owner = self.directory(mtime - NOW) / str(seed) / name
                self.assertEqual(
                    owner.read_bytes(), content, f"seed {seed}: time of the one, bytes of the other"
                )

    def test_many_clients_at_once_each_get_and_bring_their_own(self) -> None:
        for index in range(20):
            put(self.there, f"common/{index}", random.Random(7).randbytes(3000))
        served = self.serve()
        common = tree(self.there)
        for number in range(12):
            put(self.directory(number), f"own-{number}", b"%d" % number)

        def work(number: int) -> None:
            if number % 3 == 0:
                oldstyle.client(served.port, self.directory(number), kind=1)
            else:
                title = oldstyle.TITLES[number % 3]
                oldstyle.client(served.port, self.directory(number), title, kind=3)

        self.at_once(12, work)
        found = tree(self.there)
        self.assertEqual(set(found), {*common, *(f"own-{number}" for number in range(12))})
        for number in range(12):
            if number % 3:
                mine = tree(self.directory(number))
                self.assertLessEqual(common.items(), mine.items())

    def test_what_is_half_received_is_shown_to_no_other_client(self) -> None:
        put(self.there, "f", b"old")
        served = self.serve()
        client = self.raw(served.port)
        client.say(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n5000\nhalf" % (NOW + 9))
        self.assertEqual([client.line(), client.line()], [b"Protocol Established\n", b"f\n"])
        until(lambda: len(list(self.there.iterdir())) == 2, "a half of a file")
        self.assertEqual(oldstyle.client(served.port, self.here), ([], ["f"]))
        self.assertEqual(tree(self.here), {"f": (b"old", NOW)})
        client.say(b"x" * 4996)
        self.assertEqual(client.rest(), b"\n\n")
        self.assertEqual(tree(self.there), {"f": (b"half" + b"x" * 4996, NOW + 9)})


class WholeStorages(Directories):
    def test_the_top_of_a_storage_is_a_directory_like_any_other(self) -> None:
        put(self.root, "there/f", b"content")
        served = self.serve(shares=whole_storage(lambda: SFTPServerVirtualChroot(self.root)))
        self.assertEqual(oldstyle.client(served.port, self.here, path="/"), ([], ["there/f"]))
        put(self.here, "g/h", b"back")
        self.assertEqual(oldstyle.client(served.port, self.here, path="/"), (["g/h"], []))
        self.assertEqual(tree(self.root), tree(self.here))
