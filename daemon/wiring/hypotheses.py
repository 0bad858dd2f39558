"""Run the registered hypotheses: backtests in processes of their own, tests on what they leave.

The settings of a registered run are the packaged ones and those of the protocol, nothing of the
user's or of the environment: a registration that anybody's settings file could bend would be none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError, DataError
from daemon.ports import Executor, Share
from daemon.report.files import write_text
from daemon.research.hypotheses import (
    Card,
    Hypothesis,
    Judgement,
    Registered,
    RunPlan,
    not_testable,
    pending,
    read_protocol,
)
from daemon.research.hypothesis_arms import Arm, measure_arm
from daemon.research.hypothesis_page import Campaign, campaign_json, campaign_markdown
from daemon.research.hypothesis_tests import TESTS, at_cost, tuned
from daemon.settings import load_settings
from daemon.wiring.arms import Ended, Task, backtest_of, ended, run_arms
from daemon.wiring.packaged import packaged_file

PROTOCOL_FILE: Final = "config/hypotheses.toml"
# of the committed file, so that an edited copy in an installation does not pass for the registered
REGISTERED_SHA256: Final = "0a70de80a48cfcd861e70741014126e8ebc7a14dea15e194f363bc32177d51ca"
MARKDOWN_NAME: Final = "hypotheses.md"
JSON_NAME: Final = "hypotheses.json"


@dataclass(frozen=True, slots=True)
class Planned:
    """Hold a run that a hypothesis asks for; bps: its fee, None as the protocol sets it."""

    name: str
    plan: RunPlan
    bps: float | None = None


def registered_protocol(path: Path | None = None) -> Registered:
    """Read the packaged protocol, or the named one.

    Raises ConfigurationError for a packaged file that is not the registered one to the byte.
    """
    if path is not None:
        return read_protocol(path)
    packaged = packaged_file(PROTOCOL_FILE)
    found = read_protocol(packaged)
    if found.sha256 != REGISTERED_SHA256:
        raise ConfigurationError(
            f"{packaged}: sha256 {found.sha256[:16]} is not the registered {REGISTERED_SHA256[:16]}"
            ": thresholds are fixed before the run; name the file with --protocol to use it anyway"
        )
    return found


def is_registered(protocol: Registered) -> bool:
    """Tell whether a protocol is the packaged one to the byte."""
    return protocol.sha256 == REGISTERED_SHA256


def run_hypotheses(
    protocol: Registered,
    data: Path,
    executor: Executor,
    *,
    only: Sequence[str] = (),
    done: Share = lambda share: None,
) -> Campaign:
    """Judge the chosen hypotheses on the bars in `data`; results do not depend on the executor.

    Raises ConfigurationError for an unknown id or a protocol whose settings are wrong.
    """
    chosen = protocol.protocol.chosen(only)
    testable = [h for h in chosen if h.status == "testable"]
    for h in testable:
        if h.test not in TESTS:
            raise ConfigurationError(
                f"hypothesis {h.id}: test {h.test!r}; accepted: {', '.join(TESTS)}"
            )
    runs = Runs(protocol, data, executor)
    runs.do(_first_stage(protocol, testable), done, _later_n(testable))
    runs.do(_second_stage(protocol, testable, runs.arms), done, 0)
    cards = tuple(Card(h, _judged(h, protocol, runs)) for h in chosen)
    fingerprints = {name: arm.fingerprint for name, arm in sorted(runs.arms.items())}
    return Campaign(protocol, is_registered(protocol), cards, fingerprints)


def write_campaign(campaign: Campaign, folder: Path) -> tuple[Path, Path]:
    """Write the page of results and its figures; gives both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, figures = folder / MARKDOWN_NAME, folder / JSON_NAME
    write_text(page, campaign_markdown(campaign))
    write_text(figures, json.dumps(campaign_json(campaign), indent=2, sort_keys=True) + "\n")
    return page, figures


