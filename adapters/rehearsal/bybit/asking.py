"""Bybit's private REST half, reading: account, orders, executions, positions, wallet, statement.

Lists come newest first, in pages; a cursor is the number of the last row that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import BPS, MarginMode, Refusal
from adapters.rehearsal.bybit.answers import (
    BybitError,
    Query,
    integer,
    limit_of,
    linear_only,
    plain,
    wrong_parameter,
)
from adapters.rehearsal.bybit.payloads import (
    at_ms_of,
    bank_order_id,
    execution_row,
    link_id,
)
from adapters.rehearsal.bybit.record import Record
from adapters.rehearsal.exchange import Exchange
from daemon.domain.units import DAY_MS, iso

RECENT_MAX: Final = 500  # ended orders that the real-time list still finds
ORDERS_DEFAULT: Final = 20
ORDERS_MAX: Final = 50
EXECUTIONS_DEFAULT: Final = 50
EXECUTIONS_MAX: Final = 100
POSITIONS_DEFAULT: Final = 20
POSITIONS_MAX: Final = 200
WINDOW_MS: Final = 7 * DAY_MS  # a history covers so much at once
OTHER_CATEGORIES: Final = frozenset({"spot", "inverse", "option"})
_OPEN_KINDS: Final = frozenset({"settleCoin", "baseCoin", "symbol"})

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Desk:
    """Hold what a private request is answered from."""

    exchange: Exchange
    record: Record
    windows_s: dict[str, int]  # of the accounts that want their orders gone with their socket

    @property
    def bank(self) -> Bank:
        """Give the bank with everything due done."""
        return self.exchange.accounts.settled()


def key_facts(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer what the key may do; the right to withdraw is the wallet's `Withdraw`."""
    del query
    wallet = ["AccountTransfer"] + (["Withdraw"] if who.may_withdraw else [])
    return {
        "id": "13770661",
        "note": "rehearsal",
        "apiKey": who.key,
        "readOnly": 0,
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Spot": [],
            "Wallet": wallet,
            "Options": [],
            "Derivatives": ["DerivativesTrade"],
            "CopyTrading": [],
            "BlockTrade": [],
            "Exchange": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
        },
        "ips": ["*"],
        "type": 1,
        "deadlineDay": 90,
        "expiredAt": iso(desk.exchange.clock_ms() + 90 * DAY_MS),
        "createdAt": iso(desk.exchange.market.span_ms[0]),
        "unified": 0,
        "uta": 1,
        "userID": 24600000,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
    }


