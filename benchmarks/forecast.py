"""Time the parts of a forecast on one thread, each beside a reference of the same run.

    python -m benchmarks.forecast [--runs 8] [--only features,inference,prediction,training]

Prints the least and the middle CPU milliseconds of some runs taken in turn, and their ratios, and
ends with 1 where answers differ by more than they may. "products" is the time of the matrix
products alone: what a network cannot be faster than. Children train, one as the system does it and
one as `equipoise train` does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # before the imports

import numpy as np
import torch
from torch import Tensor, nn

from daemon.domain.bar import FIELDS, Floats, Window
from daemon.domain.units import DAY_MS, Timeframe
from strategies.forecast.inputs.features import FEATURE_MEMORY_BARS, features
from strategies.forecast.inputs.newest import FeatureRows
from strategies.forecast.inputs.windows import CHANNELS_N, SEQUENCE_BARS, WINDOW_BARS
from strategies.forecast.networks.fast_lstm import run_lstm
from strategies.forecast.training.memory import keep_freed_memory

TIMEFRAMES: Final = (Timeframe(60), Timeframe(90), Timeframe(120))
INSTRUMENTS_N: Final = 200
BATCH: Final = INSTRUMENTS_N * len(TIMEFRAMES)
HIDDEN, LAYERS = 64, 2
SHAPES: Final = ((64, 16), (128, 32), (SEQUENCE_BARS, CHANNELS_N))  # bars, channels
PREDICTED_N: Final = 5_120  # sequences of a batch prediction: 256 instants of 20 instruments
TRAINED_N: Final = 576  # sequences of a step of training
DIFFERENCE_MAX: Final = 1e-5  # of outputs of order one
FEATURE_STEPS: Final = 60
PARTS: Final = ("features", "inference", "prediction", "training")

Times = Mapping[str, tuple[float, float]]  # least and middle CPU milliseconds


def timed(works: Mapping[str, Callable[[], object]], runs: int) -> Times:
    """Run all in turn, so that what disturbs one disturbs all; once before it counts."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            begin = time.thread_time()
            work()
            if turn:
                spent[name].append(1e3 * (time.thread_time() - begin))
    return {name: (min(all_), sorted(all_)[len(all_) // 2]) for name, all_ in spent.items()}


def say(title: str, times: Times, against: str, note: str = "") -> None:
    """Print the times and each one's ratio to one of them."""
    print(f"{title}{note}")
    for name, (least, middle) in times.items():
        ratios = f"{least / times[against][0]:.2f} and {middle / times[against][1]:.2f}"
        print(f"  {name:<26} least {least:9.2f} ms, middle {middle:9.2f} ms: {ratios} of {against}")


# ---- features ------------------------------------------------------------------------------------


def bars(T: int) -> Floats:
    """Draw bars (T, N, 5) of random walks without holes."""
    dice = np.random.default_rng(1)
    closes = 100.0 * np.exp(np.cumsum(0.005 * dice.normal(size=(T, INSTRUMENTS_N)), axis=0))
    values = np.repeat(closes[:, :, None], FIELDS, axis=2)
    values[:, :, 1] *= 1 + 0.002 * dice.random(closes.shape)
    values[:, :, 2] /= 1 + 0.002 * dice.random(closes.shape)
    values[:, :, 4] = np.exp(5 + dice.normal(size=closes.shape))
    return values


def _steps(values: Floats) -> Iterator[list[Window]]:
    """Give the windows of all timeframes as they are at each bar."""
    for end in range(WINDOW_BARS, len(values) + 1):
        past = values[end - WINDOW_BARS : end]
        yield [Window(t, 19_700 * DAY_MS + end * t.ms, past.copy()) for t in TIMEFRAMES]


def time_features() -> bool:
    """Time the newest rows of all timeframes, kept and anew; tell whether all are the same."""
    values, following = bars(WINDOW_BARS + FEATURE_STEPS), FeatureRows()
    spent: dict[str, list[float]] = {"from what is kept": [], "newest rows anew": []}
    rows = []
    for windows in _steps(values):
        begin = time.thread_time()
        kept = following.newest(windows)
        spent["from what is kept"].append(1e3 * (time.thread_time() - begin))
        rows.append([row[-1].copy() for row in kept])
    spent["from what is kept"].pop(0)  # the first begins
    worst = 0.0
    for windows, before in zip(_steps(values), rows, strict=True):
        begin = time.thread_time()
        anew = [
            features(
                window.values[-FEATURE_MEMORY_BARS:],
                newest_close_ms=window.newest_ms,
                timeframe=window.timeframe,
                newest=1,
            )
            for window in windows
        ]
        spent["newest rows anew"].append(1e3 * (time.thread_time() - begin))
        pairs = zip(before, anew, strict=True)
        worst = max(worst, *(float(np.abs(row - new[-1]).max()) for row, new in pairs))
    times = {name: (min(all_), sorted(all_)[len(all_) // 2]) for name, all_ in spent.items()}
    title = f"features of the newest bar, {BATCH} series; worst difference {worst:g}"
    say(title, times, "newest rows anew")
    return worst == 0.0


# ---- networks ------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Read sequences (N, L, C) with two bidirectional layers, both ends, into (N, 2)."""

    def __init__(self, channels: int, *, in_parts: bool) -> None:
        super().__init__()
        self.in_parts = in_parts
        self.lstm = nn.LSTM(channels, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Give the head's reading of the forward newest and the backward oldest output."""
        output = run_lstm(self.lstm, x)[0] if self.in_parts else self.lstm(x)[0]
        ends = torch.cat([output[:, -1, :HIDDEN], output[:, 0, HIDDEN:]], dim=-1)
        answer: Tensor = self.head(ends)
        return answer


def readers(channels: int) -> tuple[Reader, Reader]:
    """Give the plain network and the one that reads in parts, with the same weights."""
    torch.manual_seed(0)
    plain, ours = Reader(channels, in_parts=False), Reader(channels, in_parts=True)
    with torch.no_grad():
        plain.head.weight *= 32.0  # outputs of order one
    ours.load_state_dict(plain.state_dict())
    return plain.eval(), ours.eval()


def products(rows: int, length: int, channels: int) -> Callable[[], None]:
    """Give the matrix products of the network's forward pass, in shapes and number."""
    gates = 4 * HIDDEN
    width = min(rows, 128)
    works: list[tuple[Tensor, Tensor, Tensor, int]] = []
    for size in (channels + HIDDEN, 3 * HIDDEN):  # a bar's inputs and the state before it
        a, b = torch.randn(width, size), torch.randn(size, gates)
        works.append((a, b, torch.empty(width, gates), 2 * length * rows // width))

    def run() -> None:
        for a, b, out, times in works:
            for _ in range(times):
                torch.mm(a, b, out=out)

    return run


def time_reading(rows: int, what: str, runs: int) -> bool:
    """Time plain torch, ours and the products; tell whether outputs agree."""
    good = True
    for length, channels in SHAPES:
        if what == "prediction" and length != SEQUENCE_BARS:
            continue
        plain, ours = readers(channels)
        x = torch.randn(rows, length, channels)
        with torch.inference_mode():
            expected = plain(x)
            worst = float((ours(x) - expected).abs().max())
            works = {
                "plain torch": lambda net=plain, x=x: net(x),
                "in parts": lambda net=ours, x=x: net(x),
                "products": products(rows, length, channels),
            }
            times = timed(works, runs)
        size = float(expected.abs().mean())
        note = f"; worst difference {worst:.1e} of outputs about {size:.2f}"
        say(f"{what}: {rows} sequences of {length} x {channels}", times, "plain torch", note)
        print(f"  {1e3 * rows / times['in parts'][1]:,.0f} sequences a second")
        good &= worst <= DIFFERENCE_MAX
    return good


def train(runs: int) -> dict[str, tuple[float, float]]:
    """Time steps of training at each shape, and the products of forward and backward pass."""
    found: dict[str, tuple[float, float]] = {}
    for length, channels in ((SEQUENCE_BARS, CHANNELS_N), (64, 32)):
        network = readers(channels)[0].train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        x, y = torch.randn(TRAINED_N, length, channels), torch.randn(TRAINED_N, 2)

        def step(
            network: Reader = network,
            optimiser: torch.optim.Optimizer = optimiser,
            x: Tensor = x,
            y: Tensor = y,
        ) -> None:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.mse_loss(network(x), y).backward()
            optimiser.step()

        forward = products(TRAINED_N, length, channels)
        works = {"step": step, "products": lambda f=forward: [f() for _ in range(3)]}
        for name, times in timed(works, runs).items():
            found[f"{length} x {channels} {name}"] = times
    return found


def time_training(runs: int) -> None:
    """Train in two children, as it comes and with freed memory kept."""
    children = {}
    for how in ("given back", "kept"):
        command = [sys.executable, "-m", "benchmarks.forecast", "--train", how, "--runs", str(runs)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        children[how] = json.loads(answer.stdout)
    for length, channels in ((SEQUENCE_BARS, CHANNELS_N), (64, 32)):
        name = f"{length} x {channels}"
        times = {f"memory {how}": tuple(found[f"{name} step"]) for how, found in children.items()}
        times["products, both passes"] = tuple(children["kept"][f"{name} products"])
        say(f"training: a step of {TRAINED_N} sequences of {name}", times, "memory given back")
        print(f"  {1e3 * TRAINED_N / times['memory kept'][1]:,.0f} samples a second")


def main() -> int:
    """Time what is asked for; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--train", choices=("given back", "kept"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.train:
        if asked.train == "kept":
            keep_freed_memory()
        print(json.dumps(train(asked.runs)))
        return 0
    only, good = asked.only.split(","), True
    if "features" in only:
        good &= time_features()
    if "inference" in only:
        good &= time_reading(BATCH, "inference", asked.runs)
    if "prediction" in only:
        good &= time_reading(PREDICTED_N, "prediction", asked.runs)
    if "training" in only:
        time_training(asked.runs)
    print("answers agree" if good else "ANSWERS DIFFER")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
