"""From settings to how the forecasts of the timeframes are combined, outside a strategy too."""

from __future__ import annotations

from dataclasses import fields

from daemon.domain.units import Timeframe
from daemon.settings import Settings
from daemon.wiring.core import COMBINING, NEUTRAL, THRESHOLD, combination_of
from strategies.forecast.alphas import Combining
from strategies.knobs import read_settings
from strategies.neutral import NeutralSettings


def combining_of(settings: Settings) -> Combining:
    """Say how the run's strategy combines forecasts; a strategy of its own kind has our defaults.

    Raises ConfigurationError for parameters that the strategy refuses.
    """
    parameters: dict[str, object] = {"combination": settings.estimator.combination}
    own = dict(settings.strategy.parameters)
    if settings.strategy.name in COMBINING:
        own["combination"] = combination_of(settings)
    if settings.strategy.name == NEUTRAL:
        parameters |= own
    if settings.strategy.name == THRESHOLD:  # it has knobs beside those of combining
        shared = {f.name for f in fields(NeutralSettings)}
        parameters |= {key: value for key, value in own.items() if key in shared}
    knobs = read_settings(NeutralSettings, parameters, NEUTRAL)
    return Combining(knobs.combination, knobs.phi, Timeframe.parse(settings.market.decision))
