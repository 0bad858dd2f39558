"""How an account at OKX trades: rights, user, position mode, leverage in cross margin."""

from __future__ import annotations

from collections.abc import Collection

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.keys import KeyRights, key_rights
from adapters.ccxt_venue.rows import text
from adapters.ccxt_venue.rows_okx import listed
from daemon.domain.failures import BadPayload, VenueError

_NET = "net_mode"


class OkxModes:
    """Read and set how an account trades at OKX; every order names cross margin itself."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def rights(self) -> KeyRights:
        """Read what the key may do."""
        return await self._caller.read(
            "privateGetAccountConfig", {}, lambda found: key_rights("okx", found)
        )

    async def account_id(self) -> str:
        """Read the number of the account."""
        return await self._config("uid")

    async def set_modes(self, symbol_ids: Collection[str], leverage: int) -> None:
        """Set one-way positions and leverage where they differ; read them back."""
        if await self._config("posMode") != _NET:
            await self._caller.once("privatePostAccountSetPositionMode", {"posMode": _NET})
            shown = await self._config("posMode")
            if shown != _NET:
                raise VenueError(f"okx: the account shows position mode {shown}, not {_NET}")
        for symbol in symbol_ids:
            if await self._leverage(symbol) == leverage:
                continue
            query = {"instId": symbol, "lever": str(leverage), "mgnMode": "cross"}
            await self._caller.once("privatePostAccountSetLeverage", query)
            found = await self._leverage(symbol)
            if found != leverage:
                raise VenueError(f"okx: {symbol} shows leverage {found}, not {leverage}")

    async def cancel_foreign(self, symbol_id: str, order_id: str) -> None:
        """Ask for the end of an order by the venue's id."""
        query = {"instId": symbol_id, "ordId": order_id}
        await self._caller.once("privatePostTradeCancelOrder", query)

    async def _config(self, name: str) -> str:
        def read(payload: object) -> str:
            rows = listed(payload)
            if len(rows) != 1:
                raise BadPayload(f"expected one account, got {len(rows)}")
            return text(rows[0], name)

        return await self._caller.read("privateGetAccountConfig", {}, read)

    async def _leverage(self, symbol: str) -> int:
        query = {"instId": symbol, "mgnMode": "cross"}

        def read(payload: object) -> int:
            return round(float(text(listed(payload)[0], "lever"))) if listed(payload) else 0

        return await self._caller.read("privateGetAccountLeverageInfo", query, read)
