"""The file of instruments over time: read back equal, every mistake named, nothing forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.history.instruments_file import (
    DatedRules,
    InstrumentsFile,
    Life,
    Record,
    Seen,
    instruments_path,
    noted,
    read_instruments_file,
    write_instruments_file,
)
from daemon.domain.failures import DataError
from daemon.domain.instrument import TradingRules
from daemon.domain.units import DAY_MS

T0 = 1_700_006_400_000  # a UTC midnight
RULES = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
FINER = replace(RULES, price_step=Decimal("0.01"))


def day(n: float) -> int:
    return T0 + round(n * DAY_MS)


FULL = InstrumentsFile(
    "somewhere",
    {
        "BTCUSDT": Record(
            (Life(day(0), day(8), day(10)), Life(day(20))),
            (DatedRules(day(1), day(3), RULES), DatedRules(day(3), None, FINER)),
        ),
        "ETHUSDT": Record((Life(),), ()),
    },
)


def test_what_was_written_is_read_back_and_the_same_gives_the_same_bytes(tmp_path: Path) -> None:
    path = instruments_path(tmp_path, "somewhere")
    assert read_instruments_file(path, "somewhere") == InstrumentsFile("somewhere")
    write_instruments_file(path, FULL)
    before = path.read_bytes()
    read = read_instruments_file(path, "somewhere")
    assert read == FULL
    write_instruments_file(path, read)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["instruments.json"]


LIFE = "instruments.BTCUSDT.lives"
RULE = {
    "from": "2024-01-01T00:00:00Z",
    "price_step": "0.1",
    "quantity_step": "0.001",
    "quantity_min": "0.001",
    "notional_min": "5",
}
EARLY, LATE = "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"


def of_btc(**record: Any) -> dict[str, Any]:
    return {"venue": "somewhere", "instruments": {"BTCUSDT": record}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "the whole = []; accepted: an object"),
        ({"instrument": {}}, "instrument = {}; accepted: venue, instruments; did you mean inst"),
        ({"venue": "elsewhere"}, "venue = 'elsewhere'; accepted: 'somewhere'"),
        ({"instruments": {"BTC/USDT:USDT": {}}}, "names as of the files of bars"),
        (of_btc(live=[]), "BTCUSDT.live = []; accepted: lives, rules; did you mean lives?"),
        (of_btc(lives={}), f"{LIFE} = {{}}; accepted: a list"),
        (of_btc(lives=[{"listed": 5}]), f"{LIFE}[0].listed = 5; accepted: an instant with"),
        (of_btc(lives=[{"listed": "2024-01-01"}]), "an instant with its offset"),
        (of_btc(lives=[{"listed": LATE, "ended": EARLY}]), f"after {LATE}, listed"),
        (of_btc(lives=[{"announced": EARLY}]), "accepted: an end beside it"),
        (of_btc(lives=[{"announced": LATE, "ended": EARLY}]), f"up to {EARLY}, ended"),
        (of_btc(lives=[{}, {"listed": LATE}]), f"{LIFE}[1] = 'begins {LATE}'; accepted: an end of"),
        (of_btc(lives=[{"ended": LATE}, {"listed": EARLY}]), f"accepted: {LATE} or later"),
        (of_btc(rules=[{"from": EARLY}]), "rules[0].price_step = None; accepted: it must be given"),
        (of_btc(rules=[{**RULE, "price_step": 0.1}]), "rules[0].price_step = 0.1; accepted: a dec"),
        (of_btc(rules=[{**RULE, "price_step": "0"}]), "price_step 0 must be positive"),
        (of_btc(rules=[{**RULE, "until": EARLY}]), "accepted: an end after"),
        (of_btc(rules=[RULE, RULE]), "accepted: an end of the one before"),
    ],
)
def test_every_mistake_is_named_with_its_place_and_what_is_accepted(
    tmp_path: Path, content: object, says: str
) -> None:
    path = tmp_path / "instruments.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_instruments_file(path, "somewhere")
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_a_torn_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "instruments.json"
    path.write_text('{"venue": "somewh', encoding="utf-8")
    with pytest.raises(DataError, match=r"instruments\.json: is not JSON"):
        read_instruments_file(path, "somewhere")


def after(*told: tuple[int, Seen], begin: Record | None = None) -> Record:
    """Give the record of BTC after a venue told things at instants."""
    file = InstrumentsFile("somewhere", {} if begin is None else {"BTCUSDT": begin})
    for now_ms, seen in told:
        file = noted(file, {"BTC/USDT:USDT": seen}, now_ms)
        assert noted(file, {"BTCUSDT": seen}, now_ms) == file  # twice is once
    return file.records["BTCUSDT"]


def test_a_venue_tells_a_life_piece_by_piece_and_each_piece_is_kept() -> None:
    found = after(
        (day(1), Seen(None, None, RULES)),
        (day(2), Seen(day(0), None, RULES)),
        (day(5), Seen(day(0), day(9), FINER)),
        (day(6), Seen(day(0), day(10), FINER)),  # put off
        (day(11), Seen(day(0), day(10), FINER)),
    )
    assert found.lives == (Life(day(0), day(5), day(10)),)
    assert found.rules == (DatedRules(day(1), day(5), RULES), DatedRules(day(5), None, FINER))


def test_an_end_that_was_only_seen_afterwards_was_announced_to_nobody() -> None:
    found = after((day(11), Seen(day(0), day(10), RULES)))
    assert found.lives == (Life(day(0), None, day(10)),)


def test_a_contract_that_is_listed_again_begins_another_life() -> None:
    ended = Record((Life(day(0), day(8), day(10)),))
    again = after((day(30), Seen(day(20), None, RULES)), begin=ended)
    assert again.lives == (*ended.lives, Life(day(20)))
    stale = after((day(30), Seen(day(0), None, RULES)), begin=ended)
    assert stale.lives == ended.lives  # what the venue says now is no word on what was


def test_what_somebody_wrote_stays() -> None:
    own = Record((Life(day(-9), day(2), day(3)),), (DatedRules(day(0), day(50), FINER),))
    assert after((day(4), Seen(day(0), None, RULES)), begin=own) == own
    later = after((day(60), Seen(day(0), None, RULES)), begin=own)
    assert later.rules == (*own.rules, DatedRules(day(60), None, RULES))
