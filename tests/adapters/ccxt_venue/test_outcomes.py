"""Outcomes of real ccxt calls against answers of every kind; classes of ccxt decide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.codes import CODES, Reason, payload_of, verdict_in_text
from adapters.ccxt_venue.outcomes import (
    Absent,
    Answered,
    Ask,
    NotSent,
    Outcome,
    Rejected,
    Uncertain,
    absent_after,
    judge,
)
from adapters.ccxt_venue.rows import Acknowledgement, OrderRecord
from adapters.ccxt_venue.wire import Exchange
from daemon.domain.failures import InvariantViolated
from tests.adapters.ccxt_venue.loopback import (
    API_KEY,
    OURS,
    SECRET,
    Script,
    asked,
    ccxt_of,
    free_port,
    serving,
    shut,
)
from tests.adapters.ccxt_venue.payloads import GOOD, named, refusal

VENUES = ("binanceusdm", "bybit", "okx")
EVERY = [(venue, ask) for venue in VENUES for ask in Ask]
HTML = "<html><body><h1>Gateway</h1></body></html>"


async def outcome_of(
    venue: str, ask: Ask, script: Script
) -> tuple[Outcome[object], BaseException | None, list[str]]:
    async with serving(script) as served:
        exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        exchange.timeout = 250 if script.how == "silence" else 2_000
        try:
            outcome, trouble = await asked(venue, ask, exchange)
        finally:
            await shut(exchange)
    return outcome, trouble, served.requests


def good(venue: str, ask: Ask) -> str:
    return named(GOOD[venue, ask.value], client_id(venue, OURS))


@pytest.mark.parametrize(("venue", "ask"), EVERY)
async def test_a_good_answer_gives_the_venues_words_about_our_order(venue: str, ask: Ask) -> None:
    outcome, trouble, requests = await outcome_of(venue, ask, Script(good(venue, ask)))
    assert trouble is None
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.value, OrderRecord if ask is Ask.QUERY else Acknowledgement)
    # The id really travelled, under the name that this venue reads.
    (request,) = requests
    assert client_id(venue, OURS) in request


@pytest.mark.parametrize(("venue", "ask"), EVERY)
@pytest.mark.parametrize(
    "script",
    [
        Script(how="silence"),
        Script(how="reset_unread"),
        Script(how="reset_read"),
        Script('{"orderId": 1, "clien', how="cut"),
        Script('{"orderId": 1, "clien'),
        Script(HTML, content_type="text/html"),
        Script(HTML, 502, content_type="text/html"),
        Script("", 200),
        Script("{}", 200),
        Script("[]", 200),
        Script("null", 200),
        Script("{}", 503),
        Script("too many", 429, {"Retry-After": "7"}),
        Script("banned", 418, {"Retry-After": "120"}),
        Script(HTML, 403, content_type="text/html"),
    ],
    ids=lambda s: f"{s.how}-{s.status}-{s.body[:8]}",
)
async def test_what_is_no_answer_about_our_order_is_uncertain(
    venue: str, ask: Ask, script: Script
) -> None:
    outcome, _, _ = await outcome_of(venue, ask, script)
    assert isinstance(outcome, Uncertain), outcome
    if script.headers:
        assert outcome.retry_after_s == float(script.headers["Retry-After"])
    assert SECRET not in outcome.why
    assert API_KEY not in outcome.why


@pytest.mark.parametrize(("venue", "ask"), EVERY)
async def test_an_answer_about_another_order_is_uncertain(venue: str, ask: Ask) -> None:
    body = named(GOOD[venue, ask.value], "eq65bbf840-7-1".replace("-", "X"))
    outcome, _, _ = await outcome_of(venue, ask, Script(body))
    assert isinstance(outcome, Uncertain), outcome
    assert "not about" in outcome.why


@pytest.mark.parametrize(("venue", "ask"), EVERY)
async def test_a_good_body_under_a_server_error_proves_nothing(venue: str, ask: Ask) -> None:
    outcome, _, _ = await outcome_of(venue, ask, Script(good(venue, ask), 502))
    assert isinstance(outcome, Uncertain), outcome


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("status", [408, 500, 503])
async def test_even_a_definite_code_proves_nothing_under_a_server_error(
    venue: str, status: int
) -> None:
    code = {"binanceusdm": "-2019", "bybit": "110007", "okx": "51008"}[venue]
    outcome, _, _ = await outcome_of(venue, Ask.SEND, Script(refusal(venue, code)[1], status))
    assert isinstance(outcome, Uncertain), outcome
    assert outcome.code == code


@pytest.mark.parametrize(
    ("venue", "code", "reason"),
    [
        ("binanceusdm", "-2019", Reason.MARGIN),
        ("binanceusdm", "-2022", Reason.REDUCE_ONLY),
        ("binanceusdm", "-4164", Reason.NOTIONAL_MIN),
        ("binanceusdm", "-5022", Reason.POST_ONLY),
        ("binanceusdm", "-1111", Reason.PRECISION),
        ("binanceusdm", "-1021", Reason.CLOCK),
        ("binanceusdm", "-2015", Reason.KEY),
        ("binanceusdm", "-1121", Reason.SYMBOL),
        ("binanceusdm", "-4131", Reason.PRICE),
        ("bybit", "110007", Reason.MARGIN),
        ("bybit", "110017", Reason.REDUCE_ONLY),
        ("bybit", "110094", Reason.NOTIONAL_MIN),
        ("bybit", "10002", Reason.CLOCK),
        ("bybit", "10006", Reason.RATE),
        ("bybit", "10004", Reason.KEY),
        ("okx", "51008", Reason.MARGIN),
        ("okx", "51020", Reason.NOTIONAL_MIN),
        ("okx", "51121", Reason.PRECISION),
        ("okx", "50102", Reason.CLOCK),
        ("okx", "50011", Reason.RATE),
        ("okx", "50113", Reason.KEY),
    ],
)
async def test_a_venues_definite_code_rejects_the_send_and_says_nothing_to_a_query(
    venue: str, code: str, reason: Reason
) -> None:
    status, body = refusal(venue, code)
    sent, trouble, _ = await outcome_of(venue, Ask.SEND, Script(body, status))
    assert sent == Rejected(code, reason, "No.")
    queried, _, _ = await outcome_of(venue, Ask.QUERY, Script(body, status))
    assert isinstance(queried, Uncertain)
    assert queried.code == code
    # The message of ccxt ends with the payload: the same code is found there.
    assert trouble is not None
    found = verdict_in_text(venue, str(trouble))
    assert found is not None
    assert (found.code, found.reason) == (code, reason)


@pytest.mark.parametrize(
    ("status", "code", "wanted"), [(429, -1003, Reason.RATE), (418, -1003, Reason.RATE)]
)
async def test_a_rate_limit_with_the_venues_own_code_is_a_refusal(
    status: int, code: int, wanted: Reason
) -> None:
    body = f'{{"code":{code},"msg":"Too many requests."}}'
    script = Script(body, status, {"Retry-After": "9"})
    outcome, _, _ = await outcome_of("binanceusdm", Ask.SEND, script)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is wanted


@pytest.mark.parametrize(
    ("venue", "code"),
    [
        *[("binanceusdm", code) for code in ("-1000", "-1001", "-1006", "-1007", "-1008")],
        *[("binanceusdm", code) for code in ("-4116", "-2011", "-99999")],
        *[("bybit", code) for code in ("10000", "10014", "10016", "110072", "170007", "999999")],
        *[("okx", code) for code in ("50001", "50004", "50013", "50026", "51016", "59999")],
    ],
)
async def test_doubtful_unknown_and_duplicate_codes_leave_a_send_uncertain(
    venue: str, code: str
) -> None:
    status, body = refusal(venue, code)
    outcome, _, _ = await outcome_of(venue, Ask.SEND, Script(body, status))
    assert isinstance(outcome, Uncertain), outcome
    assert outcome.code == code


@pytest.mark.parametrize(
    ("venue", "code"),
    [("binanceusdm", "-2011"), ("bybit", "110001"), ("bybit", "110008"), ("okx", "51402")],
)
async def test_a_cancel_of_what_does_not_rest_is_refused_by_name(venue: str, code: str) -> None:
    status, body = refusal(venue, code)
    outcome, _, _ = await outcome_of(venue, Ask.CANCEL, Script(body, status))
    assert outcome == Rejected(code, Reason.NOT_RESTING, "No.")


async def test_only_the_exact_codes_say_absent() -> None:
    absent = {"binanceusdm": "-2013", "okx": "51603"}
    assert {venue: set(codes.absent) for venue, codes in CODES.items()} == {
        "binanceusdm": {"-2013"},
        "bybit": set(),
        "okx": {"51603"},
    }
    for venue, code in absent.items():
        status, body = refusal(venue, code)
        queried, _, _ = await outcome_of(venue, Ask.QUERY, Script(body, status))
        assert queried == Absent(code, "No.")
        sent, _, _ = await outcome_of(venue, Ask.SEND, Script(body, status))
        assert isinstance(sent, Uncertain)
    for venue, code in (("binanceusdm", "-2011"), ("bybit", "110001"), ("okx", "51400")):
        status, body = refusal(venue, code)
        queried, _, _ = await outcome_of(venue, Ask.QUERY, Script(body, status))
        assert isinstance(queried, Uncertain)


async def test_bybit_says_absent_by_every_listing_being_empty_in_good_form() -> None:
    body = '{"retCode":0,"retMsg":"OK","result":{"list":[],"category":"linear"},"time":1}'
    empty, _, _ = await outcome_of("bybit", Ask.QUERY, Script(body))
    assert empty == Answered(None)
    garbage, _, _ = await outcome_of("bybit", Ask.QUERY, Script(HTML, content_type="text/html"))
    for listings, wanted in (
        ([empty, empty], Absent),
        ([empty, garbage], Uncertain),
        ([garbage, empty], Uncertain),
    ):
        several: Sequence[Outcome[object | None]] = listings
        assert isinstance(absent_after(several), wanted)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}"], ids=["http", "https"]
)
async def test_a_refused_connection_means_not_sent(venue: str, base: str) -> None:
    exchange = ccxt_of(venue, base.format(port=free_port()))
    try:
        sent, _ = await asked(venue, Ask.SEND, exchange)
    finally:
        await shut(exchange)
    assert isinstance(sent, NotSent), sent
    assert SECRET not in sent.why


@pytest.mark.parametrize("how", ["reset_unread", "blurt"])
async def test_a_failed_handshake_means_not_sent(how: str) -> None:
    async with serving(Script("{}", how=how)) as served:
        exchange = ccxt_of("binanceusdm", f"https://127.0.0.1:{served.port}")
        try:
            outcome, _ = await asked("binanceusdm", Ask.SEND, exchange)
        finally:
            await shut(exchange)
    assert isinstance(outcome, NotSent), outcome


async def test_an_unknown_host_means_not_sent() -> None:
    exchange = ccxt_of("binanceusdm", "http://venue.invalid")
    try:
        outcome, _ = await asked("binanceusdm", Ask.SEND, exchange)
    finally:
        await shut(exchange)
    assert isinstance(outcome, NotSent), outcome


async def test_a_refused_connection_proves_nothing_for_a_request_that_may_be_repeated() -> None:
    exchange = ccxt_of("binanceusdm", f"http://127.0.0.1:{free_port()}")
    try:
        outcome, _ = await asked("binanceusdm", Ask.CANCEL, exchange)
    finally:
        await shut(exchange)
    assert isinstance(outcome, Uncertain), outcome


@pytest.mark.parametrize("venue", VENUES)
async def test_what_is_refused_here_was_never_sent(venue: str) -> None:
    async with serving(Script(good(venue, Ask.SEND))) as served:
        exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        try:
            tiny, _ = await asked(venue, Ask.SEND, exchange, amount=0.0000001)
            strange, _ = await asked(venue, Ask.SEND, exchange, symbol="NO/USDT:USDT")
            exchange.secret = None
            keyless, _ = await asked(venue, Ask.SEND, exchange)
        finally:
            await shut(exchange)
    assert [type(one) for one in (tiny, strange, keyless)] == [NotSent] * 3
    assert served.requests == []


async def test_a_repeat_inside_the_client_is_uncertain_even_if_the_last_one_is_refused() -> None:
    status, body = refusal("binanceusdm", "-2019")
    heard = [Exchange("POST", "/fapi/v1/order", "h") for _ in range(2)]
    heard[1].status, heard[1].body = status, body
    outcome = judge("binanceusdm", Ask.SEND, heard, None, lambda payload: payload)
    assert isinstance(outcome, Uncertain)


async def test_a_cancelled_task_leaves_its_order_uncertain() -> None:
    heard = [Exchange("POST", "/fapi/v1/order", "h", 200, good("binanceusdm", Ask.SEND))]
    for wire in (heard, []):
        outcome = judge("binanceusdm", Ask.SEND, wire, asyncio.CancelledError(), lambda p: p)
        assert isinstance(outcome, Uncertain)


def test_a_context_that_was_handled_is_no_proof() -> None:
    class ClientConnectorError(OSError):
        """Stand for the class of that name in aiohttp."""

    heard = [Exchange("POST", "/fapi/v1/order", "h")]
    late = RuntimeError("reset after the request was written")
    late.__context__ = ClientConnectorError()
    assert isinstance(judge("binanceusdm", Ask.SEND, heard, late, lambda p: p), Uncertain)
    late.__cause__ = ClientConnectorError()
    assert isinstance(judge("binanceusdm", Ask.SEND, heard, late, lambda p: p), NotSent)


def test_a_redirected_request_that_finds_nobody_may_have_arrived_before() -> None:
    class ClientConnectorError(OSError):
        """Stand for the class of that name in aiohttp."""

        host = "elsewhere"

    trouble = RuntimeError("x")
    trouble.__cause__ = ClientConnectorError()
    heard = [Exchange("POST", "/fapi/v1/order", "h")]
    assert isinstance(judge("binanceusdm", Ask.SEND, heard, trouble, lambda p: p), Uncertain)


def test_a_venue_without_a_table_is_a_mistake_of_ours() -> None:
    with pytest.raises(InvariantViolated):
        judge("gate", Ask.SEND, [], None, lambda payload: payload)


def test_no_code_stands_under_two_meanings() -> None:
    for codes in CODES.values():
        assert not codes.absent & set(codes.meanings)
        assert not codes.success & set(codes.meanings)


def test_a_payload_keeps_every_digit() -> None:
    assert payload_of('{"x": 0.10000000000000000001}') == {"x": "0.10000000000000000001"}
    assert payload_of('{"x": NaN}') is None
    assert payload_of("12") is None
