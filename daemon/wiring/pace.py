"""How fast and in which pages a venue lets history be read, as far as it or ccxt says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from adapters.exchange.client import VenueClient
from adapters.exchange.paging import PAGE_BARS

# A daemon on the same address needs its part of the budget, and the venue counts it together.
WEIGHT_SHARE: Final = 0.8
_LIMITS: Final[Mapping[str, str]] = {  # venues that tell their budget of request weight
    "binanceusdm": "fapiPublicGetExchangeInfo",
    "binancecoinm": "dapiPublicGetExchangeInfo",
}


def cheapest_page(described: Mapping[str, Any]) -> int:
    """Give the page of bars that costs least request weight a bar, by ccxt's own table.

    described: what ccxt says of a venue. A venue without such a table takes the largest page.
    """
    tables = list(_tables(described.get("api", {})))
    if not tables:
        return PAGE_BARS
    steps = [(int(most), float(cost)) for most, cost in tables[0] if most <= PAGE_BARS]
    return max(steps, key=lambda step: (step[0] / step[1], step[0]))[0] if steps else PAGE_BARS


async def paced_options(
    exchange: str, options: Mapping[str, object], probe: VenueClient
) -> dict[str, object]:
    """Give constructor options whose pace uses most of the budget that the venue itself states.

    A pace that the user set, or of a venue that states none, stays. Raises VenueError as any call.
    """
    if exchange not in _LIMITS or "rateLimit" in options:
        return dict(options)
    answer, _ = await probe.ask_patiently(_LIMITS[exchange])
    limit = _weight_a_minute(answer)
    if limit is None:
        return dict(options)
    return {**options, "rateLimit": 60_000.0 / (limit * WEIGHT_SHARE)}


def _weight_a_minute(answer: object) -> float | None:
    limits = answer.get("rateLimits", ()) if isinstance(answer, Mapping) else ()
    for one in limits:
        if one.get("rateLimitType") == "REQUEST_WEIGHT" and one.get("interval") == "MINUTE":
            return float(one["limit"]) / float(one.get("intervalNum", 1))
    return None


def _tables(api: Mapping[str, Any]) -> Iterator[list[list[float]]]:
    for name, value in api.items():
        if not isinstance(value, Mapping):
            continue
        if name == "klines" and "byLimit" in value:
            yield value["byLimit"]
        else:
            yield from _tables(value)
