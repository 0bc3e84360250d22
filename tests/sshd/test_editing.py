"""Changing users in either directory, alone and two at once, under the eyes of a server."""

from __future__ import annotations

import os
import random
import threading
import tomllib
import unittest
from typing import TYPE_CHECKING, Any
from unittest import mock

from pysftpserver.people import redis_editing
from pysftpserver.people.editing import UsersEditor, with_keys
from pysftpserver.people.file_editing import FileEditor
from pysftpserver.people.file_users import FileUsers
from pysftpserver.people.keys import fingerprint
from pysftpserver.people.redis_editing import RedisEditor
from pysftpserver.people.redis_users import RedisUsers
from pysftpserver.people.updating import UserDirectory
from pysftpserver.people.users import DirectoryError
from tests.sshd.material import Watcher, base64_alone, blob, line
from tests.sshd.redis_server import RedisCase
from tests.support.cases import InAPlace
from tests.support.lines import Lines
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    Mixin = unittest.IsolatedAsyncioTestCase
else:
    Mixin = object


class EveryEditor(Mixin):
    """What holds for both directories."""

    def editor(self) -> UsersEditor:
        raise NotImplementedError

    def directory(self) -> UserDirectory:
        raise NotImplementedError

    def names(self, editor: UsersEditor) -> list[str]:
        return [record.name for record in editor.records()]

    async def test_a_server_sees_every_change(self) -> None:
        with self.editor() as editor:
            editor.add("first", [])
            async with Watcher(self.directory()) as watch:
                added = editor.add(
                    "alice", [f"{line()} laptop", base64_alone(1)], storage="gridfs:x", run_as="a1"
                )
                await watch.until(lambda: watch.directory.find("alice") == added)
                self.assertEqual((added.keys, added.is_active, added.run_as), ({blob(), blob(1)}, True, "a1"))
                changed = editor.change(
                    "alice",
                    add_keys=[line(2), line()],
                    remove_keys=[line(1)],
                    folder="b",
                    storage="",
                    run_as="",
                )
                where = changed.folder, changed.storage, changed.run_as
                self.assertEqual((changed.keys, *where), ({blob(), blob(2)}, "b", None, None))
                await watch.until(lambda: watch.directory.find("alice") == changed)
                self.assertEqual(editor.change("alice", run_as="a2").run_as, "a2")
                await watch.until(lambda: watch.directory.find("alice").run_as == "a2")
                there = "192.0.2.0/24, !192.0.2.7"
                self.assertEqual(editor.change("alice", networks=there).networks, there)
                await watch.until(lambda: watch.directory.find("alice").networks == there)
                self.assertIsNone(editor.change("alice", networks="").networks)
                self.assertFalse(editor.change("alice", is_active=False).is_active)
                await watch.until(lambda: not watch.directory.find("alice").is_active)
                self.assertTrue(editor.change("alice", is_active=True).is_active)
                self.assertEqual(self.names(editor), ["alice", "first"])
                editor.remove("alice")
                await watch.until(lambda: watch.directory.find("alice") is None)
                self.assertEqual(set(watch.changes), {"alice"})

    async def test_a_key_is_removed_by_its_fingerprint_too(self) -> None:
        with self.editor() as editor:
            editor.add("alice", [line(), line(1)])
            self.assertEqual(editor.change("alice", remove_keys=[fingerprint(blob())]).keys, {blob(1)})
            with self.assertRaisesRegex(DirectoryError, "no such key"):
                editor.change("alice", remove_keys=[fingerprint(blob())])

    async def test_the_key_of_a_CA_is_kept_as_one(self) -> None:
        with self.editor() as editor:
            entry = f'cert-authority,principals="a,b" {line(2)}'
            user = editor.add("alice", [line(), entry], folder="a")
            self.assertEqual((user.keys, user.authorities), ({blob()}, {(blob(2), ("a", "b"))}))
            user = editor.change(
                "alice", add_keys=[line(2), f"cert-authority {line(2)}"], remove_keys=[entry]
            )
            self.assertEqual((user.keys, user.authorities), ({blob(), blob(2)}, {(blob(2), ())}))
            self.assertEqual(editor.change("alice", remove_keys=[fingerprint(blob(2))]).authorities, set())

    async def test_what_could_not_be_used_is_refused_and_changes_nothing(self) -> None:
        with self.editor() as editor:
            before = editor.add("alice", [line()])
            for wrong in (
                lambda: editor.add("alice", []),
                lambda: editor.add("", []),
                lambda: editor.add("new\nline", []),
                lambda: editor.add("bob", ["restrict " + line()]),
                lambda: editor.add("bob", [], folder="../x"),
                lambda: editor.change("alice", folder=".."),
                lambda: editor.change("alice", networks="example.net"),
                lambda: editor.change("alice", networks=","),
                lambda: editor.add("bob", [], networks="192.0.2.0/33"),
                lambda: editor.change("alice", add_keys=["rubbish"]),
                lambda: editor.change("nobody", folder="x"),
                lambda: editor.change("nobody", is_active=False),
                lambda: editor.remove("nobody"),
            ):
                with self.assertRaises(DirectoryError) as caught:
                    wrong()
                self.assertTrue(str(caught.exception).isprintable())
            (record,) = editor.records()
            self.assertEqual(record.user, before)

    async def test_editors_at_once_do_not_mix(self) -> None:
        with self.editor() as editor:
            editor.add("shared", [])
        faults: list[BaseException] = []
        winners: list[int] = []

        def work(number: int) -> None:
            try:
                with self.editor() as editor:
                    for count in range(5):
                        editor.add(f"user-{number}-{count}", [line(number)])
                        editor.change("shared", add_keys=[line(100 + 5 * number + count)])
                    try:
                        editor.add("one-of-us", [])
                        winners.append(number)
                    except DirectoryError as error:
                        if "already" not in str(error):
                            raise
            except BaseException as error:
                faults.append(error)

        for number in range(120):
            line(number)  # made here: they are not the threads' work
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual((faults, len(winners)), ([], 1))
        with self.editor() as editor:
            users = [record.user for record in editor.records()]
            self.assertEqual(len(users), 22)
            self.assertEqual(len({user.id for user in users if user}), 22)
            (shared,) = (user for user in users if user and user.name == "shared")
            self.assertEqual(shared.keys, {blob(number) for number in range(100, 120)})


