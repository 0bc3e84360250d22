"""Explains which rule decides about a user's command, and finds past operations that would be decided
differently now.

It goes by the text of paths: where links lead is not known here. What may not enter: storages, commands.
Facts: sftp(1) for the words, engine/audit.py for records.
"""

from __future__ import annotations

import calendar
import json
import os
import posixpath
import shlex
import time

from pysftpserver.failures import BadInput, one_line
from pysftpserver.formats import AUDIT
from pysftpserver.site.actions import ACTIONS
from pysftpserver.site.opening import who_of
from pysftpserver.site.patterns import text_of
from pysftpserver.site.rules import NameRules, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from pysftpserver.site.file import Site
    from pysftpserver.site.who import Who

    Need = tuple[str, str, int]  # an action, the case in which it counts, and the path that has to allow it

IS_NEW, IS_THERE = "if there is no such file", "if the file is there"
NEW_IS_THERE = "if the new name is there"
BOTH: tuple[Need, ...] = (("rename", "", 0), ("rename", "", 1), ("overwrite", NEW_IS_THERE, 1))
#: The needs of the commands of sftp(1). The actions are words as well.
WORDS: dict[str, tuple[Need, ...]] = {
    **{action: ((action, "", 0),) for action in ACTIONS},
    "ls": (("list", "", 0),),
    "get": (("download", "", 0),),
    "put": (("upload", IS_NEW, 0), ("overwrite", IS_THERE, 0)),
    "append": (("upload", IS_NEW, 0), ("append", IS_THERE, 0)),
    "rm": (("delete", "", 0),),
    "rename": BOTH,
    "mv": BOTH,
    "ln": (("link", "", 0), ("link", "", 1)),
    "link": (("link", "", 0), ("link", "", 1)),
    **dict.fromkeys(("chmod", "chown", "chgrp", "touch"), (("setstat", "", 0),)),
    "truncate": (("overwrite", "", 0),),
}
MAKES = ("upload", "mkdir", "symlink")  # actions that create a new name
ALLOWED, REFUSED, HIDDEN = "allowed", "refused", "hidden"


class Finding:
    """The rules' answer for an action. verdict: ALLOWED, REFUSED or HIDDEN. place: of what decides."""

    def __init__(self, action: str, when: str, path: bytes, verdict: str, place: str) -> None:
        self.action, self.when, self.path = action, when, path
        self.verdict, self.place = verdict, place


