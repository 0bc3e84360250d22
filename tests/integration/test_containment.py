"""Nothing outside the jail is read, written, listed, created or told to exist: with real clients.

A way out is a directory path in the jail that would lead outside if the server resolved it with the
host's root, or lexically, or before it looked. Behind each the tests try every request a client can
send. As the jail has nothing where these paths lead, each must be refused as a missing file is, and
must leave both sides as they were.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator

import paramiko
from paramiko import sftp

from tests.integration import harness, material
from tests.integration.clients import lftp, paramiko_client
from tests.integration.harness import FAILS, ServedCase
from tests.support.hard import IS_HARD
from tests.support.processes import Argument, command, require
from tests.support.waiting import until

SECRET = "secret that no client may see"
# Relative paths out of a jail this deep need as many dots, and more do not hurt an attacker.
UP = "../" * 12


def setUpModule() -> None:
    require("sftp", "scp", "lftp")


def extended(client: paramiko.SFTPClient, name: str, *arguments: bytes | str) -> object:
    """Send an extended request whose arguments are strings."""
    return client._request(sftp.CMD_EXTENDED, name, *arguments)


def attempts(client: paramiko.SFTPClient, path: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every request that names a file, on this path, with its name."""

    def write(mode: str) -> object:
        with client.open(path, mode) as file:
            return file.write("written from the jail")

    def read() -> object:
        with client.open(path) as file:
            return file.read()

    yield "stat", lambda: client.stat(path)
    yield "lstat", lambda: client.lstat(path)
    yield "realpath and stat", lambda: client.stat(client.normalize(path))
    yield "read", read
    for mode in ("w", "a", "r+", "wx"):
        yield f"open {mode}", functools.partial(write, mode)
    yield "opendir", lambda: client.listdir(path)
    yield "mkdir", lambda: client.mkdir(path)
    yield "rmdir", lambda: client.rmdir(path)
    yield "remove", lambda: client.remove(path)
    yield "rename from", lambda: client.rename(path, "/inside/stolen")
    yield "rename to", lambda: client.rename("/inside/file", path)
    yield "posix-rename from", lambda: client.posix_rename(path, "/inside/stolen")
    yield "posix-rename to", lambda: client.posix_rename("/inside/file", path)
    yield "symlink at", lambda: client.symlink("/inside/file", path)
    yield "readlink", lambda: client.readlink(path)
    yield "chmod", lambda: client.chmod(path, 0o777)
    yield "chown", lambda: client.chown(path, os.getuid(), os.getgid())
    yield "utime", lambda: client.utime(path, (1, 1))
    yield "truncate", lambda: client.truncate(path, 1)
    yield "hardlink from", lambda: extended(client, "hardlink@openssh.com", path, "/inside/stolen")
    yield "hardlink to", lambda: extended(client, "hardlink@openssh.com", "/inside/file", path)
    yield "statvfs", lambda: extended(client, "statvfs@openssh.com", path)
    yield "lsetstat", lambda: extended(client, "lsetstat@openssh.com", path, bytes(4))


def outcome(attempt: Callable[..., object], *arguments: object) -> str:
    """Return how an attempt was refused, without the path it was about.

    Raises:
        AssertionError: it was not refused.
    """
    try:
        result = attempt(*arguments)
    except OSError as error:
        return f"{type(error).__name__} {error.errno} {error}"
    raise AssertionError(f"it was not refused: {result!r}")


