"""A feed under fire: faults struck one by one or at random, the truth kept, times measured.

The market runs in lock-step, so that what is true at a delivery is exact. Detection and recovery
are transport seconds; what takes long on purpose (hangs, bans, patience) is shortened by `BOUNDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.clocks import TransportClock
from adapters.exchange.watch import WatchRules
from adapters.rehearsal.fault_plan import random_strikes
from adapters.rehearsal.faults import PRIVATE_FAULTS, Fault, Strike
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.bar import Proof
from daemon.domain.messages import BarsClosed, FeedTrouble, Revised
from daemon.domain.units import iso
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig

SHORT_S: Final = 0.25
"""How late a slow answer is, how long a ban lasts, in a campaign."""
BOUNDS: Final[dict[str, Any]] = {
    "stream_patience_s": 0.15,
    "settle_timeout_s": 30.0,
    "funding_patience_s": 0.3,
    "audit_every_bars": 8,
    "audit_bars": 48,
    "watch": WatchRules(
        offset_max_ms=0, breaks_per_hour_max=100_000, standstill_s=1e9
    ),  # the market jumps by half an hour: no machine that slept
}
REQUEST_TIMEOUT_MS: Final = 300
DIAL_TIMEOUT_MS: Final = 1000  # ccxt counts whole seconds here
LOOK_S: Final = 0.004
SETTLING_INSTANTS_MAX: Final = 9
AUDIT_INSTANTS: Final = 18
LIE_VOLUME: Final = 1.0  # by which a differing answer differs
PEACE_EVERY_INSTANTS: Final = 24
OF_REST: Final = (
    Fault.NOT_JSON_200,
    Fault.CUT_JSON_200,
    Fault.EMPTY_LIST_200,
    Fault.LAGGING_200,
    Fault.DIFFERING_ROW_200,
    Fault.HTTP_451,
    Fault.HTTP_403,
    Fault.HTTP_503,
    Fault.HTTP_429,
    Fault.HTTP_418,
    Fault.MAINTENANCE,
    Fault.RESET_BODY,
    Fault.SLOW,
    Fault.HANG,
)
OF_DIALS: Final = (Fault.DIAL_REFUSED, Fault.DIAL_HANG, Fault.SUBSCRIBE_REFUSED)
OF_ONE: Final = (Fault.REVISED_FRAME, Fault.REVISED_REST)
DENYING: Final = (Fault.EMPTY_LIST_200, Fault.LAGGING_200)
REVISING: Final = (*OF_ONE, Fault.DIFFERING_ROW_200)
ALL_FAULTS: Final = tuple(f for f in Fault if f is not Fault.NONE and f not in PRIVATE_FAULTS)
Values = tuple[float, ...]


class MarketWallClock(TransportClock):
    """Take the market's time for the machine's UTC: what lock-step means by a right clock."""

    def __init__(self) -> None:
        self.wall_of: Callable[[], int] = super().wall_ms

    def wall_ms(self) -> int:
        """Give the time that the venue should tell, in ms."""
        return self.wall_of()


@dataclass
class Ledger:
    """Hold what was delivered against what is true.

    known: by close and instrument, the last value told. twice: bars told again. untrue: bars that
    came as a differing answer of REST had them. foreign: anything else that was not the truth when
    it was told.
    """

    made: Rig
    known: dict[tuple[int, int], Values] = field(default_factory=dict)
    proofs: Counter[Proof] = field(default_factory=Counter)
    twice: list[tuple[int, int]] = field(default_factory=list)
    untrue: list[tuple[int, int]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    revised_n: int = 0
    newest_proofs: tuple[int, ...] = ()
    newest_ms: int = 0

    def truth(self, close_ms: int, index: int) -> Values | None:
        """Give what the exchange would tell now of a bar, None of one that does not exist."""
        exchange = self.made.exchange.exchange
        symbol = self.made.symbols[index]
        kline = exchange.publication.kline(
            symbol, HALF_HOUR_MS, close_ms - HALF_HOUR_MS, exchange.now_ms
        )
        if kline is None:
            return None
        return (kline.open, kline.high, kline.low, kline.close, kline.volume)

    def take(self, event: object) -> None:
        """Check one event as it is delivered."""
        if isinstance(event, BarsClosed):
            for index in range(len(self.made.symbols)):
                if event.proof[index]:
                    self._bar(event, index)
            if event.close_ms >= self.newest_ms:
                self.newest_ms = event.close_ms
                self.newest_proofs = tuple(int(proof) for proof in event.proof)
        elif isinstance(event, Revised):
            self.revised_n += 1
            key = (event.close_ms, event.index)
            if self.known.get(key) != tuple(event.before.tolist()):
                self.foreign.append(f"{key} was revised from what was never told")
            self.known[key] = tuple(event.after.tolist())

    def _bar(self, event: BarsClosed, index: int) -> None:
        key = (event.close_ms, index)
        if key in self.known:
            self.twice.append(key)
        values = tuple(event.values[index].tolist())
        self.known[key] = values
        self.proofs[Proof(int(event.proof[index]))] += 1
        truth = self.truth(*key)
        if values != truth:
            self.untrue.append(key)
            lie = truth and (*truth[:4], round(truth[4] + LIE_VOLUME, 3))
            if values != lie or event.proof[index] != Proof.REREAD:
                self.foreign.append(f"{key} came as {values} where {truth} is true")

    def missing(self) -> list[tuple[int, int]]:
        """List the bars that exist by now and were not told."""
        made = self.made
        now_ms = made.exchange.exchange.now_ms
        keys = (
            (close_ms, index)
            for close_ms in range(made.start_ms + HALF_HOUR_MS, now_ms + 1, HALF_HOUR_MS)
            for index in range(len(made.symbols))
        )
        return [key for key in keys if key not in self.known and self.truth(*key) is not None]

    def unequal(self) -> list[tuple[int, int]]:
        """List the bars whose last told value is not the truth of now."""
        return [key for key, values in self.known.items() if values != self.truth(*key)]


@dataclass
class Times:
    """Collect what one fault did: seconds, by strike."""

    struck_n: int = 0
    idle_n: int = 0
    bars_n: int = 0
    detected_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    streams_s: list[float] = field(default_factory=list)


@dataclass
class Campaign:
    """Run a rig under faults and measure."""

    made: Rig
    ledger: Ledger
    dice: random.Random
    times: dict[Fault, Times] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _looks: list[tuple[float, int, int]] = field(default_factory=list)
    _watched: Fault | None = None

    # ---- measuring -----------------------------------------------------------------------------

    def _noticed(self, fault: Fault) -> int:
        """Count what tells that the feed has noticed a fault."""
        health = self.made.health
        if fault in REVISING:
            return health.revisions_n
        if fault in DENYING:
            return health.absent_n
        if fault in OF_REST:
            return health.rest_failures_n
        broken_n = health.broken_n + health.replaced_n + health.rows_unreadable_n
        return broken_n + health.bars_n.get(Proof.REREAD, 0)

    async def look(self) -> None:
        """Follow the counts of the feed and of the fault under watch, again and again."""
        loop, faults = asyncio.get_running_loop(), self.made.exchange.exchange.faults
        while True:
            fault = self._watched
            if fault is not None:
                seen = (self._noticed(fault), faults.struck_n[fault])
                if not self._looks or self._looks[-1][1:] != seen:
                    self._looks.append((loop.time(), *seen))
            await asyncio.sleep(LOOK_S)

    async def strike(self, fault: Fault, companions: list[Strike], strikes: list[Strike]) -> None:
        """Switch one fault on, run until all is well again, and note how long that took."""
        faults, loop = self.made.exchange.exchange.faults, asyncio.get_running_loop()
        await self.healthy()
        before_n, ledger = faults.struck_n[fault], self.ledger
        touched_n = ledger.proofs[Proof.REREAD] + ledger.revised_n
        self._looks = [(loop.time(), self._noticed(fault), before_n)]
        self._watched = fault
        for one in (*strikes, *companions):
            faults.put(one)
        whole_s = streams_s = None
        for step in range(SETTLING_INSTANTS_MAX):
            await self.made.advance(1)
            if faults.struck_n[fault] == before_n:
                continue
            if whole_s is None and not self._missing_lately():
                whole_s = loop.time()
            if step and not faults.active:
                if self._streams_again() and whole_s is not None:
                    streams_s = loop.time()
                    break
                await self._subscribed()
        if fault in REVISING:
            await self._until_noticed(fault)
        self._watched = None
        faults.put(Strike(Fault.NONE))
        self._note(fault, before_n, whole_s, streams_s)
        times = self.times[fault]
        times.bars_n += ledger.proofs[Proof.REREAD] + ledger.revised_n - touched_n

    def _note(
        self, fault: Fault, before_n: int, whole_s: float | None, streams_s: float | None
    ) -> None:
        times = self.times.setdefault(fault, Times())
        struck = [look for look in self._looks if look[2] > before_n]
        if not struck:
            times.idle_n += 1
            return
        times.struck_n += struck[-1][2] - before_n
        began_s, calm = struck[0][0], self._looks[0][1]
        found = next((at_s for at_s, noticed, _ in struck if noticed != calm), None)
        if found is not None:
            times.detected_s.append(found - began_s)
        if whole_s is not None:
            times.whole_s.append(max(0.0, whole_s - began_s))
        if streams_s is not None:
            times.streams_s.append(streams_s - began_s)

    async def healthy(self) -> None:
        """Let the market run until the stream proves every bar."""
        for _ in range(SETTLING_INSTANTS_MAX):
            await self._subscribed()
            await self.made.advance(1)
            if self._streams_again():
                return
        raise AssertionError("the stream does not prove bars although all is well")

    async def _subscribed(self) -> None:
        """Wait until every symbol has a stream that is not known as lost; a deaf one will do."""
        hub = self.made.exchange.exchange.hub
        for _ in range(600):
            stream = self.made.feed._pump and self.made.feed._pump._stream
            if stream and not stream._lost and len(hub.streams) == len(self.made.symbols):
                return
            await asyncio.sleep(LOOK_S)

    async def _until_noticed(self, fault: Fault) -> None:
        """Let the market run until an audit, or a measurement, finds what was changed."""
        for _ in range(SETTLING_INSTANTS_MAX):
            if self._noticed(fault) != self._looks[0][1]:
                break
            await self.made.advance(1)
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(2 * LOOK_S)

    def _missing_lately(self) -> bool:
        ledger, now_ms = self.ledger, self.made.exchange.exchange.now_ms
        closes = range(now_ms - SETTLING_INSTANTS_MAX * HALF_HOUR_MS, now_ms + 1, HALF_HOUR_MS)
        return any(
            (close_ms, index) not in ledger.known and ledger.truth(close_ms, index) is not None
            for close_ms in closes
            if close_ms > self.made.start_ms
            for index in range(len(self.made.symbols))
        )

    def _streams_again(self) -> bool:
        ledger = self.ledger
        now_ms = self.made.exchange.exchange.now_ms
        return ledger.newest_ms == now_ms and set(ledger.newest_proofs) == {int(Proof.SUCCESSOR)}

    # ---- the end -------------------------------------------------------------------------------

    async def finish(self) -> None:
        """End all faults, let the audits run, and compare everything."""
        self.made.exchange.exchange.faults.put(Strike(Fault.NONE))
        await self.made.advance(AUDIT_INSTANTS)
        assert self.made.consumer is not None
        assert not self.made.consumer.done(), "the consumer stopped"
        ledger = self.ledger
        assert ledger.twice == [], ledger.twice
        assert ledger.missing() == [], ledger.missing()
        assert ledger.unequal() == [], ledger.unequal()
        assert ledger.foreign == [], ledger.foreign
        gc.collect()
        await asyncio.sleep(0)
        assert self.complaints == [], self.complaints[:3]

    @property
    def days(self) -> float:
        """Give how many days the market ran."""
        return (self.made.exchange.exchange.now_ms - self.made.start_ms) / (48 * HALF_HOUR_MS)


@contextlib.asynccontextmanager
async def campaign(
    seed: int, symbols: tuple[str, ...] = SYMBOLS, **changes: Any
) -> AsyncIterator[Campaign]:
    """Start exchange and feed with the bounds of a campaign, and listen."""
    clock = MarketWallClock()
    market = RehearsalSettings(coins=len(symbols), history_days=5)
    async with rig(market, symbols, transport=clock, **(BOUNDS | changes)) as made:
        clock.wall_of = made.exchange.exchange.clock_ms
        api = made.feed._opened().api
        api.timeout = REQUEST_TIMEOUT_MS
        api.options["ws"] = {**api.options.get("ws", {}), "connectionTimeout": DIAL_TIMEOUT_MS}
        held = Campaign(made, Ledger(made), random.Random(seed))
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: held.complaints.append(str(context))
        )
        made.told = _Taker(held.ledger)
        await made.listen()
        looking = asyncio.create_task(held.look(), name="look")
        try:
            yield held
        except AssertionError as failure:
            failure.add_note(f"seed {seed} at {iso(made.exchange.exchange.now_ms)}")
            raise
        finally:
            looking.cancel()


class _Taker(list[Any]):
    """Give events to the ledger; keep none but notices, so that memory stays flat."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def append(self, event: Any) -> None:
        """Take one event."""
        self._ledger.take(event)
        if not isinstance(event, BarsClosed | Revised):
            super().append(event)


