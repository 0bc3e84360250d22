"""What users of well-known clients would experience: scripts that send what a client sends, and read the
answers as it does. Each module is a client, and says which version was recorded, or which sources were read.

What may not enter: rules, and what a particular server does: whether a client works with a server shows only
in the server's answers.
"""

from __future__ import annotations

from pysftpserver.contract.client import Broken, Closed, Refused, Silent
from pysftpserver.probe.cleaning import remove_tree
from pysftpserver.probe.clients import (
    asyncssh,
    cyberduck,
    filezilla,
    lftp,
    openssh,
    paramiko,
    rclone,
    restic,
    sshfs,
    winscp,
)
from pysftpserver.probe.clients.playing import SCRIPTS, SIZE, Failed, Play, Script, why
from pysftpserver.probe.clients.transfers import Session, Short
from pysftpserver.probe.results import Task
from pysftpserver.probe.words import step_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pysftpserver.contract.client import Line

    Connect = Callable[[], Line]

__all__ = ["CLIENTS", "MODULES", "SCRIPTS", "run", "run_all"]

MODULES = (openssh, winscp, filezilla, cyberduck, lftp, rclone, sshfs, restic, paramiko, asyncssh)
#: The scripts of each client, in the order in which they are played.
CLIENTS: dict[str, list[Script]] = {}
for _script in sorted(SCRIPTS, key=lambda s: [m.__name__ for m in MODULES].index(s.play.__module__)):
    CLIENTS.setdefault(_script.client, []).append(_script)

HANGS = "hangs, because the server does not answer"
DEAD = "could not be tried, because the server does not answer"
MOST_HANGING = 3  # tasks; each takes the whole time after which a server counts as silent
SHOWN = 16  # exchanges kept of a task that fails or works only in part
_TO_BE_WRITTEN = frozenset(("open", "close", "write", "mkdir"))


def run_all(
    connect: Connect,
    directory: bytes,
    lacks: Collection[str] = (),
    seconds: float = 10.0,
    progress: Callable[[str], None] = lambda text: None,
    size: int = SIZE,
) -> list[Task]:
    """Play all clients, each task in its own session and its own directory, which is removed afterwards.

    connect: opens a line to a new session. directory: exists; tasks get directories in it. lacks: what the
    server cannot do, in the words of Rule.needs; without writing, nothing can be tried. seconds: of silence
    after which the server counts as hanging. progress: called with the task that begins. size: of the files,
    in bytes. Ends early once the server has hung MOST_HANGING times. Raises what connect() raises.
    """
    if _TO_BE_WRITTEN & frozenset(lacks):
        return []
    tasks: list[Task] = []
    for scripts in CLIENTS.values():
        for each in scripts:
            progress(f"{each.client}: {each.task}")
            path = directory.rstrip(b"/") + b"/client-%d" % len(tasks)
            tasks.append(run(each, connect, path, seconds, size))
            if sum(task.verdict in (HANGS, DEAD) for task in tasks) == MOST_HANGING:
                tasks[-1].notes.append("further clients were not tried, because this takes long")
                return tasks
    return tasks


def run(script: Script, connect: Connect, directory: bytes, seconds: float = 10.0, size: int = SIZE) -> Task:
    """Play one script. directory: is made, and removed afterwards."""
    task = Task(script.client, script.task, script.basis, False, "")
    keeper = Session(connect(), seconds)
    try:
        play = _prepared(keeper, connect, directory, size, seconds)
    except (Refused, Broken) as error:
        task.verdict = f"could not be tried, because its files cannot be made: {error}"
        if isinstance(error, Silent):
            task.verdict = DEAD
        task.notes = _removed(keeper, directory)
        keeper.close()
        return task
    try:
        script.play(play)
        task.works = True
        task.verdict = f"works, but {play.buts[0]}" if play.buts else "works"
        task.notes = play.buts[1:] + play.notes
    except Refused as refusal:
        task.verdict = f"fails, because {why(refusal)}"
        task.notes = [str(refusal), *play.buts, *play.notes]
    except Failed as failure:
        task.verdict = str(failure)
        task.notes = play.buts + play.notes
    except Short as error:
        task.verdict = f"fails, because {error}"
    except Silent:
        task.verdict = HANGS
    except Closed as error:
        task.verdict = f"loses the connection: {error}"
    except Broken as error:
        task.verdict = f"fails, because of a malformed answer: {error}"
    if task.verdict != "works":
        for exchange in list(play.exchanges)[-SHOWN:]:
            task.steps.append(step_of(exchange.request, True))
            if exchange.reply is not None:
                task.steps.append(step_of(exchange.reply, False, exchange.request))
    play.close()
    task.notes += _removed(keeper, directory)
    keeper.close()
    return task


def _prepared(keeper: Session, connect: Connect, directory: bytes, size: int, seconds: float) -> Play:
    """A client whose directory contains what scripts expect."""
    keeper.hello()
    keeper.mkdir(directory)
    play = Play(connect(), keeper, directory, size, seconds)
    keeper.put(play.path(b"there"), play.bytes)
    keeper.put(play.path(b"half"), play.bytes[: play.half])
    return play


def _removed(keeper: Session, directory: bytes) -> list[str]:
    """Remove a task's directory; return what is left."""
    try:
        left = remove_tree(keeper, directory)
    except (Refused, Broken) as error:
        return [f"the directory {directory!r} could not be removed: {error}"]
    return [f"could not be removed: {what}" for what in left]
