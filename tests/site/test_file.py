"""Site files: what they say, and what is wrong with them."""

from __future__ import annotations

import unittest

from pysftpserver.failures import BadInput
from pysftpserver.site import file, lines

TOP = 'storage = "jail:/x"\n'
MOUNT = '[[mount]]\npath = "/a"\nstorage = "jail:/srv"\n'
WHOLE = """\
storage = "jail:/srv/{user}"
hidden = ["/.git/**"]
state = "/var/lib/x"

[group]
staff = ["alice", "b*"]
none = []

[[mount]]
path = "/shared"
storage = "jail:/shared"
groups = ["staff"]

[[rule]]                # a comment with "quotes
path = [
    "/in/**",           # and [brackets
]
users = "p-*"
networks = "10.0.0.0/8"
hours = ["mon-fri 08:00-18:00", "22:00-06:00"]
allow = ["list", "upload"]

[[rule]]
path = '/out/**'
deny = "write"

[names]
refuse = ["*.exe"]
largest = "1.0 GiB"

[quota]
bytes = "10 GiB"
files = 100_000

[[gate]]
path = "/in/**"
limit = { size = "1 MB", magic = ["text"] }
or = "accept"

[[event]]
on = ["upload"]
run = ["/bin/x", "{path}"]
"""


class What(unittest.TestCase):
    def mistakes(self, text: str) -> list[str]:
        with self.assertRaises(BadInput) as raised:
            file.parse(text, "s.toml")
        return list(raised.exception.lines) if isinstance(raised.exception, file.Mistakes) else []

    def test_what_it_says(self) -> None:
        site = file.parse(WHOLE.replace("1.0 GiB", "1 GiB"), "s.toml")
        self.assertEqual(site.groups, {"staff": ("alice", "b*"), "none": ()})
        first, second = site.rules
        self.assertEqual((first.path, first.users, first.deny), (("/in/**",), ("p-*",), None))
        self.assertEqual(first.allow, {"list", "upload"})
        self.assertEqual((first.line, first.at("users")), (14, "s.toml: line 18: users"))
        self.assertEqual((second.line, second.place), (23, "s.toml: line 23: rule 2"))
        assert site.names is not None
        self.assertEqual((site.names.largest, site.names.refuse), (1 << 30, ("*.exe",)))
        (quota,), (gate,), (event,) = site.quotas, site.gates, site.events
        self.assertEqual((quota.bytes, quota.files, quota.per), (10 << 30, 100_000, "user"))
        self.assertEqual((gate.or_, gate.clamd, gate.limit["size"]), ("accept", None, 1_000_000))
        self.assertEqual((event.on, event.run, event.path), (("upload",), ("/bin/x", "{path}"), ("/**",)))

    def test_every_mistake_is_named_with_file_line_and_key(self) -> None:
        self.assertEqual(
            self.mistakes(
                f'acros = "copy"\n{TOP}{MOUNT}read_only = "yes"\n\n[[rule]]\npath = "in"\nallow = "lst"\n'
                '[[rule]]\nallow = "list"\ndeny = "list"\n[[gate]]\n[quota]\nbytes = "1 XB"\n'
            ),
            [
                "s.toml: line 1: acros: unknown key; known are storage, across, hidden, state, ledger, "
                "ledger_secret, mount, group, rule, names, quota, gate, event",
                "s.toml: line 6: read_only: write true or false",
                "s.toml: line 9: path: in: write an absolute path, such as /in/**",
                "s.toml: line 10: allow: lst: unknown action; known are list, download, upload, overwrite, "
                "append, delete, rename, mkdir, rmdir, symlink, link, setstat, all, read, write",
                "s.toml: line 11: rule: give one of allow, deny or hidden",
                "s.toml: line 14: gate: give clamd, ask or limit",
                "s.toml: line 15: quota: needs a directory for its ledger; give state",
                's.toml: line 16: bytes: write a number of bytes, or a text such as "10 GiB"',
            ],
        )

    def test_mistakes(self) -> None:
        for text, words in (
            ("storage = 1\n", "s.toml: line 1: storage: write a text"),
            ("storage = \n", "s.toml: Invalid value (at line 1, column 11)"),
            (f"{TOP}\nquotas = 1\n", "s.toml: line 3: quotas: unknown key; known are storage, across, "),
            (f"{TOP}[mount]\n", "s.toml: line 2: mount: write tables"),
            (f'{TOP}across = "move"\n', 's.toml: line 2: across: write "copy"'),
            (f'{TOP}[[mount]]\nstorage = "jail:/a"\n', "s.toml: line 2: mount: path: missing"),
            (f"{TOP}{MOUNT}ro = true\n", "line 5: ro: unknown key; known are path, storage, read_only"),
            (f"{TOP}{MOUNT}{MOUNT}", "s.toml: line 6: path: /a is mounted twice"),
            (f'{TOP}[[mount]]\npath = "/a/../b"\nstorage = "x"\n', "line 3: path: write an absolute"),
            (f'{TOP}[[mount]]\npath = "/"\nstorage = "x"\n', "s.toml: line 3: path: write an absolute path"),
            (f'{TOP}[[rule]]\ngroups = "x"\nhidden = true\n', "s.toml: line 3: groups: x: no such group"),
            (f'{TOP}[[rule]]\nnetworks = "10.0.0.0/x"\nhidden = true\n', "line 3: networks: 10.0.0.0/x: "),
            (f'{TOP}[[rule]]\nhours = "foo 08:00-09:00"\nhidden = true\n', "line 3: hours: foo: write days"),
            (f'{TOP}[[rule]]\npath = "/a/[b"\nhidden = true\n', "line 3: path: [b: a [ without its ]"),
            (f'{TOP}[[rule]]\npath = "/a/{{b}}"\nhidden = true\n', "line 3: path: {b}: only {user}"),
            (f'{TOP}[[event]]\non = "upload"\n', "s.toml: line 2: event: give run, post or socket"),
            (f'{TOP}[[event]]\nrun = "/bin/x"\n', "s.toml: line 2: event: on: missing"),
            (f"{TOP}[quota]\nbytes = 1\n", "s.toml: line 2: quota: needs a directory for its ledger; give"),
            (f'{TOP}[group]\n"a/b" = ["x"]\n', "s.toml: line 3: a/b: a group's name is a single name"),
            (
                f'{TOP}[names]\ntemporary = "*.*"\n',
                "s.toml: line 3: temporary: *.*: write a pattern of names",
            ),
            (f"{TOP}[group]\na = 1\n", "s.toml: line 3: a: write a text, or a list of texts"),
        ):
            with self.subTest(text):
                self.assertIn(words, "\n".join(self.mistakes(text)))

    def test_a_number_that_int_does_not_take_is_a_mistake(self) -> None:
        self.assertRegex(self.mistakes(f"state = {'9' * 5000}")[0], "a number in it is too long")

    def test_what_is_in_a_value_is_no_key(self) -> None:
        text = 'a = """\nb = 1\n[c]\n"""\nd = [\n  "e = 1",\n]\nf = \'\'\'\ng = "\'\'\'\n'
        text += '[[h]]\ni = 1 # """\nj = 2\n[[h]]\n'
        self.assertEqual(
            lines.places(text),
            {("", 0, "a"): 1, ("", 0, "d"): 5, ("", 0, "f"): 8, ("h", 1, ""): 10, ("h", 1, "i"): 11,
             ("h", 1, "j"): 12, ("h", 2, ""): 13},
        )  # fmt: skip