class Runs:
    """Do each named backtest once; keep what they leave, or why the data does not allow them."""

    def __init__(self, protocol: Registered, data: Path, executor: Executor) -> None:
        self.arms: dict[str, Arm] = {}
        self.failures: dict[str, str] = {}
        self._protocol = protocol
        self._data = data
        self._executor = executor

    def do(self, stage: Sequence[Planned], done: Share, later_n: int) -> None:
        """Run what was not run yet; later_n: how many runs a later stage has at the most."""
        known = {*self.arms, *self.failures}
        fresh = {one.name: one for one in stage if one.name not in known}
        tasks = [self._task(one) for one in fresh.values()]
        total = len(known) + len(tasks) + later_n

        def part(share: float) -> None:
            done((len(known) + share * len(tasks)) / total if total else 1.0)

        part(0.0)
        results = run_arms(self._executor, run_job, tasks, part)
        for name, result in zip(fresh, results, strict=True):
            if isinstance(result, str):
                self.failures[name] = result.replace(str(self._data), "the data folder")
            else:
                self.arms[name] = result
        part(1.0)

    def _task(self, one: Planned) -> Task:
        protocol, plan = self._protocol.protocol, one.plan
        since, until = protocol.periods[plan.period]
        overrides = [
            *protocol.settings,
            f"strategy.name={plan.strategy}",
            f"strategy.parameters={json.dumps(plan.parameters)}",
            f"estimator.kind={plan.estimator}",
            f"backtest.data_folder={self._data}",
            f"backtest.symbols={json.dumps(list(protocol.symbols))}",
            f"backtest.since={since.isoformat()}",
            f"backtest.until={until.isoformat()}",
            "backtest.report=",
            *plan.settings,
        ]
        if one.bps is not None:
            overrides.append(f"paper.fee_bps={one.bps:g}")
        base = packaged_file("config/backtest.toml")
        # the environment has no say
        settings = load_settings([base], overrides=overrides, environment={})
        return Task(one.name, settings, "evaluate hypotheses")


def run_job(task: Task, share: Share) -> Ended[Arm | str]:
    """Run one backtest; keeps what the tests read, or why the data does not allow it."""
    try:
        result = backtest_of(task, share)
    except DataError as e:
        return ended(task, str(e), None)
    return ended(task, measure_arm(task.name, result.run), result)


def _first_stage(protocol: Registered, testable: Sequence[Hypothesis]) -> list[Planned]:
    """List the runs that wait for no other."""
    plans, found = protocol.protocol.runs, list[Planned]()
    for h in testable:
        found += [Planned(name, plans[name]) for name in h.tuning]
        if h.costs_bps:
            found += _at_costs(h, h.runs[:1], plans) + _at_middle(h, h.runs[1:], plans)
        else:
            found += [Planned(name, plans[name]) for name in h.runs]
    return found


def _second_stage(
    protocol: Registered, testable: Sequence[Hypothesis], arms: Mapping[str, Arm]
) -> list[Planned]:
    """List the runs of what tuning chose: at the most `_later_n`."""
    found = list[Planned]()
    for h in testable:
        if h.tuning and all(name in arms for name in h.tuning):
            best = tuned(h, arms)
            found += _at_costs(h, [best] if best else [], protocol.protocol.runs)
    return found


def _later_n(testable: Sequence[Hypothesis]) -> int:
    return sum(len(h.costs_bps) for h in testable if h.tuning)


def _at_costs(h: Hypothesis, names: Iterable[str], plans: Mapping[str, RunPlan]) -> list[Planned]:
    return [Planned(at_cost(name, bps), plans[name], bps) for name in names for bps in h.costs_bps]


def _at_middle(h: Hypothesis, names: Iterable[str], plans: Mapping[str, RunPlan]) -> list[Planned]:
    middle = sorted(h.costs_bps)[len(h.costs_bps) // 2]
    return [Planned(at_cost(name, middle), plans[name], middle) for name in names]


def _judged(h: Hypothesis, protocol: Registered, runs: Runs) -> Judgement:
    if h.status == "pending":
        return pending(h)
    failed = [name for name in runs.failures if _belongs(h, name)]
    if failed:
        return not_testable(f"{failed[0]}: {runs.failures[failed[0]]}")
    return TESTS[h.test](h, protocol.protocol, runs.arms)


def _belongs(h: Hypothesis, name: str) -> bool:
    return name.partition(" at ")[0] in (*h.runs, *h.tuning, *h.candidates)
