"""What is published: names that people import, commands, options, keys and requests, as the code has them.

`python -m tests.keeping.published` adds what is new to published.json; with --check, its exit status says
whether something is. What is gone stays there, and fails a test.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pysftpserver import cli, failures
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.cli.options import Command, Commands
from pysftpserver.cli.registry import PROGRAMS
from pysftpserver.cli.session import request_names
from pysftpserver.formats import FORMATS
from pysftpserver.people import redis_records, users_file
from pysftpserver.service.settings import Settings
from pysftpserver.site import schema

RECORDED = Path(__file__).with_name("published.json")
#: The modules whose names people import.
MODULES = (
    *("server", "abstractstorage", "attributes", "hook", "pysftpexceptions", "testing"),
    *("storage", "virtualchroot", "mongostorage", "objectstorage", "fsspecstorage", "proxystorage"),
    "mountedstorage",
)


def published() -> dict[str, list[str]]:
    """All that is published, by its kind."""
    found = {
        "imports": set(_imports()),
        "methods of storages": set(_methods(SFTPAbstractServerStorage)),
        "commands": {program.name for program in PROGRAMS},
        "options": set(_options()),
        "settings": set(_settings()),
        "keys of site files": set(_keys_of_sites()),
        "fields of users": {*users_file.FIELDS, *redis_records.FIELDS},
        "requests": set(request_names()),
        "exit statuses": {f"{failures.USAGE_STATUS} usage", f"{failures.UNAVAILABLE_STATUS} unavailable"},
        "formats": {form.name for form in FORMATS},
    }
    return {kind: sorted(names) for kind, names in found.items()}


def _imports() -> Iterator[str]:
    for name in MODULES:
        module = pkgutil.resolve_name(f"pysftpserver.{name}")
        own = [word for word, value in vars(module).items() if _module_of(value) == module.__name__]
        for word in getattr(module, "__all__", own):
            if not word.startswith("_"):
                yield f"{name}.{word}"
                value = getattr(module, word)
                if inspect.isclass(value) and _module_of(value) == module.__name__:
                    yield from (f"{name}.{word}.{method}" for method in _own(value))


def _module_of(value: object) -> object:
    return getattr(value, "__module__", None)


def _own(kind: type) -> Iterator[str]:
    return (name for name in vars(kind) if not name.startswith("_"))


def _methods(kind: type) -> Iterator[str]:
    """With their arguments, which callers and subclasses rely on."""
    for name in _own(kind):
        value = getattr(kind, name)
        if callable(value):
            yield f"{name}({', '.join(list(inspect.signature(value).parameters)[1:])})"


def _commands() -> Iterator[Command | Commands]:
    for info in pkgutil.iter_modules(cli.__path__):
        module = pkgutil.resolve_name(f"pysftpserver.cli.{info.name}")
        yield from (one for one in vars(module).values() if isinstance(one, Command | Commands))


def _options() -> Iterator[str]:
    for command in _commands():
        if isinstance(command, Command):
            yield from (f"{command.prog} {flag}" for option in command.options for flag in option.flags)
        else:
            for sub in command.subcommands:
                yield f"{command.prog} {sub.word}"
                declared = sub.declared()
                if isinstance(declared, Command):
                    flags = (flag for option in declared.options for flag in option.flags)
                    yield from (f"{command.prog} {sub.word} {flag}" for flag in flags)


def _settings() -> Iterator[str]:
    from pysftpserver.laboratory.config import ServerSettings as Laboratory
    from pysftpserver.remo.config import ServerSettings as Remo
    from pysftpserver.sksync.config import ServerSettings as SKSync
    from pysftpserver.sshd.config import ServerSettings as SSHD
    from pysftpserver.warm.config import ServerSettings as Warm
    from pysftpserver.web.config import WebSettings

    doors: dict[str, type[Settings]] = {
        **{"pysftpd": SSHD, "pysftpweb": WebSettings, "pysksync": SKSync, "pysftpremo": Remo},
        **{"pysftplab": Laboratory, "pysftp-warm": Warm},
    }
    for door, settings in doors.items():
        yield from (f"{door}: {name}" for name in settings.table())


def _keys_of_sites() -> Iterator[str]:
    for table in schema.TABLES:
        yield from (f"{table.form} {key}".strip() for key in table.keys or ())


def main() -> int:
    """Record what is new. Returns the exit status."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    both = {kind: sorted({*names, *recorded.get(kind, ())}) for kind, names in published().items()}
    if sys.argv[1:] == ["--check"]:
        return int(both != recorded)
    RECORDED.write_text(json.dumps(both, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
