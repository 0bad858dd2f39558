"""Print what was measured.

`wall` and `cpu` are of the whole process, from its start to its end, as a user would time it; `run`
is what the contender itself says its run took, from the first bar to the last, without reading the
data (ours includes the figures of the report). The ratios say how many times slower than ours a
contender is: its run against our run, and the CPU time of its process against that of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.measured import Measured

OURS: Final = 1  # place of our row; the reference is the first
EQUITY_TOLERANCE: Final = 1e-9  # relative

HEAD: Final = (
    f"{'contender':26}{'wall s':>8}{'cpu s':>8}{'run s':>8}{'bars/s':>12}{'us/order':>10}"
    f"{'peak MB':>9}{'orders':>9}{'end equity':>16}{'off reference':>15}"
    f"{'slower: run':>14}{'process':>9}"
)


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one contender's figures; without `measured`, the note says why there are none."""

    contender: str
    measured: Measured | None = None
    orders: int = 0
    equity: float = 0.0
    run_s: float = 0.0
    note: str = ""


def is_right(ours: Row, reference: Row) -> bool:
    """Say whether our answer is the reference's, loudly when it is not."""
    problems = []
    if ours.orders != reference.orders:
        problems.append(f"{ours.orders:,} orders, the reference has {reference.orders:,}")
    off = abs(_off(ours, reference))
    if not off <= EQUITY_TOLERANCE:
        problems.append(f"end equity is {off:.1e} off the reference, accepted {EQUITY_TOLERANCE}")
    for problem in problems:
        print(f"WRONG: {problem}")
    return not problems


def print_rows(symbol_bars: int, rows: Sequence[Row]) -> None:
    """Print the table of contenders; us/order is the CPU time of everything, over the orders."""
    print(HEAD)
    reference, ours = rows[0], rows[OURS]
    for row in rows:
        done = row.measured
        if done is None:
            print(f"{row.contender:26}{row.note}")
            continue
        cells = (
            f"{row.contender:26}{done.wall_s:8.2f}{done.cpu_s:8.2f}{row.run_s:8.2f}"
            f"{symbol_bars / done.wall_s:12,.0f}{done.cpu_s / row.orders * 1e6:10.1f}"
            f"{done.peak_mb:9.0f}{row.orders:9,}{row.equity:16.6f}{_off(row, reference):+15.1e}"
        )
        if ours.measured is not None and row is not ours and row is not reference:
            whole = done.cpu_s / ours.measured.cpu_s
            cells += f"{row.run_s / ours.run_s:13.1f}x{whole:8.1f}x"
        print(cells, flush=True)


def print_lengths(lengths: Sequence[tuple[float, Row]], bars_n: int) -> None:
    """Print our time by run length; what each further bar costs must not grow."""
    if len(lengths) < 2:
        return
    print(f"\n{'run length':>12}{'wall s':>8}{'cpu s':>8}{'cpu us of each further bar':>28}")
    bars_before, cpu_before = 0.0, float("nan")  # the first includes the start of the process
    for share, row in lengths:
        if row.measured is None:
            continue
        wall_s, cpu_s = row.measured.wall_s, row.measured.cpu_s
        further = (cpu_s - cpu_before) / (share * bars_n - bars_before) * 1e6
        print(f"{share:12.0%}{wall_s:8.2f}{cpu_s:8.2f}{further:28.0f}", flush=True)
        bars_before, cpu_before = share * bars_n, cpu_s


def print_parts(seconds: Mapping[str, float]) -> None:
    """Print the CPU seconds of the parts."""
    if seconds:
        shown = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
        print(f"\nparts, CPU s: {shown}", flush=True)


def _off(row: Row, reference: Row) -> float:
    return row.equity / reference.equity - 1.0
