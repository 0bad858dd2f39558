"""The codec: what is written is read back to the bit; what is broken is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from msgspec import Struct

from daemon import codec
from daemon.domain import messages as m
from daemon.domain.bar import FIELDS, Proof, Window
from daemon.domain.covariance import Covariance, Factors
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import BadPayload
from daemon.domain.forecast import Estimates, Prediction, Signals
from daemon.domain.instrument import (
    CashKey,
    Instrument,
    InstrumentKey,
    Standing,
    TradingRules,
)
from daemon.domain.order import (
    Approved,
    Fill,
    Order,
    OrderId,
    OrderKind,
    RefusalReason,
    Refused,
)
from daemon.domain.portfolio import AccountSnapshot, Solved, TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe

KEY = InstrumentKey("v", "BTC/USDT:USDT")
CASH = CashKey("v", "USDT")
H1 = Timeframe(60)
RULES = TradingRules(Decimal("0.10"), Decimal("0.001"), Decimal("0.001"), Decimal(5), Decimal(10))
INSTRUMENT = Instrument(KEY, "BTC", "USDT", "USDT", RULES, 17)
ID = OrderId("eq1-0-1")
ARRAY = np.array([1.5, np.nan, -0.0, np.inf])
ROWS = np.arange(4 * FIELDS, dtype=float).reshape(4, FIELDS)
ORDER = Order(
    ID, KEY, 3, Decimal("-1.50"), OrderKind.LIMIT, HOUR_MS, 0.1, Decimal("99.90"), reduce_only=True
)
FILL = Fill("t", ID, KEY, 3, Decimal("1e-8"), Decimal("0.10"), Decimal("-0.0001"), HOUR_MS)
FACTORS = Factors(0.005 * np.ones((4, 1)), np.full(4, 0.75e-4))
COVARIANCE = Covariance(HOUR_MS, "ewma", np.full(4, 0.01), np.eye(4), factors=FACTORS)
PREDICTION = Prediction(H1, HOUR_MS, ARRAY, ARRAY, "model")
SIGNALS = Signals(HOUR_MS, *[ARRAY + i for i in range(7)])
SOLVED = Solved("piqp", "0.6.4", "MAX_ITER_REACHED", 50, 1e-8, "piqp said MAX_ITER_REACHED")
TARGET = TargetPortfolio(
    HOUR_MS, ARRAY, ARRAY, ARRAY, SIGNALS, np.array([True, False]), "note", SOLVED
)
DECISION = Decision(
    as_of_ms=HOUR_MS,
    sequence=4,
    kind=DecisionKind.REDUCED,
    bars_digest="ab" * 32,
    absent=(1, 3),
    equity=1e4,
    marks=ARRAY,
    weights_before=ARRAY,
    predictions=(PREDICTION,),
    target=TARGET,
    orders=(ORDER,),
    refusals=(Refused(ORDER, RefusalReason.STALE, "detail"),),
    note="ü — words",
    revised=(0, 2),
)
ACCOUNT = AccountSnapshot("v", 9, {KEY: Decimal("0.10")}, {CASH: Decimal(-7)}, 12)
WINDOW = Window(H1, HOUR_MS, np.stack([ROWS, ROWS + 1]))
DIGEST = m.WindowDigest(H1, HOUR_MS, (2, 4, FIELDS), "ab")

MESSAGES: dict[type, object] = {
    type(message): message
    for message in (
        m.BarsClosed(
            HOUR_MS,
            ROWS,
            np.array([0, 1, 2, 3], dtype=np.uint8),
            ARRAY,
            final=False,
            proven_ms=np.array([0, 7, 8, 9], dtype=np.int64),
        ),
        m.Revised(HOUR_MS, 2, ROWS[0], ROWS[1], Proof.SUCCESSOR, 9),
        m.DecisionsFlagged(2, HOUR_MS, (HOUR_MS, 2 * HOUR_MS)),
        m.FundingRates(HOUR_MS, ARRAY, ARRAY),
        m.FeedNotice(7, "v", m.FeedTrouble.CLOCK_OFFSET, True, "3.0 s off"),
        m.InstrumentChanged(7, 1, INSTRUMENT, Standing.REDUCE_ONLY, "it ends"),
        m.Rescaled(7, 1, INSTRUMENT.key, 1, 15),
        m.PriceDoubted(7, 1, 5, 0.1, True, "it stands still", 101.5, 3.25, 4, 13.5),
        m.Tick(7),
        m.EstimatesReady(Estimates(HOUR_MS, (PREDICTION,), np.eye(3), COVARIANCE, 0.5)),
        m.EstimatesMissing(HOUR_MS, "late"),
        m.OrderAccepted(ID, 1),
        m.OrderRejected(ID, 1, "why"),
        m.OrderUncertain(ID, 1, "why"),
        m.OrderAbsent(ID, 1),
        m.OrderFilled(FILL),
        m.OrderEnded(ID, 1, "cancelled"),
        m.FundingPaid("f", KEY, CASH, 1, -1e-4, Decimal("-0.10")),
        m.Transferred("d", CASH, 1, Decimal("10000.00")),
        m.Snapshotted(ACCOUNT),
        m.AccountUnread("v", 1, "HTTP 503"),
        m.Operator(m.OperatorAction.FLATTEN, "r", 1),
        m.Started(1, "run", warming=True, note="n"),
        m.Estimate(HOUR_MS, (WINDOW,)),
        m.Submit(Approved(ORDER)),
        m.Cancel(ID, KEY),
        m.Query(ID, KEY),
        m.AskSnapshot("v", -1),
        m.Decided(DECISION),
        m.Alert(m.AlertKind.HALTED, 1, "text"),
        m.RecordedEstimate(HOUR_MS, (DIGEST,)),
    )
}


def same(left: object, right: object) -> bool:
    """Compare two values of any of our types, arrays by type, shape and bytes."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        alike = (left.dtype, left.shape) == (right.dtype, right.shape)
        return alike and left.tobytes() == right.tobytes()
    if isinstance(left, Struct):
        return all(same(getattr(left, n), getattr(right, n)) for n in left.__struct_fields__)
    if is_dataclass(left):
        names = [f.name for f in fields(left)]
        return all(same(getattr(left, n), getattr(right, n)) for n in names)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Decimal):
        return str(left) == str(right)
    return left == right


