"""The messages between the process that serves SSH, the fork server and a session's process.

A ticket (tickets.py) says what a session is to be. What may not enter: sockets, what is done with a message.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import struct

BEGIN, SIGNAL, FORGET, RESET = b"B", b"S", b"F", b"R"  # the first byte of a message to the fork server
# The content of BEGIN: the session's number; that of the one whose place it takes, or 0; a name's length.
FIRST = struct.Struct(">QQB")
ORDER = struct.Struct(">QB")  # a session and a signal
NUMBER = struct.Struct(">Q")  # the content of FORGET: a session
ENDED = struct.Struct(">Qi")  # a session and its wait status, or why there was no process for it:
NOT_BEGUN, FULL, USER_IS_FULL = -1, -2, -3
DRAIN, REPORT, LEAVE = b"D", b"R", b"L"  # messages to a session
LONGEST = 1 << 17  # bytes of a message
STOP = signal.SIGUSR1  # ends a session; service managers send the other signals to every process
OUT_OF_TIME = 75  # exit status of a session that was busy with one request for too long
OUT_OF_MEMORY = 76  # exit status of a session that ran out of memory
RESTING = 77  # exit status of an idle session: its place is kept until FORGET or another BEGIN
