"""One frozen table per venue: how it wants things said, what it offers, how its records are read.

Only what differs between venues stands here, as data. A venue without a table cannot be traded
live; `lacking` says what is missing for it, so that the refusal at start names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from adapters.ccxt_venue import rows_binance, rows_bybit, rows_okx
from adapters.ccxt_venue.rows import (
    Acknowledgement,
    Balance,
    CashFlow,
    Execution,
    Holding,
    OrderRecord,
    Row,
    Sizes,
    one_each,
)
from daemon.domain.failures import ConfigurationError
from daemon.domain.order import Order, OrderKind
from daemon.domain.units import DAY_MS

Params = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Say one question by which an order of ours is looked for; params hold our id under id_key.

    method: of ccxt, called with (None, symbol, params) if takes_id, else (symbol, None, None,
    params).
    """

    method: str
    id_key: str
    takes_id: bool
    fixed: Params = field(default_factory=dict)

    def params(self, client_id: str) -> dict[str, object]:
        """Give the params of the call for one client id."""
        return {**self.fixed, self.id_key: client_id}


@dataclass(frozen=True, slots=True)
class Page:
    """Bound one request of a listing: rows at most, and the longest span it may cover."""

    rows_max: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class DeadMan:
    """Say how a venue is told to cancel everything when we fall silent.

    method: of ccxt, unified or implicit. per_symbol: one call a symbol. unit_ms: what its number
    counts. needs: what the owner must see to, in words; empty when nothing. topic: of the private
    stream, where the venue counts from the end of the last socket that has it, not from the call.
    """

    method: str
    key: str
    per_symbol: bool
    unit_ms: int
    least_ms: int
    most_ms: int
    needs: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Readers:
    """Hold the functions that read a venue's records; `sizes` gives contract sizes by symbol id."""

    execution: Callable[[Row, Sizes], Execution | CashFlow]
    cash_flow: Callable[[Row], CashFlow]
    order_record: Callable[[Row, Sizes], OrderRecord]
    asked_order: Callable[[object, str, Sizes], OrderRecord | None]
    acknowledgement: Callable[[object, str], Acknowledgement]
    holdings: Callable[[object, Sizes], tuple[Holding, ...]]
    balances: Callable[[object], tuple[Balance, ...]]


@dataclass(frozen=True, slots=True)
class Quirks:
    """Hold what is particular to one venue.

    id_on_create, id_on_cancel: the params entry that carries our id. post_only: params entries
    that make a limit order refuse to take. lookups: asked in this order; absence needs all of
    them. contracts: True where quantities are contracts of another size than one base unit.
    executions_method: the implicit method of ccxt that lists fills of every kind, forced ones
    included, which the unified one leaves out at some venues.
    """

    venue: str
    id_on_create: str
    id_on_cancel: str
    post_only: Params
    reduce_only: Params
    lookups: tuple[Lookup, ...]
    contracts: bool
    executions_method: str
    executions_fixed: Params
    executions: Page
    flows_method: str
    flows: Page
    receive_window_ms: int
    dead_man: DeadMan | None
    readers: Readers

    def create_params(
        self, order: Order, client_id: str, *, post_only: bool = False
    ) -> dict[str, object]:
        """Give the params of create_order; raises ConfigurationError for a post-only market order.

        Nothing else is passed, so that no default of the client's decides about money.
        """
        params: dict[str, object] = {self.id_on_create: client_id}
        if order.reduce_only:
            params.update(self.reduce_only)
        if post_only:
            if order.kind is OrderKind.MARKET:
                raise ConfigurationError("a market order cannot be post-only")
            params.update(self.post_only)
        return params

    def cancel_params(self, client_id: str) -> dict[str, object]:
        """Give the params of cancel_order, which is called with id None."""
        return {self.id_on_cancel: client_id}


_BINANCE: Final = Quirks(
    venue="binanceusdm",
    id_on_create="newClientOrderId",
    id_on_cancel="clientOrderId",
    post_only=MappingProxyType({"postOnly": True}),
    reduce_only=MappingProxyType({"reduceOnly": True}),
    lookups=(Lookup("fetch_order", "clientOrderId", takes_id=True),),
    contracts=False,
    executions_method="fapiPrivateGetUserTrades",
    executions_fixed=MappingProxyType({}),
    executions=Page(1000, 7 * DAY_MS),
    flows_method="fapiPrivateGetIncome",
    flows=Page(1000, 90 * DAY_MS),
    receive_window_ms=10_000,
    dead_man=DeadMan("fapiPrivatePostCountdownCancelAll", "countdownTime", True, 1, 1_000, DAY_MS),
    readers=Readers(
        rows_binance.execution,
        rows_binance.cash_flow,
        rows_binance.order_record,
        rows_binance.asked_order,
        rows_binance.acknowledgement,
        rows_binance.holdings,
        rows_binance.balances,
    ),
)

