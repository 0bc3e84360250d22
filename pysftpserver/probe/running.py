"""Runs rules against a server, each in its own directory, and collects the outcomes.

A rule that loses the session or takes too long has failed, and the next one gets a new session. Everything is
removed at the end, whatever happens. What may not enter: what is shown, rules.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from pysftpserver.contract import packets
from pysftpserver.contract.client import NEW, UNSUPPORTED, Broken, Closed, Refused, Silent, refusal_of
from pysftpserver.contract.subject import Subject
from pysftpserver.engine import wire
from pysftpserver.failures import Unavailable, one_line, show
from pysftpserver.probe import abilities, results
from pysftpserver.probe.cleaning import remove_tree
from pysftpserver.probe.lines import ANY_BYTES, OutOfTime, Patience
from pysftpserver.probe.results import Outcome, Report, Step
from pysftpserver.probe.sessions import IN_A_ROW, GaveUp, Interrupted, Sessions, round_trip
from pysftpserver.probe.words import step_of, words_of
from pysftpserver.pysftpexceptions import MalformedPacket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pysftpserver.contract.client import Client
    from pysftpserver.contract.table import Rule
    from pysftpserver.probe.extras import Extra
    from pysftpserver.probe.target import Target

PREFIX = b"pysftp-probe-"
EXCHANGES = 10  # last exchanges of a failed rule that the report contains
CLEANING = 0.1  # part of the deadline reserved for removing what was made
LEAST_CLEANING = 5.0  # seconds, or half of the deadline
MANY, FEW = 3_000, 200  # entries of the largest directory, on a fast path and on a slow one
LONGEST_START = 4096  # bytes of the path of the directory below which the probe works
MOST_SAID = 4000  # characters of a sentence about what went wrong
SHOWN = 64  # bytes shown of an invalid path
AT_ONCE = 64  # files to make at once
CONTENT = b"pysftp-probe" * 400  # of the file that shows whether anything can still be stored


@dataclass
class Plan:
    """What to do. directory: in which the probe's own is made, b"" for where sessions begin. seconds: for a
    reply. rule_seconds: for a rule. deadline: seconds for everything. extras: what to do after the rules, by
    name. progress: called with the next step, its number and their count. many: entries of the largest
    directory, fewer on a slow path.
    """

    rules: Sequence[Rule]
    directory: bytes = b""
    seconds: float = 10.0
    rule_seconds: float = 60.0
    deadline: float = 600.0
    extras: Sequence[tuple[str, Extra]] = ()
    progress: Callable[[str, int, int], None] = field(default=lambda name, number, count: None)
    many: int = MANY


class ProbeSubject(Subject):
    """A Subject that makes many files at once, for paths with a long round trip."""

    def fill(self, directory: bytes, names: list[bytes]) -> None:
        """Put empty files with these names into a directory."""
        client = self.client
        fields = packets.sftpint(NEW), packets.sftpint(0)
        for start in range(0, len(names), AT_ONCE):
            paths = [directory + b"/" + name for name in names[start : start + AT_ONCE]]
            opens = [client.send(wire.SSH2_FXP_OPEN, packets.sftpstring(path), *fields) for path in paths]
            closes = []
            for request in opens:
                handle = client.expect("OPEN", client.reply(request), packets.get_sftphandle)
                closes.append(client.send(wire.SSH2_FXP_CLOSE, packets.sftpstring(handle)))
            for request in closes:
                client.expect("CLOSE", client.reply(request), packets.get_sftpstatus)


class Probe:
    """One run. report: the findings so far. interrupted: the signal that ended it, or 0."""

    def __init__(self, target: Target, plan: Plan, patience: Patience | None = None) -> None:
        self.report = Report(server=target.name, started=time.time())
        self.interrupted = 0
        self._target = target
        self._plan = plan
        self._patience = patience or Patience(plan.seconds)
        self._begun = self._patience.now()
        self._cleaning = max(min(LEAST_CLEANING, plan.deadline / 2), plan.deadline * CLEANING)
        self._end = self._begun + plan.deadline - self._cleaning
        self._sessions = Sessions(target.connect, self._patience)
        self._lacks: frozenset[str] = frozenset()
        self._start = b"/"
        self._top = b""  # the probe's own directory, once it exists
        self._is_as_planned = False
        self._is_cleaning = False
        self._many = plan.many

    def run(self) -> Report:
        """Run the rules and the extras; remove everything; return the report."""
        try:
            self._allow(self._plan.rule_seconds)
            self._look()
            self._try_rules()
            self._do_more()
        except (GaveUp, Unavailable) as error:
            self.report.stopped = _shortened(str(error))
        except (Broken, Refused) as error:
            self.report.stopped = _shortened(f"the server cannot be probed: {error}{self._asked_last()}")
        except Interrupted as error:
            self.interrupted = error.number
            self.report.stopped = "interrupted"
        except Exception as error:  # a bug in the probe: what it has made is removed all the same
            self.report.stopped = _shortened(f"the probe itself failed: {type(error).__name__}: {error}")
        else:
            self._is_as_planned = True
        self._clean()
        self.report.seconds = self._patience.now() - self._begun
        return self.report

    def interrupt(self, number: int) -> None:
        """Handle a signal: end and remove everything; at a second one, end at once."""
        if self._is_cleaning and not self.interrupted:
            self.interrupted = number  # already cleaning up: go on with that
            self.report.stopped = self.report.stopped or "interrupted"
        else:
            self._sessions.interrupt(number)

    def _asked_last(self) -> str:
        """The request that led to the end, for a sentence."""
        exchanges = self._sessions.exchanges
        return f", after {one_line(words_of(exchanges[-1].request, True))}" if exchanges else ""

    def _allow(self, seconds: float) -> None:
        """Set a new time limit, at most the time left for all rules."""
        now = self._patience.now()
        if now + seconds < self._end:
            self._patience.grant(now + seconds, f"it took longer than {seconds:g} seconds")
        else:
            self._patience.grant(
                self._end, f"the time for all rules ({self._plan.deadline:g} seconds) is over"
            )

    # --- before the rules ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin a session, find out what the server can do, and make the directory."""
        client = self._sessions.client()
        self.report.version = client.version
        self.report.extensions = {_text(name): _text(data) for name, data in client.extensions.items()}
        lacks = abilities.announced(client)
        self._start = self._real(self._plan.directory or b".")
        self.report.trip = round_trip(client)
        top = self._start.rstrip(b"/") + b"/" + PREFIX + secrets.token_hex(8).encode()
        self._top = top  # removed at the end, even if the reply is lost
        try:
            client.mkdir(top)
        except Refused as refused:
            self._top = b""
            if refused.status != UNSUPPORTED:
                raise GaveUp(
                    f"{show(top)}: {refused}; name a directory that can be written to with --directory"
                ) from None
            lacks |= abilities.WRITING
        else:
            lacks |= self._tried()
        self._lacks = frozenset(lacks)
        self.report.lacks = sorted(lacks)
        if self.report.trip:
            fitting = int(self._plan.rule_seconds / 4 / self.report.trip * AT_ONCE / 4)
        self._many = max(FEW, min(self._plan.many, fitting))

    def _real(self, directory: bytes) -> bytes:
        try:
            found = self._sessions.client().realpath(directory)
        except Refused as refused:
            if self._plan.directory:
                raise GaveUp(f"{show(directory)}: {refused}") from None
            return directory
        if b"\0" in found or len(found) > LONGEST_START:
            # Many servers ignore what follows a NUL: they would make, and remove, the start directory.
            raise GaveUp(f"the answer to REALPATH is not a path to work below: {show(found[:SHOWN])}")
        return found

    def _tried(self) -> set[str]:
        """What the server lacks when it is tried."""
        directory = self._top + b"/abilities"
        self._sessions.client().mkdir(directory)
        lacks = abilities.tried(self._sessions, directory, lambda: self._allow(self._plan.rule_seconds))
        self._empty(directory)
        return lacks

    # --- rules --------------------------------------------------------------------------------------

    def _try_rules(self) -> None:
        in_a_row = 0  # rules that could not even begin
        for number, rule in enumerate(self._plan.rules):
            self._plan.progress(rule.name, number, len(self._plan.rules))
            self._allow(self._plan.rule_seconds)
            if self._patience.is_over():
                raise GaveUp(f"{self._patience.why} after {number} of {len(self._plan.rules)} rules")
            outcome = Outcome(
                rule.name,
                rule.group,
                rule.level,
                rule.sentence,
                rule.source,
                results.ERROR,
                "it was broken off",
            )
            self.report.outcomes.append(outcome)
            self._try_rule(rule, outcome)
            in_a_row = in_a_row + 1 if outcome.verdict == results.ERROR else 0
            if in_a_row == IN_A_ROW:
                raise GaveUp(f"{in_a_row} rules in a row could not be tried: {outcome.why}")
            if outcome.verdict == results.FAILED:
                self._still_works()

    def _try_rule(self, rule: Rule, outcome: Outcome) -> None:
        """Run a rule in its own directory, and record the outcome."""
        missing = [need for need in rule.needs if need in self._lacks]
        if missing:
            outcome.verdict, outcome.why = results.UNSUPPORTED, f"the server lacks {', '.join(missing)}"
            return
        begun = self._patience.now()
        try:
            directory = self._made()
        except (Broken, Refused) as error:
            self._sessions.replace()
            outcome.verdict = results.ERROR
            outcome.why = _shortened(f"a directory for it could not be made: {error}")
            return
        self._judge(rule, directory, outcome)
        outcome.seconds = self._patience.now() - begun
        broken = self._empty(directory)
        if (
            broken is not None
            and outcome.verdict == results.PASSED
            and not isinstance(broken, Closed | Silent)
        ):
            outcome.verdict, outcome.why = (
                results.FAILED,
                _shortened(f"afterwards, {broken}"),
            )  # by a superfluous reply

    def _made(self) -> bytes:
        """An empty directory for the next rule. If the last rule lost the session, it is replaced once."""
        if not self._top:
            return self._start  # nothing can be made: the remaining rules do not write
        directory = self._top + b"/" + secrets.token_hex(4).encode()
        try:
            self._sessions.client().mkdir(directory)
        except Broken:
            self._sessions.replace()
            directory += b"x"  # the first may exist by now
            self._sessions.client().mkdir(directory)
        return directory

    def _subject(self, directory: bytes) -> ProbeSubject:
        client = self._sessions.client()
        client.forget()
        return ProbeSubject(client, directory, self._sessions.line, self._lacks, many=self._many)

    def _judge(self, rule: Rule, directory: bytes, outcome: Outcome) -> None:
        subject = self._subject(directory)
        try:
            rule.check(subject)
            outcome.verdict, outcome.why = results.PASSED, ""
        except (AssertionError, Refused, MalformedPacket) as error:  # Broken is an AssertionError
            is_over = self._patience.now() >= self._end  # which is not the server's fault
            outcome.verdict = results.ERROR if is_over else results.FAILED
            outcome.why = _shortened(str(error) or type(error).__name__)
        except Unavailable as error:
            outcome.verdict, outcome.why = results.ERROR, str(error)
        except Exception as error:
            outcome.verdict = results.ERROR
            outcome.why = _shortened(f"the rule itself failed: {type(error).__name__}: {error}")
        finally:
            if outcome.verdict != results.PASSED:
                outcome.steps = steps_of(subject.sessions)
                self._sessions.replace()  # it may have open handles, and replies may be on their way
            subject.end()

    def _empty(self, directory: bytes) -> Broken | None:
        """Remove a rule's directory; return how the session was lost, if it was.

        What cannot be removed now is tried again at the end.
        """
        self._allow(self._plan.rule_seconds)
        if not self._top or self._patience.is_over():
            return None
        try:
            remove_tree(self._sessions.client(), directory)
        except Broken as broken:
            self._sessions.replace()
            return broken
        return None

    def _still_works(self) -> None:
        """Check that files can still be stored after a failed rule. Raises GaveUp if not: the disk may be
        full.
        """
        if not self._top or "write" in self._lacks:
            return
        path = self._top + b"/storing-" + secrets.token_hex(4).encode()
        self._allow(self._plan.rule_seconds)
        client = self._sessions.client()
        try:
            client.put(path, CONTENT)
            refusal_of(client.remove, path)
        except OutOfTime:
            self._sessions.replace()
        except (Broken, Refused) as error:
            self._sessions.replace()
            raise GaveUp(f"the server no longer stores files: {error}") from None

    # --- after the rules ----------------------------------------------------------------------------

    def _do_more(self) -> None:
        for name, extra in () if {"write", "mkdir"} & self._lacks else self._plan.extras:
            self._plan.progress(name, 0, 0)
            why = f"the time for all rules ({self._plan.deadline:g} seconds) is over"
            self._patience.grant(self._end, why, ANY_BYTES)
            directory = self._made()
            subject = self._subject(directory)
            try:
                extra(self.report, subject, self._sessions.line, self._doing(name))
            except (AssertionError, Refused, MalformedPacket) as error:
                self._sessions.replace()
                self.report.stopped = f"{name}: {_shortened(str(error))}"
            finally:
                subject.end()
            if self._patience.is_over():
                raise GaveUp(f"{name}: {why}")
            self._empty(directory)

    def _doing(self, name: str) -> Callable[[str], None]:
        """A function that reports the progress of an extra. name: the extra's."""
        return lambda words: self._plan.progress(f"{name}: {words}", 0, 0)

    def _clean(self) -> None:
        """Remove everything, in a new session if the last one is lost; end all sessions."""
        self._is_cleaning = True
        self._plan.progress("", 0, 0)
        left = max(self._begun + self._plan.deadline - self._patience.now(), self._cleaning)
        self._patience.grant(self._patience.now() + left, "the time for removing what was made is over")
        try:
            if self._top:
                self.report.left += map(one_line, self._removed())
        except Interrupted:
            self.report.left.append(f"{show(self._top)}: interrupted again")
        self._close()

    def _close(self) -> None:
        try:
            self._sessions.close()
        except Interrupted:
            pass  # the signal came while the sessions were being ended, and now they are
        self.report.left += self._sessions.left

    def _removed(self) -> list[str]:
        """Remove the probe's directory; return what could not be removed."""
        if not self._is_as_planned:
            self._sessions.replace()  # it may be waiting for a reply that never comes
        for attempt in range(2):
            try:
                return remove_tree(self._sessions.client(), self._top)
            except (Broken, GaveUp, Unavailable) as error:
                self._sessions.replace()
                why = error
                if attempt or isinstance(error, OutOfTime):
                    break
        return [f"{show(self._top)}: {why}"]


def steps_of(sessions: Sequence[Client]) -> list[Step]:
    """The last packets of some sessions, each session's in the order of its requests."""
    steps = []
    for client in sessions:
        for exchange in list(client.exchanges)[-EXCHANGES:]:
            steps.append(step_of(exchange.request, True))
            if exchange.reply is not None:
                steps.append(step_of(exchange.reply, False, exchange.request))
    return steps[-2 * EXCHANGES :]


def _shortened(text: str) -> str:
    """A sentence with a server's words, as one line of readable length."""
    return one_line(text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}...")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
