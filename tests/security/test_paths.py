"""Long paths, deep trees, loops and chains of links, hard links, and a jail that is itself moved away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.security.attempts import every_request
from tests.security.canaries import Canaries
from tests.security.clients import Session
from tests.security.premises import WAYS, Premises
from tests.security.swapper import AT_FDCWD, exchange
from tests.support.hard import IS_HARD
from tests.support.packets import CREAT, NO_ATTRS, OK, READ, WRITE, string, u32, u64
from tests.support.waiting import until

LONGEST = 4095  # bytes of a path
MOST_LEVELS = 2040  # directories with names of one byte, in a path
MOST_LINKS = 40
SHARE = 1 if IS_HARD else 8
OPERATIONS = 3000  # in each race, for each way; a quarter of them daily


class PathsCase(Premises):
    def read(self, session: Session, path: str) -> bytes | None:
        """What a file has, or None where it is not opened."""
        opened = session.ask("open", string(path.encode()), u32(READ), NO_ATTRS)
        if opened.kind != "handle":
            return None
        data = session.ask("read", string(opened.content), u64(0), u32(1000)).content
        session.ask("close", string(opened.content))
        return data

    def all_on(self, session: Session, paths: list[str]) -> None:
        """Every request on every path, in batches that a server takes at once; replies are searched."""
        for path in paths:
            attempts = every_request(path.encode(), b"stash/file")
            for begin in range(0, len(attempts), 40):
                session.send(session.go_on() + attempts[begin : begin + 40])
                session.receive()

    def race(self, paths: list[str], *pairs: tuple[Path, Path], operations: int = OPERATIONS) -> None:
        """Requests on paths, the first of which is there in one of two states, while pairs change places."""
        for way in WAYS:
            session = self.session(way)
            exchanger = self.exchanger(*pairs)
            self.work_while(exchanger, session, paths, {"first": paths[0]}, operations // SHARE)
            exchanger.end()

    def setUp(self) -> None:
        super().setUp()
        self.furnish()

    def furnish(self) -> None:
        (self.jail / "stash").mkdir(exist_ok=True)
        for path in ("file", "stash/file"):
            (self.jail / path).write_bytes(b"inside")

    def tree(self, name: str) -> Path:
        """A directory of the canaries' shape, with a link out next to it to change places with."""
        top = self.jail / name
        (top / "sub" / "deeper").mkdir(parents=True)
        for file in ("file", "program", "sub/file"):
            (top / file).write_bytes(b"inside")
        return top


