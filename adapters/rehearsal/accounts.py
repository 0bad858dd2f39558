"""The private half's core: the bank beside the market, its keys, and who hears what it announces.

Dialects ask `settled()` for the bank before they read or change anything: it first lets everything
happen that is due by the exchange's clock, and hands what that caused to the listeners. Requests
change the bank in the order in which they are handled; `say` hands on what they caused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.published import PublishedQuotes, rules_of
from adapters.rehearsal.bank.records import BankEvent
from adapters.rehearsal.bank.terms import BankSettings, ClientIds
from adapters.rehearsal.market import Coin
from adapters.rehearsal.publication import Publication
from daemon.domain.failures import ConfigurationError

CASH_DEFAULT: Final = "100000"
Listener = Callable[[Sequence[BankEvent]], None]
_ACCEPTED_ACCOUNT: Final = "a table with key, secret and, if wished, cash (a decimal text in USDT)"


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Describe one account: its API key and secret, and its first deposit in USDT.

    may_withdraw: whether the venue says that the key has that right.
    """

    key: str
    secret: str = field(repr=False)
    cash: str = CASH_DEFAULT
    may_withdraw: bool = False

    def __post_init__(self) -> None:
        if not self.key or not self.secret:
            raise ConfigurationError(f"accounts: key and secret: accepted is {_ACCEPTED_ACCOUNT}")
        try:
            fits = Decimal(self.cash) >= 0
        except InvalidOperation:
            fits = False
        if not fits:
            accepted = "a decimal text of 0 or more, in USDT"
            raise ConfigurationError(f"accounts.cash {self.cash!r}: accepted is {accepted}")


def keys_of(value: Any) -> tuple[KeySettings, ...]:
    """Read accounts from plain values; raises ConfigurationError naming what is accepted."""
    try:
        found = msgspec.convert(value, tuple[KeySettings, ...])
    except msgspec.ValidationError as failure:
        accepted = f"a list, each {_ACCEPTED_ACCOUNT}"
        raise ConfigurationError(f"accounts: {failure}: accepted is {accepted}") from None
    if len({one.key for one in found}) < len(found):
        raise ConfigurationError("accounts: two have the same key: accepted is one account a key")
    return found


def bank_settings_of(value: Any) -> BankSettings:
    """Read what the venue charges and how deep it is; raises ConfigurationError."""
    try:
        return msgspec.convert(value, BankSettings)
    except msgspec.ValidationError as failure:
        raise ConfigurationError(f"bank: {failure}: accepted are the fields of a bank") from None


class Accounts:
    """Hold the bank of an exchange, and the keys that open its accounts."""

    def __init__(
        self,
        coins: Mapping[str, Coin],
        publication: Publication,
        keys: Sequence[KeySettings],
        settings: BankSettings,
        clock: Callable[[], int],
        client_ids: ClientIds,
    ) -> None:
        settings = msgspec.structs.replace(settings, client_ids=client_ids)
        self._clock = clock
        self._keys = {one.key: one for one in keys}
        self._listeners: list[Listener] = []
        quotes = PublishedQuotes(publication)
        self.bank = Bank(rules_of(coins.values()), quotes, settings, start_ms=clock())
        for one in keys:
            self.bank.open_account(one.key, {"USDT": Decimal(one.cash)})

    def keyed(self, key: str) -> KeySettings | None:
        """Give what belongs to an API key, None where it opens nothing."""
        return self._keys.get(key)

    @property
    def keys(self) -> tuple[str, ...]:
        """List the API keys."""
        return tuple(self._keys)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every event from now on, in the order of their numbers."""
        self._listeners.append(listener)

    def settled(self) -> Bank:
        """Let everything happen that is due by now, say it, and give the bank."""
        now_ms = max(self._clock(), self.bank.now_ms)
        self._tell(self.bank.advance(now_ms))
        return self.bank

    def say(self) -> None:
        """Hand on what the last request caused."""
        self._tell(self.bank.take_events())

    def _tell(self, events: Sequence[BankEvent]) -> None:
        if events:
            for listener in self._listeners:
                listener(events)
