"""Constructor options that send the unmodified ccxt client `bybit` to a rehearsal."""

from __future__ import annotations

from typing import Any


def bybit_options(rest_url: str, ws_url: str) -> dict[str, Any]:
    """Give plain nested options for the exchange id `bybit`; they hold no code.

    The client's own throttle is off: loopback needs none. Only linear contracts are asked for, and
    no currencies. The private address must hold `v5/private` and none `spot`: the client picks its
    readers by that.
    """
    private = f"{ws_url}/v5/private"
    return {
        "urls": {
            "api": {
                "public": rest_url,
                "private": rest_url,
                "futures": rest_url,
                "v2": rest_url,
                "ws": {
                    "public": {"linear": f"{ws_url}/v5/public/linear"},
                    "private": {
                        "contract": private,
                        "usdc": private,
                        "trade": f"{ws_url}/v5/trade",
                        "spot": {"unified": private, "nonUnified": private},
                    },
                },
            }
        },
        "enableRateLimit": False,
        "has": {"fetchCurrencies": False},
        "options": {
            "defaultType": "swap",
            "fetchMarkets": {"types": ["linear"]},
        },
    }
