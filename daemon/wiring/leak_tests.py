"""Remember what the look-ahead test of a configuration showed, for the reports of its runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from adapters.leak_tests import (
    LeakTestEntry,
    append_leak_test,
    leak_tests_path,
    read_leak_tests,
)
from daemon.domain.failures import CorruptFile
from daemon.domain.instrument import Universe
from daemon.report.tried_list import LeakStatus, LeakTest
from daemon.settings import Settings
from daemon.wiring.trials import configuration_of, fingerprint_of


def log_leak_test(
    settings: Settings,
    universe: Universe,
    *,
    data_fingerprint: str,
    verdict: str,
    cuts_n: int,
    decisions_n: int,
) -> None:
    """Write a verdict beside the ledger of trials; a report of the same run will show it."""
    entry = LeakTestEntry(
        configuration_fingerprint=fingerprint_of(configuration_of(settings, universe)),
        data_fingerprint=data_fingerprint,
        verdict=verdict,
        cuts_n=cuts_n,
        decisions_n=decisions_n,
        code_version=version("equipoise"),
    )
    append_leak_test(leak_tests_path(Path(settings.evaluation.trials_file)), entry)


def leak_test_of(trials_file: Path, configuration_fingerprint: str, data: str) -> LeakTest:
    """Give the latest test of a configuration on its data; raises CorruptFile for damage."""
    path = leak_tests_path(trials_file)
    wanted = configuration_fingerprint, data
    for entry in reversed(read_leak_tests(path)):
        if (entry.configuration_fingerprint, entry.data_fingerprint) == wanted:
            if entry.verdict not in list(LeakStatus):
                raise CorruptFile(f"{path}: verdict {entry.verdict!r} is unknown")
            status = LeakStatus(entry.verdict)
            return LeakTest(status, entry.cuts_n, entry.decisions_n, entry.code_version)
    return LeakTest()
