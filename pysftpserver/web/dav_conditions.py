"""Conditions of WebDAV's requests: entity tags, the If- headers of HTTP, and WebDAV's own If header.

What may not enter: storages, XML, locks. Facts: RFC 9110 (sections 8.8 and 13), RFC 4918 (section 10.4).
"""

from __future__ import annotations

import email.utils
import re
import time
from dataclasses import dataclass

from pysftpserver.web.files import SETTLED
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.files import Entry
    from pysftpserver.web.wire import Request

    #: The entity tag of the file at a tagged URL ("": the request's own), and the tokens of the locks there.
    Look = Callable[[str], tuple[str | None, set[str]]]

MOST_CONDITIONS = 200
_TAG = re.compile(r'(?:W/)?"[^"]*"')
_TOKENS = re.compile(r'[ \t]*(?:<([^<>]*)>|\[((?:W/)?"[^"\]]*")\]|([()])|([Nn][Oo][Tt])(?=[ \t<\[]))')
FAILED = "The file is not the one that the request is about."


def etag_of(entry: Entry) -> str | None:
    """The entity tag of a file; None if it is not a file, or has no time.

    It contains the time in seconds, the size and, if the storage knows it, the identity of the file: each
    upload makes another file, so the tag is strong. Without an identity, it is weak while a second change
    could have the same size and time. A write in place, within a second and without a change of size, goes
    unnoticed.
    """
    if not entry.is_file or entry.mtime is None:
        return None
    if entry.identity is not None:
        return f'"{entry.mtime:x}-{entry.size:x}-{entry.identity[0]:x}-{entry.identity[1]:x}"'
    tag = f'"{entry.mtime:x}-{entry.size:x}"'
    return tag if entry.mtime < time.time() - SETTLED else "W/" + tag


def http_date(when: int) -> str:
    """A Unix time as a date of HTTP."""
    return email.utils.formatdate(when, usegmt=True)


def time_of(date: str) -> int | None:
    """The Unix time of a date of HTTP; None if it is not one."""
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def check(request: Request, entry: Entry | None) -> bool:
    """Whether a client that asks for a file already has it. Raises Refusal(412) for a condition that fails.

    entry: what is there; None: nothing.
    """
    tag = etag_of(entry) if entry is not None else None
    since = entry.mtime if entry is not None else None
    wanted = request.header("If-Match")
    if wanted:
        is_met = entry is not None and (
            wanted.strip() == "*" or bool(tag and not tag.startswith("W/") and tag in _TAG.findall(wanted))
        )
        if not is_met:
            raise Refusal(412, FAILED)
    elif (then := time_of(request.header("If-Unmodified-Since"))) is not None:
        if since is not None and since > then:
            raise Refusal(412, FAILED)
    unwanted = request.header("If-None-Match")
    is_asking = request.method in ("GET", "HEAD")
    if unwanted:
        tags = [found.removeprefix("W/") for found in _TAG.findall(unwanted)]
        if entry is not None and (unwanted.strip() == "*" or tag and tag.removeprefix("W/") in tags):
            if is_asking:
                return True
            raise Refusal(412, FAILED)
    elif is_asking and (then := time_of(request.header("If-Modified-Since"))) is not None:
        return since is not None and since <= then
    return False


@dataclass(frozen=True)
class Condition:
    """One condition of an If header. text: a lock's token, or an entity tag."""

    is_token: bool
    text: str
    is_negated: bool


class If:
    """An If header. tokens: all lock tokens in it, which the request submits. Raises Refusal(400)."""

    def __init__(self, header: str) -> None:
        self.tokens: set[str] = set()
        self._lists: list[tuple[str, list[Condition]]] = []
        if header:
            self._parse(header)

    def _parse(self, header: str) -> None:
        resource, is_negated, position, count = "", False, 0, 0
        current: list[Condition] | None = None
        header = header.rstrip(" \t")
        while position < len(header):
            found = _TOKENS.match(header, position)
            count += 1
            if found is None or count > 4 * MOST_CONDITIONS:
                raise _malformed()
            position = found.end()
            url, tag, bracket, negation = found.groups()
            if bracket == "(":
                if current is not None:
                    raise _malformed()
                current = []
            elif bracket == ")":
                if not current or is_negated:
                    raise _malformed()
                self._lists.append((resource, current))
                current = None
            elif current is None:
                if url is None:
                    raise _malformed()
                resource = url
            elif negation is not None:
                is_negated = True
            else:
                current.append(Condition(url is not None, url if url is not None else tag, is_negated))
                is_negated = False
                if url is not None:
                    self.tokens.add(url)
        if current is not None or not self._lists or len(self._lists) > MOST_CONDITIONS:
            raise _malformed()

    def check(self, look: Look) -> None:
        """Raise Refusal(412) unless all conditions of one list are met."""
        known: dict[str, tuple[str | None, set[str]]] = {}
        for resource, conditions in self._lists:
            if resource not in known:
                known[resource] = look(resource)
            tag, tokens = known[resource]
            for condition in conditions:
                is_met = condition.text in tokens if condition.is_token else condition.text == tag
                if is_met == condition.is_negated:
                    break
            else:
                return
        if self._lists:
            raise Refusal(412, "The If header is not met.")


def _malformed() -> Refusal:
    return Refusal(400, "The If header is malformed.")
