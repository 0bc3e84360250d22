"""The dialect of S3's REST API: one method for each request, which returns the decoded answer.

Google's XML API speaks the same dialect. What may not enter: paths, directories, files that are being
written.
Facts: the Amazon S3 API reference.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import time
from email.utils import parsedate
from urllib.parse import unquote
from xml.etree import ElementTree

from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden
from pysftpserver.storages.objects.digests import in_google, in_s3
from pysftpserver.storages.objects.errors import Changed, Missing, Refused, Unsupported, refusal, unclear
from pysftpserver.storages.objects.signing import encoded
from pysftpserver.storages.objects.web import Answer, Body, Web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.storages.objects.web import Headers, Sign

PAGE = 1000  # keys in one answer of a listing, the most that S3 sends
ONE_COPY = 5 << 30  # bytes: the largest object that one request copies
MOST = 5 << 40  # bytes of an object
LEAST_PART = 5 << 20  # bytes of a part, unless it is the last one
MOST_PARTS = 10_000
LONGEST_DECLARATION = 100  # bytes at the beginning of a document
MOST_TAGS = 100 * PAGE  # in a document: a page of a listing has some 25 for each key
LONGEST_WORD = 64  # characters of an error code, or of a region


class Meta:
    """A store's data about an object. mtime: seconds; the store's, or rclone's in `metadata` if asked for."""

    __slots__ = ("etag", "key", "metadata", "mtime", "size")

    def __init__(
        self, key: str, size: int, mtime: int, etag: str, metadata: dict[str, str] | None = None
    ) -> None:
        self.key, self.size, self.mtime, self.etag = key, size, mtime, etag
        self.metadata = metadata  # None: not known, as in listings


class Page:
    """A part of a listing. prefixes end with a slash. next: where the following page begins, or ""."""

    __slots__ = ("next", "objects", "prefixes")

    def __init__(self, objects: list[Meta], prefixes: list[str], following: str) -> None:
        self.objects, self.prefixes, self.next = objects, prefixes, following


class Upload:
    """A multipart upload that was begun and not completed. began: seconds since the epoch."""

    def __init__(self, key: str, upload_id: str, began: int) -> None:
        self.key, self.upload_id, self.began = key, upload_id, began


