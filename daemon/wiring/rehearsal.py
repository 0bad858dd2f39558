"""The rehearsal: an exchange in a child process, and settings that lead the daemon to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from adapters.history.parquet_file import is_generated
from adapters.history.rules import load_rules
from adapters.history.store import data_root
from adapters.journal import JournalReader
from adapters.rehearsal.launch import LaunchedExchange, launch, options_of
from adapters.rehearsal.planted import PatternKind
from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import (
    ORIGIN_MS_DEFAULT,
    AbsentBar,
    DialectKind,
    LateBar,
    MarketKind,
    PaceKind,
    RehearsalSettings,
)
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError
from daemon.domain.messages import BarsClosed
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, instant_ms, require
from daemon.settings import Settings, check_settings
from daemon.wiring.core import REHEARSAL_FILE, made_folder, rules_path

JOURNAL_NAME: Final = "journal.sqlite"
PINNED: Final = (
    "seed",
    "coins",
    "base_minutes",
    "planted_ic",
    "data_folder",
)  # what makes a market
DIALECT: Final = "dialect"  # part of every contract's name; older books lack it
DIALECT_OF_OLD: Final = "binanceusdm"
PATTERN: Final = "pattern"  # older books lack it
PATTERN_OF_OLD: Final = "context"
LATER: Final = "listings"  # coins listed later, [symbol, hours, instant]; older books lack the key


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Hold a running rehearsal exchange and the settings that trade on it."""

    exchange: LaunchedExchange
    settings: Settings
    speed: float

    def leading(self, settings: Settings) -> Settings:
        """Give settings as they lead to this exchange."""
        return _leading_to(settings, self.exchange)


@contextmanager
def rehearsal_exchange(settings: Settings) -> Iterator[Rehearsal]:
    """Start the exchange where the journal of the state folder ends, or at the beginning."""
    _pin_market(settings)
    chosen = exchange_settings(settings, resume_at_ms=last_instant_ms(settings.run.state_folder))
    with launch(chosen) as exchange:
        yield Rehearsal(exchange, _leading_to(settings, exchange), chosen.factor)


@dataclass(frozen=True, slots=True)
class ServedExchange:
    """Hold where a rehearsal exchange without a daemon can be reached, and how by ccxt."""

    rest_url: str
    ws_url: str
    symbols: tuple[str, ...]
    ccxt_options: Mapping[str, Any]


@asynccontextmanager
async def served_exchange(settings: Settings) -> AsyncIterator[ServedExchange]:
    """Serve the market of the settings from its beginning, in this process, for other ones.

    Raises ConfigurationError for settings that do not fit together, PortTaken for a used port.
    """
    async with await serve(exchange_settings(settings, resume_at_ms=None)) as running:
        yield ServedExchange(
            running.rest_url,
            running.ws_url,
            tuple(running.exchange.market.coins),
            options_of(running.exchange.settings.dialect)(running.rest_url, running.ws_url),
        )


def with_venue_time(settings: Settings) -> Settings:
    """Give the settings of a visitor who reads the market without moving it."""
    visitor = settings.exchange.model_copy(update={"market_time": "venue", "lockstep_url": ""})
    return settings.model_copy(update={"exchange": visitor})


def history_days(settings: Settings) -> float:
    """Give how many days of market a book in the state folder has seen, its warm-up included."""
    path = settings.run.state_folder / JOURNAL_NAME
    first = next(
        (e for e in JournalReader(path).read_from(1) if isinstance(e.event, BarsClosed)), None
    )
    last = last_instant_ms(settings.run.state_folder)
    if first is None or last is None or not isinstance(first.event, BarsClosed):
        raise DataError(f"{path}: no bar was ever seen")
    return (last - first.event.close_ms) / DAY_MS + 1.0


def last_instant_ms(state_folder: Path) -> int | None:
    """Give the market time that the journal of a state folder has reached; None without one."""
    path = state_folder / JOURNAL_NAME
    if not path.exists():
        return None
    return JournalReader(path).last_event_ms


