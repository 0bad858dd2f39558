"""Training as the command line shows it: a bar with the live metric, then the model's card."""

from __future__ import annotations

import asyncio

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from daemon.commands.model_card import show_card
from daemon.commands.options import console
from daemon.ports import Warmup
from daemon.settings import Settings
from daemon.wiring.estimator import has_champion, names_model, needs_model
from daemon.wiring.model_card import card_of
from daemon.wiring.series_ready import ready_for_run
from daemon.wiring.training import (
    SourceBars,
    Trained,
    TrainingProgress,
    Tuned,
    bars_from_exchange,
    promote_first,
    train,
)


def ensure_champion(settings: Settings, *, as_json: bool) -> None:
    """Train a first model from the exchange's own history unless one is there or none is needed.

    Either way the series that the model reads beside the bars are at hand afterwards.
    """
    if not needs_model(settings) or names_model(settings) or has_champion(settings):
        asyncio.run(ready_for_run(settings))
        return
    if not as_json:
        console().print("no model yet: training a first one on this market's history")
    bars = load_bars(settings, as_json=as_json)
    trained = run_training(settings, bars, as_json=as_json)
    promote_first(settings, trained.model_id)
    show_card(card_of(settings, trained.model_id), tried_n=trained.tried_n, as_json=as_json)


def load_bars(settings: Settings, *, as_json: bool) -> SourceBars:
    """Read the training history from the exchange with a progress bar."""
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("reading history", total=None)
        seen: dict[str, tuple[int, int]] = {}

        def told(warmup: Warmup) -> None:
            seen[warmup.symbol] = (warmup.bars, warmup.bars_wanted)
            done, total = (sum(column) for column in zip(*seen.values(), strict=True))
            bar.update(task, completed=done, total=total)

        return asyncio.run(bars_from_exchange(settings, told))


def run_training(
    settings: Settings, bars: SourceBars, *, as_json: bool, tuned: Tuned | None = None
) -> Trained:
    """Train with a progress bar that shows the live metric."""
    columns = (
        TextColumn("training {task.fields[stage]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rank IC {task.fields[metric]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    wide = Console(stderr=True)
    with Progress(*columns, console=wide, disable=as_json, transient=True) as bar:
        task = bar.add_task("training", total=None, stage="", metric="  ...")

        def told(progress: TrainingProgress) -> None:
            metric = "  ..." if progress.rank_ic is None else f"{progress.rank_ic:+.4f}"
            bar.update(
                task,
                completed=progress.done_steps,
                total=progress.total_steps,
                stage=progress.stage,
                metric=metric,
            )

        return train(settings, bars, told, tuned)