class S3:
    """The objects of a bucket. base: the path of the bucket in requests, "" or "/BUCKET".

    Threads may share it. What its methods raise: Missing, Changed (a condition does not hold), SFTPForbidden,
    SFTPFailure.
    """

    _x = "x-amz-"  # how the vendor's own headers begin
    _if_new = {"If-None-Match": "*"}
    _as_stored: Headers = {}  # for content that would otherwise be decompressed on the way
    one_copy = ONE_COPY
    digests = frozenset(("md5", "sha1", "sha256", "crc32"))  # that the store may have
    _digest_in = staticmethod(in_s3)
    refused = ""  # characters that names cannot have

    def __init__(self, web: Web, sign: Sign, bucket: str, base: str) -> None:
        self._web, self._sign, self._bucket, self._base = web, sign, bucket, base
        self.is_conditional = True  # until the store says that it knows no conditions
        self.copies_parts = True
        #: Paths of files that are read later, for credentials; None: a program supplies them.
        self.reads: list[str] | None = []

    # --- requests ---------------------------------------------------------------------------------------

    def _target(self, key: str, query: dict[str, str]) -> str:
        target = f"{self._base}/{encoded(key, '/')}"
        if query:
            target += "?" + "&".join(f"{name}={encoded(value)}" for name, value in query.items())
        return target

    def _ask(
        self,
        method: str,
        key: str = "",
        query: dict[str, str] | None = None,
        headers: Headers | None = None,
        body: Body | None = None,
        is_stream: bool = False,
    ) -> Answer:
        target = self._target(key, query or {})
        began = time.monotonic()
        answer = self._web.request(method, target, headers or {}, body, self._sign, is_stream)
        if answer.status < 300:
            return answer
        code = _word(_code(answer.content) or answer.headers.get("x-ms-error-code", ""))
        region = _word(answer.headers.get("x-amz-bucket-region", ""))
        if method == "HEAD" and answer.status in (301, 400, 403) and not code:
            raise self._explained(key, answer)
        error = refusal(answer.status, code, region)
        if isinstance(error, Changed | Refused):
            error.attempts = answer.attempts
            with contextlib.suppress(ValueError, OverflowError):
                error.since = _seconds(answer.headers.get("date", "")) - (time.monotonic() - began) - 1
        raise error

    def _explained(self, key: str, answer: Answer) -> Exception:
        """Why a HEAD was refused: its answer has no body, so a GET for the same object is sent."""
        try:
            self.get(key, 0, 1)
        except (SFTPFailure, SFTPForbidden) as error:
            return error
        except Exception:
            pass
        return refusal(answer.status, "", _word(answer.headers.get("x-amz-bucket-region", "")))

    def _xml(self, answer: Answer, *expected: str) -> ElementTree.Element:
        """The document in an answer. expected: its possible tags: a login page is not a listing."""
        head = answer.content[:LONGEST_DECLARATION].lower()
        declared, end, _ = head.partition(b"?>")
        is_other = b"<?xml" in head and (not end or b"encoding" in declared and b"utf-8" not in declared)
        is_other = is_other or b"\0" in head
        if is_other or b"<!DOCTYPE" in answer.content or answer.content.count(b"<") > MOST_TAGS:
            raise unclear()  # what is small could become very large
        try:
            root = ElementTree.fromstring(answer.content)
        except (ElementTree.ParseError, ValueError) as error:
            raise unclear() from error
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        if root.tag == "Error":  # S3 reports that a completion failed with status 200
            raise refusal(500, _word(root.findtext("Code") or "InternalError"))
        if root.tag not in expected:
            raise unclear()
        return root

    # --- objects ----------------------------------------------------------------------------------------

    def head(self, key: str) -> Meta:
        """The store's data about an object."""
        return self._meta(key, self._ask("HEAD", key))

    def digest(self, key: str, algorithm: str) -> bytes | None:
        """The digest of an object, if the store has it."""
        if algorithm not in self.digests:
            return None
        headers = {} if algorithm == "md5" else {f"{self._x}checksum-mode": "ENABLED"}
        return self._digest_in(self._ask("HEAD", key, None, headers).headers, algorithm)

    def get(self, key: str, off: int, size: int | None, etag: str = "", is_stream: bool = False) -> Answer:
        """Read an object from off on. size: bytes; None: all. etag: only if the object still has this one."""
        end = "" if size is None else off + size - 1
        headers = {"Range": f"bytes={off}-{end}", **self._as_stored}
        if etag:
            headers["If-Match"] = etag
        answer = self._ask("GET", key, None, headers, None, is_stream)
        has_range = answer.headers.get("content-range", "").startswith(f"bytes {off}-")
        try:
            if etag and _bare(answer.headers.get("etag", etag)) != _bare(etag):
                raise Changed("The object has changed in the store")  # which does not know If-Match
            length = number(answer.headers.get("content-length"))
            if not has_range and (off or size is not None and length > size):  # rclone's 200 may be a range
                raise SFTPFailure("The store sends whole objects only")
        except SFTPFailure:
            answer.close()
            raise
        return answer

    def get_first(self, key: str, size: int) -> tuple[Meta, bytes]:
        """An object and its first bytes, in one request."""
        try:
            answer = self.get(key, 0, size)
        except Refused as error:
            if error.http_status != 416:  # the status for an empty object
                raise
            return self.head(key), b""
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        return self._meta(key, answer, total), answer.content

    def _meta(self, key: str, answer: Answer, size: str = "") -> Meta:
        headers = answer.headers
        start = f"{self._x}meta-"
        try:
            mtime = _seconds(headers.get("last-modified", ""))
        except (ValueError, OverflowError) as error:
            raise unclear() from error
        length = number(size or headers.get("content-length"))
        metadata = {name[len(start) :]: value for name, value in headers.items() if name.startswith(start)}
        return Meta(key, length, mtime, _needed(headers.get("etag")), metadata)

    def put(
        self, key: str, body: Body, only_new: bool = False, metadata: dict[str, str] | None = None
    ) -> str:
        """Store an object; return its etag. only_new: raise Changed if it exists already."""
        headers = self._metadata(metadata)
        if only_new and self.is_conditional:
            try:
                return self._put(key, body, {**headers, **self._if_new})
            except Unsupported:
                self.is_conditional = False
            except Changed as error:
                # The first answer may have been lost, and the object be the one that was put.
                if error.attempts > 1 and self._is_stored(key, _digest(body), body.size, error):
                    return f'"{_digest(body)}"'
                raise
        if only_new:
            self._must_be_new(key)
        return self._put(key, body, headers)

    def _put(self, key: str, body: Body, headers: Headers) -> str:
        answer = self._ask("PUT", key, None, headers, body)
        return _needed(answer.headers.get("etag"))

    def _must_be_new(self, key: str) -> None:
        """Raise Changed if there is such an object: the best check if a store knows no conditions."""
        try:
            self.head(key)
        except Missing:
            return
        raise Changed("The object exists already")

    def _metadata(self, metadata: dict[str, str] | None) -> Headers:
        return {f"{self._x}meta-{name}": value for name, value in (metadata or {}).items()}

    def copy(
        self,
        source: Meta,
        key: str,
        only_new: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Copy an object inside the bucket, if it is still the same. metadata: instead of the source's."""
        if source.size > self.one_copy:
            self._copy_in_parts(source, key, only_new, metadata)
            return
        if only_new:
            self._must_be_new(key)  # few stores know a condition for the target of a copy
        headers = self._source(source)
        if metadata is not None:
            headers[f"{self._x}metadata-directive"] = "REPLACE"
            headers.update(self._metadata(metadata))
        self._xml(self._ask("PUT", key, None, headers), "CopyObjectResult")

    def _source(self, source: Meta) -> Headers:
        headers = {f"{self._x}copy-source": f"/{self._bucket}/{encoded(source.key, '/')}"}
        if source.etag:
            headers[f"{self._x}copy-source-if-match"] = source.etag
        return headers

    def _copy_in_parts(self, source: Meta, key: str, only_new: bool, metadata: dict[str, str] | None) -> None:
        known = self.head(source.key).metadata if metadata is None else metadata
        upload_id = self.begin(key, known)
        try:
            parts = []
            for number, off in enumerate(range(0, source.size, ONE_COPY // 5), 1):
                size = min(ONE_COPY // 5, source.size - off)
                parts.append((number, self.copy_part(key, upload_id, number, source, off, size)))
            self.complete(key, upload_id, parts, source.size, only_new)
        except BaseException:
            self.abort(key, upload_id)
            raise

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        try:
            self._ask("DELETE", key)
        except Missing:
            pass

    # --- listings ---------------------------------------------------------------------------------------

    def page(self, prefix: str, delimiter: str = "", following: str = "", most: int = PAGE) -> Page:
        """One page of the keys that begin with a prefix, in their order.

        delimiter: keys that have one after the prefix become one entry of `prefixes`.
        """
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(most), "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        if following:
            query["continuation-token"] = following
        root = self._xml(self._ask("GET", "", query), "ListBucketResult")
        is_encoded = root.findtext("EncodingType") == "url"

        def name(element: ElementTree.Element, tag: str) -> str:
            text = element.findtext(tag) or ""
            return unquote(text.replace("+", " ")) if is_encoded else text

        try:
            objects = [
                Meta(name(one, "Key"), number(one.findtext("Size")), _moment(one), one.findtext("ETag") or "")
                for one in root.iterfind("Contents")
            ]
        except ValueError as error:
            raise unclear() from error
        prefixes = [name(one, "Prefix") for one in root.iterfind("CommonPrefixes")]
        token = root.findtext("NextContinuationToken") or ""
        if root.findtext("IsTruncated") != "true":
            token = ""
        elif not token:
            raise unclear()
        return page_of(objects, prefixes, token, prefix, following)

    def keys(self, prefix: str) -> Iterator[list[Meta]]:
        """All objects whose keys begin with a prefix, page by page."""
        following = ""
        while True:
            page = self.page(prefix, "", following)
            yield page.objects
            following = page.next
            if not following:
                return

    # --- uploads in parts -------------------------------------------------------------------------------

    def begin(self, key: str, metadata: dict[str, str] | None = None) -> str:
        """Begin an upload in parts; return its id."""
        answer = self._ask("POST", key, {"uploads": ""}, self._metadata(metadata))
        # The second is the tag of rclone's server.
        root = self._xml(answer, "InitiateMultipartUploadResult", "InitiateMultipartUpload")
        return _needed(root.findtext("UploadId"))

    def part(self, key: str, upload_id: str, number: int, body: Body) -> str:
        """Send a part; return its etag. A number that was sent already is replaced."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = self._ask("PUT", key, query, None, body)
        return _needed(answer.headers.get("etag"))

    def copy_part(self, key: str, upload_id: str, number: int, source: Meta, off: int, size: int) -> str:
        """Make a range of an object, if it is still the same, a part; return its etag."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers = self._source(source)
        headers[f"{self._x}copy-source-range"] = f"bytes={off}-{off + size - 1}"
        answer = self._ask("PUT", key, query, headers)
        if answer.headers.get("content-length") == "0":  # rclone's server has made an empty part
            raise Unsupported("The store copies no parts")
        return _needed(self._xml(answer, "CopyPartResult").findtext("ETag"))

    def complete(
        self, key: str, upload_id: str, parts: list[tuple[int, str]], size: int, only_new: bool = False
    ) -> None:
        """Turn the parts, of size bytes in all, into the object. only_new: raise Changed if there is one."""
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{_escaped(etag)}</ETag></Part>"
            for number, etag in sorted(parts)
        )
        body = Body.of(f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode())
        query = {"uploadId": upload_id}
        if only_new and self.is_conditional:
            try:
                self._complete(key, query, self._if_new, body, parts, size)
                return
            except Unsupported:
                self.is_conditional = False
        if only_new:
            self._must_be_new(key)
        self._complete(key, query, {}, body, parts, size)

    def _complete(
        self,
        key: str,
        query: dict[str, str],
        headers: Headers,
        body: Body,
        parts: list[tuple[int, str]],
        size: int,
    ) -> None:
        try:
            self._xml(self._ask("POST", key, query, headers, body), "CompleteMultipartUploadResult")
        except (Changed, Refused) as error:
            # The first answer may have been lost, and the upload be complete.
            if error.attempts < 2 or isinstance(error, Refused) and error.code != "NoSuchUpload":
                raise
            if not self._is_stored(key, _digest_of_parts(parts), size, error):
                raise

    def _is_stored(self, key: str, etag: str, size: int, error: Changed | Refused) -> bool:
        """Whether the object is the one that was sent before the answer was lost.

        Its etag shows that. Not every store's etags are digests: if the upload is gone, an object of this
        size that appeared since then counts as well.
        """
        try:
            meta = self.head(key)
        except Missing:
            return False
        has_appeared = meta.size == size and meta.mtime >= error.since
        return meta.etag.strip('"') == etag or isinstance(error, Refused) and has_appeared

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an upload and remove its parts."""
        try:
            self._ask("DELETE", key, {"uploadId": upload_id})
        except Missing:
            pass
        except Refused as error:
            if error.code != "NoSuchUpload":
                raise

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """The uploads that were begun and are neither completed nor aborted."""
        marker: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": prefix, "encoding-type": "url", **marker}
            try:
                root = self._xml(self._ask("GET", "", query), "ListMultipartUploadsResult")
            except Refused as error:
                if error.code == "NoSuchUpload":  # how rclone's server says that there are none
                    return
                raise
            is_encoded = root.findtext("EncodingType") == "url"
            for one in root.iterfind("Upload"):
                key = one.findtext("Key") or ""
                if is_encoded:
                    key = unquote(key.replace("+", " "))
                if key.startswith(prefix):
                    try:
                        yield Upload(key, _needed(one.findtext("UploadId")), _moment(one, "Initiated"))
                    except ValueError as error:
                        raise unclear() from error
            if root.findtext("IsTruncated") != "true":
                return
            last, marker = (
                marker,
                {
                    "key-marker": unquote((root.findtext("NextKeyMarker") or "").replace("+", " ")),
                    "upload-id-marker": root.findtext("NextUploadIdMarker") or "",
                },
            )
            if marker == last or not marker["key-marker"]:
                raise unclear()

    @property
    def patience(self) -> float:
        """Seconds for a request in all."""
        return self._web.patience

    def prepare(self) -> None:
        """Load what is needed to connect."""
        self._web.prepare()

    def close(self) -> None:
        """Close the idle connections."""
        self._web.close()


class Google(S3):
    """The XML API of Google Cloud Storage. It knows no conditions for uploads in parts, and copies no parts.

    Facts: the XML API's reference, "XML API multipart uploads".
    """

    _x = "x-goog-"
    _if_new = {"x-goog-if-generation-match": "0"}
    _as_stored = {"Accept-Encoding": "gzip"}
    one_copy = MOST
    digests = frozenset(("md5",))
    _digest_in = staticmethod(in_google)

    def __init__(self, web: Web, sign: Sign, bucket: str, base: str) -> None:
        super().__init__(web, sign, bucket, base)
        self.copies_parts = False

    def complete(
        self, key: str, upload_id: str, parts: list[tuple[int, str]], size: int, only_new: bool = False
    ) -> None:
        if only_new:
            self._must_be_new(key)
        super().complete(key, upload_id, parts, size)


def page_of(objects: list[Meta], prefixes: list[str], token: str, prefix: str, following: str) -> Page:
    """A page without entries that were not asked for. token: where the next one begins; following: where
    this one did. Raises SFTPFailure if they are the same.
    """
    if token and token == following:
        raise unclear()
    objects = [meta for meta in objects if meta.key.startswith(prefix)]
    return Page(objects, [name for name in prefixes if name.startswith(prefix)], token)


def number(text: str | None) -> int:
    """A size. Raises SFTPFailure."""
    if text is None or len(text) > 18 or not (text.isascii() and text.isdecimal()):
        raise unclear()
    return int(text)


def _needed(text: str | None) -> str:
    """A text that an answer must have. Raises SFTPFailure if it is missing."""
    if not text:
        raise unclear()
    return text


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _word(text: str) -> str:
    """A word from the store, made safe for messages."""
    is_word = len(text) <= LONGEST_WORD and text.replace("-", "").replace(".", "").isalnum()
    return text if is_word or not text else "?"


def _code(words: bytes) -> str:
    """The store's error code; "" if there is none."""
    start, end = words.find(b"<Code>"), words.find(b"</Code>")
    return words[start + 6 : end].decode("latin-1") if 0 <= start < end else ""


def _moment(element: ElementTree.Element, tag: str = "LastModified") -> int:
    text = (
        element.findtext(tag) or ""
    )  # 2026-11-30T12:34:56.000Z; strptime would take half of a listing's time
    fields = (
        int(text[0:4]),
        int(text[5:7]),
        int(text[8:10]),
        int(text[11:13]),
        int(text[14:16]),
        int(text[17:19]),
    )
    return calendar.timegm(fields)


def _seconds(date: str) -> int:
    """A date of HTTP's headers, or the time now if there is none. Raises ValueError or OverflowError."""
    return calendar.timegm(parsedate(date) or time.gmtime())


def _digest_of_parts(parts: list[tuple[int, str]]) -> str:
    """The etag of an object that was joined from these parts, if etags are digests; else ""."""
    try:
        digests = b"".join(bytes.fromhex(etag.strip('"')) for _, etag in sorted(parts))
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _digest(body: Body) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in body.pieces():
        digest.update(piece)
    return digest.hexdigest()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
