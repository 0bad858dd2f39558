"""The card of a model: what it is, what it showed beside plain baselines, what that is worth."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from daemon.commands.options import console, print_json
from daemon.domain.units import iso
from daemon.wiring.model_card import BASELINES, ModelCard, half_width, made_of


def show_card(card: ModelCard, *, tried_n: int | None = None, as_json: bool) -> None:
    """Print a card; tried_n: how much was tried on these bars, None where nobody knows."""
    if as_json:
        values = asdict(card)
        del values["model_id"]
        more = {"tried_n": tried_n, "beats_the_baselines": card.beats_the_baselines}
        told = {"is_told_from_chance": card.is_told_from_chance}
        kind = "model" if tried_n is None else "trained"
        print_json({"type": kind, "model": card.model_id, **values, **more, **told})
        return
    screen = console()
    title = f"{card.kind} {card.model_id}, trained on {card.origin}"
    screen.print(title, style="bold", soft_wrap=True)
    for line in _facts(card, tried_n):
        screen.print(line, soft_wrap=True)
    screen.print(_table(card))
    for line in (*_readings(card), *made_of(card)):
        screen.print(line, soft_wrap=True)
    screen.print(verdict(card), style="" if card.beats_the_baselines else "yellow", soft_wrap=True)


def _facts(card: ModelCard, tried_n: int | None) -> list[str]:
    folds_n = len({score.get("fold", 0) for score in card.scores})
    made = f"models of {folds_n} folds" if folds_n > 1 else "seeds"
    seeds = f", mean of {card.members} {made}" if card.members > 1 else ""
    parent = f", tuned from {card.parent}" if card.parent else ""
    of = f"{len(card.symbols)} instruments, bars from {_day(card.from_ms)}"
    learned = f"learned until {_day(card.learned_until_ms)}"
    stopped = "stopped and " if card.is_stopped_early else ""
    judged = f"{stopped}judged by what came after, until {_day(card.judged_until_ms)}"
    lines = [f"{of}; {learned}, {judged}{seeds}{parent}"]
    if tried_n is not None:
        lines.append(f"tried on these bars so far, this training included: {tried_n}")
    return lines


def _table(card: ModelCard) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in (
        "bars",
        "out of sample",
        "decisions",
        "rank IC",
        "± 95 %",
        "score IC",
        "± 95 %",
    ):
        table.add_column(heading, justify="left" if heading == "out of sample" else "right")
    folds_n = len({score.get("fold", 0) for score in card.scores})
    for score in card.scores:
        for name in ("model", *BASELINES):
            skill = score[name]
            label = _label(score, folds_n) if name == "model" else ""
            texts = [text for ic in ("rank_ic", "score_ic") for text in _interval(skill, ic)]
            table.add_row(label, name.replace("_", " "), f"{skill['instants']:,}", *texts)
    return table


def _label(score: dict[str, Any], folds_n: int) -> str:
    fold = f", fold {score['fold'] + 1}" if folds_n > 1 else ""
    return f"{score['timeframe_minutes']}m{fold}"


def _interval(skill: dict[str, Any], ic: str) -> tuple[str, str]:
    mean, t = skill[ic], skill[f"{ic}_t"]
    if mean is None or math.isnan(mean):
        return "-", ""
    width = half_width(mean, t)
    return f"{mean:+.4f}", "" if width is None else f"{width:.4f}"


def _readings(card: ModelCard) -> list[str]:
    others = [
        f"{one['rule']} {one['score_ic']:+.4f}"
        for one in card.contenders
        if one["score_ic"] is not None
    ]
    compared = f" (score IC where the rule was chosen: {', '.join(others)})" if others else ""
    within = f"within {card.half_width:.2f} of their volatility around the forecast"
    return [
        f"timeframes are combined by {card.rule}{compared}",
        f"stated interval: {card.coverage:.0%} of residual returns over six hours {within}",
    ]


def verdict(card: ModelCard) -> str:
    """Say in plain words what the figures are worth."""
    if not card.beats_the_baselines:
        return (
            "this model does not beat last return and momentum out of sample: it trades on paper "
            "only to show how"
        )
    if not card.is_told_from_chance:
        return (
            "its rank IC is above zero and both baselines, but by less than two standard errors: "
            "chance alone gives as much"
        )
    return (
        "its rank IC is above zero and both baselines. One split of one period, intervals that "
        "flatter where labels overlap, before any cost: walk it forward and backtest it"
    )


def _day(at_ms: int) -> str:
    return iso(at_ms)[:10]
