"""Hold a book against the bank's statement, every line of it, to the last digit.

What "to the last digit" means. A venue rounds each realised gain to eight digits, and our ledger
never rounds. So three things are asked, each exactly:

1. Commissions (in each currency), funding with liquidation fees and insurance, transfers: the sum
   of the statement's lines of that kind is our total.
2. Every line of realised gain is the exact gain of its trade, rounded half to even to eight digits;
   the exact gain is worked out here from quantities and prices alone.
3. Our cash in each currency is the statement's, less the cost of what is open, less the sum of
   those roundings, which is known from (2) and is not an allowance.

A book that began on an account where others had traded took over what it was told then: the
`adopted` snapshot. The statement is compared from there on, and what was told is compared too:

4. Its quantities are those of all trades up to then. Its cash is what the statement had summed up
   to then, less what was open; by how much a venue may be off there, because it rounds entry
   prices, the snapshot itself says, and by how much it was off is known: that very amount stays in
   our cash for ever, so (3) is exact still. It counts among the transfers of (1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import Income, IncomeKind, Trade
from daemon.domain.instrument import InstrumentKey
from daemon.domain.portfolio import AccountSnapshot, Ledger

EVERYTHING: Final = 10**9
ZERO: Final = Decimal(0)
DIGITS: Final = Decimal("1e-8")
CARRIED: Final = (IncomeKind.FUNDING, IncomeKind.LIQUIDATION_FEE, IncomeKind.INSURANCE)


def check_statement(
    ledger: Ledger, bank: Bank, key: str, adopted: AccountSnapshot | None = None
) -> None:
    """Fail with every line on which the book and the statement of an account differ.

    adopted: what the book began with, needed where the account had traded before.
    """
    found = statement_differences(ledger, bank, key, adopted)
    assert not found, "; ".join(found)


def statement_differences(
    ledger: Ledger, bank: Bank, key: str, adopted: AccountSnapshot | None = None
) -> list[str]:
    """List what differs between a book of one venue and the statement of an account, by name."""
    told = [t for symbol in bank.rules for t in bank.trades(key, symbol, limit=EVERYTHING)]
    trades = sorted(told, key=lambda one: one.trade_id)
    lines = bank.income(key, since_ms=0, limit=EVERYTHING)
    before, after = _divided(trades, adopted)
    replayed = Replayed()
    for trade in trades:
        replayed.take(trade)
    olds = {trade.trade_id for trade in before}
    begun_ms = -1 if adopted is None else adopted.at_ms
    old_lines = [x for x in lines if (x.trade_id in olds if x.trade_id else x.at_ms <= begun_ms)]
    taken = Taken(before, old_lines, bank, adopted)
    pairs = [
        *taken.differences(),
        *_totals(ledger, [x for x in lines if x not in old_lines], taken),
        *_gains(replayed, lines),
        *_held(ledger, bank, key),
        ("trades", Decimal(ledger.fills), Decimal(len(after))),
        *_cash(ledger, bank, key, replayed, taken),
    ]
    return [f"{name}: ours {ours}, the venue's {theirs}" for name, ours, theirs in pairs
            if ours != theirs]  # fmt: skip


def _divided(
    trades: Sequence[Trade], adopted: AccountSnapshot | None
) -> tuple[Sequence[Trade], Sequence[Trade]]:
    """Part the trades before a book began from those after.

    Market time may stand still while the book begins and trades. Of its trades at that very
    millisecond as many came before as make up the quantities that were adopted.
    """
    if adopted is None:
        return (), trades
    told = {_symbol(k): q for k, q in adopted.quantities.items()}
    first = sum(trade.at_ms < adopted.at_ms for trade in trades)
    last = sum(trade.at_ms <= adopted.at_ms for trade in trades)
    for count in range(first, last + 1):
        if _quantities(trades[:count]) == told:
            return trades[:count], trades[count:]
    return trades[:last], trades[last:]


def _quantities(trades: Sequence[Trade]) -> dict[str, Decimal]:
    held: dict[str, Decimal] = defaultdict(Decimal)
    for trade in trades:
        held[trade.symbol] += trade.quantity
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


class Replayed:
    """Work out positions and gains from quantities and prices, as a venue with rounded gains."""

    def __init__(self) -> None:
        self.quantity: dict[str, Decimal] = defaultdict(Decimal)
        self.cost: dict[str, Decimal] = defaultdict(Decimal)
        self.gains: dict[int, Decimal] = {}
        self.rounded: dict[str, Decimal] = defaultdict(Decimal)  # by contract, kept by the venue

    def take(self, trade: Trade) -> None:
        """Book one trade."""
        name, held = trade.symbol, self.quantity[trade.symbol]
        paid = trade.quantity * trade.price
        self.quantity[name] = held + trade.quantity
        if not held or (held > 0) == (trade.quantity > 0):
            self.cost[name] += paid
            return
        closed = min(abs(held), abs(trade.quantity))
        sold = -closed * trade.price if held > 0 else closed * trade.price
        whole = closed == abs(held)
        released = self.cost[name] if whole else self.cost[name] * closed / abs(held)
        exact = -(released + sold)
        gain = exact.quantize(DIGITS, rounding=ROUND_HALF_EVEN)
        self.gains[trade.trade_id] = gain
        if not whole:
            self.cost[name] += paid + gain  # what was rounded stays in the cost
            return
        self.rounded[name] += gain - exact
        self.cost[name] = self.quantity[name] * trade.price


Pair = tuple[str, Decimal, Decimal]


class Taken:
    """Hold what a book took over at its beginning against the statement up to then."""

    def __init__(
        self,
        trades: Sequence[Trade],
        lines: Sequence[Income],
        bank: Bank,
        adopted: AccountSnapshot | None,
    ) -> None:
        self._before = before = Replayed()
        self._adopted = adopted
        self.cash: dict[str, Decimal] = defaultdict(Decimal)  # as we were told
        self.exact: dict[str, Decimal] = defaultdict(Decimal)  # as the statement says
        if adopted is None:
            return
        for trade in trades:
            before.take(trade)
        for told, amount in (*adopted.cash.items(), *adopted.other.items()):
            self.cash[told.currency] += amount
        for line in lines:
            self.exact[line.currency] += line.amount
        for symbol in before.quantity:
            open_cost = before.cost[symbol] + before.rounded[symbol]
            self.exact[bank.rules[symbol].currency] -= open_cost

    def differences(self) -> list[Pair]:
        """Compare quantities exactly, and cash to what the venue's rounding of it may be."""
        if self._adopted is None:
            return []
        told = {_symbol(k): q for k, q in self._adopted.quantities.items()}
        names = sorted({*told, *self._before.quantity})
        found = [
            (f"adopted position {n}", told.get(n, ZERO), self._before.quantity[n]) for n in names
        ]
        room: dict[str, Decimal] = defaultdict(Decimal)
        for key, amount in self._adopted.cash_rounding.items():
            room[key.currency] += amount
        return found + [
            (f"adopted cash in {currency}", self.cash[currency], self.exact[currency])
            for currency in sorted({*self.cash, *self.exact})
            if abs(self.off_by(currency)) > room[currency]
        ]

    def off_by(self, currency: str) -> Decimal:
        """Give by how much the venue's word was off when the book began."""
        return self.cash[currency] - self.exact[currency]


