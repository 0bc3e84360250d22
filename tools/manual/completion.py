"""Completion for bash, zsh and fish: one file for each command and shell, which starts no process of ours.

Possible values come from an option's choices, or else from its placeholder: FILE, DIR.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pysftpserver.cli.options import Command, Commands, Option
from pysftpserver.storages.by_name import CLASS, SCHEMES, SITE
from tools.manual.commands import (
    arguments_of,
    choices_of,
    declaration,
    help_of,
    options_of,
    programs,
    walk,
)

FILE, DIRECTORY, STORAGE, HOST, ACCOUNT, GROUP, NOTHING = "file dir storage host account group".split() + [""]
METAVARS = {
    "FILE": FILE,
    "KEY": FILE,  # or the key itself
    "DIR": DIRECTORY,
    "STORAGE": STORAGE,
    "HOST": HOST,
    "ACCOUNT": ACCOUNT,
    "GROUP": GROUP,
}
#: Kinds of arguments, by name, or by command and name if the name is not enough.
ARGUMENTS = {
    "chroot": DIRECTORY,
    "file": FILE,
    "config": FILE,
    "configs": FILE,
    "pem": FILE,
    "folder": DIRECTORY,
    "host": HOST,
    "remote": HOST,
    "server": HOST,
    "pysftpsite name": STORAGE,
    "pysftpremo get name": FILE,
    "pysftpremo put name": FILE,
}
_BEGINNINGS = {"s3": "s3://", "gs": "gs://", "az": "az://", "sftp": "sftp://"}
#: Prefixes of storage names. Names of site files and classes have none.
PREFIXES = [_BEGINNINGS.get(name, f"{name}:") for name in SCHEMES if name not in (CLASS, SITE)]


class Value(NamedTuple):
    """What may be typed in a place. words: the only possible ones, if any; separator: between several."""

    kind: str
    words: Sequence[str] = ()
    separator: str = ""


class Choice(NamedTuple):
    """An option. value: None for a switch."""

    flags: Sequence[str]
    summary: str
    metavar: str
    value: Value | None
    is_repeated: bool


class Place(NamedTuple):
    """A command or a subcommand. words: those of subcommands that lead there.

    arguments: the last one may be repeated if is_open.
    """

    words: tuple[str, ...]
    options: list[Choice]
    arguments: list[tuple[str, Value]]
    is_open: bool
    commands: list[tuple[str, str]]


def files() -> dict[str, str]:
    """The text of every file by its path below a prefix."""
    found = {}
    for program in programs():
        name, places = program.name, places_of(declaration(program))
        found[f"share/bash-completion/completions/{name}"] = bash(name, places)
        found[f"share/zsh/site-functions/_{name}"] = zsh(name, places)
        found[f"share/fish/vendor_completions.d/{name}.fish"] = fish(name, places)
    return found


# --- what may be typed where ------------------------------------------------------------------------------


def places_of(declared: Command | Commands) -> list[Place]:
    """A command and its subcommands, `help` included if there are any."""
    found = []
    for words, command in walk(declared):
        commands = []
        if isinstance(command, Commands):
            commands = [(subcommand.word, subcommand.summary) for subcommand in command.subcommands]
            named = Value(NOTHING, [word for word, _ in commands])
            found.append(Place((*words, "help"), [], [("command", named)], False, []))
            commands.append(("help", "Print the help of a command."))
        arguments = arguments_of(command)
        found.append(
            Place(
                words,
                [_choice(option) for option in options_of(command)],
                [(name, _argument(" ".join((declared.prog, *words)), name)) for name, _, _ in arguments],
                bool(arguments) and arguments[-1][2],
                commands,
            )
        )
    return found


def _choice(option: Option) -> Choice:
    value = None
    if option.metavar is not None:
        kind = METAVARS.get(option.metavar, NOTHING)
        value = Value(kind, choices_of(option), option.separator)
    return Choice(
        option.flags, first_sentence(help_of(option)), option.metavar or "", value, option.is_repeated
    )


def _argument(prog: str, name: str) -> Value:
    name = name.lower()
    return Value(ARGUMENTS.get(f"{prog} {name}", ARGUMENTS.get(name, NOTHING)))


def first_sentence(words: str) -> str:
    """The first sentence of a help text, without its period and without marks."""
    return re.split(r"\.(?: |$)|; |: ", words.replace("`", ""), maxsplit=1)[0]


def function_name(name: str) -> str:
    """The name of a command's function in a shell."""
    return "_" + name.replace("-", "_")


def _quoted(words: str) -> str:
    """A word in single quotes, for bash and zsh."""
    return "'" + words.replace("'", "'\\''") + "'"


# --- bash -------------------------------------------------------------------------------------------------

