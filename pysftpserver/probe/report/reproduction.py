"""A broken rule in Markdown, to be pasted into the tracker of the server's project.

What may not enter: the name of a project, and what its maintainers should do.
"""

from __future__ import annotations

import re

from pysftpserver.failures import one_line
from pysftpserver.probe.report import summing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.probe.results import Outcome, Step

STEPS = 8  # packets
ROWS = 6  # lines of a packet's bytes
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def reproduction(outcome: Outcome, target: str = "") -> str:
    """The broken rule: what the protocol asks for and where, what the server did, and the packets as words
    and bytes.

    target: the arguments for pysftp-probe, such as "-- /usr/lib/openssh/sftp-server".
    """
    steps = summing.telling(outcome.steps)
    packets = steps[-STEPS:]
    rule = re.sub(r"[^\w-]", "", outcome.rule)
    command = one_line(f"pysftp-probe --only {rule} {target or 'SERVER'}").replace("`", "'")
    parts = [
        f"**{_plain(outcome.sentence)}**",
        f"Source: {_plain(outcome.source)} ({summing.NAMES[outcome.level][0]})",
        "What happens instead:",
        _block([one_line(outcome.why) or "nothing is said of it"]),
    ]
    if packets:
        before = f", the last {len(packets)} of {len(steps)}" if len(packets) < len(steps) else ""
        parts += [
            f"The packets, `C` from the client and `S` from the server{before}:",
            _block([line for step in packets for line in _packet(step)]),
        ]
    parts.append(f"To see it again: `{command}`")
    return "\n\n".join(parts) + "\n"


def _packet(step: Step) -> list[str]:
    lines = [f"   {line}" for line in summing.dump(step, rows=ROWS)]
    return [f"{'C' if step.asked else 'S'}  {one_line(step.words)}", *lines]


def _block(lines: list[str]) -> str:
    """A code block with a fence that none of its lines can close."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def _plain(words: str) -> str:
    return _MARKS.sub(r"\\\1", one_line(words))
