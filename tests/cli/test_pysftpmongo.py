"""bin/pysftpmongo: every option, and every way to get it wrong, against a real server over TCP."""

from __future__ import annotations

import os
import subprocess

from pymongo.uri_parser import parse_uri

from pysftpserver import __version__
from pysftpserver.cli import pysftpmongo
from pysftpserver.cli.parser import build_parser
from pysftpserver.failures import missing
from tests.cli.commands import BAD_UMASKS, REFERENCE, CommandCase
from tests.cli.databases import DatabaseCase
from tests.mongo import databases
from tests.support import packets as sftp
from tests.support.auditing import records_of
from tests.support.packets import replies, request, string, u32, u64

MKDIR = request("mkdir", 1, string(b"/d"), sftp.NO_ATTRS)
STAT = request("stat", 1, string(b"/"))
WHERE = request("realpath", 1, string(b"."))
OPEN = request("open", 1, string(b"/f"), u32(sftp.WRITE | sftp.CREAT | sftp.TRUNC), sftp.NO_ATTRS)
CLOSE = request("close", 1, string(u32(1)))


def stat(path: bytes) -> bytes:
    return request("stat", 1, string(path))


def upload(content: bytes) -> bytes:
    return OPEN + request("write", 1, string(u32(1)), u64(0), string(content)) + CLOSE


