"""The other commands of sftp(1), OpenSSH's own client; and the options of the two servers."""

from __future__ import annotations

import os
import re
import time

from tests.integration import material
from tests.integration.clients import LONGNAME
from tests.integration.harness import ServedCase
from tests.integration.material import LONG_AGO, MIB, Material, permissions
from tests.integration.sshd import Way
from tests.support.processes import command, require


def setUpModule() -> None:
    require("sftp")


def quoted(name: bytes) -> bytes:
    """Quote a name, which holds no newline, for sftp's command line and its globbing."""
    return re.sub(rb"([^\w./\x80-\xff-])", rb"\\\1", name)


class TestLs(ServedCase):
    def setUp(self) -> None:
        super().setUp()
        for name, size, age in (("b", 300, 3), ("a", 100, 1), ("c", 1_572_864, 2)):
            with (self.jail / name).open("wb") as file:
                file.truncate(size)
            os.utime(self.jail / name, (LONG_AGO - age * 3600,) * 2)
        (self.jail / ".hidden").touch()
        (self.jail / "d").mkdir()
        os.utime(self.jail / "d", (LONG_AGO - 4 * 3600,) * 2)

    def test_ls_shows_the_names_in_columns(self) -> None:
        self.assertEqual(self.sftp("ls").out.split("\n", 1)[1].split(), ["a", "b", "c", "d"])

    def test_ls_sorts_shows_hidden_names_and_takes_paths_and_globs(self) -> None:
        (self.jail / "d" / "x").touch()
        (self.jail / "empty").mkdir()
        expected = {
            "ls -1": ["a", "b", "c", "d", "empty"],
            "ls -1r": ["empty", "d", "c", "b", "a"],
            "ls -1a": [".", "..", ".hidden", "a", "b", "c", "d", "empty"],
            "ls -1S [abc]": ["c", "b", "a"],
            "ls -1t [abc]": ["a", "c", "b"],
            "ls -1 d": ["d/x"],
            "ls -1 /d": ["/d/x"],
            "ls -1 [ab]": ["a", "b"],
            "ls -1 d/*": ["d/x"],
            "ls -1 [!de]": ["a", "b", "c"],
            "ls -1 empty": [],
        }
        *answers, unsorted, people = self.sftp(*expected, "ls -1f", "ls -lh c").answers
        self.assertEqual(dict(zip(expected, answers, strict=True)), expected)
        self.assertEqual(set(unsorted), {"a", "b", "c", "d", "empty"})
        self.assertRegex(people[0], r" 1\.5MB? ")

    def test_ls_l_shows_what_ls_does(self) -> None:
        os.chmod(self.jail / "a", 0o640)
        now = time.time()
        os.utime(self.jail / "b", (now, now))
        (self.jail / "link").symlink_to("a")
        lines = self.sftp("ls -l").lines
        longnames = {}
        for line in lines:
            match = LONGNAME.fullmatch(line)
            assert match is not None, line
            longnames[match["name"]] = match
        self.assertEqual(longnames["a"]["mode"], "-rw-r-----")
        self.assertEqual(longnames["a"]["size"], "100")
        self.assertEqual(longnames["a"]["date"], "Sep  9  2001")
        self.assertRegex(longnames["b"]["date"], r"\d\d:\d\d$")
        self.assertEqual(longnames["d"]["mode"][0], "d")
        self.assertEqual(longnames["link"]["mode"], "lrwxrwxrwx")

    def test_ls_ln_shows_the_owner_s_numbers(self) -> None:
        # The client asks its own host for names, so only a number without a name stays one.
        uid = 2_000_000_001 if os.geteuid() == 0 else os.getuid()
        os.chown(self.jail / "a", uid, -1)
        match = LONGNAME.fullmatch(self.sftp("ls -ln a").lines[0])
        assert match is not None
        self.assertIn(match["user"], (str(uid), self.sshd.user))

    def test_ls_of_a_missing_path_says_so(self) -> None:
        self.assertIn('Can\'t ls: "/missing" not found', self.sftp("ls missing", status=1).err)

    def test_ls_of_thousands_of_entries_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 1500)
        _, short, long = self.sftp("cd many", "ls -1", "ls -l").answers
        self.assertEqual(short, names)
        self.assertEqual(len(long), 1500)