def test_every_event_and_command_has_a_sample_here() -> None:
    assert set(MESSAGES) == set(codec.MESSAGE_TYPES.values())


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda k: k.__name__)
def test_a_message_is_read_back_equal_to_the_bit(kind: type) -> None:
    message = MESSAGES[kind]
    raw = codec.encode_message(message)
    again = codec.decode_message(raw)
    assert same(again, message)
    assert codec.encode_message(again) == raw


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda k: k.__name__)
def test_a_message_cut_short_anywhere_is_refused(kind: type) -> None:
    raw = codec.encode_message(MESSAGES[kind])
    for size in range(len(raw)):
        with pytest.raises(BadPayload):
            codec.decode_message(raw[:size])


@given(st.sampled_from(list(MESSAGES)), st.data())
@settings(max_examples=300)
def test_a_message_with_bytes_changed_is_read_or_refused_and_nothing_else(
    kind: type, data: st.DataObject
) -> None:
    raw = bytearray(codec.encode_message(MESSAGES[kind]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadPayload):
        assert type(codec.decode_message(bytes(raw))) in MESSAGES


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_are_refused_as_bad_payload(raw: bytes) -> None:
    with pytest.raises(BadPayload):
        codec.decode_message(raw)


def test_bytes_that_say_what_cannot_be_are_refused_as_bad_payload() -> None:
    raw = msgspec.msgpack.encode({"minutes": 7})
    with pytest.raises(BadPayload, match="divide the day"):
        codec.decode(raw, Timeframe)


dtypes = st.sampled_from(["<f8", "|u1", "|b1", "<i8", "<f4"])


@given(
    dtypes.flatmap(lambda d: npst.arrays(d, npst.array_shapes(min_dims=0, max_dims=3, min_side=0)))
)
def test_arrays_of_every_kind_and_shape_survive(array: np.ndarray[Any, np.dtype[Any]]) -> None:
    again = codec.decode(codec.encode({"a": array}), dict[str, Any])["a"]
    assert same(again, array)


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[::-1], np.asfortranarray],
    ids=["transposed", "strided", "reversed", "fortran"],
)
def test_views_are_written_as_what_they_show(view: Callable[[Any], Any]) -> None:
    array = view(ROWS)
    again = codec.decode(codec.encode([array]), list[Any])[0]
    assert np.array_equal(again, array)