def padded(start: str, padding: str, end: str, size: int) -> str:
    """A path of exactly so many bytes: start, as much padding as there is room for, slashes, end."""
    room = size - len(start) - len(end)
    return start + padding * (room // len(padding)) + "/" * (room % len(padding)) + end


class TestLongPaths(PathsCase):
    def paths(self, name: str) -> list[str]:
        """Paths of 4095 bytes and around it, through a name and to what is outside."""
        made = []
        for size in (LONGEST, LONGEST - 1, LONGEST + 1, LONGEST + 900):
            for padding in ("sub/../", "./", "/", f"../{name}/", "sub/deeper/../../"):
                made.append(padded(f"/{name}/", padding, "file", size))
            made.append(padded(f"/{name}/", "../", "outside/file", size))
            made.append(padded("/", "../", self.outside[1:] + "/file", size))
            made.append(padded(f"{name}/", "sub/../", "../../outside/sub/file", size))
        return made

    def test_paths_of_4096_bytes_lead_nowhere_else_than_short_ones(self) -> None:
        self.tree("swap")
        (self.jail / "out").symlink_to(self.outside)
        for way in WAYS:
            session = self.session(way)
            for padding in ("./", "sub/../"):
                longest = padded("/swap/", padding, "file", LONGEST)
                self.assertEqual(self.read(session, longest), b"inside")
                self.assertIsNone(self.read(session, padded("/swap/", padding, "file", LONGEST + 1)))
                self.assertIsNone(self.read(session, padded("/out/", padding, "file", LONGEST)))
            self.all_on(session, self.paths("out"))
            (self.jail / "out").unlink(missing_ok=True)  # what it is after all that
            (self.jail / "out").symlink_to(self.outside)
        self.assert_contained()

    def test_long_paths_are_found_while_somebody_renames_files_elsewhere(self) -> None:
        self.tree("swap")
        elsewhere = self.tree("elsewhere")
        exchanger = self.exchanger((elsewhere / "file", elsewhere / "program"))
        for way in WAYS:
            session = self.session(way)
            before = exchanger.count

            def read(session: Session = session, before: int = before) -> bool:
                self.assertEqual(self.read(session, padded("/swap/", "sub/../", "file", LONGEST)), b"inside")
                return exchanger.count > before

            for _ in range(30):
                read()
            until(read, "files are renamed meanwhile")

    def test_paths_of_4096_bytes_through_a_directory_that_turns_into_a_link_lead_nowhere(self) -> None:
        for name, target in (("swap", self.outside), ("relative", "../outside")):
            top = self.tree(name)
            link = self.jail / f"{name}.other"
            link.symlink_to(target)
            self.race([f"{name}/file", *self.paths(name)], (top, link), operations=1500)
        self.assert_contained()


class TestDeepTrees(PathsCase):
    NAME = "n" * 250
    LEVELS = 14  # of these names; three times as many are more than the longest path

    def nest(self, name: str, levels: int) -> list[int]:
        """Make directories in each other; descriptors of all."""
        directories = [os.open(self.jail, os.O_RDONLY)]
        for number in range(levels):
            below = name if number else "top"
            os.mkdir(below, dir_fd=directories[-1])
            directories.append(os.open(below, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directories[-1]))
        return directories

    def test_directories_deeper_than_the_longest_path_have_no_way_out(self) -> None:
        levels = 3 * self.LEVELS
        directories = self.nest(self.NAME, levels)
        step = "/".join([self.NAME] * self.LEVELS)
        os.symlink("top/" + "/".join([self.NAME] * (self.LEVELS - 1)), "one", dir_fd=directories[0])
        for number in (self.LEVELS, 2 * self.LEVELS):
            os.symlink(step, "next", dir_fd=directories[number])
        bottom = directories[-1]
        os.symlink("../" * (levels + 1) + "outside", "out", dir_fd=bottom)
        os.symlink(self.outside, "absolute", dir_fd=bottom)
        file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=bottom)
        os.write(file, b"at the bottom")
        for descriptor in (file, *directories):
            os.close(descriptor)
        deep = "one/next/next"
        up = "../" * levels
        paths = [f"{deep}/{end}" for end in ("file", "out/file", "absolute/file", "out", "absolute/sub")]
        paths += [f"{deep}/{up}{end}" for end in ("../outside/file", "../../outside/file", "../file")]
        for way in WAYS:
            session = self.session(way)
            self.assertEqual(self.read(session, f"{deep}/file"), b"at the bottom")
            for end in ("file", "../../file"):
                self.assertEqual(self.read(session, f"{deep}/{up}{end}"), b"inside")
            for end in ("out/file", "absolute/file"):
                self.assertIsNone(self.read(session, f"{deep}/{end}"))
        top, link = self.jail / "top", self.jail / "top.other"
        link.symlink_to(self.outside)
        self.race(paths, (top, link), operations=2000)
        self.assert_contained()

    def test_two_thousand_directories_in_each_other_have_no_way_out(self) -> None:
        directory = os.open(self.jail, os.O_RDONLY)
        for _ in range(MOST_LEVELS):
            os.mkdir("d", dir_fd=directory)
            below = os.open("d", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = below
        os.symlink(self.outside, "out", dir_fd=directory)
        os.close(directory)
        down = "/" + "d/" * MOST_LEVELS
        link = self.jail / "d.other"
        link.symlink_to("../outside")
        # As many `..` as there is room for, and only some of them.
        half = "/" + "d/" * 800
        paths = [f"{down}.", f"{down}out/file", f"{half}{'../' * 801}outside/file", f"{half}../d/d/../.."]
        for way in WAYS:
            session = self.session(way)
            self.assertEqual(session.ask("stat", string(paths[0].encode())).kind, "attrs")
            self.assertIsNone(self.read(session, paths[1]))
        self.race(paths, (self.jail / "d", link), operations=400)
        self.assert_contained()


class TestLinks(PathsCase):
    def test_loops_and_long_chains_of_links_are_errors_for_every_request_that_follows_them(self) -> None:
        links = {"self": "self", "one": "two", "two": "/one", "up": "../up", "dots": "./stash/../dots"}
        links |= {"round": "stash/round", "stash/round": "../round/x", "long": "long/long/long"}
        links |= {f"chain{number}": f"chain{number - 1}" for number in range(1, 61)}
        links |= {"chain0": "file", "chainout0": self.outside, "chainout1": "../outside"}
        links |= {f"chainout{number}": f"stash/../chainout{number - 2}" for number in range(2, 62)}
        loops = ("self", "one", "two", "up", "dots", "round", "long", "chain60", f"chain{MOST_LINKS}")
        for way in WAYS:
            self.set_up_links(links)
            session = self.session(way)
            self.assertEqual(self.read(session, f"chain{MOST_LINKS - 1}"), b"inside")
            for loop in loops:
                for kind in ("stat", "opendir", "realpath", "statvfs"):
                    with self.subTest(way=way, loop=loop, kind=kind):
                        self.assertEqual(session.ask(kind, string(loop.encode())).kind, "status")
                with self.subTest(way=way, loop=loop):
                    self.assertIsNone(self.read(session, loop))
                    self.assertIsNone(self.read(session, f"{loop}/file"))
            for number in (0, 1, 10, 11, 39, 40, 41, 60, 61):
                self.assertIsNone(self.read(session, f"chainout{number}/file"))
            ends = ("", "/", "/file", "/..", "/../outside/file", "/.")
            names = [*loops, "chainout1", "chainout20", "chainout39", "chainout60"]
            self.all_on(session, [f"{name}{end}" for name in names for end in ends])
        self.assert_contained()

    def set_up_links(self, links: dict[str, str]) -> None:
        """Make links in the jail, instead of all that is there but what every test has."""
        for path in self.jail.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.furnish()
        for name, target in links.items():
            (self.jail / name).symlink_to(target)

    def test_a_chain_whose_last_link_turns_outwards_leads_nowhere(self) -> None:
        self.tree("tree")
        (self.jail / "last").symlink_to("tree")
        (self.jail / "last.other").symlink_to(self.outside)
        (self.jail / "step0").symlink_to("stash/../last")
        for number in range(1, 20):
            (self.jail / f"step{number}").symlink_to(f"/stash/../step{number - 1}/.")
        ends = ("sub/file", "file", "sub/../file", ".", "../file", "sub/..", "../../outside/file")
        paths = [f"step18/{end}" for end in ends]
        self.race(paths, (self.jail / "last", self.jail / "last.other"))
        self.assert_contained()

    def test_a_hard_link_made_before_the_session_is_a_file_of_the_jail(self) -> None:
        """Documented (docs/openssh.md, "The jail"): what has a name inside is inside, whatever others it has.

        It can be read and written, and that shows under its other names.
        """
        elsewhere = self.hidden / "elsewhere"
        elsewhere.mkdir()
        other = elsewhere / "other name"
        for way in WAYS:
            other.write_bytes(b"shared by a hard link")
            (self.jail / "linked").unlink(missing_ok=True)
            os.link(other, self.jail / "linked")
            self.ours.append(elsewhere)
            self.watch()
            session = self.session(way)
            self.assertEqual(self.read(session, "linked"), b"shared by a hard link")
            handle = session.ask("open", string(b"linked"), u32(WRITE), NO_ATTRS).content
            self.assertEqual(session.ask("write", string(handle), u64(0), string(b"SHARED")).content, OK)
            session.ask("close", string(handle))
            self.assertEqual(other.read_bytes(), b"SHARED by a hard link")
            # The file is; its other name and its directory are not.
            self.assertIsNone(self.read(session, "../elsewhere/other name"))
            self.assertEqual(session.ask("hardlink", string(b"linked"), string(b"second")).content, OK)
            for name in (b"linked", b"second"):
                self.assertEqual(session.ask("remove", string(name)).content, OK)
            self.assertEqual(other.stat().st_nlink, 1)
        self.assert_contained()

    def test_no_hard_link_to_what_is_outside_can_be_made_in_a_session(self) -> None:
        (self.jail / "out").symlink_to(self.outside)
        (self.jail / "text").symlink_to(f"{self.outside}/file")
        for way in WAYS:
            session = self.session(way)
            for path in ("out/file", "../outside/file", f"{self.outside}/file", "out/../../outside/file"):
                with self.subTest(way=way, path=path):
                    asked = session.ask("hardlink", string(path.encode()), string(b"taken"))
                    self.assertNotEqual(asked.content, OK)
            # Of a link itself there can be another name; that is a link inside, and not what it names.
            session.ask("hardlink", string(b"text"), string(b"taken"))
            self.assertTrue((self.jail / "taken").is_symlink())
            self.assertIsNone(self.read(session, "taken"))
            (self.jail / "taken").unlink()
        self.assert_contained()


class TestTheJailItself(PathsCase):
    PATHS = ("sub/file", "program", "sub", "../file", "../jail/program", "tree/../sub", "/..", "../jail/sub")

    def setUp(self) -> None:
        super().setUp()
        self.tree("tree")
        self.other = Canaries(self.hidden / "other", self.token)
        self.other.build()
        self.watch()

    def exchange(self) -> None:
        self.assertTrue(exchange(AT_FDCWD, os.fsencode(self.jail), os.fsencode(self.other.top)))

    def test_a_jail_whose_name_becomes_a_link_out_stays_the_directory_that_was_opened(self) -> None:
        aside = self.hidden / "aside"
        for way in WAYS:
            self.furnish()
            session = self.session(way)
            self.jail.rename(aside)
            self.jail.symlink_to("outside")
            self.stays(session, aside)
            self.jail.unlink()
            aside.rename(self.jail)

    def test_a_jail_that_changes_places_with_another_directory_stays_the_one_that_was_opened(self) -> None:
        for way in WAYS:
            self.furnish()
            session = self.session(way)
            self.exchange()
            self.stays(session, self.other.top)
            self.exchange()

    def stays(self, session: Session, where: Path) -> None:
        """Whatever is asked of a session is asked of the directory that is elsewhere now."""
        self.ours = [self.work, where]
        self.watch()
        self.assertEqual(self.read(session, "file"), b"inside")
        self.assertIsNone(self.read(session, "program"))
        made = session.ask("open", string(b"new"), u32(WRITE | CREAT), NO_ATTRS)
        session.ask("close", string(made.content))
        self.assertTrue((where / "new").exists())
        self.all_on(session, list(self.PATHS))
        self.assert_contained()
        session.close()

    def test_a_jail_that_is_swapped_again_and_again_stays_the_directory_that_was_opened(self) -> None:
        inode = self.jail.stat().st_ino
        for way in WAYS:
            session = self.session(way)
            exchanger = self.exchanger((self.jail, self.other.top))
            self.work_while(exchanger, session, list(self.PATHS), {}, OPERATIONS // SHARE)
            exchanger.end()
            self.assertEqual(self.read(session, "tree/file"), b"inside")
            if self.jail.stat().st_ino != inode:
                self.exchange()
        # Their being moved shows, and in nothing that is in the other one.
        names = (self.hidden.name, f"{self.hidden.name}/other")
        moved = {f"{aspect}: {name}" for aspect in ("changed", "modified") for name in names}
        self.assertEqual(self.effects() - moved, set(), f"seed {self.seed}")
        self.assertEqual(self.leaks()[:5], [], f"seed {self.seed}")
