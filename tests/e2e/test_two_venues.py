"""One book at two venues: both trade, a restart goes on, every account agrees to the last cent."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.rehearsal.ccxt_options import ccxt_options
from daemon.domain.decision import Decision
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Command, Decided, Event
from daemon.engine.engine import Engine
from daemon.settings import Settings
from daemon.settings.exchange import OtherExchange
from daemon.wiring.rehearsal import Rehearsal, rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.e2e.books import check_books_agree, read_account
from tests.e2e.line import SMALL, settings_of

HERE, THERE = ("BTCUSDT", "ETHUSDT", "SOLUSDT"), ("BTCUSDT", "XRPUSDT", "DOGEUSDT")
DECISIONS = 30


def at_two_venues(rehearsal: Rehearsal) -> Settings:
    """Let a second exchange id, which speaks the same dialect, trade on the same market."""
    options = ccxt_options(rehearsal.exchange.rest_url, rehearsal.exchange.ws_url)
    options["options"]["defaultType"] = "swap"
    other = OtherExchange(id="binance", symbols=THERE, options=options)
    exchange = rehearsal.settings.exchange.model_copy(update={"others": (other,)})
    return rehearsal.settings.model_copy(update={"exchange": exchange})


async def run(state: Path, decisions_n: int) -> tuple[list[Decision], Settings]:
    made: list[Decision] = []
    stop = asyncio.Event()

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        del event, engine
        made.extend(c.decision for c in commands if isinstance(c, Decided))
        if len(made) >= decisions_n:
            stop.set()

    wanted = settings_of(
        state, *SMALL, f"universe.symbols={json.dumps(HERE)}", "redis.enabled=false"
    )
    with rehearsal_exchange(wanted) as rehearsal:
        settings = at_two_venues(rehearsal)
        async with paper_session(settings, SessionHooks(observers=(watch,))) as shell:
            await shell.run(stop)
    return made, settings


async def test_a_book_at_two_venues_trades_at_both_and_goes_on_after_a_restart(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    first, settings = await run(state, DECISIONS)
    second, _ = await run(state, DECISIONS)
    assert second[0].as_of_ms > first[-1].as_of_ms
    check_books_agree(settings)
    account = read_account(state)
    assert account is not None
    fills = Counter(fill.key.venue for fill in account.fills)
    assert min(fills["binanceusdm"], fills["binance"]) > 20
    assert {key.venue for key in account.cash} == {"binanceusdm", "binance"}
    for decision in (*first, *second):
        assert decision.weights_before.shape == (6,)
        assert decision.absent == ()


async def test_a_book_begun_at_two_venues_is_not_opened_at_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await run(state, 2)
    wanted = settings_of(state, *SMALL, "redis.enabled=false")
    with (
        rehearsal_exchange(wanted) as rehearsal,
        pytest.raises(ConfigurationError, match=r"the book in .* is at binanceusdm, binance"),
    ):
        async with paper_session(rehearsal.settings, SessionHooks()):
            raise AssertionError("it was opened")


async def test_a_venue_named_twice_is_refused(tmp_path: Path) -> None:
    with rehearsal_exchange(settings_of(tmp_path, *SMALL, "redis.enabled=false")) as rehearsal:
        other = OtherExchange(id="binanceusdm", symbols=THERE)
        exchange = rehearsal.settings.exchange.model_copy(update={"others": (other,)})
        settings = rehearsal.settings.model_copy(update={"exchange": exchange})
        with pytest.raises(ConfigurationError, match="'binanceusdm' is named twice"):
            async with paper_session(settings, SessionHooks()):
                raise AssertionError("it was opened")
