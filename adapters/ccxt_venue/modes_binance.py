"""How an account of Binance USDM futures trades: rights, alias, position and margin modes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.keys import KeyRights, key_rights
from adapters.ccxt_venue.rows import flag, row_of, rows_of, text
from daemon.domain.failures import VenueError

_MODE = "fapiPrivateGetPositionSideDual"


class BinanceModes:
    """Read and set how an account trades at Binance USDM futures."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def rights(self) -> KeyRights:
        """Read what the key may do."""
        return await self._caller.read(
            "sapiGetAccountApiRestrictions", {}, lambda found: key_rights("binanceusdm", found)
        )

    async def account_id(self) -> str:
        """Read the alias by which the venue tells its accounts apart."""
        return await self._caller.read(
            "fapiPrivateV3GetBalance",
            {},
            lambda found: next(text(row, "accountAlias") for row in rows_of(found)),
        )

    async def set_modes(self, symbol_ids: Collection[str], leverage: int) -> None:
        """Set one-way positions, cross margin and leverage where they differ; read them back."""
        if await self._is_dual():
            await self._caller.once(
                "fapiPrivatePostPositionSideDual", {"dualSidePosition": "false"}
            )
            if await self._is_dual():
                raise VenueError("binanceusdm: positions are held in hedge mode, and it stays")
        shown = await self._shown()
        for symbol in symbol_ids:
            margin, times = shown.get(symbol, ("", 0))
            if margin != "CROSSED":
                query = {"symbol": symbol, "marginType": "CROSSED"}
                await self._caller.once("fapiPrivatePostMarginType", query)
            if times != leverage:
                query = {"symbol": symbol, "leverage": str(leverage)}
                await self._caller.once("fapiPrivatePostLeverage", query)
        shown = await self._shown()
        for symbol in symbol_ids:
            if shown.get(symbol) != ("CROSSED", leverage):
                margin, times = shown.get(symbol, ("unknown", 0))
                raise VenueError(
                    f"binanceusdm: {symbol} shows margin {margin} and leverage {times}, "
                    f"not CROSSED and {leverage}"
                )

    async def cancel_foreign(self, symbol_id: str, order_id: str) -> None:
        """Ask for the end of an order by the venue's id."""
        query = {"symbol": symbol_id, "orderId": order_id}
        await self._caller.once("fapiPrivateDeleteOrder", query)

    async def _is_dual(self) -> bool:
        return await self._caller.read(
            _MODE, {}, lambda found: flag(row_of(found), "dualSidePosition")
        )

    async def _shown(self) -> Mapping[str, tuple[str, int]]:
        return await self._caller.read(
            "fapiPrivateGetSymbolConfig",
            {},
            lambda found: {
                text(r, "symbol"): (text(r, "marginType"), int(text(r, "leverage")))
                for r in rows_of(found)
            },
        )
