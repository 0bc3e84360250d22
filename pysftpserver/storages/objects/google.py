"""Tokens for Google Cloud Storage, from the places where Google's own tools look for them.

In this order: the file that the storage's name points to, GOOGLE_APPLICATION_CREDENTIALS, the file of
`gcloud auth application-default login`, the machine's metadata service. Files are those of service accounts
and of users. No secret is ever part of an exception's text. What may not enter: requests to the store.
Facts: "How Application Default Credentials works"; RFC 7523 for the tokens of service accounts.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from urllib.parse import quote, urlsplit

from pysftpserver.failures import missing, reason_of
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.objects.web import Body, Web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

BEFORE = 300.0  # seconds before it expires, a token is renewed
BRIEFLY = 2.0  # seconds for the metadata service, which is near or does not exist
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
TOKENS = "https://oauth2.googleapis.com/token"
METADATA = "metadata.google.internal"


class TokenOnCall:
    """Returns the current token when it is called; "" if there are none. Threads may share it."""

    def __init__(self, renew: Callable[[], dict[str, Any]]) -> None:
        self._renew = renew
        self._token = ""
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            if time.time() > self._until - BEFORE:
                answer = self._renew()
                try:
                    self._token = str(answer["access_token"]) if answer else ""
                    self._until = time.time() + float(answer["expires_in"]) if answer else float("inf")
                except (KeyError, TypeError, ValueError):
                    raise SFTPFailure("The service for credentials of the store has refused them") from None
            return self._token


def token(environment: Mapping[str, str], path: str | None, patience: float) -> TokenOnCall:
    """Find credentials, and return a source of their tokens. path: of the file to use. Raises ValueError."""
    default = os.path.join(
        environment.get("HOME", "/"), ".config/gcloud/application_default_credentials.json"
    )
    named = path or environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named or os.path.exists(default):
        values = _in_file(named or default)
        kind = values.get("type")
        if kind == "service_account":
            sign = _signer(str(values.get("private_key", "")), named or default)
            return TokenOnCall(lambda: _asked(values, _assertion(values, sign), patience))
        if kind == "authorized_user":
            return TokenOnCall(lambda: _asked(values, _refresh(values), patience))
        raise ValueError(f"{named or default}: not credentials of a service account or of a user")
    return TokenOnCall(lambda: _of_machine(environment))


def _in_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {reason_of(error)}") from None
    except ValueError:
        raise ValueError(f"{path}: not valid JSON") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not credentials of a service account or of a user")
    return values


def _signer(key: str, path: str) -> Callable[[bytes], bytes]:
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ModuleNotFoundError:
        raise ValueError(missing("cryptography", "objects").message) from None
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(f"{path}: its private_key cannot be used") from None
    return lambda content: private.sign(content, padding.PKCS1v15(), hashes.SHA256())


def _assertion(values: dict[str, Any], sign: Callable[[bytes], bytes]) -> dict[str, str]:
    now = int(time.time())
    claims = {
        "iss": values.get("client_email"),
        "scope": SCOPE,
        "aud": values.get("token_uri") or TOKENS,
        "iat": now,
        "exp": now + 3600,
    }
    header = {"alg": "RS256", "typ": "JWT", "kid": values.get("private_key_id")}
    content = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    assertion = content + b"." + _encoded(sign(content))
    return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion.decode()}


def _refresh(values: dict[str, Any]) -> dict[str, str]:
    fields = ("client_id", "client_secret", "refresh_token")
    return {"grant_type": "refresh_token", **{name: str(values.get(name, "")) for name in fields}}


def _asked(values: dict[str, Any], form: dict[str, str], patience: float) -> dict[str, Any]:
    parts = urlsplit(str(values.get("token_uri") or TOKENS))
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in form.items())
    web = Web(f"{parts.scheme}://{parts.netloc}", patience)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        return _answer(web, "POST", parts.path or "/", headers, Body.of(text.encode()))
    finally:
        web.close()


def _of_machine(environment: Mapping[str, str]) -> dict[str, Any]:
    """The token of the machine's service account; nothing if there is no metadata service."""
    web = Web(f"http://{environment.get('GCE_METADATA_HOST', METADATA)}", BRIEFLY)
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    try:
        return _answer(web, "GET", path, {"Metadata-Flavor": "Google"}, None)
    except SFTPFailure:
        return {}
    finally:
        web.close()


def _answer(web: Web, method: str, target: str, headers: dict[str, str], body: Body | None) -> dict[str, Any]:
    answer = web.request(method, target, headers, body)
    try:
        if answer.status == 200:
            values = json.loads(answer.content)
            if isinstance(values, dict):
                return values
    except ValueError:
        pass
    raise SFTPFailure("The service for credentials of the store has refused them")


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