class Addresses(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.gridfs.put(b"content", filename="here")

    def assert_serves(self, *arguments: object, **how: object) -> None:
        (reply,) = self.serve(*arguments, requests=stat(b"/here"), **how)
        self.assertEqual((reply.kind, reply.content.size if reply.kind == "attrs" else None), ("attrs", 7))

    def uri(self, database: str) -> str:
        before, mark, after = databases.uri().partition("?")
        return before.rstrip("/") + f"/{database}{mark}{after}"

    def test_a_host_a_port_and_a_database(self) -> None:
        parsed = parse_uri(databases.uri())
        if parsed["username"] or parsed["options"]:
            self.skipTest("that server wants more than a host and a port")
        host, port = parsed["nodelist"][0]
        self.assert_serves(host, str(port), self.db_name)
        self.assert_serves(host, "-R", str(port), "--umask", "077", self.db_name)

    def test_a_uri_names_the_database_and_the_option_goes_before_it(self) -> None:
        self.assert_serves(self.uri(self.db_name))
        self.assert_serves(self.uri("another"), "--database", self.db_name)
        self.assert_serves("--database", self.db_name, databases.uri())

    def test_a_uri_in_the_first_line_of_a_file(self) -> None:
        file = self.place / "uri"
        for text in (self.uri(self.db_name), f"  {self.uri(self.db_name)} \r\nmongodb://nowhere/nothing\n"):
            file.write_text(text)
            self.assert_serves("--uri-file", file)
        file.write_text(databases.uri())
        self.assert_serves(f"--uri-file={file}", "--database", self.db_name)

    def test_a_uri_in_the_environment(self) -> None:
        self.assert_serves(variables={"PYSFTPMONGO_URI": self.uri(self.db_name)})
        self.assert_serves("--database", self.db_name, variables={"PYSFTPMONGO_URI": databases.uri()})

    def test_the_environment_counts_only_if_nothing_else_is_given(self) -> None:
        variables = {"PYSFTPMONGO_URI": "mongodb://nowhere.invalid/nothing"}
        self.assert_serves(self.uri(self.db_name), variables=variables)

    def test_what_it_starts_does_not_inherit_the_environments_uri(self) -> None:
        code = "import os, sys\nfrom pysftpserver.cli.pysftpmongo import main\n"
        code += "main(sys.argv[1:])\nos.execvp('env', ['env'])"
        for argument in ("--bucket=a$b", "--embedded=/dev/null/d", "mongodb://nowhere.invalid"):
            done = self.run_argv(["-c", code, argument], variables={"PYSFTPMONGO_URI": "mongodb://u:p@h/d"})
            with self.subTest(argument):
                self.assertIn(b"PYTHONPATH=", done.stdout)
                self.assertNotIn(b"PYSFTPMONGO_URI=", done.stdout)


class Sessions(DatabaseCase):
    # --- what it does -------------------------------------------------------------------------------

    def test_an_upload_is_a_file_of_gridfs(self) -> None:
        self.here(requests=upload(b"content"))
        self.assertEqual(self.gridfs.get_last_version("f").read(), b"content")

    def test_help_and_version_go_to_standard_output_and_end_well(self) -> None:
        self.assertIn("usage: pysftpmongo", self.help_text())
        done = self.run_it("--version")
        self.assertEqual((done.returncode, done.stdout.decode()), (0, f"pysftpmongo {__version__}\n"))
        self.assertEqual(self.run_it("-h").stdout, self.run_it("--help").stdout)

    def test_help_is_sentences_that_name_defaults(self) -> None:
        parser = build_parser(pysftpmongo.COMMAND)
        self.assert_help_is_complete(parser)
        printed = self.help_text()
        self.assertIn("For trials and tests", printed)
        self.assertIn("PYSFTPMONGO_URI", parser.epilog)
        self.assertIn("can see the command line", parser.epilog)

    def test_the_list_of_requests_is_the_references_and_ours(self) -> None:
        expected = subprocess.run([REFERENCE, "-Q", "requests"], capture_output=True, check=True).stdout
        expected += b"check-file-name\ncheck-file-handle\ncheck-file\n"
        for option in ("-Q", "--list-requests"):
            done = self.run_it(option)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, expected, b""))

    def test_another_bucket_has_other_files(self) -> None:
        self.gridfs.put(b"", filename="in fs")
        for options, name in (([], b"in fs"), (["--bucket", "fs"], b"in fs"), (["--bucket=b.c"], b"in b.c")):
            found = [reply.kind for reply in self.here(*options, requests=stat(name) + MKDIR)]
            self.assertEqual(found[0], "status" if b"b.c" in name else "attrs")
        self.assertTrue([name for name in self.database.list_collection_names() if name.startswith("b.c.")])

    def test_a_prefix_is_the_root_and_what_is_beside_it_cannot_be_reached(self) -> None:
        self.gridfs.put(b"12345", filename="jail/f")
        self.gridfs.put(b"123", filename="beside")
        for prefix in ("jail", "/jail", "jail/", "/jail/"):
            with self.subTest(prefix):
                asked = stat(b"/f") + stat(b"/beside") + stat(b"/../beside") + stat(b"/jail/f") + WHERE
                inside, *outside, where = self.here("--prefix", prefix, requests=asked)
                self.assertEqual(inside.content.size, 5)
                self.assertEqual([reply.content for reply in outside], [sftp.NO_SUCH_FILE] * 3)
                self.assertEqual(where.content[0].name, b"/")

    def test_old_revisions_are_removed_or_kept(self) -> None:
        for options, revisions in ((["--keep-revisions"], 2), ([], 1)):
            for content in (b"old", b"new one"):
                self.here(*options, requests=upload(content))
            with self.subTest(options):
                self.assertEqual(self.filenames(), ["f"] * revisions)
                self.assertEqual(self.gridfs.get_last_version("f").read(), b"new one")

    def test_sessions_start_in_the_start_directory(self) -> None:
        self.gridfs.put(b"", filename="a/b/f")
        self.gridfs.put(b"", filename="top/f")
        for option, given, expected in (
            ("-d", "a/b", b"/a/b"),
            ("--start-directory", "/a", b"/a"),
            ("-d", "../../a", b"/a"),
            ("-d", "", b"/"),
            ("--start-directory", "/", b"/"),
        ):
            with self.subTest(given):
                (reply,) = self.here(option, given, requests=WHERE)
                self.assertEqual(reply.content[0].name, expected)
        (reply,) = self.here("--prefix", "a", "-d", "b", requests=WHERE)
        self.assertEqual(reply.content[0].name, b"/b")
        for name in ("missing", "a/b/f", "top\nforged", "{x}"):
            with self.subTest(name):
                done = self.run_here("-d", name, stdin=sftp.HELLO)
                self.assert_refused(done, "start directory", "no such directory in the database")
                done = self.run_here("-d", name, stdin=sftp.HELLO, under_sshd=True)
                text = self.assert_refused(done, "the start directory cannot be used (syslog says more)")
                self.assertNotIn(name, text)
        self.assert_refused(self.run_here("--prefix", "a", "-d", "top", stdin=sftp.HELLO), "start directory")

    def test_the_umask_is_effective_and_octal(self) -> None:
        for mask, expected in (("027", 0o640), ("0", 0o666)):
            *_, found = self.here("--umask", mask, requests=upload(b"") + stat(b"/f"))
            self.assertEqual(found.content.permissions & 0o777, expected)
            self.gridfs.delete(self.gridfs.get_last_version("f")._id)

    def test_read_only_serves_and_changes_nothing_indexes_among_it(self) -> None:
        for option in ("-R", "--read-only"):
            answers = self.here(option, requests=OPEN + MKDIR + STAT)
            self.assertEqual([reply.content for reply in answers[:2]], [sftp.PERMISSION_DENIED] * 2)
            self.assertEqual(answers[2].kind, "attrs")
        self.assertEqual(self.database.list_collection_names(), [])

    def test_indexes_that_cannot_be_made_are_logged_and_the_session_goes_on(self) -> None:
        log = self.place / "log"
        code = """
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.pysftpexceptions import SFTPForbidden
def prepare(self):
    raise SFTPForbidden("not by you")
SFTPServerMongoStorage.prepare = prepare
raise SystemExit(main(sys.argv[1:]))
"""
        status, answers, text = self.run_code(code, "-l", log, stdin=sftp.HELLO + STAT)
        self.assertEqual((status, [reply.kind for reply in answers], text), (0, ["attrs"], ""))
        self.assertIn("error: missing indexes cannot be created (not by you)", log.read_text())

    def test_allowed_and_denied_requests(self) -> None:
        for options, statuses in (
            (["-P", "mkdir"], ["attrs", sftp.PERMISSION_DENIED]),
            (["--deny-requests", "mkdir,stat"], [sftp.PERMISSION_DENIED, sftp.PERMISSION_DENIED]),
            (["-p", "stat,close"], ["attrs", sftp.PERMISSION_DENIED]),
            (["--allow-requests", "mkdir", "-P", "mkdir"], [sftp.PERMISSION_DENIED, sftp.PERMISSION_DENIED]),
        ):
            with self.subTest(options):
                answers = self.here(*options, requests=STAT + MKDIR)
                got = [reply.content if reply.kind == "status" else reply.kind for reply in answers]
                self.assertEqual(got, statuses)

    def test_limits_limit(self) -> None:
        asked = request("stat", 1, string(b"x" * 65)) + request("stat", 2, string(b"x" * 64))
        answers = self.here("--max-path", "64", requests=asked)
        self.assertEqual([reply.content for reply in answers], [sftp.BAD_MESSAGE, sftp.NO_SUCH_FILE])

    def test_the_log_goes_to_the_file_at_the_level(self) -> None:
        log = self.place / "log"
        for level, has, has_not in (
            ([], ["session opened", "session closed"], ["stat name"]),
            (["--log-level", "QUIET"], [], ["session"]),
            (["--log-level=debug"], ['stat name "/"', "debug1: read eof"], []),
        ):
            for option in ("--logfile", "-l"):
                self.here(option, log, *level, requests=STAT)
                text = log.read_text()
                with self.subTest(level):
                    self.assertEqual(log.stat().st_mode & 0o777, 0o600)
                    for words in has:
                        self.assertIn(words, text)
                    for words in has_not:
                        self.assertNotIn(words, text)
                log.unlink()

    def test_the_sandbox_is_there_for_every_thread_unless_it_is_left_out(self) -> None:
        log = self.place / "log"
        for options, times in (([], 1), (["--no-sandbox"], 0)):
            self.here("-l", log, *options, requests=upload(b"content"))
            self.assertEqual(log.read_text().count("sandbox: "), times)
            self.assertNotIn("threads", log.read_text())
            log.unlink()

    def test_uploads_are_whole_with_the_option_and_without(self) -> None:
        half = OPEN + request("write", 1, string(u32(1)), u64(0), string(b"half"))
        for options in (["--atomic-uploads"], []):
            self.here(*options, requests=half)
            self.assertEqual(self.filenames(), [], "the client did not close it")
            *_, closed = self.here(*options, requests=upload(b"whole"))
            self.assertEqual(closed.content, sftp.OK)
            self.gridfs.delete(self.gridfs.get_last_version("f")._id)

    def test_the_process_ends_with_the_session_and_does_not_wait_for_the_drivers_idle_threads(self) -> None:
        code = "import atexit\natexit.register(print, 'an ordinary exit', file=sys.stderr)\n"
        for call, expected in (("main()", ""), ("main(sys.argv[1:])", "an ordinary exit\n")):
            status, answers, text = self.run_code(code + call, stdin=sftp.HELLO + STAT)
            self.assertEqual((status, [reply.kind for reply in answers], text), (0, ["attrs"], expected))

    def test_an_audit_log_is_kept(self) -> None:
        audit = self.place / "audit"
        self.here("--audit", audit, requests=MKDIR)
        self.assertEqual([one["request"] for one in records_of(audit.read_bytes())], ["init", "mkdir", "end"])
        done = self.run_here("--audit", "/dev/full", "--audit-best-effort", stdin=sftp.HELLO + STAT)
        self.assertEqual((done.returncode, len(replies(done.stdout))), (0, 1))

    # --- what it refuses, once it has the database -----------------------------------------------------

    def test_an_audit_log_that_cannot_be_written_is_refused(self) -> None:
        done = self.run_here("--audit", self.place, stdin=sftp.HELLO)
        self.assert_refused(done, "audit log", str(self.place))
        self.assert_refused(self.run_here("--audit-best-effort", stdin=sftp.HELLO), "--audit FILE")

    def test_who_speaks_no_sftp_is_turned_away(self) -> None:
        variables = self.variables | {"SSH_ORIGINAL_COMMAND": "scp -t ."}
        self.assert_refused(self.run_here(variables=variables), "this service allows sftp connections only")


