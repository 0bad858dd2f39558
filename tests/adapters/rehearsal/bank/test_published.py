"""The bank against the real public half: exact figures, the market's own rules and funding."""

from decimal import Decimal

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.published import PublishedQuotes, exact, rules_of
from adapters.rehearsal.bank.records import BankOrder, IncomeKind, OrderStatus
from adapters.rehearsal.bank.terms import BankSettings, OrderRequest
from adapters.rehearsal.publication import Publication
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.order import OrderKind
from daemon.domain.units import HOUR_MS, MINUTE_MS, quantise

ORIGIN_MS = 1_704_067_200_000
KEY = "key"


def published() -> tuple[SeededMarket, PublishedQuotes]:
    traits = [traits_of(name, ORIGIN_MS, None) for name in NAMES[:2]]
    market = SeededMarket(traits, seed=5, origin_ms=ORIGIN_MS)
    return market, PublishedQuotes(Publication(market))


def test_a_float_is_read_as_it_is_written() -> None:
    assert exact(0.1) == Decimal("0.1")
    assert exact(1e-7) == Decimal("0.0000001")


def test_prints_and_settlements_are_of_after_to_until() -> None:
    market, quotes = published()
    symbol = next(iter(market.coins))
    end_ms = ORIGIN_MS + 8 * HOUR_MS
    settled = quotes.settlements(symbol, ORIGIN_MS, end_ms)
    assert settled
    first_ms = settled[0].at_ms
    assert quotes.settlements(symbol, first_ms, first_ms) == []
    assert quotes.settlements(symbol, first_ms - 1, first_ms) == settled[:1]
    prints = quotes.prints(symbol, ORIGIN_MS, ORIGIN_MS + HOUR_MS)
    assert quotes.prints(symbol, ORIGIN_MS, prints[3].at_ms) == prints[:4]
    assert quotes.last_price(symbol, prints[3].at_ms) == prints[3].price
    steps = rules_of(market.coins.values())[symbol]
    assert all(one.price % steps.price_step == 0 for one in prints)
    assert all(one.quantity % steps.quantity_step == 0 for one in prints)


def test_a_day_of_trading_on_the_seeded_market_adds_up() -> None:
    market, quotes = published()
    rules = rules_of(market.coins.values())
    bank = Bank(rules, quotes, BankSettings(), start_ms=ORIGIN_MS + 5 * MINUTE_MS)
    bank.open_account(KEY, {"USDT": Decimal(10_000)})
    symbols = list(rules)
    for hour in range(1, 25):
        bank.advance(ORIGIN_MS + hour * HOUR_MS)
        bank.cancel_all(KEY)
        for place, symbol in enumerate(symbols):
            price = quotes.last_price(symbol, bank.now_ms)
            assert price is not None
            sign = 1 if (hour + place) % 2 else -1
            size = sign * quantise(Decimal(300) / price, rules[symbol].quantity_step)
            bid = quantise(price, rules[symbol].price_step) - sign * rules[symbol].price_step
            for request in (
                OrderRequest(symbol, size, OrderKind.LIMIT, bid),
                OrderRequest(symbol, 2 * size, OrderKind.MARKET),
            ):
                assert isinstance(bank.place(KEY, request), BankOrder)
    trades, income = bank.trades(KEY), bank.income(KEY)
    assert sum(line.amount for line in income) == bank.balance(KEY, "USDT").cash
    assert {line.kind for line in income} >= {IncomeKind.FUNDING, IncomeKind.REALISED}
    assert any(t.is_maker for t in trades)
    assert any(not t.is_maker for t in trades)
    filled = [bank.query(KEY, t.symbol, order_id=t.order_id) for t in trades]
    assert any(isinstance(o, BankOrder) and o.status is OrderStatus.FILLED for o in filled)
