"""Writes what a release contains and what its extras install: a bill of materials, CycloneDX 1.6 in JSON.

    python tools/sbom.py VERSION SECONDS    (when it was made, since the epoch)

Versions are those of tools/constraints.txt, with which the tests ran; the environment that runs this must
have the same. The core has no dependencies: for each library it says which extra installs it. The same input
gives the same bytes.
Facts: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/; the package URL specification, type pypi.
"""

from __future__ import annotations

import json
import re
import sys
import time
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME = "pysftpserver"
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?")


class Refused(Exception):
    """The list cannot be made. The text says why and what to do."""


def plain(name: str) -> str:
    """The name of a distribution, normalized as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """The version of each library in the constraints."""
    lines = (ROOT / "tools/constraints.txt").read_text().splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {plain(name): version for name, _, version in pairs}


def extras_of_users(project: dict[str, Any]) -> dict[str, list[str]]:
    """What each extra installs, without the extras for developers of the project."""
    extras: dict[str, list[str]] = project["optional-dependencies"]
    (everything,) = extras["all"]
    names = (REQUIREMENT.match(everything) or [""])[2] or ""
    return {name: extras[name] for name in names.split(",")}


def brought() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Which extras install each library; and what each library requires ("" for the extras themselves)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, set[str]] = {}
    edges: dict[str, set[str]] = {"": set()}
    for extra, requirements in extras_of_users(project).items():
        for requirement in requirements:
            name, _ = _parsed(requirement)
            edges[""].add(name)
            _follow(name, extra, extras, edges)
    return extras, edges


def _parsed(requirement: str) -> tuple[str, str]:
    found = REQUIREMENT.match(requirement)
    assert found is not None, requirement
    return plain(found[1]), found[4] or ""


def _follow(name: str, extra: str, extras: dict[str, set[str]], edges: dict[str, set[str]]) -> None:
    if extra in extras.setdefault(name, set()):
        return
    extras[name].add(extra)
    edges.setdefault(name, set())
    for requirement in _distribution(name).requires or ():
        needed, marker = _parsed(requirement)
        # Requirements for other systems or of the library's extras are not installed, or not ours.
        if "extra" not in marker and _is_installed(needed):
            edges[name].add(needed)
            _follow(needed, extra, extras, edges)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise Refused(f"{name} is not installed; run make venv-test") from None


def made(version: str, moment: int) -> dict[str, Any]:
    """The document. Raises Refused if the environment has other versions than the constraints."""
    versions = pinned()
    extras, edges = brought()
    top = f"pkg:pypi/{NAME}@{version}"
    refs = {name: f"pkg:pypi/{name}@{_version(name, versions)}" for name in sorted(extras)}
    components = [_component(name, ref, extras[name]) for name, ref in refs.items()]
    own = {
        "type": "application",
        "bom-ref": top,
        "name": NAME,
        "version": version,
        "purl": top,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    graph = [
        {"ref": top, "dependsOn": sorted(refs[name] for name in edges[""])},
        *({"ref": ref, "dependsOn": sorted(refs[one] for one in edges[name])} for name, ref in refs.items()),
    ]
    content = {"metadata": {"component": own}, "components": components, "dependencies": graph}
    mark = uuid.uuid5(uuid.NAMESPACE_URL, f"{top} {moment} {json.dumps(content, sort_keys=True)}")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{mark}",
        "version": 1,
        "metadata": {"timestamp": stamp, "component": own},
        "components": components,
        "dependencies": graph,
    }


def _version(name: str, versions: dict[str, str]) -> str:
    if name not in versions:
        raise Refused(f"{name} is not in tools/constraints.txt; run make constraints")
    found = _distribution(name).version
    if found != versions[name]:
        raise Refused(
            f"{name}: {found} is installed, tools/constraints.txt has {versions[name]}; run make venv-test"
        )
    return found


def _component(name: str, ref: str, extras: set[str]) -> dict[str, Any]:
    about = _distribution(name).metadata
    component = {
        "type": "library",
        "bom-ref": ref,
        "name": name,
        "version": ref.rpartition("@")[2],
        "scope": "optional",
        "purl": ref,
        "properties": [{"name": "pysftpserver:extra", "value": extra} for extra in sorted(extras)],
    }
    if "License-Expression" in about:
        component["licenses"] = [{"expression": about["License-Expression"]}]
    return component


def text(version: str, moment: int) -> str:
    """The document as text."""
    return json.dumps(made(version, moment), indent=2) + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(text(sys.argv[1], int(sys.argv[2])))
    except Refused as refused:
        sys.exit(f"sbom: {refused}")
