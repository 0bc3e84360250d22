"""The API reference: the content of the published modules, from their signatures and docstrings.

Nothing is imported, so packages that a module needs need not be installed. Docstrings of this project may
contain sentences that begin with the name of an argument (`size: bytes.`); these become a list. What may not
enter: Sphinx; published names that are not in the table below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Published(NamedTuple):
    """A module that people import, its stable names, and its purpose.

    Without names, those in __all__. A class has all its members, or only those listed after it with a dot; a
    name that ends in a dot stands for no members.
    """

    module: str
    names: tuple[str, ...]
    purpose: str


#: In the order in which the author of a storage needs them.
PUBLISHED = (
    Published(
        "pysftpserver.abstractstorage",
        ("SFTPAbstractServerStorage", "Promise", "StatVFS"),
        "what a storage is: subclass it to write one",
    ),
    Published("pysftpserver.attributes", ("SFTPAttributes",), "what is known of a file"),
    Published(
        "pysftpserver.pysftpexceptions",
        (
            "SFTPException",
            "SFTPFailure",
            "SFTPUnavailable",
            "SFTPEndOfFile",
            "SFTPNotFound",
            "SFTPForbidden",
            "SFTPBadMessage",
            "SFTPUnsupported",
            "SFTPSessionEnd",
            "status_of",
        ),
        "what storages and hooks raise",
    ),
    Published("pysftpserver.hook", ("SFTPHook", "SFTPHooks", "SFTPEvent"), "watch or veto requests"),
    Published(
        "pysftpserver.server",
        (
            "SFTPServer",
            "SFTPServer.hook",
            "SFTPServer.input_queue",
            "SFTPServer.output_queue",
            "SFTPServer.process",
            "SFTPServer.consume",
            "SFTPServer.run",
            "SFTPServer.close",
        ),
        "serve a storage to one client",
    ),
    Published("pysftpserver.storage", ("SFTPServerStorage",), "a storage: this host's files"),
    Published("pysftpserver.virtualchroot", ("SFTPServerVirtualChroot",), "a storage: a jail"),
    Published("pysftpserver.mongostorage", ("SFTPServerMongoStorage",), "a storage: GridFS in MongoDB"),
    Published(
        "pysftpserver.objectstorage",
        ("SFTPServerObjectStorage",),
        "a storage: buckets of S3, Google Cloud Storage and Azure",
    ),
    Published(
        "pysftpserver.fsspecstorage",
        ("SFTPServerFsspecStorage", "ReadOnlyFsspecStorage"),
        "a storage: what fsspec opens",
    ),
    Published("pysftpserver.proxystorage", ("SFTPServerProxyStorage",), "a storage: another SFTP server"),
    Published(
        "pysftpserver.mountedstorage",
        ("SFTPServerMountedStorage", "Mount", "Mount."),
        "a storage: several storages in one tree",
    ),
    Published("pysftpserver.testing", (), "test a storage or a hook"),
    Published("pysftpserver.contract.base", ("ContractBase", "needs"), "what a test of the suite can use"),
    Published(
        "pysftpserver.laboratory.service", ("Service", "Client"), "write a service of a message server"
    ),
    Published(
        "pysftpserver.laboratory.server",
        ("Server", "Server.name", "Server.told", "Server.start", "Server.reload", "Server.stop"),
        "run a message server in a program",
    ),
    Published("pysftpserver.laboratory.client", (), "talk to a message server"),
    Published("pysftpserver.remo.client", (), "files and commands of a host that only HTTP reaches"),
    Published("pysftpserver.remo.app", (), "serve them below a web server (WSGI)"),
    Published("pysftpserver.sksync.client", (), "synchronise with an SK Sync server"),
)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: How a docstring marks a class whose constructor is not for callers.
MADE_BY_OTHERS = re.compile(r"\b[Mm]ade by ")
#: Names of classes that cannot be English words.
CAMELS = re.compile(r"(?<![`\w./\[])(?:[A-Z]+[a-z]+[A-Z]|SFTP[A-Z])\w*(?![`\w])")
FOR_MAINTAINERS = re.compile(r"What may not enter[^.]*(?:\.(?!\s|$)[^.]*)*\.\s*")


class Source:
    """The text of a module, and what it defines and imports, including imports for type checkers only."""

    def __init__(self, module: str) -> None:
        self.module = module
        path = ROOT.joinpath(*module.split("."))
        self.path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = self.path.read_text()
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.docstring = ast.get_docstring(self.tree) or ""
        self.statements: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in _unfolded(self.tree.body):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (node.module, alias.name)
            for name in _names_of(node):
                self.statements.setdefault(name, node)

    def listed(self) -> tuple[str, ...]:
        """The names in __all__."""
        return tuple(ast.literal_eval(self.statements["__all__"].value))  # type: ignore[attr-defined]

    def remark(self, node: ast.stmt) -> str:
        """The comment that describes an attribute: the `#:` lines above it, or the end of its own line."""
        above = node.lineno - 2
        found: list[str] = []
        while above >= 0 and (text := self.lines[above].strip()).startswith("#:"):
            found.insert(0, text[2:].strip())
            above -= 1
        behind = re.search(r"\s{2}# (?!type:|noqa)(.*)", self.lines[(node.end_lineno or node.lineno) - 1])
        return " ".join(found) or (behind[1] if behind else "")


@cache
def source_of(module: str) -> Source:
    """The source of a module of this project."""
    return Source(module)


def _unfolded(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _unfolded(node.body)
        else:
            yield node


def _names_of(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, Definition):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def found(module: str, name: str) -> tuple[Source, ast.stmt]:
    """Where a name of a module is defined, and how; imports in the project are followed."""
    source = source_of(module)
    if name in source.statements:
        return source, source.statements[name]
    return found(*source.imports[name])


def names_of(published: Published) -> tuple[str, ...]:
    """The names that a module publishes."""
    names = published.names or source_of(published.module).listed()
    return tuple(name for name in names if "." not in name)


@cache
def _classes() -> frozenset[tuple[str, str]]:
    """All published classes, as (defining module, name)."""
    every = ((published, name) for published in PUBLISHED for name in names_of(published))
    places = (found(published.module, name) for published, name in every)
    return frozenset((source.module, node.name) for source, node in places if isinstance(node, ast.ClassDef))


def _parts(source: Source, node: ast.ClassDef) -> list[tuple[Source, ast.ClassDef]]:
    """A class, and its base classes in the project that are not published themselves."""
    parts = [(source, node)]
    for base in map(ast.unparse, node.bases):
        module, _ = source.imports.get(base, ("", ""))
        if base in source.statements or module.startswith("pysftpserver."):
            where, one = found(source.module, base)
            if isinstance(one, ast.ClassDef) and (where.module, one.name) not in _classes():
                parts += _parts(where, one)
    return parts


# --- entries: what is known about a name --------------------------------------------------------------


class Entry(NamedTuple):
    """A class, a function or an attribute: its dotted name, its declaration, and its docstring or comment."""

    name: str
    kind: str  # class, function, method, property, attribute
    declaration: str
    text: str
    arguments: tuple[str, ...] = ()


def entries(published: Published) -> Iterator[Entry]:
    """All entries of a module; a class is followed by its attributes and methods."""
    for name in names_of(published):
        source, node = found(published.module, name)
        if isinstance(node, ast.ClassDef):
            first, *members = _class_entries(source, node)
            yield first
            wanted = [one for one in published.names if one.startswith(f"{name}.")]
            yield from (one for one in members if not wanted or one.name in wanted)
        else:
            yield _entry(source, name, node)


def _class_entries(source: Source, node: ast.ClassDef) -> Iterator[Entry]:
    bodies = [(where, one) for where, part in _parts(source, node) for one in part.body]
    bases = [ast.unparse(base) for base in node.bases]
    declaration = f"class {node.name}" + (f"({', '.join(bases)})" if bases else "")
    text = ast.get_docstring(node) or ""
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    if "NamedTuple" in bases or any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        declaration += "\n\n" + _call(node.name, ", ".join(ast.unparse(one) for one in fields))
    elif not ({"Protocol", "enum.Enum", "enum.IntEnum"} & set(bases) or MADE_BY_OTHERS.search(text)):
        for where, one in bodies:
            if isinstance(one, FUNCTIONS) and one.name == "__init__":
                declaration += "\n\n" + _signature(one, node.name).removeprefix("def ").removesuffix(
                    " -> None"
                )
                text += "\n\n" + (ast.get_docstring(one) or "")
                bodies += [(where, attribute) for attribute in _set_in(where, one)]
                break
    made = re.search(r"\((.*)\)\Z", declaration, re.DOTALL)
    attributes = [name for _, one in bodies if not isinstance(one, FUNCTIONS) for name in _names_of(one)]
    arguments = re.findall(r"\b(\w+): ", made[1]) if made else []
    yield Entry(node.name, "class", declaration, text.strip(), (*arguments, *attributes))
    seen = set()
    for where, one in bodies:
        for name in _names_of(one):
            if not name.startswith("_") and name not in seen and not _is_setter(one):
                seen.add(name)
                entry = _entry(where, f"{node.name}.{name}", one)
                if entry.text or (entry.kind == "attribute" and where is source and not _is_told(text, name)):
                    yield entry


def _is_told(text: str, name: str) -> bool:
    """Whether a docstring describes an attribute."""
    return re.search(rf"\b{name}(?:, \w+)*: ", text) is not None


def _set_in(source: Source, start: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """The attributes that a constructor sets and that have a remark, as if they were set in the class."""
    for one in start.body:
        target = ast.unparse(one.targets[0]) if isinstance(one, ast.Assign) else ""
        if isinstance(one, ast.Assign) and re.fullmatch(r"self\.[a-z]\w*", target) and source.remark(one):
            yield ast.copy_location(ast.Assign([ast.Name(target[5:])], one.value), one)


def inherited(module: str, name: str) -> list[str]:
    """The methods of a class whose docstrings are those of a base class."""
    source, node = found(module, name)
    assert isinstance(node, ast.ClassDef)
    return [
        one.name
        for _, part in _parts(source, node)
        for one in part.body
        if isinstance(one, FUNCTIONS)
        and not one.name.startswith(("_", "test_"))
        and not _is_setter(one)
        and not ast.get_docstring(one)
    ]


def _is_setter(node: ast.stmt) -> bool:
    return isinstance(node, FUNCTIONS) and any(
        isinstance(one, ast.Attribute) and one.attr == "setter" for one in node.decorator_list
    )


def _entry(source: Source, name: str, node: ast.stmt) -> Entry:
    last = name.rpartition(".")[2]
    if isinstance(node, FUNCTIONS):
        decorators = {ast.unparse(one) for one in node.decorator_list}
        text = ast.get_docstring(node) or ""
        if decorators & {"property", "functools.cached_property", "cached_property"}:
            returns = f": {ast.unparse(node.returns)}" if node.returns else ""
            return Entry(name, "property", last + returns, text)
        kind = "method" if "." in name else "function"
        how = "@classmethod\n" if "classmethod" in decorators else ""
        return Entry(name, kind, how + _signature(node, last), text, _arguments(node))
    value = getattr(node, "value", None)
    is_made = isinstance(value, ast.Call) and value.args and ast.unparse(value.func) in source.statements
    if is_made and (function := _made_from(source, value.args[0])):
        kind = "method" if "." in name else "function"
        how = _signature(function, last, _result_of(source, value)).removeprefix("async ")
        text = "\n\n".join(filter(None, (source.remark(node), ast.get_docstring(function))))
        return Entry(name, kind, how, text, _arguments(function))
    return Entry(name, "attribute", ast.unparse(node), source.remark(node))


def _result_of(source: Source, value: ast.Call) -> str:
    """The result of a function made by another function, if it differs from the original's."""
    maker = source.statements.get(ast.unparse(value.func))
    returns = ast.unparse(maker.returns) if isinstance(maker, FUNCTIONS) and maker.returns else ""
    result = returns.rstrip("]").rpartition(", ")[2]
    return result if isinstance(source.statements.get(result), ast.ClassDef) else ""


