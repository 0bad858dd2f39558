"""`equipoise train` and `models`: make models, look at them, choose the champion."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from daemon.commands.completing import model_names
from daemon.commands.model_card import show_card
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.commands.training import load_bars, run_training
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import iso
from daemon.runtime.logs import configure_logs
from daemon.settings import Settings
from daemon.wiring.estimator import (
    champion_id,
    list_models,
    promote_model,
    rollback_model,
)
from daemon.wiring.model_card import card_of
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.training import Tuned, bars_from_files, promote_first, refuse_untrainable


class TrainOn(StrEnum):
    """Say where training data comes from."""

    EXCHANGE = "exchange"
    FILES = "files"
    REHEARSAL = "rehearsal"


class TuneHow(StrEnum):
    """Say how much of a stored model learns on."""

    RECALIBRATE = "recalibrate"
    HEAD = "head"
    LAST = "last"
    FULL = "full"


class ModelAction(StrEnum):
    """Say what to do with the registry."""

    LIST = "list"
    SHOW = "show"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


def train(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    on: Annotated[
        TrainOn, typer.Option(help="The exchange's own history, files, or the rehearsal market.")
    ] = TrainOn.EXCHANGE,
    kind: Annotated[
        str | None,
        typer.Option(help="A network, ridge, lightgbm, forest, stack; default training.kind."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--from", help="Go on from this model: an id, or champion.")
    ] = None,
    tune: Annotated[
        TuneHow | None, typer.Option(help="How much of that model learns; default recalibrate.")
    ] = None,
) -> None:
    """Train a model and store it.

    The first model of a folder becomes its champion. Files are those of [backtest]: the last
    training.days before backtest.until. With --from a stored network is tuned; the new model keeps
    its kind, shape and settings.
    """
    if tune is not None and parent is None:
        raise ConfigurationError("train --tune: name the model with --from; `models` lists them")
    if kind is not None and parent is not None:
        raise ConfigurationError(
            f"train --kind {kind}: a model that is tuned keeps its kind; leave --kind or --from out"
        )
    tuned = None if parent is None else Tuned(parent, (tune or TuneHow.RECALIBRATE).value)
    bases = {TrainOn.EXCHANGE: "paper", TrainOn.FILES: "backtest", TrainOn.REHEARSAL: "rehearsal"}
    chosen = [*(overrides or []), *([f"training.kind={kind}"] if kind is not None else [])]
    settings = read_settings(config, chosen, base=f"{bases[on]}.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    if tuned is None:
        refuse_untrainable(settings)  # before anything is read or downloaded
    if on is TrainOn.REHEARSAL:
        with rehearsal_exchange(settings) as rehearsal:
            settings = rehearsal.settings
            bars = load_bars(settings, as_json=as_json)
    elif on is TrainOn.EXCHANGE:
        bars = load_bars(settings, as_json=as_json)
    else:
        bars = bars_from_files(settings)
    trained = run_training(settings, bars, as_json=as_json, tuned=tuned)
    first = promote_first(settings, trained.model_id)
    show_card(card_of(settings, trained.model_id), tried_n=trained.tried_n, as_json=as_json)
    if first and not as_json:
        console().print("it is the champion now, since there was none")


def models(
    action: Annotated[ModelAction, typer.Argument(help="What to do.")] = ModelAction.LIST,
    model: Annotated[
        str,
        typer.Argument(help="Model id, for show and promote.", autocompletion=model_names),
    ] = "",
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the models, show what one is and showed, or choose the champion.

    `show ID` prints the card that its training printed; without an id, the champion's. `promote ID`
    makes a model the champion, `rollback` goes back to the one before.
    """
    settings = read_settings(config, overrides, base="paper.toml")
    if action is ModelAction.SHOW:
        show_card(card_of(settings, model or champion_id(settings)), as_json=as_json)
        return
    if action is ModelAction.PROMOTE:
        if not model:
            raise ConfigurationError("models promote: name the model id; `models list` shows them")
        promote_model(settings, model)
    elif action is ModelAction.ROLLBACK:
        rollback_model(settings)
    found = list_models(settings)
    if as_json:
        print_json({"models": [asdict(one) for one in found]})
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False)
    is_made = any(one.made_of for one in found)
    made = ("made of",) if is_made else ()
    for name in ("", "model", "kind", *made, "data until", "trained on", "rank IC"):
        table.add_column(name, no_wrap=name in ("", "model", "kind", "data until"))
    for one in found:
        until = iso(one.trained_until_ms)[:10] if one.trained_until_ms is not None else ""
        mark = "*" if one.is_champion else ""
        skill = one.skill.replace(", ", "\n")
        more = (one.made_of.replace(", ", "\n"),) if is_made else ()
        table.add_row(mark, one.model_id, one.kind, *more, until, one.origin, skill)
    console().print(table if found else _none(settings), soft_wrap=not found)


def _none(settings: Settings) -> str:
    """Say that there are none here, and where a rehearsal keeps its own."""
    text = f"no models in {settings.estimator.models_folder}; `equipoise train` makes one"
    apart = read_settings(None, None, base="rehearsal.toml")
    if list_models(apart):
        folder = apart.estimator.models_folder
        text += f"\nthose of rehearsals: --set estimator.models_folder={folder}"
    return text