_BYBIT: Final = Quirks(
    venue="bybit",
    id_on_create="orderLinkId",
    # `clientOrderId` is sent as it stands there, and ignored.
    id_on_cancel="orderLinkId",
    post_only=MappingProxyType({"postOnly": True}),
    reduce_only=MappingProxyType({"reduceOnly": True}),
    lookups=(
        Lookup("fetch_open_orders", "orderLinkId", takes_id=False),
        Lookup("fetch_canceled_and_closed_orders", "orderLinkId", takes_id=False),
    ),
    contracts=False,
    # The unified method asks for execType=Trade only and so hides liquidations.
    executions_method="privateGetV5ExecutionList",
    executions_fixed=MappingProxyType({"category": "linear"}),
    executions=Page(100, 7 * DAY_MS),
    flows_method="privateGetV5AccountTransactionLog",
    flows=Page(50, 7 * DAY_MS),
    receive_window_ms=5_000,
    dead_man=DeadMan(
        "cancel_all_orders_after",
        "timeout",
        False,
        1,
        3_000,
        300_000,
        needs="the venue must have enabled the feature for the account",
        topic="dcp.future",
    ),
    readers=Readers(
        rows_bybit.execution,
        rows_bybit.cash_flow,
        rows_bybit.order_record,
        rows_bybit.asked_order,
        rows_bybit.acknowledgement,
        rows_bybit.holdings,
        rows_bybit.balances,
    ),
)

_OKX: Final = Quirks(
    venue="okx",
    id_on_create="clOrdId",
    id_on_cancel="clOrdId",
    post_only=MappingProxyType({"postOnly": True}),
    reduce_only=MappingProxyType({"reduceOnly": True}),
    lookups=(Lookup("fetch_order", "clOrdId", takes_id=True),),
    contracts=True,
    executions_method="privateGetTradeFillsHistory",
    executions_fixed=MappingProxyType({"instType": "SWAP"}),
    executions=Page(100, 90 * DAY_MS),
    flows_method="privateGetAccountBills",
    flows=Page(100, 7 * DAY_MS),
    receive_window_ms=30_000,
    dead_man=DeadMan("cancel_all_orders_after", "timeout", False, 1, 10_000, 120_000),
    readers=Readers(
        rows_okx.execution,
        rows_okx.cash_flow,
        rows_okx.order_record,
        rows_okx.asked_order,
        rows_okx.acknowledgement,
        rows_okx.holdings,
        rows_okx.balances,
    ),
)

QUIRKS: Final[Mapping[str, Quirks]] = MappingProxyType(
    {one.venue: one for one in (_BINANCE, _BYBIT, _OKX)}
)

_NO_TABLES: Final = "error codes, record readers and the question by our own id"
_LACKING: Final = MappingProxyType(
    {
        "krakenfutures": f"{_NO_TABLES}; setting of margin and position mode; a server clock",
        "hyperliquid": f"{_NO_TABLES}; one cancel of everything; keys that are a private key",
        "gate": f"{_NO_TABLES}; setting of the margin mode; a dead man's switch",
        "bitget": f"{_NO_TABLES}; a dead man's switch",
        "kucoinfutures": f"{_NO_TABLES}; a dead man's switch",
    }
)


def lacking(venue: str) -> str:
    """Say in words what is missing before a venue can be traded live; empty when nothing is."""
    return "" if venue in QUIRKS else _LACKING.get(venue, _NO_TABLES)


def quirks_of(venue: str) -> Quirks:
    """Give the table of a venue; raises ConfigurationError that names what is missing."""
    missing = lacking(venue)
    if missing:
        raise ConfigurationError(
            f"{venue} cannot be traded live: no {missing}; venues that can: {', '.join(QUIRKS)}"
        )
    return QUIRKS[venue]


def sizes_for(quirks: Quirks, by_symbol_id: Sizes) -> Sizes:
    """Give the contract sizes to read with: the venue's own, or 1 where it counts base units."""
    return by_symbol_id if quirks.contracts else one_each