def account_facts(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with the account's modes."""
    del query
    views = [desk.bank.position(who.key, symbol) for symbol in desk.exchange.market.coins]
    known = [view for view in views if not isinstance(view, Refusal)]
    isolated = any(view.margin_mode is MarginMode.ISOLATED for view in known)
    window = desk.windows_s.get(who.key)
    return {
        "unifiedMarginStatus": 6,
        "marginMode": "ISOLATED_MARGIN" if isolated else "REGULAR_MARGIN",
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
        "updatedTime": str(desk.exchange.clock_ms()),
        "dcpStatus": "OFF" if window is None else "ON",
        "timeWindow": window or 0,
        "smpGroup": 0,
    }


def fee_rates(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer what trades cost, as fractions of their value: the same for all contracts."""
    del who
    linear_only(query)
    terms = desk.exchange.settings.bank
    taker, maker = plain(terms.taker_fee_bps / BPS), plain(terms.maker_fee_bps / BPS)
    symbols = [known_symbol(desk, query)] if query.get("symbol") else desk.exchange.market.coins
    rows = [{"symbol": one, "takerFeeRate": taker, "makerFeeRate": maker} for one in symbols]
    return {"category": "linear", "list": rows}


def dcp_facts(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer which disconnection cancels what."""
    del query
    window = desk.windows_s.get(who.key)
    if window is None:
        return {"dcpInfos": []}
    one = {"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": str(window)}
    return {"dcpInfos": [one]}


def orders_now(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with open orders; an id finds recently ended ones as well."""
    linear_only(query)
    bank, by_id = desk.bank, _by_id(query)
    if not by_id and not _OPEN_KINDS & set(query):
        raise BybitError(10001, "params error: Missing some parameters")
    recent = islice(bank.orders_backwards(who.key), RECENT_MAX)
    if query.get("openOnly") == "1":
        return _orders(desk, (one for one in recent if not one.is_open), query)
    return _orders(desk, recent if by_id else reversed(bank.open_orders(who.key)), query)


def order_history(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with ended orders."""
    linear_only(query)
    ended = (one for one in desk.bank.orders_backwards(who.key) if not one.is_open)
    if _by_id(query):
        return _orders(desk, ended, query)
    found = _within(ended, lambda one: one.created_ms, *_window(desk, query))
    return _orders(desk, found, query)


def _orders(desk: Desk, newest_first: Iterable[BankOrder], query: Query) -> Any:
    wanted = filter(_wanted(query), newest_first)
    limit = limit_of(query, ORDERS_DEFAULT, ORDERS_MAX)
    page, more = _page(wanted, lambda one: one.order_id, query, limit)
    rows = [desk.record.order_row(one) for one in page]
    return {"category": "linear", "list": rows, "nextPageCursor": more}


def _by_id(query: Query) -> bool:
    return bool(query.get("orderId") or query.get("orderLinkId"))


def _wanted(query: Query) -> Callable[[BankOrder], bool]:
    """Give the test that a query puts orders to; an id of the venue's goes before one of ours."""
    order_id, link = query.get("orderId"), query.get("orderLinkId")
    number = bank_order_id(order_id) if order_id else None
    symbol, base, coin = (query.get(name, "") for name in ("symbol", "baseCoin", "settleCoin"))

    def fits(order: BankOrder) -> bool:
        if number is not None and order.order_id != number:
            return False
        if number is None and link and link_id(order) != link:
            return False
        name = order.symbol
        return symbol in ("", name) and name.startswith(base) and name.endswith(coin)

    return fits


def executions(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with fills and funding payments."""
    linear_only(query)
    _ = desk.bank
    kept = desk.record.executions(who.key)
    newest_first = ((n, kept[n - 1]) for n in range(len(kept), 0, -1))
    seen = _within(newest_first, lambda one: at_ms_of(one[1]), *_window(desk, query))
    rows = ((number, execution_row(one)) for number, one in seen)
    names = ("symbol", "execType", "orderId", "orderLinkId")
    wanted = (one for one in rows if _names(one[1], query, *names))
    limit = limit_of(query, EXECUTIONS_DEFAULT, EXECUTIONS_MAX)
    page, more = _page(wanted, lambda one: one[0], query, limit)
    return {"category": "linear", "list": [row for _, row in page], "nextPageCursor": more}


def positions(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with positions: one of a symbol even if flat, those of a coin only if not."""
    linear_only(query)
    bank, record = desk.bank, desk.record
    if query.get("symbol"):
        known_symbol(desk, query)
        rows = [record.position_row(who.key, query["symbol"])]
        return {"category": "linear", "list": rows, "nextPageCursor": ""}
    if not query.get("settleCoin"):
        raise BybitError(10001, "params error: Missing some parameters that must be filled in")
    held = [one for one in bank.positions(who.key) if one.symbol.endswith(query["settleCoin"])]
    limit, first = limit_of(query, POSITIONS_DEFAULT, POSITIONS_MAX), integer(query, "cursor") or 0
    rows = [record.position_row(who.key, one.symbol) for one in held[first : first + limit]]
    more = str(first + limit) if first + limit < len(held) else ""
    return {"category": "linear", "list": rows, "nextPageCursor": more}


def wallet(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with the wallet of the unified account, the only kind here."""
    if query.get("accountType") != "UNIFIED":
        raise BybitError(10001, "accountType only support UNIFIED.")
    _ = desk.bank
    return {"list": [desk.record.wallet_row(who.key)]}


def statement(desk: Desk, who: KeySettings, query: Query) -> Any:
    """Answer with the transaction log."""
    _ = desk.bank
    rows = reversed(desk.record.log(who.key))
    seen = _within(rows, lambda row: int(str(row["transactionTime"])), *_window(desk, query))
    wanted = (row for row in seen if _names(row, query, "currency", "type", "category"))
    limit = limit_of(query, ORDERS_DEFAULT, ORDERS_MAX)
    page, more = _page(wanted, lambda row: int(str(row["id"])), query, limit)
    return {"list": page, "nextPageCursor": more}


def _within(
    newest_first: Iterable[Row], at_ms: Callable[[Row], int], first_ms: int, last_ms: int
) -> Iterator[Row]:
    """Go through the rows of a span; nothing older is looked at."""
    for row in newest_first:
        if at_ms(row) < first_ms:
            return
        if at_ms(row) <= last_ms:
            yield row


def _names(row: Mapping[str, object], query: Query, *names: str) -> bool:
    return all(not query.get(name) or row[name] == query[name] for name in names)


def _window(desk: Desk, query: Query) -> tuple[int, int]:
    """Read the span of a history: the last days where nothing is said."""
    start_ms, end_ms = integer(query, "startTime"), integer(query, "endTime")
    if start_ms is None:
        end_ms = desk.exchange.clock_ms() if end_ms is None else end_ms
        return end_ms - WINDOW_MS, end_ms
    end_ms = start_ms + WINDOW_MS if end_ms is None else end_ms
    if end_ms - start_ms > WINDOW_MS:
        raise BybitError(10001, "The time range between startTime and endTime exceeds 7 days")
    if end_ms < start_ms:
        raise wrong_parameter("startTime")
    return start_ms, end_ms


def _page(
    newest_first: Iterable[Row], number: Callable[[Row], int], query: Query, limit: int
) -> tuple[list[Row], str]:
    """Give a page and the cursor of the next one; empty where there is none."""
    before = integer(query, "cursor")
    older = (row for row in newest_first if before is None or number(row) < before)
    page = list(islice(older, limit + 1))
    return page[:limit], str(number(page[limit - 1])) if len(page) > limit else ""


def known_symbol(desk: Desk, query: Query) -> str:
    """Read a symbol that is or was listed."""
    symbol = str(query.get("symbol", ""))
    if desk.exchange.listed(symbol) is None:
        raise BybitError(10001, "params error: symbol invalid")
    return symbol


Answer = Callable[[Desk, KeySettings, Query], Any]
ROUTES: Final[Mapping[str, Answer]] = {
    "/v5/user/query-api": key_facts,
    "/v5/account/info": account_facts,
    "/v5/account/query-dcp-info": dcp_facts,
    "/v5/account/fee-rate": fee_rates,
    "/v5/order/realtime": orders_now,
    "/v5/order/history": order_history,
    "/v5/execution/list": executions,
    "/v5/position/list": positions,
    "/v5/account/wallet-balance": wallet,
    "/v5/account/transaction-log": statement,
}


def answer(desk: Desk, who: KeySettings, path: str, query: Query) -> Any:
    """Answer one question; of other kinds of contracts there is never anything."""
    if query.get("category") in OTHER_CATEGORIES:
        return {"category": query["category"], "list": [], "nextPageCursor": ""}
    return ROUTES[path](desk, who, query)
