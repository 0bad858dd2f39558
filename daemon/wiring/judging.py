"""Judge runs beside what was tried before, and write what people keep of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import require
from daemon.ports import Share
from daemon.report.exports import write_exports
from daemon.report.exposures import column_of
from daemon.report.judged import Benchmark, Judged, coin_benchmark, judge_run, run_benchmark
from daemon.report.run import Run
from daemon.report.tear_sheet import write_page
from daemon.report.tried_list import TriedList
from daemon.settings import Settings
from daemon.wiring.bar_files import symbols_of
from daemon.wiring.tried_beside import Beside, read_beside

MARKET_BENCHMARK: Final = "market"
ARM_BENCHMARK: Final = "arm:"
COIN_BENCHMARKS: Final = ("BTC", "ETH")


def beside_run(run: Run, settings: Settings) -> Beside | None:
    """Give what was tried on a run's data, itself included; None where nothing was logged of it."""
    if not run.facts.fingerprint:  # its bars came live
        return None
    return read_beside(Path(settings.evaluation.trials_file), run.facts.fingerprint)


def judged(
    run: Run,
    settings: Settings,
    beside: Beside | None,
    name: str = "run",
    benchmark: Benchmark | None = None,
) -> Judged:
    """Work out everything that a report says of a run."""
    return judge_run(
        run,
        name=name,
        trials=None if beside is None else beside.trials,
        seed=settings.evaluation.seed,
        latency_bps=settings.paper.latency_bps,
        benchmark=benchmark,
    )


def write_report(path: Path, run: Run, settings: Settings) -> Judged:
    """Write the tear sheet of one run and give what it shows."""
    beside = beside_run(run, settings)
    found = judged(run, settings, beside)
    write_page(path, [(found, None if beside is None else beside.listed(run))])
    return found


def write_folder(
    folder: Path,
    runs: Sequence[tuple[str, Run, Settings]],
    done: Share = lambda share: None,
    benchmark: str = MARKET_BENCHMARK,
) -> tuple[list[Judged], list[Path]]:
    """Write one page over several runs, and what each exports into a folder of its name.

    benchmark: of the information ratios: market, BTC, ETH, or arm: and the name of a run, as
    `refuse_benchmark` accepts it.
    """
    ledgers = _Ledgers()
    shown: list[tuple[Judged, TriedList | None]] = []
    paths: list[Path] = []
    by_name = {name: run for name, run, _ in runs}
    for name, run, settings in runs:
        beside = ledgers.beside(run, settings)
        against = _benchmark(benchmark, run, by_name)
        one = judged(run, settings, beside, name, against)
        tried = None if beside is None else beside.listed(run)
        shown.append((one, tried))
        paths += write_exports(one, folder / name, tried)
        done(0.5 * len(shown) / len(runs))  # drawing the page takes as long and longer
    page = folder / "report.html"
    write_page(page, shown)
    done(1.0)
    return [one for one, _ in shown], [page, *paths]


def refuse_benchmark(chosen: str, arms: Mapping[str, Settings]) -> None:
    """Raise ConfigurationError for a benchmark that an arm will not have, before it is run."""
    names = [f"{ARM_BENCHMARK}{name}" for name in arms]
    accepted = [MARKET_BENCHMARK, *COIN_BENCHMARKS, *names]
    if chosen not in accepted:
        raise ConfigurationError(f"--benchmark {chosen!r}: accepted: {', '.join(accepted)}")
    if chosen in COIN_BENCHMARKS:
        for name, settings in arms.items():
            symbols = symbols_of(settings)
            if column_of(symbols, chosen) is None:
                raise ConfigurationError(
                    f"--benchmark {chosen}: {name} trades {', '.join(symbols)} only"
                )


def _benchmark(chosen: str, run: Run, by_name: Mapping[str, Run]) -> Benchmark | None:
    if chosen == MARKET_BENCHMARK:
        return None
    if chosen in COIN_BENCHMARKS:
        found = coin_benchmark(run, chosen)
        require(found is not None, f"benchmark {chosen}: not among {run.facts.symbols}")
        return found
    name = chosen.removeprefix(ARM_BENCHMARK)
    return run_benchmark(name, by_name[name])


class _Ledgers:
    """Read a ledger once for all runs on the same data."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Beside | None] = {}

    def beside(self, run: Run, settings: Settings) -> Beside | None:
        asked = settings.evaluation.trials_file, run.facts.fingerprint
        if asked not in self._known:
            self._known[asked] = beside_run(run, settings)
        return self._known[asked]
