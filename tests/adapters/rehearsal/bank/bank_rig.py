"""A planned market and short words for bank tests: what happens is written out, or drawn."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import BankEvent, BankOrder
from adapters.rehearsal.bank.terms import (
    BankSettings,
    FundingSettlement,
    OrderRequest,
    PublicPrint,
    Refusal,
    RefusalReason,
    SymbolRules,
    TimeInForce,
)
from daemon.domain.order import OrderKind

D = Decimal
BTC, ETH = "BTCUSDT", "ETHUSDT"
USDT = "USDT"
KEY, OTHER = "key-one", "key-two"
E = TypeVar("E", bound=BankEvent)


class PlannedQuotes:
    """Show prints and settlements that were planned: rows of (at_ms, price, quantity)."""

    def __init__(
        self,
        prints: Mapping[str, Sequence[tuple[int, str, str]]],
        settlements: Mapping[str, Sequence[tuple[int, str]]] | None = None,
    ) -> None:
        self._prints = {
            symbol: [PublicPrint(t, D(p), D(q)) for t, p, q in rows]
            for symbol, rows in prints.items()
        }
        self._settlements = {
            symbol: [FundingSettlement(t, D(r)) for t, r in rows]
            for symbol, rows in (settlements or {}).items()
        }

    def last_price(self, symbol: str, now_ms: int) -> Decimal | None:
        """Give the price of the last print by now."""
        seen = [one.price for one in self._prints.get(symbol, ()) if one.at_ms <= now_ms]
        return seen[-1] if seen else None

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> list[PublicPrint]:
        """List the prints of (after, until]."""
        return [p for p in self._prints.get(symbol, ()) if after_ms < p.at_ms <= until_ms]

    def settlements(self, symbol: str, after_ms: int, until_ms: int) -> list[FundingSettlement]:
        """List the settlements of (after, until]."""
        found = self._settlements.get(symbol, ())
        return [one for one in found if after_ms < one.at_ms <= until_ms]


def rules(*, delisted_ms: int | None = None) -> dict[str, SymbolRules]:
    """Give two symbols: steps 0.1 and 0.001, least notional 5; ETH may end."""
    common = (USDT, D("0.1"), D("0.001"), D("0.001"), D(5), 0)
    return {BTC: SymbolRules(BTC, *common), ETH: SymbolRules(ETH, *common, delisted_ms)}


# one level is worth 1000 USDT on average, quotes lie 1 USDT from 1000
PLAIN = BankSettings(
    maker_fee_bps=D(2),
    taker_fee_bps=D(5),
    half_spread_bps=D(10),
    level_bps=D(10),
    depth_notional=D(1_000),
    leverage_first=10,
)


def bank_at(
    *rows: tuple[int, str, str],
    settings: BankSettings = PLAIN,
    funding: Sequence[tuple[int, str]] = (),
    cash: str = "10000",
    delisted_ms: int | None = None,
) -> Bank:
    """Open a bank with two accounts at instant 0; BTC and ETH both print `rows` after 1000 at 0."""
    prints = [(0, "1000", "1"), *rows]
    quotes = PlannedQuotes({BTC: prints, ETH: prints}, {BTC: funding})
    bank = Bank(rules(delisted_ms=delisted_ms), quotes, settings)
    for key in (KEY, OTHER):
        bank.open_account(key, {USDT: D(cash)})
    bank.take_events()
    return bank


def market(quantity: str, symbol: str = BTC, **more: Any) -> OrderRequest:
    """Ask for a market order."""
    return OrderRequest(symbol, D(quantity), OrderKind.MARKET, **more)


def limit(
    quantity: str,
    price: str,
    tif: TimeInForce = TimeInForce.GTC,
    symbol: str = BTC,
    **more: Any,
) -> OrderRequest:
    """Ask for a limit order."""
    return OrderRequest(symbol, D(quantity), OrderKind.LIMIT, D(price), tif, **more)


def placed(bank: Bank, request: OrderRequest, key: str = KEY) -> BankOrder:
    """Place an order that must be admitted."""
    order = bank.place(key, request)
    assert isinstance(order, BankOrder), order
    return order


def now(bank: Bank, order: BankOrder, key: str = KEY) -> BankOrder:
    """Give what became of an order."""
    found = bank.query(key, order.symbol, order_id=order.order_id)
    assert isinstance(found, BankOrder)
    return found


def reason(answer: object) -> RefusalReason | None:
    """Give why an answer is a refusal, None where it is none."""
    return answer.reason if isinstance(answer, Refusal) else None


def held(bank: Bank, symbol: str = BTC, key: str = KEY) -> Decimal:
    """Give the signed quantity held."""
    return sum((v.position.quantity for v in bank.positions(key) if v.symbol == symbol), D(0))


def cash(bank: Bank, key: str = KEY) -> Decimal:
    """Give the cash in USDT."""
    return bank.balance(key, USDT).cash


def of_kind(events: Sequence[BankEvent], kind: type[E]) -> list[E]:
    """Pick the events of one kind."""
    return [one for one in events if isinstance(one, kind)]


def frozen(bank: Bank) -> bytes:
    """Write the whole state as bytes."""
    return msgspec.json.encode(bank.snapshot(), order="deterministic")
