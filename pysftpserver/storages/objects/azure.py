"""Azure Blob Storage, with the methods of S3's dialect: its requests, its signatures, its credentials.

An upload in parts is a list of blocks, which is not visible before it is put. Azure removes blocks that were
never put after a week, and has no request to do that earlier. What may not enter: paths, directories.
Facts: the Blob service REST API, "Authorize with Shared Key".
"""

from __future__ import annotations

import base64
import calendar
import hmac
import json
import os
import time
from email.utils import formatdate, parsedate
from urllib.parse import parse_qsl, unquote

from pysftpserver.failures import BadInput
from pysftpserver.host import watch
from pysftpserver.host.wholefiles import first_line
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.objects.digests import in_azure
from pysftpserver.storages.objects.errors import Changed, Missing, Refused, unclear
from pysftpserver.storages.objects.google import TokenOnCall
from pysftpserver.storages.objects.s3 import MOST, PAGE, S3, Meta, Page, number, page_of
from pysftpserver.storages.objects.signing import encoded
from pysftpserver.storages.objects.web import Body, Web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from pysftpserver.storages.objects.s3 import Upload
    from pysftpserver.storages.objects.web import Headers

VERSION = "2021-12-02"  # of the API
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
SUFFIX = "blob.core.windows.net"
INSTANCE = "http://169.254.169.254"
TOKEN = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F"
BRIEFLY = 2.0  # seconds for the machine's metadata service, which is near or does not exist
PAUSE = 0.2  # seconds between two checks of a copy
SIGNED = (  # headers, in this order
    "Content-Encoding Content-Language Content-Length Content-MD5 Content-Type Date If-Modified-Since "
    "If-Match If-None-Match If-Unmodified-Since Range"
).split()


class Account:
    """An account and one credential: a key, a shared access signature, or a token on call."""

    def __init__(self, name: str, key: str, signature: str, endpoint: str) -> None:
        self.name, self.key, self.endpoint = name, key, endpoint
        self.signature = signature.lstrip("?")

    @classmethod
    def found(cls, environment: Mapping[str, str], name: str | None, path: str | None) -> Account:
        """Search where Azure's tools do. path: of a file with a connection string. Raises ValueError."""
        try:
            text = first_line(path, "credentials") if path else environment.get(CONNECTION)
        except BadInput as error:
            raise ValueError(error.message) from None
        values = dict(part.partition("=")[::2] for part in (text or "").split(";"))
        get = environment.get
        account = values.get("AccountName") or name or get("AZURE_STORAGE_ACCOUNT") or ""
        if not account.isalnum():
            raise ValueError("account: name the storage account, here or in AZURE_STORAGE_ACCOUNT")
        key = values.get("AccountKey") or get("AZURE_STORAGE_KEY") or get("AZURE_STORAGE_ACCESS_KEY") or ""
        signature = values.get("SharedAccessSignature") or get("AZURE_STORAGE_SAS_TOKEN") or ""
        return cls(account, key, signature, values.get("BlobEndpoint") or "")


