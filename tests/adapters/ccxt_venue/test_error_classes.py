"""Binance's refusals over plain HTTP and over TLS at its real host names: our outcome is one.

ccxt takes some of its error classes from tables that it picks by the URL, so the redirected client
of all other tests raises other classes than the one of production. Here the unmodified client
believes that it speaks to https://fapi.binance.com/; a test authority signs for that name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ccxt.async_support as ccxt
import pytest

from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.codes import CODES, Reason
from adapters.ccxt_venue.outcomes import (
    Absent,
    Answered,
    Ask,
    NotSent,
    Outcome,
    Rejected,
    Uncertain,
)
from tests.adapters.ccxt_venue.loopback import (
    OURS,
    SECRET,
    Loopback,
    Script,
    asked,
    ccxt_of,
    free_port,
    serving,
    shut,
    unredirected,
)
from tests.adapters.ccxt_venue.payloads import GOOD, named, refusal
from tests.e2e.tls_proxy import HOSTS, TlsFront, make_certificates, only_loopback, tls_front

VENUE = "binanceusdm"
OURS_KNOWN = CODES[VENUE]
HTML = "<html><body><h1>Gateway</h1></body></html>"


@dataclass(frozen=True)
class Both:
    """Hold one scripted server, a redirected client, and one that keeps the venue's own URLs."""

    served: Loopback
    plain: Any
    real: Any
    front: TlsFront

    async def ask(self, ask: Ask, script: Script) -> tuple[Outcome[Any], str, str]:
        """Ask over both ways; gives our one outcome and the two classes that ccxt raised."""
        self.served.script = script
        over_http, http_class = await _asked(ask, self.plain)
        over_tls, tls_class = await _asked(ask, self.real)
        assert _comparable(over_http) == _comparable(over_tls), script
        return over_tls, http_class, tls_class


async def _asked(ask: Ask, client: Any) -> tuple[Outcome[Any], str]:
    outcome, trouble = await asked(VENUE, ask, client)
    return outcome, "" if trouble is None else type(trouble).__name__


def _comparable(outcome: Outcome[Any]) -> object:
    """Leave away the words of an Uncertain: they name ccxt's class, which differs by design."""
    if isinstance(outcome, Uncertain):
        return Uncertain("", outcome.code, outcome.retry_after_s)
    return outcome


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[Both]:
    with only_loopback() as beyond:
        async with (
            serving(Script("{}")) as served,
            tls_front(f"http://127.0.0.1:{served.port}", folder, HOSTS[VENUE]) as front,
        ):
            plain = ccxt_of(VENUE, f"http://127.0.0.1:{served.port}")
            real = unredirected(VENUE, **front.options())
            try:
                yield Both(served, plain, real, front)
            finally:
                await shut(plain)
                await shut(real)
        assert beyond == []
    assert set(front.led) <= {"fapi.binance.com"}
    assert front.refused == []


def codes_of_ccxt() -> dict[str, str]:
    """Give the codes of ccxt's table for USDM addresses with the classes that it names."""
    table = ccxt.binanceusdm().exceptions["linear"]["exact"]
    return {code: kind.__name__ for code, kind in table.items() if code.lstrip("-").isdigit()}


async def test_every_code_of_ours_has_one_outcome_whatever_class_the_url_gives_it(
    tmp_path: Path,
) -> None:
    differing = {}
    async with both(tmp_path) as pair:
        for code, reason in OURS_KNOWN.meanings.items():
            status, body = refusal(VENUE, code)
            sent, http_class, tls_class = await pair.ask(Ask.SEND, Script(body, status))
            if reason in {Reason.DUPLICATE, Reason.NOT_RESTING}:
                assert isinstance(sent, Uncertain), sent
            else:
                assert sent == Rejected(code, reason, "No.")
            cancelled, _, _ = await pair.ask(Ask.CANCEL, Script(body, status))
            assert cancelled == Rejected(code, reason, "No.")
            queried, _, _ = await pair.ask(Ask.QUERY, Script(body, status))
            assert isinstance(queried, Uncertain)
            assert queried.code == code
            if http_class != tls_class:
                differing[code] = (http_class, tls_class)
        assert len(pair.front.led) >= len(OURS_KNOWN.meanings)
    # The premise: these have another class at the real address, so an outcome made of classes
    # would have passed every redirected test and failed in production.
    assert differing["-2019"] == ("ExchangeError", "InsufficientFunds")
    assert differing["-5022"] == ("InvalidOrder", "OrderNotFillable")
    own = codes_of_ccxt()
    assert set(differing) >= {code for code in OURS_KNOWN.meanings if own.get(code)} - {"-4046"}


