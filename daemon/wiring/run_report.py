"""The report of a run that a daemon made, read back from its journal."""

from __future__ import annotations

import resource
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from daemon.domain.order import Fill
from daemon.report.bookings import later_transfers
from daemon.report.capacity import Capacity, capacity_of_run, rounded
from daemon.report.figures import UNDEFINED
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import gross_reached
from daemon.settings import effective
from daemon.wiring.core import paper_settings
from daemon.wiring.judging import write_report
from daemon.wiring.timing import wall_seconds
from daemon.wiring.verification import JournalRun, Progress, read_journal_run

SHARE = 0.8  # of the wanted gross
PLANTED = (
    "The market was generated and its pattern planted: this shows that the machine works, not that "
    "the model would earn money anywhere."
)


def write_run_report(folder: Path, out: Path, progress: Progress) -> dict[str, object]:
    """Replay the journal of a state folder, write its page, and give the figures that matter most.

    Raises as `verify_journal` does, and DataError when nothing was traded yet.
    """
    started_s = wall_seconds()
    run = read_journal_run(folder, progress)
    facts = _facts(run, wall_seconds() - started_s)
    whole = Run(run.record, run.decisions, run.executions, facts)
    room = _capacity(run, whole)
    whole = replace(whole, capacity=room)
    metrics = write_report(out, whole, run.settings).metrics
    after_band, decisions_n = gross_reached(run.decisions, SHARE)
    reached = f"{UNDEFINED} (not defined: no decision traded)"
    if decisions_n:
        reached = f"{after_band:.1%} of {decisions_n:,} decisions at >= {SHARE:.0%}"
    equity = run.record.column("equity")
    held = float(np.median(run.record.column("gross") / equity))
    return {
        "period": facts.period,
        "decisions": len(run.decisions),
        "orders": facts.orders,
        "fills": facts.fills,
        "equity": round(metrics.equity_last, 2),
        "total_return": f"{metrics.total_return:+.2%}",
        "capacity": rounded(room.equity) if room.is_known else room.why,
        "gross_of_target_reached": reached,
        "gross_median": f"{held:.3f} of equity",
        "net_worst_after_a_fill": f"{facts.net_weight_worst:.3%} of equity",
        "net_mean": f"{metrics.net_abs_mean:.3%} of equity",
        "bars_absent_at_decisions": sum(len(d.absent) for d in run.decisions),
        "report": str(out),
    }


def _facts(run: JournalRun, seconds: float) -> RunFacts:
    engine = run.engine
    symbols = engine.universe.symbols
    shown = effective(run.settings)
    return RunFacts(
        title=f"Paper run {run.settings.run.run_name}",
        strategy=f"strategy {engine.strategy.name} on {run.settings.exchange.id}",
        period=period_text(run.record.times_ms),
        symbols=tuple(s.partition("/")[0] for s in symbols),
        fills=engine.state.book.ledger.fills,
        orders=engine.state.orders.submitted_n,
        net_weight_worst=engine.state.book.net_weight_worst,
        run_seconds=seconds,
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        fingerprint="",
        caveats=_caveats(run),
        settings={name: shown[name] for name in ("market", "paper", "strategy", "risk")},
        venue=run.settings.exchange.id,
        bar=run.settings.market.source,
        funding_source=run.settings.exchange.id,
        book_venue=run.settings.exchange.id,
        code_version=version("equipoise"),
    )


def _capacity(run: JournalRun, whole: Run) -> Capacity:
    """Measure by the costs in force at the end; a daemon may have been started with others."""
    fills = [one for one in run.executions if isinstance(one, Fill)]
    charged, moved = paper_settings(run.settings), later_transfers(whole)
    return capacity_of_run(
        run.record,
        fills,
        run.volumes,
        impact_bps=charged.impact_bps,
        participation_share=charged.participation_share,
        moved=0.0 if moved is None else float(moved[-1] - moved[0]),
    )


def _caveats(run: JournalRun) -> tuple[str, ...]:
    if run.settings.exchange.generated:
        return (PLANTED,)
    return ("Paper: fills are simulated.",)
