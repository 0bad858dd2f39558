"""Crash at every await and every write, start again, and hold the venue's orders against intents.

`python -m tests.simulation.crash_campaign` prints the table for both dialects; `--all` crashes at
every point of every chunk, as the long tests do.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import structlog

from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import Origin
from adapters.rehearsal.server import RunningExchange
from daemon.domain.messages import OrderAbsent, OrderRejected, Submit
from daemon.domain.units import HOUR_MS
from daemon.engine.engine import Engine
from daemon.wiring.instruments import write_instruments
from tests.e2e.live_rig import KEY, bank_of, check_agrees, journalled
from tests.simulation import jumping_loop
from tests.simulation.crash_points import Camera, Image, put_back
from tests.simulation.jumping_loop import here
from tests.simulation.live_line import (
    WINDOW_MS,
    Line,
    Market,
    generated_market,
    live_line,
    request_of,
)
from tests.simulation.paper_line import BEGIN_MS, SOURCE

VENUES: Final = ("binanceusdm", "bybit")
HOURS: Final = 4
DOWNTIMES_MS: Final = (0, 0, 0, 0, 0, HOUR_MS // 2, 3 * HOUR_MS)
GOES_ON_MS: Final = (0, 0, 0, HOUR_MS)  # beyond the next bar
LATE_SHARE: Final = 0.8  # of the receive window: clocks are known to the rest of it
FAILURES_SHOWN: Final = 5
CHUNKS: Final = 3  # of each dialect, each over a market of its own
SAMPLED: Final = 38  # points of such a chunk, those within recoveries apart
AGAIN: Final = (2, 3)  # recoveries that are crashed in themselves, crashes of each
ARRIVAL_MARGIN_S: Final = 0.05
"""Believe absence sooner: the clock of a loopback venue is known to less than that."""


@dataclass
class Tally:
    """Count what the crashes of one kind led to."""

    points: int = 0
    orders: int = 0
    doubled: int = 0
    orphaned: int = 0
    lost: int = 0
    differences: int = 0
    seconds_max: float = 0.0
    late: int = 0
    absent: int = 0
    rested: int = 0

    def add(self, other: Tally) -> None:
        """Take another one's counts in."""
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, max(mine, theirs) if name == "seconds_max" else mine + theirs)

    @property
    def wrong(self) -> int:
        """Count what must never be."""
        return self.doubled + self.orphaned + self.lost + self.differences


