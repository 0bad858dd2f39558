"""The stress campaign: arms from settings, each an ordinary backtest that logs its own trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from adapters.history.store import data_root
from daemon.ports import Executor, Share
from daemon.report.capacity import Capacity
from daemon.research.stress import (
    Account,
    ArmResult,
    Figures,
    Parts,
    StressArm,
    StressReport,
    days_of,
    figures_of,
    parts_of,
    stress_arms,
    stress_csv,
    stress_json,
)
from daemon.settings import PaperSettings, Settings
from daemon.wiring.arms import Ended, Task, backtest_of, ended, run_arms
from daemon.wiring.trials import configuration_of

JSON_FILE: Final = "stress.json"
CSV_FILE: Final = "stress.csv"


@dataclass(frozen=True, slots=True)
class _Outcome:
    figures: Figures
    parts: Parts
    fills: int
    capacity: Capacity
    strategy: str
    first_ms: int
    last_ms: int
    symbols: tuple[str, ...]
    data_fingerprint: str
    configuration: Mapping[str, object]
    caveats: tuple[str, ...]


def run_stress(
    settings: Settings, executor: Executor, done: Share = lambda share: None
) -> StressReport:
    """Run the base and every arm; those with the same account as another run once.

    Raises what a backtest raises, with the name of the arm.
    """
    base = _account(settings)
    arms = stress_arms(base)
    first_of: dict[Account, StressArm] = {}
    for arm in arms:
        first_of.setdefault(arm.account, arm)
    names = {account: f"{arm.group}: {arm.name}" for account, arm in first_of.items()}
    tasks = [
        Task(name, _with(settings, account), f"evaluate stress, {name}", account != base)
        for account, name in names.items()
    ]
    outcomes = dict(zip(names, run_arms(executor, run_arm, tasks, done), strict=True))
    results = []
    for arm in arms:
        found = outcomes[arm.account]
        twin = "" if first_of[arm.account] == arm else names[arm.account]
        results.append(ArmResult(arm, found.figures, found.fills, found.capacity, twin))
    made = outcomes[base]
    return StressReport(
        strategy=made.strategy,
        first_ms=made.first_ms,
        last_ms=made.last_ms,
        symbols=made.symbols,
        data_fingerprint=made.data_fingerprint,
        configuration=made.configuration,
        caveats=made.caveats,
        arms=tuple(results),
        parts=made.parts,
    )


def run_arm(task: Task, share: Share) -> Ended[_Outcome]:
    """Run one arm, here or in a worker."""
    settings, result = task.settings, backtest_of(task, share)
    facts, record = result.run.facts, result.run.record
    days = days_of(record)
    folder = f"{data_root(Path(settings.backtest.data_folder))}/"
    outcome = _Outcome(
        figures=figures_of(days),
        parts=parts_of(days),
        fills=facts.fills,
        capacity=result.run.capacity,
        strategy=facts.strategy,
        first_ms=record.times_ms[0],
        last_ms=record.times_ms[-1],
        symbols=facts.symbols,
        data_fingerprint=facts.fingerprint,
        configuration=configuration_of(settings, result.engine.universe),
        # a report is the same on every machine
        caveats=tuple(caveat.replace(folder, "") for caveat in facts.caveats),
    )
    return ended(task, outcome, result)


def write_stress(report: StressReport, folder: Path) -> tuple[Path, Path]:
    """Write stress.json and stress.csv into a folder, made if need be; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / JSON_FILE, folder / CSV_FILE
    for path, text in zip(written, (stress_json(report), stress_csv(report)), strict=True):
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return written


def _account(settings: Settings) -> Account:
    return Account(**{field.name: getattr(settings.paper, field.name) for field in fields(Account)})


def _with(settings: Settings, account: Account) -> Settings:
    paper = PaperSettings(**{**settings.paper.model_dump(), **asdict(account)})
    return settings.model_copy(update={"paper": paper})
