"""Fees that a venue charges in its own coin: booked exactly, and valued at its mark."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from adapters.rehearsal.bank.terms import BankSettings
from daemon.domain.instrument import CashKey
from daemon.domain.messages import Alert, AlertKind, OrderFilled
from daemon.engine.ledgers import price_of
from tests.e2e.live_rig import (
    KEY,
    bank_of,
    decided_n,
    exchange,
    live_settings,
    run_live,
)
from tests.simulation.statement import check_statement, statement_differences

VENUE = "binanceusdm"
COIN = CashKey(VENUE, "BNB")


async def test_fees_in_bnb_are_booked_there_and_cash_in_each_currency_is_the_statements(
    tmp_path: Path,
) -> None:
    async with exchange(VENUE, bank=BankSettings(fee_coin="BNB")) as running:
        bank, settings = bank_of(running), live_settings(running, tmp_path / "state")
        bank.transfer(KEY, "BNB", Decimal("0.02"))  # enough for some fees, not for all
        seen = await run_live(settings, lambda s: decided_n(s) >= 6)
        told = {e.fill.trade_id: e.fill for e in seen.events if isinstance(e, OrderFilled)}
        fills = list(told.values())  # some are told twice
        charged = [f for f in fills if f.other_currency]
        assert charged
        assert any(f.fee for f in fills), "the coin was used up, and the rest is in USDT"
        ledger = seen.ledger
        assert ledger is not None
        assert ledger.other_fees[COIN] == sum(f.other_fee for f in charged)
        assert ledger.other[COIN] == bank.balance(KEY, "BNB").cash
        check_statement(ledger, bank, KEY)
        wrong = ledger.other_fees[COIN]
        ledger.other_fees[COIN] = wrong + Decimal("1e-8")
        (found,) = statement_differences(ledger, bank, KEY)
        assert found.startswith("commission in BNB: ours")
        ledger.other_fees[COIN] = wrong
        assert seen.engine is not None
        book = seen.engine.state.book
        expected = float(ledger.other[COIN]) * price_of("BNB", book.universe, book.prices)
        assert book.other_value == expected > 0
        assert book.equity == book.cash + book.net + expected


async def test_coins_that_come_while_the_daemon_is_away_are_transfers_and_never_halt(
    tmp_path: Path,
) -> None:
    async with exchange(VENUE, bank=BankSettings(fee_coin="BNB")) as running:
        bank, settings = bank_of(running), live_settings(running, tmp_path / "state")
        await run_live(settings, lambda s: decided_n(s) >= 2)
        bank.transfer(KEY, "BNB", Decimal("7.25"))
        seen = await run_live(settings, lambda s: decided_n(s) >= 3)
        kinds = [c.kind for c in seen.commands if isinstance(c, Alert)]
        assert AlertKind.HALTED not in kinds
        assert seen.ledger is not None
        check_statement(seen.ledger, bank, KEY)
        again = await run_live(settings, lambda s: decided_n(s) >= 1)
        assert again.ledger is not None
        check_statement(again.ledger, bank, KEY)