@dataclass
class Summary:
    """Hold a campaign: a tally by venue and kind of point, and what went wrong in words."""

    kinds: dict[tuple[str, str], Tally] = field(default_factory=dict)
    steps_n: int = 0
    known_n: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Take another campaign in."""
        for name, tally in other.kinds.items():
            self.kinds.setdefault(name, Tally()).add(tally)
        self.steps_n += other.steps_n
        self.known_n += other.known_n
        self.failures += other.failures

    def total(self, venue: str = "") -> Tally:
        """Add the tallies of a venue up, or all of them."""
        found = Tally()
        for (named, _), tally in self.kinds.items():
            if venue in ("", named):
                found.add(tally)
        return found

    def text(self) -> str:
        """Write the table for people."""
        head = "points orders doubled orphaned lost differences seconds"
        widths = [len(name) for name in head.split()]
        lines = [f"{'venue':12} {'abandoned at':36} {head}"]
        venues = sorted({venue for venue, _ in self.kinds})
        named = [(v, k, t) for (v, k), t in sorted(self.kinds.items())]
        named += [(venue, "all", self.total(venue)) for venue in venues]
        for venue, kind, one in named:
            counts = (
                one.points, one.orders, one.doubled, one.orphaned, one.lost, one.differences,
                f"{one.seconds_max:.2f}",
            )  # fmt: skip
            cells = (f"{c:>{w}}" for c, w in zip(counts, widths, strict=True))
            lines.append(f"{venue:12} {kind:36} {' '.join(cells)}")
        every = self.total()
        lines.append(
            f"{every.points} crashes at {self.known_n} known points, found after each of "
            f"{self.steps_n} steps of all tasks; orders rested in {every.rested}; {every.late} had "
            f"requests arrive after the restart; {every.absent} intents never arrived and were "
            "told absent or refused; seconds: the longest until the book could trade again"
        )
        return "\n".join([*lines, *self.failures[:FAILURES_SHOWN]])


# ---- the verdict ---------------------------------------------------------------------------------


def asked_for(order: BankOrder) -> tuple[object, ...]:
    """Give what makes an order at the venue the one that was intended."""
    return order.client_id, order.symbol, order.quantity, order.kind, order.price, order.reduce_only


def verdict(state: Path, engine: Engine, running: RunningExchange) -> tuple[Tally, str]:
    """Hold the venue against the journal and the book; say what is wrong, "" for nothing."""
    events, commands = journalled(state)
    intents: Counter[tuple[object, ...]] = Counter()
    for one in (c.approved.order for c in commands if isinstance(c, Submit)):
        r = request_of(one)
        intents[r.client_id, r.symbol, r.quantity, r.kind, r.price, r.reduce_only] += 1
    bank = bank_of(running)
    there = Counter(asked_for(o) for o in bank.orders(KEY) if o.origin is Origin.API)
    names = Counter(one[0] for one in there.elements())
    refused = {e.order_id for e in events if isinstance(e, OrderAbsent | OrderRejected)}
    disowned = {e.order_id for e in events if isinstance(e, OrderAbsent)} & set(names)
    resting = {o.client_id for o in bank.open_orders(KEY) if o.origin is Origin.API}
    ours = set(engine.state.orders.open)
    missing = {one[0] for one in intents - there} - refused
    strange = {one[0] for one in there if one not in intents}
    told = Tally(
        orders=there.total(),
        doubled=(names.total() - len(names)) + (intents.total() - len(intents)),
        orphaned=len(strange | disowned | (resting - ours)),
        lost=len(missing | (ours - resting)),
        absent=len({one[0] for one in intents} - set(names)),
    )
    differs = difference(engine, running)
    told.differences = bool(differs)
    if not told.wrong:
        return told, ""
    doubled = [name for name, n in names.items() if n > 1]
    return told, (
        f"doubled {doubled}, strange {sorted(map(str, strange))}, told absent {sorted(disowned)}, "
        f"only there {sorted(resting - ours)}, only ours {sorted(ours - resting)}, lost "
        f"{sorted(map(str, missing))}; {differs}"
    )


def difference(engine: Engine, running: RunningExchange) -> str:
    """Say where the book is not the venue's: positions, cash, fees, funding; "" for nowhere."""
    try:
        check_agrees(engine.state.book.ledger, running)
    except AssertionError as told:
        return f"the book is not the venue's: {str(told)[:300]}"
    return ""


# ---- crashing ------------------------------------------------------------------------------------


@dataclass
class Campaign:
    """Crash a line at chosen images, also while it recovers from the crash before."""

    line: Line
    folder: Path
    dice: random.Random
    told: Summary = field(default_factory=Summary)
    number: int = 0

    async def album(self, hours: int) -> list[Image]:
        """Trade some hours from nothing; give every point at which a crash is another one."""
        state = self._state("first")
        camera = Camera(self.line.running, state, self.dice)
        camera.shoot("journal: nothing is there")
        end_ms = BEGIN_MS + hours * HOUR_MS
        engine = await self.line.run(state, end_ms, camera)
        _, wrong = verdict(state, engine, self.line.running)
        assert not wrong, wrong
        self.told.steps_n += camera.steps_n
        self.told.known_n += len(camera.images)
        return camera.images

    async def recover(self, image: Image, kind: str, *, looks: bool = False) -> list[Image]:
        """Start anew from an image and check everything; gives the points of the recovery."""
        line, dice = self.line, self.dice
        self.number += 1
        state = self._state(f"again{self.number}")
        put_back(image, line.running, state)
        others = [one for one in image.under_way if one not in image.sure]
        late = [*image.sure, *(one for one in others if dice.random() < 0.5)]
        downtime_ms = 0 if late else dice.choice(DOWNTIMES_MS)
        rests = bool(bank_of(line.running).open_orders(KEY))
        await self._down(downtime_ms)
        begun_s, now_ms = here().time(), line.running.exchange.now_ms
        camera = Camera(line.running, state, dice) if looks else None
        window_s = LATE_SHARE * WINDOW_MS / 1000
        arriving = [(dice.uniform(0, window_s), one) for one in late]
        end_ms = SOURCE.next_close(now_ms) + dice.choice(GOES_ON_MS)
        engine = await line.run(state, end_ms, camera, arriving)
        tally, wrong = verdict(state, engine, line.running)
        assert line.recovered_s, "the book never traded again"
        tally.points, tally.seconds_max = 1, line.recovered_s - begun_s
        tally.late, tally.rested = bool(late), rests
        self.told.kinds.setdefault((line.market.venue, kind), Tally()).add(tally)
        if wrong:
            at = f"{line.market.venue}, {kind}, at {image.now_ms}, down {downtime_ms} ms"
            self.told.failures.append(f"{at}, late {[r.what for r in late]}: {wrong}")
        shutil.rmtree(state)
        return [] if camera is None else camera.images

    async def again(self, images: Sequence[Image], recoveries: int, crashes: int) -> None:
        """Crash in recoveries, and in the recoveries from those crashes."""
        for image in spread(images, recoveries):
            inside = await self.recover(image, image.kind, looks=True)
            self.told.known_n += len(inside)
            chosen = spread(inside, crashes)
            for number, one in enumerate(chosen):
                last = number == len(chosen) - 1
                within = await self.recover(one, f"in a recovery: {one.kind}", looks=last)
                self.told.known_n += len(within)
                for two in spread(within, crashes):
                    subject = two.kind.partition(":")[0]
                    await self.recover(two, f"in a recovery's recovery: {subject}")

    async def _down(self, downtime_ms: int) -> None:
        exchange = self.line.running.exchange
        until_ms = exchange.now_ms + downtime_ms
        while exchange.now_ms < until_ms:
            await exchange.move_to(min(until_ms, SOURCE.next_close(exchange.now_ms)))

    def _state(self, name: str) -> Path:
        state = self.folder / name
        state.mkdir(parents=True)
        write_instruments(state, self.line.market.history.universe.instruments)
        return state


