"""Settings read again while a book is open: what may change, by which way, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.journal import SqliteJournal
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Command, Event, Operator, OperatorAction, Started
from daemon.engine.engine import Engine
from daemon.engine.rules import EngineRules
from daemon.engine.state import SCHEMA
from daemon.runtime.recovery import save_bytes
from daemon.settings import Settings, effective_toml, load_settings
from daemon.settings.describe import all_keys
from daemon.wiring.core import engine_of
from daemon.wiring.recovery import deciding, recovered_engine
from daemon.wiring.reloading import Kind, Reloading, kind_of, refuse_unaccepted
from tests.engine.world import M30, at, bars, deposit, snapshot, universe_of

BEGUN = (
    "strategy.name=relative_strength",
    "strategy.parameters={}",
    "estimator.kind=none",
    "market.window_bars=4",
)


def settings_of(*overrides: str) -> Settings:
    return load_settings(overrides=[*BEGUN, *overrides], environment={})


def running(settings: Settings) -> Engine:
    return engine_of(settings, universe_of(4), M30)


def asked(before: Settings, after: Settings) -> tuple[dict[str, object], str]:
    rules, told = Reloading(before, lambda: after)(running(before))
    return dict(rules), told


def test_limits_style_and_policy_are_reloaded_and_told_with_both_values() -> None:
    after = settings_of(
        "risk.gross_weight_max=1.5", "execution.style=passive", "live.foreign=adopt"
    )
    rules, told = asked(settings_of(), after)
    assert rules == {
        "limits.gross_weight_max": 1.5,
        "execution.style": "passive",
        "reconcile": "adopt",
    }
    assert "limits.gross_weight_max 2.0 -> 1.5" in told


def test_0_switches_a_limit_off_as_at_a_start() -> None:
    rules, _ = asked(settings_of("risk.day_loss_max=0.1"), settings_of())
    assert rules == {"limits.day_loss_max": None}


def test_what_is_the_same_changes_nothing_and_says_so() -> None:
    assert asked(settings_of(), settings_of()) == ({}, "nothing differs from what is in force")


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("strategy.name=neutral", "accept"),
        ("market.source=15m", "fixed"),
        ("live.follow_up_s=7", "restart"),
        ("live.leverage=3", "accept"),
    ],
)
def test_anything_else_is_refused_by_name_and_nothing_of_it_is_taken(
    override: str, kind: str
) -> None:
    after = settings_of("risk.gross_weight_max=1.5", override)
    with pytest.raises(ConfigurationError, match="nothing was reloaded") as refused:
        asked(settings_of(), after)
    assert f"{override.partition('=')[0]} ({kind})" in str(refused.value)


def test_settings_that_are_wrong_are_refused_with_their_place() -> None:
    def read() -> Settings:
        return settings_of("risk.gross_weight_max=-1")

    with pytest.raises(ConfigurationError, match=r"risk\.gross_weight_max"):
        Reloading(settings_of(), read)(running(settings_of()))


def test_every_setting_is_of_a_kind_and_those_that_bound_orders_can_be_reloaded() -> None:
    kinds = {key: kind_of(key) for key, _ in all_keys()}
    reloaded = {key.partition(".")[0] for key, kind in kinds.items() if kind is Kind.RELOAD}
    assert reloaded == {"risk", "execution", "live"}
    assert {key for key, kind in kinds.items() if kind is Kind.FIXED} == {
        "live.account",
        "exchange.id",
        "market.source",
        "market.timeframes",
    }


OTHER_VALUES = {
    "execution.style": "passive",
    "execution.hedge_symbols": '["SOL"]',
    "execution.cost_feedback": "true",
    "execution.twap_slices_n": "3",
    "live.foreign": "flatten",
    "risk.gross_weight_max": "1.9",
    "risk.name_weight_max": "0.4",
}


@pytest.mark.parametrize("key", [k for k, _ in all_keys() if kind_of(k) is Kind.RELOAD])
def test_every_setting_that_can_be_reloaded_reaches_the_engine(key: str) -> None:
    value = OTHER_VALUES.get(key, "0.03" if "weight" in key or "loss" in key else "1")
    value = "0.02" if key in {"risk.drawdown_max", "risk.margin_ratio_max"} else value
    base = "execution.twap_window_s=600"
    rules, told = asked(settings_of(base), settings_of(base, f"{key}={value}"))
    assert rules, f"{key} = {value} changes nothing: {told}"


def test_whatever_the_rules_of_an_engine_are_made_of_counts_at_the_next_start() -> None:
    def rules_and_all(settings: Settings) -> tuple[EngineRules, dict[str, Any]]:
        return replace(running(settings).rules, cost=np.zeros(0)), deciding(settings)

    begun, found = rules_and_all(settings_of()), set[str]()
    for key, field in all_keys():
        value = field.default
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        try:
            after = rules_and_all(settings_of(f"{key}={value + 1}"))
        except ConfigurationError:
            continue  # a value that is out of its bounds, or alone makes no sense
        if repr(after[0]) != repr(begun[0]):
            found.add(key)
            assert after[1] != begun[1], f"a start with another {key} would pass it over"
    assert {"live.unread_max_s", "execution.passive_s", "universe.volume_rank_max"} <= found


# ---- a journal, and starts over it ---------------------------------------------------------------


async def written(
    path: Path, settings: Settings, engine: Engine, *events: Event, saves: bool
) -> None:
    """Let one start of a daemon write what it processes; it ends without a word, as if killed."""
    text = effective_toml(settings)
    async with SqliteJournal(
        path, state_schema=SCHEMA, code_version="test", settings_text=text
    ) as journal:
        entries: Sequence[tuple[Event, Sequence[Command]]] = [
            (event, engine.process(event)) for event in events
        ]
        await journal.append(entries)
        if saves:
            await journal.save_snapshot(save_bytes(engine))


def begun() -> list[Event]:
    history = [bars(n, [100.0 + n, 100.0 - n, 100.0 + 2 * n, 100.0], n=4) for n in range(1, 13)]
    return [
        Started(at(0), "run", warming=True),
        *history,
        Started(at(12), "run"),
        deposit(),
        snapshot(),
    ]


@pytest.mark.parametrize("saves", [True, False])
async def test_killed_after_a_reload_the_next_start_goes_by_what_its_file_says_then(
    tmp_path: Path, saves: bool
) -> None:
    path, first = tmp_path / "journal.sqlite", settings_of()
    rules, told = asked(first, settings_of("risk.gross_weight_max=0.7"))
    wish = Operator(OperatorAction.RELOAD, "r1", at(12), told, rules)  # type: ignore[arg-type]
    engine = running(first)
    await written(path, first, engine, *begun(), wish, saves=saves)
    assert engine.rules.limits.gross_weight_max == 0.7
    universe = universe_of(4)
    for text, wanted in (("risk.gross_weight_max=0.7", 0.7), ("risk.gross_weight_max=2.0", 2.0)):
        found, _ = recovered_engine(settings_of(text), universe, path)
        assert found.rules.limits.gross_weight_max == wanted
        assert found.state.changed == {}
        assert "r1" in found.state.operator_requests, "asked again it is known"
        assert found.state.book.cash == engine.state.book.cash


async def test_a_style_that_changed_between_two_starts_is_in_force_at_the_second(
    tmp_path: Path,
) -> None:
    path, first = tmp_path / "journal.sqlite", settings_of()
    await written(path, first, running(first), *begun(), saves=True)
    found, _ = recovered_engine(settings_of("execution.style=passive"), universe_of(4), path)
    assert str(found.rules.execution.style) == "passive"


async def test_an_open_book_keeps_its_strategy_unless_the_change_is_accepted(
    tmp_path: Path,
) -> None:
    path, first = tmp_path / "journal.sqlite", settings_of()
    engine = running(first)
    await written(path, first, engine, *begun(), saves=True)
    other = settings_of('strategy.parameters={"legs_each_side": 1}')
    refuse_unaccepted(other, path, engine, ())  # nothing is held
    engine.state.book.held[0] = 1.0
    with pytest.raises(ConfigurationError, match=r"--accept strategy\.parameters"):
        refuse_unaccepted(other, path, engine, ())
    refuse_unaccepted(other, path, engine, {"strategy.parameters"})
    refuse_unaccepted(other, path, engine, {"all"})
    refuse_unaccepted(
        settings_of("risk.gross_weight_max=0.5", "live.follow_up_s=9"), path, engine, ()
    )
