"""What `equipoise doctor` looks at: each check says what it saw and what to do about it."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from adapters.ccxt_venue.opening import connected
from adapters.ccxt_venue.preparing import account_name
from adapters.clocks import SystemClock, TransportClock
from adapters.embedded_redis import server_program
from adapters.exchange.feed import CcxtFeed
from adapters.journal import JournalReader
from adapters.mqtt_status import unreachable
from adapters.redis_status import read_status
from daemon.domain.failures import EquipoiseError
from daemon.domain.instrument import Instrument
from daemon.domain.units import DAY_MS, Timeframe
from daemon.settings import Settings
from daemon.wiring.core import LIVE_FILE, strategy_of
from daemon.wiring.estimator import ModelFacts, model_facts, require_usable_model
from daemon.wiring.findings import Finding as Finding
from daemon.wiring.findings import Verdict as Verdict
from daemon.wiring.findings import attempt
from daemon.wiring.instruments import refuse_headless_book
from daemon.wiring.live_session import credentials_of
from daemon.wiring.machine_checks import machine_checks, model_age, page_port
from daemon.wiring.session import feed_settings, pinned_symbols
from daemon.wiring.sinks import mqtt_broker, redis_password
from daemon.wiring.training import origin_of

RESTORE = "restore the state folder from a backup, or name another run.state_folder for a new book"
CLOCK_OFFSET_MS_MAX = 1_000
LEG_LOTS_WANTED = 10  # a leg of fewer lots is rounded by more than 5 % of its size


@dataclass(frozen=True, slots=True)
class Capital:
    """Hold the least capital for a universe: by the venue's minima, and for fine enough lots."""

    least: float
    comfortable: float
    tightest: str  # the instrument that decides


def examine(settings: Settings, *, offline: bool) -> list[Finding]:
    """Run every check; a check that fails is a finding, never an exception."""
    found = [*machine_checks(settings), attempt("strategy", lambda: _strategy(settings))]
    found += _models(settings)
    found.append(attempt("journal", lambda: _journal(settings), RESTORE))
    found.append(
        attempt("redis", lambda: _redis(settings), "mend [redis]; trading goes on without")
    )
    if settings.mqtt.url:
        found.append(attempt("mqtt", lambda: _mqtt(settings)))
    if (page := page_port(settings)) is not None:
        found.append(page)
    if offline:
        found.append(Finding("exchange", Verdict.WARNING, "not asked (--offline)"))
    else:
        found += asyncio.run(_exchange(settings))
        found.append(attempt("key", lambda: asyncio.run(_key(settings))))
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


def _strategy(settings: Settings) -> Finding:
    strategy = strategy_of(settings)
    return Finding("strategy", Verdict.GOOD, f"{strategy.name}; its parameters are accepted")


def _models(settings: Settings) -> Iterator[Finding]:
    """Look at the model: its hashes, whether this version can use it, where and when it learned."""
    if settings.estimator.kind != "model" or not strategy_of_or_none(settings):
        yield Finding("model", Verdict.GOOD, f"none needed (estimator {settings.estimator.kind})")
        return
    try:
        facts = model_facts(settings)
        if facts is None:
            text = f"no champion in {settings.estimator.models_folder}; `equipoise train` makes one"
            yield Finding("model", Verdict.WARNING, text, "`equipoise train`, or start a run")
            return
        yield _model_text(settings, facts)
        require_usable_model(settings)
    except EquipoiseError as e:
        remedy = "`equipoise models list` shows the others, `models promote` takes one"
        yield Finding("model", Verdict.BAD, str(e), remedy)
        return
    if (age := model_age(facts)) is not None:
        yield age


def strategy_of_or_none(settings: Settings) -> bool:
    """Tell whether forecasts are needed; a strategy that cannot be built is told of elsewhere."""
    try:
        return strategy_of(settings).needs_estimates
    except EquipoiseError:
        return True