class InRedis(EveryEditor, RedisCase, unittest.IsolatedAsyncioTestCase):
    def editor(self) -> UsersEditor:
        return RedisEditor(self.server.address())

    def directory(self) -> UserDirectory:
        return RedisUsers(self.server.address(), Lines().log)

    async def test_a_new_id_is_above_all_others_and_clear_of_what_was_left_behind(self) -> None:
        with self.editor() as editor:
            self.assertEqual(editor.add("a", []).id, "1")
            self.put_user(2, "b", folder="b")  # a script that counts the members
            self.put_user(40, "c", folder="c")
            self.put_user("letters", "d", folder="d")
            self.r.hset("solt.sftp.user.41", "name", "left behind")
            self.r.sadd("solt.sftp.user.42.keys", line())
            added = editor.add("e", [])
            self.assertEqual((added.id, added.keys), ("43", frozenset()))

    async def test_removing_leaves_nothing_behind(self) -> None:
        with self.editor() as editor:
            editor.add("alice", [line()])
            editor.remove("alice")
        self.assertEqual(self.r.keys("*"), [])

    async def test_what_other_programs_wrote_stays(self) -> None:
        self.put_user(1, "alice", base64_alone(), "no key at all", folder="f", note="theirs")
        with self.editor() as editor:
            editor.change("alice", add_keys=[line(), line(1) + " new"])
        self.assertEqual(
            self.r.smembers("solt.sftp.user.1.keys"), {base64_alone(), "no key at all", line(1) + " new"}
        )
        self.assertEqual(self.r.hget("solt.sftp.user.1", "note"), "theirs")

    async def test_a_change_of_somebody_else_in_the_middle_is_not_written_over(self) -> None:
        self.put_user(1, "alice", line(), folder="f")
        with RedisEditor(self.server.address()) as editor:
            id_of, asked = editor._reader.id_of, []

            def id_of_and_meddle(name: str) -> str | None:
                asked.append(name)
                if len(asked) == 1:
                    self.put_user(2, "bob", folder="f")
                return id_of(name)

            editor._reader.id_of = id_of_and_meddle  # type: ignore[method-assign]
            self.assertEqual(editor.add("carol", []).id, "3")
        self.assertEqual(len(asked), 2)

    async def test_a_user_who_gets_another_name_in_the_middle_is_not_changed(self) -> None:
        self.put_user(1, "alice", line(), folder="f")

        def with_keys_and_meddle(*arguments: Any) -> list[str]:
            self.r.hset("solt.sftp.user.1", "name", "alicia")
            return with_keys(*arguments)

        with RedisEditor(self.server.address()) as editor:
            with mock.patch.object(redis_editing, "with_keys", with_keys_and_meddle):
                with self.assertRaisesRegex(DirectoryError, "no user named alice"):
                    editor.change("alice", add_keys=[line(1)], is_active=False)
        self.assertEqual(self.r.smembers("solt.sftp.user.1.keys"), {line()})
        self.assertEqual(self.r.hget("solt.sftp.user.1", "active"), "True")

    async def test_redis_being_away_is_one_line(self) -> None:
        with RedisEditor(self.server.address(port=free_port(), password="hunter2")) as editor:
            with self.assertRaisesRegex(DirectoryError, "refused") as caught:
                editor.records()
        self.assertNotIn("hunter2", str(caught.exception))


WRITTEN = """\
# Who may log in.  Ask Ann first.

[users.alice]   # since 2019
folder = "alice"   # not hers alone
keys = [
    # her laptop
    "@@",   # until May
]
active = true

# --- guests ---
[ users . "bob [x]" ]
note-free = 1
[users.'carol']
keys = ['''@@''', "\\u0061 = [#"]
# the end"""