def spread(images: Sequence[Image], count: int) -> list[Image]:
    """Draw so many, evenly over the run."""
    step = max(1.0, len(images) / max(1, count))
    return [images[int((n + 0.5) * step)] for n in range(min(count, len(images)))]


def drawn(images: Sequence[Image], count: int | None) -> Iterator[Image]:
    """Draw evenly from each kind, at least one of each; None: all."""
    if count is None:
        yield from images
        return
    of_kinds: dict[str, list[Image]] = {}
    for image in images:
        of_kinds.setdefault(image.kind, []).append(image)
    firsts = [spread(of_kind, 1)[0] for of_kind in of_kinds.values()]
    taken = set(map(id, firsts))
    rest = [image for image in images if id(image) not in taken]
    yield from firsts
    yield from spread(rest, max(0, count - len(firsts)))


async def campaign(
    market: Market,
    folder: Path,
    points: int | None,
    seed: int,
    again: tuple[int, int] = AGAIN,
    kinds: tuple[str, ...] = (),
) -> Summary:
    """Crash a run of some hours at `points` of its points, evenly drawn, or at all of them.

    kinds: of these alone, where any is named.
    """
    async with live_line(market) as line:
        crashes = Campaign(line, folder, random.Random(seed))
        images = [i for i in await crashes.album(HOURS) if not kinds or i.kind in kinds]
        for image in drawn(images, points):
            await crashes.recover(image, image.kind)
        await crashes.again(images, *again)
    return crashes.told


def chunk(
    venue: str,
    number: int,
    points: int | None,
    again: tuple[int, int] = AGAIN,
    kinds: tuple[str, ...] = (),
) -> Summary:
    """Run one chunk: a market, a run and dice of its own; as `campaign` else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("adapters.ccxt_venue.desk.ARRIVAL_MARGIN_S", ARRIVAL_MARGIN_S),
        patch("strategies.registry._foreign", dict),  # looks through all that is installed
    ):
        market = generated_market(Path(folder) / "market", venue, seed=3 + number)
        return jumping_loop.run(campaign(market, Path(folder), points, number, again, kinds))


# ---- the command ---------------------------------------------------------------------------------


def _quiet_chunk(chosen: tuple[Any, ...]) -> Summary:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return chunk(*chosen)


def everything(chunks: Iterable[tuple[Any, ...]], jobs: int) -> Summary:
    """Run chunks in processes beside each other, and add up what they tell."""
    told = Summary()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for one in pool.map(_quiet_chunk, chunks):
            told.add(one)
    return told


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--all", action="store_true", help="crash at every point (many minutes)")
    words.add_argument("--chunks", type=int, default=CHUNKS, help="runs of each dialect")
    words.add_argument("--jobs", type=int, default=2, help="processes beside each other")
    chosen = words.parse_args()
    points = None if chosen.all else SAMPLED
    chunks = [(venue, n, points) for n in range(chosen.chunks) for venue in VENUES]
    told = everything(chunks, chosen.jobs)
    print(told.text())
    raise SystemExit(1 if told.total().wrong else 0)


if __name__ == "__main__":
    main()
