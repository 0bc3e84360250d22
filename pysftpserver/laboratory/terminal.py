"""The client for the terminal and for pipes.

On a terminal there is a prompt with history and colours. In a pipe each line is a message, and messages from
the server are printed as they are. Control characters in them are shown as escapes, so the server cannot
drive the terminal. What may not enter: the protocol, command lines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.laboratory import client
from pysftpserver.laboratory.client import Connection, LaboratoryError
from pysftpserver.service.terminal import prompt_history, state_directory

COLOURS = {"received": "green", "information": "cyan", "error": "bold red"}
INTERRUPTED = 130  # the exit status after Ctrl-C


def talk(
    host: str, port: int, *, password: str, name: str, key: str | None, timeout: float, service: str | None
) -> int:
    """Connect, and talk until the input or the connection ends; return the exit status.

    Arguments are those of client.connect(); service: the service to use, None for the server's default.
    Raises BadInput, Unavailable.
    """
    screen = Screen()
    try:
        connection = client.connect(host, port, password=password, name=name, key=key, timeout=timeout)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except LaboratoryError as error:
        raise Unavailable(str(error)) from None
    with connection:
        how = "encrypted" if connection.is_encrypted else "NOT encrypted"
        screen.tell("information", f"connected to {host} port {port}, {how}; :help lists the commands")
        if service is not None:
            try:
                connection.choose(service)
            except LaboratoryError as error:
                raise Unavailable(f"service {service}: {error}") from None
        return Talk(connection, screen).run()


class Screen:
    """Shows lines: received ones on standard output, all others on standard error."""

    def __init__(self) -> None:
        self.is_terminal = os.isatty(0) and os.isatty(1)
        self._show: Callable[[str, str], None] | None = None
        self.prompt = ""
        self.is_prompting = False
        if os.isatty(1) and "NO_COLOR" not in os.environ:
            try:
                from rich.console import Console
                from rich.text import Text
            except ModuleNotFoundError:
                return  # no colours
            console = Console(highlight=False, soft_wrap=True)
            self._show = lambda text, style: console.print(Text(text, style=style))

    def tell(self, kind: str, text: str) -> None:
        """Show a text. kind: one of COLOURS."""
        text = printable(text)
        if self._show is None and not (self.is_terminal and self.is_prompting):
            put(1, f"{text}\n") if kind == "received" else put(2, f"pysftplab: {text}\n")
            return
        if self.is_prompting:
            put(1, "\r\x1b[K")  # the line that is being typed is shown again below
        if self._show is None:
            put(1, f"{text}\n")
        else:
            self._show(text, COLOURS[kind])
        if self.is_prompting:
            import readline

            put(1, self.prompt + readline.get_line_buffer())


class Talk:
    """Sends lines from standard input to the server, and shows its messages on the screen."""

    def __init__(self, connection: Connection, screen: Screen) -> None:
        self._connection = connection
        self._screen = screen
        self._is_leaving = False
        self._is_well = True
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "name": (self._name, ":name NEW: change your name"),
            "key": (self._key, ":key: change to a new encryption key"),
            "services": (self._services, ":services: list the services"),
            "use": (self._use, ":use SERVICE: change to another service"),
            "server": (self._server, ":server: show the name of the server"),
            "stop": (self._stop, ":stop: stop the server, if it allows that"),
            "help": (self._help, ":help: list the commands"),
            "quit": (self._quit, ":quit: end, as at the end of the input"),
        }

    def run(self) -> int:
        """Talk until the input or the connection ends; return the exit status."""
        receiver = threading.Thread(target=self._receive, name="receiver", daemon=True)
        receiver.start()
        try:
            with contextlib.closing(self._lines()) as lines:
                for line in lines:
                    self._on_line(line)
                    if self._is_leaving or self._connection.ended is not None:
                        break
            if self._connection.ended is None and not self._screen.is_terminal:
                self._wait_for_answers()
        except KeyboardInterrupt:
            if self._connection.ended is None:
                self._is_leaving = True
                self._connection.hang_up()
                return INTERRUPTED
        finally:
            self._screen.is_prompting = False
        is_over = self._connection.ended
        self._is_leaving = True
        self._connection.hang_up()  # what has arrived is still shown
        receiver.join()
        if is_over is not None:
            self._screen.tell("error", str(is_over))
        return 0 if is_over is None and self._is_well else 1

    def _lines(self) -> Generator[str]:
        if not self._screen.is_terminal:
            for raw in sys.stdin.buffer:
                yield raw.rstrip(b"\r\n").decode("utf-8", "replace")
            return
        path = os.path.join(state_directory("pysftplab", os.environ), "history")
        with prompt_history(path, self._history_failed):
            yield from self._typed_lines()

    def _history_failed(self, error: OSError) -> None:
        self._screen.tell("error", f"the history of this prompt is not saved: {reason_of(error)}")

    def _typed_lines(self) -> Iterable[str]:
        import readline

        readline.set_auto_history(True)
        while True:
            self._screen.prompt = f"{printable(self._connection.name)}> "
            self._screen.is_prompting = True
            try:
                line = input(self._screen.prompt)
            except EOFError:
                put(1, "\n")
                return
            finally:
                self._screen.is_prompting = False
            yield line

    def _on_line(self, line: str) -> None:
        try:
            if line.startswith("::") or not line.startswith(":"):
                self._connection.send(line[1:] if line.startswith("::") else line)
                return
            word, _, rest = line[1:].partition(" ")
            action = self._commands.get(word)
            if action is None:
                raise ValueError(f":{word}: unknown command; :help lists them")
            action[0](rest.strip())
        except (LaboratoryError, ValueError) as error:
            if self._connection.ended is None:
                self._is_well = False
                self._screen.tell("error", str(error))

    def _wait_for_answers(self) -> None:
        """Wait for all answers: the server answers this question after everything sent before it."""
        try:
            self._connection.server_name()
        except LaboratoryError as error:
            self._is_well = False
            self._screen.tell("error", str(error))

    def _receive(self) -> None:
        for text in self._connection:
            self._screen.tell("received", text)
        if not self._is_leaving and self._screen.is_terminal:
            # Interrupts the input() that waits for a line from the terminal.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    # --- commands -----------------------------------------------------------------------------------------

    def _name(self, rest: str) -> None:
        self._connection.rename(rest)
        self._screen.tell("information", f"your name is now {self._connection.name}")

    def _key(self, rest: str) -> None:
        self._connection.change_key()
        self._screen.tell("information", "a new key is in use")

    def _services(self, rest: str) -> None:
        used = self._connection.service()
        for title, text in self._connection.services():
            mark = " (in use)" if title == used else ""
            self._screen.tell("information", f"{title}{mark}: {text}")

    def _use(self, rest: str) -> None:
        self._screen.tell("information", f"using {self._connection.choose(rest)}")

    def _server(self, rest: str) -> None:
        self._screen.tell("information", f"the server is {self._connection.server_name()}")

    def _stop(self, rest: str) -> None:
        self._connection.stop_server()
        self._is_leaving = True

    def _help(self, rest: str) -> None:
        for _, text in self._commands.values():
            self._screen.tell("information", text)
        self._screen.tell("information", "::TEXT: send :TEXT; all other lines are sent as they are")

    def _quit(self, rest: str) -> None:
        self._is_leaving = True


def printable(text: str) -> str:
    """The text with characters that control a terminal shown as escapes; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def put(descriptor: int, text: str) -> None:
    """Write to standard output or standard error, in UTF-8 whatever the locale. Does not raise if the
    reader has gone.
    """
    rest = text.encode("utf-8", "backslashreplace")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        pass