class ContainmentCase(ServedCase):
    def setUp(self) -> None:
        super().setUp()
        (self.outside / "secret").write_text(SECRET)
        (self.outside / "directory").mkdir()
        (self.outside / "directory" / "deep secret").write_text(SECRET)
        (self.jail / "inside" / "deep" / "deeper").mkdir(parents=True)
        (self.jail / "inside" / "file").write_text("inside")

    def links_out(self) -> dict[str, str]:
        """Return targets for links in ``/inside/deep`` that would lead to the outside directory."""
        outside = str(self.outside)
        return {
            "absolute": outside,
            "relative": f"../../../{self.outside.name}",
            "relative with too many dots": UP + outside,
            "absolute with dots": f"/inside/../../../../../../../../..{outside}",
            "by the jail's own path": f"{self.jail}/../{self.outside.name}",
            "by the process's root": f"/proc/self/root{outside}",
            "by the process's directory": f"/proc/self/cwd/{UP}{outside}",
            "by the thread's root": f"/proc/thread-self/root{outside}",
            "by the parent of sshd": f"/proc/{os.getpid()}/root{outside}",
            "by a chain": "relative",
            "by a chain through the top": "/inside/deep/absolute",
        }

    def ways_out(self) -> Iterator[str]:
        """Make the links; yield directory paths that must not lead to the outside directory."""
        links = self.links_out()
        for name, target in links.items():
            (self.jail / "inside" / "deep" / name).symlink_to(target)
        deep = "inside/deep"
        spellings = (f"/{deep}/{{}}", f"{deep}/{{}}", f"/{deep}/deeper/../{{}}", f"/{deep}/{{}}/directory/..")
        for number, name in enumerate(links):
            for spelling in spellings if IS_HARD else [spellings[number % len(spellings)]]:
                yield spelling.format(name)
        (self.jail / "up").symlink_to("..")
        (self.jail / "inside" / "deep" / "up").symlink_to("../../..")
        name = self.outside.name
        yield f"../{name}"
        yield f"/../{name}"
        yield f"/..//{name}"
        yield f"/./.././{name}"
        yield f"/../../../../../../../../../../..{self.outside}"
        yield f"{UP}{str(self.outside)[1:]}"
        yield f"/inside/../../{name}"
        yield f"inside/deep/../../../{name}"
        yield f"/inside/deep/deeper/../../../../{name}"
        yield f"/inside/missing/../../../{name}"
        yield f"/up/{name}"
        yield f"/up/up/../up/{name}"
        yield f"/inside/deep/up/{name}"
        yield str(self.outside)
        yield f"/proc/self/root{self.outside}"
        yield f"/dev/fd/../..{self.outside}"

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Fail when the block changes anything on either side."""
        before = material.snapshot(self.outside), material.snapshot(self.jail)
        yield
        self.maxDiff = None
        self.assertEqual(material.snapshot(self.outside), before[0], "outside")
        self.assertEqual(material.snapshot(self.jail), before[1], "in the jail")


class TestWaysOut(ContainmentCase):
    FIRST_WAY = 0

    def test_every_request_on_every_way_out_is_refused_as_for_a_missing_file(self) -> None:
        ways = list(self.ways_out())  # daily every third: the next test and tests.security take all
        with paramiko_client(self.sshd) as client, self.unchanged():
            for way in ways[self.FIRST_WAY :: 1 if IS_HARD else 3]:
                there = attempts(client, f"{way}/secret")
                not_there = attempts(client, f"{way}/missing")
                for (name, attempt), (_, other) in zip(there, not_there, strict=True):
                    with self.subTest(name, way=way):
                        found = outcome(attempt)
                        self.assertEqual(found, outcome(other))
                        self.assert_hides_the_jail(found)

    def test_a_directory_behind_a_way_out_cannot_be_listed_or_entered(self) -> None:
        with paramiko_client(self.sshd) as client:
            for way in list(self.ways_out()):
                with self.subTest(way=way), self.unchanged():
                    outcome(client.listdir, way)
                    outcome(client.listdir, f"{way}/")
                    outcome(client.listdir, f"{way}/directory")
                    outcome(client.stat, f"{way}/.")
                    outcome(client.mkdir, f"{way}/new")
                    outcome(client.rmdir, f"{way}/directory")

    def test_a_link_to_a_file_outside_is_a_dangling_link(self) -> None:
        names = []
        for name, target in self.links_out().items():
            (self.jail / name).symlink_to(f"{target}/secret")
            (self.jail / f"{name} to nothing").symlink_to(f"{target}/new")
            names += [name, f"{name} to nothing"]
        follows = {"stat", "read", "open w", "open a", "open r+", "open wx", "opendir", "chmod"}
        follows |= {"chown", "utime", "truncate", "statvfs", "mkdir", "rmdir"}
        with paramiko_client(self.sshd) as client, self.unchanged():
            for path in names:
                for name, attempt in attempts(client, f"/{path}"):
                    if name in follows:
                        with self.subTest(name, path=path):
                            self.assert_hides_the_jail(outcome(attempt))

    def test_links_are_removed_and_renamed_themselves_not_what_they_name(self) -> None:
        before = material.snapshot(self.outside)
        for name in ("a", "b", "c"):
            (self.jail / name).symlink_to(self.outside / "secret")
        (self.jail / "d").symlink_to(self.outside / "directory")
        with paramiko_client(self.sshd) as client:
            client.remove("a")
            client.rename("b", "b2")
            client.posix_rename("c", "c2")
            client.posix_rename("/inside/file", "c2")
            extended(client, "hardlink@openssh.com", "/b2", "/b3")
            client.remove("d")
        self.assertTrue((self.jail / "b3").is_symlink())
        self.assertEqual((self.jail / "c2").read_text(), "inside")
        self.assertEqual(material.snapshot(self.outside), before)

    def test_the_top_is_its_own_parent(self) -> None:
        (self.jail / "up").symlink_to("..")
        with paramiko_client(self.sshd) as client:
            for path in ("..", "/..", "/../..", "inside/../..", "up", "/up/up/..", UP):
                with self.subTest(path=path):
                    self.assertEqual(client.normalize(path), "/")
                    self.assertEqual(sorted(client.listdir(path)), ["inside", "up"])
            self.assertEqual(client.normalize(f"{UP}etc"), "/etc")

    def test_the_same_dots_and_links_reach_the_jail_s_own_files(self) -> None:
        own = self.jail / str(self.outside)[1:]
        own.mkdir(parents=True)
        (own / "secret").write_text("the jail's own")
        (self.jail / self.outside.name).mkdir()
        (self.jail / self.outside.name / "secret").write_text("the jail's own")
        (self.jail / "absolute").symlink_to(self.outside)
        (self.jail / "inside" / "relative").symlink_to(f"../../../../{self.outside.name}")
        with paramiko_client(self.sshd) as client:
            for way in (
                "absolute",
                "inside/relative",
                str(self.outside),
                f"{UP}{str(self.outside)[1:]}",
                f"/../{self.outside.name}",
            ):
                with self.subTest(way=way), client.open(f"{way}/secret") as file:
                    self.assertEqual(file.read(), b"the jail's own")

    def test_links_in_the_jail_work_and_start_at_its_root(self) -> None:
        links = {
            "relative": "inside/file",
            "absolute": "/inside/file",
            "chain": "absolute",
            "with dots": "inside/deep/../file",
            "dots at the top": "/../../inside/file",
        }
        for name, target in links.items():
            (self.jail / name).symlink_to(target)
        (self.jail / "directory").symlink_to("/inside")
        with paramiko_client(self.sshd) as client:
            for name, target in links.items():
                with self.subTest(name):
                    self.assertEqual(client.readlink(name), target)
                    self.assertEqual(client.normalize(name), "/inside/file")
                    with client.open(name) as file:
                        self.assertEqual(file.read(), b"inside")
                    with client.open(name, "r+") as file:
                        file.write("inside")
            self.assertEqual(sorted(client.listdir("directory")), ["deep", "file"])
            client.mkdir("directory/new")
            # A link made through the server is stored as sent, and means the same to it.
            client.symlink("/inside/file", "made")
            with client.open("made") as file:
                self.assertEqual(file.read(), b"inside")
        self.assertEqual(os.readlink(self.jail / "made"), "/inside/file")
        self.assertTrue((self.jail / "inside" / "new").is_dir())

    def test_a_loop_of_links_is_an_error(self) -> None:
        (self.jail / "a").symlink_to("b")
        (self.jail / "b").symlink_to("/a")
        with paramiko_client(self.sshd) as client, self.unchanged():
            for path in ("a", "a/file", "b"):
                outcome(client.stat, path)
                outcome(client.open, path, "w")
            self.assertEqual(client.readlink("a"), "b")


class TestMagicLinks(ContainmentCase):
    """A jail on /proc, whose links are no text but doors: the kernel would walk through them."""

    @classmethod
    def server_command(cls) -> list[str]:
        return command("pysftpjail", "--logfile", cls.server_log, "/proc")

    def test_they_lead_nowhere(self) -> None:
        secret = self.outside / "secret"
        with paramiko_client(self.sshd) as client:
            # Seen as /proc/self of the server, which is what an attacker wants.
            self.assertTrue(client.stat("/self/status").st_mode)
            for path in ("/", "/self"):
                with self.assertRaises(PermissionError):
                    client.listdir(path)
            for path in ("/self/mem", "/self/maps", "/self/environ", "/self/mountinfo"):
                for mode in ("r", "r+"):
                    with self.assertRaises(PermissionError, msg=path):
                        client.open(path, mode)
            for link in ("root", "cwd", "task/../root", "fd/../cwd"):
                for start in ("/self", "/thread-self", f"/{os.getpid()}"):
                    with self.subTest(link=link, start=start):
                        door = f"{start}/{link}"
                        outcome(client.open, f"{door}{secret}")
                        outcome(client.open, f"{door}/{UP}{secret}")
                        outcome(client.open, f"{door}{secret}.new", "w")
                        outcome(client.mkdir, f"{door}{self.outside}/new")
                        outcome(client.listdir, f"{door}{self.outside}")
            outcome(client.open, "/self/exe")
        self.assertEqual(sorted(os.listdir(self.outside)), ["directory", "secret"])


class TestClients(ContainmentCase):
    """What users would type."""

    def setUp(self) -> None:
        super().setUp()
        (self.jail / "absolute").symlink_to(self.outside)
        (self.jail / "relative").symlink_to(f"../{self.outside.name}")
        (self.jail / "link").symlink_to(self.outside / "secret")

    def test_sftp_stays_in(self) -> None:
        name = self.outside.name
        (self.local / "new").write_text("new")
        tried = [
            f"{verb} {path}"
            for path in ("absolute", "relative", f"../{name}", str(self.outside))
            for verb in ("cd", "ls -l", "get -R", "df", "chmod 777")
            # A link itself can be shown.
            if not (verb == "ls -l" and "/" not in path)
        ] + [
            "get link",
            "put new link",
            "put new absolute/new",
            f"put new ../{name}/new",
            "ls absolute/",
            "mkdir relative/new",
            "rm absolute/secret",
            "rmdir relative/directory",
            "rename absolute/secret stolen",
            f"rename inside/file ../{name}/new",
            "ln absolute/secret stolen",
            "ln -s x relative/new",
            f"cp ../{name}/secret stolen",
            "chmod 777 link",
        ]
        with self.unchanged():
            run = self.sftp(*(f"-{line}" for line in tried))
        self.assertNotIn(SECRET, run.text)
        self.assertEqual(os.listdir(self.local), ["new"])
        # Not one was silently accepted; only of df the client does not say that it failed.
        said = [line for line in tried if not line.startswith("df")]
        self.assertEqual(len(run.err.splitlines()), len(said), run)
        self.assertNotIn("%Capacity", run.out)

    def test_sftp_sees_the_top_of_the_jail_however_far_it_climbs(self) -> None:
        run = self.sftp("cd ../../..", "pwd", "ls -1", "cd inside/deep", "cd ../../../..", "pwd")
        names = ["absolute", "inside", "link", "relative"]
        top = "Remote working directory: /"
        self.assertEqual(run.lines, [top, *names, top])

    def test_scp_stays_in(self) -> None:
        (self.local / "new").write_text("new")
        scp: list[Argument] = ["scp", "-F", self.sshd.ssh_config, "-r"]
        with self.unchanged():
            for source in ("link", "absolute/secret", f"../{self.outside.name}/secret"):
                self.client([*scp, f"server:{source}", "got"], status=FAILS)
            self.client([*scp, "new", "server:absolute/new"], status=FAILS)
            self.client([*scp, "new", "server:link"], status=FAILS)
            self.client([*scp, "server:/", "all"], status=harness.ANY)
        self.assertNotIn(SECRET, self.local_text())

    def test_lftp_stays_in_even_when_it_follows_links(self) -> None:
        commands = ["mirror -L / all", f"mirror ../{self.outside.name} got", "get link"]
        with self.unchanged():
            lftp(self, *commands, status=harness.ANY, stop=False)
        self.assertTrue((self.local / "all" / "inside" / "file").exists())
        self.assertNotIn(SECRET, self.local_text())

    def local_text(self) -> str:
        """Return all that the clients fetched."""
        found = (path for path in self.local.rglob("*") if path.is_file())
        return "\n".join(path.read_text(errors="replace") for path in found)


class TestRaces(ContainmentCase):
    """The tree changes under the server between its looking and its doing."""

    ROUNDS = 200 if IS_HARD else 30

    @contextlib.contextmanager
    def meanwhile(self, change: Callable[[], None]) -> Iterator[None]:
        """Repeat a change in another thread for as long as the block runs."""
        over = threading.Event()

        def repeat() -> None:
            while not over.is_set():
                change()

        with concurrent.futures.ThreadPoolExecutor() as pool:
            changes = pool.submit(repeat)
            try:
                yield
            finally:
                over.set()
            # A change that failed would have left nothing to race with.
            changes.result()

    def test_a_directory_that_turns_into_a_link_out_never_leads_out(self) -> None:
        swap, real, link = (self.jail / name for name in ("swap", "real", "link"))
        for target in (str(self.outside), f"../{self.outside.name}"):
            with self.subTest(target=target):
                harness.empty(self.jail)
                swap.mkdir()
                (swap / "secret").write_text("inside")
                link.symlink_to(target)

                def change() -> None:
                    swap.rename(real)
                    link.rename(swap)
                    swap.rename(link)
                    real.rename(swap)

                before = material.snapshot(self.outside)
                reads = self.try_all_the_time("swap", change)
                self.assertIn(b"inside", reads)
                self.assertNotIn(SECRET.encode(), reads)
                self.assertEqual(material.snapshot(self.outside), before)

    def test_a_directory_that_is_moved_out_takes_no_path_with_it(self) -> None:
        here, there = self.jail / "a" / "b", self.outside / "moved"
        (here / "c").mkdir(parents=True)
        (self.jail / "secret").write_text("inside")
        # From /a/b/c this is the jail's; were it followed while moved, it would be the outside's.
        path = "/a/b/c/../../../secret"
        (self.place / "secret").write_text(SECRET)
        self.addCleanup((self.place / "secret").unlink)

        def change() -> None:
            here.rename(there)
            there.rename(here)

        reads = set()
        with self.meanwhile(change), paramiko_client(self.sshd) as client:
            for _ in range(self.ROUNDS):
                with contextlib.suppress(OSError), client.open(path) as file:
                    reads.add(file.read())
                with contextlib.suppress(OSError), client.open(f"{path} new", "w") as file:
                    file.write("new")
                with contextlib.suppress(OSError):
                    self.assertNotIn("sshd", client.listdir("/a/b/c/../../.."))
        self.assertEqual(reads, {b"inside"})
        self.assertFalse((self.place / "secret new").exists())
        self.assertEqual((self.place / "secret").read_text(), SECRET)

    def test_a_directory_that_the_client_itself_moves_takes_no_path_with_it(self) -> None:
        (self.jail / "a" / "b" / "c").mkdir(parents=True)
        (self.jail / "x").mkdir()
        with paramiko_client(self.sshd) as mover, paramiko_client(self.sshd) as client:

            def change() -> None:
                mover.posix_rename("/a/b", "/x/b")
                mover.posix_rename("/x/b", "/a/b")

            with self.meanwhile(change):
                for _ in range(self.ROUNDS):
                    for path in (f"/a/b/c/{UP}{self.outside}", f"/x/b/c/../../../../{self.outside.name}"):
                        outcome(client.listdir, path)
                        outcome(client.open, f"{path}/secret", "r")

    def test_a_handle_stays_on_its_file_and_its_directory(self) -> None:
        for number in range(300):
            (self.jail / "inside" / f"{number}").touch()
        with paramiko_client(self.sshd) as client, client.open("/inside/file", "r+") as file:
            listing = client.listdir_iter("/inside", read_aheads=1)
            first = next(listing).filename
            (self.jail / "inside").rename(self.jail / "moved")
            (self.jail / "inside").symlink_to(self.outside)
            (self.outside / "file").write_text(SECRET)
            self.assertEqual(file.read(), b"inside")
            file.seek(0)
            file.write("INSIDE")
            names = {first, *(entry.filename for entry in listing)}
        self.assertEqual((self.jail / "moved" / "file").read_text(), "INSIDE")
        self.assertEqual((self.outside / "file").read_text(), SECRET)
        self.assertEqual(names, {"deep", "file", *map(str, range(300))})

    def try_all_the_time(self, directory: str, change: Callable[[], None]) -> set[bytes]:
        """Read, write, list and make in a directory while it changes; return what was read."""
        reads: set[bytes] = set()
        with self.meanwhile(change), paramiko_client(self.sshd) as client:

            def read() -> set[bytes]:
                with contextlib.suppress(OSError), client.open(f"{directory}/secret") as file:
                    reads.add(file.read())
                return reads

            for number in range(self.ROUNDS):
                read()
                with contextlib.suppress(OSError), client.open(f"{directory}/{number}", "w") as file:
                    file.write("new")
                with contextlib.suppress(OSError):
                    self.assertNotIn("directory", client.listdir(directory))
                with contextlib.suppress(OSError):
                    client.mkdir(f"{directory}/made {number}")
                with contextlib.suppress(OSError):
                    client.rename(f"{directory}/{number}", f"{directory}/{number} moved")
            return until(read, "a moment in which the directory was one is met")
