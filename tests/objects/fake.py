"""S3's protocol in this process: fast, and it fails as a test says.

`make test-hard` has servers that others wrote.

Objects and uploads are in memory. `requests` has (method, key, query) of each request. `fault` is asked
about each request first: None, or a status and an error code to answer with, or "cut" (the connection ends
in the middle of the answer), or a function to call first.
"""

from __future__ import annotations

import email.utils
import hashlib
import itertools
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from tests.support.ports import LOOPBACK

PAGE = 1000


class Object:
    def __init__(self, content: bytes, metadata: dict[str, str], etag: str = "") -> None:
        self.content, self.metadata = content, metadata
        self.etag = etag or f'"{hashlib.md5(content).hexdigest()}"'
        self.time = time.time()


class Upload:
    def __init__(self, key: str, metadata: dict[str, str]) -> None:
        self.key, self.metadata = key, metadata
        self.parts: dict[int, bytes] = {}
        self.time = time.time()


class FakeS3(ThreadingHTTPServer):
    """A server on loopback, from construction to close(). knows_conditions: of PUT and completion."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__((LOOPBACK, port), Answering)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.buckets: dict[str, dict[str, Object]] = {}
        self.uploads: dict[str, dict[str, Upload]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.fault: Callable[[str, str, dict[str, str]], Any] = lambda method, key, query: None
        self.knows_conditions = True
        self.knows_ranges = True
        self.copies_parts = True
        self.least_part = 5 << 20  # bytes
        self.ids = itertools.count(1)
        self.lock = threading.Lock()
        self.url = f"{'https' if context else 'http'}://{LOOPBACK}:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away


class Failure(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class Answering(BaseHTTPRequestHandler):
    server: FakeS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        bucket, _, self.key = unquote(path[1:]).partition("/")
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the client is gone
            self.close_connection = True
            return
        self.is_cut = False
        for name, value in list(self.headers.items()):  # Google's words for the same
            if name.lower().startswith("x-goog-"):
                self.headers["x-amz-" + name[7:]] = value
        if self.headers.get("x-amz-if-generation-match") == "0":
            self.headers["If-None-Match"] = "*"
        try:
            self.server.requests.append((self.command, self.key, self.query))
            fault = self.server.fault(self.command, self.key, self.query)
            if callable(fault):
                fault()
            elif fault == "cut":
                self.is_cut = True
            elif fault:
                raise Failure(*fault)
            with self.server.lock:
                status, headers, content = self._answer(bucket, body)
        except Failure as failure:
            status, headers = failure.status, {"Content-Type": "application/xml"}
            content = f"<Error><Code>{failure.code}</Code><Message>words</Message></Error>".encode()
        if self.is_cut and self.command == "PUT":
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.is_cut else content)
        self.wfile.flush()
        if self.is_cut:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, bucket: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = self.server
        if not self.key and self.command == "PUT":
            server.buckets[bucket], server.uploads[bucket] = {}, {}
            return 200, {}, b""
        if bucket not in server.buckets:
            raise Failure(404, "NoSuchBucket")
        self.objects, self.uploads = server.buckets[bucket], server.uploads[bucket]
        if not self.key:
            if self.command == "DELETE":
                del server.buckets[bucket]
                return 204, {}, b""
            return 200, {}, self._uploads() if "uploads" in self.query else self._page()
        if "uploads" in self.query or "uploadId" in self.query:
            return self._multipart(body)
        return getattr(self, f"_{self.command.lower()}")(body)

    def _get(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        found = self._found()
        if self.headers.get("If-Match", found.etag) != found.etag:
            raise Failure(412, "PreconditionFailed")
        headers = {"ETag": found.etag, "Last-Modified": email.utils.formatdate(found.time, usegmt=True)}
        word = "goog" if self.headers.get("Authorization", "").startswith("Bearer") else "amz"
        headers |= {f"x-{word}-meta-{name}": value for name, value in found.metadata.items()}
        size = len(found.content)
        wanted = self.headers.get("Range")
        if wanted is None or not self.server.knows_ranges:
            return 200, headers | {"Content-Length": str(size)}, found.content
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if int(first) >= size:
            raise Failure(416, "InvalidRange")
        content = found.content[int(first) : int(last) + 1 if last else size]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(content) - 1}/{size}"
        return 206, headers | {"Content-Length": str(len(content))}, content

    _head = _get

    def _found(self, key: str = "") -> Object:
        found = self.objects.get(key or self.key)
        if found is None:
            raise Failure(404, "NoSuchKey")
        return found

    def _metadata(self) -> dict[str, str]:
        named = ((name.lower(), value) for name, value in self.headers.items())
        return {name[11:]: value for name, value in named if name.startswith("x-amz-meta-")}

    def _source(self) -> Object:
        key = unquote(self.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        source = self._found(key)
        if self.headers.get("x-amz-copy-source-if-match", source.etag) != source.etag:
            raise Failure(412, "PreconditionFailed")
        return source

    def _check_new(self) -> None:
        if self.headers.get("If-None-Match"):
            if not self.server.knows_conditions:
                raise Failure(501, "NotImplemented")
            if self.key in self.objects:
                raise Failure(412, "PreconditionFailed")

    def _put(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "x-amz-copy-source" in self.headers:
            source = self._source()
            is_new = self.headers.get("x-amz-metadata-directive") == "REPLACE"
            made = Object(source.content, self._metadata() if is_new else source.metadata, source.etag)
            self.objects[self.key] = made
            return 200, {}, f"<CopyObjectResult><ETag>{escape(made.etag)}</ETag></CopyObjectResult>".encode()
        self._check_new()
        digest = self.headers.get("x-amz-content-sha256", "")
        if digest not in ("", "UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            raise Failure(400, "XAmzContentSHA256Mismatch")
        self.objects[self.key] = Object(body, self._metadata())
        return 200, {"ETag": self.objects[self.key].etag}, b""

    def _delete(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.objects.pop(self.key, None)
        return 204, {}, b""

    def _multipart(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in self.query:
            name = f"upload-{next(self.server.ids)}"
            self.uploads[name] = Upload(self.key, self._metadata())
            return 200, {}, _document("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")
        name = self.query["uploadId"]
        upload = self.uploads.get(name)
        if upload is None or upload.key != self.key:
            raise Failure(404, "NoSuchUpload")
        if self.command == "DELETE":
            del self.uploads[name]
            return 204, {}, b""
        if self.command == "PUT":
            if "x-amz-copy-source" in self.headers:
                if not self.server.copies_parts:
                    raise Failure(501, "NotImplemented")
                first, _, last = self.headers["x-amz-copy-source-range"].removeprefix("bytes=").partition("-")
                body = self._source().content[int(first) : int(last) + 1]
            upload.parts[int(self.query["partNumber"])] = body
            etag = f'"{hashlib.md5(body).hexdigest()}"'
            return (
                200,
                {"ETag": etag},
                f"<CopyPartResult><ETag>{escape(etag)}</ETag></CopyPartResult>".encode(),
            )
        self._check_new()
        parts = [content for _, content in sorted(upload.parts.items())]
        if any(len(part) < self.server.least_part for part in parts[:-1]):
            raise Failure(400, "EntityTooSmall")
        if body.count(b"<PartNumber>") != len(parts):
            raise Failure(400, "InvalidPart")
        del self.uploads[name]
        etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        self.objects[self.key] = Object(b"".join(parts), upload.metadata, f'"{etag}-{len(parts)}"')
        return 200, {}, b"<CompleteMultipartUploadResult/>"

    def _uploads(self) -> bytes:
        rows = "".join(
            f"<Upload><Key>{quote(one.key)}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{_moment(one.time)}</Initiated></Upload>"
            for name, one in self.uploads.items()
        )
        return _document("ListMultipartUploadsResult", f"<EncodingType>url</EncodingType>{rows}")

    def _page(self) -> bytes:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        most = min(PAGE, int(self.query.get("max-keys", PAGE)))
        after = self.query.get("continuation-token", "")
        rows: dict[str, str] = {}
        following = ""
        for key in sorted((key for key in self.objects if key.startswith(prefix)), key=str.encode):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if end < 0 else key[: end + 1]
            if entry in rows or after and entry.encode() <= after.encode():
                continue
            if len(rows) >= most:
                following = list(rows)[-1]
                break
            if end < 0:
                found = self.objects[key]
                rows[entry] = (
                    f"<Contents><Key>{quote(key)}</Key><LastModified>{_moment(found.time)}</LastModified>"
                    f"<ETag>{escape(found.etag)}</ETag><Size>{len(found.content)}</Size></Contents>"
                )
            else:
                rows[entry] = f"<CommonPrefixes><Prefix>{quote(entry)}</Prefix></CommonPrefixes>"
        more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
        return (
            f"<ListBucketResult><EncodingType>url</EncodingType>{''.join(rows.values())}"
            f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}</ListBucketResult>"
        ).encode()


def _document(root: str, text: str) -> bytes:
    return f"<{root}>{text}</{root}>".encode()


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
