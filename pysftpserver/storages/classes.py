"""Imports the classes that names, options and configurations give as MODULE:CLASS, and passes arguments.

What may not enter: what the classes are for.
"""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def maker(name: str, key: str) -> Callable[..., Any]:
    """Import the class with the name `module:Class`; return a function that makes its storages.

    make(text, fill): text is JSON: a list of arguments, an object of named ones, one argument, or nothing.
    fill: returns an argument with its fields filled in. It raises ValueError for text that is not JSON, and
    what the class raises. make.uses_network: that of the class. Raises BadInput if the import fails.
    """
    kind = named(name, key)

    def make(text: str, fill: Callable[[Any], Any] = lambda argument: argument) -> Any:
        import json

        try:
            given = json.loads(text) if text.strip() else []
        except RecursionError:
            raise ValueError("the arguments are nested too deeply") from None
        except ValueError:
            raise ValueError("the arguments are not valid JSON") from None
        if isinstance(given, dict):
            return kind(**{name: fill(argument) for name, argument in given.items()})
        return kind(*map(fill, given if isinstance(given, list) else [given]))

    make.uses_network = getattr(kind, "uses_network", True)  # type: ignore[attr-defined]
    return make


def named(name: str, key: str) -> Any:
    """Import the class, or other object, with the name `module:Name`. Raises BadInput if that fails."""
    import pkgutil  # here, because it loads much

    key = f"{key}: " if key else ""
    try:
        return pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        how = "install it into the environment of this command, or add its directory to PYTHONPATH"
        raise BadInput(f"{key}{name}: {one_line(str(error))}; {how}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{key}{name}: {one_line(str(error))}") from None
    except (Exception, SystemExit) as error:  # raised by the module while it was imported
        words = one_line(f"{type(error).__name__}: {error}")
        raise BadInput(f"{key}{name}: {words}{line_of(error)}") from None


def line_of(error: BaseException) -> str:
    """Return the file and line that raised an error, for the author of a module; "" for a SyntaxError.

    (The text of a SyntaxError includes the line.)
    """
    import traceback

    calls = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not calls:
        return ""
    return f" ({os.path.basename(calls[-1].filename)}, line {calls[-1].lineno})"
