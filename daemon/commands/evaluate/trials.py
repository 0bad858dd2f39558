"""`equipoise evaluate trials`: everything that was tried, and what that leaves of the best."""

from __future__ import annotations

from dataclasses import asdict

from rich import box
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.units import iso
from daemon.report.figures import UNDEFINED, counted
from daemon.wiring.trial_verdicts import GroupVerdict, TrialRow, tried_so_far


def trials(
    config: ConfigFiles = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """List what was tried, and judge the best of those that saw the same data.

    Reads the ledger that settings name; every backtest and every arm of a campaign is in it.
    """
    settings = read_settings(config, overrides, base="backtest.toml")
    found = tried_so_far(settings)
    if as_json:
        print_json(
            {
                "file": found.file,
                "entries_n": found.entries_n,
                "different_n": len(found.rows),
                "first_logged_ms": found.first_logged_ms,
                "torn_bytes": found.torn_bytes,
                "trials": [asdict(row) for row in found.rows],
                "data": [asdict(group) for group in found.groups],
            }
        )
        return
    out = console()
    if not found.rows:
        out.print(f"nothing was tried yet: {found.file} holds no trial", soft_wrap=True)
        return
    out.print(_table(found.rows))
    since = (
        "" if found.first_logged_ms is None else f", the first of {_minute(found.first_logged_ms)}"
    )
    out.print(
        f"ledger {found.file}: {found.entries_n:,} entries, "
        f"{counted(len(found.rows), 'different trial')}"
        f"{since}; what was tried beside another ledger is not counted",
        soft_wrap=True,
    )
    for group in found.groups:
        _print_group(group)
    if found.torn_bytes:
        out.print(
            f"note: a last line of {found.torn_bytes} bytes was cut off when a run was killed; it "
            "does not count, and the next run takes it away",
            style="yellow",
            soft_wrap=True,
        )


def _table(rows: tuple[TrialRow, ...]) -> Table:
    table = Table(pad_edge=False, box=box.SIMPLE_HEAD)
    for heading in ("data", "trial", "first logged", "by", "period"):
        table.add_column(heading)
    for heading in ("Sharpe", "repeats"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.data),
            row.name,
            _minute(row.logged_ms),
            row.command,
            f"{iso(row.first_ms)[:10]} to {iso(row.last_ms)[:10]}",
            UNDEFINED if row.sharpe is None else f"{row.sharpe:+.2f}",
            f"{row.repeats:,}",
        )
    return table


def _minute(at_ms: int) -> str:
    return iso(at_ms - at_ms % 1000)[:16].replace("T", " ")


def _print_group(group: GroupVerdict) -> None:
    out = console()
    out.print(
        f"data {group.data}: {group.tried_n:,} tried, {group.columns_n:,} comparable over "
        f"{group.days_n:,} days",
        style="bold",
        soft_wrap=True,
    )
    for sentence in group.words:
        out.print(f"  {sentence}", soft_wrap=True)
