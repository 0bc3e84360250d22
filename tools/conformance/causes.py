"""Why rules are broken, where that was looked into: what a server's source or its packets say.

What may not enter: what has only been guessed.
"""

from __future__ import annotations

_OPENSSH = (
    "`home-directory` looks an empty name up among the users, who have none with that name.",
    "A packet of an unknown type is logged, and not answered.",
)

#: By the words of servers.py.
CAUSES: dict[str, tuple[str, ...]] = {
    "openssh": _OPENSSH,
    "internal": _OPENSSH,
    "asyncssh": (
        "OPENDIR is answered before the directory is looked for: `scandir` is a generator, which "
        "begins with the first READDIR.",
        "RENAME looks for the new name with `os.path.exists`, which follows links.",
        "statvfs@openssh.com passes the flags of the host on, such as 0x1000 for relatime.",
        "copy-data has no look at whether its two handles are the same.",
    ),
    "paramiko": (
        "FSETSTAT with an unknown handle calls `_response` with SFTP_BAD_MESSAGE in place of "
        "`_send_status`: that is taken for the packet's type, 5, which is READ.",
        "`SFTPServer.set_file_attr` opens the file with `w+` to set its size, which empties it, and "
        "makes one that is missing.",
        "`check-file` is announced, and requests are taken by that name, where the draft has `check-"
        "file-handle` and `check-file-name`.",
        "A path that is not UTF-8 ends in FAILURE.",
    ),
    "conch": (
        "With `UnixConchUser` as it is every request about a path fails (twisted/twisted#9845); here "
        "its home is a FilePath.",
        "A path is joined to the home with `os.path.join`, and an empty one is the home itself: RENAME"
        " of an empty path moves the home of the user. No rule asks for that; it is why this project's"
        " rules name nothing but their own directory.",
    ),
    "rclone": (
        "READ of a file that was opened for reading and writing is answered with STATUS OK, which no "
        "client can understand; many rules open files so.",
        "Permissions and times of access cannot be stored, and SETSTAT of them is answered with OK.",
    ),
    "lsh": (
        "READ answers more bytes than it is asked for.",
        "A request with a handle that is not open, or not of its kind, ends the server.",
    ),
}