class SharedKey:
    """Signs requests with the key of an account. Raises ValueError for an invalid key."""

    def __init__(self, account: Account, host: str) -> None:
        self._name, self._host = account.name, host
        try:
            self._key = base64.b64decode(account.key, validate=True)
        except ValueError:
            raise ValueError("the key of the storage account is not valid") from None

    def __call__(self, method: str, target: str, headers: Headers, body: Body | None) -> Headers:
        headers |= {"Host": self._host, "x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        path, _, query = target.partition("?")
        length = str(body.size) if body and body.size else ""
        lines = [method, *({**headers, "Content-Length": length}.get(name, "") for name in SIGNED)]
        own = sorted((name.lower(), value) for name, value in headers.items() if name.startswith("x-ms-"))
        lines += [f"{name}:{value}" for name, value in own]
        lines.append(f"/{self._name}{path}")
        lines += [
            f"{name.lower()}:{value}" for name, value in sorted(parse_qsl(query, keep_blank_values=True))
        ]
        proof = base64.b64encode(hmac.digest(self._key, "\n".join(lines).encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {self._name}:{proof}"
        return headers


class Versioned:
    """Puts the version of the API into requests, and a token if there is one."""

    def __init__(self, token: Callable[[], str] | None, host: str) -> None:
        self._token, self._host = token, host

    def __call__(self, method: str, target: str, headers: Headers, body: Body | None) -> Headers:
        headers |= {"Host": self._host, "x-ms-version": VERSION}
        token = self._token() if self._token else ""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def token_of_machine() -> dict[str, Any]:
    """A token of the machine's identity; nothing if there is no metadata service."""
    web = Web(INSTANCE, BRIEFLY)
    try:
        answer = web.request("GET", TOKEN, {"Metadata": "true"})
        values = json.loads(answer.content) if answer.status == 200 else {}
        return values if isinstance(values, dict) else {}
    except (SFTPFailure, ValueError):
        return {}
    finally:
        web.close()


class Azure(S3):
    """The blobs of a container. url: of the container, for copies. signature: of the account, or ""."""

    _x = "x-ms-"
    one_copy = MOST
    digests = frozenset(("md5",))
    _digest_in = staticmethod(in_azure)
    refused = "\\"  # would become a slash

    def __init__(self, web: Web, account: Account, container: str, base: str) -> None:
        sign = (
            SharedKey(account, web.authority)
            if account.key
            else Versioned(None if account.signature else TokenOnCall(token_of_machine), web.authority)
        )
        super().__init__(web, sign, container, base)
        self._signature = account.signature
        scheme = "https" if web.is_safe else "http"
        self._url = f"{scheme}://{web.authority}{base}"
        self.copies_parts = False  # it would need a signature for the source

    def _target(self, key: str, query: dict[str, str]) -> str:
        target = super()._target(key, query)
        if not key:
            target = target.replace("/?", "?", 1)
        if self._signature:
            target += ("&" if "?" in target else "?") + self._signature
        return target

    def _put(self, key: str, body: Body, headers: Headers) -> str:
        return super()._put(key, body, {**headers, "x-ms-blob-type": "BlockBlob"})

    def copy(
        self,
        source: Meta,
        key: str,
        only_new: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> None:
        if source.key == key and metadata is not None:
            self._ask("PUT", key, {"comp": "metadata"}, {**self._metadata(metadata), "If-Match": source.etag})
            return
        headers = {"x-ms-copy-source": f"{self._url}/{encoded(source.key, '/')}"}
        if self._signature:
            headers["x-ms-copy-source"] += f"?{self._signature}"
        if source.etag:
            headers["x-ms-source-if-match"] = source.etag
        headers |= self._metadata(metadata) | (self._if_new if only_new else {})
        status = self._ask("PUT", key, None, headers).headers.get("x-ms-copy-status")
        deadline = time.monotonic() + self.patience
        while status == "pending" and time.monotonic() < deadline:
            watch.rest(PAUSE)
            status = self._ask("HEAD", key).headers.get("x-ms-copy-status")
        if status not in ("success", None):
            raise SFTPFailure("The store has not copied the file in time")

    def page(self, prefix: str, delimiter: str = "", following: str = "", most: int = PAGE) -> Page:
        query = {"restype": "container", "comp": "list", "prefix": prefix, "maxresults": str(most)}
        if delimiter:
            query["delimiter"] = delimiter
        if following:
            query["marker"] = following
        root = self._xml(self._ask("GET", "", query), "EnumerationResults")
        blobs = root.find("Blobs")
        objects = []
        try:
            for one in () if blobs is None else blobs.iterfind("Blob"):
                values = {field.tag: field.text or "" for field in one.find("Properties") or ()}
                moment = calendar.timegm(parsedate(values["Last-Modified"]) or time.gmtime())
                etag = values.get("Etag", "")
                etag = etag if etag.startswith('"') else f'"{etag}"'
                objects.append(Meta(_name(one), number(values["Content-Length"]), moment, etag))
        except (KeyError, ValueError) as error:
            raise unclear() from error
        prefixes = [] if blobs is None else [_name(one) for one in blobs.iterfind("BlobPrefix")]
        return page_of(objects, prefixes, root.findtext("NextMarker") or "", prefix, following)

    # --- uploads in parts -------------------------------------------------------------------------------

    def begin(self, key: str, metadata: dict[str, str] | None = None) -> str:
        self._ask("HEAD", "", {"restype": "container"})  # to find errors before a part is sent
        return json.dumps([os.urandom(6).hex(), metadata or {}])

    def part(self, key: str, upload_id: str, number: int, body: Body) -> str:
        block = _block(upload_id, number)
        self._ask("PUT", key, {"comp": "block", "blockid": block}, None, body)
        return block

    def complete(
        self, key: str, upload_id: str, parts: list[tuple[int, str]], size: int, only_new: bool = False
    ) -> None:
        rows = "".join(f"<Latest>{block}</Latest>" for _, block in sorted(parts))
        body = Body.of(f'<?xml version="1.0" encoding="utf-8"?><BlockList>{rows}</BlockList>'.encode())
        headers = self._metadata(json.loads(upload_id)[1]) | (self._if_new if only_new else {})
        try:
            self._ask("PUT", key, {"comp": "blocklist"}, headers, body)
        except (Changed, Refused) as error:
            if error.attempts < 2 or not self._has_blocks(key, parts):
                raise

    def _has_blocks(self, key: str, parts: list[tuple[int, str]]) -> bool:
        """Whether an object consists of these blocks: then it was stored, and only the answer was lost."""
        try:
            query = {"comp": "blocklist", "blocklisttype": "committed"}
            root = self._xml(self._ask("GET", key, query), "BlockList")
        except Missing:
            return False
        return [one.text for one in root.iter("Name")] == [block for _, block in sorted(parts)]

    def abort(self, key: str, upload_id: str) -> None:
        """Do nothing: see the beginning of the module."""

    def uploads(self, prefix: str) -> Iterator[Upload]:
        return iter(())


def _block(upload_id: str, number: int) -> str:
    """The id of a block; all of one blob have the same length."""
    return base64.b64encode(f"{json.loads(upload_id)[0]}-{number:05}".encode()).decode()


def _name(element: Any) -> str:
    name = element.find("Name")
    text = "" if name is None else name.text or ""
    return unquote(text) if name is not None and name.get("Encoded") == "true" else text
