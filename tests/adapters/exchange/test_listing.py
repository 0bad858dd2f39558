"""One odd row in the list of markets, through real ccxt: it hides nothing of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.rehearsal import dialect
from daemon.domain.instrument import Standing
from daemon.domain.messages import FeedTrouble, InstrumentChanged
from tests.adapters.exchange.feed_rig import Rig, rig

Rows = list[Any]
Spoil = Callable[[Rows], None]


def another(**values: object) -> Spoil:
    """Add a contract that is not ours."""

    def spoil(rows: Rows) -> None:
        rows.append(rows[0] | {"symbol": "XUSDT", "pair": "XUSDT", "baseAsset": "X"} | values)

    return spoil


def ether(**values: object) -> Spoil:
    """Change what is said of ether."""

    def spoil(rows: Rows) -> None:
        for place, row in enumerate(rows):
            if row["symbol"] == "ETHUSDT":
                rows[place] = row | values

    return spoil


TICK_0 = [
    {"filterType": "PRICE_FILTER", "tickSize": "0"},
    {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
]
FOREIGN: dict[str, Spoil] = {
    "no base": another(baseAsset=None),
    "null": lambda rows: rows.append(None),
    "a word": lambda rows: rows.append("contract"),
    "no symbol": another(symbol=None),
    "no type": another(contractType=None),
}
OURS: dict[str, Spoil] = {
    "no filters": ether(filters=[], pricePrecision=None, quantityPrecision=None),
    "tick 0": ether(filters=TICK_0),
    "odd filters": ether(filters=7, baseAsset=[]),
}


@dataclass
class Spoilt:
    """Hold a rig whose exchange says odd things of its markets when told to."""

    made: Rig
    spoil: Spoil | None = None

    @property
    def changes(self) -> list[tuple[int, Standing]]:
        return [(e.index, e.standing) for e in self.made.told if isinstance(e, InstrumentChanged)]


@asynccontextmanager
async def spoilt(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Spoilt]:
    real = dialect.exchange_info

    def odd(*args: Any, **kwargs: Any) -> Any:
        said = real(*args, **kwargs)
        if found.spoil is not None:
            rows = [dict(row) for row in said["symbols"]]
            for row in rows:
                row["status"] = "BREAK" if row["symbol"] == "SOLUSDT" else row["status"]
            found.spoil(rows)
            said = {**said, "symbols": rows}
        return said

    monkeypatch.setattr(dialect, "exchange_info", odd)
    async with rig(markets_every_ms=1, stream_patience_s=0.3) as made:
        found = Spoilt(made)
        await made.listen()
        await made.advance(2)
        yield found


@pytest.mark.parametrize("name", [*FOREIGN, *OURS])
async def test_a_halt_is_told_whatever_another_row_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spoilt(monkeypatch) as found:
        found.spoil = (FOREIGN | OURS)[name]
        await found.made.advance(3)
        assert found.changes[3:] == [(2, Standing.REDUCE_ONLY)]
        noticed = [(FeedTrouble.LISTING, True)] if name in OURS else []
        assert found.made.notices == noticed, "ours that cannot be read are named, and only ours"
        found.spoil = lambda rows: None
        await found.made.advance(1)
        ended = [(FeedTrouble.LISTING, False)] if name in OURS else []
        assert found.made.notices == noticed + ended


async def test_one_of_ours_that_cannot_be_read_is_halted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with spoilt(monkeypatch) as found:
        found.spoil = ether(filters=TICK_0, status="BREAK")
        await found.made.advance(2)
        assert sorted(found.changes[3:]) == [(1, Standing.REDUCE_ONLY), (2, Standing.REDUCE_ONLY)]


async def test_a_list_that_stays_unread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spoilt(monkeypatch) as found:
        found.spoil = lambda rows: rows.clear()
        await found.made.advance(2)
        assert found.made.notices == []
        await found.made.advance(2)
        assert found.made.notices == [(FeedTrouble.LISTING, True)]
        assert found.changes[3:] == [], "and says nothing"
