"""sksync.json: every key, its default, what it may not be, and what does not go together."""

from __future__ import annotations

import json
import unittest
from typing import Any

from pysftpserver.failures import BadInput
from pysftpserver.sksync import config
from pysftpserver.sksync.wire import Dialect

CLIENT = {"server_path": "/s", "client_path": "/c"}
#: The attribute of the settings for a key of the protocol page, and its default there.
SERVER_DEFAULTS: dict[str, tuple[str, object]] = {
    "host": ("listen_address", ("0.0.0.0",)),
    "port": ("port", 23456),
    "sksync1_compat": ("sksync1_compat", False),
    "require_auth": ("needs_login", True),
    "server_dir_whitelist": ("server_dir_whitelist", ()),
    "server_dir_whitelist_policy": ("server_dir_whitelist_policy", "deny"),
    "ignore_time_errors": ("ignore_time_errors", False),
    "users": ("users", {}),
    "use_ssl": ("use_ssl", False),
    "ssl_server_certfile": ("ssl_server_certfile", None),
    "ssl_server_keyfile": ("ssl_server_keyfile", None),
    "ssl_client_certfile": ("ssl_client_certfile", None),
    "ssl_minimum_version": ("ssl_minimum_version", "TLSv1.2"),
    "filter_fnmatch_exclude": ("filter_fnmatch_exclude", ()),
    "server_root": ("server_root", None),
    "storage": ("storage", None),
    "max_names": ("max_names", 1_000_000),
    "max_listing_bytes": ("max_listing_bytes", 256 << 20),
    "max_clients": ("max_connections", 100),
    "timeout": ("idle_timeout", 120),
}
OF_CLIENTS = {"protocol", "username", "password", "ssl_client_keyfile", "clients", "client"}
CLIENT_DEFAULTS = {
    "address": "127.0.0.1",
    "port": 23456,
    "recursive": False,
    "sync_type": "from_server_use_time",
    "dialect": Dialect.PYSKSYNC_2,
    "username": None,
    "password": None,
    "use_ssl": False,
    "ssl_server_certfile": None,
    "ssl_client_certfile": None,
    "ssl_client_keyfile": None,
    "filter_fnmatch_exclude": (),
    "ignore_time_errors": False,
    "storage": None,
    "idle_timeout": 120,
}
TEXT_KEYS = ["server_dir_whitelist_policy", "username", "password", "protocol", "ssl_minimum_version"]
TEXT_KEYS += [f"ssl_{side}_{what}" for side in ("server", "client") for what in ("certfile", "keyfile")]
TEXT_KEYS += ["server_root"]
WRONG = {
    **{key: [5, True, [], {}, "a\0b", "\ud800"] for key in TEXT_KEYS},
    **{key: [0, 1, "true", None, [], {}] for key in ("sksync1_compat", "ignore_time_errors", "use_ssl")},
    "require_auth": [0, 1, "true", [], {}],
    **{
        key: ["text", None, {}, [5], ["a", None], ["a\0b"]]
        for key in ("server_dir_whitelist", "filter_fnmatch_exclude")
    },
    "host": [5, True, {}, "a\0b", "\ud800", [5]],
    "port": ["23456", -1, 65536, 1.5, 23456.0, True, None, [], {}],
    "users": ["text", [], 5, None, True],
    "clients": ["text", [], 5, None, True],
    "client": ["text", [], 5, True],
    "storage": ["", [], 5, True],
    **{key: [0, -1, 1.5, "5", None, True] for key in ("max_names", "max_listing_bytes", "max_clients")},
    "timeout": [0, -1, "5", None, True, 10_000_000],
}
WRONG_IN_CLIENT = {
    "server_path": [5, None, [], "a\0b"],
    "client_path": [5, None, {}, True],
    "recursive": [0, "true", None],
    "sync_type": ["both", 2, None],
    "port": ["1", -1],
    "use_ssl": [1],
    "password": [5],
    "storage": [5],
}
NO_COMMA = """{
    "sksync1_compat": true,
    "host": "0.0.0.0", 
    "port": 23456,
    "clients": {
        "client": {
            "recursive": true,
            "server_path": "/tmp/server/path",
            "client_path": "/tmp/client/path"
        }
    }
    "require_auth": false,
}
"""  # noqa: W291 - as it is in the field


