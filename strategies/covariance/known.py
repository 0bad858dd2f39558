"""Find an estimator of the covariance by name.

A name chooses the correlation; the setting `volatility` chooses what its returns are standardised
by. What is predicted carries both: `make_estimator("dcc", {"volatility": "garch"})` is `garch+dcc`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from daemon.domain.failures import ConfigurationError
from strategies.covariance.average_oracle import AverageOracleCorrelation
from strategies.covariance.dcc import DccCorrelation
from strategies.covariance.ewma import EwmaCorrelation, EwmaVolatility
from strategies.covariance.garch import GarchVolatility
from strategies.covariance.har import HarVolatility
from strategies.covariance.interface import (
    WARM_UP,
    CorrelationModel,
    CovarianceEstimator,
    Floats,
    VolatilityModel,
)
from strategies.covariance.joined import JoinedEstimator
from strategies.covariance.nonlinear import nonlinear_correlation
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.rolling import RollingVolatility, WindowedCorrelation
from strategies.covariance.shrinkage import (
    oracle_approximating,
    shrunk_correlation,
    to_constant_correlation,
    to_identity,
    to_one_factor,
)
from strategies.covariance.taxonomy import PACKAGED, Taxonomy, read_taxonomy
from strategies.covariance.theory_implied import theory_implied
from strategies.knobs import nearest

DEFAULT: Final = "ewma"  # the baseline, and what the daemon falls back to
HALF_LIFE_HOURS_MIN, HALF_LIFE_HOURS_MAX = 2.0, 365 * 24.0


@dataclass(frozen=True, slots=True)
class CovarianceSettings:
    """Hold what can be chosen beside the name; each estimator reads what concerns it.

    volatility: a name of VOLATILITIES. volatility_half_life_hours, half_life_hours: of squared
    returns and of the correlation, where they are weighted by age. window_hours: how many of the
    last hours an unweighted estimator takes. seed: of the permuted taxonomy. taxonomy: a
    file in place of the packaged one.
    """

    volatility: str = "ewma"
    volatility_half_life_hours: float = 24.0
    half_life_hours: float = 7 * 24.0
    window_hours: int = 30 * 24
    seed: int = 0
    taxonomy: str = ""

    def __post_init__(self) -> None:
        """Refuse what no estimator can use."""
        if self.volatility not in VOLATILITIES:
            raise ConfigurationError(
                f"covariance: volatility = {self.volatility!r}"
                f"{nearest(self.volatility, known_volatilities())};"
                f" known: {', '.join(known_volatilities())}"
            )
        for key in ("volatility_half_life_hours", "half_life_hours"):
            _check_range(key, getattr(self, key), HALF_LIFE_HOURS_MIN, HALF_LIFE_HOURS_MAX)
        _check_range("window_hours", self.window_hours, 2 * WARM_UP, HALF_LIFE_HOURS_MAX)


Coins = Sequence[str]
MakeVolatility = Callable[[CovarianceSettings], VolatilityModel]
MakeCorrelation = Callable[[CovarianceSettings, Coins], CorrelationModel]


def _windowed(estimate: Callable[[Floats], Floats]) -> MakeCorrelation:
    def make(settings: CovarianceSettings, coins: Coins) -> CorrelationModel:
        return WindowedCorrelation(settings.window_hours, lambda z, as_of_ms: estimate(z))

    return make


def _theory(settings: CovarianceSettings, coins: Coins) -> CorrelationModel:
    estimate = theory_implied(_named(coins), _taxonomy(settings))
    return WindowedCorrelation(settings.window_hours, estimate)


def _theory_permuted(settings: CovarianceSettings, coins: Coins) -> CorrelationModel:
    estimate = theory_implied(_named(coins), _taxonomy(settings), permuted_by=settings.seed)
    return WindowedCorrelation(settings.window_hours, estimate)


def _named(coins: Coins) -> Coins:
    if not coins:
        raise ConfigurationError("covariance: an estimator with a taxonomy needs the base coins")
    return coins


def _taxonomy(settings: CovarianceSettings) -> Taxonomy:
    return read_taxonomy(Path(settings.taxonomy) if settings.taxonomy else PACKAGED)


VOLATILITIES: Final[Mapping[str, MakeVolatility]] = {
    "ewma": lambda settings: EwmaVolatility(settings.volatility_half_life_hours),
    "rolling": lambda settings: RollingVolatility(settings.window_hours),
    "garch": lambda settings: GarchVolatility(is_asymmetric=False),
    "gjr": lambda settings: GarchVolatility(is_asymmetric=True),
    "har": lambda settings: HarVolatility(),
}
CORRELATIONS: Final[Mapping[str, MakeCorrelation]] = {
    "ewma": lambda settings, coins: EwmaCorrelation(settings.half_life_hours),
    "sample": _windowed(sample_correlation),
    "lw_identity": _windowed(shrunk_correlation(to_identity)),
    "lw_constant": _windowed(shrunk_correlation(to_constant_correlation)),
    "lw_factor": _windowed(shrunk_correlation(to_one_factor)),
    "oas": _windowed(shrunk_correlation(oracle_approximating)),
    "nonlinear": _windowed(nonlinear_correlation),
    "dcc": lambda settings, coins: DccCorrelation(is_corrected=False),
    "cdcc": lambda settings, coins: DccCorrelation(is_corrected=True),
    "theory": _theory,
    "theory_permuted": _theory_permuted,
    "average_oracle": lambda settings, coins: AverageOracleCorrelation(settings.window_hours),
}


def known_volatilities() -> list[str]:
    """List the names that the setting `volatility` may have, sorted."""
    return sorted(VOLATILITIES)


def known_estimators() -> list[str]:
    """List the names that `make_estimator` takes, sorted."""
    return sorted(CORRELATIONS)


def make_estimator(
    name: str, settings: Mapping[str, object] | None = None, coins: Coins = ()
) -> CovarianceEstimator:
    """Build the estimator called `name` for instruments of these base coins ("BTC", ...).

    settings: what differs from CovarianceSettings. coins: in the order of the columns; read by
    those that know a taxonomy only. Raises ConfigurationError for an unknown name (with the known
    ones), an unknown key, a value of the wrong type or out of range.
    """
    if name not in CORRELATIONS:
        raise ConfigurationError(
            f"no covariance estimator {name!r}{nearest(name, known_estimators())};"
            f" known: {', '.join(known_estimators())}"
        )
    chosen = read_settings(settings or {})
    volatility = VOLATILITIES[chosen.volatility](chosen)
    correlation = CORRELATIONS[name](chosen, coins)
    return JoinedEstimator(f"{chosen.volatility}+{name}", volatility, correlation)


def read_settings(values: Mapping[str, object]) -> CovarianceSettings:
    """Read settings from plain values; raises as `make_estimator`."""
    plain = CovarianceSettings()
    known = [field.name for field in fields(plain)]
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigurationError(
                f"covariance: no setting {key!r}{nearest(key, known)}; known: {', '.join(known)}"
            )
        wanted = type(getattr(plain, key))
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigurationError(f"covariance: {key} = {value!r}: want {wanted.__name__}")
        read[key] = value
    return replace(plain, **read)


def _check_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(
            f"covariance: {key} = {value!r}: accepted are values from {low:g} to {high:g}"
        )