def _made_from(source: Source, value: ast.expr) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function from which another one is made, such as the async original of a blocking one."""
    holder, _, name = ast.unparse(value).rpartition(".")
    if not holder:
        node = source.statements.get(name)
        return node if isinstance(node, FUNCTIONS) else None
    if holder not in source.statements and holder not in source.imports:
        return None
    _, owner = found(source.module, holder)
    body: list[ast.stmt] = getattr(owner, "body", [])
    return next((one for one in body if isinstance(one, FUNCTIONS) and one.name == name), None)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    takes = node.args
    every = [*takes.posonlyargs, *takes.args, *takes.kwonlyargs]
    every += [one for one in (takes.vararg, takes.kwarg) if one]
    return tuple(one.arg for one in every if one.arg not in ("self", "cls"))


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, result: str = "") -> str:
    """A declaration without `self`. result: the type of the result, in place of the function's own."""
    takes = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0].args  # type: ignore[attr-defined]
    positional = takes.posonlyargs or takes.args
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    how = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
    result = result or (ast.unparse(node.returns) if node.returns else "")
    return _call(how + name, ast.unparse(takes), f" -> {result}" if result else "")


def _call(name: str, arguments: str, result: str = "") -> str:
    """A call in one line, or with a line for each argument."""
    parts = re.split(r", (?![^\[(]*[\])])", arguments)
    parts = [re.sub(r"^(\W*\w+: [^=]*[^ =])=", r"\1 = ", part) for part in parts]
    line = ", ".join(parts)
    if len(name + line + result) < 98:
        return f"{name}({line}){result}"
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