class TestChangingTheTree(ServedCase):
    def test_mkdir_rmdir_rm_rename_ln_and_symlink(self) -> None:
        for name in ("a1", "a2", "f"):
            (self.jail / name).write_text(name)
        self.sftp(
            *("mkdir d", "mkdir d/e", "mkdir d/f", "rmdir d/f", "rm a*", "mkdir other", "rename d other/d2"),
            *("ln f g", "ln -s ../f other/relative", "symlink /d/f absolute", "ln -s nowhere dangling"),
        )
        self.assertEqual(set(os.listdir(self.jail)), {"absolute", "dangling", "f", "g", "other"})
        self.assertEqual(os.listdir(self.jail / "other" / "d2"), ["e"])
        self.assertTrue((self.jail / "f").samefile(self.jail / "g"))
        targets = {"other/relative": "../f", "absolute": "/d/f", "dangling": "nowhere"}
        self.assertEqual({name: os.readlink(self.jail / name) for name in targets}, targets)

    def test_chmod_follows_links_and_takes_globs_and_chmod_h_does_not_follow(self) -> None:
        for name in ("f1", "f2", "g"):
            (self.jail / name).touch(0o644)
        (self.jail / "link").symlink_to("f1")
        # Linux has no modes on links: the last attempt fails, and must not fall through to the file.
        self.sftp("chmod 0600 f*", "chmod 751 link", "chmod -h 0640 g", "chmod -h 0600 link", status=1)
        modes = {name: permissions(self.jail / name) for name in ("f1", "f2", "g")}
        self.assertEqual(modes, {"f1": 0o751, "f2": 0o600, "g": 0o640})

    def test_chown_and_chgrp_change_the_owner_and_with_h_that_of_the_link_itself(self) -> None:
        uid, gid = (12345, 23456) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        for name in ("f", "g"):
            (self.jail / name).touch()
        (self.jail / "link").symlink_to("g")
        before = (self.jail / "g").stat()
        self.sftp(f"chown {uid} f", f"chgrp {gid} f", f"chown -h {uid} link", f"chgrp -h {gid} link")
        for name, owner in (("f", (uid, gid)), ("link", (uid, gid)), ("g", (before.st_uid, before.st_gid))):
            status = (self.jail / name).lstat()
            self.assertEqual((status.st_uid, status.st_gid), owner, name)

    def test_mkdir_and_rmdir_report_what_is_in_the_way(self) -> None:
        (self.jail / "d" / "full").mkdir(parents=True)
        (self.jail / "f").touch()
        reports = {
            "mkdir d": 'remote mkdir "/d": Failure',
            "mkdir f": 'remote mkdir "/f": Failure',
            "mkdir missing/d": 'remote mkdir "/missing/d": No such file or directory',
            "rmdir d": 'remote rmdir "/d": Failure',
            "rmdir missing": 'remote rmdir "/missing": No such file or directory',
            "rm d": "remote delete /d: Failure",
            "rm missing": "remote delete /missing: No such file or directory",
        }
        run = self.sftp(*(f"-{line}" for line in reports))
        # The case of the messages changed between releases of the client.
        self.assertEqual(run.err.casefold().splitlines(), [r.casefold() for r in reports.values()])

    def test_rename_replaces_and_rename_l_does_not(self) -> None:
        (self.jail / "a").write_text("a")
        (self.jail / "b").write_text("b")
        run = self.sftp("-rename -l a b", "ls -1", "rename a b", "rename -l b c")
        self.assertIn("Failure", run.err)
        self.assertEqual(run.answers[1], ["a", "b"])
        self.assertEqual((self.jail / "c").read_text(), "a")
        self.assertEqual(os.listdir(self.jail), ["c"])

    def test_ln_s_refuses_a_name_that_is_taken(self) -> None:
        (self.jail / "f").touch()
        self.sftp("ln -s x f", status=1)
        self.assertFalse((self.jail / "f").is_symlink())

    def test_cp_and_copy_copy_on_the_server(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(2 * MIB + 1))
        os.chmod(self.jail / "f", 0o640)
        (self.jail / "longer").write_bytes(b"#" * (3 * MIB))
        self.sftp("cp f g", "copy f /longer")
        for name in ("g", "longer"):
            self.assertEqual((self.jail / name).read_bytes(), (self.jail / "f").read_bytes(), data.seed)
        self.assertEqual(os.listdir(self.local), [])


