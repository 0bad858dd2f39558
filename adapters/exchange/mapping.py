"""Payloads of ccxt to our vocabulary and back: pure functions, no network, no ccxt import.

Whatever is not what it must be raises BadPayload naming the source; nothing is guessed. Unified
rows are `[open_ms, open, high, low, close, volume]`; which of them are closed is not said there,
but some venues say it in the raw frame (see `frames`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from adapters.exchange.failures import shortened, unknown_symbol
from daemon.domain.failures import BadPayload, ConfigurationError, VenueError
from daemon.domain.finality import Reading
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.units import MINUTE_MS, Timeframe

Payload = Mapping[str, Any]
DECIMAL_PLACES: Final = 2  # ccxt's precisionMode
SIGNIFICANT_DIGITS: Final = 3
TICK_SIZE: Final = 4
_NESTING_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Settled:
    """Hold one funding payment of one symbol; mark is NaN where the venue does not tell it."""

    symbol: str
    settle_ms: int
    rate: float
    mark: float


# ---- bars ----------------------------------------------------------------------------------------


def readings_of(
    rows: object, timeframe: Timeframe, source: str, volume_unit: float = 1.0
) -> list[Reading]:
    """Read unified rows; rows that no market can have made are left out, as if absent.

    volume_unit: base units that a volume of 1 in the rows stands for. Raises BadPayload for what is
    no row at all, and where more than half of them are impossible.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise BadPayload(f"{source}: bars must be a list, not {shortened(repr(rows))}")
    readings = [in_base(reading_of(row, timeframe, source), volume_unit) for row in rows]
    possible = [reading for reading in readings if is_possible(reading)]
    if 2 * len(possible) < len(readings):
        raise BadPayload(f"{source}: no market makes such bars: {shortened(repr(rows[0]))}")
    return possible


def reading_of(row: object, timeframe: Timeframe, source: str, *, closed: bool = False) -> Reading:
    """Read one unified row; `closed` says that the venue flagged it."""
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) < 6:
        raise BadPayload(f"{source}: a bar must have six fields, not {shortened(repr(row))}")
    open_ms, *fields = row[:6]
    numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in fields)
    if not isinstance(open_ms, int) or isinstance(open_ms, bool) or not numbers:
        raise BadPayload(f"{source}: a bar must hold numbers, not {shortened(repr(row))}")
    if open_ms % timeframe.ms:
        raise BadPayload(f"{source}: bar at {open_ms} does not open on the {timeframe.label} grid")
    opened, high, low, close, volume = (float(x) for x in fields)
    return Reading(open_ms, (opened, high, low, close, volume), closed)


# Of these ccxt passes the count of contracts on as the volume of a bar of a swap.
_COUNTS_CONTRACTS: Final = frozenset(
    {"gate", "gateio", "mexc", "kucoin", "kucoinfutures", "digifinex", "xt", "delta"}
)


def volume_unit(market: Payload, exchange: str) -> float:
    """Give the base units that a volume of 1 in this venue's bars of a market stands for."""
    if exchange not in _COUNTS_CONTRACTS or not market.get("contract"):
        return 1.0
    source = f"{exchange} market {market.get('symbol')}, contract size"
    size = float(exact(market.get("contractSize") or 1, source))
    if size <= 0:
        raise BadPayload(f"{source}: {size} must be positive")
    return size


def in_base(reading: Reading, volume_unit: float) -> Reading:
    """Give a bar with its volume in base units."""
    if volume_unit == 1.0:
        return reading
    opened, high, low, close, volume = reading.values
    return replace(reading, values=(opened, high, low, close, volume * volume_unit))


def is_possible(reading: Reading) -> bool:
    """Tell whether a market can have made a bar: the range holds its ends, nothing is negative."""
    opened, high, low, close, volume = reading.values
    return 0 < low <= min(opened, close) and max(opened, close) <= high and volume >= 0


def holds_a_list(raw: object, depth: int = 0) -> bool:
    """Tell whether a raw answer holds rows, be it none: a list, or one inside its envelope.

    `{}` or an envelope without any list is no answer to 'which bars', and must not mean 'none'.
    """
    if isinstance(raw, Mapping) and depth < _NESTING_MAX:
        return any(holds_a_list(value, depth + 1) for value in raw.values())
    return isinstance(raw, list)


