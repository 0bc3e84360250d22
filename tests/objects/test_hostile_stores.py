"""What a store answers is not believed: calls fail with words, lose nothing, and do not hang."""

from __future__ import annotations

import itertools
import os
import socketserver
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, unquote

from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, status_of
from pysftpserver.storages.objects import s3, web
from pysftpserver.storages.objects.s3 import Meta
from tests.objects.stores import CREDENTIALS, NO_OTHERS, once
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

Reply = Iterator[bytes] | bytes
A_DATE = "Mon, 30 Nov 2026 07:00:00 GMT"
UNCLEAR = "The store's answer cannot be understood"


def answer(content: bytes = b"", status: int = 200, length: object = None, **headers: str) -> bytes:
    """An answer with this content. length: instead of the true one; False: none at all."""
    lines = [f"HTTP/1.1 {status} Words", f"Last-Modified: {A_DATE}"]
    if length is not False:
        lines.append(f"Content-Length: {len(content) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content


def page(*rows: str, more: str = "") -> bytes:
    """A page of a listing. rows: keys, with a slash at the end for what is a prefix."""
    text = "".join(
        f"<CommonPrefixes><Prefix>{row}</Prefix></CommonPrefixes>" if row.endswith("/") else contents(row)
        for row in rows
    )
    return answer(f"<ListBucketResult>{text}{more}</ListBucketResult>".encode())


def contents(key: str, size: str = "1", etag: str = "&quot;e&quot;") -> str:
    return (
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag>"
        "<LastModified>2026-11-30T07:00:00.000Z</LastModified></Contents>"
    )


class Store(socketserver.ThreadingTCPServer):
    """A server that a test plays: play(method, key, query, headers) returns the bytes to send, and then it
    hangs up."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Answering)
        self.play: Callable[[str, str, dict[str, str], dict[str, str]], Reply] = lambda *_: answer()
        self.requests: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away


class Answering(socketserver.StreamRequestHandler):
    server: Store

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split(" ")
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        self.rfile.read(int(headers.get("content-length", 0)))
        path, _, query = target.partition("?")
        key = unquote(path).removeprefix("/b").lstrip("/")
        self.server.requests.append((method, key))
        reply = self.server.play(method, key, dict(parse_qsl(query, keep_blank_values=True)), headers)
        for part in (reply,) if isinstance(reply, bytes) else reply:
            self.wfile.write(part)


class HostileStores(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.store = Store()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.store.shutdown()
        cls.store.server_close()

    def setUp(self) -> None:
        self.enterContext(mock.patch.dict(os.environ, NO_OTHERS | CREDENTIALS))
        self.store.requests.clear()
        self.open_storage(4 * PATIENCE)

    def open_storage(self, timeout: float) -> None:
        """timeout: seconds; few, where what is answered is tried again for so long."""
        port = self.store.server_address[1]
        name = f"s3://b/top?endpoint=http://{LOOPBACK}:{port}&timeout={timeout}"
        self.storage = SFTPServerObjectStorage(name)
        self.addCleanup(self.storage.close_client)

    def answering(self, *replies: Reply) -> None:
        """Every request is answered with the next of these, and with the last one from then on."""
        left = itertools.chain(replies, itertools.repeat(replies[-1]))
        self.store.play = lambda *_: next(left)

    def words(self, call: Callable[..., Any], *arguments: Any) -> str:
        """The words of a call that fails as calls may."""
        with self.assertRaises((SFTPException, OSError)) as caught:
            result = call(*arguments)
            if hasattr(result, "__next__"):
                list(result)
        words = status_of(caught.exception)[1].decode()
        self.assertTrue(words.isprintable() and len(words) < 200, words)
        return words

    def names(self, path: bytes = b"/") -> list[bytes]:
        return [name for name, _ in self.storage.opendir(path)][2:]

    # --- listings -------------------------------------------------------------------------------------

    def test_what_is_no_listing_is_not_an_empty_directory(self) -> None:
        for content in (b"", b"<html><body>Log in</body></html>", b"<A>" * 10, b"\0", b"<Error/>"):
            with self.subTest(content):
                self.answering(answer(content))
                self.words(self.storage.opendir, b"/")
                self.words(list, self.storage.leftovers())

    def test_a_listing_that_breaks_off_or_goes_round_is_not_a_whole_one(self) -> None:
        more = "<IsTruncated>true</IsTruncated>"
        token = "<NextContinuationToken>again</NextContinuationToken>"
        for end in (more, more + token):
            with self.subTest(end):
                self.answering(page("top/f", more=end))
                self.assertEqual(self.words(lambda: list(self.storage.opendir(b"/"))), UNCLEAR)
                self.answering(page("top/f", more=end))
                self.assertEqual(self.words(self.storage.remarks), UNCLEAR)
        began = "<Initiated>2026-11-30T07:00:00Z</Initiated>"
        upload = f"<Upload><Key>top/f</Key><UploadId>u</UploadId>{began}</Upload>"
        marks = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
        for end in (more, more + marks):
            body = f"<ListMultipartUploadsResult>{upload}{end}</ListMultipartUploadsResult>"
            self.answering(answer(body.encode()))
            self.assertEqual(self.words(self.storage.gc, 0), UNCLEAR)

    def test_keys_beside_the_prefix_are_neither_shown_nor_touched(self) -> None:
        self.answering(page("top/f", "other/secret", "t", "", "top/d/", "other/", "other/d/", "/"))
        self.assertEqual(self.names(), [b"d", b"f"])

        def play(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> bytes:
            if method == "HEAD":
                return answer(b"", 404)
            if method == "GET":
                is_new = query["prefix"].startswith("top/new")
                return page() if is_new else page("other/secret", "top/d/f")
            return answer(b"<CopyObjectResult/>")

        self.store.play = play
        self.words(self.storage.rename, b"/d", b"/new")  # for what was moved is listed for ever
        changed = {key for method, key in self.store.requests if method in ("PUT", "DELETE")}
        self.assertEqual(changed, {"top/d/f", "top/new/f"})

    def test_sizes_and_dates_that_are_none_fail_with_words(self) -> None:
        for size in ("-1", "x", "9" * 30, "9" * 5000, ""):
            with self.subTest(size[:30]):
                row = f"<ListBucketResult>{contents('top/f', size or '-0x')}</ListBucketResult>"
                self.answering(answer(row.encode()))
                self.assertEqual(self.words(lambda: list(self.storage.opendir(b"/"))), UNCLEAR)
                self.answering(answer(length=size or "1, 2"))
                self.words(self.storage.stat, b"/f")
                self.answering(answer(b"c", 206, Content_Range=f"bytes 0-0/{size or '*'}"))
                self.words(self.storage.open, b"/f", os.O_RDONLY, 0)
        for date in ("x", "Mon, 30 Nov 99999 07:00:00 GMT", "0" * 30):
            row = f"<ListBucketResult>{contents('top/f')}</ListBucketResult>".replace("2026-11-30T", date)
            self.answering(answer(row.encode()))
            self.words(lambda: list(self.storage.opendir(b"/")))

    def test_texts_of_the_store_get_into_no_header_and_no_message(self) -> None:
        evil = "&quot;e&quot;&#13;&#10;x-amz-evil: 1 \u4e2d"
        meta = Meta("top/f", 1, 0, '"e"\r\nx-amz-evil: 1 \u4e2d', {"x": "1"})
        self.answering(answer(b"<CopyObjectResult/>"))
        self.words(self.storage._store.copy, meta, "top/g")
        self.assertEqual(self.store.requests, [])
        row = f"<ListBucketResult>{contents('top/d/f', etag=evil)}</ListBucketResult>"
        self.answering(answer(row.encode()))
        self.words(self.storage._store.copy, self.storage._store.page("top/").objects[0], "top/g")
        for code in ("\r\nforged", "x" * 5000, "\x1b[31m"):
            self.answering(answer(f"<Error><Code>{code}</Code></Error>".encode(), 400))
            self.assertNotIn(code, self.words(self.storage.opendir, b"/"))
        for region in ("y" * 5000, "\x1b[31m"):
            self.answering(answer(b"", 301, x_amz_bucket_region=region))
            self.assertNotIn(region, self.words(self.storage.opendir, b"/"))

    # --- content --------------------------------------------------------------------------------------

    def test_content_is_what_was_asked_for_or_the_read_fails(self) -> None:
        size = 3 * s3.LEAST_PART
        whole = {"ETag": '"e"'}

        def opened(second: bytes) -> Any:
            head = b"h" * (1 << 20)
            first = answer(head, 206, Content_Range=f"bytes 0-{len(head) - 1}/{size}", **whole)
            self.answering(first, second)
            return self.storage.open(b"/f", os.O_RDONLY, 0)

        off, most = 2 << 20, 1 << 18
        for what, second in {
            "too short": answer(b"x" * 10, 206, Content_Range=f"bytes {off}-{off + 9}/{size}", **whole),
            "cut off": answer(b"x" * 10, 206, most, Content_Range=f"bytes {off}-{off + most - 1}/{size}"),
            "too long": answer(b"x" * 2 * most, 206, Content_Range=f"bytes {off}-{off + most}/{size}"),
            "another one's": answer(
                b"x" * most, 206, Content_Range=f"bytes {off}-{off + most - 1}/{size}", ETag='"other"'
            ),
        }.items():
            with self.subTest(what):
                handle = opened(second)
                reached = self.storage._store._web
                soon = 0.4 if what == "cut off" else reached.patience  # it is asked for again for so long
                with mock.patch.object(reached, "patience", soon):
                    self.words(self.storage.read, handle, off, 100)
                    self.words(self.storage.read, handle, off - 10, most + 20)
                self.storage.close(handle)

    def test_a_file_without_a_length_is_not_an_empty_one(self) -> None:
        chunked = answer(b"7\r\ncontent\r\n0\r\n\r\n", length=False, Transfer_Encoding="chunked")
        for reply in (chunked, answer(b"content", length=False)):
            self.answering(reply)
            self.words(self.storage.open, b"/f", os.O_RDONLY, 0)
        self.answering(answer(length=False))
        self.words(self.storage.stat, b"/f")

    def test_answers_without_end_take_neither_memory_nor_time(self) -> None:
        def endless() -> Iterator[bytes]:
            yield answer(b"<ListBucketResult>", length=False)
            while True:
                yield b"<A></A>" * 10_000

        self.enterContext(mock.patch.object(web, "MOST_CONTENT", 1 << 20))
        for call in (self.storage.opendir, self.storage.stat):
            self.store.play = lambda *_: endless()
            self.words(call, b"/d")
        bomb = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(
            f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)
        )
        row = contents("top/f")
        for document in (
            f"{bomb}]><ListBucketResult>&a11;</ListBucketResult>".encode(),
            f"<!DOCTYPE x [<!ENTITY a 'f'>]><ListBucketResult>{row}</ListBucketResult>".encode(),
            f"<ListBucketResult>{'<A/>' * 150_000}{row}</ListBucketResult>".encode(),  # 100 bytes for each
            f"<?xml version='1.0' encoding='utf-16'?><ListBucketResult>{row}</ListBucketResult>".encode(
                "utf-16"
            ),
            f"<?xml version='1.0' encoding='cp1252'?><ListBucketResult>{row}</ListBucketResult>".encode(),
        ):
            self.answering(answer(document))
            self.assertEqual(self.words(self.storage.opendir, b"/"), UNCLEAR)
        self.answering(answer(b"<?xml version='1.0' encoding=\"UTF-8\"?><ListBucketResult/>"))
        self.assertEqual(self.names(), [])

    def test_an_answer_that_drips_is_none(self) -> None:
        self.open_storage(0.4)
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def dripping(head: bytes, drop: bytes) -> Iterator[bytes]:
            yield head
            while not go_on.wait(0.05):
                yield drop

        for head, drop in (
            (b"HTTP/1.1 ", b"2"),
            (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (answer(b"<ListBucketResult>", length=100_000), b"<"),
        ):
            with self.subTest(head):
                self.store.play = lambda *_, head=head, drop=drop: dripping(head, drop)  # type: ignore[misc]
                done = threading.Event()

                def call(done: threading.Event = done) -> None:
                    self.assertIn("0.", self.words(self.storage.opendir, b"/"))
                    done.set()

                thread = threading.Thread(target=call, daemon=True)
                thread.start()
                self.assertTrue(done.wait(PATIENCE), "it waits for ever")

    def test_a_page_to_log_in_is_neither_a_file_nor_the_receipt_for_one(self) -> None:
        self.answering(answer(b"<html>Log in</html>", Content_Type="text/html"))
        self.assertEqual(self.words(self.storage.stat, b"/f"), UNCLEAR)
        self.assertEqual(self.words(self.storage.open, b"/f", os.O_RDONLY, 0), UNCLEAR)
        self.assertEqual(self.words(self.storage._store.put, "top/f", web.Body.of(b"content")), UNCLEAR)

    # --- changes --------------------------------------------------------------------------------------

    def test_a_store_that_shows_that_it_is_still_working_is_waited_for(self) -> None:
        """As S3 does: it sends white space while it copies or joins a large object."""
        is_read = threading.Semaphore(0)
        readinto, now = web._Reading.readinto, time.monotonic
        later = 0.0

        def slowly() -> Iterator[bytes]:
            yield answer(b'<?xml version="1.0" encoding="UTF-8"?>\n', length=False)
            for _ in range(6):
                is_read.acquire(timeout=PATIENCE)
                yield b" "
            yield b"<CopyObjectResult/>"

        def read(reading: web._Reading, buffer: Any) -> int | None:
            nonlocal later
            count = readinto(reading, buffer)
            if count == 1:
                later += PATIENCE  # half of what a silence may take
            is_read.release()
            return count

        self.store.play = lambda *_: slowly()
        clock = mock.patch.object(web.time, "monotonic", lambda: now() + later)
        with clock, once(), mock.patch.object(web._Reading, "readinto", read):
            self.storage._store.copy(Meta("top/f", 1, 0, '"e"'), "top/g")

    def test_a_copy_that_is_not_confirmed_removes_nothing(self) -> None:
        for content in (b"", b"<html/>", b"<Error><Code>InternalError</Code></Error>", b"<CopyObject"):
            with self.subTest(content):
                self.store.requests.clear()

                def play(method: str, key: str, *_: Any, content: bytes = content) -> bytes:
                    if method == "HEAD":
                        return answer(length=7, ETag='"e"') if key == "top/f" else answer(b"", 404)
                    return page() if method == "GET" else answer(content)

                self.store.play = play
                self.words(self.storage.rename, b"/f", b"/g")
                self.assertNotIn("DELETE", [method for method, _ in self.store.requests])

    def test_an_upload_in_parts_that_is_not_confirmed_is_no_success(self) -> None:
        begun = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        done = b"<CompleteMultipartUploadResult/>"
        for begins, part, ends in (
            (b"<html/>", '"e"', done),
            (begun, "", done),
            (begun, '"e"', b"<html>200</html>"),
            (begun, '"e"', b""),
            (begun, '"e"', b"<Error><Code>InternalError</Code></Error>"),
        ):
            with self.subTest(begins=begins, part=part, ends=ends):

                def play(
                    method: str,
                    key: str,
                    query: dict[str, str],
                    _: Any,
                    begins: bytes = begins,
                    part: str = part,
                    ends: bytes = ends,
                ) -> bytes:
                    if method in ("GET", "HEAD"):
                        return page() if method == "GET" else answer(b"", 404)
                    if method == "POST":
                        return answer(begins if "uploads" in query else ends)
                    return answer(ETag=part) if part else answer()

                self.store.play = play
                size = 13 << 20

                def upload(size: int = size) -> None:
                    handle = self.storage.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                    try:
                        for off in range(0, size, 1 << 20):
                            self.storage.write(handle, off, bytes(1 << 20))
                    except SFTPFailure:
                        self.storage.abandon(handle)
                        raise
                    self.storage.close(handle)

                self.words(upload)

    def test_a_redirect_is_not_followed(self) -> None:
        other = Store()
        self.addCleanup(other.server_close)
        self.addCleanup(other.shutdown)
        for status in (301, 302, 303, 307, 308):
            where = f"http://{LOOPBACK}:{other.server_address[1]}/b/"
            self.answering(answer(b"", status, Location=where))
            self.words(self.storage.opendir, b"/")
            self.words(self.storage.open, b"/f", os.O_RDONLY, 0)
        self.assertEqual(other.requests, [])
