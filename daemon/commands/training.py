"""Training as the command line shows it: a bar with the live metric, then an honest card."""

from __future__ import annotations

import asyncio
import math

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from daemon.commands.options import console, print_json
from daemon.ports import Warmup
from daemon.settings import Settings
from daemon.wiring.estimator import has_champion, names_model, needs_model
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
    show_card(trained, bars, as_json=as_json)


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


def show_card(trained: Trained, bars: SourceBars, *, as_json: bool) -> None:
    """Print what the model knows about itself: skill out of sample beside the plain baselines."""
    if as_json:
        print_json(
            {
                "type": "trained",
                "model": trained.model_id,
                "kind": trained.kind,
                "origin": f"{bars.origin.kind}: {bars.origin.name}",
                "scores": trained.scores,
                "chosen": trained.chosen,
                "stacked": trained.stacked,
            }
        )
        return
    origin = f"{bars.origin.kind}: {bars.origin.name}"
    title = f"{trained.kind} {trained.model_id}, trained on {origin}"
    console().print(title, style="bold", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("bars", "out of sample", "rank IC", "t", "score IC", "t"):
        table.add_column(heading, justify="left" if heading == "out of sample" else "right")
    for score in trained.scores:
        for name in ("model", "last_return", "momentum"):
            skill = score[name]
            figures = (skill.get(k) for k in ("rank_ic", "rank_ic_t", "score_ic", "score_ic_t"))
            label = f"{score['timeframe_minutes']}m" if name == "model" else ""
            texts = [_figure(f, places) for f, places in zip(figures, (4, 1, 4, 1), strict=True)]
            table.add_row(label, name.replace("_", " "), *texts)
    console().print(table)
    for line in made_of_lines(trained):
        console().print(line, soft_wrap=True)
    if not beats_the_baselines(trained):
        console().print(
            "this model does not beat last return and momentum out of sample: it trades on paper "
            "only to show how",
            style="yellow",
        )


def made_of_lines(trained: Trained) -> list[str]:
    """Say of each timeframe which columns it reads and how much each kind of a stack counts."""
    minutes = list(dict.fromkeys(score["timeframe_minutes"] for score in trained.scores))
    lines = []
    for place, one in enumerate(minutes):
        if trained.chosen:
            names = trained.chosen[place]
            lines.append(f"{one}m reads {len(names)} columns: {', '.join(names)}")
        shares = [f"{part['kind']} {part['shares'][place]:.0%}" for part in trained.stacked]
        if shares:
            lines.append(f"{one}m is {', '.join(shares)}")
        for part in trained.stacked:
            if part["chosen"]:
                names = part["chosen"][place]
                lines.append(f"{one}m {part['kind']} reads {len(names)}: {', '.join(names)}")
    return lines


def beats_the_baselines(trained: Trained) -> bool:
    """Tell whether the mean rank IC over the timeframes is above zero and above both baselines."""
    means = {
        name: sum(score[name]["rank_ic"] or 0.0 for score in trained.scores) / len(trained.scores)
        for name in ("model", "last_return", "momentum")
    }
    return means["model"] > max(0.0, means["last_return"], means["momentum"])


def _figure(value: float | None, places: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:+.{places}f}"
