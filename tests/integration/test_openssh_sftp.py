"""Every command of sftp(1), OpenSSH's own client, through ``command="..."`` in authorized_keys."""

from __future__ import annotations

import os
import re
import time

from tests.integration import harness, material
from tests.integration.harness import Argument, ServedCase, command, wait_for
from tests.integration.material import GIB, MIB, Material, permissions

# Well before any clock skew or daylight saving: 2001-09-09 01:46:40 UTC.
LONG_AGO = 1_000_000_000
LONGNAME = re.compile(
    r"(?P<mode>[-dlcbps][-rwxsStT]{9}) +(?P<links>\d+|\?) +(?P<user>\S+) +(?P<group>\S+) +"
    r"(?P<size>\d+) (?P<date>[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d| \d{4})) (?P<name>.+)"
)


def setUpModule() -> None:
    harness.require("sftp")


def quoted(name: bytes) -> bytes:
    """Quote a name, which holds no newline, for sftp's command line and its globbing."""
    return re.sub(rb"([^\w./\x80-\xff-])", rb"\\\1", name)


class TestGet(ServedCase):
    def test_get_copies_a_file_under_its_name_or_another(self) -> None:
        (self.jail / "remote").write_bytes(b"content")
        self.sftp("get remote", "get /remote other")
        self.assertEqual((self.local / "remote").read_bytes(), b"content")
        self.assertEqual((self.local / "other").read_bytes(), b"content")

    def test_get_of_odd_sizes_is_identical(self) -> None:
        data = Material()
        data.odd_files(self.jail / "odd")
        self.sftp("get -r odd")
        material.assert_same_trees(self, self.jail / "odd", self.local / "odd", data.seed)

    def test_get_is_identical_with_any_request_size_and_count(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(300_001))
        for flags in (
            ["-B", "999", "-R", "1"],
            ["-B", "32768", "-R", "64"],
            ["-B", "261120", "-R", "256"],
            ["-X", "buffer=40000", "-X", "nrequests=3"],
            ["-C"],
        ):
            with self.subTest(flags=flags, seed=data.seed):
                self.sftp("get f", flags=flags)
                self.assertEqual((self.local / "f").read_bytes(), (self.jail / "f").read_bytes())

    def test_get_replaces_a_longer_local_file(self) -> None:
        (self.jail / "f").write_bytes(b"short")
        (self.local / "f").write_bytes(b"much longer than that")
        self.sftp("get f")
        self.assertEqual((self.local / "f").read_bytes(), b"short")

    def test_get_of_a_missing_file_says_so(self) -> None:
        run = self.sftp("get missing", status=1)
        self.assertIn('File "/missing" not found', run.err)

    def test_get_with_p_keeps_mode_and_times(self) -> None:
        (self.jail / "f").write_bytes(b"x")
        os.chmod(self.jail / "f", 0o741)
        os.utime(self.jail / "f", (LONG_AGO, LONG_AGO + 1))
        self.sftp("get -p f")
        self.assertEqual(permissions(self.local / "f"), 0o741)
        self.assertEqual((self.local / "f").stat().st_mtime, LONG_AGO + 1)

    def test_get_with_f_syncs_and_copies(self) -> None:
        (self.jail / "f").write_bytes(b"x" * 100_000)
        self.sftp("get -f f")
        self.assertEqual((self.local / "f").stat().st_size, 100_000)

    def test_get_with_r_copies_a_tree_and_not_its_links(self) -> None:
        data = Material()
        data.tree(self.jail / "tree")
        for flags in ("-R", "-r"):
            self.sftp(f"get {flags} tree copy{flags}")
            material.assert_same_trees(self, self.jail / "tree", self.local / f"copy{flags}", data.seed)
        (self.jail / "tree" / "link").symlink_to("f")
        run = self.sftp("get -R tree copy")
        self.assertIn('"/tree/link": not a regular file', run.text)
        self.assertNotIn("link", os.listdir(self.local / "copy"))

    def test_get_with_rp_keeps_times_of_directories(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").touch()
        os.chmod(self.jail / "d", 0o750)
        os.utime(self.jail / "d", (LONG_AGO, LONG_AGO))
        self.sftp("get -Rp d")
        self.assertEqual(permissions(self.local / "d"), 0o750)
        self.assertEqual((self.local / "d").stat().st_mtime, LONG_AGO)

    def test_get_and_mget_take_globs(self) -> None:
        for name in ("a1.txt", "a2.txt", "b1.txt", "c.bin"):
            (self.jail / name).write_text(name)
        (self.local / "to").mkdir()
        self.sftp("get [ab]1.* to", "mget *.bin")
        self.assertEqual(sorted(os.listdir(self.local / "to")), ["a1.txt", "b1.txt"])
        self.assertEqual((self.local / "c.bin").read_text(), "c.bin")

    def test_get_a_continues_a_partial_file_and_leaves_what_is_there(self) -> None:
        data = Material()
        content = data.bytes(200_000)
        (self.jail / "f").write_bytes(content)
        for line in ("get -a f", "reget f"):
            with self.subTest(line, seed=data.seed):
                # A wrong beginning shows that only the rest was asked for.
                (self.local / "f").write_bytes(b"#" * 70_001)
                self.sftp(line)
                self.assertEqual((self.local / "f").read_bytes(), b"#" * 70_001 + content[70_001:])

    def test_get_a_refuses_a_local_file_that_is_larger(self) -> None:
        (self.jail / "f").write_bytes(b"short")
        (self.local / "f").write_bytes(b"longer than that")
        self.sftp("get -a f", status=1)
        self.assertEqual((self.local / "f").read_bytes(), b"longer than that")

    def test_get_a_continues_whole_trees(self) -> None:
        data = Material()
        data.tree(self.jail / "tree")
        (self.jail / "tree" / "big").write_bytes(data.bytes(100_000))
        (self.local / "tree").mkdir()
        (self.local / "tree" / "big").write_bytes((self.jail / "tree" / "big").read_bytes()[:33_333])
        self.sftp("reget -R tree")
        material.assert_same_trees(self, self.jail / "tree", self.local / "tree", data.seed)

    def test_a_path_in_the_destination_is_fetched_or_entered(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").write_bytes(b"content")
        argv: list[Argument] = ["sftp", "-q", "-F", self.sshd.ssh_config]
        self.client([*argv, f"{harness.TARGET}:/d/f", "fetched"])
        self.assertEqual((self.local / "fetched").read_bytes(), b"content")
        self.assertIn("Remote working directory: /d", self.sftp("pwd", to="server:d").lines)


class TestPut(ServedCase):
    def test_put_copies_a_file_under_its_name_or_another_or_into_a_directory(self) -> None:
        (self.local / "f").write_bytes(b"content")
        (self.jail / "d").mkdir()
        self.sftp("put f", "put f other", "put f d", "put f /d/third")
        for name in ("f", "other", "d/f", "d/third"):
            self.assertEqual((self.jail / name).read_bytes(), b"content", name)

    def test_put_of_odd_sizes_is_identical(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd")
        self.sftp("put -r odd")
        material.assert_same_trees(self, self.local / "odd", self.jail / "odd", data.seed)

    def test_put_is_identical_with_any_request_size_and_count(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(300_001))
        for flags in (
            ["-B", "999", "-R", "1"],
            ["-B", "261120", "-R", "256"],
            ["-X", "buffer=40000", "-X", "nrequests=3"],
            ["-C"],
        ):
            with self.subTest(flags=flags, seed=data.seed):
                self.sftp("put f", flags=flags)
                self.assertEqual((self.jail / "f").read_bytes(), (self.local / "f").read_bytes())

    def test_put_replaces_a_longer_remote_file(self) -> None:
        (self.local / "f").write_bytes(b"short")
        (self.jail / "f").write_bytes(b"much longer than that")
        self.sftp("put f")
        self.assertEqual((self.jail / "f").read_bytes(), b"short")

    def test_put_where_no_directory_is_says_so(self) -> None:
        (self.local / "f").touch()
        run = self.sftp("put f missing/f", status=1)
        self.assertIn('dest open "/missing/f": No such file or directory', run.err)

    def test_put_with_p_keeps_mode_and_times(self) -> None:
        (self.local / "f").write_bytes(b"x")
        os.chmod(self.local / "f", 0o741)
        os.utime(self.local / "f", (LONG_AGO, LONG_AGO + 1))
        self.sftp("put -p f")
        self.assertEqual(permissions(self.jail / "f"), 0o741)
        status = (self.jail / "f").stat()
        self.assertEqual((status.st_atime, status.st_mtime), (LONG_AGO, LONG_AGO + 1))

    def test_put_with_f_syncs(self) -> None:
        (self.local / "f").write_bytes(b"x" * 100_000)
        run = self.sftp("put -f f", flags=["-N"])
        self.assertNotIn("fsync", run.text)
        self.assertEqual((self.jail / "f").stat().st_size, 100_000)

    def test_put_with_r_copies_a_tree(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        for flags in ("-R", "-r"):
            self.sftp(f"put {flags} tree copy{flags}")
            material.assert_same_trees(self, self.local / "tree", self.jail / f"copy{flags}", data.seed)

    def test_put_with_rp_keeps_modes_and_times_of_directories(self) -> None:
        (self.local / "d").mkdir()
        (self.local / "d" / "f").touch()
        os.chmod(self.local / "d", 0o750)
        os.utime(self.local / "d", (LONG_AGO, LONG_AGO))
        self.sftp("put -Rp d")
        self.assertEqual(permissions(self.jail / "d"), 0o750)
        self.assertEqual((self.jail / "d").stat().st_mtime, LONG_AGO)

    def test_put_and_mput_take_globs(self) -> None:
        for name in ("a1.txt", "a2.txt", "b1.txt", "c.bin"):
            (self.local / name).write_text(name)
        self.sftp("mkdir to", "put [ab]1.* to", "mput *.bin")
        self.assertEqual(sorted(os.listdir(self.jail / "to")), ["a1.txt", "b1.txt"])
        self.assertEqual((self.jail / "c.bin").read_text(), "c.bin")

    def test_put_a_continues_a_partial_file_and_leaves_what_is_there(self) -> None:
        data = Material()
        content = data.bytes(200_000)
        (self.local / "f").write_bytes(content)
        for line in ("put -a f", "reput f"):
            with self.subTest(line, seed=data.seed):
                (self.jail / "f").write_bytes(b"#" * 70_001)
                self.sftp(line)
                self.assertEqual((self.jail / "f").read_bytes(), b"#" * 70_001 + content[70_001:])

    def test_an_upload_that_was_cut_off_is_continued(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(4 * MIB))
        with self.sftp_session("-l", "16000") as session:
            session.send("put f")
            wait_for(
                "a part of the file has arrived",
                lambda: (self.jail / "f").exists() and (self.jail / "f").stat().st_size > MIB,
            )
            session.kill()
        self.wait_until_no_server_is_left()
        self.assertLess((self.jail / "f").stat().st_size, 4 * MIB)
        self.sftp("put -a f")
        material.assert_same_trees(self, self.local, self.jail, data.seed)

    def test_a_download_that_was_cut_off_is_continued(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(4 * MIB))
        with self.sftp_session("-l", "16000") as session:
            session.send("get f")
            wait_for(
                "a part of the file has arrived",
                lambda: (self.local / "f").exists() and (self.local / "f").stat().st_size > MIB,
            )
            session.kill()
        self.assertLess((self.local / "f").stat().st_size, 4 * MIB)
        self.sftp("get -a f")
        material.assert_same_trees(self, self.jail, self.local, data.seed)


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

    def test_ls_1_sorts_by_name_and_r_reverses(self) -> None:
        forth, back = self.sftp("ls -1", "ls -1r").answers
        self.assertEqual(forth, ["a", "b", "c", "d"])
        self.assertEqual(back, ["d", "c", "b", "a"])

    def test_ls_a_shows_hidden_names_and_the_directory_itself(self) -> None:
        self.assertEqual(self.sftp("ls -1a").lines, [".", "..", ".hidden", "a", "b", "c", "d"])

    def test_ls_f_shows_all_names_in_any_order(self) -> None:
        self.assertEqual(set(self.sftp("ls -1f").lines), {"a", "b", "c", "d"})

    def test_ls_s_sorts_by_size_and_ls_t_by_time(self) -> None:
        (self.jail / "d").rmdir()
        by_size, by_time = self.sftp("ls -1S", "ls -1t").answers
        self.assertEqual(by_size, ["c", "b", "a"])
        self.assertEqual(by_time, ["a", "c", "b"])

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

    def test_ls_lh_shows_sizes_for_people(self) -> None:
        self.assertRegex(self.sftp("ls -lh c").lines[0], r" 1\.5MB? ")

    def test_ls_takes_paths_and_globs(self) -> None:
        (self.jail / "d" / "x").touch()
        expected = {
            "ls -1 d": ["d/x"],
            "ls -1 /d": ["/d/x"],
            "ls -1 [ab]": ["a", "b"],
            "ls -1 d/*": ["d/x"],
            "ls -1 [!d]": ["a", "b", "c"],
        }
        self.assertEqual(self.sftp(*expected).answers, list(expected.values()))

    def test_ls_of_a_missing_path_says_so(self) -> None:
        self.assertIn('Can\'t ls: "/missing" not found', self.sftp("ls missing", status=1).err)

    def test_ls_of_an_empty_directory_is_empty(self) -> None:
        self.assertEqual(self.sftp("ls -1 d").lines, [])

    def test_ls_of_thousands_of_entries_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 5000)
        _, short, long = self.sftp("cd many", "ls -1", "ls -l").answers
        self.assertEqual(short, names)
        self.assertEqual(len(long), 5000)


class TestChangingTheTree(ServedCase):
    def test_mkdir_and_rmdir(self) -> None:
        self.sftp("mkdir d", "mkdir d/e", "rmdir d/e")
        self.assertEqual(material.contents(self.jail), {b"d": b"directory"})

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

    def test_rm_takes_globs(self) -> None:
        for name in ("a1", "a2", "b"):
            (self.jail / name).touch()
        self.sftp("rm a*")
        self.assertEqual(os.listdir(self.jail), ["b"])

    def test_rename_replaces_and_rename_l_does_not(self) -> None:
        (self.jail / "a").write_text("a")
        (self.jail / "b").write_text("b")
        run = self.sftp("-rename -l a b", "ls -1", "rename a b", "rename -l b c")
        self.assertIn("Failure", run.err)
        self.assertEqual(run.answers[1], ["a", "b"])
        self.assertEqual((self.jail / "c").read_text(), "a")
        self.assertEqual(os.listdir(self.jail), ["c"])

    def test_rename_moves_directories(self) -> None:
        (self.jail / "d" / "e").mkdir(parents=True)
        (self.jail / "other").mkdir()
        self.sftp("rename d other/d2")
        self.assertTrue((self.jail / "other" / "d2" / "e").is_dir())

    def test_ln_makes_a_hard_link(self) -> None:
        (self.jail / "f").write_text("content")
        self.sftp("ln f g")
        self.assertTrue((self.jail / "f").samefile(self.jail / "g"))

    def test_ln_s_and_symlink_keep_the_target_as_typed(self) -> None:
        (self.jail / "d").mkdir()
        self.sftp("ln -s ../f d/relative", "symlink /d/f absolute", "ln -s nowhere dangling")
        self.assertEqual(os.readlink(self.jail / "d" / "relative"), "../f")
        self.assertEqual(os.readlink(self.jail / "absolute"), "/d/f")
        self.assertEqual(os.readlink(self.jail / "dangling"), "nowhere")

    def test_ln_s_refuses_a_name_that_is_taken(self) -> None:
        (self.jail / "f").touch()
        self.sftp("ln -s x f", status=1)
        self.assertFalse((self.jail / "f").is_symlink())

    def test_chmod_follows_links_and_takes_globs(self) -> None:
        (self.jail / "f1").touch()
        (self.jail / "f2").touch()
        (self.jail / "link").symlink_to("f1")
        self.sftp("chmod 0600 f*")
        self.assertEqual(permissions(self.jail / "f2"), 0o600)
        self.sftp("chmod 751 link")
        self.assertEqual(permissions(self.jail / "f1"), 0o751)

    def test_chmod_h_changes_a_file_and_not_what_a_link_points_to(self) -> None:
        (self.jail / "f").touch(0o644)
        (self.jail / "link").symlink_to("f")
        self.sftp("chmod -h 0640 f")
        self.assertEqual(permissions(self.jail / "f"), 0o640)
        # Linux has no modes on links: the attempt fails, and must not fall through to the file.
        self.sftp("chmod -h 0600 link", status=1)
        self.assertEqual(permissions(self.jail / "f"), 0o640)

    def test_chown_and_chgrp_change_the_owner(self) -> None:
        uid, gid = (12345, 23456) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        (self.jail / "f").touch()
        self.sftp(f"chown {uid} f", f"chgrp {gid} f")
        status = (self.jail / "f").stat()
        self.assertEqual((status.st_uid, status.st_gid), (uid, gid))

    def test_chown_h_and_chgrp_h_change_the_link_itself(self) -> None:
        uid, gid = (12345, 23456) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        (self.jail / "f").touch()
        (self.jail / "link").symlink_to("f")
        before = (self.jail / "f").stat()
        self.sftp(f"chown -h {uid} link", f"chgrp -h {gid} link")
        link = (self.jail / "link").lstat()
        self.assertEqual((link.st_uid, link.st_gid), (uid, gid))
        after = (self.jail / "f").stat()
        self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))

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
        self.sftp("put -r names")
        material.assert_same_trees(self, self.local / "names", self.jail / "names")
        self.sftp("get -r names back")
        material.assert_same_trees(self, self.local / "names", self.local / "back")

    def test_names_that_can_be_typed_work_in_every_command(self) -> None:
        for name in material.PRINTABLE_NAMES:
            with self.subTest(name=name):
                harness.empty(self.jail)
                harness.empty(self.local)
                material.awkward_files(self.local, [name])
                typed = b"./" + quoted(name)
                self.sftp(
                    b"put " + typed,
                    b"get " + typed + b" copy",
                    b"rename " + typed + b" moved",
                    b"rename moved " + typed,
                    b"ln " + typed + b" hard",
                    b"chmod 600 " + typed,
                    b"ls -l " + typed,
                    b"rm " + typed,
                    b"mkdir " + typed,
                    b"cd " + typed,
                )
                self.assertEqual((self.local / "copy").read_bytes(), b"I am " + name)
                self.assertEqual((self.jail / "hard").read_bytes(), b"I am " + name)
                self.assertTrue(os.path.isdir(os.path.join(os.fsencode(self.jail), name)))

    def test_names_that_cannot_be_typed_are_reached_by_globs(self) -> None:
        for name in material.UNPRINTABLE_NAMES:
            with self.subTest(name=name):
                harness.empty(self.jail)
                material.awkward_files(self.jail, [name])
                self.sftp("get * copy", "chmod 600 *", "ls -l", "rm *")
                self.assertEqual((self.local / "copy").read_bytes(), b"I am " + name)
                self.assertEqual(os.listdir(self.jail), [])

    def test_a_name_of_256_bytes_is_refused_and_the_session_goes_on(self) -> None:
        self.sftp("-mkdir " + "n" * 256, "mkdir after")
        self.assertEqual(os.listdir(self.jail), ["after"])


class TestFilesOver4GiB(ServedCase):
    SIZE = 4 * GIB + 3 * MIB + 1

    def test_get_a_fetches_the_end_of_a_file_over_4_gib(self) -> None:
        data = Material()
        end = data.bytes(3 * MIB)
        material.sparse(self.jail / "big", self.SIZE, end)
        material.sparse(self.local / "big", 4 * GIB + 1)
        self.sftp("get -a big")
        self.assertEqual((self.local / "big").stat().st_size, self.SIZE)
        self.assertEqual(material.tail(self.local / "big", 3 * MIB), end, data.seed)

    def test_put_a_sends_the_end_of_a_file_over_4_gib(self) -> None:
        data = Material()
        end = data.bytes(3 * MIB)
        material.sparse(self.local / "big", self.SIZE, end)
        material.sparse(self.jail / "big", 4 * GIB + 1)
        self.sftp("put -a big")
        self.assertEqual((self.jail / "big").stat().st_size, self.SIZE)
        self.assertEqual(material.tail(self.jail / "big", 3 * MIB), end, data.seed)

    def test_ls_shows_the_size_of_a_file_over_4_gib(self) -> None:
        material.sparse(self.jail / "big", self.SIZE)
        match = LONGNAME.fullmatch(self.sftp("ls -l big").lines[0])
        assert match is not None
        self.assertEqual(int(match["size"]), self.SIZE)


class TestOptionsOfTheJail(ServedCase):
    def test_read_only_lets_read_and_refuses_to_write(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "f").write_text("content")
        (self.local / "new").touch()
        before = material.snapshot(self.jail)
        self.serve(self.jail_command("-R"))
        self.sftp("get f", "ls -l", "cd d", "df")
        self.assertEqual((self.local / "f").read_text(), "content")
        lines = [
            "put new",
            "put new f",
            "mkdir e",
            "rmdir d",
            "rm f",
            "rename f g",
            "rename -l f g",
            "ln f g",
            "ln -s f g",
            "chmod 777 f",
            "chmod -h 777 f",
            "chown 1 f",
            "cp f g",
        ]
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

    hook = harness.Hook.SUBSYSTEM
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
        material.assert_same_trees(self, self.local / "tree", self.jail / "tree", data.seed)
        material.assert_same_trees(self, self.local / "tree", self.local / "back", data.seed)
