"""What one venue told: where its feed is begun again, and what of it is told a second time."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.exchange.ledger import Ledger
from daemon.domain.bar import FIELDS, Proof
from daemon.domain.messages import BarsClosed, FundingRates, Revised
from daemon.domain.units import HOUR_MS, Timeframe

M30 = Timeframe(30)
START_MS = 1_700_006_400_000
LATE_MS = 2 * HOUR_MS


def at(bar: int) -> int:
    return START_MS + bar * M30.ms


def bars(bar: int, *columns: int, final: bool = False, price: float = 1.0) -> BarsClosed:
    values, proof = np.full((2, FIELDS), np.nan), np.zeros(2, dtype=np.uint8)
    values[list(columns)], proof[list(columns)] = price, Proof.SUCCESSOR
    opens = np.full(2, np.nan)
    return BarsClosed(at(bar), values, proof, opens, final, np.full(2, at(bar)))


def rates(bar: int, *columns: int) -> FundingRates:
    told = np.full(2, np.nan)
    told[list(columns)] = 0.001
    return FundingRates(at(bar), told, told)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(START_MS, M30, LATE_MS)


def test_a_feed_is_begun_again_after_the_last_whole_instant(ledger: Ledger) -> None:
    ledger.fresh(bars(1, 0, 1, final=True))
    ledger.fresh(bars(2, 0))  # of the other nothing is known yet
    ledger.fresh(rates(3, 0, 1))
    assert (ledger.whole_ms, ledger.newest_ms) == (at(1), at(2))
    ledger.fresh(bars(2, 1, final=True))
    assert ledger.whole_ms == at(2)


def test_what_was_told_is_not_told_again(ledger: Ledger) -> None:
    assert len(ledger.fresh(bars(1, 0))) == 1
    (rest,) = ledger.fresh(bars(1, 0, 1, final=True))
    assert isinstance(rest, BarsClosed)
    assert (rest.proof.tolist(), rest.final) == ([0, int(Proof.SUCCESSOR)], True)
    assert np.isnan(rest.values[0]).all()
    ledger.fresh(bars(2, 0))
    assert ledger.fresh(bars(2, 0)) == []


def test_what_differs_the_second_time_is_a_revision(ledger: Ledger) -> None:
    ledger.fresh(bars(1, 0))
    (revised,) = ledger.fresh(bars(1, 0, price=2.0))
    assert isinstance(revised, Revised)
    assert (revised.index, revised.before[0], revised.after[0]) == (0, 1.0, 2.0)


def test_rates_come_once_each(ledger: Ledger) -> None:
    assert len(ledger.fresh(rates(1, 0))) == 1
    (rest,) = ledger.fresh(rates(1, 0, 1))
    assert isinstance(rest, FundingRates)
    assert np.isnan(rest.rates).tolist() == [True, False]
    assert ledger.fresh(rates(1, 0, 1)) == []


def test_an_instant_that_never_becomes_whole_is_given_up_when_it_is_too_old(
    ledger: Ledger,
) -> None:
    for bar in range(1, 50):
        ledger.fresh(bars(bar, 0))
    assert ledger.whole_ms == at(49) - LATE_MS
    assert len(ledger._instants) <= LATE_MS // M30.ms
