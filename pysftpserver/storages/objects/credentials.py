"""Credentials for S3, from the places where AWS's own tools look for them.

In this order: the file that the storage's name points to; the environment; the shared credentials and
configuration files (profiles with keys, or with a program that prints some); a web identity token; the
container's and the instance's metadata service. Temporary keys are renewed before they expire. No secret is
ever part of an exception's text. What may not enter: requests to the store.
Facts: "Standardized credential providers" in the AWS SDKs and Tools Reference Guide.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import threading
import time
from urllib.parse import quote, urlsplit

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.objects.web import Answer, Body, Web

TYPE_CHECKING = False
if TYPE_CHECKING:
    import configparser
    from collections.abc import Callable, Mapping
    from typing import Any

BEFORE = 300.0  # seconds before they expire, temporary keys are renewed
BRIEFLY = 2.0  # seconds for the instance's metadata service, which is near or does not exist
INSTANCE = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"


class Keys:
    """An access key. expires: seconds since the epoch, or None."""

    def __init__(self, key: str, secret: str, token: str = "", expires: float | None = None) -> None:
        self.key, self.secret, self.token, self.expires = key, secret, token, expires

    def __repr__(self) -> str:
        return f"Keys({self.key!r})"


class KeysOnCall:
    """Returns the current keys when it is called; None: there are none, requests are anonymous.

    find: looks for them. It is called again before they expire. Threads may share it.
    """

    def __init__(self, find: Callable[[], Keys | None]) -> None:
        self._find = find
        self._keys: Keys | None = None
        self._is_known = False
        self._lock = threading.Lock()

    def __call__(self) -> Keys | None:
        with self._lock:
            keys = self._keys
            if not self._is_known or keys and keys.expires and keys.expires - time.time() < BEFORE:
                try:
                    self._keys, self._is_known = self._find(), True
                except SFTPFailure:
                    if not keys or not keys.expires or keys.expires < time.time():
                        raise
            return self._keys


def in_file(path: str, profile: str = "default") -> Keys:
    """Read keys from a file in the form of AWS's credentials files. Raises ValueError."""
    keys = _in_profile(_parsed(path), profile)
    if keys is None:
        raise ValueError(f"{path}: [{profile}] has no aws_access_key_id and aws_secret_access_key")
    return keys


def found(environment: Mapping[str, str], profile: str | None, region: str, patience: float) -> Keys | None:
    """Search keys where AWS's tools do. profile: if given, only in this one of the shared files.

    Raises SFTPFailure if a service for credentials that the environment names fails.
    """
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret and profile is None:
        return Keys(key, secret, environment.get("AWS_SESSION_TOKEN", ""))
    named = profile or environment.get("AWS_PROFILE")
    texts = shared_files(environment)
    for text in texts:
        keys = _in_profile(text, named or "default")
        if keys is not None:
            return keys
    program = _setting(texts, named or "default", "credential_process")
    if program:
        return _of_program(program, patience)
    if named:
        raise SFTPFailure("The profile for the store has no access keys")
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environment.get("AWS_ROLE_ARN"):
        return _of_web_identity(environment, region, patience)
    for variable, base in (
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", CONTAINER),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""),
    ):
        if environment.get(variable):
            return _of_container(base + environment[variable], environment, patience)
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    return _of_instance()


def files(environment: Mapping[str, str], profile: str | None) -> list[str] | None:
    """Paths that found() reads; None: it runs a program."""
    if setting(environment, profile, "credential_process"):
        return None
    paths = [path for path in shared_paths(environment) if os.path.exists(path)]
    for variable in ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        if environment.get(variable):
            paths.append(os.path.dirname(environment[variable]))  # where tokens are replaced
    return paths


def shared_paths(environment: Mapping[str, str]) -> list[str]:
    """Paths of the credentials file and the configuration file, if they exist."""
    own = os.path.join(environment.get("HOME", "/"), ".aws")
    variables = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    return [environment.get(variable) or os.path.join(own, name) for variable, name in variables]


def shared_files(environment: Mapping[str, str]) -> list[configparser.RawConfigParser]:
    """The credentials file and the configuration file, as far as they can be read."""
    texts = []
    for path in shared_paths(environment):
        if os.path.exists(path):
            with contextlib.suppress(ValueError):
                texts.append(_parsed(path))
    return texts


