"""Closed source bars, revisions and funding of one venue through ccxt: the MarketFeed port.

Bars come by WebSocket where the venue has one, and by REST for the warm-up, for what the stream did
not prove in time, and wherever there is no stream. What is closed is decided by market time only.
One pump task owns the gate and the bookkeeping: read the caches, ask by REST for what is missing,
hand out what is settled. Several `BarsClosed` may go out for one instant; the later ones hold only
what is new (late bars). Rates of a settlement go out before the bars of the same instant, unless
the venue is late with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from adapters.exchange.carried import Carried
from adapters.exchange.client import Usage, VenueClient
from adapters.exchange.health import FeedHealth
from adapters.exchange.history import read_history
from adapters.exchange.joining import Beginning, Joining, perpetuals_of
from adapters.exchange.mapping import chosen_symbols, instrument_of
from adapters.exchange.pump import FeedSettings, Pump
from adapters.exchange.reader import VenueReader
from adapters.exchange.recent import RecentBars
from adapters.exchange.watch import Transport
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.instrument import Instrument, spare_columns
from daemon.domain.messages import InstrumentChanged, MarketEvent
from daemon.domain.units import Timeframe, require
from daemon.ports import Clock, Warmup

__all__ = ["CcxtFeed", "FeedSettings"]


class CcxtFeed:
    """Deliver the closed bars of the configured universe from any venue that ccxt knows.

    One consumer iterates `events`; it must not call `settled` from the loop body, but from another
    task. The first use raises VenueError if the id is unknown or the venue cannot serve us.
    """

    def __init__(
        self,
        settings: FeedSettings,
        clock: Clock,
        transport: Transport,
        on_warmup: Callable[[Warmup], None] = lambda progress: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._transport = transport
        self._on_warmup = on_warmup
        self._client: VenueClient | None = None
        self._instruments: tuple[Instrument, ...] = ()
        self._joining: Joining | None = None
        self._pump: Pump | None = None
        self._task: asyncio.Task[None] | None = None
        self._carried = Carried(RecentBars(settings.audit_bars))

    @property
    def venue(self) -> str:
        """Give the exchange id."""
        return self._settings.exchange

    @property
    def known(self) -> tuple[Instrument, ...]:
        """Give the instruments of the book that goes on here, () for a new one."""
        return self._settings.known

    @property
    def timeframe(self) -> Timeframe:
        """Give the length of the source bars."""
        return self._settings.timeframe

    @property
    def late_max_ms(self) -> int:
        """Give for how long bars are asked for that the venue did not have."""
        return self._settings.late_max_ms

    @property
    def client(self) -> VenueClient:
        """Give the client, for those who read more of this venue within the same budget."""
        return self._opened()

    @property
    def health(self) -> FeedHealth | None:
        """Give what was seen and suffered, None before `events` began."""
        return None if self._pump is None else self._pump.health

    @property
    def usage(self) -> Usage:
        """Give the requests made and the budget used."""
        return self._opened().usage

    def shown(self) -> dict[str, object]:
        """Give what people are shown of this feed, by venue; empty before `events` began."""
        if self.health is None:
            return {}
        usage = self.usage
        told = {"requests_n": usage.requests_n, "requests_refused_n": usage.refused_n}
        weights = {"weight_1m": usage.weight_1m, "weight_1m_max": usage.weight_1m_max}
        return {self._settings.exchange: {**self.health.values(), **told, **weights}}

    @property
    def beginning(self) -> Beginning | None:
        """Give when the book was begun and what was listed then; None before `instruments`."""
        return None if self._joining is None else self._joining.beginning

    async def server_time(self) -> int:
        """Ask the venue for its time in ms: what a VenueClock is made of."""
        return await self._opened().server_time()

    async def instruments(self) -> Sequence[Instrument]:
        """Load the instruments with their exact trading rules, in the configured order."""
        if not self._instruments:
            client = self._opened()
            self._require_features(client)
            markets, _ = await client.ask_patiently("load_markets")
            tickers = None
            if any(name.startswith("top:") for name in self._settings.symbols):
                if not client.has("fetchTickers"):
                    raise VenueError(f"{client.exchange}: ccxt has no tickers there; name symbols")
                tickers, _ = await client.ask_patiently("fetch_tickers")
            known = {i.key.symbol: i for i in self._settings.known}
            there = perpetuals_of(markets)
            gone = known.keys() - there
            symbols = chosen_symbols(
                [name for name in self._settings.symbols if name not in gone],
                markets,
                client.exchange,
                settle=self._settings.settle,
                tickers=tickers,
            )
            mode = client.api.precisionMode
            found = {s: instrument_of(markets[s], client.exchange, mode) for s in symbols}
            fresh = [symbol for symbol in symbols if symbol not in known]
            beginning = self._settings.beginning or Beginning(self._clock.now(), there)
            named = tuple(fresh) if any(i.is_spare for i in known.values()) else ()
            settle, admit_new = self._settings.settle, self._settings.admit_new
            for symbol in named:
                if found[symbol].settle != settle:
                    raise ConfigurationError(
                        f"universe.symbols: {symbol} settles in {found[symbol].settle}; the spare "
                        f"columns of this book are for contracts that settle in {settle}"
                    )
            self._joining = Joining(beginning, named, admit_new, settle)
            ordered = [*known, *(() if named else fresh)]
            columns = tuple(found.get(s) or known[s] for s in ordered)
            spare_n = 0 if known else self._settings.spare
            self._instruments = (*columns, *spare_columns(client.exchange, settle, spare_n))
        return self._instruments

    async def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the closed bars with since < close <= until, and the funding paid in between.

        Each instant comes once, complete as far as the venue has it, rates before bars. An `until`
        beyond market time stops at the last closed bar.
        """
        symbols = [i.key.symbol for i in await self.instruments()]
        async for event in read_history(
            self._reader(),
            self._clock,
            symbols,
            self._settings.timeframe,
            since_ms,
            until_ms,
            grace_ms=self._settings.reread_grace_ms,
            funding=self._has_funding(),
            on_warmup=self._on_warmup,
        ):
            self._carried.recent.see(event)
            yield event

    async def events(self, after_ms: int) -> AsyncGenerator[MarketEvent]:
        """Yield bars that close after `after_ms`, revisions and funding, until closed."""
        require(self._pump is None, "the feed delivers already: want one consumer")
        instruments = await self.instruments()
        pump = Pump(
            self._settings,
            self._opened(),
            self._reader(),
            self._clock,
            self._transport,
            instruments,
            after_ms,
            funding=self._has_funding(),
            joining=self._joining if any(i.is_spare for i in instruments) else None,
            carried=self._carried,
        )
        self._pump = pump
        task = asyncio.create_task(pump.run(), name=f"feed of {self._settings.exchange}")
        task.add_done_callback(lambda _: pump.wake_all())
        self._task = task
        try:
            while (event := await pump.delivery.next_event(task)) is not None:
                if isinstance(event, InstrumentChanged):
                    self._keep_column(event)
                self._carried.recent.see(event)
                yield event
        finally:
            await self._end_pump()

    def _keep_column(self, event: InstrumentChanged) -> None:
        """Remember who took a spare column, for an iteration of events that is begun anew."""
        columns = self._instruments
        if columns[event.index].is_spare:
            before, after = columns[: event.index], columns[event.index + 1 :]
            self._instruments = (*before, event.instrument, *after)

    async def settled(self, now_ms: int) -> None:
        """Return when everything up to `now_ms` has been yielded and taken; bounded.

        Before `events` is iterated there is nothing to wait for.
        """
        if self._pump is not None:
            await self._pump.delivery.settled(now_ms)

    async def close(self) -> None:
        """Stop delivering and close every connection."""
        await self._end_pump()
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _end_pump(self) -> None:
        """Stop the pump and wait for it, before the connections it uses are closed."""
        task, self._task = self._task, None
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)

    def _opened(self) -> VenueClient:
        if self._client is None:
            self._client = VenueClient(self._settings.exchange, self._settings.options)
        return self._client

    def _reader(self) -> VenueReader:
        parallel = self._settings.parallel_requests
        return VenueReader(self._opened(), self._clock, self._settings.timeframe, parallel=parallel)

    def _has_funding(self) -> bool:
        return self._settings.funding and self._opened().has("fetchFundingRateHistory")

    def _require_features(self, client: VenueClient) -> None:
        label = self._settings.timeframe.label
        if not client.has("fetchOHLCV"):
            raise VenueError(
                f"{client.exchange}: ccxt cannot read bars there (no fetchOHLCV), so nothing can"
                " be warmed up or proven; choose another exchange"
            )
        offered = client.api.timeframes or {}
        if label not in offered:
            raise ConfigurationError(
                f"timeframe {label!r}: {client.exchange} offers {', '.join(offered) or 'none'};"
                " choose a source length that it has"
            )