def _symbol(key: InstrumentKey) -> str:
    return key.symbol.partition(":")[0].replace("/", "")


def _totals(ledger: Ledger, lines: Sequence[Income], taken: Taken) -> list[Pair]:
    quote = {key.currency for key in ledger.cash}

    def total(*kinds: IncomeKind) -> Decimal:
        return sum((x.amount for x in lines if x.kind in kinds and x.currency in quote), ZERO)

    paid_in = total(IncomeKind.TRANSFER) + sum((taken.cash[c] for c in quote), ZERO)
    found = [
        ("commission", -ledger.fees, total(IncomeKind.COMMISSION)),
        ("funding and charges", ledger.funding, total(*CARRIED)),
        ("transfers", ledger.transfers, paid_in),
        ("adjustments", ledger.adjustments, ZERO),
    ]
    fees = [x for x in lines if x.kind is IncomeKind.COMMISSION and x.currency not in quote]
    for currency in sorted({*(x.currency for x in fees), *(k[1] for k in ledger.other_fees)}):
        ours = sum((v for k, v in ledger.other_fees.items() if k.currency == currency), ZERO)
        theirs = sum((x.amount for x in fees if x.currency == currency), ZERO)
        found.append((f"commission in {currency}", -ours, theirs))
    return found


def _gains(replayed: Replayed, lines: Sequence[Income]) -> list[Pair]:
    told = {x.trade_id: x.amount for x in lines if x.kind is IncomeKind.REALISED}
    ours = {trade: gain for trade, gain in replayed.gains.items() if gain}
    names = sorted({*told, *ours}, key=lambda one: one or 0)
    return [(f"gain of trade {n}", ours.get(n or 0, ZERO), told.get(n, ZERO)) for n in names]


def _held(ledger: Ledger, bank: Bank, key: str) -> list[Pair]:
    theirs = {view.symbol: view.position.quantity for view in bank.positions(key)}
    ours = {_symbol(k): p.quantity for k, p in ledger.positions.items()}
    names = sorted({*theirs, *ours})
    return [(f"position {n}", ours.get(n, ZERO), theirs.get(n, ZERO)) for n in names]


def _cash(ledger: Ledger, bank: Bank, key: str, replayed: Replayed, taken: Taken) -> list[Pair]:
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for view in bank.positions(key):
        costs[bank.rules[view.symbol].currency] += view.position.cost
    for symbol, rounded in replayed.rounded.items():
        costs[bank.rules[symbol].currency] += rounded
    both = {**ledger.cash, **ledger.other}
    venues = {one.venue for one in both}
    assert len(venues) <= 1, f"a statement is of one venue, the book is at {venues}"
    found: list[Pair] = []
    for currency in sorted({*bank.currencies(key), *(k.currency for k in both)}):
        ours = sum((v for k, v in both.items() if k.currency == currency), ZERO)
        theirs = bank.balance(key, currency).cash - costs[currency] + taken.off_by(currency)
        found.append((f"cash in {currency}", ours, theirs))
    return found
