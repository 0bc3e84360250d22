"""ONE table of actions on paths, which rules allow and refuse, and of the action that each request counts as.

What may not enter: rules, storages, how a request is served.
"""

from __future__ import annotations

#: What rules are about.
ACTIONS = {
    "list": "read a directory",
    "download": "read a file",
    "upload": "make a new file",
    "overwrite": "change the content of a file, truncate it, or replace it",
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
    """The actions that a word in a rule means. Raises ValueError."""
    if text in SEVERAL:
        return SEVERAL[text]
    if text not in ACTIONS:
        raise ValueError(f"{text}: unknown action; known are {', '.join((*ACTIONS, *SEVERAL))}")
    return frozenset({text})


class Row:
    """The action that one request counts as. request: as in `pysftpsite -Q`. when: in which case. action:
    None: none.

    on: which path has to allow it.
    """

    def __init__(self, request: str, when: str, action: str | None, on: str = "path") -> None:
        self.request, self.when, self.action, self.on = request, when, action, on


#: The action that each request counts as. Requests without one are allowed on everything not hidden.
REQUESTS = (
    Row("opendir", "", "list"),
    Row("open", "READ", "download"),
    Row("open", "CREATE, if there is no such file", "upload"),
    Row("open", "WRITE, if the file is there", "overwrite"),
    Row("open", "WRITE and APPEND, if the file is there", "append"),
    Row("open", "TRUNCATE, if the file is there", "overwrite"),
    Row("setstat", "a size", "overwrite"),
    Row("setstat", "anything else", "setstat"),
    Row(
        "fsetstat",
        "a size, unless it was opened to overwrite it or is new",
        "overwrite",
        "the file's path",
    ),
    Row(
        "fsetstat",
        "anything else, unless it was opened with TRUNCATE or is new",
        "setstat",
        "the file's path",
    ),
    Row("lsetstat", "", "setstat"),
    Row("mkdir", "", "mkdir"),
    Row("rmdir", "", "rmdir"),
    Row("remove", "", "delete"),
    Row("rename", "", "rename", "both paths"),
    Row("rename", "from a temporary name to the final one", "upload", "both paths"),
    Row("posix-rename", "", "rename", "both paths"),
    Row("posix-rename", "if the new name is there", "overwrite", "the new path"),
    Row("symlink", "", "symlink", "the path of the link"),
    Row("hardlink", "", "link", "both paths"),
    Row("check-file-name", "", "download"),
    Row("check-file, check-file-handle", "", None, "as the file was opened"),
    Row("copy-data", "", None, "as both files were opened"),
    Row("read, write, fsync, fstat, fstatvfs, close", "", None, "as the file was opened"),
    Row("stat, lstat, readlink, realpath, expand-path, statvfs", "", None),
)


def actions_table() -> str:
    """The table of actions, for the documentation."""
    rows = [f"| `{action}` | {text} |" for action, text in ACTIONS.items()]
    rows.append(f"| `read` | {', '.join(f'`{action}`' for action in ACTIONS if action in SEVERAL['read'])} |")
    rows += ["| `write` | all but these two |", "| `all` | all |"]
    return "\n".join(["| action | is to |", "| --- | --- |", *rows]) + "\n"


def requests_table() -> str:
    """The table of requests and their actions, for the documentation."""
    lines = ["| request | when | counts as | where |", "| --- | --- | --- | --- |"]
    for row in REQUESTS:
        action = f"`{row.action}`" if row.action else "nothing"
        names = ", ".join(f"`{name}`" for name in row.request.split(", "))
        lines.append(f"| {names} | {row.when} | {action} | {row.on} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"