def setting(environment: Mapping[str, str], profile: str | None, name: str) -> str | None:
    """A setting of a profile in the shared files, such as its region."""
    return _setting(shared_files(environment), profile or environment.get("AWS_PROFILE") or "default", name)


def _setting(texts: list[configparser.RawConfigParser], profile: str, name: str) -> str | None:
    for text in texts:
        section = _section(text, profile)
        if section and text.has_option(section, name):
            return text.get(section, name)
    return None


def _parsed(path: str) -> configparser.RawConfigParser:
    import configparser  # here, because it loads much

    text = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            text.read_file(file)
    except OSError as error:
        raise ValueError(f"{path}: {reason_of(error)}") from None
    except (configparser.Error, UnicodeError):  # whose text quotes lines of the file
        raise ValueError(f"{path}: not a credentials file: write [default], then NAME = VALUE") from None
    return text


def _section(text: configparser.RawConfigParser, profile: str) -> str | None:
    for name in (profile, f"profile {profile}"):
        if text.has_section(name):
            return name
    return None


def _in_profile(text: configparser.RawConfigParser, profile: str) -> Keys | None:
    section = _section(text, profile)
    if section is None:
        return None
    values = dict(text.items(section))
    key, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    return Keys(key, secret, values.get("aws_session_token", "")) if key and secret else None


# --- programs and services that hand out temporary keys -------------------------------------------------


def _of_program(line: str, patience: float) -> Keys:
    """The keys that a program of the profile prints, such as `aws configure export-credentials`."""
    import json
    import shlex
    import subprocess

    try:
        done = subprocess.run(
            shlex.split(line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience,
        )
        if done.returncode == 0:
            return _keys_of(json.loads(done.stdout))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired):
        pass
    raise SFTPFailure("The program for the credentials of the store has failed")


def _of_instance() -> Keys | None:
    """Keys of the machine's role, from version 2 of its metadata service; None if it has no such service."""
    web = Web(INSTANCE, BRIEFLY)
    path = "/latest/meta-data/iam/security-credentials/"
    try:
        token = web.request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
        if token.status != 200:
            return None
        headers = {"X-aws-ec2-metadata-token": token.content.decode("latin-1")}
        role = web.request("GET", path, headers)
        if role.status != 200:
            return None
        name = role.content.decode("latin-1").split("\n")[0].strip()
        return _keys_in(web.request("GET", path + quote(name), headers))
    except SFTPFailure:
        return None
    finally:
        web.close()


def _of_container(url: str, environment: Mapping[str, str], patience: float) -> Keys:
    parts = urlsplit(url)
    headers = {}
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = _text_of(environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
    if token:
        headers["Authorization"] = token
    web = Web(f"{parts.scheme}://{parts.netloc}", patience)
    try:
        return _keys_in(web.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers))
    finally:
        web.close()


def _of_web_identity(environment: Mapping[str, str], region: str, patience: float) -> Keys:
    """Exchange a token, such as Kubernetes issues, for keys of a role."""
    values = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": environment["AWS_ROLE_ARN"],
        "RoleSessionName": environment.get("AWS_ROLE_SESSION_NAME", "pysftpserver"),
        "WebIdentityToken": _text_of(environment["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
    web = Web(environment.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{region}.amazonaws.com", patience)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    try:
        answer = web.request("POST", "/", headers, Body.of(text.encode()))
        return _keys_in(
            answer, "AssumeRoleWithWebIdentityResponse", "AssumeRoleWithWebIdentityResult", "Credentials"
        )
    finally:
        web.close()


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeError):
        raise SFTPFailure("The credentials for the store cannot be read") from None


def _keys_in(answer: Answer, *way: str) -> Keys:
    """The keys in a JSON answer. way: names of the objects around them."""
    import json  # here, because it loads much

    try:
        if answer.status != 200:
            raise ValueError
        values = json.loads(answer.content)
        for name in way:
            values = values[name]
        return _keys_of(values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SFTPFailure("The service for credentials of the store has refused them") from None


def _keys_of(values: Mapping[str, Any]) -> Keys:
    expires = values.get("Expiration")
    token = values.get("Token") or values.get("SessionToken") or ""
    key, secret = values["AccessKeyId"], values["SecretAccessKey"]
    return Keys(key, secret, token, None if expires is None else _moment(expires))


def _moment(value: str | float) -> float:
    if isinstance(value, int | float):
        return float(value)
    return float(calendar.timegm(time.strptime(value[:19], "%Y-%m-%dT%H:%M:%S")))
