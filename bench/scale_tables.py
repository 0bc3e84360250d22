"""The tables of docs/scale.md, from the figures in bench/recorded: `make docs-tables` writes them.

What may not enter: measuring, simulating. Only load() simulates again, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.simulation.assumptions import MIB, People, Site
from bench.simulation.costs import KINDS, Cost, Costs, ledger, pysftpd, recorded
from bench.simulation.load import compared
from bench.simulation.runs import SHARE, WITHIN

POPULATIONS = (10, 1_000, 100_000)
LEAST = 16  # KiB: smaller figures are noise from the server's own memory
SHOWN = 3  # rows of one machine, the last of which is the first load that is too much for it
IN_PROCESS = "pysftpd"  # the row of sessions that are processes


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def ms(seconds: float | None) -> str:
    """Milliseconds, with significant digits only."""
    if seconds is None:
        return "-"
    value = 1000 * seconds
    if value < 0.02:
        return "< 0.02"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def of(row: dict[str, Any], kind: str) -> str:
    return ms(row["seconds"].get(kind))


def measured_on() -> str:
    """When and on what the costs were measured."""
    found = recorded("costs")
    on = found["machine"]
    return (
        f"Measured on {found['date']}: {on['processor']}, {on['system']}, Python {on['python']}, "
        f"{on['openssh']}, asyncssh {on['asyncssh']}, Redis {on['redis']}.\n"
    )


def doors() -> str:
    """Processor time at each door."""
    rows = recorded("costs")["doors"]
    head = ["door", "login", "session", "request", "put 16 KiB", "get 16 KiB", "put 1 MiB", "get 1 MiB"]
    return table(head, ([name, *(of(row, kind) for kind in KINDS)] for name, row in rows.items()))


def memory() -> str:
    """Memory of an idle session at each door."""
    found = []
    for name, row in recorded("costs")["doors"].items():
        idle = row["idle"]
        if "memory" in idle:
            size = idle["memory"] / 1024
            cells = [
                f"{size:,.0f}" if size >= LEAST else f"< {LEAST}",
                f"{idle['descriptors']:.1f}",
                f"{idle['processes']:.1f}",
            ]
        else:
            cells = ["-", "-", "-"]
        found.append([name, *cells, f"{idle['server'] / MIB:.0f}"])
    return table(["door", "memory (KiB)", "descriptors", "processes", "the server itself (MiB)"], found)


def storages() -> str:
    """Processor time and memory with each storage, without SSH."""
    kinds = [kind for kind in KINDS if kind != "login"]
    head = ["storage", "session", "request", "put 16 KiB", "get 16 KiB", "put 1 MiB", "get 1 MiB"]
    rows = recorded("costs")["storages"]
    return table(
        [*head, "memory (MiB)", "descriptors"],
        (
            [
                name,
                *(of(row, kind) for kind in kinds),
                f"{row['idle']['memory'] / MIB:.1f}",
                f"{row['idle']['descriptors']:.0f}",
            ]
            for name, row in rows.items()
        ),
    )


def behind() -> str:
    """pysftpd with users in Redis, and the share of the process that does SSH in each cost."""
    rows = recorded("costs")["pysftpd and Redis"]
    head = ["files in", "login", "session", "request", "put 16 KiB", "get 16 KiB", "put 1 MiB", "get 1 MiB"]

    def cell(row: dict[str, Any], kind: str) -> str:
        return f"{of(row, kind)} ({ms(min(row['busiest'][kind], row['seconds'][kind]))})"

    return table(head, ([name, *(cell(row, kind) for kind in KINDS)] for name, row in rows.items()))


def trips() -> str:
    """Requests to the services behind the servers."""
    found = recorded("costs")
    rows = []
    for group in ("pysftpd and Redis", "storages"):
        for name, row in found[group].items():
            title = f"pysftpd, {name}" if group != "storages" else f"pysftpsite, {name}"
            for service, made in row["trips"].items():
                rows.append([title, service, *(asked(made.get(kind, {})) for kind in KINDS)])
    head = ["door and storage", "asks", "login", "session", "STAT", "put 16 KiB", "get 16 KiB", "put 1 MiB"]
    return table([*head, "get 1 MiB"], rows)


def asked(made: dict[str, float]) -> str:
    """Requests by name. A Redis script counts as one, whatever it does."""
    scripts = made.get("eval", 0) + made.get("evalsha", 0)
    if scripts:
        return f"{scripts:g} scripts with {sum(made.values()) - scripts:g} commands"
    return ", ".join(f"{calls:.2g} {name}" for name, calls in made.items()) or "none"


def users() -> str:
    """What users in Redis cost a worker that knows them."""
    row = recorded("costs")["users"]["in Redis"]
    return table(
        ["for each 1,000 users", "a worker"],
        [
            ["processor time to read them at the start", f"{1e6 * row['processor']:.0f} ms"],
            ["memory", f"{1000 * row['memory'] / MIB:.1f} MiB"],
            ["commands to Redis at the start", f"{1000 * row['commands']:,.0f}"],
            ["processor time of Redis for those", f"{1e6 * row['redis']:.0f} ms"],
        ],
    )


def files_of(people: People, costs: Costs) -> Cost:
    """The files of a session."""
    return costs.stored(people.size) * people.puts + costs.fetched(people.size) * people.gets


def arithmetic() -> str:
    """The arithmetic for some populations."""
    people, store = People(), "object store"
    costs = pysftpd(store)
    session = costs.login + costs.session + files_of(people, costs)
    processor = session.worker + session.others
    here = Site()
    at_once = people.distance * 6 + (people.puts + people.gets) * (people.pause + people.size / people.link)
    process = recorded("costs")["doors"][IN_PROCESS]["idle"]["memory"]
    each = recorded("costs")["users"]["in Redis"]
    rows: dict[str, list[str]] = {}

    def add(title: str, value: str) -> None:
        rows.setdefault(title, []).append(value)

    for count in POPULATIONS:
        active = round(count * people.active)
        sessions = people.sessions(count)
        files = sessions * (people.puts + people.gets)
        rate = active / people.burst
        moved = (people.puts + people.gets) * people.size
        add("users of a day", f"{active:,}")
        add("logins a day", f"{sessions:,}")
        add("files a day", f"{files:,}")
        add("GiB a day", f"{files * people.size / 1024:,.2f}")
        add("processor time a day", f"{sessions * processor:,.0f} s")
        add("logins a second at 08:00", f"{rate:,.2f}")
        add("processors busy at 08:00", f"{rate * processor:,.2f}")
        need = rate * costs.login.worker / here.login_share
        add(f"workers, for their login_share of {here.login_share:.0%}", f"{max(1, -(-need // 1)):,.0f}")
        add("machines of 2 processors, 70 % busy", f"{max(1, -(-rate * processor // (0.7 * 2))):,.0f}")
        add("Gbit/s at 08:00", f"{rate * moved * MIB * 8 / 1e9:,.3f}")
        add("sessions at once at 08:00", f"{rate * at_once:,.0f}")
        add("their memory where they are processes", f"{rate * at_once * process / MIB:,.0f} MiB")
        add("requests to the bucket a second at 08:00", f"{rate * session.trips:,.1f}")
        add(
            "scripts in Redis a second at 08:00, with a quota",
            f"{rate * people.puts * ledger().scripts:,.1f}",
        )
        add("memory of each worker for the users that it knows", f"{count * each['memory'] / MIB:,.1f} MiB")
        add("seconds until a worker has read them", f"{count * each['processor']:,.2f}")
    return table(
        ["", *(f"{count:,} users" for count in POPULATIONS)], ([title, *row] for title, row in rows.items())
    )


def assumptions() -> str:
    """What the arithmetic and the simulation assume."""
    people, here = People(), Site()
    rows = [
        ["users who come on a day", f"{people.active:.0%}"],
        [
            "logins of each",
            f"{people.logins} a day; everybody's first within {people.burst:.0f} seconds after 08:00",
        ],
        ["files of a session", f"{people.puts} stored and {people.gets} fetched, of {people.size:g} MiB"],
        ["between two files", f"{people.pause:g} s on average"],
        [
            "a user's line",
            f"{people.link * MIB * 8 / 1e6:.0f} Mbit/s, {1000 * people.distance:.0f} ms round trip",
        ],
        ["a machine", f"{here.processors} processors, {here.network * MIB * 8 / 1e9:.0f} Gbit/s"],
    ]
    from bench.simulation.assumptions import STORES

    for name, one in STORES.items():
        if name != "jail":
            pace = f"{one.requests:,.0f} requests and {one.bandwidth:,.0f} MiB a second"
            rows.append([name, f"{1000 * one.latency:.0f} ms a request, {pace}"])
    near = next(iter(STORES.values()))
    rows.append(
        [
            "Redis",
            f"{1000 * near.near:g} ms round trip, {near.commands:,.0f} commands a second, one at a time",
        ]
    )
    return table(["what", "assumed"], rows)


def load() -> str:
    """The load measured with few clients, and the simulated one."""
    found = recorded("load")
    rows = []
    for measured, said in compared(found):
        off = said["rate"] / measured["rate"] - 1
        rows.append(
            [
                f"{measured['clients']:.0f}",
                f"{measured['rate']:.1f}",
                f"{said['rate']:.1f}",
                f"{off:+.0%}",
                ms(measured["session"]),
                ms(said["session"]),
                ms(measured["login"]),
                ms(said["login"]),
            ]
        )
    head = [
        "clients",
        "sessions a second",
        "simulated",
        "error",
        "a session (ms)",
        "simulated",
        "its login (ms)",
    ]
    return table([*head, "simulated"], rows)


def load_on() -> str:
    """When the load was measured."""
    found = recorded("load")
    on = found["machine"]
    return f"Measured on {found['date']}: {on['processor']}, {on['system']}, {found['seconds']:.0f} s each.\n"


def outcome(row: dict[str, Any]) -> list[str]:
    busiest = sorted(row["busy"].items(), key=lambda item: -item[1])[:2]
    return [
        "yes" if row["is_good"] else "**no**",
        *(f"{row[name]:.2f}" for name in ("login_median", "login_slow", "login_worst", "file_slow")),
        f"{row['most']:,}",
        ", ".join(f"{name} {share:.0%}" for name, share in busiest),
    ]


HEAD = [
    "enough",
    "login, median (s)",
    f"login, {SHARE:.0%} (s)",
    "slowest login (s)",
    f"file, {SHARE:.0%} (s)",
    "sessions at once on a machine",
    "busiest at 08:00",
]


def one_machine() -> str:
    """How many users one machine can serve."""
    rows = [
        [name, f"{row['users']:,}", *outcome(row)]
        for name, tried in recorded("simulated")["one"].items()
        for row in tried[-SHOWN:]
    ]
    return table(["a machine of 2 processors", "users", *HEAD], rows)


def many() -> str:
    """What many users need."""
    found = recorded("simulated")
    return table(
        [f"for {found['users']:,} users", *HEAD], ([row["words"], *outcome(row)] for row in found["many"])
    )


def enough() -> str:
    """What counts as enough."""
    return f"A row is enough where {SHARE:.0%} of logins, and of files, take at most {WITHIN:.0f} seconds.\n"
