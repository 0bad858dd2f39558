"""The book through time, as the page draws it: equity, gross, net and beta at market instants.

It is bounded: when it is full, of its older half every second point goes, so that the newest stay
as they were measured and the oldest become coarser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

POINTS_MAX: Final = 4000
COLUMNS: Final = ("at_ms", "equity", "gross", "net", "beta")
Point = tuple[int, float | None, float | None, float | None, float | None]


class Trail:
    """Keep points in the order of their instants; of one instant the newest."""

    def __init__(self, *, points_max: int = POINTS_MAX) -> None:
        self._points_max = points_max
        self._points: list[Point] = []

    def take(self, states: Mapping[str, Mapping[str, object]]) -> None:
        """Take what a batch of states says of the book."""
        status: Mapping[str, Any] = states.get("status") or {}
        at_ms = status.get("market_time_ms")
        if not at_ms or not status.get("equity"):
            return
        limits: Mapping[str, Any] = states.get("risk", {}).get("limits") or {}  # type: ignore[assignment]
        beta = (limits.get("beta_weight_max") or {}).get("now")
        self._add((at_ms, status["equity"], status["gross_weight"], status["net_weight"], beta))

    def _add(self, point: Point) -> None:
        points = self._points
        if points and points[-1][0] >= point[0]:
            if points[-1][0] == point[0]:
                points[-1] = point
            return
        points.append(point)
        self._thin()

    def remember(self, before: Iterable[Point]) -> None:
        """Put points of before our start in front of those since."""
        first_ms = self._points[0][0] if self._points else 2**62
        self._points[:0] = [point for point in before if point[0] < first_ms]
        while len(self._points) > self._points_max:
            self._thin()

    def _thin(self) -> None:
        if len(self._points) > self._points_max:
            half = len(self._points) // 2
            self._points[:half] = self._points[:half:2]

    def columns(self) -> dict[str, list[Any]]:
        """Give the points by column, as charts take them."""
        found = zip(*self._points, strict=True) if self._points else ([] for _ in COLUMNS)
        return {name: list(column) for name, column in zip(COLUMNS, found, strict=True)}