# ---- what to strike ------------------------------------------------------------------------------


async def strike_each(held: Campaign, faults: Iterable[Fault]) -> None:
    """Strike faults one after the other, each upon a healthy feed."""
    for fault in faults:
        await held.strike(fault, *arranged(fault, held.made.symbols, held.dice))


async def strike_at_random(held: Campaign, instants: int, seed: int) -> None:
    """Let the market run under random faults, several at once, the same for one seed.

    Twice a day all is well for a moment, so that sockets come back however often dials failed.
    """
    faults, exchange = held.made.exchange.exchange.faults, held.made.exchange.exchange
    for step in range(instants):
        if step % PEACE_EVERY_INSTANTS == PEACE_EVERY_INSTANTS - 1:
            faults.put(Strike(Fault.NONE))
            await held._subscribed()
        for one in random_strikes(seed, exchange.now_ms, held.made.symbols):
            one.seconds *= SHORT_S / 3
            faults.put(one)
        await held.made.advance(1)


async def strike_clock(held: Campaign) -> None:
    """Let the venue's clock jump while the market stands still, and measure how that is told."""
    faults, loop = held.made.exchange.exchange.faults, asyncio.get_running_loop()
    times = held.times.setdefault(Fault.CLOCK_JUMP, Times())
    before_n, told_n = faults.struck_n[Fault.CLOCK_JUMP], len(held.made.notices)
    faults.put(Strike(Fault.CLOCK_JUMP, 6, "", held.dice.choice([-5.0, 5.0])))
    began_s = None
    for _ in range(2000):
        if began_s is None and faults.struck_n[Fault.CLOCK_JUMP] > before_n:
            began_s = loop.time()
        if len(held.made.notices) == told_n + 1 and len(times.detected_s) < times.struck_n + 1:
            times.detected_s.append(loop.time() - (began_s or loop.time()))
        if len(held.made.notices) == told_n + 2:
            times.streams_s.append(loop.time() - (began_s or loop.time()))
            break
        await asyncio.sleep(LOOK_S)
    times.struck_n += 1
    assert held.made.notices[told_n:] == [
        (FeedTrouble.CLOCK_OFFSET, True),
        (FeedTrouble.CLOCK_OFFSET, False),
    ]


