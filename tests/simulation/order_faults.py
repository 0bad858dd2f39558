"""Every fault of an account, end to end through real ccxt and sockets: how it is seen and healed.

A run opens the live venue at a rehearsal, begins a book, trades, lets one fault strike, and asks
about what is in doubt as the engine does. Safe is the moment at which no order is in doubt and the
book holds what the venue holds; then the account is read once more and must leave nothing that is
unexplained.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from adapters.rehearsal.faults import PRIVATE_FAULTS, Fault
from daemon.domain.messages import OrderFilled, OrderRejected, OrderUncertain, VenueEvent
from daemon.domain.order import (
    DELEVERAGING_PREFIX,
    FOREIGN_PREFIX,
    LIQUIDATION_PREFIX,
    SETTLEMENT_PREFIX,
    OrderId,
)
from tests.adapters.ccxt_venue.both_rig import LOOK_S, NAMES, Both, both, bringing

SAFE_S_MAX: Final = 10.0
FRAMES_OUT_S: Final = 0.1  # after which the frames about earlier orders are out
OF_ONE_SYMBOL: Final = frozenset(
    {
        Fault.SYMBOL_HALTED,
        Fault.SYMBOL_DELISTED,
        Fault.LIQUIDATION,
        Fault.FORCED_REDUCTION,
        Fault.MANUAL_TRADE,
    }
)
OF_STREAM: Final = frozenset(
    {
        Fault.USER_STREAM_DROPPED,
        Fault.USER_STREAM_STALLED,
        Fault.USER_FRAME_GARBAGE,
        Fault.LISTEN_KEY_EXPIRED,
    }
)
FRAMES: Final = {Fault.USER_STREAM_STALLED: 12}
READINGS: Final = frozenset({Fault.POSITIONS_BROKEN})
COMMON: Final = (Fault.MAINTENANCE, Fault.HTTP_429, Fault.HTTP_503, Fault.NOT_JSON_200)
NOT_THERE: Final = {"bybit": frozenset({Fault.LISTEN_KEY_EXPIRED})}
"""Bybit logs in on each socket: it has no key of a stream that could expire."""


def faults_of(venue: str) -> tuple[Fault, ...]:
    """List what can go wrong with an account at a venue; resuming is part of halting."""
    left_out = NOT_THERE.get(venue, frozenset()) | {Fault.SYMBOL_RESUMED}
    return (*sorted(PRIVATE_FAULTS - left_out), *COMMON)


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what a fault came to; times in seconds from when it was switched on.

    seen_s: when anything told us, None where there is nothing to notice. unexplained: what the
    account held at the end that the book does not.
    """

    venue: str
    fault: Fault
    struck_n: int
    seen_s: float | None
    safe_s: float
    unexplained: tuple[str, ...]
    doubled: bool


async def struck(venue: str, fault: Fault) -> Found:
    """Let one fault strike a trading account, and give what came of it."""
    async with both(venue) as x, bringing(x):
        await x.submit(x.order(1, "0.05"), x.order(2, "-0.9", "ETH"))
        await _safe(x, {})
        await asyncio.sleep(FRAMES_OUT_S)
        loop = asyncio.get_running_loop()
        begun_s, known_n, opened_n = loop.time(), len(x.events), _opened_n(x)
        await _happen(x, fault)
        await _safe(x, _doubts(x.events[known_n:]))
        signs_s = _signs(x, known_n)
        if fault in OF_STREAM:
            signs_s.append(await _reopened(x, opened_n))
        safe_s = loop.time() - begun_s
        if fault is Fault.SYMBOL_HALTED:
            await x.fault(Fault.SYMBOL_RESUMED, symbol="BTCUSDT")
        x.running.exchange.faults.set("none", 1)
        names = x.orders_at_venue()
        return Found(
            venue,
            fault,
            x.struck_n(fault),
            min(signs_s) - begun_s if signs_s else None,
            safe_s,
            tuple(await x.unexplained()),
            len(set(names)) < len(names),
        )


async def _happen(x: Both, fault: Fault) -> None:
    """Switch a fault on and do what it can strike."""
    symbol = "BTCUSDT" if fault in OF_ONE_SYMBOL else ""
    await x.fault(fault, FRAMES.get(fault, 1), symbol=symbol, seconds=0.3)
    if fault in READINGS:
        await x.told_account(x.running.exchange.now_ms)
    else:
        await x.submit(x.order(3, "0.02"), x.order(4, "-0.3", "ETH"))


def _signs(x: Both, known_n: int) -> list[float]:
    """Give when each thing was told by which one knows that something is not as it should be."""
    told = zip(x.told_s[known_n:], x.events[known_n:], strict=True)
    return [at_s for at_s, event in told if _is_sign(event)]


def _is_sign(event: VenueEvent) -> bool:
    if isinstance(event, OrderFilled):
        return event.fill.order_id.startswith(
            (FOREIGN_PREFIX, SETTLEMENT_PREFIX, LIQUIDATION_PREFIX, DELEVERAGING_PREFIX)
        )
    return isinstance(event, OrderUncertain | OrderRejected)


def _doubts(events: list[VenueEvent]) -> dict[OrderId, str]:
    """Name the orders in doubt, each with its coin."""
    names = [event.order_id for event in events if isinstance(event, OrderUncertain)]
    return {name: NAMES[int(name.split("-")[1])] for name in names}


async def _safe(x: Both, doubts: dict[OrderId, str]) -> None:
    """Ask about orders in doubt until none is, and the book holds what the venue holds."""
    async with asyncio.timeout(SAFE_S_MAX):
        while doubts or x.venue.desk.open or x.booked() != x.positions():
            for order_id, name in list(doubts.items()):
                told = await x.venue.query(order_id, x.key(name))
                x.book(told)
                if not any(isinstance(e, OrderUncertain) for e in told):
                    del doubts[order_id]
            await asyncio.sleep(LOOK_S)


def _opened_n(x: Both) -> int:
    return 0 if x.venue.brought is None else x.venue.brought.stream.opened_n


async def _reopened(x: Both, opened_n: int) -> float:
    """Wait for a private stream anew; give when it was there."""
    async with asyncio.timeout(SAFE_S_MAX):
        while _opened_n(x) <= opened_n:  # noqa: ASYNC110 - sockets open without an event of ours
            await asyncio.sleep(LOOK_S)
    return asyncio.get_running_loop().time()


def table(rows: list[Found]) -> str:
    """Write what was found, a fault a line."""
    lines = [f"{'venue':12} {'fault':22} {'struck':>6} {'seen s':>7} {'safe s':>7}  at the end"]
    for row in rows:
        seen = "-" if row.seen_s is None else f"{row.seen_s:.3f}"
        end = "; ".join(row.unexplained) or "equal to the venue"
        head = f"{row.venue:12} {row.fault.value:22} {row.struck_n:6d}"
        lines.append(f"{head} {seen:>7} {row.safe_s:7.3f}  {end}")
    return "\n".join(lines)
