"""What a stored model is and what it showed: read from its manifest, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.model_store import ModelStore
from daemon.settings import Settings
from strategies.forecast.networks.config import NetworkKind

BASELINES: Final = ("last_return", "momentum")
NORMAL_95: Final = 1.959963984540054
TOLD_T: Final = 2.0  # a rank IC below so many of its standard errors is not told from chance


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Hold the facts of one model; times in ms of UTC.

    learned_until_ms: where the part ends that weights were fitted to; judged_until_ms: the end of
    what it was judged by, in one split of time; networks stop by a part between the two. members:
    models that are averaged. scores: of each fold and timeframe, `model` and plain baselines, each
    with instants, rank_ic, rank_ic_t, score_ic and score_ic_t; NaN where nothing could be measured.
    chosen, stacked: what it reads, of which kinds it is made. rule: that combines the timeframes;
    contenders: how the others did. half_width: of the interval of residual returns, in units of
    their volatility, and its coverage.
    """

    model_id: str
    kind: str
    origin: str
    symbols: tuple[str, ...]
    from_ms: int
    learned_until_ms: int
    judged_until_ms: int
    members: int
    parent: str
    scores: tuple[dict[str, Any], ...]
    chosen: tuple[tuple[str, ...], ...]
    stacked: tuple[dict[str, Any], ...]
    rule: str
    contenders: tuple[dict[str, Any], ...]
    half_width: float
    coverage: float

    @property
    def is_stopped_early(self) -> bool:
        """Tell whether the first of what came after the learned part chose when to stop."""
        return self.kind in set(NetworkKind)

    @property
    def beats_the_baselines(self) -> bool:
        """Tell whether the mean rank IC over timeframes is above zero and above both baselines."""
        means = {name: self._mean(name) for name in ("model", *BASELINES)}
        return means["model"] > max(0.0, *(means[name] for name in BASELINES))

    @property
    def is_told_from_chance(self) -> bool:
        """Tell whether the mean rank IC over timeframes is above zero by two standard errors.

        They see the same outcomes: their mean is hardly surer than one of them, and the luckiest of
        them tells nothing.
        """
        skills = [(one["model"]["rank_ic"], one["model"]["rank_ic_t"]) for one in self.scores]
        widths = [width for skill in skills if (width := half_width(*skill)) is not None]
        error = sum(widths) / len(widths) / NORMAL_95 if widths else math.inf
        return self._mean("model") >= TOLD_T * error

    def _mean(self, name: str) -> float:
        found = [one[name]["rank_ic"] for one in self.scores]
        known = [value for value in found if value is not None and math.isfinite(value)]
        return sum(known) / len(known) if known else 0.0


def card_of(settings: Settings, model_id: str) -> ModelCard:
    """Read the card of a verified model; raise ModelError for one that is not there or damaged."""
    return card_from(model_id, ModelStore(settings.estimator.models_folder).show_fully(model_id))


def card_from(model_id: str, full: Mapping[str, Any]) -> ModelCard:
    """Make a card of a manifest's plain values."""
    data, origin, reading = full["data"], full["origin"], full["reading"]
    return ModelCard(
        model_id=model_id,
        kind=full["kind"],
        origin=f"{origin['kind']}: {origin['name']}",
        symbols=tuple(full["symbols"]),
        from_ms=data["from_ms"],
        learned_until_ms=data["learned_until_ms"],
        judged_until_ms=data["to_ms"],
        members=full["shape"]["members"],
        parent=full.get("parent", ""),
        scores=tuple(full["scores"]),
        chosen=tuple(tuple(names) for names in full.get("chosen", ())),
        stacked=tuple(full.get("stacked", ())),
        rule=reading["rule"],
        contenders=tuple(full.get("contenders", ())),
        half_width=reading["half_width"],
        coverage=reading["coverage"],
    )


def half_width(mean: float | None, t: float | None) -> float | None:
    """Give half of the 95 % interval of a mean IC from its Newey-West t, None where unknown."""
    if mean is None or t is None or not math.isfinite(mean * t) or t == 0.0:
        return None
    return NORMAL_95 * abs(mean / t)


def made_of(card: ModelCard) -> Sequence[str]:
    """Say of each timeframe which columns it reads and how much each kind of a stack counts."""
    minutes = list(dict.fromkeys(score["timeframe_minutes"] for score in card.scores))
    lines = []
    for place, one in enumerate(minutes):
        if card.chosen:
            names = card.chosen[place]
            lines.append(f"{one}m reads {len(names)} columns: {', '.join(names)}")
        shares = [f"{part['kind']} {part['shares'][place]:.0%}" for part in card.stacked]
        if shares:
            lines.append(f"{one}m is {', '.join(shares)}")
        for part in card.stacked:
            if part["chosen"]:
                names = part["chosen"][place]
                lines.append(f"{one}m {part['kind']} reads {len(names)}: {', '.join(names)}")
    return lines
