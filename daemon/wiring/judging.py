"""Judge runs beside what was tried before, and write what people keep of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.report.exports import write_exports
from daemon.report.judged import Judged, judge_run
from daemon.report.run import Run
from daemon.report.tear_sheet import write_page
from daemon.report.trials import Trials
from daemon.settings import Settings
from daemon.wiring.trials import read_trials


def trials_beside(run: Run, settings: Settings) -> Trials | None:
    """Give what was tried on a run's data, itself included; None where nothing was logged of it."""
    if not run.facts.fingerprint:  # its bars came live
        return None
    path = Path(settings.evaluation.trials_file)
    trials = read_trials(path, data_fingerprint=run.facts.fingerprint)
    return trials if trials.tried_n else None


def judged(run: Run, settings: Settings, trials: Trials | None, name: str = "run") -> Judged:
    """Work out everything that a report says of a run."""
    return judge_run(
        run,
        name=name,
        trials=trials,
        seed=settings.evaluation.seed,
        latency_bps=settings.paper.latency_bps,
    )


def write_report(path: Path, run: Run, settings: Settings) -> Judged:
    """Write the tear sheet of one run and give what it shows."""
    trials = trials_beside(run, settings)
    found = judged(run, settings, trials)
    write_page(path, [found], trials)
    return found


def write_folder(
    folder: Path, runs: Sequence[tuple[str, Run, Settings]]
) -> tuple[list[Judged], list[Path]]:
    """Write one page over several runs, and what each exports into a folder of its name."""
    found, paths = [], []
    trials = trials_beside(runs[0][1], runs[0][2])
    for name, run, settings in runs:
        one = judged(run, settings, trials_beside(run, settings), name)
        found.append(one)
        paths += write_exports(
            run,
            folder / name,
            metrics=one.metrics,
            honesty=one.honesty,
            attribution=one.attribution,
        )
    page = folder / "report.html"
    write_page(page, found, trials)
    return found, [page, *paths]