# --- as pages ---------------------------------------------------------------------------------------------


def as_markdown(text: str, arguments: tuple[str, ...]) -> str:
    """A docstring with its sentences about arguments as a list."""
    paragraphs = []
    for paragraph in FOR_MAINTAINERS.sub("", text).strip().split("\n\n"):
        paragraphs.append(paragraph if paragraph.startswith("    ") else _with_list(paragraph, arguments))
    return "\n\n".join(paragraphs)


def _with_list(paragraph: str, arguments: tuple[str, ...]) -> str:
    text = " ".join(paragraph.split("\n"))
    parts = re.split(r"(?:(?<=[.;?] )|^)((?:\w+, )*\w+): |(?<=\. )(?=Raises? |Returns? )", text)
    said, about = [parts[0].strip()], []
    for names, rest in zip(parts[1::2], parts[2::2], strict=True):
        if names is None:
            said.append(rest.strip())
        elif set(names.split(", ")) <= set(arguments):
            shown = ", ".join(f"`{name}`" for name in names.split(", "))
            about.append(f"- {shown}: {rest.strip()}")
        else:
            (about if about else said)[-1] += f" {names}: {rest.strip()}"
    before, after = said[0].strip(), " ".join(said[1:])
    about = [one.rstrip(";") for one in about]
    return "\n\n".join(part for part in (before, "\n".join(about), after) if part)