class Case(unittest.TestCase):
    def read(self, **keys: Any) -> config.ServerSettings:
        return config.read(json.dumps(keys), "sksync.json")

    def refused(self, text: str) -> str:
        with self.assertRaises(BadInput) as caught:
            config.read(text, "sksync.json")
        said = str(caught.exception)
        self.assertTrue(said.isprintable(), said)
        return said

    def refused_keys(self, key: str, **keys: Any) -> str:
        said = self.refused(json.dumps(keys))
        self.assertTrue(said.startswith(f"sksync.json: {key}: "), said)
        return said


class Defaults(Case):
    def test_an_empty_object_has_every_default(self) -> None:
        empty = self.read()
        for key, (attribute, default) in SERVER_DEFAULTS.items():
            with self.subTest(key):
                self.assertEqual(getattr(empty, attribute), default)
        self.assertEqual(empty.unknown, [])

    def test_no_key_is_without_a_test_here(self) -> None:
        self.assertEqual({*SERVER_DEFAULTS, *OF_CLIENTS} - set(WRONG), set())
        tables = (config.ServerSettings, config.ClientKeys, config.Sections)
        known = {key for one in tables for key in one.table()} | {"host", "timeout", "max_clients"}
        self.assertEqual({*SERVER_DEFAULTS, *OF_CLIENTS} - known, set())

    def test_a_client_with_its_paths_alone_has_every_default(self) -> None:
        client = self.read(clients={"one": CLIENT}).client("one")
        for attribute, default in CLIENT_DEFAULTS.items():
            with self.subTest(attribute):
                self.assertEqual(getattr(client, attribute), default)
        self.assertEqual((client.name, client.server_path, client.client_path), ("one", "/s", "/c"))

    def test_a_client_cannot_connect_to_port_zero_which_a_server_takes_for_any(self) -> None:
        made = config.checked({"port": 0, "client": {"server_path": "/s", "client_path": "/c"}})
        self.assertEqual(made.port, 0)
        with self.assertRaisesRegex(BadInput, ": port: "):
            made.client("client")

    def test_the_lesser_protocol_needs_no_logins_unless_told(self) -> None:
        self.assertFalse(self.read(sksync1_compat=True).needs_login)
        self.assertFalse(self.read(require_auth=False).needs_login)
        self.assertTrue(self.read(require_auth=True).needs_login)