_BASH = """\
# bash completion for PROG. Made by tools/manual of pysftpserver.

# What follows an option: sets kind, or returns 1 if nothing does. $1: subcommand, $2: option.
FUNCTION_value() {
    case "$1 $2" in
VALUES
    *) return 1 ;;
    esac
}

# What may stand in a place: sets options, commands and arguments. $1: subcommand.
FUNCTION_place() {
    case "$1" in
PLACES
    esac
}

FUNCTION() {
    # readline splits words at = and : as well; put together what has no blank in between.
    local rest=${COMP_LINE:0:COMP_POINT} words=() word i is_new
    for ((i = 0; i <= COMP_CWORD; i++)); do
        is_new=0
        if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then is_new=1; fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then word=$rest; fi
        if ((is_new)); then words+=("$word"); else words[-1]+=$word; fi
        rest=${rest#"$word"}
    done

    local place='' count=0 last=$((${#words[@]} - 1)) kind='' current=${words[-1]} is_value=0 has_ended=0
    local options='' commands='' arguments=()
    FUNCTION_place ''
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        if ((has_ended)); then
            count=$((count + 1))
        elif [[ $word == -- ]]; then
            has_ended=1
        elif [[ $word == -?* ]]; then
            if FUNCTION_value "$place" "$word"; then
                i=$((i + 1))
                if ((i == last)); then is_value=1; fi
            fi
        elif [[ $count == 0 && " $commands " == *" $word "* ]]; then
            place="${place:+$place }$word"
            FUNCTION_place "$place"
        else
            count=$((count + 1))
        fi
    done

    COMPREPLY=()
    local candidates=() before=''
    if ((!is_value)); then
        kind=''
        if ((!has_ended)) && [[ $current == --*=* ]]; then
            FUNCTION_value "$place" "${current%%=*}" || return
            current=${current#*=}
        elif ((!has_ended)) && [[ $current == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            return
        else
            if ((count >= ${#arguments[@]} && ${#arguments[@]})); then
                if [[ ${arguments[-1]} == *+ ]]; then kind=${arguments[-1]%+}; fi
            elif ((count < ${#arguments[@]})); then
                kind=${arguments[count]%+}
            fi
            if ((count == 0)); then
                mapfile -t candidates < <(compgen -W "$commands" -- "$current")
            fi
        fi
    fi
    local found=()
    case $kind in
    file)
        compopt -o filenames
        mapfile -t found < <(compgen -f -- "$current")
        ;;
    dir)
        compopt -o filenames
        mapfile -t found < <(compgen -d -- "$current")
        ;;
    host)
        mapfile -t found < <(compgen -A hostname -- "$current")
        ;;
    account)
        mapfile -t found < <(compgen -u -- "$current")
        ;;
    group)
        mapfile -t found < <(compgen -g -- "$current")
        ;;
    storage)
        compopt -o nospace
        case $current in
        jail:* | plain:*)
            compopt -o filenames
            mapfile -t found < <(compgen -P "${current%%:*}:" -d -- "${current#*:}")
            ;;
        *)
            # Names of files are inserted as they are here, so what the shell would run or split is quoted.
            mapfile -t found < <(compgen -f -X '!*.toml' -- "$current")
            for i in "${!found[@]}"; do printf -v "found[i]" %q "${found[i]}"; done
            mapfile -t -O "${#found[@]}" found < <(compgen -W 'PREFIXES' -- "$current")
            ;;
        esac
        ;;
    words\\ *)
        mapfile -t found < <(compgen -W "${kind#* }" -- "$current")
        ;;
    list\\ *)
        compopt -o nospace
        if [[ $current == *,* ]]; then before=${current%,*},; fi
        mapfile -t found < <(compgen -P "$before" -W "${kind#* }" -- "${current##*,}")
        ;;
    esac
    candidates+=("${found[@]}")

    # What readline takes for the word to replace begins after the last of its breaks.
    local broken=$current
    [[ $COMP_WORDBREAKS == *:* ]] || broken=${broken//:/_}
    [[ $COMP_WORDBREAKS == *=* ]] || broken=${broken//=/_}
    local tail=${broken##*[:=]}
    local cut=$((${#current} - ${#tail}))
    for word in "${candidates[@]}"; do
        COMPREPLY+=("${word:cut}")
    done
}

complete -F FUNCTION PROG
"""