@pytest.mark.parametrize("dtype", [">f8", "<i4", "<U3", "<M8[ms]", "complex128"])
def test_an_array_that_could_not_be_read_back_is_not_written(dtype: str) -> None:
    with pytest.raises(ValueError, match="accepted: <f8"):
        codec.encode(np.zeros(2, dtype=dtype))


def test_what_is_no_domain_value_is_not_written() -> None:
    with pytest.raises(NotImplementedError, match="cannot write a object"):
        codec.encode(object())


def test_numpy_scalars_are_written_as_numbers() -> None:
    raw = codec.encode([np.float64(0.1), np.int64(3), np.bool_(True)])
    assert codec.decode(raw, list[Any]) == [0.1, 3, True]


def test_an_array_in_the_place_of_something_else_is_refused_and_the_other_way_round() -> None:
    with pytest.raises(BadPayload):
        codec.decode(codec.encode(ARRAY), int)
    raw = codec.encode_message(m.FundingRates(1, ARRAY, ARRAY))
    wrong = raw.replace(codec.encode(ARRAY), codec.encode("no array"), 1)
    assert wrong != raw
    with pytest.raises(BadPayload):
        codec.decode_message(wrong)


def test_unknown_kinds_of_message_are_refused_by_name() -> None:
    with pytest.raises(BadPayload, match="unknown message type 'Bar'; known: BarsClosed"):
        codec.decode_message(codec.encode(("Bar", {})))


@pytest.mark.parametrize(
    "ext",
    [
        msgspec.msgpack.Ext(1, b""),
        msgspec.msgpack.Ext(1, b"\x05abc"),
        msgspec.msgpack.Ext(2, b"x"),
        msgspec.msgpack.Ext(1, bytes([4]) + msgspec.msgpack.encode(("<f8", (1,)))[:4]),
    ],
    ids=["empty", "short head", "unknown code", "cut head"],
)
def test_broken_arrays_are_refused(ext: msgspec.msgpack.Ext) -> None:
    with pytest.raises(BadPayload):
        codec.decode(codec.encode([ext]), list[Any])


def _array_ext(dtype: str, shape: tuple[int, ...], body: bytes) -> bytes:
    head = msgspec.msgpack.encode((dtype, shape))
    return codec.encode([msgspec.msgpack.Ext(1, bytes([len(head)]) + head + body)])


@pytest.mark.parametrize(
    ("dtype", "shape", "body"),
    [
        ("<f8", (2,), b"\0" * 8),
        ("<f8", (1,), b"\0" * 7),
        ("|O", (1,), b"\0" * 8),
        ("<f8", (-1,), b"\0" * 16),
    ],
    ids=["too few", "half a number", "objects", "negative"],
)
def test_arrays_that_do_not_add_up_are_refused(
    dtype: str, shape: tuple[int, ...], body: bytes
) -> None:
    with pytest.raises(BadPayload):
        codec.decode(_array_ext(dtype, shape, body), list[Any])


def test_a_journal_keeps_the_digest_of_a_window_in_the_place_of_its_bars() -> None:
    kept = codec.recorded(m.Estimate(HOUR_MS, (WINDOW,)))
    assert isinstance(kept, m.RecordedEstimate)
    assert kept.windows[0].shape == WINDOW.values.shape
    moved = Window(H1, HOUR_MS, np.nextafter(WINDOW.values, np.inf))
    assert codec.recorded(m.Estimate(HOUR_MS, (moved,))) != kept
    cancel = m.Cancel(ID, KEY)
    assert codec.recorded(cancel) is cancel
