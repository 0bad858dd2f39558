"""Trials for the tests of the ledger, and a program that logs them until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.trial_ledger import Trial, TrialLedger


def trial(number: int, days: int = 5) -> Trial:
    """Make a trial that differs from those of other numbers."""
    return Trial(
        id=f"{number:016x}",
        command="backtest",
        configuration_fingerprint=f"c{number}",
        data_fingerprint="d",
        configuration={"strategy": {"name": "rule", "parameters": {"n": number}}},
        symbols=("BTCUSDT", "ETHUSDT"),
        anchors=("aa", "bb"),
        first_ms=0,
        last_ms=days * 86_400_000,
        days=list(range(days)),
        returns=[number / 1000 + day / 100 for day in range(days)],
        sharpe=None if number % 2 else 1.5,
        code_version="1",
        logged_ms=number,
    )


def log(path: Path, first: int, count: int, days: int) -> None:
    """Log trials and say each number once it is on the disk."""
    ledger = TrialLedger(path)
    for number in range(first, first + count):
        ledger.append(trial(number, days))
        print(number, flush=True)


if __name__ == "__main__":
    log(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
