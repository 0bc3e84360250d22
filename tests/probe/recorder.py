"""A program between a client and a server: it passes their packets on, and writes them down in order.

    recorder.py DIRECTORY SECONDS COMMAND [ARGUMENT...]

A session is one file of DIRECTORY: for each packet its direction (> to the server, < to the client), its
length (uint32) and its bytes. It is written before the packet is passed on, so that what a client sent
after a reply stands behind that reply. Replies wait until the client has been silent for SECONDS: then as
many requests are unanswered as the client ever lets be. A command of the shell that came in place of the
subsystem is written down as a packet of direction $, and refused.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from typing import IO

Packets = queue.Queue[tuple[bytes, bytes]]


def packets(file: IO[bytes], direction: bytes, to: Packets) -> None:
    while True:
        head = file.read(4)
        body = file.read(int.from_bytes(head, "big")) if len(head) == 4 else b""
        to.put((direction, head + body if body else b""))
        if not body:
            return


def main() -> int:
    directory, seconds, *command = sys.argv[1:]
    log = open(f"{directory}/{time.time_ns()}-{os.getpid()}", "wb", buffering=0)
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")

    def note(direction: bytes, packet: bytes) -> None:
        log.write(direction + len(packet).to_bytes(4, "big") + packet)

    if asked and asked != "/bin/false":  # what harness.py has for the subsystem
        note(b"$", asked.encode())
        return 1
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert server.stdin is not None and server.stdout is not None
    come: Packets = queue.Queue()
    for source, direction in ((sys.stdin.buffer, b">"), (server.stdout, b"<")):
        threading.Thread(target=packets, args=(source, direction, come), daemon=True).start()
    held: list[bytes] = []
    while True:
        try:
            direction, packet = come.get(timeout=float(seconds) if held else None)
        except queue.Empty:
            for reply in held:
                note(b"<", reply)
                sys.stdout.buffer.write(reply)
                sys.stdout.buffer.flush()
            held.clear()
            continue
        if not packet:
            break
        if direction == b"<":
            held.append(packet)
            continue
        note(b">", packet)
        server.stdin.write(packet)
        server.stdin.flush()
    server.stdin.close()
    for reply in held:
        sys.stdout.buffer.write(reply)
    sys.stdout.buffer.flush()
    server.stdout.close()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
