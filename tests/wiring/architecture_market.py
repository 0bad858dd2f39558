"""A small market on which architectures are compared, in tests and in processes of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from daemon.research.architectures.arms import Group, Sizes, groups_of
from daemon.research.architectures.results import Results
from daemon.settings import Settings, load_settings
from daemon.wiring.architectures import compare
from daemon.wiring.walk_forward import bars_to_walk

ROOT: Final = Path(__file__).resolve().parents[2]
DAYS: Final = 24
TINY: Final = Sizes(1, 2, 2, 1, 2, slow_rungs=False, probes=12)
PAIRS: Final = Sizes(2, 2, 2, 1, 2, slow_rungs=False, probes=12)  # every network with two seeds
STRATEGY: Final = {"breadth_min": 3, "friction_max": 100.0}


def settings_of(folder: Path, *more: str) -> Settings:
    """Give settings for the market in `folder`, with its ledger in there."""
    options = [
        f"backtest.data_folder={folder}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        "exchange.generated=true",
        f"strategy.parameters={json.dumps(STRATEGY)}",
        "market.window_bars=160",
        "training.hidden_size=8",
        "training.embedding_size=16",
        "training.batch_rows=16",
        "walkforward.refit_days=3",
        "walkforward.stop_days=2",
        "walkforward.embargo_h=2",
        *more,
    ]
    base = [ROOT / "config" / "backtest.toml"]
    return load_settings(base, overrides=options, environment={})


def compared(
    folder: Path,
    out: Path,
    groups: Sequence[Group],
    *more: str,
    kinds: Sequence[str] = (),
    processes: int = 1,
    sizes: Sizes = TINY,
) -> Results:
    """Compare in the smallest protocol, or another."""
    settings = settings_of(folder, *more)
    bars = bars_to_walk(settings)
    return compare(settings, bars, groups, out, kinds=kinds, processes=processes, sizes=sizes)


if __name__ == "__main__":
    market, place, chosen, names = sys.argv[1:5]
    compared(
        Path(market),
        Path(place),
        groups_of(chosen),
        kinds=[name for name in names.split(",") if name],
        sizes=PAIRS,
    )