def bash(name: str, places: list[Place]) -> str:
    """The file for bash."""
    values = []
    stands = []
    for place in places:
        words = " ".join(place.words)
        for choice in place.options:
            if choice.value is not None:
                patterns = " | ".join(_quoted(f"{words} {flag}") for flag in choice.flags)
                values.append(f"    {patterns}) kind={_quoted(_bash_kind(choice.value))} ;;")
        flags = " ".join(flag for choice in place.options for flag in choice.flags)
        arguments = [_bash_kind(value) for _, value in place.arguments]
        if place.is_open:
            arguments[-1] += "+"
        stands += [
            f"    {_quoted(words)})",
            f"        options={_quoted(flags)}",
            f"        commands={_quoted(' '.join(word for word, _ in place.commands))}",
            f"        arguments=({' '.join(map(_quoted, arguments))})",
            "        ;;",
        ]
    found = _BASH.replace("FUNCTION", function_name(name)).replace("PROG", name)
    found = found.replace("PREFIXES", " ".join(PREFIXES))
    return found.replace("VALUES", "\n".join(values)).replace("PLACES", "\n".join(stands))


def _bash_kind(value: Value) -> str:
    if value.words:
        return f"{'list' if value.separator else 'words'} {' '.join(value.words)}"
    return value.kind


# --- zsh --------------------------------------------------------------------------------------------------


def zsh(name: str, places: list[Place]) -> str:
    """The file for zsh."""
    function = function_name(name)
    lines = [f"#compdef {name}", "# Made by tools/manual of pysftpserver.", ""]
    if any(value.kind == STORAGE for place in places for value in _values(place)):
        lines += [
            f"{function}__storage() {{",
            "    if compset -P 'jail:' || compset -P 'plain:'; then",
            "        _files -/",
            "    else",
            "        _alternative \\",
            f"            'storages:storage:compadd -S \"\" - {' '.join(PREFIXES)}' \\",
            "            'files:site file:_files -g \"*.toml(-.)\"'",
            "    fi",
            "}",
            "",
        ]
    for place in places:
        lines += [*_zsh_place(function, place), ""]
    return "\n".join([*lines, f'{function} "$@"', ""])


def _values(place: Place) -> Iterator[Value]:
    yield from (value for _, value in place.arguments)
    yield from (choice.value for choice in place.options if choice.value is not None)


def _zsh_name(function: str, words: Sequence[str]) -> str:
    return "_".join((function, *(word.replace("-", "_") for word in words)))


def _zsh_place(function: str, place: Place) -> list[str]:
    lines = [f"{_zsh_name(function, place.words)}() {{", "    local -a options=("]
    lines += [f"        {spec}" for choice in place.options for spec in _zsh_option(function, choice)]
    lines.append("    )")
    arguments = []
    for at, (name, value) in enumerate(place.arguments, 1):
        is_open = place.is_open and at == len(place.arguments)
        arguments.append(_quoted(f"{'*' if is_open else at}:{name}:{_zsh_action(function, value)}"))
    if not place.commands:
        return [*lines, f"    {' '.join(('_arguments -s -S $options', *arguments))}", "}"]
    own = place.arguments[0] if place.arguments else None
    lines += [
        "    local curcontext=$curcontext state line ret=1",
        "    typeset -A opt_args",
        "    _arguments -C -s -S $options '1: :->command' '*:: :->argument' && ret=0",
        "    case $state in",
        "    command)",
        "        local -a commands=(",
        *(f"            {_quoted(f'{word}:{summary}')}" for word, summary in place.commands),
        "        )",
        "        _describe -t commands command commands && ret=0",
        *([f"        {_zsh_action(function, own[1])} && ret=0"] if own is not None and own[1].kind else []),
        "        ;;",
        "    argument)",
        "        case $line[1] in",
        *(
            f"        {word}) {_zsh_name(function, (*place.words, word))} && ret=0 ;;"
            for word, _ in place.commands
        ),
        "        esac",
        "        ;;",
        "    esac",
        "    return ret",
        "}",
    ]
    return lines


def _zsh_option(function: str, choice: Choice) -> list[str]:
    summary = re.sub(r"([\[\]\\:])", r"\\\1", choice.summary)
    value = ""
    if choice.value is not None:
        value = f":{choice.metavar}:{_zsh_action(function, choice.value)}"
    others = f"({' '.join(choice.flags)})" if len(choice.flags) > 1 and not choice.is_repeated else ""
    if choice.summary.endswith("and exit"):
        others = "(- *)"
    star = "*" if choice.is_repeated else ""
    found = []
    for flag in choice.flags:
        sign = "" if choice.value is None else "=" if flag.startswith("--") else "+"
        found.append(_quoted(f"{star}{others}{flag}{sign}[{summary}]{value}"))
    return found


def _zsh_action(function: str, value: Value) -> str:
    if value.separator:
        return f"_sequence compadd - {' '.join(value.words)}"
    if value.words:
        return f"({' '.join(value.words)})"
    return {
        FILE: "_files",
        DIRECTORY: "_files -/",
        HOST: "_hosts",
        ACCOUNT: "_users",
        GROUP: "_groups",
        STORAGE: f"{function}__storage",
        NOTHING: " ",
    }[value.kind]


