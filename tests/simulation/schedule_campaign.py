"""Many schedules, and one table of how near they came to the bounds.

A seed says everything: style, market, troubles. To run some and print the table:

    python -m tests.simulation.schedule_campaign --seeds 3000
    python -m tests.simulation.schedule_campaign --first 1234 --seeds 1
"""

from __future__ import annotations

import argparse
import gc
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from daemon.engine.styles import ExecutionRules, Style
from tests.engine.world import CASH_KEY
from tests.simulation.schedule_runs import ORDERS_MIN, Schedule
from tests.simulation.schedules import N, universe

ROUNDING: Final = 1e-9
APPROACHED: Final = 0.9
BINS_N: Final = 10_000  # of a bound: what p99.9 is told to
COLLECT_EVERY: Final = 20  # seeds: then the memory of runs that are over is given back
TELLS_ALL_EVERY: Final = 8  # seeds: then the book is held against the venue's
PROPERTY: Final = "schedules"  # under which a test hands its table to who sums them up
PASSIVE: Final = ExecutionRules(style=Style.PASSIVE, passive_ms=60_000, passive_offset_bps=2.0)
STYLES: Final = {
    "cross": ExecutionRules(),
    "passive": PASSIVE,
    "spread": ExecutionRules(twap_window_ms=900_000, twap_slices_n=3),
    "passive, spread": replace(PASSIVE, twap_window_ms=900_000, twap_slices_n=2),
}
STRUCK: Final = (
    "answers lost",
    "answers lost in a burst",
    "answers lost in an outage",
    "cancels after a part",
    "crashes",
    "fills in an outage",
    "fills of one lot",
    "fills out of order",
    "fills repeated",
    "halts by the engine",
    "instruments gone",
    "instruments reduce only",
    "operator: flatten",
    "operator: kill",
    "operator: pause",
    "operator: reduce_only",
    "orders lost",
    "orders open at a restart",
    "orders refused",
    "orders refused by a halted market",
    "trades of the owner",
    "transfers",
)


@dataclass
class Shares:
    """Count shares of a bound: worst to the last bit, the rest in bins."""

    worst: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, shares: Iterable[float]) -> None:
        """Count some more."""
        seen = list(shares)
        self.worst = max([self.worst, *seen])
        self.bins.update([int(share * BINS_N) for share in seen])

    def quantile(self, share: float) -> float:
        """Give the upper end of the bin up to which this share of all is."""
        left = share * self.bins.total()
        for number in sorted(self.bins):
            left -= self.bins[number]
            if left <= 0:
                return min((number + 1) / BINS_N, self.worst)
        return self.worst

    def merge(self, other: Shares) -> None:
        """Add what another one counted."""
        self.worst = max(self.worst, other.worst)
        self.bins += other.bins


@dataclass
class Row:
    """Sum up runs of one style in one kind of market."""

    runs_n: int = 0
    orders_n: int = 0
    fills_n: int = 0
    orders_min: int = 10**9
    taken: float = 0.0  # of a bound: where others than the engine took an exposure
    net: Shares = field(default_factory=Shares)
    beta: Shares = field(default_factory=Shares)

    def add(self, run: Schedule) -> None:
        """Count a run."""
        truth = run.truth
        self.runs_n += 1
        self.orders_n += run.orders_n
        self.orders_min = min(self.orders_min, run.orders_n)
        self.fills_n += len(truth.seen.net)
        self.taken = max(self.taken, truth.net.taken, truth.beta.taken)
        self.net.add(truth.seen.net)
        self.beta.add(truth.seen.beta)

    def merge(self, other: Row) -> None:
        """Add what another one counted."""
        self.runs_n += other.runs_n
        self.orders_n += other.orders_n
        self.fills_n += other.fills_n
        self.orders_min = min(self.orders_min, other.orders_min)
        self.taken = max(self.taken, other.taken)
        self.net.merge(other.net)
        self.beta.merge(other.beta)


