"""The settings of doors that serve users with records: where records are, login methods, storages.

What may not enter: the door's own settings, and what a setting does. Facts: docs/sshd.md; solt_sftp's names
and defaults.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput
from pysftpserver.people.methods import PUBLICKEY, TOTP, parse
from pysftpserver.service.settings import (
    COUNT,
    DIRECTORY,
    FILE,
    FLAG,
    ServiceSettings,
    Setting,
    optional,
    seconds,
    text,
    texts,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

METHODS = texts("METHODS", " ", parse)
REDIS = "redis_"  # the settings that say where Redis is begin with this
DEFAULT_USERS = "users.toml"


# fmt: off
class PeopleSettings(ServiceSettings):
    """What pysftpd and pysftpweb are told about users."""

    sftp_path = Setting(DIRECTORY, "/opt/solt_sftp/files", "Directory that holds the users' folders.")
    create_folders = Setting(
        FLAG, False, "Create the folder of a user at login when it is missing; pysftpctl creates it as well."
    )
    disk_marker = Setting(
        optional(text("NAME")), None,
        "Serve and create folders only while sftp_path has an entry of this name; make it on the disk that "
        "is mounted there.",
        unset="no check",
    )
    redis_host = Setting(text("HOST"), "localhost", "Host of the Redis server that holds the users.")
    redis_port = Setting(whole(1, 65535, "PORT"), 6379, "Port of the Redis server.")
    redis_dbindex = Setting(whole(0, 1_000_000, "NUMBER"), 1, "Number of the Redis database.")
    redis_pass = Setting(
        optional(text("PASSWORD")), None,
        "Password of the Redis server; keep it in the file, because others on this host can read a command "
        "line.", is_secret=True,
    )
    redis_channel = Setting(
        text("CHANNEL"), "sftp_users", "Redis channel on which changes of users are announced."
    )
    users = Setting(
        optional(FILE), None, "Read the users from this TOML file instead of Redis.",
        unset=f"Redis if a setting says where it is, otherwise {DEFAULT_USERS} in the current directory",
    )
    auth_methods = Setting(
        METHODS, (PUBLICKEY,),
        "What lets a user in: publickey, password, or several of publickey, password and totp with commas "
        "between them, which are then all needed in that order; choices are separated by blanks. The record "
        "of a user may combine the same methods otherwise.",
    )
    lookup_command = Setting(
        optional(text("COMMAND")), None,
        "Ask this program about users that are not stored; it gets JSON and answers with a user's record.",
    )
    lookup_url = Setting(
        optional(text("URL")), None,
        "Ask this HTTP server instead of a program: the same JSON is posted to it.",
    )
    lookup_token_file = Setting(
        optional(FILE), None, "Send the first line of this file to lookup_url as a bearer token."
    )
    lookup_seconds = Setting(
        seconds(), 5.0,
        "Refuse a user whose lookup takes more than this many seconds, the wait for a turn included.",
    )
    lookup_cache = Setting(
        whole(0, 86400, "SECONDS"), 60,
        "Keep each answer for this many seconds, and the answer that there is no such user for at most 5; "
        "with 0, none is kept.",
    )
    lookup_most = Setting(
        COUNT, 8, "Maximum number of lookups at once in one process; others wait for a turn."
    )
    mongo_uri = Setting(
        optional(text("URI")), None, "MongoDB URI for users whose storage is gridfs.", is_secret=True
    )
    mongo_uri_file = Setting(optional(FILE), None, "Read the MongoDB URI from the first line of this file.")
    mongo_database = Setting(
        optional(text("NAME")), None, "Name of the database, if the MongoDB URI has none."
    )
    mongo_bucket = Setting(text("NAME"), "fs", "Name of the GridFS bucket.")
    storage = Setting(
        optional(text("STORAGE")), None,
        "Name of the storage of users who have none of their own, such as jail:/srv/sftp/{folder}, in which "
        "{user} and {folder} stand for the user's.", unset="the folder below sftp_path",
    )
    site = Setting(
        optional(FILE), None,
        "Put the storages of all users under this site file, which has no storage of its own: its mounts and "
        "rules. Users may have another one by their records.",
    )
    storage_schemes = Setting(
        optional(texts("SCHEMES", ",")), None,
        "Storages that users may have by their records, named by what stands before the colon, such as jail "
        "or s3, separated by commas; toml is a site file, as storage and as site.",
        unset="none but gridfs of mongo_uri",
    )
    storage_classes = Setting(
        optional(texts("CLASSES", ",")), None,
        "Storage classes that users may have by their records, each MODULE:CLASS, separated by commas.",
    )

    @classmethod
    def load(cls, path: str | None, typed: Mapping[str, Any]) -> Self:
        """As in the base class; a directory of users on the command line replaces the one in the file."""
        if any(name.startswith(REDIS) for name in typed):
            if typed.get("users") is not None:
                raise BadInput("--users and --redis-...: give one of them")
            typed = {**typed, "users": None}
        return super().load(path, typed)

    @property
    def offered(self) -> frozenset[str]:
        """The methods in auth_methods, and codes, which a user's record can always ask for."""
        return frozenset((TOTP, *(word for text in self.auth_methods for word in text.split(","))))

    @property
    def is_in_redis(self) -> bool:
        """Whether the users are in Redis: a setting says where it is, and none names a file."""
        return self.users is None and any(name.startswith(REDIS) for name in self.given)

    @property
    def users_file(self) -> str:
        """The file of users, if they are not in Redis."""
        return self.users or DEFAULT_USERS
# fmt: on
