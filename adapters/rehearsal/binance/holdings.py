"""What an account holds and how, by signed REST: balances, positions, the record, its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from adapters.rehearsal.accounts import Accounts
from adapters.rehearsal.bank.bank import Bank, PositionView
from adapters.rehearsal.bank.records import Income, Trade
from adapters.rehearsal.bank.terms import (
    BPS,
    ZERO,
    MarginMode,
    PositionMode,
    Refusal,
    RefusalReason,
)
from adapters.rehearsal.binance.payloads import (
    INCOME_TYPES,
    account_alias,
    asset_row,
    balance_row,
    counted,
    income_row,
    plain,
    position_row,
    trade_row,
)
from adapters.rehearsal.binance.refusals import error, refused
from adapters.rehearsal.binance.windows import limit_of, whole, window_of
from adapters.rehearsal.dialect import invalid_symbol, missing

Query = Mapping[str, str]
NOTIONAL_CAP: Final = 10**9
MARGIN_TYPES: Final = {"ISOLATED": MarginMode.ISOLATED, "CROSSED": MarginMode.CROSS}
CREATED_MS: Final = 1_600_000_000_000
_EVERYTHING: Final = 10**9
_TOTALS: Final = {
    "totalInitialMargin": "initialMargin",
    "totalMaintMargin": "maintMargin",
    "totalWalletBalance": "walletBalance",
    "totalUnrealizedProfit": "unrealizedProfit",
    "totalMarginBalance": "marginBalance",
    "totalPositionInitialMargin": "positionInitialMargin",
    "totalOpenOrderInitialMargin": "openOrderInitialMargin",
    "totalCrossWalletBalance": "crossWalletBalance",
    "totalCrossUnPnl": "crossUnPnl",
    "availableBalance": "availableBalance",
    "maxWithdrawAmount": "maxWithdrawAmount",
}
DONE: Final = {"code": 200, "msg": "success"}


class Holdings:
    """Answer what is asked about an account."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._bank: Bank = accounts.bank

    # ---- cash and positions ----------------------------------------------------------------------

    def balances(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List the currencies."""
        del query
        now_ms = self._bank.now_ms
        names = self._bank.currencies(key)
        alias = account_alias(key)
        return [balance_row(self._bank.balance(key, name), now_ms, alias) for name in names]

    def account(self, key: str, query: Query) -> dict[str, Any]:
        """Give totals, currencies, and the positions that are held or ordered."""
        del query
        now_ms, names = self._bank.now_ms, self._bank.currencies(key)
        assets = [self._asset(key, name, now_ms) for name in names]
        totals = {
            total: f"{sum((Decimal(one[field]) for one in assets), ZERO):.8f}"
            for total, field in _TOTALS.items()
        }
        positions = [self._row(key, view) for view in self._used(key)]
        return {**totals, "assets": assets, "positions": positions}

    def account_v2(self, key: str, query: Query) -> dict[str, Any]:
        """Give the older, longer form, with every contract's leverage and mode."""
        whole_account = self.account(key, query)
        rights = {"feeTier": 0, "canTrade": True, "canDeposit": True, "updateTime": 0}
        rights["canWithdraw"] = self._may_withdraw(key)
        rights["multiAssetsMargin"] = False
        rows = [self._row_v2(key, view) for view in self._every(key)]
        for row in rows:
            row["leverage"] = str(row["leverage"])
            row["isolated"] = row["marginType"] == "isolated"
        return {**rights, **whole_account, "positions": rows}

    def positions(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List what is held or ordered; of one symbol, that one even if flat."""
        return [self._row(key, view) for view in self._asked(key, query, self._used)]

    def positions_v2(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List every contract, flat ones too, in the older form."""
        return [self._row_v2(key, view) for view in self._asked(key, query, self._every)]

    def _asked(
        self, key: str, query: Query, listed: Callable[[str], list[PositionView]]
    ) -> list[PositionView]:
        symbol = query.get("symbol")
        if not symbol:
            return listed(key)
        view = self._bank.position(key, symbol)
        if isinstance(view, Refusal):
            raise refused(view)
        return [view]

    def _used(self, key: str) -> list[PositionView]:
        held = [view.symbol for view in self._bank.positions(key)]
        ordered = [order.symbol for order in self._bank.open_orders(key)]
        return self._views(key, sorted({*held, *ordered}))

    def _every(self, key: str) -> list[PositionView]:
        return self._views(key, list(self._bank.rules))

    def _views(self, key: str, symbols: list[str]) -> list[PositionView]:
        found = (self._bank.position(key, symbol) for symbol in symbols)
        return [view for view in found if not isinstance(view, Refusal)]

    def _asset(self, key: str, currency: str, now_ms: int) -> dict[str, Any]:
        row = asset_row(self._bank.balance(key, currency), now_ms)
        alone = ZERO
        for view in self._bank.positions(key):
            if self._bank.rules[view.symbol].currency == currency:
                alone += self._bank.margin_of(key, view.symbol).position
        initial = Decimal(row["initialMargin"])
        row["positionInitialMargin"] = f"{alone:.8f}"
        row["openOrderInitialMargin"] = f"{initial - alone:.8f}"
        return row

    def _row(self, key: str, view: PositionView) -> dict[str, Any]:
        changed_ms = self._bank.last_trade_ms(key, view.symbol) or 0
        return position_row(view, self._bank.margin_of(key, view.symbol), changed_ms)

    def _row_v2(self, key: str, view: PositionView) -> dict[str, Any]:
        return {
            **self._row(key, view),
            "leverage": str(view.leverage),
            "marginType": view.margin_mode.value,
            "isAutoAddMargin": "false",
            "maxNotionalValue": str(NOTIONAL_CAP),
        }

    # ---- the record ------------------------------------------------------------------------------

    def trades(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List fills of a symbol: from an id on, of an order, of a window, or the newest."""
        symbol, limit = self._symbol(query), limit_of(query, 500, 1_000)
        first, number = whole(query, "fromId"), whole(query, "orderId")
        order_id = None if number is None else counted(symbol, number)

        def of_order(trades: list[Trade]) -> list[Trade]:
            return [one for one in trades if order_id in (None, one.order_id)]

        if first is not None:
            after_id = counted(symbol, first) - 1
            found = self._bank.trades(key, symbol, after_id=after_id, limit=_EVERYTHING)
            return [trade_row(one) for one in of_order(found)[:limit]]
        window = window_of(query, self._bank.now_ms)
        found = self._bank.trades(key, symbol, since_ms=window.start_ms, limit=_EVERYTHING)
        inside = [one for one in of_order(found) if window.holds(one.at_ms)]
        return [trade_row(one) for one in window.page(inside, limit)]

    def income(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List lines of the statement of a kind, a symbol, a window, in pages."""
        wanted, symbol = query.get("incomeType"), query.get("symbol")
        if wanted and wanted not in INCOME_TYPES.values():
            raise error(-1130, "Data sent for parameter 'incomeType' is not valid.")
        window = window_of(query, self._bank.now_ms)

        def fits(line: Income) -> bool:
            of_kind = not wanted or INCOME_TYPES[line.kind] == wanted
            return of_kind and symbol in (None, "", line.symbol) and window.holds(line.at_ms)

        lines = self._bank.income(key, since_ms=window.start_ms, limit=_EVERYTHING)
        found = [line for line in lines if fits(line)]
        rows = window.page(found, limit_of(query, 100, 1_000), whole(query, "page") or 1)
        return [income_row(line) for line in rows]

    # ---- settings of the account -----------------------------------------------------------------

    def leverage(self, key: str, query: Query) -> dict[str, Any]:
        """Set the leverage of a symbol; the same again is no error here."""
        symbol, wanted = self._symbol(query), whole(query, "leverage")
        if wanted is None:
            raise missing("leverage")
        refusal = self._bank.set_leverage(key, symbol, wanted)
        if refusal is not None and refusal.reason is not RefusalReason.NO_CHANGE:
            raise refused(refusal)
        return {"symbol": symbol, "leverage": wanted, "maxNotionalValue": str(NOTIONAL_CAP)}

    def brackets(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List the leverage brackets: one for each contract, for every size."""
        del key
        terms = self._bank.settings
        bracket = {
            "bracket": 1,
            "initialLeverage": terms.leverage_max,
            "notionalCap": NOTIONAL_CAP,
            "notionalFloor": 0,
            "maintMarginRatio": float(terms.maintenance_bps / BPS),
            "cum": 0.0,
        }
        symbols = [self._symbol(query)] if query.get("symbol") else self._listed()
        return [{"symbol": one, "notionalCoef": 1.0, "brackets": [bracket]} for one in symbols]

    def margin_type(self, key: str, query: Query) -> dict[str, Any]:
        """Set what a symbol's losses may draw on."""
        symbol, wanted = self._symbol(query), MARGIN_TYPES.get(query.get("marginType", ""))
        if wanted is None:
            raise missing("marginType")
        refusal = self._bank.set_margin_mode(key, symbol, wanted)
        if refusal is None:
            return DONE
        if refusal.reason is RefusalReason.MODE_LOCKED:
            if self._bank.open_orders(key, symbol):
                text = "Margin type cannot be changed if there exists open orders."
                raise refused(refusal, code=-4047, message=text)
            text = "Margin type cannot be changed if there exists position."
            raise refused(refusal, code=-4048, message=text)
        raise refused(refusal)

    def position_side(self, key: str, query: Query) -> dict[str, Any]:
        """Tell whether a symbol may be held both ways at once."""
        del query
        return {"dualSidePosition": self._bank.position_mode(key) is PositionMode.HEDGE}

    def set_position_side(self, key: str, query: Query) -> dict[str, Any]:
        """Set whether a symbol may be held both ways at once."""
        wanted = _flag(query, "dualSidePosition")
        mode = PositionMode.HEDGE if wanted else PositionMode.ONE_WAY
        refusal = self._bank.set_position_mode(key, mode)
        if refusal is None:
            return DONE
        if refusal.reason is RefusalReason.NO_CHANGE:
            raise refused(refusal, code=-4059, message="No need to change position side.")
        if self._bank.open_orders(key):
            text = "Position side cannot be changed if there exists open orders."
            raise refused(refusal, code=-4067, message=text)
        raise refused(refusal, message="Position side cannot be changed if there exists position.")

    def multi_assets(self, key: str, query: Query) -> dict[str, Any]:
        """Tell whether several currencies serve as one margin: never here."""
        del key, query
        return {"multiAssetsMargin": False}

    def set_multi_assets(self, key: str, query: Query) -> dict[str, Any]:
        """Refuse to let several currencies serve as one margin."""
        del key
        if _flag(query, "multiAssetsMargin"):
            raise error(-4169, "Unable to adjust Multi-Assets Mode in this rehearsal.")
        raise error(-4171, "No need to change Multi-Assets mode.")

    def symbol_config(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List leverage and margin mode of contracts."""
        return [
            {
                "symbol": view.symbol,
                "marginType": "ISOLATED" if view.margin_mode is MarginMode.ISOLATED else "CROSSED",
                "isAutoAddMargin": "false",
                "leverage": view.leverage,
                "maxNotionalValue": str(NOTIONAL_CAP),
            }
            for view in self._asked(key, query, self._every)
        ]

    def account_config(self, key: str, query: Query) -> dict[str, Any]:
        """Give the settings of the account as a whole."""
        del query
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": self._may_withdraw(key),
            "dualSidePosition": self._bank.position_mode(key) is PositionMode.HEDGE,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def commission(self, key: str, query: Query) -> dict[str, Any]:
        """Give the fee rates of a symbol."""
        del key
        terms = self._bank.settings
        return {
            "symbol": self._symbol(query),
            "makerCommissionRate": plain(terms.maker_fee_bps / BPS),
            "takerCommissionRate": plain(terms.taker_fee_bps / BPS),
        }

    def restrictions(self, key: str, query: Query) -> dict[str, Any]:
        """Tell what the key may do, withdrawals above all."""
        del query
        return {
            "ipRestrict": False,
            "createTime": CREATED_MS,
            "enableReading": True,
            "enableFutures": True,
            "enableWithdrawals": self._may_withdraw(key),
            "enableInternalTransfer": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableMargin": False,
            "enableSpotAndMarginTrading": False,
            "enablePortfolioMarginTrading": False,
        }

    def currencies(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List the coins of the wallet: the margin currency, without networks."""
        del query
        return [
            {"coin": name, "name": name, "free": "0", "locked": "0", "networkList": []}
            for name in self._bank.currencies(key)
        ]

    def no_pairs(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List no pair of margin trading: there is none."""
        del key, query
        return []

    # ---- common ----------------------------------------------------------------------------------

    def _may_withdraw(self, key: str) -> bool:
        found = self._accounts.keyed(key)
        return found is not None and found.may_withdraw

    def _listed(self) -> list[str]:
        now_ms = self._bank.now_ms
        return [name for name, one in self._bank.rules.items() if one.listed_ms <= now_ms]

    def _symbol(self, query: Query) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            raise missing("symbol")
        rules = self._bank.rules.get(symbol)
        if rules is None or rules.listed_ms > self._bank.now_ms:
            raise invalid_symbol()
        return symbol


def _flag(query: Query, name: str) -> bool:
    text = query.get(name, "").lower()
    if text not in {"true", "false"}:
        raise missing(name)
    return text == "true"
