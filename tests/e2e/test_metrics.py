"""The metrics of a real run are read by a real parser, and the dashboard and rules ask for them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as classic
import pytest
import yaml  # type: ignore[import-untyped] # its types are a package of their own
from prometheus_client.core import Metric

from adapters.prometheus_text import exposition
from daemon.domain.messages import AlertKind, Command, Decided, Event
from daemon.engine.engine import Engine
from daemon.status.codec import plain
from daemon.wiring import runtime_status, sinks
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.docs.test_pages import anchors
from tests.e2e.line import NEUTRAL, ROOT, settings_of

OPEN = "application/openmetrics-text; version=1.0.0"
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "equipoise.json"
# What a short run on paper cannot show; each is in the exposition of topics that hold it.
NOT_IN_THE_RUN = {
    "equipoise_band_health",  # some trades come first
    "equipoise_bars_removed_total",  # nothing was removed
    "equipoise_clock_offset_seconds",  # in lock-step there is nothing to compare with
    "equipoise_correlation_predicted",  # an estimator of the covariance is watched for hours first
    "equipoise_correlation_realised",
    "equipoise_covariance_fallback",
}
Topics = dict[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Topics:
    """Give what a run of some decisions published, as JSON."""
    found: Topics = {}
    stop = asyncio.Event()
    decisions = 0
    hand_on = sinks.publish_to

    def seen(to: Sequence[Any], topic: str, values: Mapping[str, object]) -> None:
        if not stop.is_set():  # what is told while a run ends is not how it was
            found[topic] = json.loads(json.dumps(plain(values)))
        if topic == "runtime" and decisions >= 4:
            stop.set()
        hand_on(to, topic, values)

    def count(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal decisions
        decisions += sum(isinstance(command, Decided) for command in commands)

    async def trade() -> None:
        state = tmp_path_factory.mktemp("metrics") / "state"
        with rehearsal_exchange(settings_of(state, *NEUTRAL, "risk.beta_weight_max=0.5")) as own:
            async with paper_session(own.settings, SessionHooks(observers=(count,))) as shell:
                await shell.run(stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "publish_to", seen)
        patch.setattr(runtime_status, "EVERY_S", 0.2)
        asyncio.run(trade())
    return found


def families(text: str, *, is_open: bool) -> dict[str, Metric]:
    parse = openmetrics if is_open else classic
    return {one.name: one for one in parse.text_string_to_metric_families(text)}


def samples(text: str) -> set[str]:
    found = families(text, is_open=True).values()
    return {sample.name for family in found for sample in family.samples}


@pytest.fixture(scope="module")
def exposed(topics: Topics) -> str:
    content, kind = exposition(topics, OPEN)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    return content.decode()


def test_both_forms_are_read_by_the_parser_and_say_the_same(topics: Topics, exposed: str) -> None:
    content, kind = exposition(topics)
    assert kind.startswith("text/plain; version=0.0.4")
    old = families(content.decode(), is_open=False)
    for name, family in families(exposed, is_open=True).items():
        said = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples}
        other = [one for n, one in old.items() if n.startswith(name)]
        again = {
            (s.name, tuple(sorted(s.labels.items()))): s.value for one in other for s in one.samples
        }
        assert said.items() <= again.items(), name
        assert family.documentation.endswith("."), name


def test_names_keep_the_customs_of_the_field(exposed: str) -> None:
    for name, family in families(exposed, is_open=True).items():
        assert re.fullmatch(r"equipoise_[a-z][a-z0-9_]*", name)
        if family.type == "counter":
            assert {s.name for s in family.samples} == {f"{name}_total", f"{name}_created"}
        if name.endswith(("_seconds", "_bytes", "_ratio")):
            assert family.unit == name.rpartition("_")[2], name
    assert not re.search(r"_(ms|pct|percent|mb)\b", exposed)


def test_the_values_are_those_of_the_topics(topics: Topics, exposed: str) -> None:
    found = families(exposed, is_open=True)
    assert found["equipoise_equity_quote"].samples[0].value == topics["status"]["equity"]
    states = {
        s.labels["equipoise_trading_state"]: s.value
        for s in found["equipoise_trading_state"].samples
    }
    assert states == {
        "starting": 0,
        "reconciling": 0,
        "trading": 1,
        "reduce_only": 0,
        "halted": 0,
    }
    kinds = {s.labels["kind"] for s in found["equipoise_alerts"].samples}
    assert kinds == set(AlertKind), "an alarm sees no rise of what begins above zero"
    held = {s.labels["symbol"] for s in found["equipoise_position_weight_ratio"].samples}
    assert held == set(topics["positions"])
    [fills] = [s for s in found["equipoise_fills"].samples if s.name.endswith("_total")]
    assert fills.value == topics["runtime"]["counts"]["fills"] > 0
    ages = found["equipoise_forecast_age_seconds"].samples
    assert {s.labels["timeframe"] for s in ages} == {"1h", "90m", "2h"}


def asked(expression: str) -> set[str]:
    """Give the metrics that an expression asks for."""
    return set(re.findall(r"\bequipoise_[a-z0-9_]+\b(?=[\s({\[)*/<>=-]|$)", _bare(expression)))


def _bare(expression: str) -> str:
    """Take the labels out: one of them is named like its metric."""
    return re.sub(r"\{[^}]*\}|by \([^)]*\)", " ", expression)


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def queries() -> list[tuple[str, str]]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [(p["title"], target["expr"]) for p in panels for target in p.get("targets", [])]


def test_the_dashboard_and_the_rules_ask_only_for_what_a_run_exposes(exposed: str) -> None:
    known = samples(exposed) | NOT_IN_THE_RUN
    for title, expression in [*queries(), *((r["alert"], r["expr"]) for r in rules())]:
        names = asked(expression)
        assert names, f"{title} asks for nothing of ours: {expression}"
        assert names <= known, f"{title}: {sorted(names - known)}"
    assert NOT_IN_THE_RUN.isdisjoint(samples(exposed)), "the list may only shrink"


def test_what_a_short_run_cannot_show_is_exposed_where_it_is_known() -> None:
    watch = {"mean_correlation_said": 0.5, "mean_correlation_came": 0.4, "excess_loss": 0.1}
    full: Topics = {
        "status": {"covariance": watch, "band_health": 1.0},
        "runtime": {"covariance_fallback": True},
        "feed": {"binanceusdm": {"bars_removed_n": 2, "clock_offset_ms": 3.0}},
    }
    content, _ = exposition(full, OPEN)
    assert samples(content.decode()) >= NOT_IN_THE_RUN


def test_every_panel_has_a_place_of_its_own() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    cells = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )["datasources"][0]["uid"]
    assert {t["datasource"]["uid"] for p in panels for t in p.get("targets", [])} == {source}


def test_every_rule_has_a_severity_a_summary_and_a_page_that_exists() -> None:
    known = anchors(ROOT / "docs" / "runbook.md")
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md"
        assert anchor in known, rule["alert"]
        depth = 0
        for character in rule["expr"]:
            depth += {"(": 1, ")": -1}.get(character, 0)
            assert depth >= 0, rule["alert"]
        assert depth == 0, rule["alert"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_every_kind_of_alert_has_a_page_with_its_five_parts() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    by_anchor = {title.lower().replace(" ", "-"): body for title, body in sections.items()}
    assert {str(kind).replace("_", "-") for kind in AlertKind} <= set(by_anchor)
    for anchor, body in by_anchor.items():
        for part in ("Means", "Done already", "Look at", "Do", "Sleep on"):
            assert f"**{part}" in body, f"{anchor}: {part}"