# --- fish -------------------------------------------------------------------------------------------------

_FISH = """\
# fish completion for PROG. Made by tools/manual of pysftpserver.

# Whether the cursor is in a subcommand, and at its argument of a number. $argv: subcommand, number.
function __FUNCTION_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l place
    set -l count 1
    set -l is_value 0
    set -l has_ended 0
    for word in $words
        if test $is_value = 1
            set is_value 0
        else if test $has_ended = 1
            set count (math $count + 1)
        else
            switch $word
                case --
                    set has_ended 1
                case '-*'
                    contains -- "$place $word" VALUES; and set is_value 1
                case '*'
                    if test $count = 1; and contains -- "$place/$word" COMMANDS
                        set -a place $word
                    else
                        set count (math $count + 1)
                    end
            end
        end
    end
    test "$place" = "$argv[1]"; or return 1
    test (count $argv) = 1; and return 0
    if string match -q -- '*+' $argv[2]
        test $count -ge (string trim -r -c + -- $argv[2])
    else
        test $count = $argv[2]
    end
end
STORAGE
complete -c PROG -f
"""
_FISH_STORAGE = """
function __FUNCTION_storage
    set -l word (commandline -ct | string replace -r '^--[^=]*=' '')
    if string match -q -r '^(jail|plain):' -- $word
        set -l parts (string split -m 1 : -- $word)
        __fish_complete_directories $parts[2] '' | string replace -r '^' "$parts[1]:"
    else
        printf '%s\\n' PREFIXES
        complete -C "'' "(string escape -- $word) | string match -r '^.*(?:/|\\.toml)$'
    end
end
"""


def fish(name: str, places: list[Place]) -> str:
    """The file for fish."""
    has_storages = any(value.kind == STORAGE for place in places for value in _values(place))
    values = [
        _fish_quoted(f"{' '.join(place.words)} {flag}")
        for place in places
        for choice in place.options
        if choice.value is not None
        for flag in choice.flags
    ]
    commands = [
        _fish_quoted(f"{' '.join(place.words)}/{word}") for place in places for word, _ in place.commands
    ]
    head = _FISH.replace("STORAGE", _FISH_STORAGE if has_storages else "")
    head = head.replace("VALUES", " ".join(values)).replace("COMMANDS", " ".join(commands))
    head = head.replace("PREFIXES", " ".join(PREFIXES))
    head = head.replace("FUNCTION", function_name(name)[1:]).replace("PROG", name)
    return "\n".join([head.rstrip(), *(line for place in places for line in _fish_place(name, place)), ""])


def _fish_place(name: str, place: Place) -> Iterator[str]:
    words = " ".join(place.words)
    at = f"__{function_name(name)[1:]}_at {_fish_quoted(words)}"
    for word, summary in place.commands:
        yield f"complete -c {name} -n {_fish_quoted(f'{at} 1')} -a {word} -d {_fish_quoted(summary)}"
    for choice in place.options:
        flags = " ".join(
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in choice.flags
        )
        value = "" if choice.value is None else f" {_fish_value(name, choice.value, is_option=True)}"
        yield f"complete -c {name} -n {_fish_quoted(at)} {flags}{value} -d {_fish_quoted(choice.summary)}"
    for number, (_, value) in enumerate(place.arguments, 1):
        is_open = place.is_open and number == len(place.arguments)
        if offered := _fish_value(name, value, is_option=False):
            there = f"{at} {number}{'+' if is_open else ''}"
            yield f"complete -c {name} -n {_fish_quoted(there)} {offered}"


def _fish_value(name: str, value: Value, is_option: bool) -> str:
    needs = "-x " if is_option else ""
    if value.separator:
        printing = _fish_quoted(f"string split ' ' '{' '.join(value.words)}'")
        return f"{needs}-a " + _fish_quoted(f"(__fish_complete_list {value.separator} {printing})")
    if value.words:
        return f"{needs}-a {_fish_quoted(' '.join(value.words))}"
    return {
        FILE: "-r -F" if is_option else "-F",
        DIRECTORY: f"{needs}-a '(__fish_complete_directories)'",
        HOST: f"{needs}-a '(__fish_print_hostnames)'",
        ACCOUNT: f"{needs}-a '(__fish_complete_users)'",
        GROUP: f"{needs}-a '(__fish_complete_groups)'",
        STORAGE: f"{needs}-a '(__{function_name(name)[1:]}_storage)'",
        NOTHING: "-x" if is_option else "",
    }[value.kind]


def _fish_quoted(words: str) -> str:
    return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"
