"""Run the registered hypotheses: backtests in processes of their own, tests on what they leave.

The settings of a registered run are the packaged ones and those of the protocol, nothing of the
user's or of the environment: a registration that anybody's settings file could bend would be none.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError, DataError
from daemon.report.exports import write_text
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
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.packaged import packaged_file

PROTOCOL_FILE: Final = "config/hypotheses.toml"
# of the committed file, so that an edited copy in an installation does not pass for the registered
REGISTERED_SHA256: Final = "0a70de80a48cfcd861e70741014126e8ebc7a14dea15e194f363bc32177d51ca"
MARKDOWN_NAME: Final = "hypotheses.md"
JSON_NAME: Final = "hypotheses.json"

Progress = Callable[[int, int], None]  # runs done, runs in all


@dataclass(frozen=True, slots=True)
class Job:
    """Hold one backtest to be run: its name and all that its settings need."""

    name: str
    overrides: tuple[str, ...]


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
    *,
    only: Sequence[str] = (),
    processes: int = 1,
    progress: Progress = lambda done, total: None,
) -> Campaign:
    """Judge the chosen hypotheses on the bars in `data`; results do not depend on `processes`.

    Raises ConfigurationError for an unknown id or a protocol whose settings are wrong.
    """
    chosen = protocol.protocol.chosen(only)
    testable = [h for h in chosen if h.status == "testable"]
    for h in testable:
        if h.test not in TESTS:
            raise ConfigurationError(
                f"hypothesis {h.id}: test {h.test!r}; accepted: {', '.join(TESTS)}"
            )
    with Runs(protocol, data, processes, progress) as runs:
        runs.do(_first_stage(protocol, testable))
        runs.do(_second_stage(protocol, testable, runs.arms))
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
    """Do each named backtest once, in processes; keep what they leave, or why they left nothing."""

    def __init__(
        self, protocol: Registered, data: Path, processes: int, progress: Progress
    ) -> None:
        self.arms: dict[str, Arm] = {}
        self.failures: dict[str, str] = {}
        self._protocol = protocol
        self._data = data
        self._progress = progress
        self._asked = 0
        # spawned, because forking a process that has threads may leave one of their locks held
        context = multiprocessing.get_context("spawn")
        self._pool = (
            ProcessPoolExecutor(max_workers=processes, mp_context=context)
            if processes > 1
            else None
        )

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def do(self, names: Iterable[tuple[str, RunPlan, float | None]]) -> None:
        """Run what was not run yet; a failure of the data is kept as a reason."""
        fresh = {}
        for name, plan, bps in names:
            if name not in self.arms and name not in self.failures:
                fresh[name] = Job(name, self._overrides(plan, bps))
        self._asked += len(fresh)
        self._tell()
        for name, result in self._results(list(fresh.values())):
            if isinstance(result, str):
                self.failures[name] = result.replace(str(self._data), "the data folder")
            else:
                self.arms[name] = result
            self._tell()

    def _results(self, jobs: list[Job]) -> Iterator[tuple[str, Arm | str]]:
        """Yield the results as they come; their order has no say in anything."""
        if self._pool is None:
            yield from map(run_job, jobs)
            return
        futures = [self._pool.submit(run_job, job) for job in jobs]
        yield from (future.result() for future in as_completed(futures))

    def _tell(self) -> None:
        self._progress(len(self.arms) + len(self.failures), self._asked)

    def _overrides(self, plan: RunPlan, bps: float | None) -> tuple[str, ...]:
        protocol = self._protocol.protocol
        since, until = protocol.periods[plan.period]
        symbols = json.dumps(list(protocol.symbols))
        parts = [
            *protocol.settings,
            f"strategy.name={plan.strategy}",
            f"strategy.parameters={json.dumps(plan.parameters)}",
            f"estimator.kind={plan.estimator}",
            f"backtest.data_folder={self._data}",
            f"backtest.symbols={symbols}",
            f"backtest.since={since.isoformat()}",
            f"backtest.until={until.isoformat()}",
            "backtest.report=",
            *plan.settings,
        ]
        if bps is not None:
            parts.append(f"paper.fee_bps={bps:g}")
        return tuple(parts)


def run_job(job: Job) -> tuple[str, Arm | str]:
    """Run one backtest; gives what it leaves, or why the data does not allow it."""
    try:
        result = run_backtest(job_settings(job), command="evaluate hypotheses")
    except DataError as e:
        return job.name, str(e)
    return job.name, measure_arm(job.name, result.run)


def job_settings(job: Job) -> Settings:
    """Give the settings of a job; the environment has no say."""
    base = packaged_file("config/backtest.toml")
    return load_settings([base], overrides=job.overrides, environment={})


def _first_stage(
    protocol: Registered, testable: Sequence[Hypothesis]
) -> list[tuple[str, RunPlan, float | None]]:
    """List the runs that wait for no other."""
    plans, found = protocol.protocol.runs, list[tuple[str, RunPlan, float | None]]()
    for h in testable:
        found += [(name, plans[name], None) for name in h.tuning]
        if h.costs_bps:
            found += _at_costs(h, h.runs[:1], plans) + _at_middle(h, h.runs[1:], plans)
        else:
            found += [(name, plans[name], None) for name in h.runs]
    return found


def _second_stage(
    protocol: Registered, testable: Sequence[Hypothesis], arms: Mapping[str, Arm]
) -> list[tuple[str, RunPlan, float | None]]:
    """List the runs of what tuning chose."""
    found = list[tuple[str, RunPlan, float | None]]()
    for h in testable:
        if h.tuning and all(name in arms for name in h.tuning):
            best = tuned(h, arms)
            found += _at_costs(h, [best] if best else [], protocol.protocol.runs)
    return found


def _at_costs(
    h: Hypothesis, names: Iterable[str], plans: Mapping[str, RunPlan]
) -> list[tuple[str, RunPlan, float | None]]:
    return [(at_cost(name, bps), plans[name], bps) for name in names for bps in h.costs_bps]


def _at_middle(
    h: Hypothesis, names: Iterable[str], plans: Mapping[str, RunPlan]
) -> list[tuple[str, RunPlan, float | None]]:
    middle = sorted(h.costs_bps)[len(h.costs_bps) // 2]
    return [(at_cost(name, middle), plans[name], middle) for name in names]


def _judged(h: Hypothesis, protocol: Registered, runs: Runs) -> Judgement:
    if h.status == "pending":
        return pending(h)
    failed = [name for name in runs.failures if _belongs(h, name)]
    if failed:
        return not_testable(f"{failed[0]}: {runs.failures[failed[0]]}")
    return TESTS[h.test](h, protocol.protocol, runs.arms)


def _belongs(h: Hypothesis, name: str) -> bool:
    return name.partition(" at ")[0] in (*h.runs, *h.tuning, *h.candidates)
