"""The report of a run that a daemon made, read back from its journal."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from daemon.report.figures import UNDEFINED
from daemon.report.metrics import measure
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import gross_reached
from daemon.settings import effective
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
    metrics = measure(run.record)
    facts = _facts(run, wall_seconds() - started_s)
    whole = Run(run.record, run.decisions, run.executions, facts)
    write_report(out, whole, run.settings)
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
    )


def _caveats(run: JournalRun) -> tuple[str, ...]:
    if run.settings.exchange.generated:
        return (PLANTED,)
    return ("Paper: fills are simulated.",)
