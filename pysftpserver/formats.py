"""The formats that this package stores: the version of each, where data states it, what newer ones get.

Data that states no version has version 1. What may not enter: how a format is read or written.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput

LARGEST = 1 << 64  # version that a message shows: Python refuses to print very long integers


class Format:
    """A row of the table. name: as in messages. place, carrier, older: for the table in the docs."""

    def __init__(self, name: str, place: str, carrier: str, version: int = 1, older: str = "read") -> None:
        self.name = name
        self.place = place
        self.carrier = carrier
        self.version = version
        self.older = older

    def problem(self, found: object) -> str | None:
        """Why data of a version cannot be used, or None. found: the stated version; None or 0: none."""
        if found is None or found is False:
            found = 0
        if isinstance(found, (str, bytes)) and found.isdigit():
            try:
                found = int(found)
            except ValueError:
                pass  # digits that int() does not take, or too many
        if type(found) is not int or found < 0:
            return f"its version is not a number; this version of pysftpserver knows 1 to {self.version}"
        if found > self.version:
            shown = found if found <= LARGEST else "(a very large number)"
            return (
                f"format {shown} of a newer version of pysftpserver; this one knows up to {self.version}: "
                "upgrade this one, and do not edit the data with it"
            )
        return None

    def check(self, found: object, where: str) -> None:
        """Raises BadInput for a version that cannot be used. where: the file or place for the message."""
        problem = self.problem(found)
        if problem is not None:
            raise BadInput(f"{where}: {problem}")


USERS_FILE = Format("users file", "`users.toml`", "`version` at its top")
REDIS_USER = Format("user in Redis", "`solt.sftp.user.ID`", "field `version`")
AUDIT = Format("audit record", "audit logs", "member `v`")
CHAIN = Format("head of a chain", "`FILE.chain`", "`vN` in front")
LEDGER = Format(
    "ledger of a site", "`ledger.sqlite` in its state directory: quotas and events", "`PRAGMA user_version`"
)
SHARED_LEDGER = Format("ledger of a site in Redis", "`{PREFIX}:...`", "key `{PREFIX}:format`")
NODE = Format("directory or link in GridFS", "`BUCKET.nodes`", "field `version`")
WEB_STATE = Format(
    "state of pysftpweb",
    "the file of `--state`: links, properties, used codes",
    "`PRAGMA user_version`",
    4,
    "migrated at the start",
)
REMO_USERS = Format(
    "users of pysftpremo",
    "its SQLite file",
    "`PRAGMA user_version`",
    older="read; a missing column is added",
)
SKSYNC = Format("settings and users of pysksync", "`sksync.json`", "member `version`")
REPORT = Format("report of pysftp-probe", "files of `--json`", "member `format`")

#: All formats that state their version.
FORMATS = (
    *(USERS_FILE, REDIS_USER, AUDIT, CHAIN, LEDGER, SHARED_LEDGER, NODE),
    *(WEB_STATE, REMO_USERS, SKSYNC, REPORT),
)
#: Data that states no version: what, and why none is needed.
WITHOUT = (
    ("files in GridFS", "GridFS's own format; unknown fields of `metadata` are kept"),
    ("objects in S3, GCS, Azure", "plain objects; times in rclone's metadata `mtime`"),
    ("files in directories", "plain files"),
    ("site files, configuration files", "a key that a version does not know is an error that names it"),
    (
        "uploads that are not complete",
        "named after their kind; a version that does not know a name leaves it, and cleaning removes it",
    ),
    ("bans and used codes in Redis", "they end by themselves; what cannot be read is ignored"),
    ("bans, throttling, sessions in memory", "they end with the server"),
    ("values that pysftplab's window remembers", "unknown or invalid ones are ignored"),
    ("keys, certificates, revocation lists", "formats of OpenSSH, PEM and X.509"),
)


def table() -> str:
    """The rows of both tables, for the docs."""
    rows = "".join(
        f"| {one.name} | {one.place} | {one.version} | {one.carrier} | {one.older} |\n" for one in FORMATS
    )
    others = "".join(f"| {what} | {why} |\n" for what, why in WITHOUT)
    return (
        "| data | where | version | which says it | older versions |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n| data without a version | why |\n| --- | --- |\n{others}"
    )
