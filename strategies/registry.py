"""Find a strategy by the name that the settings give.

Ours are listed here; other distributions add theirs through the entry-point group
`equipoise.strategies`. Each entry is a function that takes the strategy's settings as a plain
mapping and gives a strategy (`daemon.ports.Strategy`, matched by shape).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from daemon.domain.failures import ConfigurationError
from strategies.knobs import nearest

GROUP: Final = "equipoise.strategies"
OURS: Final = "strategies."  # our own distribution may register what is built in anyway

Factory = Callable[[Mapping[str, object]], Any]


def _ours(module: str, maker: str = "build") -> Factory:
    def make(settings: Mapping[str, object]) -> Any:
        # here: who runs another strategy does not load SciPy
        return getattr(import_module(f"strategies.{module}"), maker)(settings)

    return make


BUILT_IN: Final[Mapping[str, Factory]] = {
    "carry": _ours("carry"),
    "low_volatility": _ours("low_volatility"),
    "momentum": _ours("past_return", "build_momentum"),
    "neutral": _ours("neutral"),
    "pairs": _ours("pairs"),
    "relative_strength": _ours("relative_strength"),
    "reversal": _ours("past_return", "build_reversal"),
    "threshold": _ours("threshold"),
}


def known_strategies() -> list[str]:
    """List the names that settings may give, sorted."""
    return sorted({*BUILT_IN, *_foreign()})


def make_strategy(name: str, settings: Mapping[str, object]) -> Any:
    """Build the strategy called `name` from its settings.

    Raises ConfigurationError for an unknown name (with the known ones), for a foreign strategy that
    takes the name of one of ours or cannot be loaded, and for settings the strategy refuses.
    """
    return factory(name)(settings)


def factory(name: str) -> Factory:
    """Give the function that builds the strategy called `name`; raises as `make_strategy`."""
    foreign = _foreign()
    if name in BUILT_IN:
        if name in foreign:
            raise ConfigurationError(
                f"strategy {name!r} is built in, but {foreign[name].value} registers the same name;"
                " give yours another one"
            )
        return BUILT_IN[name]
    if name not in foreign:
        known = known_strategies()
        raise ConfigurationError(
            f"unknown strategy {name!r}{nearest(name, known)}; known: {', '.join(known)}"
        )
    return _loaded(foreign[name])


def _foreign() -> dict[str, EntryPoint]:
    return {p.name: p for p in entry_points(group=GROUP) if not p.value.startswith(OURS)}


def _loaded(point: EntryPoint) -> Factory:
    try:
        found = point.load()
    except (ImportError, AttributeError) as failure:
        raise ConfigurationError(
            f"strategy {point.name!r} ({point.value}) cannot be loaded: {failure}"
        ) from failure
    if not callable(found):
        raise ConfigurationError(
            f"strategy {point.name!r} ({point.value}) is not a function of its settings"
        )
    return found  # type: ignore[no-any-return]
