"""Lists a directory from pages of keys: implied directories, and those that markers stand for.

A marker is an empty object that keeps an empty directory: `dir/`, or Hadoop's `dir_$folder$`. Listings are
streams: one page is kept, and the next one is fetched while the first is sent. What may not enter: paths.
"""

from __future__ import annotations

from pysftpserver.storages.objects.names import name_of
from pysftpserver.storages.objects.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.storages.objects.s3 import S3, Meta

HADOOP = "_$folder$"


def pages(store: S3, prefix: str) -> tuple[bool, Iterator[list[tuple[str, Meta | None]]]]:
    """Whether nothing is below a prefix, and its direct entries, page by page.

    Pages have pairs (the rest of the key, its object) in the order of keys. A rest that ends with a slash
    is a directory, and has no object. The first page is fetched when this returns.
    """
    first = store.page(prefix, "/")

    def all_of_them() -> Iterator[list[tuple[str, Meta | None]]]:
        page = first
        while True:
            task = Task(store.page, prefix, "/", page.next) if page.next else None
            rows: list[tuple[str, Meta | None]] = [(meta.key[len(prefix) :], meta) for meta in page.objects]
            rows += [(name[len(prefix) :], None) for name in page.prefixes]
            rows.sort(key=lambda row: row[0].encode())
            try:
                yield rows
            except GeneratorExit:
                if task is not None:
                    task.wait()
                raise
            if task is None:
                return
            page = task.result()

    return not first.objects and not first.prefixes, all_of_them()


def entries(
    rows_of_pages: Iterator[list[tuple[str, Meta | None]]],
) -> Iterator[list[tuple[bytes, Meta | None]]]:
    """The names in a directory, page by page, each once: (name, its object; None for a directory).

    If an object and a directory have the same name, the object is listed: paths with a further slash still
    lead through the directory. Names that no path leads to are left out; oddity() says why.
    """
    seen: list[str] = []  # names that later keys can still collide with: they begin with these
    for rows in rows_of_pages:
        page: list[tuple[bytes, Meta | None]] = []
        for rest, meta in rows:
            name = rest.removesuffix("/") if meta is None else rest
            if meta is not None and rest.endswith(HADOOP):
                name, meta = rest[: -len(HADOOP)], None
            while seen and not rest.startswith(seen[-1]):
                seen.pop()
            shown = name_of(name)
            if shown is None or "/" in name or name in seen:
                continue
            seen.append(name)
            page.append((shown, meta))
        yield page


def oddity(rest: str) -> str | None:
    """Why a key has no path, or None. rest: the key below the storage's top."""
    inner = rest.removesuffix("/")
    if not inner:
        return None  # the marker of the top
    if any(name_of(part) is None for part in inner.split("/")):
        return "has an empty part, or one that is . or .."
    return None
