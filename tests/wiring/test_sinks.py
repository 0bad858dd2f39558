"""Status is shown when it changes, not at the next bar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import (
    Alert,
    AlertKind,
    Event,
    FeedNotice,
    FeedTrouble,
    Operator,
    OperatorAction,
    OrderAccepted,
    Started,
)
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.view import View
from daemon.engine.risk import RiskLimits
from daemon.ports import StrategyState
from daemon.settings import Settings
from daemon.status.notices import NoticeRules
from daemon.wiring.notifying import Notifier
from daemon.wiring.sinks import Publisher, _tell_day, known_secrets
from tests.e2e.line import settings_of
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    deposit,
    fill_of,
    make_engine,
    snapshot,
    submitted,
    trading_engine,
)


@dataclass
class Shown:
    """Keep what was published, newest last."""

    status: list[dict[str, Any]] = field(default_factory=list)

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        if topic == "status":
            self.status.append(dict(values))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield


def test_an_account_learnt_and_a_halt_are_shown_before_any_bar_closes() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (
        Started(at(0), "run"),
        deposit(),
        snapshot(),
        Operator(OperatorAction.KILL, "1", at(0)),
    ):
        publisher(event, engine.process(event), engine)
    seen = [(str(s["trading_state"]), float(s["equity"]), s["note"]) for s in shown.status]
    assert seen == [
        ("reconciling", 0.0, ""),
        ("reconciling", 10_000.0, ""),
        ("trading", 10_000.0, ""),
        ("halted", 10_000.0, "killed by the operator"),
    ]


def test_where_nothing_may_be_opened_is_shown_with_its_reason_until_it_ends() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (
        Started(at(0), "run"),
        deposit(),
        snapshot(),
        FeedNotice(at(0), "paper", FeedTrouble.CLOCK_OFFSET, True, "its clock is off"),
        FeedNotice(at(0), "paper", FeedTrouble.CLOCK_OFFSET, False, "right again"),
    ):
        publisher(event, engine.process(event), engine)
    assert [(str(s["trading_state"]), s["note"]) for s in shown.status[-3:]] == [
        ("trading", ""),
        ("reduce_only", "nothing is opened: paper: its clock is off"),
        ("trading", ""),
    ]


def test_what_changes_nothing_that_is_shown_publishes_nothing() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (Started(at(0), "run"), deposit(), snapshot(), snapshot()):
        publisher(event, engine.process(event), engine)
    assert len(shown.status) == 3


def test_measured_costs_and_the_worst_beta_are_shown_once_there_are_any() -> None:
    limits = RiskLimits(net_weight_max=0.5, beta_weight_max=0.5)
    engine = trading_engine(FixedWeights(lambda _: [0.1, -0.1, 0.0, 0.0]), limits=limits)
    shown = Shown()
    publisher = Publisher([shown], [])
    queue: list[Event] = [bars(3), bars(4)]
    while queue:
        event = queue.pop(0)
        commands = engine.process(event)
        publisher(event, commands, engine)
        queue += [fill_of(o, f"t{o.order_id}", price="100.1") for o in submitted(commands)]
    assert "costs" not in shown.status[0]
    assert shown.status[-1]["beta_weight_worst"] == pytest.approx(0.1, abs=1e-3)
    assert "cross liquid +0.00 and fee 0.00 bps of 2 fills" in shown.status[-1]["costs"]


@dataclass(frozen=True)
class Measuring(FixedWeights):
    """Say of every decision how healthy its bands are."""

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        after, target = super().decide(state, view)
        return after, replace(target, health=1.25)


def test_the_health_of_the_bands_is_that_of_the_newest_decision() -> None:
    engine, shown = trading_engine(Measuring(lambda _: [0.0] * 4)), Shown()
    publisher = Publisher([shown], [])
    for event in (bars(3), bars(4)):
        publisher(event, engine.process(event), engine)
    assert [s["band_health"] for s in shown.status] == [None, 1.25]


@dataclass
class All:
    """Keep every topic that was published, newest last."""

    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        self.told.append((topic, dict(values)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    def newest(self, topic: str) -> dict[str, Any]:
        return [values for name, values in self.told if name == topic][-1]


async def test_hundreds_of_orders_are_shown_as_a_handful_of_tables() -> None:
    limits = RiskLimits(net_weight_max=0.5, beta_weight_max=0.5)
    engine = trading_engine(FixedWeights(lambda _: [0.1, -0.1, 0.0, 0.0]), limits=limits)
    shown = All()
    publisher = Publisher([shown], [])
    sent = []
    for event in (bars(3), bars(4)):
        commands = engine.process(event)
        publisher(event, commands, engine)
        sent += submitted(commands)
    for order in sent:
        for _ in range(100):
            publisher(OrderAccepted(order.order_id, at(4)), [], engine)
    assert [topic for topic, _ in shown.told if topic == "orders"] == []
    publisher.close()
    assert [topic for topic, _ in shown.told].count("orders") == 1
    orders = shown.newest("orders")
    assert orders["open_n"] == len(sent) > 0
    assert list(orders["open"]) == [str(order.order_id) for order in reversed(sent)]


def test_limits_are_shown_beside_what_is_measured() -> None:
    limits = RiskLimits(net_weight_max=0.5, beta_weight_max=0.5, day_loss_max=0.1)
    engine = trading_engine(FixedWeights(lambda _: [0.1, -0.1, 0.0, 0.0]), limits=limits)
    shown = All()
    publisher = Publisher([shown], [])
    queue: list[Event] = [bars(3), bars(4)]
    while queue:
        event = queue.pop(0)
        commands = engine.process(event)
        publisher(event, commands, engine)
        queue += [fill_of(o, f"t{o.order_id}", price="100.1") for o in submitted(commands)]
    risk = shown.newest("risk")
    assert risk["limits"]["gross_weight_max"]["now"] == pytest.approx(0.2, rel=0.05)
    assert abs(risk["limits"]["beta_weight_max"]["now"]) < 0.01
    assert risk["limits"]["day_loss_max"] == {"limit": 0.1, "now": pytest.approx(0.0, abs=0.01)}
    assert "drawdown_max" in risk["limits"]  # off, and measured all the same
    assert (risk["trading_state"], risk["paused"], risk["unresolved_n"]) == ("trading", False, 0)
    assert shown.newest("correlation")["symbols"] == list(engine.universe.symbols)


def test_every_secret_that_settings_name_is_kept_out_of_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever section names it, now and later: each pair of `_env` and `_file` is one."""
    named = {
        f"{section}.{name}": f"secret-number-{number}-of-{section}"
        for section, found in Settings.model_fields.items()
        for number, name in enumerate(getattr(found.annotation, "model_fields", ()))
        if name.endswith("_env")
    }
    assert len(named) >= 8
    for key, secret in named.items():
        monkeypatch.setenv(key.upper().replace(".", "_"), secret)
    chosen = [f"{key}={key.upper().replace('.', '_')}" for key in named]
    users = ("mqtt.username=me", "notify.smtp_username=me", "notify.telegram_chat=1")
    settings = settings_of(tmp_path, *chosen, *users)
    assert sorted(known_secrets(settings)) == sorted(named.values())
    with pytest.raises(ConfigurationError, match="NOBODY_SET_IT"):
        known_secrets(settings_of(tmp_path, "redis.password_env=NOBODY_SET_IT"))


class Heard(Notifier):
    """Keep what people would be told."""

    def __init__(self) -> None:
        super().__init__([], NoticeRules(), "run")
        self.told: list[Alert] = []

    def alert(self, alert: Alert, subject: str = "", *, over: bool = False) -> None:
        self.told.append(alert)


def test_the_summary_of_a_day_goes_to_people_also_without_any_server() -> None:
    heard, alert = Heard(), Alert(AlertKind.DAILY, 7, "a day")
    _tell_day(Publisher([], []), heard, {"day": "2024-01-01"}, alert)
    assert heard.told == [alert]
