"""The jail holds, by openat2 and by the walk: what the storage contract does not say about it.

Every test of Containment is run for both ways. The directory around each jail has a secret in it; its
size, its content and its name must not come out, and nothing around the jail may change.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver import virtualchroot
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import status_of
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.hard import IS_HARD
from tests.support.processes import open_descriptors

SECRET = b"the host's secret " * 97  # 1746 bytes: no other file of these tests has that size
Outcome = tuple[str, Any]


def snapshot(top: Path, without: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree but for one directory in it."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if Path(directory, name) != without]
        for name in [*names, *files, "."]:
            path = Path(directory, name)
            st = os.lstat(path)
            content = path.read_bytes() if stat.S_ISREG(st.st_mode) else None
            times = None if stat.S_ISDIR(st.st_mode) and path.samefile(top) else st.st_mtime_ns
            found[str(path)] = (st.st_mode, st.st_size, st.st_uid, st.st_nlink, times, content)
    return found


class Jail(unittest.TestCase):
    """A directory `around` with a secret, and the jail in it."""

    def setUp(self) -> None:
        holder = self.enterContext(tempfile.TemporaryDirectory())
        self.around = Path(holder, "around")
        self.root = self.around / "jail"
        self.root.mkdir(parents=True)
        (self.around / "secret").write_bytes(SECRET)
        (self.around / "secrets").mkdir()
        (self.around / "secrets" / "f").write_bytes(SECRET)
        (self.root / "f").write_bytes(b"inside")
        (self.root / "d").mkdir()
        (self.root / "d" / "f").write_bytes(b"below")

    def jail(self, **options: Any) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(self.root, **options)


class Containment:
    """The tests; the classes below say which way paths are resolved."""

    use_openat2: bool

    def make(self: Any, root: Any = None, **options: Any) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(root or self.root, use_openat2=self.use_openat2, **options)

    def content(self, jail: SFTPServerVirtualChroot, path: bytes) -> bytes:
        handle = jail.open(path, os.O_RDONLY, 0)
        try:
            return jail.read(handle, 0, 1 << 20)
        finally:
            jail.close(handle)

    # --- ways out ---------------------------------------------------------------------------------

    def ways_out(self: Any) -> list[tuple[bytes, bytes]]:
        """Pairs of paths: to something outside that is there, and to something that is not."""
        around = os.fsencode(self.around)
        for kind, name in (("there", "secret"), ("gone", "nothing")):
            (self.root / f"absolute-{kind}").symlink_to(self.around / name)
            (self.root / f"relative-{kind}").symlink_to(f"../{name}")
            (self.root / "d" / f"deep-{kind}").symlink_to(f"../../{name}")
            (self.root / f"magic-{kind}").symlink_to(f"/proc/self/root{self.around / name}")
            (self.root / f"cwd-{kind}").symlink_to(f"/proc/self/cwd/{name}")
            (self.root / f"chain-{kind}").symlink_to(f"d/deep-{kind}")
            (self.root / f"dir-{kind}").symlink_to(self.around / (name + "s"))
            (self.root / f"updir-{kind}").symlink_to(f"../{name}s")
        (self.root / "up").symlink_to("..")
        (self.root / "top").symlink_to("/")
        (self.root / "root").symlink_to("/proc/self/root")
        (self.root / "host").symlink_to(self.around)
        paths = [
            *(
                b"/" + link + b"-%s"
                for link in (b"absolute", b"relative", b"d/deep", b"magic", b"chain", b"cwd")
            ),
            *(b"/" + link + b"-%s/f" for link in (b"dir", b"updir")),
            *(b"/" + link + b"-%s/../%s" for link in (b"dir", b"updir")),
        ]
        pairs = [(path.replace(b"%s", b"there"), path.replace(b"%s", b"gone")) for path in paths]
        outside = [
            b"/../secret",
            b"../secret",
            b"d/../../secret",
            b"/d/./..//../secret",
            b"/../../../../../../.." + around + b"/secret",
            around + b"/secret",
            b"/up/secret",
            b"/up/up/d/../up/secret",
            b"/top/../secret",
            b"/host/secret",
            b"/root" + around + b"/secret",
            b"/proc/self/root" + around + b"/secret",
        ]
        pairs += [(path, path.replace(b"secret", b"nothing")) for path in outside]
        return [*pairs, *((there + b"/", gone + b"/") for there, gone in pairs)]

    def operations(self, jail: SFTPServerVirtualChroot) -> Iterator[tuple[str, Callable[[bytes], Any]]]:
        """Everything that can be done to a path, by name."""
        attrs = SFTPAttributes(size=0, permissions=0o604, atime=1, mtime=1)
        times = SFTPAttributes(atime=1, mtime=1)

        def opened(flags: int) -> Callable[[bytes], Any]:
            def run(path: bytes) -> Any:
                handle = jail.open(path, flags, 0o666)
                try:
                    return jail.fstat(handle).size, jail.read(handle, 0, 4096)
                finally:
                    jail.close(handle)

            return run

        yield "stat", lambda path: jail.stat(path).size
        yield "open to read", opened(os.O_RDONLY)
        yield "open to write", opened(os.O_RDWR)
        yield "open to empty", opened(os.O_RDWR | os.O_TRUNC)
        yield "list", lambda path: sorted(name for name, _ in jail.opendir(path))
        yield "setstat", lambda path: jail.setstat(path, attrs)
        yield "statvfs", lambda path: jail.statvfs(path).f_namemax
        yield "link to", lambda path: jail.link(path + b"/f", b"/new-link")
        yield "rename below", lambda path: jail.rename(path + b"/f", b"/new-name")
        yield "replace below", lambda path: jail.rename(b"/f", path + b"/f", True)
        yield "remove below", lambda path: jail.rm(path + b"/f")
        yield "make below", lambda path: jail.mkdir(path + b"/new", 0o777)
        yield "link below", lambda path: jail.symlink(path + b"/new", b"x")
        yield "lsetstat", lambda path: jail.lsetstat(path, times)
        yield "remove directory", lambda path: jail.rmdir(path)

    def outcome(self: Any, run: Callable[[bytes], Any], path: bytes) -> Outcome:
        try:
            return "returned", run(path)
        except OSError as error:
            _, message = status_of(error)
            self.assertNotIn(os.fsencode(self.around), message)
            return "raised", error.errno

    def test_what_is_outside_is_not_even_told_to_exist(self: Any) -> None:
        jail = self.make()
        ways = self.ways_out()
        before = snapshot(self.around, self.root)
        for name, run in self.operations(jail):
            for there, gone in ways:
                with self.subTest(name, path=there):
                    outcome = self.outcome(run, there)
                    self.assertEqual(outcome, self.outcome(run, gone), "existing and not look different")
                    self.assertNotIn(outcome[1], (len(SECRET), (len(SECRET), SECRET)))
        self.assertEqual(snapshot(self.around, self.root), before)

    def test_nothing_is_made_outside(self: Any) -> None:
        jail = self.make()
        ways = self.ways_out()
        before = snapshot(self.around, self.root)
        attempts: list[Callable[[bytes], Any]] = [
            lambda path: jail.close(jail.open(path, os.O_WRONLY | os.O_CREAT, 0o666)),
            lambda path: jail.close(jail.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)),
            lambda path: jail.mkdir(path, 0o777),
            lambda path: jail.symlink(path, b"x"),
            lambda path: jail.link(b"/f", path),
            lambda path: jail.rename(b"/f", path),
            lambda path: jail.link(path, b"/taken"),
            lambda path: jail.rename(path, b"/moved"),
            lambda path: jail.rename(path, b"/moved", True),
            lambda path: jail.rename(b"/d", path, True),
            lambda path: jail.rmdir(path),
            lambda path: jail.rm(path),
        ]
        for attempt in attempts:
            for pair in ways:
                for path in pair:
                    self.outcome(attempt, path)
        self.assertEqual(snapshot(self.around, self.root), before)
        for directory, _, files in os.walk(self.root):
            for file in files:
                path = Path(directory, file)
                if not path.is_symlink():
                    self.assertNotEqual(path.stat().st_size, len(SECRET), path)

    def test_realpath_and_readlink_tell_only_what_the_jail_holds(self: Any) -> None:
        jail = self.make()
        self.ways_out()
        self.assertEqual(jail.realpath(b"/up/up/../d/../f"), b"/f")
        self.assertEqual(jail.realpath(b"/top/d/../../.."), b"/")
        self.assertEqual(jail.realpath(b"/relative-there"), b"/secret")
        self.assertEqual(jail.readlink(b"/relative-there"), b"../secret")

    # --- what works inside ------------------------------------------------------------------------

    def test_dots_at_the_top_stay_at_the_top(self: Any) -> None:
        jail = self.make()
        for path in (b"/../f", b"/../../f", b"..//f", b"/d/../../f", b"/./../d/../f", b"/d/../../d/../f"):
            self.assertEqual(self.content(jail, path), b"inside", path)
        for path in (b"/", b"/..", b"/../..", b"/d/../..", b"..", b"."):
            self.assertEqual(sorted(name for name, _ in jail.opendir(path)), [b".", b"..", b"d", b"f"], path)

    def test_absolute_links_are_relative_to_the_root_of_the_jail(self: Any) -> None:
        (self.root / "d" / "link").symlink_to("/f")
        (self.root / "d" / "up").symlink_to("../../../../f")
        jail = self.make()
        self.assertEqual(self.content(jail, b"/d/link"), b"inside")
        self.assertEqual(self.content(jail, b"/d/up"), b"inside")

    def test_the_parent_of_the_root_looks_like_the_root(self: Any) -> None:
        os.chmod(self.around, 0o711)
        os.chmod(self.root, 0o750)
        for path in (b"/", b"/..", b"/d/.."):
            entries = dict(self.make().opendir(path))
            self.assertEqual(entries[b".."].permissions, entries[b"."].permissions)
            root = self.make().stat(b"/")
            root.atime = entries[b".."].atime  # the listing was a use, perhaps of the next second
            self.assertEqual(entries[b".."], root)

    def test_a_hard_link_of_a_file_outside_is_a_file_of_the_jail(self: Any) -> None:
        os.link(self.around / "secret", self.root / "shared")
        jail = self.make()
        self.assertEqual(self.content(jail, b"/shared"), SECRET)
        jail.rm(b"/shared")
        self.assertEqual((self.around / "secret").read_bytes(), SECRET)

    def test_a_slash_behind_a_link_asks_for_the_directory_it_leads_to(self: Any) -> None:
        (self.root / "to-d").symlink_to("d")
        (self.root / "to-f").symlink_to("f")
        jail = self.make()
        self.assertTrue(stat.S_ISDIR(jail.lstat(b"/to-d/").permissions))
        self.assertTrue(stat.S_ISLNK(jail.lstat(b"/to-d").permissions))
        for call in (jail.lstat, jail.stat, jail.rm, jail.rmdir, jail.readlink):
            with self.assertRaises(OSError, msg=call) as raised:
                call(b"/to-f/")
            self.assertEqual(raised.exception.errno, errno.ENOTDIR, call)
        for call in (jail.rm, jail.rmdir):
            with self.assertRaises(OSError):
                call(b"/to-d/")
        self.assertTrue((self.root / "d" / "f").exists())
        self.assertTrue((self.root / "to-d").is_symlink())

    # --- /proc ------------------------------------------------------------------------------------

    def test_magic_links_of_proc_lead_nowhere_and_tell_nothing(self: Any) -> None:
        jail = self.make("/proc")
        descriptor = os.open(self.around / "secret", os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        own = b"/%d" % os.getpid()
        links = [own + b"/root", own + b"/cwd", own + b"/exe", own + b"/fd/%d" % descriptor, own + b"/ns/mnt"]
        for link in [*links, b"/self/root", b"/thread-self/root"]:
            paths = [link, link + b"/", link + b"/..", link + b"/etc", link + os.fsencode(self.around)]
            for path in paths:
                with self.subTest(path):
                    for call in (jail.stat, jail.opendir, jail.statvfs):
                        with self.assertRaises(OSError):
                            call(path)
                    with self.assertRaises(OSError):
                        jail.close(jail.open(path, os.O_RDONLY, 0))
                    with self.assertRaises(OSError):
                        jail.setstat(path, SFTPAttributes(atime=1, mtime=1))
            for ask in (jail.readlink, jail.realpath):
                with self.assertRaises(OSError, msg=(ask, link)) as raised:
                    ask(link)
                self.assertEqual(raised.exception.errno, errno.EACCES)
            try:
                jail.lsetstat(link, SFTPAttributes(permissions=0o606, atime=1, mtime=1))
            except OSError:
                pass
        st = os.stat(self.around / "secret")
        self.assertNotEqual(st.st_mode & 0o7777, 0o606)
        self.assertNotEqual(st.st_mtime, 1)

    def test_files_of_proc_are_seen_and_neither_opened_nor_listed(self: Any) -> None:
        # /proc/self/mem of the server is a way to run code; its environ and mountinfo tell host paths.
        jail = self.make("/proc")
        own = b"/%d" % os.getpid()
        for path in (own + b"/status", own + b"/mem", own + b"/environ", own + b"/mountinfo", b"/uptime"):
            with self.subTest(path):
                self.assertTrue(jail.stat(path).permissions)
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    with self.assertRaises(PermissionError):
                        jail.open(path, flags, 0)
        for path in (b"/", own, b"/self"):
            with self.assertRaises(PermissionError):
                jail.opendir(path)

    def test_files_of_a_proc_mounted_below_the_root_are_not_opened_first_or_later(self: Any) -> None:
        link = self.root / "link"
        link.symlink_to("/proc/uptime")
        jail = self.make("/")  # whatever is mounted on this machine is mounted inside
        for _ in range(2):  # the first look at another mount, and one when that is known
            for path in (b"/proc/uptime", b"/dev/../proc/self/environ", os.fsencode(link)):
                with self.subTest(path), self.assertRaises(PermissionError):
                    jail.open(path, os.O_RDONLY, 0)
            with self.assertRaises(PermissionError):
                jail.opendir(b"/proc")
            for path in (
                os.fsencode(Path(__file__).resolve()),
                b"/dev/null",
            ):  # what is on other mounts is there
                jail.close(jail.open(path, os.O_RDONLY, 0))
            self.assertTrue(jail.stat(b"/proc/uptime").permissions)

    # --- while others move things -----------------------------------------------------------------

    def test_a_directory_moved_out_of_the_jail_is_gone_from_it(self: Any) -> None:
        jail = self.make()
        listing = jail.opendir(b"/d")
        handle = jail.open(b"/d/f", os.O_RDONLY, 0)
        (self.root / "d").rename(self.around / "moved")
        self.assertEqual(sorted(name for name, _ in listing), [b".", b"..", b"f"])
        self.assertEqual(jail.read(handle, 0, 100), b"below")
        jail.close(handle)
        for path in (b"/d", b"/d/f", b"/d/..", b"/d/../secret"):
            with self.assertRaises(FileNotFoundError):
                jail.stat(path)

    def test_swapping_a_directory_for_a_link_opens_no_way_out(self: Any) -> None:
        (self.root / "link").symlink_to("../secrets")
        (self.root / "outlink").symlink_to(self.around / "secrets")
        jail = self.make()
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for link in ("link", "outlink"):
                    os.rename(self.root / "d", self.root / "aside")
                    os.rename(self.root / link, self.root / "d")
                    os.rename(self.root / "d", self.root / link)
                    os.rename(self.root / "aside", self.around / "aside")  # and out of the jail
                    os.rename(self.around / "aside", self.root / "d")

        thread = threading.Thread(target=swap)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        seen = set()
        for _ in range(3_000):
            for path in (b"/d/f", b"/d/../d/f", b"/d/../secret", b"/aside/../secret", b"/d/../../secrets/f"):
                try:
                    seen.add(self.content(jail, path))
                except OSError:
                    continue
                finally:
                    self.assertNotIn(SECRET, seen, path)

    # --- the process ------------------------------------------------------------------------------

    def test_the_working_directory_is_neither_changed_nor_used(self: Any) -> None:
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.around)
        jail = self.make("jail")
        os.chdir("/")
        self.assertEqual(self.content(jail, b"f"), b"inside")
        self.assertEqual(self.content(jail, b"d/f"), b"below")
        jail.mkdir(b"new", 0o777)
        self.assertTrue((self.root / "new").is_dir())
        self.assertEqual(os.getcwd(), "/")

    def test_opens_and_closes_and_errors_leak_no_descriptor(self: Any) -> None:
        self.ways_out()
        jail = self.make()
        paths = [b"/f", b"/d/f", b"/d/../f", b"/d", b"/missing", b"/missing/f", b"/f/below", b"/up/f"]
        paths += [b"/absolute-gone", b"/chain-there", b"", b"/d/", b"/f/"]
        before = open_descriptors()
        for _ in range(300):
            for path in paths:
                try:
                    jail.close(jail.open(path, os.O_RDONLY, 0))
                    jail.opendir(path).close()
                except OSError:
                    pass
        for _ in range(300):
            next(listing := jail.opendir(b"/d"))
            listing.close()
        self.assertLessEqual(open_descriptors(), before)
        for _, run in self.operations(jail):
            for path in paths[4:] * 30:
                self.outcome(run, path)
        self.assertLessEqual(open_descriptors(), before)

    def test_thousands_of_opens_and_closes_leave_the_descriptors_as_they_were(self: Any) -> None:
        jail = self.make()
        before = open_descriptors()
        for _ in range(50_000 if IS_HARD else 3_000):
            jail.close(jail.open(b"/d/f", os.O_RDONLY, 0))
        self.assertLessEqual(open_descriptors(), before)

    def test_a_jail_that_is_gone_leaves_no_descriptor(self: Any) -> None:
        before = open_descriptors()
        for _ in range(50):
            listing = self.make().opendir(b"/d")
            next(listing)
            del listing
        self.assertLessEqual(open_descriptors(), before)


class ContainmentByOpenat2(Containment, Jail):
    use_openat2 = True


class ContainmentByTheWalk(Containment, Jail):
    use_openat2 = False

    def test_a_link_that_appears_after_the_look_is_an_error(self) -> None:
        jail = self.make()
        look = virtualchroot._link_text

        def swapping(directory: int, name: bytes) -> bytes | None:
            text = look(directory, name)
            (self.root / "d").rename(self.root / "aside")
            (self.root / "d").symlink_to(self.around / "secrets")
            return text

        for operation in (jail.stat, lambda path: jail.open(path, os.O_RDONLY, 0), jail.opendir):
            with mock.patch.object(virtualchroot, "_link_text", swapping):
                with self.assertRaises(OSError, msg=operation):
                    operation(b"/d")
            (self.root / "d").unlink()
            (self.root / "aside").rename(self.root / "d")
        self.assertEqual((self.around / "secrets" / "f").read_bytes(), SECRET)

    def test_a_link_that_appears_before_any_step_on_the_way_leads_nowhere(self) -> None:
        for directory, content in ((self.root / "d", b"deep"), (self.around / "secrets", SECRET)):
            (directory / "e").mkdir()
            (directory / "e" / "f").write_bytes(content)
        (self.root / "way").symlink_to("d/e")
        jail = self.make()
        for path in (b"/d/e/f", b"/d/e/../f", b"/way/f", b"/way/../e/f"):
            has_more, step = True, 0
            while has_more:
                calls = itertools.count()

                def swapping(call: Callable[..., Any], *words: Any, **named: Any) -> Any:
                    if next(calls) == step:  # noqa: B023
                        (self.root / "d").rename(self.root / "aside")
                        (self.root / "d").symlink_to(self.around / "secrets")
                    return call(*words, **named)

                with contextlib.ExitStack() as patches, contextlib.suppress(OSError):
                    for name in ("open", "readlink"):
                        own = partial(swapping, getattr(os, name))
                        patches.enter_context(mock.patch.object(os, name, own))
                    self.assertNotEqual(self.content(jail, path), SECRET, (path, step))
                has_more = (self.root / "aside").exists()
                if has_more:
                    (self.root / "d").unlink()
                    (self.root / "aside").rename(self.root / "d")
                    step += 1
            self.assertGreater(step, 3)

    def test_a_link_on_the_way_that_becomes_a_directory_is_an_error(self) -> None:
        jail = self.make()
        (self.root / "way").symlink_to(self.around / "secrets")
        look = virtualchroot._link_text

        def swapping(directory: int, name: bytes) -> bytes | None:
            (self.root / "way").unlink()
            (self.root / "way").mkdir()
            return look(directory, name)

        with mock.patch.object(virtualchroot, "_link_text", swapping):
            self.assertRaises(NotADirectoryError, jail.stat, b"/way/f")


class Creation(Jail):
    def test_a_jail_needs_a_directory(self) -> None:
        with self.assertRaises(FileNotFoundError):
            SFTPServerVirtualChroot(self.root / "missing")
        with self.assertRaises(NotADirectoryError):
            SFTPServerVirtualChroot(self.root / "f")

    def test_without_openat2_paths_are_walked_and_whoever_insists_is_told(self) -> None:
        with mock.patch.object(virtualchroot, "has_openat2", return_value=False):
            with mock.patch.object(virtualchroot, "openat2", side_effect=AssertionError("not there")):
                self.assertEqual(self.jail().stat(b"/d/f").size, 5)
                with self.assertRaises(OSError) as raised:
                    self.jail(use_openat2=True)
        self.assertEqual(raised.exception.errno, errno.ENOSYS)

    def test_with_openat2_nothing_is_walked(self) -> None:
        with mock.patch.object(virtualchroot, "walk", side_effect=AssertionError("walked")):
            self.assertEqual(self.jail().stat(b"/d/f").size, 5)

    def test_jails_in_one_process_do_not_know_each_other(self) -> None:
        outer = SFTPServerVirtualChroot(self.around, home=b"/secrets")
        inner = self.jail(home=b"/d/..")
        self.assertEqual((outer.home, inner.home), (b"/secrets", b"/"))
        self.assertEqual(outer.stat(b"/jail/d/f").size, 5)
        with self.assertRaises(FileNotFoundError):
            inner.stat(b"/jail/d/f")

    def test_only_the_user_of_the_session_has_a_home_in_the_jail(self) -> None:
        jail = self.jail(home=b"/d")
        self.assertEqual(jail.userhome(b""), b"/d")
        self.assertEqual(jail.userhome(jail.username(os.getuid()) or b""), b"/d")
        with self.assertRaisesRegex(Exception, "No such user"):
            jail.userhome(b"daemon" if os.getuid() == 0 else b"root")
