"""How commands show the checks of a login: a line for each finding.

What may not enter: the checks (host/logins.py).
"""

from __future__ import annotations

from pysftpserver.failures import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.host.logins import Finding


def show(tried: Iterable[Finding], only_problems: bool = False, indent: str = "") -> int:
    """Print the findings; return 1 if something is wrong, else 0. only_problems: print only problems."""
    status = 0
    for one in tried:
        word = "ok" if not one.problem else "wrong" if one.known else "unknown"
        status = max(status, int(word == "wrong"))
        if word == "wrong" or not only_problems:
            told = f": {one.problem}" if one.problem else ""
            print(one_line(f"{indent}{word:<9}{one.what}{told}"), flush=True)
    return status