@dataclass
class Table:
    """Hold rows by style and market, and how often each trouble struck."""

    rows: dict[str, Row] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)

    def row(self, name: str) -> Row:
        """Give the row of this name, a new one where there is none."""
        return self.rows.setdefault(name, Row())

    def merge(self, other: Table) -> None:
        """Add what another one counted."""
        for name, row in other.rows.items():
            self.row(name).merge(row)
        self.happened += other.happened

    def total(self, market: str) -> Row:
        """Sum up all styles in one kind of market."""
        found = Row()
        for name, row in self.rows.items():
            if name.endswith(market):
                found.merge(row)
        return found

    def text(self) -> str:
        """Write the table for people."""
        head = f"schedules of {N} instruments; worst and p99.9 of each bound, after every fill"
        names = ("runs", "orders", "fills", "net", "p99.9", "beta", "p99.9", "taken to")
        lines = [head, f"{'':26}" + "".join(f"{name:>11}" for name in names)]
        rows = {**dict(sorted(self.rows.items())), "all, still": self.total("still")}
        rows["all, moving"] = self.total("moving")
        lines += [_line(name, row) for name, row in rows.items() if row.runs_n]
        struck = ", ".join(f"{n} {what}" for what, n in sorted(self.happened.items()))
        return "\n".join([*lines, f"what struck: {struck}"])

    def to_json(self) -> str:
        """Write it so that another process can read it."""
        rows = {
            name: [row.runs_n, row.orders_n, row.fills_n, row.orders_min, row.taken]
            + [[s.worst, sorted(s.bins.items())] for s in (row.net, row.beta)]
            for name, row in self.rows.items()
        }
        return json.dumps({"rows": rows, "happened": self.happened})

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Read what `to_json` wrote."""
        plain = json.loads(text)
        rows = {
            name: Row(*numbers, *(Shares(w, Counter(dict(b))) for w, b in (net, beta)))
            for name, (*numbers, net, beta) in plain["rows"].items()
        }
        return cls(rows, Counter(plain["happened"]))


def _line(name: str, row: Row) -> str:
    shares = (row.net.worst, row.net.quantile(0.999), row.beta.worst, row.beta.quantile(0.999))
    numbers = "".join(f"{n:11,}" for n in (row.runs_n, row.orders_n, row.fills_n))
    return f"{name:26}{numbers}" + "".join(f"{share:11.4f}" for share in (*shares, row.taken))


def style_of(seed: int) -> str:
    """Name the style of a seed."""
    return list(STYLES)[seed % len(STYLES)]


def run_of(seed: int, **others: Any) -> Schedule:
    """Run the schedule of a seed; it raises where an order is sent twice or the books break."""
    return Schedule(seed, STYLES[style_of(seed)], **others).run()


def check(run: Schedule, seed: int) -> None:
    """Hold a run against the bounds, after each fill and as of each order that left."""
    truth = run.truth
    assert run.orders_n > ORDERS_MIN, f"seed {seed}: only {run.orders_n} orders"
    for name, seen, sent in (
        ("net", truth.seen.net, truth.sent.net),
        ("beta", truth.seen.beta, truth.sent.beta),
    ):
        assert max(seen) <= 1 + ROUNDING, f"seed {seed}: after a fill {name} {max(seen)}"
        assert max(sent) <= 1 + ROUNDING, f"seed {seed}: after an order {name} {max(sent)}"
    if seed % TELLS_ALL_EVERY == 0:
        tell_all(run, seed)


def tell_all(run: Schedule, seed: int) -> None:
    """Tell all that was executed once more: the book must be the venue's to the last digit."""
    run.crashes.clear()  # what was planned for later must not strike here
    for event in run.venue.executions:
        run.say(event)
    ledger = run.engine.state.book.ledger
    held = [ledger.quantity(one.key) for one in universe().instruments]
    assert held == run.truth.held, f"seed {seed}: the book is not the venue's"
    assert ledger.cash[CASH_KEY] == run.truth.cash, f"seed {seed}: the cash is not the venue's"


def campaign(seeds: Sequence[int]) -> Table:
    """Run all seeds; fail at the first with a fill that could lead past a bound."""
    table = Table()
    with rarely_collected() as collect:
        for seed in seeds:
            run = run_of(seed)
            market = "moving" if run.troubles.moves else "still"
            table.row(f"{style_of(seed)}, {market}").add(run)
            table.happened += run.happened
            check(run, seed)
            if seed % COLLECT_EVERY == 0:
                collect()
    return table


@contextmanager
def rarely_collected() -> Iterator[Callable[[], object]]:
    """Let cycles be collected when asked only: a run makes many objects, and few are in cycles."""
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def check_reach(table: Table, struck: Sequence[str] = STRUCK) -> None:
    """Hold a campaign to what it is for: bounds are approached, and all troubles strike."""
    still = table.total("still")
    assert still.net.worst > APPROACHED, f"net came only to {still.net.worst} of its bound"
    assert still.beta.worst > APPROACHED, f"beta came only to {still.beta.worst} of its bound"
    missed = [what for what in struck if not table.happened[what]]
    assert not missed, f"never struck: {missed}"


def summary(properties: Iterable[tuple[str, object]]) -> str:
    """Sum up what tests handed over under PROPERTY; '' where there is nothing."""
    table = Table()
    for name, value in properties:
        if name == PROPERTY:
            table.merge(Table.from_json(str(value)))
    return table.text() if table.rows else ""


def main() -> None:
    """Run what the command line asks for and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    asked = parser.parse_args()
    print(campaign(range(asked.first, asked.first + asked.seeds)).text())


if __name__ == "__main__":
    main()
