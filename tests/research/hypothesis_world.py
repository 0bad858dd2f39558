"""A small protocol over a generated market, with the registered runs and tests in miniature."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.line import ROOT

REGISTERED = ROOT / "config" / "hypotheses.toml"
# Twelve generated days: two to warm up, then enough for every test to be asked, not to be proven.
CHANGES = (
    ("binance_spot", "binanceusdm"),
    ('"backtest.source=15m"', '"backtest.source=30m"'),
    ('"market.source=15m"', '"market.source=30m"'),
    ("2023-04-01", "2024-01-01"),
    ("2023-10-01", "2024-01-11"),
    ("2024-09-01", "2024-01-21"),
    ("days_min = 120", "days_min = 8"),
    ("quarters_min = 6", "quarters_min = 1"),
    ("months_min = 12", "months_min = 1"),
    ("repetitions = 2000", "repetitions = 200"),
)


def small_protocol(path: Path, *changes: tuple[str, str]) -> Path:
    """Write the registered protocol, shrunk to what `small_market` holds; further changes last."""
    text = REGISTERED.read_text(encoding="utf-8")
    for old, new in (*CHANGES, *changes):
        assert old in text, old
        text = text.replace(old, new)
    coins = '"BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT",'
    text = re.sub(
        r"^symbols = \[.*?\]", f"symbols = [{coins}]", text, flags=re.DOTALL | re.MULTILINE
    )
    path.write_text(text, encoding="utf-8")
    return path