class Values(Case):
    def test_of_every_wrong_type_are_refused_with_the_key(self) -> None:
        for key, values in WRONG.items():
            for value in values:
                with self.subTest(key, value=value):
                    self.refused_keys(key, **{key: value})

    def test_of_a_client_of_a_wrong_type_are_refused_with_section_and_key(self) -> None:
        for key, values in WRONG_IN_CLIENT.items():
            for value in values:
                with self.subTest(key, value=value):
                    self.refused_keys(f"clients.one: {key}", clients={"one": {**CLIENT, key: value}})
                    self.refused_keys(f"client: {key}", client={**CLIENT, key: value})
        self.refused_keys("clients.one", clients={"one": 5})

    def test_that_are_right_are_taken(self) -> None:
        made = self.read(
            host="::1",
            port=65535,
            server_dir_whitelist=["/a", "/b"],
            server_dir_whitelist_policy="silent",
            users={"\u00e4": {"authsrp": ["00FF", "0a"], "note": "kept"}},
            use_ssl=True,
            ssl_server_certfile="c",
            ssl_server_keyfile="k",
            filter_fnmatch_exclude=["*.o"],
            timeout=0.5,
        )
        self.assertEqual((made.listen_address, made.port), (("::1",), 65535))
        self.assertEqual(made.server_dir_whitelist, ("/a", "/b"))
        self.assertEqual(made.server_dir_whitelist_policy, "silent")
        self.assertEqual((made.filter_fnmatch_exclude, made.idle_timeout), (("*.o",), 0.5))
        self.assertEqual(made.users, {"\u00e4": (b"\0\xff", 10)})
        self.assertEqual((made.ssl_server_certfile, made.ssl_server_keyfile), ("c", "k"))

    def test_of_users_are_salt_and_verifier(self) -> None:
        good = ["00", "01"]
        for user in (
            5, "text", None, [], {}, {"authsrp": None}, {"authsrp": "00"}, {"authsrp": ["00"]},
            {"authsrp": [*good, "00"]}, {"authsrp": ["0", "01"]}, {"authsrp": ["", "01"]},
            {"authsrp": ["0g", "01"]}, {"authsrp": ["00", ""]}, {"authsrp": ["00", "00"]},
            {"authsrp": ["00", "xx"]}, {"authsrp": [0, 1]}, {"authsrp": ["00", "01\n"]},
        ):  # fmt: skip
            with self.subTest(user=user):
                said = self.refused_keys("users", users={"tom": user})
                self.assertIn("add 'tom' again with pysksync users", said)

    def test_of_all_sync_types_are_known(self) -> None:
        for number, name in enumerate(
            ("bidirectional_use_time", "to_server_use_time", "from_server_use_time")
            + ("bidirectional_no_time", "to_server_no_time", "from_server_no_time")
        ):
            made = self.read(clients={"one": {**CLIENT, "sync_type": name}})
            self.assertEqual(int(config.SYNC_TYPES[made.client("one").sync_type]), number)

    def test_that_are_secrets_are_never_shown(self) -> None:
        secret = "s3cr3t"
        for keys in (
            {"password": [secret]},
            {"password": f"{secret}\0"},
            {"users": {"tom": {"authsrp": [secret, "00"]}}},
            {"users": secret},
            {"users": {"tom": {"authsrp": ["00", secret]}}},
            {"storage": [f"mongodb://tom:{secret}@host"]},
            {"storage": {"type": "gridfs", "uri": [secret]}},
            {"storage": {"type": "gridfs", "uri": f"mongodb://tom:{secret}@host", "uri_file": "f"}},
            {"clients": {"one": {**CLIENT, "password": {"is": secret}}}},
            {"clients": {"one": secret}},
            {"client": secret},
            {"client": {**CLIENT, "username": "tom", "password": secret, "sksync1_compat": True}},
        ):
            with self.subTest(keys):
                self.assertNotIn(secret, self.refused(json.dumps(keys)))
        for text in (
            f'{{"password": "{secret}" 5}}',
            f'{{"password": "{secret}',
            f'{{"password": {secret}}}',
        ):
            with self.subTest(text):
                self.assertNotIn(secret, self.refused(text))

    def test_in_a_storage_are_checked(self) -> None:
        good = {"type": "gridfs", "uri": "mongodb://h/d"}
        storage = self.read(storage=good).storage
        assert storage is not None
        self.assertEqual((storage.uri, storage.bucket, storage.prefix), ("mongodb://h/d", "fs", ""))
        for key, given in (
            ("storage: type", {"uri": "u"}),
            ("storage: type", {**good, "type": "disk"}),
            ("storage: uri", {"type": "gridfs"}),
            ("storage: uri", {**good, "uri_file": "f"}),
            ("storage: bucket", {**good, "bucket": 5}),
        ):
            with self.subTest(given=given):
                self.refused_keys(key, storage=given)
        said = self.refused(json.dumps({"storage": {**good, "buckt": "fs"}}))
        self.assertIn("sksync.json: storage: unknown key 'buckt'", said)
        client = {**CLIENT, "storage": {"type": "gridfs"}}
        self.refused_keys("clients.one: storage: uri", clients={"one": client})


