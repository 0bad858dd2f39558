"""What is said of the data that a backtest or a check was made of: its findings, in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.history.store import bars_path, data_root
from daemon.domain.covariates import Series
from daemon.research.point_in_time import DataFacts, Finding, point_in_time
from daemon.research.worlds import Data
from daemon.settings import Settings
from daemon.wiring.bar_files import named_symbols
from daemon.wiring.estimator import TRAINED_UNTIL, model_facts, needs_model, table_in_use

if TYPE_CHECKING:
    from daemon.wiring.backtest import History


def data_findings(
    settings: Settings,
    history: History,
    *,
    used_from_ms: int | None = None,
    is_book: bool = False,
    series: tuple[tuple[str, Series], ...] = (),
) -> tuple[Finding, ...]:
    """Say what in loaded data is not as it was known at the time; reports take it as caveats.

    used_from_ms: the first decision, for the overlap with a model's training. is_book: instruments
    and their rules are those of a state folder, as they were when it was made. series: what a model
    reads beside the bars.
    """
    root, venue = data_root(Path(settings.backtest.data_folder)), settings.backtest.venue
    paths = {s: bars_path(root, venue, s, history.source) for s in history.symbols}
    trained_until_ms = _trained_until_ms(settings)
    facts = DataFacts(
        data=replace(data_of(history), series=series),
        venue=venue,
        named=is_book or bool(named_symbols(settings)),
        rules_from_table=not is_book,
        defaulted=history.defaulted,
        trained_until_ms=trained_until_ms,
        used_from_ms=used_from_ms,
        rank_max=settings.universe.volume_rank_max,
        ends_noted=_ends_noted(history),
        rules_dated=_rules_dated(history),
        silence_ends=True,
        written_ms={s: round(p.stat().st_mtime * 1000) for s, p in paths.items() if p.is_file()},
    )
    return point_in_time(facts)


def _trained_until_ms(settings: Settings) -> int | None:
    """Give how far the model learned whose forecasts are used; None without one."""
    table = table_in_use(settings)
    if table is not None:
        noted = table.facts.get(TRAINED_UNTIL, "")
        return int(noted) if noted.isdecimal() else None
    model = model_facts(settings) if needs_model(settings) else None
    return None if model is None else model.trained_until_ms


def _ends_noted(history: History) -> tuple[str, ...]:
    """Name whose last bar is followed by an end that is written down."""
    return tuple(
        symbol
        for symbol, record in zip(history.symbols, history.records, strict=True)
        if record is not None and record.lives and record.lives[-1].ended_ms is not None
    )


def _rules_dated(history: History) -> tuple[str, ...]:
    """Name whose trading rules are written down for all of the time that was played."""
    first_ms = int(history.panel.close_ms[0])
    return tuple(
        symbol
        for symbol, record in zip(history.symbols, history.records, strict=True)
        if record is not None and record.rules and record.rules[0].from_ms <= first_ms
    )


def data_of(history: History) -> Data:
    """Give the loaded bars and rates as plain arrays."""
    panel, funding = history.panel, history.funding
    return Data(
        symbols=history.symbols,
        close_ms=panel.close_ms,
        values=panel.values,
        opens=panel.opens,
        settle_ms=funding.settle_ms,
        rates=funding.rates,
    )
