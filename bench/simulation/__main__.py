"""`make simulate`: simulates many users of pysftpd, and writes the results.

    python -m bench.simulation [--json FILE] [--little]

It reads bench/recorded/costs.json and writes bench/recorded/simulated.json, from which `make docs-tables`
writes the tables of docs/scale.md. The same costs and the same seed give the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.costs import rounded
from bench.simulation import costs
from bench.simulation.assumptions import EIGHT, HOUR, SEED, People, Site
from bench.simulation.runs import Outcome, simulated

#: Numbers of users with which one machine is tried, until it is too slow.
TRIED = (1_000, 10_000, 15_000, 20_000, 30_000, 40_000)
LITTLE = (10, 100)
ONE = {
    "one worker, object store": Site(workers=1),
    "two workers, object store": Site(),
    "two workers, object store, quota in Redis": Site(quota=True),
    "two workers, GridFS": Site(store="GridFS"),
    "two workers, jail": Site(store="jail"),
}
MANY = 100_000
LARGE = Site(machines=2, processors=4, workers=4, network=10 * Site().network)
#: What is added for MANY users, step by step: the words for it, the site, and the length of the burst.
ADDED = (
    ("one machine", Site(), 300.0),
    ("2 machines", Site(machines=2), 300.0),
    ("2 machines of 4 processors with 10 Gbit/s", LARGE, 300.0),
    ("4 machines", Site(machines=4), 300.0),
    ("4 machines, a quota with one ledger", Site(machines=4, quota=True), 300.0),
    ("4 machines, the quota in 4 ledgers", Site(machines=4, quota=True, ledgers=4), 300.0),
    ("4 machines, one GridFS database", Site(machines=4, store="GridFS"), 300.0),
    ("2 machines, 08:00 spread over half an hour", Site(machines=2), 1800.0),
)


def run(users: int, site: Site, burst: float = 300.0) -> Outcome:
    """Simulate a whole day for few users, and the time around 08:00 for many."""
    day = (0.0, 24 * HOUR) if users <= 1_000 else (EIGHT - 120, EIGHT + burst + 120)
    ledger = costs.ledger() if site.quota else None
    return simulated(users, site, costs.pysftpd(site.store), ledger, People(burst=burst), day)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, default=costs.RECORDED / "simulated.json", metavar="FILE")
    parser.add_argument("--little", action="store_true", help="simulate few users, to see that it works")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {"one": {}, "many": [], "seed": SEED}

    def said(words: str, outcome: Outcome) -> dict[str, Any]:
        held = f", {outcome.limit} busy" if outcome.limit else ""
        print(
            f"{words}: logins {outcome.login_slow:.2f} s, files {outcome.file_slow:.2f} s{held}",
            file=sys.stderr,
        )
        return {**asdict(outcome), "is_good": outcome.is_good}

    for name, site in ONE.items():
        found["one"][name] = rows = []
        for users in LITTLE if given.little else TRIED:
            outcome = run(users, site)
            rows.append(said(f"{name}, {users:,} users", outcome))
            if not outcome.is_good:
                break
    many = 1_000 if given.little else MANY
    for words, site, burst in ADDED:
        outcome = run(many, site, burst)
        found["many"].append({"words": words, **said(f"{many:,} users, {words}", outcome)})
    found.update(users=many, date=time.strftime("%Y-%m-%d", time.gmtime()))
    given.json.write_text(json.dumps(rounded(found), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
