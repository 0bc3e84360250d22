"""Reports for operators of a store: uploads that a crash has left behind, and objects without a path.

What may not enter: paths of clients, sessions.
"""

from __future__ import annotations

import time

from pysftpserver.storages.objects.listing import oddity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.storages.objects.s3 import S3


def abort_old(store: S3, top: str, older_than: float, is_dry: bool) -> list[str]:
    """Abort uploads below a prefix; return a sentence for each. Arguments as for the storage's gc()."""
    sentences = []
    for upload in list(store.uploads(top)):
        age = int(time.time()) - upload.began
        if age < older_than:
            continue
        if not is_dry:
            store.abort(upload.key, upload.upload_id)
        done = "Would abort" if is_dry else "Aborted"
        sentences.append(f"{done} an upload of {upload.key} that began {age} seconds ago.")
    return sentences


def remarks(store: S3, top: str) -> list[str]:
    """As the storage's remarks()."""
    sentences = []
    files: list[str] = []  # those that later keys can be in
    for objects in store.keys(top):
        for meta in objects:
            rest = meta.key[len(top) :]
            while files and not rest.startswith(files[-1]):
                files.pop()
            why = oddity(rest)
            if why:
                sentences.append(f"{rest}: no path leads to this object, because its key {why}.")
            for file in files:
                if rest.startswith(file + "/"):
                    sentences.append(f"{file}: both a file and a directory; listings show the file.")
                    files.remove(file)
                    break
            if not rest.endswith("/"):
                files.append(rest)
    return sentences