def _model_text(settings: Settings, facts: ModelFacts) -> Finding:
    text = f"{facts.model_id[:12]} from {facts.origin}; its files agree with its hash"
    foreign = facts.is_generated and not settings.exchange.generated
    if foreign and not settings.estimator.allow_foreign_model:
        text += f"; trained on a generated market, refused on {origin_of(settings).name}"
        remedy = "train on real bars; estimator.allow_foreign_model = true lets it, for practice"
        return Finding("model", Verdict.BAD, text, remedy)
    return Finding("model", Verdict.GOOD, text)


def _journal(settings: Settings) -> Finding:
    path = settings.run.state_folder / "journal.sqlite"
    if not path.exists():
        return Finding("journal", Verdict.GOOD, "none yet: a new book will be begun")
    refuse_headless_book(path.parent)
    verified = JournalReader(path).verify()
    text = f"{verified.entries_n:,} entries, hash chain whole"
    ledger = path.with_name("paper.sqlite")
    if not ledger.exists() and not (path.parent / LIVE_FILE).exists():
        text = f"{text}; but {ledger}, the paper account, is gone"
        return Finding("journal", Verdict.BAD, text, RESTORE)
    return Finding("journal", Verdict.GOOD, text)


def _redis(settings: Settings) -> Finding:
    redis = settings.redis
    if not redis.enabled:
        text = "switched off: `status` will show nothing"
        return Finding("redis", Verdict.WARNING, text, "redis.enabled = true")
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
    remedy = (
        "start the server, or mend redis.url and its login; trading goes on without" if lost else ""
    )
    return Finding("redis", Verdict.BAD if lost else Verdict.GOOD, text, remedy)


def _mqtt(settings: Settings) -> Finding:
    broker = mqtt_broker(settings)
    why = asyncio.run(unreachable(broker))
    if why:
        remedy = "start the broker, or mend [mqtt]; trading goes on without"
        return Finding("mqtt", Verdict.BAD, f"{broker.address}: {why}", remedy)
    return Finding("mqtt", Verdict.GOOD, f"{broker.address} takes us")


async def _key(settings: Settings) -> Finding:
    """Ask the venue what the key may do; nothing is set and no order is sent."""
    venue, live = settings.exchange.id, settings.live
    environment = f"EQUIPOISE_{venue.upper()}_API_KEY"
    if not live.key_file and environment not in os.environ:
        return Finding("key", Verdict.GOOD, "none is named: paper needs none")
    keys = credentials_of(settings, None)
    window_ms = live.receive_window_ms
    async with connected(venue, settings.exchange.options, keys, (), window_ms) as link:
        rights = await link.modes.rights()
        account = account_name(venue, await link.modes.account_id())
    if rights.may_withdraw:
        text = f"the key for {venue} may withdraw: a start with it is refused"
        return Finding("key", Verdict.BAD, text, "make one there that may only read and trade")
    if not rights.may_trade:
        remedy = "allow futures trading for it there"
        return Finding("key", Verdict.BAD, f"the key for {venue} may not trade", remedy)
    if live.account and live.account != account:
        text = f"it opens account {account}, settings name {live.account}"
        return Finding(
            "key", Verdict.BAD, text, "mend live.account, or use the other account's key"
        )
    hint = "" if live.account else f"; live.account = {account!r} is missing for live trading"
    return Finding("key", Verdict.GOOD, f"may trade, may not withdraw, opens {account}{hint}")


async def _exchange(settings: Settings) -> list[Finding]:
    transport = TransportClock()
    clock = SystemClock(transport)
    feed = CcxtFeed(feed_settings(settings, pinned_symbols(settings)), clock, transport)
    try:
        instruments = list(await feed.instruments())
        venue_ms = await feed.server_time()
        marks = await _marks(settings, feed, venue_ms, instruments)
    except EquipoiseError as e:
        remedy = "mend [exchange] or the connection; `--offline` looks at all the rest"
        return [Finding("exchange", Verdict.BAD, str(e), remedy)]
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
    remedy = "" if enough else "raise paper.cash, or trade fewer or cheaper contracts"
    verdict = Verdict.GOOD if enough else Verdict.BAD
    return [*found, Finding("minimum capital", verdict, text, remedy)]


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
    remedy = "" if good else 'keep the machine\'s clock right (NTP), or market_time = "venue"'
    return Finding("clock", Verdict.GOOD if good else Verdict.BAD, text, remedy)
