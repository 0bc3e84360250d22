"""What `make release` checks, that it builds the same bytes twice, and what the bill of materials says."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
import unittest
import zipfile
from pathlib import Path

from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import program
from tools import release, sbom

CHANGELOG = "# Changelog\n\n## 9.8.7, 2026-01-02\n\n- What is new.\n\n## 9.8.6, 2025-01-02\n\n- What was.\n"
AUTHOR = ("-c", "user.name=A Maintainer", "-c", "user.email=maintainer@example.org")


class Checks(InAPlace):
    """A repository with what a release of 9.8.7 looks at."""

    def setUp(self) -> None:
        super().setUp()
        self.git("init", "-q")
        (self.place / "CHANGELOG.md").write_text(CHANGELOG)
        (self.place / "pysftpserver").mkdir()
        (self.place / "pysftpserver/__init__.py").write_text('__version__ = "9.8.7"\n')
        published = self.place / "tests/keeping"
        published.mkdir(parents=True)
        for package in (published, published.parent):
            (package / "__init__.py").touch()
        (published / "published.py").write_text("import sys\nsys.exit(0)\n")
        self.commit()

    def git(self, *words: str) -> None:
        subprocess.run([program("git"), *AUTHOR, *words], cwd=self.place, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "what there is", "--allow-empty")

    def refused(self, words: str, version: str = "9.8.7", is_tested: bool = True) -> None:
        with self.assertRaisesRegex(release.Refused, words):
            release.check(self.place, version, is_tested)

    def test_what_is_right_is_accepted(self) -> None:
        release.check(self.place, "9.8.7", True)

    def test_a_tree_that_is_not_clean_is_refused(self) -> None:
        (self.place / "left").touch()
        self.refused(r"the tree is not clean \(\?\? left\)")

    def test_a_version_that_is_none_or_was_tagged_is_refused(self) -> None:
        for wrong in ("", "9.8", "v9.8.7", "9.8.7.dev0", "9.8.7; true"):
            self.refused("give one such as", wrong)
        self.git("tag", "v9.8.7")
        self.refused("the tag v9.8.7 is there already")

    def test_the_code_has_to_say_the_version(self) -> None:
        (self.place / "pysftpserver/__init__.py").write_text('__version__ = "9.8.7.dev0"\n')
        self.commit()
        self.refused("says 9.8.7.dev0; set __version__ to 9.8.7")

    def test_the_changelog_has_to_have_a_section_with_a_date_and_a_content(self) -> None:
        for heading, words in (
            ("Unreleased: 9.8.7", "has no section"),
            ("9.8.71, 2026-01-02", "has no section"),
            ("9.8.7", "has no date"),
            ("9.8.7, 2026-02-30", "has no date"),
            ("9.8.7, soon", "has no date"),
            ("9.8.7, 2999-01-01", "in the future"),
            ("9.8.7, 2026-01-02\n\n## 9.8.5, 2025-01-01", "is empty"),
        ):
            with self.subTest(heading):
                text = CHANGELOG.replace("9.8.7, 2026-01-02", heading)
                (self.place / "CHANGELOG.md").write_text(text)
                self.commit()
                self.refused(words)

    def test_somebody_has_to_say_that_the_tests_have_run(self) -> None:
        self.refused("TESTED=yes", is_tested=False)

    def test_new_names_have_to_be_recorded(self) -> None:
        (self.place / "tests/keeping/published.py").write_text("import sys\nsys.exit(1)\n")
        self.commit()
        self.refused("new names are not recorded")

    def test_builds_that_differ_are_no_release(self) -> None:
        same = {"a.whl": b"1", "a.tar.gz": b"2"}
        self.assertEqual(release.compared([same, dict(same)]), same)
        for other, words in (({**same, "a.whl": b"3"}, "a.whl differ"), ({"a.whl": b"1"}, "two builds gave")):
            with self.assertRaisesRegex(release.Refused, words):
                release.compared([same, other])


class TheBillOfMaterials(unittest.TestCase):
    def setUp(self) -> None:
        self.text = sbom.text("9.8.7", 1_700_000_000)
        self.bill = json.loads(self.text)
        self.by_name = {one["name"]: one for one in self.bill["components"]}

    def test_it_has_every_library_of_every_extra_with_the_version_of_the_constraints(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lines = (ROOT / "tools/constraints.txt").read_text()
        pins = {sbom.plain(name): version for name, version in re.findall(r"(?m)^([^#=\s]+)==(\S+)$", lines)}
        found = sbom.extras_of_users(project)
        self.assertLess({"sshd", "web", "mongo"}, set(found))
        for extra, requirements in found.items():
            for requirement in requirements:
                name = sbom.plain(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
                with self.subTest(extra, name=name):
                    one = self.by_name[name]
                    self.assertEqual(one["version"], pins[name])
                    self.assertEqual(one["purl"], f"pkg:pypi/{name}@{pins[name]}")
                    self.assertIn({"name": "pysftpserver:extra", "value": extra}, one["properties"])

    def test_it_has_what_libraries_require_and_nothing_of_the_tests(self) -> None:
        self.assertIn("cffi", self.by_name)  # of cryptography
        for name in ("nose2", "hypothesis", "mypy", "ruff", "moto", "paramiko"):
            self.assertNotIn(name, self.by_name)

    def test_every_reference_leads_to_a_component(self) -> None:
        refs = {one["bom-ref"] for one in (*self.bill["components"], self.bill["metadata"]["component"])}
        self.assertEqual({one["ref"] for one in self.bill["dependencies"]}, refs)
        for one in self.bill["dependencies"]:
            self.assertLessEqual(set(one["dependsOn"]), refs)

    def test_the_same_release_has_the_same_bill_and_another_has_another_number(self) -> None:
        self.assertEqual(sbom.text("9.8.7", 1_700_000_000), self.text)
        other = json.loads(sbom.text("9.8.8", 1_700_000_000))
        self.assertNotEqual(other["serialNumber"], self.bill["serialNumber"])

    @unittest.skipUnless(IS_HARD, "the schema takes a second to read")
    def test_it_is_valid_by_the_schema_of_cyclonedx(self) -> None:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        validator = JsonStrictValidator(SchemaVersion.V1_6)
        self.assertIsNone(validator.validate_str(self.text))
        self.bill["components"][0]["version"] = 1  # a check that cannot fail would be none
        self.assertIsNotNone(validator.validate_str(json.dumps(self.bill)))


@unittest.skipUnless(IS_HARD, "two builds take half a minute")
class ARelease(InAPlace):
    def test_two_builds_are_equal_and_are_written_with_sums_and_a_tag(self) -> None:
        root = self.place / "checkout"
        files = subprocess.run([program("git"), "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
        for name in files.stdout.decode().split("\0")[:-1]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, root / name)
        (root / "CHANGELOG.md").write_text(CHANGELOG)
        (root / "pysftpserver/__init__.py").write_text('"""One."""\n\n__version__ = "9.8.7"\n')
        run = {"cwd": root, "check": True, "capture_output": True}
        for words in (("init", "-q"), ("add", "-A"), (*AUTHOR, "commit", "-q", "-m", "9.8.7")):
            subprocess.run([program("git"), *words], **run)
        for key, value in (("name", "A Maintainer"), ("email", "maintainer@example.org")):
            subprocess.run([program("git"), "config", f"user.{key}", value], **run)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = release.main(["9.8.7", "--tested", "yes", "--root", str(root)])
        self.assertEqual(status, 0, said.getvalue())
        self.assertIn("nothing was pushed", said.getvalue())
        made = root / "dist"
        sums = (made / "SHA256SUMS").read_text()
        for line in sums.splitlines():
            digest, name = line.split("  ")
            self.assertEqual(hashlib.sha256((made / name).read_bytes()).hexdigest(), digest)
        wheel, archive = (next(made.glob(f"*{end}")) for end in (".whl", ".tar.gz"))
        with zipfile.ZipFile(wheel) as found:
            self.assertIn("pysftpserver/__init__.py", found.namelist())
        with tarfile.open(archive) as tar:
            self.assertEqual({(one.uid, one.gid) for one in tar}, {(0, 0)})
            self.assertFalse([one.name for one in tar if Path(one.name).name == "__pycache__"])
        bill = json.loads((made / "pysftpserver-9.8.7.cdx.json").read_text())
        self.assertEqual(bill["metadata"]["component"]["version"], "9.8.7")
        tag = subprocess.run([program("git"), "cat-file", "-p", "v9.8.7"], **run).stdout.decode()
        self.assertIn("tag v9.8.7", tag)
        self.assertIn(sums.splitlines()[0], tag)
