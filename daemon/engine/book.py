"""The book: exact ledger, its float mirror, marks, and exposure at the worst case of open orders.

Decisions read the float mirror; every amount that is owed lives in the ledger. `check_mirror` holds
the two together at each decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, cast

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import (
    CashKey,
    Instrument,
    InstrumentKey,
    Standing,
    Universe,
)
from daemon.domain.order import Fill
from daemon.domain.portfolio import Ledger, Position
from daemon.domain.scales import rescaled_quantity
from daemon.engine.betas import BetaExposure
from daemon.engine.instruments import as_saved, instrument_to_plain
from daemon.engine.ledgers import ledger_from_plain, ledger_to_plain, value_of
from daemon.engine.outside import Outside, settled_in

MIRROR_TOLERANCE: Final = 1e-9  # of gross plus equity
SAME: Final = 1.0 + 1e-12  # sums of floats that should be equal are, up to this factor
UNKNOWN: Final = -1  # before every instant
RESIDUE: Final = 1e-9  # of an order: less than any lot, more than any rounding
REREAD_EVERY: Final = 32  # checks of the mirror
_TRADING: Final = Standing.TRADING


class Book:
    """Hold positions, cash, marks and what open orders may still change.

    quantity, marks, mark_ms: (N,). marks is NaN before the first bar of an instrument; the array is
    never changed in place, so that whoever was handed it keeps what he saw. held and prices: the
    same as lists, because orders read single numbers, which arrays give slowly. pending_buy and
    pending_sell: base units by index that open orders may still trade (both >= 0).
    """

    def __init__(self, universe: Universe) -> None:
        n = len(universe)
        self.universe = universe
        self.ledger = Ledger()
        self.cash = 0.0
        self.other_value = 0.0  # of the ledger's other currencies, where a mark is known
        self.quantity = np.zeros(n)
        self.marks = np.full(n, np.nan)
        self.mark_ms = np.zeros(n, dtype=np.int64)
        self.held = [0.0] * n
        self.prices = [float("nan")] * n
        self.pending_buy = [0.0] * n
        self.pending_sell = [0.0] * n
        self._pending: set[int] = set()  # all indices where one of the two is not zero
        self._sizes = np.zeros(n)  # |quantity|
        self._valued = np.zeros(n)  # marks with 0 where unknown
        self._values = [0.0] * n  # the same as a list
        self._newest_ms = 0  # the newest mark of all
        self._whole_ms = UNKNOWN  # the close that all marks are of, where they are of one
        self._everyone = np.ones(n, dtype=np.bool_)
        self._everyone.flags.writeable = False
        self._weights: Floats | None = None  # kept while nothing that they depend on changes
        self.net = 0.0  # quote currency, signed
        self.pending_up = 0.0  # notional that open buys may still add
        self.pending_down = 0.0  # notional that open sells may still take off
        self.worst = [0.0] * n  # largest |quantity| that open orders could lead to
        self.gross_worst = 0.0  # its value, quote currency
        self.net_weight_worst = 0.0  # largest |net| / equity after any single fill so far
        self.beta: BetaExposure | None = None  # counted where a limit asks for it
        self.outside = Outside()  # what the account has beside the universe
        self.shortfall = 0.0  # quote currency lost between the mark of sizing and the fill
        self._cash_keys = [i.cash_key for i in universe.instruments]
        standings = [Standing.GONE if i.is_spare else _TRADING for i in universe.instruments]
        self._said = [*map(int, standings)]  # by the venue
        self._ripe = [True] * n  # by our own rules
        self._doubted: set[int] = set()  # whose price is doubted
        self._held_back: frozenset[int] = frozenset()  # whose venue is held: they only reduce
        self.standing = self._said.copy()
        self.all_trade = not any(self.standing)  # nobody's standing but TRADING
        # The ledger's positions that `held` was read from: they never change, new ones take their
        # place, so that the same object is the same number.
        self._read: dict[InstrumentKey, Position] = {}
        self._checks_n = 0

    def mark(self, close_ms: int, closes: Floats) -> None:
        """Take the closes of the bars that closed at `close_ms`; NaN leaves the old mark."""
        marks = closes.copy()
        prices = marks.tolist()
        total = sum(prices)  # a number if all are: asked in this way for a third of the price
        if total == total and close_ms >= self._newest_ms:
            self._newest_ms = self._whole_ms = close_ms
            self.marks = self._valued = marks
            self.prices = self._values = prices
            self.mark_ms.fill(close_ms)
        else:
            self._mark_some(close_ms, marks)
        self._recount()

    def _mark_some(self, close_ms: int, closes: Floats) -> None:
        fresh = closes == closes
        if close_ms < self._newest_ms:
            fresh &= self.mark_ms <= close_ms
        self._newest_ms, self._whole_ms = max(self._newest_ms, close_ms), UNKNOWN
        self.marks = np.where(fresh, closes, self.marks)
        self.mark_ms[fresh] = close_ms
        self._value()

    def stand(self, index: int, instrument: Instrument, standing: Standing) -> None:
        """Take what a venue now says of an instrument; a spare column becomes one."""
        self.universe = self.universe.with_instrument(index, instrument)
        self._cash_keys[index] = instrument.cash_key
        self._said[index] = int(standing)
        self._stand(index)
        if instrument.key in self.outside.held:  # it was held before it had a column
            self.quantity[index] = self.held[index] = self.outside.held[instrument.key]
            self._sizes = np.abs(self.quantity)
            self.recount_outside()

    def ripen(self, index: int, *, ripe: bool) -> bool:
        """Take our own word on age and liquidity; tell whether the standing changed by it."""
        if self._ripe[index] == ripe:
            return False
        before, self._ripe[index] = self.standing_of_its_own(index), ripe
        self._stand(index)
        return self.standing_of_its_own(index) != before

    def doubt(self, index: int, *, doubted: bool) -> None:
        """Let an instrument stand still while its price is doubted."""
        (self._doubted.add if doubted else self._doubted.discard)(index)
        self._stand(index)

    def hold_back(self, indices: frozenset[int]) -> frozenset[int]:
        """Let these only reduce, and those no more that did before; give the new ones.

        Not as one that its venue has halted, what is held here need not go: it may be kept.
        """
        before, self._held_back = self._held_back, indices
        for index in before ^ indices:
            self._stand(index)
        return indices - before

    def held_back(self) -> Flags | None:
        """Tell what only reduces because its venue is held, (N,); None where nothing is."""
        if not self._held_back:
            return None
        flags = np.zeros(len(self.held), dtype=np.bool_)
        flags[list(self._held_back)] = True
        return flags

    def standing_of_its_own(self, index: int) -> Standing:
        """Give the standing that an instrument has, or would have if nothing held its venue."""
        return Standing.TRADING if self._only_held_back(index) else Standing(self.standing[index])

    def _only_held_back(self, index: int) -> bool:
        """Tell whether an instrument would trade, were its venue not held."""
        reduces = self.standing[index] == int(Standing.REDUCE_ONLY)
        return reduces and self._said[index] == int(Standing.TRADING)

    def _stand(self, index: int) -> None:
        """Let the venue's word count, and where it lets trade, ours."""
        ripe = self._said[index] or self._ripe[index]
        self.standing[index] = self._said[index] if ripe else int(Standing.UNRIPE)
        if index in self._doubted and self._said[index] != int(Standing.GONE):
            self.standing[index] = int(Standing.DOUBTED)
        if index in self._held_back and self.standing[index] == int(Standing.TRADING):
            self.standing[index] = int(Standing.REDUCE_ONLY)
        self.all_trade = not any(self.standing)

    def stands(self, standing: Standing) -> Flags:
        """Tell whose standing is this, (N,)."""
        flags: Flags = np.equal(self.standing, int(standing))
        return flags

    def eligible(self, oldest_ms: int) -> Flags:
        """Tell what may be held, (N,), not to be written to.

        That is what trades and has a positive mark from `oldest_ms` or later. At a venue that is
        held it is what we have there: it need not go, and nobody should count on what we have not.
        """
        if not self.all_trade:
            known, may = (self.marks > 0) & (self.mark_ms >= oldest_ms), self.stands(_TRADING)
            kept = [i for i in self._held_back if self.held[i] and self._only_held_back(i)]
            may[kept] = True
            return known & may
        if self._whole_ms >= oldest_ms and min(self.prices) > 0:
            return self._everyone
        return (self.marks > 0) & (self.mark_ms >= oldest_ms)

    def stale(self, oldest_ms: int) -> Flags | None:
        """Tell what is held at a mark from before `oldest_ms`, (N,); None where nothing is."""
        if self._whole_ms >= oldest_ms:
            return None
        stale: Flags = (self.mark_ms < oldest_ms) & (self.quantity != 0.0)
        return stale if stale.any() else None

    def _value(self) -> None:
        self._valued = np.where(self.marks == self.marks, self.marks, 0.0)
        self.prices, self._values = self.marks.tolist(), self._valued.tolist()

    def _recount(self) -> None:
        self._weights = None
        outside = self.outside
        if self.ledger.other:
            self._value_other()
        self.net = float(self.quantity.dot(self._valued)) + outside.net
        self.worst = list(map(abs, self.held))
        self.gross_worst = float(self._sizes.dot(self._valued)) + outside.worst
        self.pending_up, self.pending_down = outside.up, outside.down
        if self._pending:
            self._recount_pending()
        if self.beta is not None:
            self._recount_beta()

    def count_beta(self, betas: list[float] | None = None) -> None:
        """Count beta exposure from now on, with these betas (N,) where they are given."""
        self.beta = self.beta or BetaExposure(len(self.held))
        self.beta.betas = betas or self.beta.betas
        self._recount_beta()

    def _recount_beta(self) -> None:
        if self.beta is not None:
            sides = self.pending_buy, self.pending_sell
            self.beta.recount(self.held, self._values, *sides, self._pending)
            self.beta.add(self.outside.net, self.outside.up, self.outside.down)

    def _recount_pending(self) -> None:
        for index in sorted(self._pending):  # sums of floats depend on their order
            self.pending_up += self.pending_buy[index] * self._values[index]
            self.pending_down += self.pending_sell[index] * self._values[index]
            self._renew_worst(index)

    def _renew_worst(self, index: int) -> None:
        held = self.held[index]
        worst = max(held + self.pending_buy[index], self.pending_sell[index] - held)
        self.gross_worst += (worst - self.worst[index]) * self._values[index]
        self.worst[index] = worst

    def worst_name_and_gross(self, index: int, quantity: float) -> tuple[float, float]:
        """Give the worst notional of one name and of the book if `quantity` were sent as well."""
        held, mark = self.held[index], self._values[index]
        up, down = held + self.pending_buy[index], held - self.pending_sell[index]
        if quantity > 0.0:
            up += quantity
        else:
            down += quantity
        worst = max(abs(up), abs(down))
        gross = self.gross_worst + (worst - self.worst[index]) * mark
        return worst * mark, gross

    def worst_at(self, venue: str, index: int, quantity: float) -> float:
        """Give the worst gross notional at one venue if `quantity` were sent as well."""
        name, _ = self.worst_name_and_gross(index, quantity)
        columns = enumerate(self.universe.instruments)
        others = [n for n, i in columns if i.key.venue == venue and n != index]
        here = sum(self.worst[n] * self._values[n] for n in others)
        return name + here + self.outside.worst_at(venue)

    def reduces(self, index: int, quantity: float) -> bool:
        """Tell whether a trade only lessens a position, also when all open orders fill first."""
        held = self.held[index]
        if held * quantity >= 0:
            return False
        pending = self.pending_sell[index] if held > 0 else self.pending_buy[index]
        return pending + abs(quantity) <= abs(held) * SAME

    @property
    def equity(self) -> float:
        """Give cash, other currencies and positions at their marks, in quote currency."""
        return self.cash + self.net + self.other_value

    @property
    def gross(self) -> float:
        """Give the sum of absolute position values, in quote currency."""
        return float(self._sizes.dot(self._valued)) + self.outside.gross

    def weights(self) -> Floats:
        """Give signed fractions of equity, (N,), not to be written to; zero equity is refused."""
        if self._weights is not None:
            return self._weights
        equity = self.equity
        if not equity > 0:
            raise InvariantViolated(f"equity {equity:.2f} is not positive: weights are undefined")
        weights: Floats = self.quantity * self._valued / equity
        weights.flags.writeable = False
        self._weights = weights
        return weights

    def worst_net(self) -> tuple[float, float]:
        """Give the highest and lowest net notional that any subset of fills could reach."""
        return self.net + self.pending_up, self.net - self.pending_down

    def reserve(self, index: int, quantity: float) -> None:
        """Count an order's signed quantity from the moment it may reach the venue."""
        self._pend(index, quantity, 1.0)

    def release(self, index: int, left: Decimal) -> None:
        """Stop counting what an ended order can no longer trade."""
        self._pend(index, float(left), -1.0)

    def _pend(self, index: int, quantity: float, sign: float) -> None:
        """Add (sign +1) or take off (sign -1) a signed quantity that an order may trade."""
        change = sign * quantity
        value, held = self._values[index], self.held[index]
        buy, sell = self.pending_buy[index], self.pending_sell[index]
        # Plain comparisons, because max() takes five times as long. Nothing pends below zero, and
        # what roundings leave of an order that is through is nothing: a crumb of a position could
        # otherwise never be told to close.
        if quantity > 0:
            buy += change
            self.pending_buy[index] = buy = buy if buy > RESIDUE * quantity else 0.0
            up = self.pending_up + change * value
            self.pending_up = up if up > 0.0 else 0.0  # noqa: FURB136
        else:
            sell -= change
            self.pending_sell[index] = sell = sell if sell > -RESIDUE * quantity else 0.0
            down = self.pending_down - change * value
            self.pending_down = down if down > 0.0 else 0.0  # noqa: FURB136
        if self.beta is not None:
            self.beta.pend(index, quantity * value, sign)
        if buy or sell:
            self._pending.add(index)
        else:
            self._pending.discard(index)
        longest, shortest = held + buy, sell - held  # as in _renew_worst
        worst = shortest if shortest > longest else longest  # noqa: FURB136
        self.gross_worst += (worst - self.worst[index]) * value
        self.worst[index] = worst

    def fill(self, fill: Fill, quantity: float, reference_price: float, *, reserved: bool) -> None:
        """Book a fill in the ledger and in the mirror; reference_price is what it was sized at.

        quantity: that of the fill as a float. reserved: an order of ours was counted at its worst
        case for this quantity.
        """
        index, ledger = fill.index, self.ledger
        key = self._cash_keys[index]
        self._read[fill.key] = position = ledger.apply_fill(fill, key)
        left = position.quantity
        self.quantity[index] = self.held[index] = held = float(left) if left else 0.0
        self._sizes[index] = abs(held)
        self._weights = None
        self.cash = cash = float(ledger.cash[key]) if len(ledger.cash) == 1 else self._cash()
        if fill.other_currency:
            self._value_other()
        self.net = net = self.net + quantity * self._values[index]
        if reserved:
            self._pend(index, quantity, -1.0)
        else:
            self._renew_worst(index)
        self.shortfall += quantity * (float(fill.price) - reference_price)
        equity = cash + net + self.other_value
        if equity > 0 and abs(net) > self.net_weight_worst * equity:
            self.net_weight_worst = abs(net) / equity
        if self.beta is not None:
            self.beta.filled(index, quantity * self._values[index], equity)

    def cash_flow(self, cash_key: CashKey, amount: Decimal, *, funding: bool) -> None:
        """Book funding (funding=True) or a transfer."""
        if cash_key not in self._cash_keys:
            self.ledger.apply_other(cash_key, amount)
            self._value_other()
        elif funding:
            self.ledger.apply_funding(cash_key, amount)
        else:
            self.ledger.apply_transfer(cash_key, amount)
        self._weights = None
        self.cash = self._cash()

    def fill_outside(self, fill: Fill) -> None:
        """Book a fill in a contract that is not of the universe."""
        self.outside.marks.setdefault(fill.key, float(fill.price))
        self._read[fill.key] = self.ledger.apply_fill(fill, settled_in(fill.key))
        self.cash = self._cash()
        self.recount_outside()

    def recount_outside(self) -> None:
        """Count what is held and rests beside the universe, after any of it changed."""
        self.outside.recount(self.ledger, self.universe.index)
        self._recount()

    def _value_other(self) -> None:
        """Value other currencies at the mark of a contract of theirs; 0 where there is none."""
        self.other_value = value_of(self.ledger.other, self.universe, self._values)
        self._weights = None

    def adjust(self, key: InstrumentKey, quantity: Decimal) -> None:
        """Adopt a position difference to the venue as an explicit adjustment."""
        index = self.universe.index.get(key)
        if index is None:
            self.ledger.apply_adjustment(key, settled_in(key), quantity, Decimal(0))
            self._read[key] = self.ledger.positions[key]
            self.recount_outside()
            return
        self.ledger.apply_adjustment(key, self._cash_keys[index], quantity, Decimal(0))
        self._read[key] = position = self.ledger.positions[key]
        self.quantity[index] = self.held[index] = float(position.quantity)
        self._sizes = np.abs(self.quantity)
        self._recount()

    def rescale(self, index: int, at_ms: int, new_n: int, old_n: int) -> None:
        """Count an instrument in new units: its position exactly, its mark if it is of before."""
        key = self.universe.instruments[index].key
        if self.mark_ms[index] <= at_ms:
            marks = self.marks.copy()
            marks[index] = marks[index] * old_n / new_n
            self.marks = marks
            self._value()
        if held := self.ledger.quantity(key):
            self.adjust(key, rescaled_quantity(held, new_n, old_n) - held)
        else:
            self._recount()

    def _cash(self) -> float:
        amounts = self.ledger.cash.values()
        return float(sum(amounts, Decimal(0))) if len(amounts) != 1 else float(*amounts)

    def check_mirror(self) -> None:
        """Hold the float mirror against the ledger; raise InvariantViolated beyond 1e-9.

        Reading a Decimal is slow, so that most checks only ask whether the mirror was read from the
        positions that the ledger holds; every thirty-second reads them all again.
        """
        if self._checks_n % REREAD_EVERY == 0 or self._read != self.ledger.positions:
            self._reread()
        self._checks_n += 1
        exact = self._cash() + float(self.quantity.dot(self._valued)) + self.outside.net
        gap = abs(exact - self.cash - self.net)
        if not gap <= MIRROR_TOLERANCE * max(abs(exact) + self.gross_worst, 1.0):
            raise InvariantViolated(f"float book is {gap} off the ledger")

    def _reread(self) -> None:
        for key, position in self.ledger.positions.items():
            index, exact = self.universe.index.get(key), float(position.quantity)
            held = self.outside.held.get(key, 0.0) if index is None else self.held[index]
            if held != exact or (index is not None and self.quantity[index] != exact):
                raise InvariantViolated(f"float book is off the ledger: {key} {held}, {exact}")
        self._read = self.ledger.positions.copy()

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            **ledger_to_plain(self.ledger),
            "said": self._said,
            "ripe": self._ripe,
            "instruments": [instrument_to_plain(i) for i in self.universe.instruments],
            "net_weight_worst": self.net_weight_worst,
            "shortfall": self.shortfall,
            "marks": self.marks,
            "mark_ms": self.mark_ms,
            "exposure": {name: getattr(self, name) for name in _EXPOSURE},
            "beta": None if self.beta is None else self.beta.to_plain(),
            "outside": self.outside.to_plain(),
        }

    def restore(self, plain: Mapping[str, object]) -> None:
        """Rebuild the book to the last bit: what was summed up step by step is not summed anew.

        Raises InvariantViolated where it is of other instruments, save that contracts may have
        taken spare columns since.
        """
        self.universe = as_saved(self.universe, cast(list[list[Any]], plain["instruments"]))
        self._cash_keys = [i.cash_key for i in self.universe.instruments]
        self.ledger = ledger = ledger_from_plain(plain)
        self._read, self._checks_n = {}, 0
        self.cash = self._cash()
        self.net_weight_worst = cast(float, plain["net_weight_worst"])
        self.shortfall = cast(float, plain["shortfall"])
        self.marks = np.array(plain["marks"], dtype=np.float64)
        self.mark_ms = np.array(plain["mark_ms"], dtype=np.int64)
        self._newest_ms, self._whole_ms = int(self.mark_ms.max()), UNKNOWN
        self._value()
        self._value_other()
        self.held = [float(ledger.quantity(i.key)) for i in self.universe.instruments]
        self.quantity = np.array(self.held)
        self._sizes = np.abs(self.quantity)
        self.outside.restore(cast(dict[str, object], plain["outside"]))
        self.outside.recount(ledger, self.universe.index)
        for name, value in cast(dict[str, float | list[float]], plain["exposure"]).items():
            setattr(self, name, list(value) if isinstance(value, list) else value)
        self._said = list(cast(list[int], plain["said"]))
        self._ripe = list(cast(list[bool], plain["ripe"]))
        for index in range(len(self._said)):
            self._stand(index)
        sides = zip(self.pending_buy, self.pending_sell, strict=True)
        self._pending = {i for i, (buy, sell) in enumerate(sides) if buy or sell}
        beta = cast(dict[str, object] | None, plain["beta"])
        self.beta = None if beta is None else BetaExposure.from_plain(beta)


# What fills and orders move step by step: its last bits depend on the steps.
_SIDES: Final = ("pending_up", "pending_down", "pending_buy", "pending_sell")
_EXPOSURE: Final = ("net", *_SIDES, "worst", "gross_worst")
