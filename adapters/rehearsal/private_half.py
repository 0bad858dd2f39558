"""The joint between the server and the private half of whichever dialect is spoken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from aiohttp import web

from adapters.rehearsal.accounts import Accounts
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import OrderRequest, Origin, Refusal
from adapters.rehearsal.binance.half import BinanceHalf
from adapters.rehearsal.bybit.door import BybitDoor
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.settings import DialectKind
from daemon.domain.failures import ConfigurationError
from daemon.domain.order import OrderKind

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Charge = Callable[[int], int]
_CONTROLS = "key with one of deposit, withdraw (decimal texts), manual_order"
_ORDER = "symbol and quantity (signed), if wished price and client_id, all texts"


class PrivateHalf(Protocol):
    """Serve accounts in one venue's words."""

    def routes(self) -> list[tuple[str, str, Handler]]:
        """List method, path and handler of everything that it answers."""
        ...

    def told(self) -> None:
        """Hear that somebody was told the time."""
        ...

    async def settle(self) -> None:
        """Let everything due happen, faults' deeds too, and say it before returning."""
        ...

    def state(self) -> dict[str, Any]:
        """Give counts for `/rehearsal/state`."""
        ...

    async def stop(self) -> None:
        """Close sockets and forget keys."""
        ...


def private_half(exchange: Exchange, charge: Charge) -> PrivateHalf:
    """Give the private half of the dialect that the settings name; Bybit's door is one for all.

    charge: adds to the request weight of this minute and gives it.
    """
    if exchange.settings.dialect is DialectKind.BYBIT:
        return BybitDoor(exchange)
    return BinanceHalf(exchange, charge)


def control(accounts: Accounts, body: Mapping[str, Any]) -> dict[str, Any]:
    """Do by hand what an account's owner can: POST /rehearsal/account.

    Raises ConfigurationError naming what is accepted.
    """
    bank, key = accounts.settled(), str(body.get("key", ""))
    if not bank.has_account(key):
        raise ConfigurationError("key: accepted is the key of an account")
    wanted = [name for name in ("deposit", "withdraw", "manual_order") if name in body]
    if len(wanted) != 1:
        raise ConfigurationError(f"account: accepted is {_CONTROLS}")
    if wanted == ["manual_order"]:
        return _order_by_hand(accounts, key, body["manual_order"])
    amount = _decimal(wanted[0], body[wanted[0]])
    if amount <= 0:
        raise ConfigurationError(f"{wanted[0]} {amount}: accepted is more than 0")
    line = bank.transfer(key, "USDT", amount if wanted == ["deposit"] else -amount)
    if isinstance(line, Refusal):
        raise ConfigurationError(f"{wanted[0]} {amount}: {line.detail}")
    return {"income_id": line.income_id, "cash": str(bank.balance(key, "USDT").cash)}


def _order_by_hand(accounts: Accounts, key: str, raw: object) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or not {"symbol", "quantity"} <= set(raw):
        raise ConfigurationError(f"manual_order: accepted is a table with {_ORDER}")
    price = None if raw.get("price") is None else _decimal("price", raw["price"])
    request = OrderRequest(
        str(raw["symbol"]),
        _decimal("quantity", raw["quantity"]),
        OrderKind.MARKET if price is None else OrderKind.LIMIT,
        price,
        client_id=None if raw.get("client_id") is None else str(raw["client_id"]),
        origin=Origin.OWNER,
    )
    placed = accounts.bank.place(key, request)
    if not isinstance(placed, BankOrder):
        raise ConfigurationError(f"manual_order: {placed.reason}: {placed.detail}")
    return {"order_id": placed.order_id, "status": placed.status, "filled": str(placed.filled)}


def _decimal(name: str, value: object) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise ConfigurationError(f"{name} {value!r}: accepted is a decimal text")
    return found
