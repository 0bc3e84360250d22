"""Starts and ends the window: the worker, the window, and the values remembered for the next start.

What may not enter: command lines, widgets, connections.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import NamedTuple

from pysftpserver.laboratory.window import remembered
from pysftpserver.laboratory.window.events import Target
from pysftpserver.laboratory.window.fields import HOST, NAME, PORT
from pysftpserver.laboratory.window.view import Window
from pysftpserver.laboratory.window.worker import Worker

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Started(NamedTuple):
    """A window, and its worker."""

    window: Window
    worker: Worker


def start(given: Mapping[str, str], account: str, environ: Mapping[str, str]) -> Started:
    """Open the window. given: values of fields. account: the default name.

    Raises tkinter.TclError if there is no display.
    """
    file = remembered.path(environ)
    values = remembered.beginning(given, remembered.load(file), account)

    def remember(target: Target) -> None:
        remembered.save(file, {HOST: target.host, PORT: str(target.port), NAME: target.name})

    worker = Worker(remember)
    try:
        return Started(Window(worker, values), worker)
    except BaseException:
        worker.stop()
        raise


def run(started: Started) -> None:
    """Run until the user or a signal closes the window."""
    window, worker = started
    earlier = {number: signal.signal(number, lambda *_: window.leave_soon()) for number in SIGNALS}
    try:
        window.run()
    finally:
        worker.stop()
        for number, handler in earlier.items():
            signal.signal(number, handler or signal.SIG_DFL)