class Together(Case):
    def test_the_lesser_protocol_goes_with_neither_logins_nor_tls(self) -> None:
        self.refused_keys("require_auth", sksync1_compat=True, require_auth=True)
        self.refused_keys("sksync1_compat", sksync1_compat=True, use_ssl=True)
        self.refused_keys("sksync1_compat", sksync1_compat=True, username="tom", password="p")

    def test_nor_in_a_clients_section_whoever_said_it(self) -> None:
        compat = {"sksync1_compat": True}
        section = "clients.one: sksync1_compat"
        self.refused_keys(section, use_ssl=True, clients={"one": {**CLIENT, **compat}})
        self.refused_keys(section, username="tom", password="p", clients={"one": {**CLIENT, **compat}})
        self.refused_keys(section, **compat, clients={"one": {**CLIENT, "use_ssl": True}})
        self.refused_keys(section, **compat, clients={"one": {**CLIENT, "username": "tom"}})
        made = self.read(**compat, clients={"one": {**CLIENT, "sksync1_compat": False, "use_ssl": True}})
        self.assertTrue(made.client("one").use_ssl)
        made = self.read(use_ssl=True, clients={"one": {**CLIENT, **compat, "use_ssl": False}})
        self.assertIs(made.client("one").dialect, Dialect.SKSYNC_1)

    def test_silent_needs_a_path(self) -> None:
        self.refused_keys("server_dir_whitelist_policy", server_dir_whitelist_policy="silent")

    def test_a_key_needs_its_certificate(self) -> None:
        self.refused_keys("ssl_server_keyfile", ssl_server_keyfile="k")
        self.refused_keys("ssl_client_keyfile", ssl_client_keyfile="k")
        section = {"one": {**CLIENT, "ssl_client_keyfile": "k"}}
        self.refused_keys("clients.one: ssl_client_keyfile", clients=section)

    def test_a_client_may_take_any_certificate_whatever_the_servers_key(self) -> None:
        section = {"one": {**CLIENT, "ssl_server_certfile": None}}
        made = self.read(use_ssl=True, ssl_server_certfile="c", ssl_server_keyfile="k", clients=section)
        self.assertIsNone(made.client("one").ssl_server_certfile)

    def test_a_server_with_tls_needs_a_certificate_and_a_client_does_not(self) -> None:
        made = self.read(use_ssl=True, client=CLIENT)
        self.assertTrue(made.client("client").use_ssl)
        with self.assertRaisesRegex(BadInput, "^ssl_server_certfile: "):
            made.check_server()
        self.read(use_ssl=True, ssl_server_certfile="c").check_server()

    def test_a_storage_goes_without_a_root(self) -> None:
        self.refused_keys("storage", storage={"type": "gridfs", "uri": "u"}, server_root="/r")

    def test_a_lone_client_is_the_client_named_client(self) -> None:
        made = self.read(client=CLIENT, clients={"other": CLIENT}).client("client")
        self.assertEqual((made.name, made.server_path), ("client", "/s"))
        self.refused_keys("client", client=CLIENT, clients={"client": CLIENT})


class Clients(Case):
    def test_have_the_whole_files_values_unless_they_have_their_own(self) -> None:
        shared = {
            "host": "h", "port": 5, "username": "tom", "password": "p", "use_ssl": True,
            "ssl_server_certfile": "s", "ssl_client_certfile": "c", "ssl_client_keyfile": "k",
            "filter_fnmatch_exclude": ("*",), "ignore_time_errors": True, "timeout": 7,
        }  # fmt: skip
        own = {
            "host": "o", "port": 6, "username": "ann", "password": "q", "use_ssl": False,
            "ssl_server_certfile": "t", "ssl_client_certfile": "d", "ssl_client_keyfile": "l",
            "filter_fnmatch_exclude": (), "ignore_time_errors": False, "timeout": 8,
        }  # fmt: skip
        made = self.read(**shared, clients={"plain": CLIENT, "own": {**CLIENT, **own}})
        names = ["idle_timeout" if name == "timeout" else name for name in shared]
        for client, expected in (("plain", shared), ("own", own)):
            settings = made.client(client)
            self.assertEqual([getattr(settings, name) for name in names], list(expected.values()), client)

    def test_that_are_not_configured_or_lack_a_path_are_said(self) -> None:
        made = self.read(clients={"one": {"server_path": "/s"}, "two": {**CLIENT, "username": "tom"}})
        for name, said in (
            ("three", "one, two"),
            ("one", "clients.one: client_path: "),
            ("two", "password: "),
        ):
            with self.subTest(name), self.assertRaises(BadInput) as caught:
                made.client(name)
            self.assertIn(said, str(caught.exception))
        with self.assertRaisesRegex(BadInput, "client: server_path: "):
            self.read(client={"client_path": "/c"}).client("client")

    def test_connect_to_this_host_where_a_server_listens_everywhere(self) -> None:
        for host in ("", "0.0.0.0", "::"):
            self.assertEqual(self.read(host=host, client=CLIENT).client("client").address, "127.0.0.1")


