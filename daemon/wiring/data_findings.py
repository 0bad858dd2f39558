"""What is said of the data that a backtest or a check was made of: its findings, in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.history.store import bars_path, data_root
from daemon.research.point_in_time import DataFacts, Finding, point_in_time
from daemon.research.worlds import Data
from daemon.settings import Settings
from daemon.wiring.bar_files import named_symbols
from daemon.wiring.estimator import model_facts, needs_model

if TYPE_CHECKING:
    from daemon.wiring.backtest import History


def data_findings(
    settings: Settings,
    history: History,
    *,
    used_from_ms: int | None = None,
    is_book: bool = False,
) -> tuple[Finding, ...]:
    """Say what in loaded data is not as it was known at the time; reports take it as caveats.

    used_from_ms: the first decision, for the overlap with a model's training. is_book: instruments
    and their rules are those of a state folder, as they were when it was made.
    """
    root, venue = data_root(Path(settings.backtest.data_folder)), settings.backtest.venue
    paths = {s: bars_path(root, venue, s, history.source) for s in history.symbols}
    model = model_facts(settings) if needs_model(settings) else None
    facts = DataFacts(
        data=data_of(history),
        venue=venue,
        named=is_book or bool(named_symbols(settings)),
        rules_from_table=not is_book,
        defaulted=history.defaulted,
        trained_until_ms=None if model is None else model.trained_until_ms,
        used_from_ms=used_from_ms,
        written_ms={s: round(p.stat().st_mtime * 1000) for s, p in paths.items() if p.is_file()},
    )
    return point_in_time(facts)


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