async def test_codes_that_only_the_client_knows_prove_nothing_on_either_way(tmp_path: Path) -> None:
    doubtful = set(codes_of_ccxt()) - set(OURS_KNOWN.meanings) - OURS_KNOWN.absent
    doubtful |= {"-1000", "-1001", "-1006", "-1007", "-1008", "-99999"}
    async with both(tmp_path) as pair:
        for code in sorted(doubtful):
            status, body = refusal(VENUE, code)
            for ask in (Ask.SEND, Ask.CANCEL, Ask.QUERY):
                outcome, _, _ = await pair.ask(ask, Script(body, status))
                assert isinstance(outcome, Uncertain), (code, ask, outcome)
                assert outcome.code == code


async def test_absent_is_said_by_one_code_to_a_query_alone_on_both_ways(tmp_path: Path) -> None:
    status, body = refusal(VENUE, "-2013")
    async with both(tmp_path) as pair:
        queried, _, _ = await pair.ask(Ask.QUERY, Script(body, status))
        assert queried == Absent("-2013", "No.")
        for ask in (Ask.SEND, Ask.CANCEL):
            outcome, _, _ = await pair.ask(ask, Script(body, status))
            assert isinstance(outcome, Uncertain)


@pytest.mark.parametrize("ask", Ask)
async def test_what_is_no_word_about_our_order_is_uncertain_on_both_ways(
    tmp_path: Path, ask: Ask
) -> None:
    _, margin = refusal(VENUE, "-2019")
    scripts = [
        Script(how="silence"),
        Script(how="reset_read"),
        Script('{"orderId": 1, "clien', how="cut"),
        Script(HTML, content_type="text/html"),
        Script(HTML, 502, content_type="text/html"),
        Script(HTML, 403, content_type="text/html"),
        Script("", 200),
        Script("{}", 200),
        Script(margin, 503),
        Script(margin, 408),
        Script("too many", 429, {"Retry-After": "7"}),
        Script("banned", 418, {"Retry-After": "120"}),
    ]
    async with both(tmp_path) as pair:
        pair.plain.timeout = pair.real.timeout = 400
        for script in scripts:
            outcome, _, _ = await pair.ask(ask, script)
            assert isinstance(outcome, Uncertain), (script, outcome)


@pytest.mark.parametrize("ask", Ask)
async def test_a_good_answer_is_read_alike_on_both_ways(tmp_path: Path, ask: Ask) -> None:
    body = named(GOOD[VENUE, ask.value], client_id(VENUE, OURS))
    async with both(tmp_path) as pair:
        outcome, http_class, tls_class = await pair.ask(ask, Script(body))
        assert isinstance(outcome, Answered)
        assert (http_class, tls_class) == ("", "")
        assert len(pair.served.requests) == 2
        assert "host: fapi.binance.com" in pair.served.requests[1].lower()


async def test_a_tunnel_or_a_certificate_that_fails_means_not_sent(tmp_path: Path) -> None:
    async with both(tmp_path) as pair:
        pair.front.up = False
        refused, _ = await asked(VENUE, Ask.SEND, pair.real)
        pair.front.refused.clear()
        pair.front.up = True
        (tmp_path / "other").mkdir()
        other = make_certificates(tmp_path / "other", HOSTS[VENUE]).authority
        stranger = unredirected(VENUE, **{**pair.front.options(), "cafile": str(other)})
        try:
            untrusted, _ = await asked(VENUE, Ask.SEND, stranger)
        finally:
            await shut(stranger)
        assert pair.served.requests == []
    nobody = unredirected(VENUE, **front_of_nobody(tmp_path))
    try:
        away, _ = await asked(VENUE, Ask.SEND, nobody)
    finally:
        await shut(nobody)
    for outcome in (refused, untrusted, away):
        assert isinstance(outcome, NotSent), outcome
        assert SECRET not in outcome.why


def front_of_nobody(tmp_path: Path) -> dict[str, Any]:
    authority = make_certificates(tmp_path, HOSTS[VENUE]).authority
    return TlsFront(free_port(), authority, HOSTS[VENUE]).options()


async def test_without_the_proxy_a_request_for_the_real_host_is_stopped_here() -> None:
    """The guard of these tests: were the proxy forgotten, nothing would leave the machine."""
    with only_loopback() as beyond:
        bare = unredirected(VENUE)
        try:
            outcome, _ = await asked(VENUE, Ask.SEND, bare)
        finally:
            await shut(bare)
    assert isinstance(outcome, NotSent), outcome
    assert set(beyond) == {"fapi.binance.com"}