FUNDING_OF_ALL_AT_ONCE: Final = frozenset({"binance", "binanceusdm"})
"""Venues whose funding history can be asked without a symbol; others refuse that."""
FUNDING_END: Final[Mapping[str, str]] = {"bybit": "until", "okx": "after"}
"""What the end of a span is called where a funding history is answered from its end."""


def funding_interval_ms(market: Payload) -> int | None:
    """Read how often a contract settles funding now; None where the venue does not tell."""
    info = market.get("info")
    text = str(info.get("fundingInterval") or "") if isinstance(info, Mapping) else ""
    return int(text) * MINUTE_MS if text.isdecimal() and int(text) > 0 else None


# ---- instruments ---------------------------------------------------------------------------------


def instrument_of(market: Payload, exchange: str, precision_mode: int) -> Instrument:
    """Read one unified market of a linear perpetual with its exact trading rules."""
    symbol = str(market.get("symbol"))
    if not is_linear_perpetual(market):
        raise VenueError(f"symbol {symbol!r}: {exchange} has it, but not as a linear perpetual")
    source = f"{exchange} market {symbol}"
    precision, limits = market.get("precision") or {}, market.get("limits") or {}
    size = exact(market.get("contractSize") or 1, f"{source}, contract size")
    price_step = step_of(precision.get("price"), precision_mode, f"{source}, price step")
    lot = step_of(precision.get("amount"), precision_mode, f"{source}, quantity step")
    quantity_min = _limit(limits, "amount", source)
    return Instrument(
        key=InstrumentKey(exchange, symbol),
        base=str(market.get("base")),
        quote=str(market.get("quote")),
        settle=str(market.get("settle")),
        rules=TradingRules(
            price_step=price_step,
            quantity_step=lot * size,
            quantity_min=max(quantity_min, lot) * size,
            notional_min=_limit(limits, "cost", source),
            contract_size=size,
        ),
        listed_ms=market["created"] if isinstance(market.get("created"), int) else None,
    )


NEVER_MS: Final = 3_500_000_000_000  # 2080: venues write a date beyond it for "has no end"
_END_NAMES: Final = ("deliveryDate", "deliveryTime", "delistTime", "expTime")
_ENDED: Final = {"settling", "close", "closed", "delivered", "delisted", "suspended_trading"}


def end_ms_of(market: Payload) -> int | None:
    """Give when a perpetual ends or ended, None while no end is announced; 0 says 'already'."""
    raw = market.get("info")
    info: Payload = raw if isinstance(raw, Mapping) else {}
    for name in _END_NAMES:
        text = str(info.get(name) or "")
        if text.isdecimal() and 0 < int(text) < NEVER_MS:
            return int(text)
    status = str(info.get("status") or info.get("contractStatus") or info.get("state") or "")
    return 0 if status.lower() in _ENDED else None


def is_halted(market: Payload) -> bool:
    """Tell whether the venue says that a market does not trade at present."""
    return market.get("active") is False


def is_linear_perpetual(market: Payload) -> bool:
    """Tell whether a unified market is a perpetual that settles in its quote currency."""
    return bool(market.get("swap")) and bool(market.get("linear"))


