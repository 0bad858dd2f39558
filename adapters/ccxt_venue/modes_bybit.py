"""How a unified account at Bybit trades: rights, user, position mode, margin mode, leverage."""

from __future__ import annotations

from collections.abc import Collection

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.keys import KeyRights, key_rights
from adapters.ccxt_venue.rows import row_of, text
from adapters.ccxt_venue.rows_bybit import listed
from daemon.domain.failures import VenueError

_CROSS = "REGULAR_MARGIN"


class BybitModes:
    """Read and set how a unified account trades at Bybit."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def rights(self) -> KeyRights:
        """Read what the key may do."""
        return await self._caller.read(
            "privateGetV5UserQueryApi", {}, lambda found: key_rights("bybit", found)
        )

    async def account_id(self) -> str:
        """Read the number of the user that the key belongs to."""
        return await self._caller.read(
            "privateGetV5UserQueryApi",
            {},
            lambda found: text(row_of(row_of(found).get("result")), "userID"),
        )

    async def set_modes(self, symbol_ids: Collection[str], leverage: int) -> None:
        """Set one-way positions, cross margin and leverage where they differ; read them back."""
        if await self._margin() != _CROSS:
            query = {"setMarginMode": _CROSS}
            await self._caller.once("privatePostV5AccountSetMarginMode", query)
            shown = await self._margin()
            if shown != _CROSS:
                raise VenueError(f"bybit: the account shows margin mode {shown}, not {_CROSS}")
        query = {"category": "linear", "coin": "USDT", "mode": "0"}
        await self._caller.once("privatePostV5PositionSwitchMode", query)
        for symbol in symbol_ids:
            if await self._shown(symbol) == (True, leverage):
                continue
            query = {"category": "linear", "symbol": symbol}
            times = {"buyLeverage": str(leverage), "sellLeverage": str(leverage)}
            await self._caller.once("privatePostV5PositionSetLeverage", {**query, **times})
            one_way, found = await self._shown(symbol)
            if not one_way or found != leverage:
                mode = "one-way" if one_way else "hedge"
                raise VenueError(
                    f"bybit: {symbol} shows {mode} mode and leverage {found}, not one-way and "
                    f"{leverage}"
                )

    async def cancel_foreign(self, symbol_id: str, order_id: str) -> None:
        """Ask for the end of an order by the venue's id."""
        query = {"category": "linear", "symbol": symbol_id, "orderId": order_id}
        await self._caller.once("privatePostV5OrderCancel", query)

    async def _margin(self) -> str:
        return await self._caller.read(
            "privateGetV5AccountInfo",
            {},
            lambda found: text(row_of(row_of(found).get("result")), "marginMode"),
        )

    async def _shown(self, symbol: str) -> tuple[bool, int]:
        """Read whether a contract is held one way, and its leverage."""

        def read(payload: object) -> tuple[bool, int]:
            rows = listed(payload)
            one_way = len(rows) == 1 and text(rows[0], "positionIdx") == "0"
            return one_way, round(float(text(rows[0], "leverage"))) if rows else 0

        query = {"category": "linear", "symbol": symbol}
        return await self._caller.read("privateGetV5PositionList", query, read)