@cache
def _places() -> dict[str, str]:
    """For each published class with a unique name, a link to it within api/."""
    every = [(name, published) for published in PUBLISHED for name in names_of(published)]
    names = [name for name, _ in every]
    return {
        name: f"{page_name(published.module).removeprefix('api/')}#{name.lower()}"
        for name, published in every
        if names.count(name) == 1 and CAMELS.fullmatch(name)
    }


def with_links(text: str, but: str) -> str:
    """A text in which names of published classes are links. but: the subject's name, which is not."""
    places = _places()

    def linked(found: re.Match[str]) -> str:
        name = found[0]
        return f"[{name}]({places[name]})" if name in places and name != but else name

    blocks = text.split("\n\n")
    return "\n\n".join(one if one.startswith("    ") else CAMELS.sub(linked, one) for one in blocks)


def page(published: Published, source_page: str) -> str:
    """The page of a module. source_page: a link to its source."""
    source = source_of(published.module)
    parts = [f"# {published.module}", as_markdown(source.docstring, ())]
    parts.append(f"[Source]({source_page})")
    every = list(entries(published))
    for entry in every:
        if entry.kind == "attribute" and "." in entry.name:
            continue
        parts.append(f"{'###' if '.' in entry.name else '##'} {entry.name}")
        parts.append(f"```python\n{entry.declaration}\n```")
        text = as_markdown(entry.text, entry.arguments)
        parts.append(with_links(text, entry.name.partition(".")[0]))
        if entry.kind == "class":
            parts.append("\n".join(_rows(entry.name, every)))
            if names := inherited(published.module, entry.name):
                listed = ", ".join(f"`{name}`" for name in names)
                parts.append(f"Its own, as the base class describes them: {listed}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(name: str, every: list[Entry]) -> Iterator[str]:
    """The attributes of a class as a list."""
    for entry in every:
        if entry.kind == "attribute" and entry.name.startswith(f"{name}."):
            yield f"- `{entry.declaration}`" + (f": {entry.text}" if entry.text else "")


def page_name(module: str) -> str:
    """The name of a module's page in the site."""
    return f"api/{module.removeprefix('pysftpserver.')}.md"


def markdown_table() -> str:
    """The table of modules for docs/api.md; in a checkout, the links lead to their source."""
    rows = ["| module | for | names |", "| --- | --- | --- |"]
    for one in PUBLISHED:
        path = source_of(one.module).path.relative_to(ROOT)
        names = ", ".join(f"`{name}`" for name in names_of(one) if not name.startswith("SSH2_"))
        rows.append(f"| [`{one.module}`](../{path}) | {one.purpose} | {names} |")
    return "\n".join(rows) + "\n"