class TestAsking(ServedCase):
    def test_pwd_starts_at_the_top_and_cd_moves(self) -> None:
        (self.jail / "d" / "e").mkdir(parents=True)
        run = self.sftp("pwd", "cd d", "cd e", "pwd", "cd ..", "pwd", "cd", "pwd")
        self.assertEqual(
            run.lines, [f"Remote working directory: {path}" for path in ("/", "/d/e", "/d", "/")]
        )

    def test_cd_into_nothing_or_a_file_fails(self) -> None:
        (self.jail / "f").touch()
        run = self.sftp("-cd missing", "-cd f", "pwd")
        self.assertEqual(len(run.err.splitlines()), 2, run)
        self.assertEqual(run.lines, ["Remote working directory: /"])

    def test_df_shows_the_file_system_of_the_jail(self) -> None:
        status = os.statvfs(self.jail)
        answers = self.sftp("df", "df -i", "df -h", "df /").answers
        kib, inodes, people, path = (lines[1].split() for lines in answers)
        self.assertEqual(int(kib[0]), status.f_blocks * status.f_frsize // 1024)
        self.assertEqual(int(inodes[0]), status.f_files)
        self.assertRegex(people[0], r"^[\d.]+[KMGTPE]?B?$")
        self.assertEqual(path[0], kib[0])

    def test_version_is_3(self) -> None:
        self.assertEqual(self.sftp("version").lines, ["SFTP protocol version 3"])

    def test_progress_help_and_the_three_ways_to_leave(self) -> None:
        progress, words, sign = self.sftp("progress", "help", "?").answers
        self.assertEqual(progress, ["Progress meter enabled"])
        self.assertEqual(words, sign)
        self.assertTrue(words)
        for line in ("bye", "exit", "quit"):
            self.assertEqual(self.sftp(line, "mkdir never").lines, [])
        self.assertEqual(os.listdir(self.jail), [])

    def test_the_local_commands_work_beside_the_remote_ones(self) -> None:
        (self.jail / "f").touch()
        os.chmod(self.jail / "f", 0o666)
        run = self.sftp("lmkdir l", "lcd l", "lpwd", "lumask 077", "get f", "lls", "!echo a shell", "lcd ..")
        self.assertEqual(
            run.lines,
            [
                f"Local working directory: {self.local / 'l'}",
                "Local umask: 077",
                "f",
                "a shell",
            ],
        )
        self.assertEqual(permissions(self.local / "l" / "f"), 0o600)


class TestBatches(ServedCase):
    def test_a_batch_file_is_run_and_stops_at_the_first_error(self) -> None:
        batch = self.place / "batch"
        batch.write_text("mkdir one\n-mkdir one\n@mkdir two\n# a comment\nmkdir two\nmkdir three\n")
        run = self.client(["sftp", "-F", self.sshd.ssh_config, "-b", batch, "server"], status=1)
        self.assertEqual(sorted(os.listdir(self.jail)), ["one", "two"])
        self.assertNotIn("sftp> @mkdir", run.out)

    def test_flags_of_the_command_line_hold_for_the_batch(self) -> None:
        data = Material()
        data.tree(self.jail / "tree")
        (self.jail / "tree" / "f" / "new").write_bytes(data.bytes(100_000))
        os.utime(self.jail / "tree" / "f" / "new", (LONG_AGO, LONG_AGO))
        (self.local / "tree" / "f").mkdir(parents=True)
        (self.local / "tree" / "f" / "new").write_bytes(b"")
        self.sftp("get tree", flags=["-r", "-p", "-a", "-f"])
        material.assert_same_trees(self, self.jail, self.local, data.seed)
        self.assertEqual((self.local / "tree" / "f" / "new").stat().st_mtime, LONG_AGO)


class TestNames(ServedCase):
    def test_any_name_survives_put_and_get_of_a_tree(self) -> None:
        material.awkward_files(self.local / "names")
        self.sftp("put -r names", "get -r names back")
        material.assert_both_ways(self, "names")

    def test_names_that_can_be_typed_work_in_every_command(self) -> None:
        material.awkward_files(self.local, material.PRINTABLE_NAMES)
        lines = []
        for number, name in enumerate(material.PRINTABLE_NAMES):
            typed = b"./" + quoted(name)
            lines += [
                b"put " + typed,
                b"get %s copy%d" % (typed, number),
                b"rename " + typed + b" moved",
                b"rename moved " + typed,
                b"ln %s hard%d" % (typed, number),
                b"chmod 600 " + typed,
                b"ls -l " + typed,
                b"rm " + typed,
                b"mkdir " + typed,
                b"cd " + typed,
                b"cd /",
            ]
        self.sftp(*lines)
        for number, name in enumerate(material.PRINTABLE_NAMES):
            self.assertEqual((self.local / f"copy{number}").read_bytes(), b"I am " + name)
            self.assertEqual((self.jail / f"hard{number}").read_bytes(), b"I am " + name)
            self.assertTrue(os.path.isdir(os.path.join(os.fsencode(self.jail), name)), name)

    def test_names_that_cannot_be_typed_are_reached_by_globs(self) -> None:
        names = dict(enumerate(material.UNPRINTABLE_NAMES))
        for number, name in names.items():
            material.awkward_files(self.jail / str(number), [name])
        commands = ("get {0}/* copy{0}", "chmod 600 {0}/*", "ls -l {0}", "rm {0}/*", "rmdir {0}")
        self.sftp(*(command.format(number) for number in names for command in commands))
        for number, name in names.items():
            self.assertEqual((self.local / f"copy{number}").read_bytes(), b"I am " + name)
        self.assertEqual(os.listdir(self.jail), [])

    def test_a_name_of_256_bytes_is_refused_and_the_session_goes_on(self) -> None:
        self.sftp("-mkdir " + "n" * 256, "mkdir after")
        self.assertEqual(os.listdir(self.jail), ["after"])


class TestOptionsOfTheJail(ServedCase):
    def test_read_only_lets_read_and_refuses_to_write(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "f").write_text("content")
        (self.local / "new").touch()
        before = material.snapshot(self.jail)
        self.serve(self.jail_command("-R"))
        self.sftp("get f", "ls -l", "cd d", "df")
        self.assertEqual((self.local / "f").read_text(), "content")
        lines = "put new; put new f; mkdir e; rmdir d; rm f; rename f g; rename -l f g; ln f g; ln -s f g; "
        lines = (lines + "chmod 777 f; chmod -h 777 f; chown 1 f; cp f g").split("; ")
        errors = self.sftp(*(f"-{line}" for line in lines)).err.splitlines()
        self.assertEqual(len(errors), len(lines), errors)
        for line, error in zip(lines, errors, strict=True):
            # The extensions that write are not announced, as sftp-server -R does.
            self.assertRegex(error.casefold(), "permission denied|does not support", line)
        self.assertEqual(material.snapshot(self.jail), before)

    def test_the_start_directory_is_inside_the_jail(self) -> None:
        (self.jail / "d" / "e").mkdir(parents=True)
        for start in ("/d/e", "d/e"):
            with self.subTest(start=start):
                self.serve(self.jail_command("-d", start))
                run = self.sftp("pwd", "cd ..", "pwd", "cd", "pwd", "cd /", "ls -1")
                self.assertEqual(
                    run.lines,
                    [f"Remote working directory: {path}" for path in ("/d/e", "/d", "/d/e")] + ["d"],
                )

    def test_the_umask_applies_to_files_and_directories(self) -> None:
        self.serve(self.jail_command("--umask", "027"))
        (self.local / "f").touch()
        os.chmod(self.local / "f", 0o666)
        self.sftp("put f", "mkdir d")
        self.assertEqual(permissions(self.jail / "f"), 0o640)
        self.assertEqual(permissions(self.jail / "d"), 0o750)


class TestDropIn(ServedCase):
    """``pysftpserver``, which takes the place and the flags of sftp-server(8)."""

    way = Way.SUBSYSTEM
    hides_host_paths = False

    @classmethod
    def server_command(cls) -> list[str]:
        return command("pysftpserver", "-u", "027", "-l", "ERROR", "-d", cls.jail)

    def test_it_starts_in_its_directory_and_sees_the_whole_file_system(self) -> None:
        (self.outside / "f").write_text("content")
        run = self.sftp("pwd", f"get {self.outside}/f")
        self.assertEqual(run.lines[0], f"Remote working directory: {self.jail}")
        self.assertEqual((self.local / "f").read_text(), "content")

    def test_its_umask_is_the_flag_s(self) -> None:
        (self.local / "f").touch()
        os.chmod(self.local / "f", 0o666)
        self.sftp("put f")
        self.assertEqual(permissions(self.jail / "f"), 0o640)

    def test_a_tree_goes_both_ways(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        self.sftp("put -r tree", "get -r tree back")
        material.assert_both_ways(self, "tree", data.seed)
