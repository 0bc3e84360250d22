"""Why rules are broken, if that was investigated: what a server's source or its packets show.

What may not enter: what has only been guessed.
"""

from __future__ import annotations

_OPENSSH = (
    "`home-directory` looks up an empty name as a user name, and finds no such user.",
    "A packet of an unknown type is logged, and not answered.",
)

#: Causes by the `word` of a server in servers.py.
CAUSES: dict[str, tuple[str, ...]] = {
    "openssh": _OPENSSH,
    "internal": _OPENSSH,
    "asyncssh": (
        "OPENDIR is answered before the directory is opened: `scandir` is a generator, which starts "
        "with the first READDIR.",
        "RENAME looks for the new name with `os.path.exists`, which follows links.",
        "statvfs@openssh.com passes on the flags of the host, such as 0x1000 for relatime.",
        "copy-data does not check whether its two handles are the same.",
    ),
    "objects": (
        "A file is stored as a whole or not at all: after a refused WRITE or copy-data, CLOSE fails and the "
        "old file stays ([docs/objects.md](objects.md#what-is-guaranteed)).",
        "The store of the tests does not know `If-None-Match`, and no store renames: two sessions at the "
        "same moment can both succeed.",
        "A store has one time for an object, which is both times of the file, and names in UTF-8 only.",
    ),
    "gridfs": (
        "A file is stored as a whole or not at all ([docs/gridfs.md](gridfs.md#what-is-promised)): after a "
        "refused WRITE, CLOSE fails and the old file stays; an upload that is not closed leaves nothing.",
        "Two sessions can both open a new name with EXCL; the second CLOSE is refused.",
    ),
    "paramiko": (
        "FSETSTAT with an unknown handle calls `_response` with SFTP_BAD_MESSAGE, 5, instead of "
        "`_send_status`: it becomes the type of the packet, which is READ's.",
        "`SFTPServer.set_file_attr` opens the file with `w+` to set its size, which empties it, and "
        "creates it if it is missing.",
        "`check-file` is announced, and requests are accepted only under that name, where the draft has "
        "`check-file-handle` and `check-file-name`.",
        "A path that is not UTF-8 is answered with FAILURE.",
    ),
    "conch": (
        "With `UnixConchUser` as it is every request about a path fails (twisted/twisted#9845); here "
        "its home is a FilePath.",
        "A path is joined to the home with `os.path.join`, so that an empty path is the home itself, for "
        "RENAME too. No rule tries that.",
    ),
    "rclone": (
        "READ of a file that was opened for reading and writing is answered with STATUS OK, which no "
        "client can understand; many rules open files so.",
        "Permissions and times of access cannot be stored, and SETSTAT of them is answered with OK.",
        "After RENAME of a directory, READDIR of it does not list some of what is in it, and so it cannot be "
        "removed.",
    ),
    "lsh": (
        "READ answers more bytes than it is asked for.",
        "A request with a handle that is not open, or is of the wrong kind, crashes the server.",
    ),
}
