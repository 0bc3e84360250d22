"""The fast path: READ and WRITE on real files, packet after packet, with as little Python as possible.

The kernel moves the bytes; a Python server loses time only between two of its calls. So the two requests
that transfers consist of are served here, in one loop, without the table of requests:

- One unpack takes the header and all arguments: this server's handles have four bytes, so READ and WRITE
  have every field at the same offset. No slices, no tuples of arguments, no call for each field.
- The data of a large READ is read when its reply is about to be sent (LateRead), into one buffer that stays
  in the processor's cache and is written from there, including the header. A fresh buffer for each costs
  more than the copy.
- Small READs are answered at once, so that many replies leave in one call.
- Chunks are written from the receive buffer itself.

Only the ordinary case is served. Anything else (an odd handle or length, a file that only its storage can
read, a very large offset) is left in the buffer for the usual way, and so are requests that a hook wants to
hear of, or a log of every request. Both ways give the same replies; tests compare them.
What may not enter: other requests, concrete storages, sockets.
"""

from __future__ import annotations

import os

from pysftpserver.engine.handles import FileHandle
from pysftpserver.engine.segments import LateRead, PromisedReply, PromisedStatus
from pysftpserver.engine.session import check_count
from pysftpserver.engine.wire import (
    HANDLE_SIZE,
    SSH2_FX_EOF,
    SSH2_FX_OK,
    SSH2_FXP_READ,
    SSH2_FXP_WRITE,
    TRANSFER_HEADER,
    TRANSFER_LENGTH,
    encode_data_header,
    encode_usual_status,
    transfer_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.engine.session import Session

TRANSFERS = {SSH2_FXP_READ: "read", SSH2_FXP_WRITE: "write"}
NEITHER = -1  # not the type of any packet
FAR_OUT = 1 << 40  # bytes; offsets from here on go the usual way
LATE_FROM = 32 * 1024  # bytes asked for from which a READ is answered late


def serve_transfers(session: Session, buffer: memoryview, start: int, end: int) -> int:
    """Serve the READ and WRITE packets at the beginning of buffer[start:end]; return where they end.

    Return `start` if the first packet is left to the usual way. Pauses where consume() would.
    """
    reads = SSH2_FXP_READ if SSH2_FXP_READ in session.transfers else NEITHER
    writes = SSH2_FXP_WRITE if SSH2_FXP_WRITE in session.transfers else NEITHER
    output, limit = session.output, session.queue_limit
    most_data, most_packet = session.limits.data, session.limits.packet
    table, storage = session.handles, session.storage
    handles, write = table.opened, storage.write
    while end - start >= TRANSFER_HEADER and output.size <= limit and not session.stopping:
        length, kind, request_id, name_size, name, offset, count = transfer_at(buffer, start)
        file = handles.get(name)
        if type(file) is not FileHandle or name_size != HANDLE_SIZE or offset >= FAR_OUT:
            break
        stop = start + TRANSFER_HEADER
        try:
            if kind == reads and length == TRANSFER_LENGTH and count:
                if file.descriptor is None:
                    wanted = min(count, most_data)
                    reads_late = storage.window > 0 and table.promises_reads
                    promise = storage.promise_read(file.object, offset, wanted) if reads_late else None
                    if promise is None:
                        break
                    session.position = stop
                    output.append_promise(
                        PromisedReply(request_id, file, promise, offset, wanted, session.failed_read)
                    )
                    start = stop
                    continue
                session.position = stop
                if count >= LATE_FROM or file.fetched is not None and output.late:  # a digest needs the order
                    wanted = count if count < most_data else most_data
                    output.append_late(LateRead(request_id, file, offset, wanted, session.failed_read))
                elif data := os.pread(file.descriptor, count, offset):
                    output.append(encode_data_header(request_id, len(data)) + data)
                    file.bytes_read += len(data)
                    if file.fetched is not None:
                        file.fetched.feed(offset, data)
                else:
                    if file.fetched is not None:
                        file.fetched.end = offset
                    output.append(encode_usual_status(request_id, SSH2_FX_EOF))
            elif kind == writes and length == TRANSFER_LENGTH + count:
                stop += count
                if stop > end or length > most_packet or file.flags & os.O_APPEND:
                    break
                if not file.takes_views:
                    chunk = buffer[stop - count : stop]
                    writes_late = storage.window > 0 and table.promises_writes
                    promise = storage.promise_write(file.object, offset, chunk) if writes_late else None
                    if promise is None:
                        break
                    session.position = stop
                    if file.stored is not None:
                        file.stored.feed(offset, chunk)
                    output.append_promise(
                        PromisedStatus(request_id, file, promise, offset, count, session.failed_write)
                    )
                    start = stop
                    continue
                session.position = stop
                if output.late:
                    output.settle()
                answer = write(file.object, offset, buffer[stop - count : stop])
                if answer is not None:
                    check_count(answer, count)
                file.bytes_written += count
                if file.stored is not None:
                    file.stored.feed(offset, buffer[stop - count : stop])
                output.append(encode_usual_status(request_id, SSH2_FX_OK))
            else:
                break
        except BaseException as error:
            output.settle()  # the log keeps the order of the replies as well
            if file.stored is not None:
                file.stored.spoil()
            session.answer_error(request_id, TRANSFERS[kind], error)
            if session.ended is not None:
                return stop
        start = stop
    return start
