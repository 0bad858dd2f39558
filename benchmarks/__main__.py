"""Measure speed and memory of a backtest beside the reference and the peer, and print the table.

    python -m benchmarks [--sizes 20 200] [--no-peer] [--no-parts] [--no-lengths] [--json FILE]

The peer needs PEERS_PYTHON, which `make bench` sets; without it its row says so. The exit code is 1
when our orders or our end equity are not those of the reference. Times on a shared machine are
noisy: quote ratios of one run, and CPU seconds before wall seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks import market
from benchmarks.measured import ChildFailed, run_child
from benchmarks.table import Row, is_right, print_lengths, print_parts, print_rows
from daemon.domain.units import HOUR_MS, iso

HERE: Final = Path(__file__).resolve().parent
OUT: Final = HERE / "out"
SIZES: Final = (20, 200)
OUR_RUNS: Final = 3
LENGTHS: Final = (0.25, 0.5)  # of the whole: time must grow with length and no faster


def main() -> int:
    """Run everything that was asked for; give the exit code."""
    asked = _arguments()
    found: dict[int, dict[str, object]] = {}
    right = True
    for size in asked.sizes:
        print(f"\n{size} instruments, {market.BARS:,} hourly bars", flush=True)
        arrays = market.prepare(OUT / "market", size)
        # a run of ours before the peer and two after it, because a shared machine has moods
        reference, runs = _reference(arrays), [_ours(size, 1.0)]
        peer = [_peer(arrays)] if asked.peer else []
        runs += [_ours(size, 1.0) for _ in range(OUR_RUNS - 1)]
        ours = sorted(runs, key=lambda row: row.run_s)[OUR_RUNS // 2]
        rows = [reference, ours, *peer]
        print_rows(size * market.BARS, rows)
        shown = ", ".join(f"{row.run_s:.2f}" for row in runs)
        print(f"equipoise is the middle one of {OUR_RUNS} runs: {shown} s", flush=True)
        lengths = [(share, _ours(size, share)) for share in LENGTHS] if asked.lengths else []
        print_lengths([*lengths, (1.0, ours)], market.BARS)
        parts = _parts(size) if asked.parts else {}
        print_parts(parts)
        right &= is_right(ours, reference)
        found[size] = {
            "rows": [asdict(row) for row in rows],
            "our_runs": [asdict(row) for row in runs],
            "lengths": {share: asdict(row) for share, row in lengths},
            "parts": parts,
        }
    asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if right else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--no-parts", dest="parts", action="store_false")
    parser.add_argument("--no-lengths", dest="lengths", action="store_false")
    parser.add_argument("--json", type=Path, default=OUT / "result.json", help="where figures go")
    return parser.parse_args()


def _reference(arrays: Path) -> Row:
    command = [sys.executable, "-m", "benchmarks.reference", str(arrays), str(market.BARS)]
    done = run_child(command, HERE.parent)
    answer = done.answer
    return Row("compiled loop", done, answer["orders"], answer["equity"], answer["seconds"])


def _ours(size: int, share: float) -> Row:
    """Run the ordinary command on the first `share` of the bars."""
    program = Path(sys.executable).with_name("equipoise")
    until = iso(market.FIRST_OPEN_MS + round(share * market.BARS) * HOUR_MS)
    command = [str(program), "backtest", "--json", "-c", f"benchmarks/backtest_{size}.toml"]
    done = run_child([*command, "--set", f"backtest.until={until}"], HERE.parent)
    answer = done.answer
    run_s = answer["seconds"] - answer["loading_seconds"]
    return Row("equipoise", done, answer["orders"], answer["equity_last"], run_s)


def _peer(arrays: Path) -> Row:
    python = os.environ.get("PEERS_PYTHON", "")
    name = "nautilus_trader"
    if not python or not Path(python).exists():
        return Row(name, note="not measured: PEERS_PYTHON names no Python; run `make setup-bench`")
    script = HERE / "nautilus_peer.py"
    try:
        done = run_child([python, str(script), str(arrays), str(market.BARS)], HERE.parent)
    except ChildFailed as failure:
        return Row(name, note=f"not measured: {failure}")
    answer = done.answer
    name = f"{name} {answer['version']}"
    return Row(name, done, answer["closed_orders"], answer["equity"], answer["seconds"])


def _parts(size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.parts", f"benchmarks/backtest_{size}.toml"]
    seconds: dict[str, float] = run_child(command, HERE.parent).answer["seconds"]
    return seconds


if __name__ == "__main__":
    sys.exit(main())
