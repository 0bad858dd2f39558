"""Request weights of private answers, and how many orders may be placed in how many seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from adapters.rehearsal.binance.refusals import error

WEIGHTS: Final = {
    "GET /fapi/v1/openOrders": 1,  # 40 without a symbol
    "GET /fapi/v1/allOrders": 5,
    "GET /fapi/v1/forceOrders": 20,  # 50 without a symbol
    "GET /fapi/v1/userTrades": 5,
    "GET /fapi/v1/income": 30,
    "GET /fapi/v2/account": 5,
    "GET /fapi/v3/account": 5,
    "GET /fapi/v2/balance": 5,
    "GET /fapi/v3/balance": 5,
    "GET /fapi/v2/positionRisk": 5,
    "GET /fapi/v3/positionRisk": 5,
    "GET /fapi/v1/symbolConfig": 5,
    "GET /fapi/v1/accountConfig": 5,
    "GET /fapi/v1/commissionRate": 20,
    "GET /fapi/v1/positionSide/dual": 30,
    "GET /fapi/v1/multiAssetsMargin": 30,
    "POST /fapi/v1/countdownCancelAll": 10,
    "POST /fapi/v1/batchOrders": 5,
    "POST /fapi/v1/order": 0,
}
OF_ALL_SYMBOLS: Final = {"GET /fapi/v1/openOrders": 40, "GET /fapi/v1/forceOrders": 50}
ORDERS_PER_10_S: Final = 300
ORDERS_PER_MINUTE: Final = 1_200


def weight_of(method: str, path: str, *, of_symbol: bool) -> int:
    """Give the request weight that the venue charges."""
    name = f"{method} {path}"
    if not of_symbol and name in OF_ALL_SYMBOLS:
        return OF_ALL_SYMBOLS[name]
    return WEIGHTS.get(name, 1)


class OrderCounts:
    """Count the orders of each account against the venue's limits, in the machine's seconds."""

    def __init__(self, transport: Callable[[], float]) -> None:
        self.limits = {10: ORDERS_PER_10_S, 60: ORDERS_PER_MINUTE}  # by seconds
        self._transport = transport
        self._placed_s: dict[str, deque[float]] = {}

    def count(self, key: str, orders: int, *, refuse: bool) -> dict[str, str]:
        """Add orders and give the headers that tell the counts.

        Raises what the venue says past a limit, if it is to `refuse`.
        """
        now_s, placed = self._transport(), self._placed_s.setdefault(key, deque())
        while placed and placed[0] <= now_s - 60:
            placed.popleft()
        used = {seconds: sum(at > now_s - seconds for at in placed) for seconds in self.limits}
        for seconds, most in self.limits.items():
            if refuse and used[seconds] + orders > most:
                span = "10 SECOND" if seconds == 10 else "1 MINUTE"
                text = f"Too many new orders; current limit is {most} orders per {span}."
                raise error(-1015, text, status=429)
        placed.extend([now_s] * orders)
        return {
            "X-MBX-ORDER-COUNT-10S": str(used[10] + orders),
            "X-MBX-ORDER-COUNT-1M": str(used[60] + orders),
        }

    def wait_s(self, *, minute: bool) -> str:
        """Give the Retry-After in seconds: to the end of the minute, or of ten seconds."""
        span_s = 60 if minute else 10
        return str(span_s - int(self._transport()) % span_s)
