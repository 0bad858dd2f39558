"""`equipoise evaluate strategies`: strategies and rebalance policies under identical conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from daemon.commands.evaluate.stress import fitting_tables, shown_share
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.report.figures import UNDEFINED
from daemon.report.metrics import sharpe_with_interval
from daemon.research.strategy_race import (
    BLEND,
    COSTS_BPS,
    JUDGED_BPS,
    Lap,
    Race,
    in_the_set,
    race_costs,
    race_values,
    returns_of,
    verdicts,
)
from daemon.runtime.collector import collect_rarely
from daemon.runtime.logs import configure_logs
from daemon.wiring.arms import workers_of
from daemon.wiring.strategy_race import run_race, write_race

OUT: Final = Path("reports/strategies")
HEADINGS: Final = (
    "Sharpe (95 %)",
    "return",
    "drawdown",
    "turnover/y",
    "cost share",
    "gross",
    "corr BTC",
    "down beta",
    "fills",
)


def strategies(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    arms: Annotated[
        str, typer.Option(help="Arms by name, separated by semicolons; empty takes all.")
    ] = "",
    processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes; 0 takes one a core. Default: evaluation.processes.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of strategies.json, .csv and strategies_days.csv.")
    ] = OUT,
) -> None:
    """Race strategies and rebalance policies over the same bars at 3, 5, 7 and 10 bps.

    Says what forecasts add over conventional market-neutral rules, and what adaptive bands add.
    """
    collect_rarely()
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    chosen = tuple(name.strip() for name in arms.split(";") if name.strip())
    executor = workers_of(settings, processes)
    with shown_share("arms", hidden=as_json) as done:
        race = run_race(settings, executor, done, only=chosen, costs_bps=COSTS_BPS)
    paths = write_race(race, out)
    if as_json:
        print_json({**race_values(race), "files": [str(path) for path in paths]})
        return
    _print(race)
    for path in paths:
        console().print(f"written: {path}", soft_wrap=True)


def _print(race: Race) -> None:
    out = console()
    for bps in race_costs(race):
        rows = [(lap.arm.name, *_cells(lap)) for lap in race.laps if lap.nominal_bps == bps]
        blend = returns_of(race, BLEND, bps)
        if blend is not None:
            rows.append((BLEND, _interval(*sharpe_with_interval(blend)), *[UNDEFINED] * 8))
        mark = ", judged" if bps == JUDGED_BPS else ""
        out.print(f"{bps:g} bps a fill{mark}", style="bold")
        for table in fitting_tables(("arm", *HEADINGS), rows, out.width):
            out.print(table)
        best = ", ".join(in_the_set(race, bps))
        out.print(f"cannot be told from the best (90 %): {best}", style="dim", soft_wrap=True)
    for one in race.absent:
        out.print(f"not raced: {one.name}: {one.why}", style="yellow", soft_wrap=True)
    for verdict in verdicts(race):
        text = f"{verdict.claim}, {verdict.text}: [bold]{verdict.finding}[/bold]. {verdict.why}"
        out.print(text, soft_wrap=True)
    for caveat in race.caveats:
        out.print(f"note: {caveat}", style="yellow", soft_wrap=True)


def _cells(lap: Lap) -> tuple[str, ...]:
    f, down = lap.figures, lap.btc.beta_down
    interval = ""
    if down.low == down.low:
        interval = f" ({down.low:+.2f} to {down.high:+.2f})"
    return (
        _interval(f.sharpe, f.sharpe_low, f.sharpe_high),
        _known(f.total_return, "+.1%"),
        _known(f.drawdown_max, ".1%"),
        _known(f.turnover_per_year, ",.0f"),
        _known(f.cost_share, ".0%"),
        _known(f.gross_mean, ".2f"),
        _known(lap.btc.correlation, "+.2f"),
        _known(down.beta, "+.2f") + interval,
        f"{lap.fills:,}",
    )


def _interval(ratio: float, low: float, high: float) -> str:
    if low != low:
        return f"{_known(ratio, '+.2f')} (too few days)"
    return f"{_known(ratio, '+.2f')} ({low:+.1f} to {high:+.1f})"


def _known(value: float, spec: str) -> str:
    return format(value, spec) if value == value else UNDEFINED