def arranged(
    fault: Fault, symbols: tuple[str, ...], dice: random.Random
) -> tuple[list[Strike], list[Strike]]:
    """Give what must go along for a fault to matter, and the fault itself.

    REST is asked about bars when the stream is silent; sockets are dialled when they broke.
    """
    one = dice.choice(symbols)
    if fault in OF_REST:
        struck = list(symbols) if dice.random() < 0.25 else [one]
        count = 1 if len(struck) > 1 else dice.randint(1, 2)
        silent = [Strike(Fault.STALL, 1, "" if len(struck) > 1 else one)]
        return silent, [Strike(fault, count, symbol, SHORT_S) for symbol in struck]
    if fault in OF_DIALS:
        return [Strike(Fault.DROP_SOCKETS)], [Strike(fault, 1)]
    if fault in OF_ONE:
        return [], [Strike(fault, 1, one)]
    if fault in {Fault.STALL, Fault.DUPLICATE_FRAMES, Fault.SHUFFLED_FRAMES, Fault.LATE_FRAMES}:
        return [], [Strike(fault, dice.randint(1, 4), dice.choice(["", one]))]
    if fault.value.startswith("kline_"):
        return [], [Strike(fault, dice.randint(1, 6), dice.choice(["", one]))]
    return [], [Strike(fault)]


