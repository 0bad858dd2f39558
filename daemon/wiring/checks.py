"""What `equipoise doctor` looks at: each check says what it saw and what to do about it."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from adapters.clocks import SystemClock, TransportClock
from adapters.embedded_redis import server_program
from adapters.exchange.feed import CcxtFeed
from adapters.journal import JournalReader
from adapters.redis_status import read_status
from daemon.domain.failures import EquipoiseError
from daemon.domain.instrument import Instrument
from daemon.domain.units import DAY_MS, Timeframe
from daemon.settings import Settings
from daemon.wiring.core import strategy_of
from daemon.wiring.estimator import ModelFacts, model_facts
from daemon.wiring.instruments import refuse_headless_book
from daemon.wiring.session import feed_settings, pinned_symbols
from daemon.wiring.sinks import redis_password
from daemon.wiring.training import origin_of

DISK_FREE_GB_MIN = 1.0
CLOCK_OFFSET_MS_MAX = 1_000
LEG_LOTS_WANTED = 10  # a leg of fewer lots is rounded by more than 5 % of its size


class Verdict(StrEnum):
    """Grade one check."""

    GOOD = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one check's outcome in plain words."""

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Capital:
    """Hold the least capital for a universe: by the venue's minima, and for fine enough lots."""

    least: float
    comfortable: float
    tightest: str  # the instrument that decides


def examine(settings: Settings, *, offline: bool) -> list[Finding]:
    """Run every check; a check that fails is a finding, never an exception."""
    found = [*_machine(settings), _attempt("strategy", lambda: _strategy(settings))]
    found.append(_attempt("model", lambda: _model(settings)))
    found.append(_attempt("journal", lambda: _journal(settings)))
    found.append(_attempt("redis", lambda: _redis(settings)))
    if offline:
        found.append(Finding("exchange", Verdict.WARNING, "not asked (--offline)"))
    else:
        found += asyncio.run(_exchange(settings))
    return found


def minimum_capital(
    instruments: Sequence[Instrument],
    marks: Sequence[float],
    *,
    gross_weight: float,
    legs: int,
) -> Capital:
    """Give the equity at which an average leg meets each venue minimum, in quote currency.

    A leg holds gross_weight / legs of equity. least: its notional reaches every minimum notional
    and smallest quantity. comfortable: it is also at least ten lots. NaN marks are left out.
    """
    least, comfortable, tightest = 0.0, 0.0, ""
    share = gross_weight / max(legs, 1)
    for instrument, mark in zip(instruments, marks, strict=True):
        if not mark > 0:
            continue
        rules = instrument.rules
        smallest = max(rules.quantity_min, rules.quantity_step) * Decimal(repr(mark))
        leg = max(float(rules.notional_min), float(smallest))
        if leg / share > least:
            least, tightest = leg / share, instrument.key.symbol
        fine = max(leg, float(rules.quantity_step) * mark * LEG_LOTS_WANTED)
        comfortable = max(comfortable, fine / share)
    return Capital(math.ceil(least), math.ceil(comfortable), tightest)