def exchange_settings(settings: Settings, *, resume_at_ms: int | None) -> RehearsalSettings:
    """Translate settings for the exchange; raises ConfigurationError for bars it cannot make."""
    wanted = settings.rehearsal
    _refuse_finer_bars(settings)
    pace, factor = _pace(wanted.pace)
    return RehearsalSettings(
        kind=MarketKind.PARQUET if wanted.data_folder else MarketKind.SEEDED,
        dialect=DialectKind(wanted.dialect),
        seed=wanted.seed,
        coins=wanted.coins,
        symbols=_named(settings),
        step_minutes=wanted.base_minutes,
        planted_ic=wanted.planted_ic,
        pattern=PatternKind(wanted.pattern),
        history_days=_history_days(settings),
        start_ms=None if wanted.start is None else instant_ms(wanted.start),
        resume_at_ms=resume_at_ms,
        end_ms=None if wanted.until is None else instant_ms(wanted.until),
        parquet_folder=_for_the_child(wanted.data_folder),
        parquet_timeframe=wanted.source,
        funding_folder=_funding_folder(wanted.data_folder),
        rules_file=_rules_for_files(settings) if wanted.data_folder else "",
        source_minutes=Timeframe.parse(wanted.source).minutes,
        pace=pace,
        factor=factor,
        port=wanted.port,
        fault_seed=wanted.fault_seed or None,
        absent_bars=tuple(
            AbsentBar(i.symbol, _ms(i.open)) for i in wanted.irregularities if i.kind == "absent"
        ),
        listings={symbol: at_ms for symbol, _, at_ms in later_listings(settings)},
        late_bars=tuple(
            LateBar(i.symbol, _ms(i.open), round(i.delay_s * 1000))
            for i in wanted.irregularities
            if i.kind == "late"
        ),
    )


def later_listings(settings: Settings) -> list[tuple[str, float, int]]:
    """Give (symbol, hours, instant in ms) of each coin that is listed while the book runs.

    Of a book that goes on they are those of its beginning. Raises ConfigurationError for a market
    of files, whose listings are in the files.
    """
    wanted = settings.rehearsal
    path = settings.run.state_folder / REHEARSAL_FILE
    if (settings.run.state_folder / JOURNAL_NAME).exists() and path.exists():
        return [(str(s), float(h), int(at)) for s, h, at in _market_of(path).get(LATER, ())]
    if wanted.listings and wanted.data_folder:
        raise ConfigurationError(
            f"rehearsal.listings = {[one.symbol for one in wanted.listings]}: a market of files "
            "lists a coin with its first bar; leave this out, or rehearsal.data_folder"
        )
    start_ms = ORIGIN_MS_DEFAULT + _history_days(settings) * DAY_MS
    if wanted.start is not None:
        start_ms = instant_ms(wanted.start)
    return [
        (one.symbol, one.after_h, start_ms + round(one.after_h * HOUR_MS))
        for one in wanted.listings
    ]


def _refuse_finer_bars(settings: Settings) -> None:
    """Raise ConfigurationError for bars shorter than the market's own: they can only be joined."""
    source, wanted = Timeframe.parse(settings.market.source), settings.rehearsal
    shortest = wanted.base_minutes
    key = "rehearsal.base_minutes"
    if wanted.data_folder:
        shortest, key = Timeframe.parse(wanted.source).minutes, "rehearsal.source"
    if source.minutes % shortest:
        raise ConfigurationError(
            f"market.source = {source.label!r}: the market's own bars are of {shortest} minutes "
            f"({key}); accepted: a multiple of that, or a shorter {key}"
        )


def _is_generated(settings: Settings) -> bool:
    """Tell whether the market is generated, or a record of one that was."""
    folder = settings.rehearsal.data_folder
    if not folder:
        return True
    files = Path(folder).glob(f"*-{settings.rehearsal.source}.parquet")
    return any(is_generated(path) for path in files)