class Refusals(CommandCase):
    """Nothing of this needs a server, and none of the addresses is asked."""

    prog = "pysftpmongo"
    NOWHERE = ("nowhere.invalid", "27017", "db")

    def test_no_address_is_refused_and_the_line_names_all_there_are(self) -> None:
        for arguments in ([], ["--gc"], ["--check-only"], ["--database", "db"]):
            done = self.run_it(*arguments, variables={"PYSFTPMONGO_URI": ""})
            self.assert_refused(done, "REMOTE PORT DB_NAME", "--uri-file", "--embedded", "PYSFTPMONGO_URI")

    def test_addresses_that_are_none_are_refused(self) -> None:
        for words in (
            ["localhost"],
            ["localhost", "27017"],
            ["localhost", "27017", "db", "more"],
            ["mongodb://h/db", "27017"],
            ["mongodb://h", "27017", "db"],
            ["mongodb://h/db", "mongodb://h/db"],
            ["http://h/db"],
            ["MongoDB"],
            [""],
        ):
            with self.subTest(words):
                self.assert_refused(
                    self.run_it(*words, stdin=sftp.HELLO), "REMOTE PORT DB_NAME", "mongodb+srv://"
                )

    def test_two_addresses_are_refused(self) -> None:
        file = self.place / "uri"
        file.write_text("mongodb://nowhere.invalid/db")
        for arguments in (
            ["mongodb://h/db", "--uri-file", file],
            ["--uri-file", file, "--embedded", self.place / "new"],
            [*self.NOWHERE, "--embedded", self.place / "new"],
        ):
            with self.subTest(arguments):
                self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO), "give only one of them")
        done = self.run_it(*self.NOWHERE, "--database", "other", stdin=sftp.HELLO)
        self.assert_refused(done, "--database requires a URI or --embedded")
        self.assertFalse((self.place / "new").exists())

    def test_a_bad_port_is_refused(self) -> None:
        for port in ("0", "65536", "-1", "x", "", "1e3", "27_017", " 1", "+1", "\u0662", "9" * 5000, "1\n"):
            with self.subTest(port[:10]):
                done = self.run_it("localhost", "--", port, "db", stdin=sftp.HELLO)
                self.assert_refused(done, "invalid port", "1 to 65535")

    def test_a_bad_uri_host_database_bucket_or_prefix_is_refused(self) -> None:
        for arguments in (
            ["mongodb://"],
            ["mongodb://h:x/db"],
            ["mongodb://h"],
            ["mongodb://h/d%20b"],
            ["mongodb://h/db", "--database="],
            ["mongodb://h/db", "--database=d.b"],
            ["", "27017", "db"],
            ["two words", "27017", "db"],
            ["nowhere.invalid", "27017", ""],
            ["nowhere.invalid", "27017", "d b"],
            [*self.NOWHERE, "--bucket="],
            [*self.NOWHERE, "--bucket=a$b"],
            [*self.NOWHERE, "--prefix=a/../b"],
            [*self.NOWHERE, "--prefix=" + "x" * 300],
        ):
            with self.subTest([word[:20] for word in arguments]):
                self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO))

    def test_a_uri_file_that_is_missing_or_holds_no_uri_is_refused(self) -> None:
        file = self.place / "uri"
        for content, words in (
            (None, "no such file or directory"),
            (b"", "mongodb+srv://"),
            (b"\nmongodb://h/db\n", "mongodb+srv://"),
            (b"\xff\n", "not UTF-8"),
            (b"postgres://u:secret@h/db", "mongodb+srv://"),
            (b"mongodb://h/db" + b"x" * 100_000, "invalid"),
        ):
            with self.subTest(content and content[:20]):
                if content is not None:
                    file.write_bytes(content)
                text = self.assert_refused(self.run_it("--uri-file", file, stdin=sftp.HELLO), words)
                self.assertNotIn("secret", text)
        self.assert_refused(self.run_it("--uri-file", self.place, stdin=sftp.HELLO), "is a directory")
        file.chmod(0)
        done = self.run_it("--uri-file", file, stdin=sftp.HELLO, obedient=True)
        self.assert_refused(done, str(file), "permission denied")
        done = self.run_it("--uri-file", file, stdin=sftp.HELLO, obedient=True, under_sshd=True)
        self.assert_refused(done, "the URI file cannot be read (syslog says more)")

    def test_bad_values_are_refused(self) -> None:
        for arguments in (
            ["--nope"],
            ["-Z"],
            ["--bucket"],
            ["--database"],
            ["--prefix"],
            ["--uri-file"],
            ["--embedded"],
            ["-d"],
            ["--log-level", "NOPE"],
            ["-p", "nope"],
            ["-P", "open,nope"],
            ["--max-path", "0"],
            *(["-u", text] if not text.startswith("-") else [f"-u{text}"] for text in BAD_UMASKS[:4]),
            *([f"--older-than={text}", "--gc"] for text in ("", "-1", "x", "nan", "inf", "1e9", "1_0", ".")),
            ["--older-than=\u0662", "--gc"],
            ["--older-than", "9" * 12, "--gc"],
        ):
            with self.subTest(arguments):
                self.assert_refused(self.run_it(*arguments, *self.NOWHERE, stdin=sftp.HELLO))

    def test_options_that_do_not_go_together_are_refused(self) -> None:
        for arguments, words in (
            (["--dry-run"], "--dry-run and --older-than require --gc"),
            (["--older-than", "0"], "--dry-run and --older-than require --gc"),
            (["--check-only", "--dry-run"], "--dry-run and --older-than require --gc"),
            (["--check-only", "--gc"], "give only one of them"),
            (["--gc", "--read-only"], "--read-only forbids that"),
        ):
            with self.subTest(arguments):
                self.assert_refused(self.run_it(*arguments, *self.NOWHERE, stdin=sftp.HELLO), words)

    def test_a_log_file_that_cannot_be_written_is_refused(self) -> None:
        self.assert_refused(self.run_it("-l", self.place, *self.NOWHERE, stdin=sftp.HELLO), "log file")

    def test_under_sshd_no_error_tells_what_was_typed(self) -> None:
        for arguments in (
            ["secret"],
            ["secret", "secret", "secret"],
            ["mongodb://secret:secret@secret:secret/secret"],
            ["secret", "27017", "se cret"],
            [*self.NOWHERE, "--bucket=secret$"],
            [*self.NOWHERE, "--prefix=secret/.."],
            [*self.NOWHERE, "--secret"],
            ["--uri-file", "/secret"],
            ["--embedded", "/dev/null/secret"],
            ["-l", "/secret/log", *self.NOWHERE],
        ):
            with self.subTest(arguments):
                text = self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO, under_sshd=True))
                self.assertNotIn("secret", text)

    def test_without_the_driver_help_and_lists_work_and_the_rest_says_what_to_install(self) -> None:
        code = "import sys\nfor name in ('pymongo', 'gridfs', 'bson'): sys.modules[name] = None\n"
        code += "from pysftpserver.cli.pysftpmongo import main; raise SystemExit(main(sys.argv[1:]))"
        for arguments in (["--help"], ["-Q"], ["--version"]):
            done = self.run_argv(["-c", code, *arguments], forks=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
        directory = self.place / "new"
        for words in (self.NOWHERE, ["mongodb://u:secret@h/db"], ["--embedded", os.fspath(directory)]):
            for under_sshd in (False, True):
                done = self.run_argv(
                    ["-c", code, *words], stdin=sftp.HELLO, under_sshd=under_sshd, forks=False
                )
                text = self.assert_refused(done)
                self.assertEqual(text, f"pysftpmongo: {missing('pymongo', 'mongo').message}\n")
        self.assertFalse(directory.exists())

    def test_a_start_loads_no_driver_before_it_is_needed(self) -> None:
        code = "import sys; from pysftpserver.cli.pysftpmongo import main\n"
        code += "main(['localhost', '0', 'db'])\nprint(*sys.modules)"
        loaded = set(self.run_argv(["-c", code], forks=False).stdout.decode().split())
        self.assertIn("pysftpserver.cli.pysftpmongo", loaded)
        self.assertEqual(loaded & {"pymongo", "bson", "gridfs", "ctypes", "argparse", "subprocess"}, set())
