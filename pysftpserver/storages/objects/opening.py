"""Makes a store from a name's settings. What may not enter: paths, files."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pysftpserver.storages.objects import credentials
from pysftpserver.storages.objects.buffer import Spool
from pysftpserver.storages.objects.names import Name, whether
from pysftpserver.storages.objects.s3 import S3, Google
from pysftpserver.storages.objects.signing import Bearer, Signature4
from pysftpserver.storages.objects.web import Web

TIMEOUT = 30.0  # seconds
SPOOL = "/var/tmp"
SPOOL_SIZE = 1 << 30  # bytes
REGION = "us-east-1"
GOOGLE = "https://storage.googleapis.com"
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


class Settings:
    """The settings of a name, checked. has_times: whether rclone's metadata has the times of files.

    is_strict: whether SETSTAT of owner, permissions or times is refused. Raises ValueError.
    """

    def __init__(self, given: dict[str, str]) -> None:
        self._given = given
        self.has_times = self._one_of("times", "server", "metadata") == "metadata"
        self.is_strict = self._one_of("setstat", "ignore", "refuse") == "refuse"
        self.timeout = self._seconds("timeout", TIMEOUT)
        self.spool_directory: str | None = given.get("spool", SPOOL)
        if self.spool_directory == "none":
            self.spool_directory = None
        elif not os.path.isdir(self.spool_directory or ""):
            raise ValueError(f"spool: {self.spool_directory}: no such directory")
        self.spool_size = _bytes(given.get("spool_size", str(SPOOL_SIZE)))

    def spool(self) -> Spool:
        """A spool for one session."""
        return Spool(self.spool_directory, self.spool_size)

    def _one_of(self, name: str, default: str, other: str) -> str:
        value = self._given.get(name, default)
        if value not in (default, other):
            raise ValueError(f"{name}: write {default} or {other}")
        return value

    def _seconds(self, name: str, default: float) -> float:
        try:
            value = float(self._given.get(name, default))
        except ValueError:
            value = 0
        if not 0.1 <= value <= 3600:
            raise ValueError(f"{name}: write a number of seconds from 0.1 to 3600")
        return value


def _bytes(text: str) -> int:
    """A size with a unit such as 500M. Raises ValueError."""
    number, unit = text.upper().removesuffix("IB").removesuffix("B"), 0
    if number[-1:] in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1]]
    if not number.isdecimal():
        raise ValueError("spool_size: write a number of bytes, such as 500M")
    return int(number) << unit


def open_store(name: Name, settings: Settings) -> S3:
    """The store of a name. No request is made. Raises ValueError."""
    if name.kind == "gs":
        return _google(name, settings)
    if name.kind == "az":
        return _azure(name, settings)
    given, environment = name.settings, os.environ
    profile = given.get("profile")
    region = (
        given.get("region")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or credentials.setting(environment, profile, "region")
        or REGION
    )
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = given.get("endpoint") or next(filter(None, map(environment.get, variables)), None)
    is_own = endpoint is None
    scheme, host, _ = _place(endpoint or f"https://s3.{region}.amazonaws.com")
    # Names with a dot are not covered by the certificate of the store.
    is_path = whether(given["path_style"], "path_style") if "path_style" in given else not is_own
    if is_own and "." in name.bucket:
        is_path = True
    authority = host if is_path else f"{name.bucket}.{host}"
    ca_file = given.get("ca_file") or environment.get("AWS_CA_BUNDLE")
    web = Web(f"{scheme}://{authority}", settings.timeout, ca_file)

    def find() -> credentials.Keys | None:
        return credentials.found(environment, profile, region, settings.timeout)

    if "credentials" in given:
        keys = credentials.in_file(given["credentials"], profile or "default")
        find = lambda: keys  # noqa: E731
    sign = Signature4(credentials.KeysOnCall(find), region, authority, web.is_safe)
    store = S3(web, sign, name.bucket, f"/{name.bucket}" if is_path else "")
    store.reads = [] if "credentials" in given else credentials.files(environment, profile)
    return store


def _place(endpoint: str, has_path: bool = False) -> tuple[str, str, str]:
    """The scheme, the host and the path of an endpoint. Raises ValueError."""
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise ValueError("endpoint: no credentials in a name; use credentials=FILE or the environment")
    path = parts.path.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or path and not has_path:
        raise ValueError("endpoint: write http://HOST:PORT or https://HOST")
    return parts.scheme, parts.netloc, path


def _need_tls(web: Web) -> None:
    """Raise ValueError if a token would be sent over a network unencrypted."""
    if not web.is_safe and web.host not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("endpoint: write https://, because a token would be sent in the open")


def _google(name: Name, settings: Settings) -> S3:
    """Google's store, whose XML API is S3's dialect with other header names and without some requests."""
    from pysftpserver.storages.objects.google import token

    scheme, host, _ = _place(name.settings.get("endpoint") or GOOGLE)
    web = Web(f"{scheme}://{host}", settings.timeout, name.settings.get("ca_file"))
    _need_tls(web)
    sign = Bearer(token(os.environ, name.settings.get("credentials"), settings.timeout), host)
    return Google(web, sign, name.bucket, f"/{name.bucket}")


def _azure(name: Name, settings: Settings) -> S3:
    from pysftpserver.storages.objects.azure import SUFFIX, Account, Azure

    given = name.settings
    account = Account.found(os.environ, given.get("account"), given.get("credentials"))
    own = f"https://{account.name}.{SUFFIX}"
    scheme, host, path = _place(given.get("endpoint") or account.endpoint or own, has_path=True)
    web = Web(f"{scheme}://{host}", settings.timeout, given.get("ca_file"))
    if not account.key:
        _need_tls(web)
    return Azure(web, account, name.bucket, f"{path}/{name.bucket}")