def _pin_market(settings: Settings) -> None:
    """Keep a book on the market it was begun with; raises ConfigurationError naming the key."""
    path = settings.run.state_folder / REHEARSAL_FILE
    wanted = {key: getattr(settings.rehearsal, key) for key in (*PINNED, PATTERN, DIALECT)}
    if not (settings.run.state_folder / JOURNAL_NAME).exists():
        made_folder(settings.run.state_folder)
        wanted[LATER] = later_listings(settings)
        path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        return
    if not path.exists():
        raise ConfigurationError(
            f"run.state_folder = {str(settings.run.state_folder)!r}: the book there was not begun "
            "by a rehearsal; name another folder"
        )
    book = {DIALECT: DIALECT_OF_OLD, PATTERN: PATTERN_OF_OLD, **_market_of(path)}
    for key in (*PINNED, PATTERN, DIALECT):
        if book.get(key) != wanted[key]:
            raise ConfigurationError(
                f"rehearsal.{key} = {wanted[key]!r}: the book in {settings.run.state_folder} was "
                f"begun with {book.get(key)!r}; keep that, or name another run.state_folder"
            )
    now = [[one.symbol, one.after_h] for one in settings.rehearsal.listings]
    then = [[symbol, hours] for symbol, hours, _ in book.get(LATER, ())]
    if now != then:
        raise ConfigurationError(
            f"rehearsal.listings = {now}: the book in {settings.run.state_folder} was begun with "
            f"{then}; keep that, or name another run.state_folder"
        )


def _market_of(path: Path) -> Mapping[str, Any]:
    """Read what the market of a book was made of; raises CorruptFile for anything else."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise CorruptFile(_no_market(path, str(e))) from e
    if not isinstance(book, dict):
        raise CorruptFile(_no_market(path, f"it holds a {type(book).__name__}"))
    absent = [key for key in PINNED if key not in book]
    if absent:
        raise CorruptFile(_no_market(path, f"it lacks {', '.join(absent)}"))
    return book


def _no_market(path: Path, why: str) -> str:
    return (
        f"{path}: does not say which market this book was begun on ({why}); "
        "restore the file from a backup, or name another run.state_folder"
    )


def _funding_folder(data_folder: str) -> str:
    """Give the folder of funding rates that belongs to a folder of bars; empty without one."""
    if not data_folder:
        return ""
    bars = Path(data_folder)
    beside = data_root(bars.parent) / "funding" / bars.name
    return _for_the_child(str(beside)) if beside.is_dir() else ""


def _for_the_child(folder: str) -> str:
    """Give a folder as the exchange finds it too, which runs in another working folder."""
    return str(Path(folder).resolve()) if folder else ""


def _rules_for_files(settings: Settings) -> str:
    """Write the trading rules of the table as the exchange reads them; give the file's path."""
    table = load_rules(rules_path(settings.backtest.rules_file))
    names = {
        p.name.rpartition("-")[0] for p in Path(settings.rehearsal.data_folder).glob("*.parquet")
    }
    rows = {
        name: {
            "price_step": str(rules.price_step),
            "quantity_step": str(rules.quantity_step),
            "notional_min_usdt": str(rules.notional_min),
        }
        for name in sorted(names)
        for rules in (table.rules_of(name),)
    }
    folder = made_folder(settings.run.state_folder)
    path = folder / "rehearsal-rules.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return str(path.resolve())


def _ms(moment: datetime | None) -> int:
    require(moment is not None, "an irregularity needs the opening instant of its bar")
    return 0 if moment is None else instant_ms(moment)


def _named(settings: Settings) -> tuple[str, ...]:
    symbols = settings.universe.symbols
    if isinstance(symbols, str) or not settings.rehearsal.data_folder:
        return ()
    return tuple(s.replace("/", "").partition(":")[0] for s in symbols)


def _history_days(settings: Settings) -> int:
    """Leave room for training and for the windows before the first decision."""
    longest = max(Timeframe.parse(t).minutes for t in settings.market.timeframes)
    windows = -(-settings.market.window_bars * longest // 1440)
    if settings.rehearsal.data_folder:
        return windows + 2
    return settings.training.days + windows + 10


def _pace(pace: str | float) -> tuple[PaceKind, float]:
    if pace == "lockstep":
        return PaceKind.LOCK_STEP, 1.0
    if pace == "realtime":
        return PaceKind.FACTOR, 1.0
    return PaceKind.FACTOR, float(pace)


def _leading_to(settings: Settings, exchange: LaunchedExchange) -> Settings:
    lockstep = settings.rehearsal.pace == "lockstep"
    led = settings.exchange.model_copy(
        update={
            "id": settings.rehearsal.dialect,
            "options": exchange.ccxt_options(),
            "market_time": "lockstep" if lockstep else "venue",
            "lockstep_url": exchange.rest_url if lockstep else "",
            "generated": _is_generated(settings),
        }
    )
    result = settings.model_copy(update={"exchange": led})
    check_settings(result)
    return result
