"""Makes a release of what is committed: make release VERSION=2.0.0 TESTED=yes

It checks that the tree is clean and that the changelog, the code and the recorded names are the version's. It
builds the source distribution and the wheel twice, in other places, with another umask, time zone and locale,
and compares them byte by byte. It writes them with checksums and a bill of materials into dist/, and makes an
annotated tag. It pushes and uploads nothing.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "pysftpserver"
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
#: What differs between the two builds: (directory, umask, environment).
BUILDS = (
    ("a", 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8"}),
    ("another-and-longer-place/b", 0o077, {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7"}),
)


class Refused(Exception):
    """The release is refused. The text says why and what to do."""


def main(words: list[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--tested", default="", help="yes: make test-hard has passed on this commit")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    try:
        release(options.root, options.version, options.tested == "yes")
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return 1
    return 0


def release(root: Path, version: str, is_tested: bool) -> None:
    """Check, build, write and tag. If it raises Refused, there is no tag."""
    check(root, version, is_tested)
    moment = int(git(root, "log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory(prefix="pysftpserver-release-") as place:
        files = compared([build(root, Path(place), moment, *how) for how in BUILDS])
    files[f"{NAME}-{version}.cdx.json"] = bill(root, version, moment)
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    into = root / "dist"
    into.mkdir(exist_ok=True)
    for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
        (into / name).write_bytes(content)
    git(root, "tag", "-a", f"v{version}", "-m", f"{NAME} {version}\n\n{sums}")
    print(f"{sums}in {into}; tagged v{version}\nnothing was pushed: git push origin v{version}")


# --- checks -----------------------------------------------------------------------------------------------


def check(root: Path, version: str, is_tested: bool) -> None:
    """Check everything that has to be right before a release. Raises Refused."""
    if not VERSION.fullmatch(version):
        raise Refused(f"{version or 'no version'}: give one such as make release VERSION=2.0.0 TESTED=yes")
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        raise Refused(f"the tree is not clean ({changed[0].strip()}); commit or remove what git status shows")
    if git(root, "tag", "--list", f"v{version}"):
        raise Refused(f"the tag v{version} is there already; take the next version")
    check_changelog((root / "CHANGELOG.md").read_text(), version)
    found = version_of(root)
    if found != version:
        raise Refused(f"{NAME}/__init__.py says {found}; set __version__ to {version}, and commit it")
    if not is_tested:
        raise Refused("run make test-hard on this commit, then say so: TESTED=yes")
    recorded = run(root, sys.executable, "-m", "tests.keeping.published", "--check")
    if recorded.returncode:
        raise Refused("new names are not recorded; run python -m tests.keeping.published, and commit it")


def check_changelog(text: str, version: str) -> None:
    """Raises Refused unless the changelog has a section for the version, with a date and content."""
    found = re.search(rf"^## {re.escape(version)}\b(.*)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    if found is None:
        raise Refused(f'CHANGELOG.md has no section "## {version}, {datetime.date.today()}"')
    date = re.fullmatch(r", (\d{4}-\d\d-\d\d)", found[1].rstrip())
    try:
        day = datetime.date.fromisoformat(date[1] if date else "")
    except ValueError:
        raise Refused(
            f"CHANGELOG.md: the section of {version} has no date; write ## {version}, YYYY-MM-DD"
        ) from None
    if day > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise Refused(f"CHANGELOG.md: {day} is in the future")
    if not found[2].strip():
        raise Refused(f"CHANGELOG.md: the section of {version} is empty")


def version_of(root: Path) -> str:
    """The version in the code, read without running it."""
    for node in ast.parse((root / NAME / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise Refused(f"{NAME}/__init__.py has no __version__")


# --- building ---------------------------------------------------------------------------------------------


def build(
    root: Path, place: Path, moment: int, name: str, mask: int, environment: dict[str, str]
) -> dict[str, bytes]:
    """The files of a build of the last commit, in a clone. Raises Refused."""
    clone, into = place / name, place / f"{name}-dist"
    clone.parent.mkdir(parents=True, exist_ok=True)
    git(root, "clone", "-q", "--no-local", str(root), str(clone))
    variables = {**os.environ, **environment, "SOURCE_DATE_EPOCH": str(moment), "DIST_PYTHON": sys.executable}
    before = os.umask(mask)
    try:
        done = run(clone, "tools/dist.sh", str(into), env=variables)
    finally:
        os.umask(before)
    if done.returncode:
        raise Refused(f"tools/dist.sh failed:\n{done.stdout}{done.stderr}")
    return {path.name: path.read_bytes() for path in sorted(into.iterdir())}


def compared(builds: list[dict[str, bytes]]) -> dict[str, bytes]:
    """The files, if all builds have the same. Raises Refused."""
    first, *others = builds
    for other in others:
        if first.keys() != other.keys():
            raise Refused(f"two builds gave {sorted(first)} and {sorted(other)}")
        for name, content in first.items():
            if other[name] != content:
                raise Refused(f"two builds of {name} differ; compare them with diffoscope")
    return dict(first)


def bill(root: Path, version: str, moment: int) -> bytes:
    """The bill of materials. Raises Refused."""
    done = run(root, sys.executable, str(root / "tools/sbom.py"), version, str(moment))
    if done.returncode:
        raise Refused(done.stderr.strip())
    return done.stdout.encode()


def run(root: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return it with its output."""
    return subprocess.run(words, cwd=root, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL)


def git(root: Path, *words: str) -> str:
    """The output of a git command. Raises Refused."""
    done = run(root, "git", *words)
    if done.returncode:
        raise Refused(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
