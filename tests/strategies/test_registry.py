"""Hold the search for strategies by name, ours and other people's, to clear answers."""

from importlib.metadata import EntryPoint

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.ports import Strategy
from strategies import registry
from strategies.neutral import NeutralStrategy
from strategies.registry import factory, known_strategies, make_strategy
from strategies.relative_strength import RelativeStrength


def registered(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Let other distributions register (name, value) pairs."""
    made = [EntryPoint(name, value, registry.GROUP) for name, value in points]

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [p for p in made if p.group == group]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_ours_are_known_and_built() -> None:
    assert {"neutral", "relative_strength"} <= set(known_strategies())
    neutral: Strategy = make_strategy("neutral", {})
    ranked: Strategy = make_strategy("relative_strength", {"legs_each_side": 5})
    assert isinstance(neutral, NeutralStrategy)
    assert isinstance(ranked, RelativeStrength)
    assert ranked.settings.legs_each_side == 5


def test_a_user_s_strategy_is_found_through_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered(monkeypatch, ("mine", "strategies.relative_strength:build"))
    monkeypatch.setattr(registry, "OURS", "nobody.")
    assert known_strategies() == sorted([*registry.BUILT_IN, "mine"])
    assert isinstance(make_strategy("mine", {}), RelativeStrength)


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"unknown strategy 'nuetral' \(did you mean 'neutral'\?\); known: .*strength",
    ):
        make_strategy("nuetral", {})


def test_our_own_registration_is_no_foreign_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, ("neutral", "strategies.neutral:build"))
    assert factory("neutral") is registry.BUILT_IN["neutral"]


def test_nobody_else_may_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, ("neutral", "other.place:make"))
    with pytest.raises(ConfigurationError, match=r"other\.place:make registers the same name"):
        make_strategy("neutral", {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no.such.module:make", "cannot be loaded"),
        ("math:no_such_thing", "cannot be loaded"),
        ("math:pi", "is not a function"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    registered(monkeypatch, ("mine", value))
    with pytest.raises(ConfigurationError, match=message):
        make_strategy("mine", {})
