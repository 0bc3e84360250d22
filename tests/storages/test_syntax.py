"""Names of storages: how they are taken apart, and that no value of {user} or {folder} leaves its place."""

from __future__ import annotations

import json
import posixpath
import unittest
from urllib.parse import parse_qsl, unquote, urlsplit

from pysftpserver.failures import BadInput
from pysftpserver.storages import by_name, syntax
from tests.support.examples import given, settings
from tests.support.examples import st as some
from tests.support.hard import IS_HARD

#: What people who look for a way out would be called, and anything else.
HOSTILE = some.lists(
    some.sampled_from(
        ["..", ".", "/", "\\", "\0", "%2f", "%2e", "%", "&", "=", "?", "#", "@", ":", "::", "//", "{user}"]
        + ["{folder}", "{", "}", '"', ",", " ", "\n", "a", "prefix=", "://", ";", "+", "é", "\ud800", "~root"]
    ),
    max_size=5,
).map("".join)
VALUES = some.fixed_dictionaries({"user": HOSTILE, "folder": HOSTILE})
EXAMPLES = settings(deadline=None, max_examples=3_000 if IS_HARD else 40, database=None)


class NoValueLeavesItsPlace(unittest.TestCase):
    """Each value is refused, or is exactly one name at the place of its field, whatever is in it."""

    def filled(self, values: dict[str, str], fill):
        try:
            return fill()
        except ValueError as error:
            self.assertTrue(str(error).isprintable())
            return None

    def allowed(self, value: str) -> bool:
        is_name = value not in ("", ".", "..") and "/" not in value and "\0" not in value
        return is_name and not value.startswith("~")  # which libraries and ssh take for somebody's home

    @EXAMPLES
    @given(VALUES)
    def test_in_a_path_of_the_host(self, values: dict[str, str]) -> None:
        for scheme in ("jail:", "plain:", ""):
            name = by_name.Name(f"{scheme}/srv/x-{{user}}/{{folder}}/end.toml")
            path = self.filled(values, lambda name=name: name.path(values))
            if path is not None:
                self.assertEqual(posixpath.normpath(path), path)
                self.assertEqual(
                    path.split("/"), ["", "srv", f"x-{values['user']}", values["folder"], "end.toml"]
                )
                self.assertTrue(all(map(self.allowed, path.split("/")[1:])))

    @EXAMPLES
    @given(VALUES)
    def test_in_the_settings_of_gridfs(self, values: dict[str, str]) -> None:
        name = by_name.Name("gridfs:/etc/{user}?prefix=/home%2Dold/{folder}&bucket=b")
        found = self.filled(
            values,
            lambda: {key: name.setting(key, values) for key in name.settings} | {"": name.path(values)},
        )
        if found is not None:
            self.assertEqual(set(found), {"prefix", "bucket", ""})
            self.assertEqual(found[""], f"/etc/{values['user']}")
            self.assertEqual(found["prefix"], f"/home-old/{values['folder']}")
            self.assertTrue(all(map(self.allowed, (values["user"], values["folder"]))))

    @EXAMPLES
    @given(VALUES)
    def test_in_a_url(self, values: dict[str, str]) -> None:
        for scheme in ("s3", "gs", "az", "sftp", "fsspec:ftp"):
            text = f"{scheme}://place/top/{{user}}/x-{{folder}}?credentials=/etc/{{user}}&times=server"
            name = by_name.Name(text)
            url = self.filled(values, lambda name=name: name.url(values))
            if url is not None:
                parts = urlsplit(url)
                self.assertEqual((parts.netloc, parts.fragment), ("place", ""))
                path = unquote(parts.path, errors="strict")
                self.assertEqual(path, f"/top/{values['user']}/x-{values['folder']}")
                self.assertEqual(posixpath.normpath(path), path)
                self.assertEqual(
                    parse_qsl(parts.query, strict_parsing=True),
                    [("credentials", f"/etc/{values['user']}"), ("times", "server")],
                )
                self.assertNotIn("\\", path)
                for value in values.values():  # Windows and Azure take both for the name without its end
                    self.assertTrue(self.allowed(value) and not value.endswith((".", " ")))
                self.assertNotIn("::", url)

    @EXAMPLES
    @given(VALUES)
    def test_in_the_arguments_of_a_class(self, values: dict[str, str]) -> None:
        arguments = {"a": ["/srv/{folder}", 1], "b": {"{user}": "{name}"}, "c": "{other}"}
        found = self.filled(values, lambda: syntax.filled_arguments(arguments, values))
        if found is not None:
            wanted = {"a": [f"/srv/{values['folder']}", 1], "b": {"{user}": values["user"]}, "c": "{other}"}
            self.assertEqual(json.loads(json.dumps(found)), wanted)
            self.assertTrue(all(map(self.allowed, values.values())))


