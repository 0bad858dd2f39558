"""Windows: the last bars in order, gaps kept open for late bars, nothing ever overwritten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from daemon import codec
from daemon.domain.bar import FIELDS, CrossSection, Proof
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe
from daemon.engine.windows import SLACK_BARS, WindowStore, bars_digest
from tests.engine.world import H1, M90, MIDNIGHT_MS, NAN

N = 2


def hour(number: int) -> int:
    return MIDNIGHT_MS + number * H1.ms


def section(number: int, closes: tuple[float, ...], timeframe: Timeframe = H1) -> CrossSection:
    values = np.repeat(np.array(closes)[:, None], FIELDS, axis=1)
    proof = np.where(np.isnan(closes), Proof.ABSENT, Proof.DERIVED).astype(np.uint8)
    return CrossSection(timeframe, MIDNIGHT_MS + number * timeframe.ms, values, proof)


def closes(store: WindowStore) -> list[list[float]]:
    rows: list[list[float]] = store.view().closes.tolist()
    return rows


def shown(store: WindowStore) -> str:
    return str(closes(store))


def test_the_newest_bars_are_kept_in_order() -> None:
    store = WindowStore(H1, N, 3)
    for number in range(1, 6):
        store.take(section(number, (number, 10.0 + number)))
    assert closes(store) == [[3.0, 13.0], [4.0, 14.0], [5.0, 15.0]]
    assert store.view().newest_ms == hour(5)
    assert store.filled == 3
    assert store.newest().tolist() == [[5.0] * FIELDS, [15.0] * FIELDS]


def test_a_missing_bar_leaves_a_gap_that_a_late_bar_fills() -> None:
    store = WindowStore(H1, N, 4)
    store.take(section(1, (1.0, 1.0)))
    store.take(section(3, (3.0, NAN)))
    assert shown(store) == "[[1.0, 1.0], [nan, nan], [3.0, nan]]"
    store.take(section(2, (2.0, NAN)))
    store.take(section(3, (9.0, 3.0)))  # the first is known already and stays
    assert shown(store) == "[[1.0, 1.0], [2.0, nan], [3.0, 3.0]]"


def test_a_bar_from_before_the_window_is_ignored() -> None:
    store = WindowStore(H1, N, 2)
    for number in (5, 6, 7):
        store.take(section(number, (number, number)))
    store.take(section(5, (99.0, 99.0)))
    store.take(section(1, (99.0, 99.0)))
    assert closes(store) == [[6.0, 6.0], [7.0, 7.0]]


def test_advancing_adds_empty_rows_once_and_never_goes_back() -> None:
    store = WindowStore(H1, N, 3)
    store.take(section(1, (1.0, 1.0)))
    store.advance(hour(2))
    store.advance(hour(2))
    store.advance(hour(1))
    assert store.filled == 2
    store.take(section(2, (2.0, 2.0)))
    assert closes(store) == [[1.0, 1.0], [2.0, 2.0]]
    store.advance(hour(1_000))
    assert np.isnan(store.view().values).all()
    assert store.filled == 3


@pytest.mark.parametrize("bars_n", [1, 2, 5])
def test_the_buffer_may_turn_over_any_number_of_times(bars_n: int) -> None:
    store = WindowStore(H1, N, bars_n)
    last = 2 * (SLACK_BARS + bars_n) + 7
    for number in range(1, last + 1):
        store.take(section(number, (number, -float(number))))
        assert closes(store)[-1] == [number, -number]
    wanted = [[n, -n] for n in range(last - bars_n + 1, last + 1)]
    assert closes(store) == wanted


def test_a_frozen_window_never_changes_and_cannot_be_written() -> None:
    store = WindowStore(H1, N, 3)
    store.take(section(1, (1.0, NAN)))
    frozen = store.frozen()
    store.take(section(1, (NAN, 5.0)))
    assert np.isnan(frozen.values[0, 1, 0])
    with pytest.raises(ValueError, match="read-only"):
        frozen.values[0, 0, 0] = 2.0


def saved(store: WindowStore) -> dict[str, Any]:
    plain: dict[str, Any] = codec.decode(codec.encode(store.to_plain()), dict[str, Any])
    return plain


@pytest.mark.parametrize("bars_n", [2, 4, 9])
def test_a_store_is_restored_also_into_another_length(bars_n: int) -> None:
    store = WindowStore(H1, N, 4)
    for number in range(1, 8):
        store.take(section(number, (number, number)))
    again = WindowStore(H1, N, bars_n)
    again.restore(saved(store))
    assert closes(again) == [[n, n] for n in range(8 - min(bars_n, 4), 8)]
    again.take(section(1, (50.0, 50.0)))  # older than what was saved
    again.take(section(9, (9.0, 9.0)))
    assert closes(again)[-1] == [9.0, 9.0]
    assert np.isnan(closes(again)[-2]).all()
    again.take(section(8, (8.0, 8.0)))
    assert closes(again)[-2:] == [[8.0, 8.0], [9.0, 9.0]]


def test_a_window_longer_than_the_whole_buffer_is_cut_when_restored() -> None:
    store = WindowStore(H1, N, SLACK_BARS + 50)
    for number in range(1, SLACK_BARS + 60):
        store.take(section(number, (number, number)))
    again = WindowStore(H1, N, 2)
    again.restore(saved(store))
    assert closes(again) == [[n, n] for n in (SLACK_BARS + 58, SLACK_BARS + 59)]


def test_a_store_of_other_instruments_is_refused() -> None:
    store = WindowStore(H1, N, 4)
    store.take(section(1, (1.0, 1.0)))
    with pytest.raises(InvariantViolated, match="2 instruments"):
        WindowStore(H1, 3, 4).restore(saved(store))


def test_the_digest_sees_every_newest_bar_and_when_it_closed() -> None:
    def digest(first: float, second: float, number: int = 1) -> str:
        stores = {t: WindowStore(t, N, 3) for t in (H1, M90)}
        stores[H1].take(section(number, (first, 1.0)))
        stores[M90].take(section(number, (second, 1.0), M90))
        return bars_digest(stores)

    same = digest(1.0, 1.0)
    assert same == digest(1.0, 1.0)
    assert len({same, digest(2.0, 1.0), digest(1.0, 2.0), digest(1.0, 1.0, 2)}) == 4
    assert bars_digest({H1: WindowStore(H1, N, 3)}) == bars_digest({})
