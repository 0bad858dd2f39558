"""Say who takes part in the race, with which settings, and what each stands for.

All arms but those of the volatility group divide returns by the same volatility, so that they
differ in their correlations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.domain.failures import ConfigurationError
from strategies.covariance.known import known_estimators, known_volatilities


class Group(StrEnum):
    """Name what an arm stands for."""

    HISTORICAL = "historical"  # weighted means of the past
    SHRUNK = "shrunk"  # the past, freed from noise
    PREDICTIVE = "predictive"  # a model of how correlations move on
    TAXONOMY = "taxonomy"  # theory-implied
    PERMUTED = "permuted"  # the same, with the coins changed at random
    VOLATILITY = "volatility"  # the baseline's correlation with other volatilities


@dataclass(frozen=True)
class Arm:
    """Hold an estimator with its settings. learned: fitted in each fold; outside: reads covariates.

    plain: settings of `make_estimator`, as pairs.
    """

    name: str
    group: Group
    estimator: str
    plain: tuple[tuple[str, object], ...] = ()
    learned: bool = False
    outside: bool = False

    @property
    def made(self) -> dict[str, object]:
        """Give what tells it from other arms, as plain values."""
        return {
            "estimator": self.estimator,
            **dict(self.plain),
            **({"outside": True} if self.outside else {}),
        }


BASELINE: Final = "ewma 7d"
RECURRENT: Final = "recurrent"
OUTSIDE: Final = "recurrent outside"
TAXONOMY: Final = "taxonomy"
PERMUTATIONS_N: Final = 3
_HALF_LIVES_DAYS: Final = (2, 7, 30)
_SAMPLE_DAYS: Final = (7, 30)


def all_arms(columns: Sequence[str]) -> list[Arm]:
    """List every arm that this version can run; columns: the covariates at hand beside BTC's own.

    The recurrent network with outside covariates takes part where there are any.
    """
    arms = [
        *(
            Arm(f"ewma {d}d", Group.HISTORICAL, "ewma", (("half_life_hours", 24.0 * d),))
            for d in _HALF_LIVES_DAYS
        ),
        *(
            Arm(f"sample {d}d", Group.HISTORICAL, "sample", (("window_hours", 24 * d),))
            for d in _SAMPLE_DAYS
        ),
        *(Arm(name.replace("_", " "), group, name) for name, group in _PLAIN.items()),
        Arm(RECURRENT, Group.PREDICTIVE, RECURRENT, learned=True),
        Arm(TAXONOMY, Group.TAXONOMY, _TAXONOMY),
        *(
            Arm(f"permuted {n}", Group.PERMUTED, _PERMUTED, (("seed", n),))
            for n in range(1, PERMUTATIONS_N + 1)
        ),
        *(
            Arm(f"{name} volatility", Group.VOLATILITY, "ewma", (("volatility", name),))
            for name in known_volatilities()
            if name != "ewma"
        ),
    ]
    if columns:
        arms.append(Arm(OUTSIDE, Group.PREDICTIVE, RECURRENT, learned=True, outside=True))
    here = {*known_estimators(), RECURRENT}
    return [arm for arm in arms if arm.estimator in here]


_PLAIN: Final[Mapping[str, Group]] = {
    "lw_identity": Group.SHRUNK,
    "lw_constant": Group.SHRUNK,
    "lw_factor": Group.SHRUNK,
    "oas": Group.SHRUNK,
    "nonlinear": Group.SHRUNK,
    "dcc": Group.PREDICTIVE,
    "cdcc": Group.PREDICTIVE,
    "average_oracle": Group.PREDICTIVE,
}
_TAXONOMY: Final = "theory"
_PERMUTED: Final = "theory_permuted"


def chosen_arms(names: Sequence[str], columns: Sequence[str]) -> list[Arm]:
    """Take arms or groups of arms by name, the baseline always; none named: all.

    Raises ConfigurationError for a name that nobody knows.
    """
    arms = all_arms(columns)
    groups = {str(group) for group in Group}
    known = {arm.name for arm in arms} | groups
    strange = [name for name in names if name not in known]
    if strange:
        raise ConfigurationError(
            f"--arms {', '.join(strange)}: accepted are groups, {', '.join(sorted(groups))}, and"
            f" {', '.join(arm.name for arm in arms)}"
        )
    wanted = {*names, BASELINE} if names else known
    return [arm for arm in arms if arm.name in wanted or str(arm.group) in wanted]