def exact(value: object, source: str) -> Decimal:
    """Read a number of ccxt as the decimal it was published as (its shortest form)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadPayload(f"{source}: {shortened(repr(value))} is not a number")
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise BadPayload(f"{source}: {shortened(repr(value))} is not a number") from None
    if not number.is_finite():
        raise BadPayload(f"{source}: {value!r} is not finite")
    plain = number.normalize()
    whole = plain == plain.to_integral_value()
    return plain.quantize(Decimal(1)) if whole else plain  # 100, not 1E+2


def step_of(precision: object, precision_mode: int, source: str) -> Decimal:
    """Read a precision as a step: itself in TICK_SIZE, 10^-places in DECIMAL_PLACES."""
    if precision is None:
        raise BadPayload(f"{source}: the venue does not tell it")
    number = exact(precision, source)
    if precision_mode == DECIMAL_PLACES:
        number = Decimal(1).scaleb(-int(number))
    elif precision_mode != TICK_SIZE:
        raise VenueError(f"{source}: precision mode {precision_mode} gives no fixed step")
    if number <= 0:
        raise BadPayload(f"{source}: {number} must be positive")
    return number


def _limit(limits: Payload, name: str, source: str) -> Decimal:
    """Read a lower limit; a venue that tells none has none."""
    value = (limits.get(name) or {}).get("min")
    number = Decimal(0) if value is None else exact(value, f"{source}, smallest {name}")
    return max(number, Decimal(0))


def chosen_symbols(
    wanted: Sequence[str],
    markets: Mapping[str, Payload],
    exchange: str,
    *,
    settle: str,
    tickers: Mapping[str, Payload] | None = None,
) -> list[str]:
    """Resolve what a setting names to unified symbols, each once, in the order named.

    `top:N` stands for the N active perpetuals with the largest quote volume of the last day.
    """
    perpetuals = {s: m for s, m in markets.items() if is_linear_perpetual(m)}
    by_id = {str(market.get("id")): symbol for symbol, market in perpetuals.items()}
    chosen: dict[str, None] = {}
    for name in wanted:
        if name.startswith("top:"):
            ranked = _by_volume(perpetuals, tickers or {}, settle)
            count = top_count(name)
            if len(ranked) < count:
                raise VenueError(
                    f"symbols {name!r}: {exchange} trades {len(ranked)} perpetuals in {settle}"
                )
            chosen |= dict.fromkeys(ranked[:count])
        elif name in perpetuals:
            chosen[name] = None
        elif name in by_id:
            chosen[by_id[name]] = None
        else:
            raise unknown_symbol(exchange, name, [*perpetuals, *by_id])
    return list(chosen)


def top_count(name: str) -> int:
    """Read the N of `top:N`; raises ConfigurationError for anything but a count."""
    text = name.removeprefix("top:")
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"symbols {name!r}: write top: and a count from 1, such as top:12")
    return int(text)


def _by_volume(
    perpetuals: Mapping[str, Payload], tickers: Mapping[str, Payload], settle: str
) -> list[str]:
    volumes = {
        symbol: float(ticker.get("quoteVolume") or 0.0)
        for symbol, ticker in tickers.items()
        if symbol in perpetuals
        and perpetuals[symbol].get("settle") == settle
        and perpetuals[symbol].get("active") is not False
    }
    return sorted(volumes, key=lambda symbol: (-volumes[symbol], symbol))


# ---- funding and time ----------------------------------------------------------------------------


def settled_of(entry: Payload, source: str) -> Settled:
    """Read one unified entry of the funding history; stamps are rounded to the minute.

    Venues stamp a settlement some milliseconds beside the instant it belongs to.
    """
    stamp, rate = entry.get("timestamp"), entry.get("fundingRate")
    if not isinstance(stamp, int) or not isinstance(rate, int | float) or not math.isfinite(rate):
        raise BadPayload(f"{source}: funding needs time and rate, not {shortened(repr(entry))}")
    settle_ms = round(stamp / MINUTE_MS) * MINUTE_MS
    info = entry.get("info")
    mark = info.get("markPrice") if isinstance(info, Mapping) else None
    return Settled(str(entry.get("symbol")), settle_ms, float(rate), _price(mark))


def next_funding_ms(entry: Payload) -> int | None:
    """Read when a symbol settles funding next, None where the venue does not tell."""
    stamp = entry.get("fundingTimestamp")
    return round(stamp / MINUTE_MS) * MINUTE_MS if isinstance(stamp, int) and stamp > 0 else None


def _price(value: object) -> float:
    if not isinstance(value, int | float | str):
        return math.nan
    try:
        price = float(value)
    except ValueError:
        return math.nan
    return price if math.isfinite(price) and price > 0 else math.nan


def server_time_of(value: object, exchange: str) -> int:
    """Read a venue's time in ms; raises BadPayload for None, which a garbled answer becomes."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise BadPayload(f"{exchange}: the server's time is {value!r}: want ms since 1970")
    return value