def table(campaigns: Sequence[Campaign]) -> str:
    """Write what was measured in several campaigns, a line a fault."""
    head = f"{'fault':22}{'struck':>7}{'bars':>6}"
    head += "".join(f"{name:>29}" for name in ("detected s", "bars whole s", "stream proves s"))
    lines = [head, " " * 35 + f"{'min    med    p99    max':>29}" * 3]
    for fault in sorted({fault for held in campaigns for fault in held.times}):
        parts = [held.times[fault] for held in campaigns if fault in held.times]
        cells = (
            [s for part in parts for s in part.detected_s],
            [s for part in parts for s in part.whole_s],
            [s for part in parts for s in part.streams_s],
        )
        counts = (sum(part.struck_n for part in parts), sum(part.bars_n for part in parts))
        lines.append(
            f"{fault.value:22}{counts[0]:>7}{counts[1]:>6}"
            + "".join(f"{quantiles(seconds):>29}" for seconds in cells)
        )
    return "\n".join([*lines, summary(campaigns)])


def summary(campaigns: Sequence[Campaign]) -> str:
    """Write what was delivered in all."""
    proofs: Counter[Proof] = sum((held.ledger.proofs for held in campaigns), Counter())
    struck = sum(held.made.exchange.exchange.faults.struck_n.total() for held in campaigns)
    return (
        f"{sum(held.days for held in campaigns):.1f} simulated days, {struck} faults struck, "
        f"{proofs.total()} bars delivered, {proofs[Proof.SUCCESSOR] / max(1, proofs.total()):.1%} "
        f"proven by the stream, {sum(held.ledger.revised_n for held in campaigns)} revisions told, "
        f"{sum(len(held.ledger.untrue) for held in campaigns)} bars first told as a differing "
        f"answer had them; lost {sum(len(held.ledger.missing()) for held in campaigns)}, "
        f"unequal {sum(len(held.ledger.unequal()) for held in campaigns)}, "
        f"told twice {sum(len(held.ledger.twice) for held in campaigns)}"
    )


def quantiles(seconds: list[float]) -> str:
    """Write least, median, p99 and largest; nothing where nothing had to be noticed."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    last = len(ordered) - 1
    shown = (ordered[0], ordered[last // 2], ordered[round(last * 0.99)], ordered[-1])
    return " ".join(f"{value:6.2f}" for value in shown)
