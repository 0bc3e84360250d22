"""pysftplab connect: a client for the terminal, and for pipes.

On a terminal there is a prompt, with history and colours; in a pipe each line is a message, and what comes is
printed as it is. What may not enter: the protocol. What the server says is shown without control characters:
it cannot drive the terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.cli.pysftplab import (
    PASSWORD_VARIABLE,
    PROG,
    asked_password,
    checked,
    need_extra,
    password_in,
)
from pysftpserver.failures import BadInput, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from pysftpserver.laboratory.client import Connection

DEFAULT_PORT = 12800
DEFAULT_TIMEOUT = 10.0  # seconds
COLOURS = {"received": "green", "information": "cyan", "error": "bold red"}


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise BadValue(f"{text!r} is no number of seconds above zero")
    return value


COMMAND = Command(
    f"{PROG} connect",
    description="A client of a message server. Lines are messages; what begins with : is for the client, and "
    ":help lists it.",
    epilog=f"The password comes from --password-file, else from {PASSWORD_VARIABLE} in the environment, else "
    "it is asked for.",
    arguments=(("host", "The server's address."),),
    rest=("port", f"Its port. The default is {DEFAULT_PORT}."),
    options=(
        Option(
            "-n", "--name", metavar="NAME", help="What this client is called. The default is the account's."
        ),
        Option("-s", "--service", metavar="NAME", help="Use this service. The default is the server's."),
        Option(
            "--password-file",
            metavar="FILE",
            help="Take the server's password from the first line of this file. The default is to take none.",
        ),
        Option(
            "--plaintext",
            help="Do not encrypt: everybody on the way can read all. The default is to encrypt.",
        ),
        Option(
            "--timeout",
            metavar="SECONDS",
            convert=_seconds,
            default=DEFAULT_TIMEOUT,
            help=f"For connecting and for each answer to a word. The default is {DEFAULT_TIMEOUT:g}.",
        ),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Be a client until the input or the server ends; return the exit status. Raises BadInput."""
    values = COMMAND.parse(arguments)
    port = port_of(values["port"])
    name = values["name"] or account()
    need_extra()
    password = password_of(values["password_file"])
    from pysftpserver.laboratory import client

    screen = Screen()
    try:
        connection = client.connect(
            values["host"],
            port,
            password=password,
            name=name,
            key="" if values["plaintext"] else None,
            timeout=values["timeout"],
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
    except client.LaboratoryError as error:
        raise Unavailable(str(error)) from None
    with connection:
        how = "encrypted" if connection.is_encrypted else "NOT encrypted"
        screen.tell("information", f"accepted by {values['host']} port {port}, {how}; :help helps")
        if values["service"] is not None:
            try:
                connection.choose(values["service"])
            except client.LaboratoryError as error:
                raise Unavailable(f"service {values['service']}: {error}") from None
        return Talk(connection, screen).run()


def port_of(words: list[str]) -> int:
    """Raises BadInput."""
    if not words:
        return DEFAULT_PORT
    word = words[0]
    if len(words) > 1 or not word.isascii() or not word.isdecimal() or not 0 < int(word[:6]) < 65536:
        raise BadInput(f"{' '.join(words)}: no port; give HOST [PORT]")
    return int(word)


def account() -> str:
    """What the account is called, for want of another name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def password_of(file: str | None) -> str:
    """Raises BadInput."""
    if file is not None:
        return password_in(file)
    if PASSWORD_VARIABLE in os.environ:
        return checked(os.environ[PASSWORD_VARIABLE], PASSWORD_VARIABLE)
    return asked_password("Password of the server: ")


class Screen:
    """Where lines are shown: what is received on standard output, and all else on standard error."""

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
                return  # without colours, then
            console = Console(highlight=False, soft_wrap=True)
            self._show = lambda text, style: console.print(Text(text, style=style))

    def tell(self, kind: str, text: str) -> None:
        """Show something. kind: one of COLOURS."""
        text = printable(text)
        if self._show is None and not (self.is_terminal and self.is_prompting):
            if kind == "received":
                put_out(f"{text}\n")
            else:
                common.tell(f"{PROG}: {text}")
            return
        if self.is_prompting:
            put_out("\r\x1b[K")  # the line that is being typed comes again below
        if self._show is None:
            put_out(f"{text}\n")
        else:
            self._show(text, COLOURS[kind])
        if self.is_prompting:
            import readline

            put_out(self.prompt + readline.get_line_buffer())


class Talk:
    """Lines from standard input to the server, and what it says to the screen."""

    def __init__(self, connection: Connection, screen: Screen) -> None:
        self._connection = connection
        self._screen = screen
        self._is_leaving = False
        self._is_well = True
        self._words: dict[str, tuple[Callable[[str], None], str]] = {
            "name": (self._name, ":name NEW: have another name"),
            "key": (self._key, ":key: encrypt with a new key from now on"),
            "services": (self._services, ":services: what the server offers"),
            "use": (self._use, ":use SERVICE: use another service"),
            "server": (self._server, ":server: what the server is called"),
            "stop": (self._stop, ":stop: stop the server, if it lets clients do that"),
            "help": (self._help, ":help: this"),
            "quit": (self._quit, ":quit: end; so does the end of the input"),
        }

    def run(self) -> int:
        """Until the input or the server ends; the exit status."""
        import threading

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
                return 130
        finally:
            self._screen.is_prompting = False
        is_over = self._connection.ended
        self._is_leaving = True
        self._connection.hang_up()  # what has come is shown still
        receiver.join()
        if is_over is not None:
            self._screen.tell("error", str(is_over))
        return 0 if is_over is None and self._is_well else 1

    def _lines(self) -> Generator[str]:
        if not self._screen.is_terminal:
            for raw in sys.stdin.buffer:
                yield raw.rstrip(b"\r\n").decode("utf-8", "replace")
            return
        import readline

        from pysftpserver.laboratory import history

        file = history.path(os.environ)
        for line in history.load(file):
            readline.add_history(line)
        typed: list[str] = []
        try:
            for line in self._typed_lines():
                typed.append(line)
                yield line
        finally:
            try:
                history.add(file, typed)
            except OSError as error:
                reason = (error.strerror or "failure").lower()
                self._screen.tell("error", f"what was typed is not kept: {file}: {reason}")

    def _typed_lines(self) -> Iterable[str]:
        import readline

        readline.set_auto_history(True)
        while True:
            self._screen.prompt = f"{printable(self._connection.name)}> "
            self._screen.is_prompting = True
            try:
                line = input(self._screen.prompt)
            except EOFError:
                put_out("\n")
                return
            finally:
                self._screen.is_prompting = False
            yield line

    def _on_line(self, line: str) -> None:
        from pysftpserver.laboratory.client import LaboratoryError

        try:
            if line.startswith("::") or not line.startswith(":"):
                self._connection.send(line[1:] if line.startswith("::") else line)
                return
            word, _, rest = line[1:].partition(" ")
            action = self._words.get(word)
            if action is None:
                raise ValueError(f":{word}: no such word; :help lists them")
            action[0](rest.strip())
        except (LaboratoryError, ValueError) as error:
            if self._connection.ended is None:
                self._is_well = False
                self._screen.tell("error", str(error))

    def _wait_for_answers(self) -> None:
        """A question of the protocol's is answered when all before it was."""
        from pysftpserver.laboratory.client import LaboratoryError

        try:
            self._connection.server_name()
        except LaboratoryError as error:
            self._is_well = False
            self._screen.tell("error", str(error))

    def _receive(self) -> None:
        for text in self._connection:
            self._screen.tell("received", text)
        if not self._is_leaving and self._screen.is_terminal:
            import signal
            import threading

            # Whoever waits for a line from the terminal shall wait no longer.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    # --- words --------------------------------------------------------------------------------------------

    def _name(self, rest: str) -> None:
        self._connection.rename(rest)
        self._screen.tell("information", f"you are {self._connection.name} now")

    def _key(self, rest: str) -> None:
        self._connection.change_key()
        self._screen.tell("information", "another key is in use")

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
        for _, text in self._words.values():
            self._screen.tell("information", text)
        self._screen.tell("information", "::TEXT: send :TEXT; everything else is sent as it is")

    def _quit(self, rest: str) -> None:
        self._is_leaving = True


def printable(text: str) -> str:
    """The text without what drives a terminal; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text
    )


def put_out(text: str) -> None:
    """To standard output, in UTF-8 whatever the locale. Who is no longer read has nothing left to say."""
    rest = text.encode("utf-8", "backslashreplace")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError:
        pass
