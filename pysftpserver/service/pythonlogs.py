"""The log of a door that uses threads, whose modules write it with Python's logging.

What may not enter: which door it is, what the lines say.
"""

from __future__ import annotations

import logging

from pysftpserver.engine.log import DEBUG1, DEBUG3, ERROR, INFO, LEVELS, SFTPLog
from pysftpserver.service.loglimit import LogLimit
from pysftpserver.service.logs import ServiceLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.service.settings import LogSettings


class ServiceHandler(logging.Handler):
    """Passes the records of Python's logging to the log of a service. rate: its log_rate.

    The first argument of a message (an address, a session, a user) counts as the cause of the line.
    """

    def __init__(self, log: ServiceLog, rate: int | None) -> None:
        super().__init__()
        self.log = log
        self.limit = LogLimit(log, rate)

    def close(self) -> None:
        self.limit.tell()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        levels = ((logging.ERROR, ERROR), (logging.INFO, INFO))
        level = next((level for least, level in levels if record.levelno >= least), DEBUG1)
        for line in self.format(record).splitlines():  # more than one if there is a traceback
            if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], str):
                self.limit.write("others" if record.msg == "%s" else record.args[0], level, line)
            else:
                self.log.write(level, line)


def handlers_of(logger: logging.Logger) -> list[ServiceHandler]:
    """The handlers of a logger that pass on to the log of a service."""
    return [one for one in logger.handlers if isinstance(one, ServiceHandler)]


def set_up(logger: logging.Logger, ident: str, values: LogSettings) -> None:
    """Send a logger's lines where the settings say; call it again after a change of the settings.

    ident: the name of the command. Without a logfile, a program that has set up logging itself keeps its own
    handlers. Raises BadInput.
    """
    handler = next(iter(handlers_of(logger)), None)
    if handler is not None:
        handler.log.reload(values)
        handler.limit.rate = values.log_rate
    elif values.logfile is not None or not logging.getLogger().handlers:
        logger.addHandler(ServiceHandler(ServiceLog(ident, values), values.log_rate))
        logger.propagate = False
    logger.setLevel(logging.DEBUG if LEVELS[values.log_level] >= DEBUG1 else logging.INFO)


def sftp_log(logger: logging.Logger) -> SFTPLog:
    """An SFTPLog that writes to a logger; Python's logging decides which lines are kept."""

    def write(level: int, text: str) -> None:
        of_python = logging.ERROR if level <= ERROR else logging.INFO if level == INFO else logging.DEBUG
        logger.log(of_python, "%s", text)

    return SFTPLog(write, DEBUG3)
