"""The halt latch: set by whoever wants it, obeyed before every submit, cleared by hand only."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.control import LATCH_NAME, Halt, LatchedOrders, Latches, account_latch, latch
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import OrderAccepted, OrderEnded, OrderRejected, VenueEvent
from daemon.domain.order import Order, OrderId, OrderKind

KEY = InstrumentKey("paper", "BTC/USDT:USDT")
HALT = Halt("killed by the operator: a test", "k1", 17)


@pytest.fixture
def latches(tmp_path: Path) -> Latches:
    """Give the latches of a daemon with a real account: two of them."""
    (tmp_path / "state").mkdir()
    shared = account_latch(tmp_path / "shared" / "latches", "binanceusdm", "mine")
    made = Latches([tmp_path / "state" / LATCH_NAME, shared])
    made.open()
    return made


def test_a_latch_is_found_with_its_reason_until_it_is_cleared(latches: Latches) -> None:
    assert latches.found() is None
    latches.set(HALT)
    assert latches.found() == HALT
    assert [path.exists() for path in latches.files] == [True, True]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in latches.files)
    assert latches.clear() == latches.files
    assert latches.found() is None
    assert latches.clear() == ()


@pytest.mark.parametrize("number", [0, 1])
def test_each_latch_alone_is_enough(latches: Latches, number: int) -> None:
    latches.set(HALT)
    latches.files[number].unlink()
    assert latches.found() == HALT


def test_daemons_of_one_account_share_a_latch_and_others_do_not(tmp_path: Path) -> None:
    names = [("bybit", "a"), ("bybit", "b"), ("okx", "a")]
    paths = [account_latch(tmp_path, venue, account) for venue, account in names]
    assert len(set(paths)) == 3
    assert account_latch(tmp_path, "bybit", "a") == paths[0]
    assert account_latch(tmp_path, "bybit", "secret-key").name.count("secret") == 0
    with pytest.raises(InvariantViolated):
        Latches([])


@pytest.mark.parametrize("content", [b"", b"{", b"halt", b'{"reason":3}', bytes(30), b"x" * 99_999])
def test_a_latch_that_says_nothing_readable_counts_as_set(latches: Latches, content: bytes) -> None:
    latches.files[0].write_bytes(content)
    found = latches.found()
    assert found is not None
    assert f"the halt latch {latches.files[0]} cannot be read, which counts as set" in found.reason


def test_a_folder_a_link_to_nothing_and_a_foreign_file_count_as_set(latches: Latches) -> None:
    path = latches.files[1]
    path.mkdir()
    assert latches.found() is not None
    path.rmdir()
    path.symlink_to(path.parent / "nowhere")
    assert latches.found() is not None
    path.unlink()
    latches.set(HALT)
    latches.files[0].unlink()
    path.chmod(0o666)
    assert latches.found() not in (None, HALT)


def test_a_latch_whose_folder_is_gone_counts_as_set(latches: Latches) -> None:
    latches.files[1].parent.rmdir()
    found = latches.found()
    assert found is not None
    assert "its folder is gone" in found.reason


def test_a_disk_that_answers_nothing_counts_as_set(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("adapters.control.latch.os.lstat", broken)
    found = latches.found()
    assert found is not None
    assert "Input/output error" in found.reason


def test_on_a_full_disk_the_latch_is_set_all_the_same(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(latch, "write_whole", full)
    latches.set(HALT)
    found = latches.found()
    assert found is not None
    assert "counts as set" in found.reason


def test_one_latch_that_cannot_be_set_does_not_keep_the_other_from_it(latches: Latches) -> None:
    latches.files[0].mkdir()
    with pytest.raises(OSError, match="directory"):
        latches.set(HALT)
    assert latches.files[1].is_file()


# ---- before every submit -------------------------------------------------------------------------


class Venue:
    """Note what reaches it, and set the latch in the middle when told to."""

    def __init__(self) -> None:
        self.sent: list[OrderId] = []

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        self.sent += [order.order_id for order in orders]
        return [OrderAccepted(order.order_id, 1) for order in orders]

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return [OrderEnded(order_id, 1, "cancelled")]

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return [OrderAccepted(order_id, 1)]


def order(name: str) -> Order:
    return Order(OrderId(name), KEY, 0, Decimal(1), OrderKind.MARKET, 0, 100.0, None, False)


async def test_no_order_passes_a_set_latch_and_each_is_answered_as_never_sent(
    latches: Latches,
) -> None:
    venue = Venue()
    guard = LatchedOrders(venue, latches, lambda: 42)
    assert await guard.submit([order("a")]) == [OrderAccepted(OrderId("a"), 1)]
    latches.set(HALT)
    why = "not sent: killed by the operator: a test"
    expected = [OrderRejected(OrderId(name), 42, why) for name in ("b", "c")]
    assert await guard.submit([order("b"), order("c")]) == expected
    assert venue.sent == ["a"]
    assert await guard.cancel(OrderId("a"), KEY) == [OrderEnded(OrderId("a"), 1, "cancelled")]
    assert await guard.query(OrderId("a"), KEY) == [OrderAccepted(OrderId("a"), 1)]
    latches.clear()
    await guard.submit([order("d")])
    assert venue.sent == ["a", "d"]