class Names(unittest.TestCase):
    def test_a_password_is_one_in_any_disguise_and_is_not_shown(self) -> None:
        for name in (
            "sftp://u:geheim@h/",
            "sftp://u%3Ageheim@h/",
            "sftp://u%3ageheim@h:22/",
            "s3://k%3Ageheim@b",
        ):
            with self.subTest(name):
                self.assertNotIn("geheim", self.refused(name))
                self.assertNotIn("geheim", syntax.shown(name))
        for name in ("fsspec:zip://::https://geheim@h/a.zip", "redis://geheim@h", "s3://b?geheim"):
            with self.subTest(name):
                self.assertNotIn("geheim", syntax.shown(name))
        self.assertNotIn("geheim", self.refused("redis://geheim@h"))
        self.assertNotIn("geheim", self.refused("gridfs:/f?geheim"))
        for name in ("sftp://alice@host/a", "jail:a@b", "s3://bucket/a@b", "a@b.toml"):
            self.assertEqual(syntax.shown(f"{name}?key=f"), name)

    def refused(self, text: str, *known: str) -> str:
        with self.assertRaises(BadInput) as raised:
            by_name.parse(text, "--storage", known or syntax.FIELDS)
        self.assertTrue(raised.exception.message.startswith("--storage: "))
        return raised.exception.message

    def test_the_older_spelling_of_gridfs_means_the_same(self) -> None:
        for text in ("gridfs:/etc/uri,bucket=b&%,prefix=/a", "gridfs:/etc/uri?bucket=b%26%25&prefix=%2Fa"):
            with self.subTest(text):
                name = by_name.Name(text)
                self.assertEqual((name.scheme, name.place), ("gridfs", "/etc/uri"))
                self.assertEqual(name.settings, {"bucket": "b&%", "prefix": "/a"})

    def test_what_a_name_is_shows_in_its_beginning_or_its_end(self) -> None:
        for text, scheme in {
            "plain": "plain", "plain:/": "plain", "jail:/srv/a.toml": "jail", "gridfs:uri": "gridfs",
            "s3://b": "s3", "sftp://u@h:22/p": "sftp", "fsspec:memory://": "fsspec", "a.b:C [1]": "module",
            "m:C.toml": "module", "/etc/site.toml": "toml", "site.toml": "toml", "/a:b/c.toml": "toml",
        }.items():  # fmt: skip
            with self.subTest(text):
                self.assertEqual(by_name.Name(text).scheme, scheme)

    def test_what_is_no_name_is_refused_with_what_to_write(self) -> None:
        for text in ("", "/srv", "jail", "http://h/", "mongodb://h/db", "{user}:/srv", "a b:C", "x/y:C"):
            with self.subTest(text):
                self.assertIn("unknown storage; write plain[:DIRECTORY], ", self.refused(text))
        for text, form in {
            "jail:": "jail:DIRECTORY",
            "s3:bucket": "s3://BUCKET",
            "gridfs:": "gridfs:FILE",
        }.items():
            with self.subTest(text):
                self.assertIn(f"write {form}", self.refused(text))

    def test_an_unknown_setting_is_named_with_those_that_are_known_and_without_its_value(self) -> None:
        said = self.refused("gridfs:uri?passwd=geheim")
        self.assertIn("passwd: unknown setting; known are database, bucket, prefix", said)
        self.assertNotIn("geheim", said)
        self.assertIn("bucket: given twice", self.refused("gridfs:uri?bucket=a&bucket=b"))
        self.assertIn("bucket: write bucket=VALUE", self.refused("gridfs:uri?bucket"))
        self.assertIn("prefix: not UTF-8", self.refused("gridfs:uri?prefix=%ff"))

    def test_only_known_fields_may_be_in_braces_and_none_in_a_host(self) -> None:
        for text in (
            "jail:/srv/{home}",
            "gridfs:uri?prefix=/{home}",
            "s3://b/{home}",
            "jail:/srv/{user",
            "x}.toml",
        ):
            with self.subTest(text):
                self.assertIn("only {user}, {folder} and {group} may be in braces", self.refused(text))
        for text in ("s3://b-{user}/x", "sftp://me@{folder}.example.com/", "fsspec:zip://a::ftp://{user}/"):
            with self.subTest(text):
                self.assertIn("cannot be in a host or a bucket", self.refused(text))
        for text in ("s3://b/?endpoint=https://{user}/", "gs://b/?region={folder}"):
            with self.subTest(text):
                self.assertIn("can be in credentials, ", self.refused(text))
        by_name.parse("sftp://{user}@example.com/", "x")
        self.assertIn("{folder}: no folder is known here", self.refused("jail:/srv/{folder}", "user"))
        self.assertIn("{user}: no user is known here", self.refused('m:C {"a": "{name}"}', "folder"))

    def test_a_password_in_a_name_is_refused_and_not_repeated(self) -> None:
        for text in (
            "s3://id:geheim@bucket/x", "s3://geheim@bucket", "az://a:geheim@c", "gs://a:geheim@c/p?times=server",
            "sftp://u:geheim@host/", "sftp://u:ge/geheim@host/", "fsspec:ftp://u:geheim@host/",
            "fsspec:zip://a::ftp://u:geheim@host/a.zip", "gridfs:mongodb://u:geheim@host/db",
            "mongodb://u:geheim@host/db", "fsspec:ftp://u:geheim@h/a::sftp://x@y/",
            "http://u:x@y:geheim@host/?key=geheim", "u:geheim@host",
        ):  # fmt: skip
            with self.subTest(text):
                self.assertNotIn("geheim", self.refused(text))


if __name__ == "__main__":
    unittest.main()
