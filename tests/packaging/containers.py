"""Reads a Containerfile and runs its steps in a chroot, where a container engine would run them in layers.

Knows the instructions and the forms that ours uses, and refuses others. What it leaves out: layers, and
networks of their own. Facts: containerfile(5), Docker's reference of the Dockerfile.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.packaging.chroots import Chroot

Instruction = tuple[str, str]


@dataclass
class Image:
    """What the last stage sets, besides its files."""

    system: Chroot
    variables: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Instruction] = field(default_factory=list)


def stages(text: str) -> list[Stage]:
    """The stages of a Containerfile."""
    found: list[Stage] = []
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.strip().partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((word, rest.strip()))
    return found


def build(stage: Stage, system: Chroot, context: Path, earlier: dict[str, Chroot], **lent: str) -> Image:
    """Run the steps of a stage in a system that stands in for its base. lent: variables for RUN alone."""
    image = Image(system, {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    for word, rest in stage.steps:
        if word == "RUN":
            shell = f"cd {shlex.quote(image.directory)} && {rest}"
            system.run("sh", "-c", shell, user=image.user, **(lent | image.variables))
        elif word == "COPY":
            _copy(shlex.split(rest), image, context, earlier)
        elif word == "ENV":
            image.variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "WORKDIR":
            image.directory = os.path.join(image.directory, rest)
            system.path(image.directory).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            image.user = rest
        elif word == "VOLUME":
            image.volumes = json.loads(rest)
        elif word == "EXPOSE":
            image.ports = rest.split()
        elif word == "CMD":
            image.command = json.loads(rest)
        elif word == "HEALTHCHECK":
            image.health = json.loads(rest[rest.index("CMD") + len("CMD") :])
        else:
            raise AssertionError(f"{word}: this instruction is not known here")
    return image


def _copy(words: list[str], image: Image, context: Path, earlier: dict[str, Chroot]) -> None:
    origin = context
    if words[0].startswith("--from="):
        origin = earlier[words.pop(0).partition("=")[2]].root
    *sources, to = words
    there = image.system.path(os.path.join(image.directory, to))
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, there, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            into = there / path.name if to.endswith("/") else there
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into)