class Judge:
    """The rules of a site that apply to one user. Raises BadInput."""

    def __init__(self, site: Site, who: Who, now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        self._rules = Rules(site, who, lambda: self.now)
        self._names = NameRules(site.names)

    def findings(self, needs: Iterable[Need], paths: list[bytes]) -> list[Finding]:
        """The rules' answer for each action. paths: those of the request."""
        where = [canonical(path) for path in paths]
        is_upload = False
        if len(where) == 2:
            (old, _, name), (new, _, final) = (text_of(path).rpartition("/") for path in where)
            is_upload = old == new and self._names.is_upload_of(name, final)
        return [self._finding(action, when, where[at], at, is_upload) for action, when, at in needs]

    def _finding(self, action: str, when: str, path: bytes, at: int, is_upload: bool) -> Finding:
        decision = self._rules.decide(path)
        place = "no rule" if decision.rule is None else decision.rule.place
        can = action in decision.allowed
        if not can and "upload" in decision.allowed:  # a partial upload, under a temporary name
            name = text_of(path).rpartition("/")[2]
            goes_on = action in ("overwrite", "append") and at == 0 and self._names.is_temporary(name)
            can = action == "rename" and is_upload or goes_on
        verdict = HIDDEN if decision.is_hidden else ALLOWED if can else REFUSED
        if verdict == ALLOWED and (action in MAKES or action in ("rename", "link") and at):
            pattern = self._names.refusal(text_of(path).rpartition("/")[2])
            if pattern is not None:
                return Finding(action, when, path, REFUSED, f"{self._names.place}, {pattern}")
        return Finding(action, when, path, verdict, place)


def canonical(path: bytes) -> bytes:
    """The path as rules see it, if it contains no link."""
    return b"/" + posixpath.normpath(b"/" + path).lstrip(b"/")


def explained(site: Site, who: Who, text: str, now: float | None = None) -> list[str]:
    """The lines that explain a command of sftp(1), such as `put /in/x.csv`. Raises BadInput."""
    try:
        word, *paths = shlex.split(text)
    except ValueError:
        word, paths = "", []
    if word not in WORDS:
        raise BadInput(f"--explain {text}: write a word of {', '.join(WORDS)}, and its paths")
    needs = WORDS[word]
    count = max(at for _, _, at in needs) + 1
    if len(paths) != count:
        raise BadInput(f"--explain {text}: {word} takes {'one path' if count == 1 else 'two paths'}")
    found = Judge(site, who, now).findings(needs, [os.fsencode(path) for path in paths])
    groups = f" ({', '.join(who.groups)})" if who.groups else ""
    lines = [f"{text}, as {who.user}{groups} from {who.address or 'an unknown address'}:"]
    for one in found:
        words = f"  {one.action:<10}{one.verdict:<9} {text_of(one.path)}  {one.place}  {one.when}"
        lines.append(words.rstrip())
    return [one_line(line) for line in lines]


# --- past operations ----------------------------------------------------------------------------------------


def needs_of(record: Mapping[str, Any]) -> list[tuple[Need, ...]]:
    """The needs of an operation in the audit log: alternatives, if they depend on what existed."""
    request = record.get("request")
    if request == "open":
        flags = str(record.get("flags", "")).split(",")
        reads: tuple[Need, ...] = (("download", "", 0),) if "READ" in flags or "WRITE" not in flags else ()
        on_old = ""
        if "WRITE" in flags or "TRUNCATE" in flags:
            on_old = "append" if "APPEND" in flags and "TRUNCATE" not in flags else "overwrite"
        found: list[tuple[Need, ...]] = []
        if "CREATE" in flags:
            found.append((*reads, ("upload", IS_NEW, 0)))
        if "EXCL" not in flags or "CREATE" not in flags:
            found.append((*reads, (on_old, IS_THERE, 0)) if on_old else reads)
        return found
    if request in ("setstat", "lsetstat"):
        sets = [
            name for name in ("permissions", "uid", "gid", "atime", "mtime") if record.get(name) is not None
        ]
        size: tuple[Need, ...] = (("overwrite", "", 0),) if record.get("size") is not None else ()
        return [(*size, *((("setstat", "", 0),) if sets else ()))]
    both: tuple[Need, ...] = (("rename", "", 0), ("rename", "", 1))
    simple: dict[object, list[tuple[Need, ...]]] = {
        "opendir": [(("list", "", 0),)],
        "mkdir": [(("mkdir", "", 0),)],
        "rmdir": [(("rmdir", "", 0),)],
        "remove": [(("delete", "", 0),)],
        "symlink": [(("symlink", "", 0),)],
        "hardlink": [(("link", "", 0), ("link", "", 1))],
        "rename": [both],
        "posix-rename": [both, (*both, ("overwrite", NEW_IS_THERE, 1))],
    }
    return simple.get(request, [])


class Undecided:
    """Operations that would be refused if a file had existed, which an audit log does not say.

    number: of them. example: the first one, in words.
    """

    def __init__(self) -> None:
        self.number, self.example = 0, ""

    def add(self, text: str) -> None:
        """Count one more operation."""
        self.number += 1
        self.example = self.example or text


def replayed(site: Site, lines: Iterable[str], undecided: Undecided | None = None) -> Iterator[str]:
    """Yield a line for each past operation that would be decided differently now. lines: of an audit log.

    undecided: gets operations for which that is uncertain. Raises BadInput for a line that is not a record.
    """
    undecided = Undecided() if undecided is None else undecided
    judges: dict[tuple[object, object], Judge] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            moment = calendar.timegm(time.strptime(record["time"][:19], "%Y-%m-%dT%H:%M:%S"))
            user, peer, result = record["user"], record["peer"], record["result"]
            version = record.get("v")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(f"line {number}: not a record of an audit log") from None
        AUDIT.check(version, f"line {number}")
        paths = [path for path in (_bytes(record, "path"), _bytes(record, "target")) if path is not None]
        needs = needs_of(record) if result in ("OK", "PERMISSION_DENIED") and paths else []
        if not needs:
            continue
        if (user, peer) not in judges:
            known = {"user": user, "address": peer}
            values = {name: value for name, value in known.items() if isinstance(value, str)}
            judges[user, peer] = Judge(site, who_of(site, values))
        judge = judges[user, peer]
        judge.now = moment
        verdict, is_certain = _verdict(judge, needs, paths, result == "OK")
        line = f"{record['time']} {user} {record['request']} {' '.join(map(text_of, paths))}: {verdict}"
        if verdict and is_certain:
            yield one_line(line)
        elif verdict:
            undecided.add(one_line(line))


def refusing(site: Site, record: Mapping[str, Any]) -> str:
    """The place of the rule, or of the names, that refuses a past operation at its time; "" if none does.

    Raises BadInput.
    """
    try:
        moment = calendar.timegm(time.strptime(str(record.get("time"))[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return ""
    known = {"user": record.get("user"), "address": record.get("peer")}
    values = {name: value for name, value in known.items() if isinstance(value, str)}
    judge = Judge(site, who_of(site, values), moment)
    paths = [path for path in (_bytes(record, "path"), _bytes(record, "target")) if path is not None]
    for alternative in needs_of(record) if paths else ():
        if max((at for _, _, at in alternative), default=0) < len(paths):
            for one in judge.findings(alternative, paths):
                if one.verdict != ALLOWED:
                    return one.place
    return ""


def _verdict(
    judge: Judge, needs: list[tuple[Need, ...]], paths: list[bytes], was_done: bool
) -> tuple[str, bool]:
    """The difference now, in words, and whether it is certain; "": none."""
    refusals = []
    for alternative in needs:
        if max((at for _, _, at in alternative), default=0) >= len(paths):
            return "", True
        found = judge.findings(alternative, paths)
        refusals.append(next((one for one in found if one.verdict != ALLOWED), None))
    first = next((one for one in refusals if one is not None), None)
    if not was_done:
        return "" if first is not None else "was refused, and the rules would allow it", True
    if first is None:
        return "", True
    when = "" if all(refusals) else f" {first.when}"
    return f"was done, and would be {first.verdict}{when}: {first.action} ({first.place})", all(refusals)


def _bytes(record: Mapping[str, Any], name: str) -> bytes | None:
    """A path of a record."""
    try:
        if isinstance(record.get(f"{name}_hex"), str):
            return bytes.fromhex(record[f"{name}_hex"])
        value = record.get(name)
        return value.encode() if isinstance(value, str) and value else None
    except ValueError:
        return None