def _attempt(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except EquipoiseError as e:
        return Finding(name, Verdict.BAD, str(e))


def _machine(settings: Settings) -> Iterator[Finding]:
    python = ".".join(str(n) for n in sys.version_info[:3])
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("python", Verdict.GOOD if fits else Verdict.BAD, f"{python}; want 3.11 to 3.13")
    folder = _existing(settings.run.state_folder)
    writable = os.access(folder, os.W_OK)
    yield Finding(
        "state folder",
        Verdict.GOOD if writable else Verdict.BAD,
        f"{settings.run.state_folder} {'can' if writable else 'cannot'} be written",
    )
    free_gb = shutil.disk_usage(folder).free / 1e9
    enough = free_gb >= DISK_FREE_GB_MIN
    yield Finding(
        "disk", Verdict.GOOD if enough else Verdict.BAD, f"{free_gb:.1f} GB free; want 1 or more"
    )


def _existing(path: Path) -> Path:
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _strategy(settings: Settings) -> Finding:
    strategy = strategy_of(settings)
    return Finding("strategy", Verdict.GOOD, f"{strategy.name}; its parameters are accepted")


def _model(settings: Settings) -> Finding:
    if settings.estimator.kind != "model" or not strategy_of(settings).needs_estimates:
        return Finding("model", Verdict.GOOD, f"none needed (estimator {settings.estimator.kind})")
    facts = model_facts(settings)
    if facts is None:
        text = f"no champion in {settings.estimator.models_folder}; `equipoise train` makes one"
        return Finding("model", Verdict.WARNING, text)
    return _model_text(settings, facts)


def _model_text(settings: Settings, facts: ModelFacts) -> Finding:
    text = f"{facts.model_id[:12]} from {facts.origin}"
    foreign = facts.is_generated and not settings.exchange.generated
    if foreign and not settings.estimator.allow_foreign_model:
        text += (
            f"; trained on a generated market, refused on {origin_of(settings).name} unless "
            "estimator.allow_foreign_model is true"
        )
        return Finding("model", Verdict.BAD, text)
    return Finding("model", Verdict.GOOD, text)


def _journal(settings: Settings) -> Finding:
    path = settings.run.state_folder / "journal.sqlite"
    if not path.exists():
        return Finding("journal", Verdict.GOOD, "none yet: a new book will be begun")
    refuse_headless_book(path.parent)
    verified = JournalReader(path).verify()
    text = f"{verified.entries_n:,} entries, hash chain whole"
    ledger = path.with_name("paper.sqlite")
    if not ledger.exists():
        return Finding("journal", Verdict.BAD, f"{text}; but {ledger}, the paper account, is gone")
    return Finding("journal", Verdict.GOOD, text)


def _redis(settings: Settings) -> Finding:
    redis = settings.redis
    if not redis.enabled:
        return Finding("redis", Verdict.WARNING, "switched off: `status` will show nothing")
    if redis.url == "embedded":
        program = server_program(redis.binary)
        return Finding("redis", Verdict.GOOD, f"embedded, program {program.name} found")
    answer = asyncio.run(
        read_status(
            redis.url,
            redis.namespace,
            settings.run.run_name,
            username=redis.username,
            password=redis_password(settings),
        )
    )
    lost = answer["daemon"] == "unreachable"
    text = str(answer.get("why", "answers")) if lost else "answers"
    return Finding("redis", Verdict.BAD if lost else Verdict.GOOD, text)


async def _exchange(settings: Settings) -> list[Finding]:
    transport = TransportClock()
    clock = SystemClock(transport)
    feed = CcxtFeed(feed_settings(settings, pinned_symbols(settings)), clock, transport)
    try:
        instruments = list(await feed.instruments())
        venue_ms = await feed.server_time()
        marks = await _marks(settings, feed, venue_ms, instruments)
    except EquipoiseError as e:
        return [Finding("exchange", Verdict.BAD, str(e))]
    finally:
        await feed.close()
    found = [
        Finding("exchange", Verdict.GOOD, f"{settings.exchange.id}: {len(instruments)} instruments")
    ]
    found.append(_offset(settings, venue_ms - transport.wall_ms()))
    gross = float(str(settings.strategy.parameters.get("gross_weight", 1.0)))
    capital = minimum_capital(instruments, marks, gross_weight=gross, legs=len(instruments))
    enough = float(settings.paper.cash) >= capital.least
    currency = instruments[0].settle
    text = (
        f"least {capital.least:,.0f} {currency} (decided by {capital.tightest}), comfortable "
        f"{capital.comfortable:,.0f} {currency}; paper.cash is {settings.paper.cash:,} {currency}"
    )
    return [*found, Finding("minimum capital", Verdict.GOOD if enough else Verdict.BAD, text)]


async def _marks(
    settings: Settings, feed: CcxtFeed, venue_ms: int, instruments: Sequence[Instrument]
) -> list[float]:
    source = Timeframe.parse(settings.market.source)
    marks = [math.nan] * len(instruments)
    end_ms = source.last_close(venue_ms)
    async for event in feed.history(end_ms - 2 * source.ms, end_ms):
        closes = getattr(event, "values", None)
        if closes is not None:
            marks = [c if c == c else m for c, m in zip(closes[:, 3].tolist(), marks, strict=True)]
    return marks


def _offset(settings: Settings, offset_ms: int) -> Finding:
    if settings.exchange.market_time != "system":
        far = abs(offset_ms) >= DAY_MS  # a rehearsal plays another year
        text = "" if far else f"venue minus machine {offset_ms:+,} ms; "
        return Finding("clock", Verdict.GOOD, f"{text}market time is taken from the venue")
    good = abs(offset_ms) <= CLOCK_OFFSET_MS_MAX
    text = f"venue minus machine {offset_ms:+,} ms; want within {CLOCK_OFFSET_MS_MAX:,}"
    return Finding("clock", Verdict.GOOD if good else Verdict.BAD, text)
