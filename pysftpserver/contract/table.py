"""The table of rules: what an SFTP server has to do, each with its source.

A rule is a function of a Subject that raises if the server breaks it. The storage contract suite runs those
about storages against a storage in this process, and pysftp-probe runs all of them against any server. What
may not enter: how a rule is run.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.subject import Subject

    Check = Callable[[Subject], None]

#: Levels. MUST: the text of the protocol requires it. SHOULD: the text recommends it, or leaves it open and
#: good servers do it. CLIENT: the text does not ask for it, and named clients rely on it.
MUST, SHOULD, CLIENT = "must", "should", "client"
LEVELS = (MUST, SHOULD, CLIENT)
DRAFT = "draft-ietf-secsh-filexfer-02"
OPENSSH = "OpenSSH PROTOCOL"
POSIX = "POSIX"
OPENSSH_SERVER = "OpenSSH sftp-server"


class Rule:
    """One line of the table.

    name: its identifier, words with hyphens, which never changes. sentence: what holds, in one sentence.
    source: document and section, or clients. level: one of LEVELS. needs: what the server must have for
    the rule to apply: methods of storages ("symlink", "link"), "owner", "permissions", "times", "nlink", and
    names of extensions. of_server: whether it is about the session only, so that storages need not be tried.
    """

    def __init__(
        self, check: Check, level: str, source: str, sentence: str, needs: tuple[str, ...], of_server: bool
    ) -> None:
        self.name = check.__name__.replace("_", "-")
        self.group = check.__module__.rpartition(".")[2]
        self.check = check
        self.level = level
        self.source = source
        self.sentence = sentence
        self.needs = needs
        self.of_server = of_server

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


#: All rules by name, in the order in which they are run: filled by the modules of contract/rules/.
RULES: dict[str, Rule] = {}


def rule(
    level: str, source: str, sentence: str, *needs: str, of_server: bool = False
) -> Callable[[Check], Check]:
    """Add a function to the table; its name, with hyphens, becomes the rule's."""

    def enter(check: Check) -> Check:
        found = Rule(check, level, source, sentence, needs, of_server)
        if found.name in RULES:
            raise ValueError(f"two rules are called {found.name}")
        RULES[found.name] = found
        return check

    return enter
