"""Fit the recurrent network inside a fold: it sees what closed before the fold's first test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.research.correlation.market import INSTRUMENTS_MIN, Fold, Market, columns_of
from strategies.covariance.recurrent import SEQUENCE, ewma_states, inputs_of
from strategies.covariance.recurrent_store import KIND, SCHEMA, RecurrentManifest, reads
from strategies.covariance.recurrent_training import (
    HIDDEN,
    OUTCOME_H,
    Example,
    Fitted,
    fit,
    outcome_of,
)

EXAMPLE_STEP_H: Final = 12
FIRST_WINDOW_H: Final = 14 * 24


def examples_of(
    market: Market,
    *,
    window_h: int,
    before: int,
    told: Callable[[float], None] = lambda share: None,
) -> list[Example]:
    """Make an example of every twelfth hour whose outcome is over before the hour `before`.

    Each has the window before it, however short: the first have two weeks. Their sequences hold all
    covariates of the market.
    """
    rows = [
        row
        for row in range(FIRST_WINDOW_H, before - OUTCOME_H)
        if market.hour_ms[row] % (EXAMPLE_STEP_H * HOUR_MS) == 0
    ]
    found: list[Example] = []
    states, chosen = ewma_states(), np.empty(0, dtype=np.int64)
    for number, row in enumerate(rows):
        window, at_ms = min(window_h, row + 1), int(market.hour_ms[row])
        if at_ms % DAY_MS == 0 or not number:
            again = market.taking_part(row, window)
            if not np.array_equal(again, chosen):
                states, chosen = ewma_states(), again
        if len(chosen) < INSTRUMENTS_MIN:
            continue
        part = slice(row - window + 1, row + 1)
        returns = market.hourly[part, chosen]
        said = [one.forecast(returns, None, at_ms) for one in states]
        inputs = inputs_of(returns, market.beside[part], said)
        if inputs is not None:
            ahead = market.hourly[row + 1 : row + 1 + OUTCOME_H, chosen[inputs.known]]
            found.append(Example(at_ms, inputs, outcome_of(ahead)))
        told((number + 1) / len(rows))
    return found


def learn(
    market: Market, fold: Fold, examples: Sequence[Example], *, outside: bool, data: str, seed: int
) -> tuple[RecurrentManifest, Fitted]:
    """Fit on the examples whose outcomes were over by the fold's first forecast.

    Raises ModelError where they are too few.
    """
    end_ms = int(market.hour_ms[fold.start])
    names = columns_of(market, outside)
    read = len(SEQUENCE) + len(names)
    known = [
        replace(one, inputs=replace(one.inputs, sequence=one.inputs.sequence[:, :read]))
        for one in examples
        if one.at_ms + OUTCOME_H * HOUR_MS <= end_ms
    ]
    fitted = fit(known, len(names), seed=seed)
    manifest = RecurrentManifest(
        schema=SCHEMA,
        kind=KIND,
        reads=reads(),
        covariates=names,
        hidden=HIDDEN,
        centre=tuple(fitted.scaling.centre.tolist()),
        spread=tuple(fitted.scaling.spread.tolist()),
        seed=seed,
        epochs=fitted.epochs,
        loss=fitted.loss,
        ewma_loss=fitted.ewma_loss,
        data=data,
        learned_from_ms=known[0].at_ms,
        learned_until_ms=fitted.learned_until_ms,
    )
    return manifest, fitted