class Texts(Case):
    def test_that_lack_a_comma_are_refused_with_file_line_and_column(self) -> None:
        said = self.refused(NO_COMMA)
        self.assertTrue(said.startswith("sksync.json, line 12, column 5: "), said)
        whole = NO_COMMA.replace('}\n    "require', '},\n    "require')
        self.assertFalse(config.read(whole, "sksync.json").needs_login)

    def test_with_a_comma_after_the_last_item_are_taken(self) -> None:
        text = '{"server_dir_whitelist": ["/a" , "/b",\n ], "client": {"recursive": true\t,\r\n},}'
        made = config.read(text, "f")
        self.assertEqual(made.server_dir_whitelist, ("/a", "/b"))

    def test_with_other_commas_too_many_are_refused_where_they_are(self) -> None:
        for text, place in (
            ("{,}", "column 2"),
            ('{"host": "a",,}', "column 14"),
            ('{"server_dir_whitelist": [,]}', "column 27"),
            ('{"host": "a"},', "column 14"),
            ('{"a": 1,\n "host": "h" "port": 5,\n}', "line 2, column 14"),
        ):
            with self.subTest(text):
                said = self.refused(text)
                self.assertTrue(said.startswith("sksync.json, line ") and place in said, said)

    def test_keep_what_is_in_strings(self) -> None:
        for value in (",}", ",]", 'a\\",}', "\\", '",}', ", ]"):
            with self.subTest(value):
                text = json.dumps({"username": value})
                self.assertEqual(config.without_trailing_commas(text), text)
                self.assertEqual(config.parse(text, "f"), {"username": value})

    def test_stay_as_long_without_their_last_commas(self) -> None:
        text = '{"a": [1, 2 ,\n], "b": {"c": ",}",},}'
        plain = config.without_trailing_commas(text)
        self.assertEqual(len(plain), len(text))
        self.assertEqual(json.loads(plain), {"a": [1, 2], "b": {"c": ",}"}})

    def test_that_are_no_object_are_refused(self) -> None:
        for text in (
            "",
            "[]",
            "5",
            '"x"',
            "null",
            "{",
            "}",
            "\ufeff{}",
            "[" * 100_000,
            '{"port": 1' + "0" * 9999,
        ):
            with self.subTest(text[:20]):
                self.assertTrue(self.refused(text).startswith("sksync.json"))

    def test_with_numbers_that_json_does_not_have_are_refused(self) -> None:
        for word in ("NaN", "Infinity", "-Infinity"):
            self.assertIn(word, self.refused(f'{{"timeout": {word}}}'))

    def test_that_give_a_key_twice_are_refused(self) -> None:
        for text, key in (('{"port": 1, "port": 1}', "port"), ('{"users": {"tom": 1, "tom": 2}}', "tom")):
            self.assertEqual(self.refused(text), f"sksync.json: {key} is given twice; keep one of them")

    def test_with_keys_of_no_meaning_have_them_reported(self) -> None:
        made = self.read(hots="h", clients={"one": {**CLIENT, "recursiv": True}}, client={"users": {}})
        self.assertEqual(made.unknown, ["hots", "clients.one.recursiv", "client.users"])

    def test_with_ends_of_lines_in_names_are_refused_in_one_line(self) -> None:
        self.assertIn("a\\nb", self.refused(json.dumps({"users": {"a\nb\x1b": 5}})))
