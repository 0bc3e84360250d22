"""A TCP proxy between a storage and its database, that hangs up or is silent when it is asked to."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """Listens on loopback, on self.port, and forwards to a host and a port."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._listening = socket.create_server((host, 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._left: int | None = None  # bytes of replies until all is cut
        self._goes_on = threading.Event()
        self._goes_on.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size: int) -> None:
        """Cut the connection that gets that many more bytes of replies."""
        with self._lock:
            self._left = size

    def pause(self) -> None:
        """Forward nothing more for now."""
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()

    def close(self) -> None:
        """Cut everything."""
        _shut(self._listening)  # closed alone, it would go on accepting
        self._listening.close()
        self.go_on()
        with self._lock:
            for one in self._open:
                _shut(one)

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
                theirs = socket.create_connection(self._to)
            except OSError:
                return
            with self._lock:
                self._open |= {ours, theirs}
            for source, target, is_reply in ((ours, theirs, False), (theirs, ours, True)):
                threading.Thread(target=self._forward, args=(source, target, is_reply), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                self._goes_on.wait()
                if is_reply and self._is_cut(len(data)):
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        except OSError:
            pass
        finally:
            _shut(source)
            _shut(target)

    def _is_cut(self, size: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= size
            if self._left > 0:
                return False
            self._left = None
            return True


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
