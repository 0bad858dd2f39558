"""What one feed is told: venue, symbols, and how patient it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.exchange.joining import Beginning
from adapters.exchange.watch import WatchRules
from daemon.domain.instrument import Instrument
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe, require


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Choose venue, symbols and patience. Seconds are transport time, milliseconds market time.

    symbols: unified (`BTC/USDT:USDT`), the venue's ids (`BTCUSDT`), or `top:N` by quote volume.
    options: the ccxt constructor's, nested `urls`, `options` and proxies included; no keys.
    stream: False reads by REST only.
    stream_patience_s: how long after an instant the stream may take to prove its bars.
    stream_deadline_bars: how many bars in a row the stream may fail to show of one instrument that
    traded, before its socket counts as deaf.
    reread_patience_s: how long the bars of others wait for an answer of REST about one.
    reread_grace_ms: a row without successor counts as closed so long after its close (venues answer
    from copies that lag); 0 in lock-step, where market time stands still: then an answer that lacks
    the rates of a settlement is the venue's word that there are none, too.
    recheck_s: how often bars that the venue denied are asked for again; 0 in lock-step: at each
    `settled`. late_max_ms: for how long.
    funding_patience_s: how long bars of a settlement wait for its rates.
    settle_timeout_s: the longest that `settled` waits.
    audit_every_bars: how often the newest audit_bars are read again to find revisions, 0 = never.
    markets_every_ms: how often (market time) rules and standing of instruments are read, 0 never.
    known: instruments of a book that goes on; one that the venue no longer lists stays as it was.
    spare: how many columns a new book keeps free for contracts listed later. beginning: of the book
    that goes on, None for a new one. admit_new: whether what is listed later joins by itself.
    watch: bounds of silence, age, breaks and clock.
    """

    exchange: str
    symbols: tuple[str, ...]
    timeframe: Timeframe = field(default_factory=lambda: Timeframe(30))
    options: Mapping[str, object] = field(default_factory=dict)
    settle: str = "USDT"
    stream: bool = True
    funding: bool = True
    stream_patience_s: float = 3.0
    stream_deadline_bars: int = 2
    reread_grace_ms: int = 2_000
    reread_patience_s: float = 3.0
    recheck_s: float = 30.0
    late_max_ms: int = 6 * HOUR_MS
    funding_patience_s: float = 5.0
    settle_timeout_s: float = 60.0
    audit_every_bars: int = 8
    audit_bars: int = 48
    markets_every_ms: int = 15 * MINUTE_MS
    known: tuple[Instrument, ...] = ()
    spare: int = 0
    beginning: Beginning | None = None
    admit_new: bool = True
    watch: WatchRules = field(default_factory=WatchRules)
    parallel_requests: int = 4

    def __post_init__(self) -> None:
        require(self.symbols, "symbols: want at least one, such as BTC/USDT:USDT or top:12")
        for name in ("parallel_requests", "stream_deadline_bars", "audit_bars"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)}: want 1 or more")