class InAFile(EveryEditor, InAPlace, unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.place / "users.toml"

    def editor(self) -> UsersEditor:
        return FileEditor(self.file)

    def directory(self) -> UserDirectory:
        return FileUsers(self.file, Lines().log, interval=0.05)

    def write(self, text: str) -> str:
        text = text.replace("@@", line())
        self.file.write_bytes(text.encode())
        self.file.chmod(0o640)
        return text

    async def test_only_the_users_own_values_change_and_every_comment_stays(self) -> None:
        before = self.write(WRITTEN)
        with self.editor() as editor:
            editor.change("alice", folder="a2", is_active=False)
            expected = before.replace('folder = "alice"  ', 'folder = "a2"  ').replace(
                "active = true", "active = false"
            )
            self.assertEqual(self.file.read_text(), expected)
            editor.add("dave", [line(1)], folder="d")
            added = f'\n\n[users.dave]\nfolder = "d"\nkeys = ["{line(1)}"]\n'
            self.assertEqual(self.file.read_text(), expected + added)
            editor.remove("dave")
            self.assertEqual(self.file.read_text(), expected + "\n\n")
            editor.change("alice", storage="s")
            expected = expected.replace("active = false\n", 'active = false\nstorage = "s"\n')
            self.assertEqual(self.file.read_text(), expected + "\n\n")
            editor.remove("alice")
        self.assertEqual(
            self.file.read_text(),
            "# Who may log in.  Ask Ann first.\n\n# --- guests ---\n"
            + expected.split("guests ---\n")[1]
            + "\n\n",
        )

    async def test_line_ends_of_another_system_stay(self) -> None:
        self.write(WRITTEN.replace("\n", "\r\n"))
        with self.editor() as editor:
            editor.add("dave", [line(1), line(2)])
            editor.change("alice", storage="s")
        content = self.file.read_bytes()
        self.assertEqual(content.count(b"\n"), content.count(b"\r\n"))

    async def test_mode_and_owner_and_a_link_to_the_file_stay(self) -> None:
        self.write("[users.alice]\n")
        if os.geteuid() == 0:
            os.chown(self.file, 0, 4242)
        link = self.place / "link.toml"
        link.symlink_to("users.toml")
        before = self.file.stat()
        with FileEditor(link) as editor:
            editor.change("alice", is_active=False)
        after = self.file.stat()
        self.assertEqual(
            (after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid)
        )
        self.assertTrue(link.is_symlink())
        self.assertEqual(sorted(os.listdir(self.place)), ["link.toml", "users.toml"])

    async def test_a_user_who_has_no_table_of_their_own_is_left_to_a_person(self) -> None:
        for text in (
            "[users]\nalice = { folder = 'a' }\n",
            "users.alice.folder = 'a'\n",
            "[users]\nalice.folder = 'a'\n",
        ):
            before = self.write(text)
            with self.editor() as editor:
                for act in (lambda: editor.change("alice", is_active=False), lambda: editor.remove("alice")):
                    with self.assertRaisesRegex(DirectoryError, "edit the file by hand"):
                        act()
            self.assertEqual(self.file.read_text(), before)

    async def test_a_broken_file_is_not_touched(self) -> None:
        before = self.write("[users.alice]\nfolder = \n")
        with self.editor() as editor, self.assertRaisesRegex(DirectoryError, "line 2, column 10"):
            editor.add("bob", [])
        self.assertEqual(self.file.read_text(), before)

    async def test_the_last_user_leaves_a_file_that_says_that_nobody_is_meant(self) -> None:
        with self.editor() as editor:
            editor.add("alice", [])
            self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
            async with Watcher(self.directory()) as watch:
                editor.remove("alice")
                await watch.until(lambda: watch.directory.find("alice") is None)
            self.assertEqual(tomllib.loads(self.file.read_text()), {"users": {}})
            editor.add("bob", [])
            self.assertEqual(self.names(editor), ["bob"])

    async def test_any_names_and_values_come_out_as_they_went_in(self) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        letters = "ab\"'\\#[]={}.,- \u00e9\U0001f600"
        self.write(WRITTEN)
        expected = tomllib.loads(self.file.read_text())["users"]
        with self.editor() as editor:
            for _ in range(60):
                name = "x" + "".join(chance.choices(letters, k=8)).strip() + "x"
                storage = "".join(chance.choices(letters, k=12))
                if name in expected:
                    continue
                editor.add(name, [line(chance.randrange(5))], folder="f", storage=storage)
                table = {"folder": "f", "storage": storage}
                if chance.random() < 0.5:
                    editor.change(name, storage=storage + "'''", add_keys=[line(7)])
                    table["storage"] += "'''"
                expected[name] = table
                if chance.random() < 0.3:
                    editor.remove(name)
                    del expected[name]
        found = tomllib.loads(self.file.read_text())["users"]
        self.assertEqual(found.keys(), expected.keys())
        for name, table in expected.items():
            self.assertEqual({field: found[name][field] for field in table}, table)
