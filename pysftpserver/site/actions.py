"""ONE table of what people do to paths: the actions that rules allow and refuse, and which request counts as
which.

What may not enter: rules, storages, how a request is served.
"""

from __future__ import annotations

#: What rules are about.
ACTIONS = {
    "list": "read a directory",
    "download": "read a file",
    "upload": "make a new file",
    "overwrite": "change what is in a file, cut it off, or put another in its place",
    "append": "add to the end of a file",
    "delete": "remove a file or a link",
    "rename": "give a file or a directory another name; both names have to allow it",
    "mkdir": "make a directory",
    "rmdir": "remove a directory",
    "symlink": "make a symbolic link",
    "link": "make another name of a file (a hard link); both names have to allow it",
    "setstat": "change permissions, times or the owner",
}
#: Words for several actions.
SEVERAL = {
    "all": frozenset(ACTIONS),
    "read": frozenset({"list", "download"}),
    "write": frozenset(ACTIONS) - {"list", "download"},
}
#: Names under which programs upload before they rename: WinSCP, rclone, lftp, browsers and desktops.
TEMPORARY = ("*.filepart", "*.partial", ".in.*", "*.part")


def expanded(text: str) -> frozenset[str]:
    """The actions that a word in a rule stands for. Raises ValueError."""
    if text in SEVERAL:
        return SEVERAL[text]
    if text not in ACTIONS:
        raise ValueError(f"{text}: unknown action; known are {', '.join((*ACTIONS, *SEVERAL))}")
    return frozenset({text})
