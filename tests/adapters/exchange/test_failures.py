"""What exceptions mean: passing, garbled, or lasting, each explained."""

from __future__ import annotations

import ccxt
import pytest

from adapters.exchange.failures import SymbolGone, Unanswered, judge, not_json, unknown_exchange
from daemon.domain.failures import BadPayload, VenueError


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (ccxt.RequestTimeout("x GET http://h/fapi 10 s"), Unanswered),
        (ccxt.ExchangeNotAvailable("x GET http://h/fapi 503 Service Unavailable {}"), Unanswered),
        (ccxt.RateLimitExceeded("too many"), Unanswered),
        (ccxt.DDoSProtection("x GET http://h/fapi 418 I'm a teapot"), Unanswered),
        (ccxt.NetworkError("reset"), Unanswered),
        (ccxt.ExchangeError("something new"), Unanswered),
        (OSError("no route"), Unanswered),
        (ccxt.BadSymbol("-1121"), SymbolGone),
        (ccxt.AuthenticationError("-2015"), VenueError),
        (ccxt.NotSupported("watchOHLCV"), VenueError),
        (TypeError("list indices must be integers"), BadPayload),
        (KeyError("k"), BadPayload),
        (BadPayload("not JSON"), BadPayload),
    ],
)
def test_each_trouble_has_its_kind(trouble: Exception, kind: type[Exception]) -> None:
    judged = judge(trouble, exchange="x", doing="fetch ohlcv")
    assert type(judged) is kind


@pytest.mark.parametrize("status", [451, 403])
def test_a_geo_block_is_explained_in_plain_words(status: int) -> None:
    trouble = ccxt.ExchangeNotAvailable(f"x GET https://h/fapi/v1/time {status} Forbidden <html>")
    judged = judge(trouble, exchange="binanceusdm", doing="load markets")
    assert not isinstance(judged, Unanswered)
    assert f"HTTP {status}" in str(judged)
    assert "Choose another exchange id" in str(judged)
    assert "proxy" in str(judged)


def test_retry_after_is_kept() -> None:
    judged = judge(
        ccxt.RateLimitExceeded("x"), exchange="x", doing="y", status=429, retry_after_s=7.0
    )
    assert isinstance(judged, Unanswered)
    assert judged.retry_after_s == 7.0


def test_an_unknown_exchange_names_the_nearest() -> None:
    message = str(unknown_exchange("binanceusdt", ["binanceusdm", "bybit", "okx"]))
    assert "'binanceusdt'" in message
    assert "did you mean binanceusdm" in message


def test_what_is_not_json_is_quoted_without_the_query() -> None:
    message = str(not_json("x", "GET", "http://h/fapi/v1/time?a=b", "<html>" + "z" * 500))
    assert "/fapi/v1/time answered" in message
    assert "a=b" not in message
    assert len(message) < 400
