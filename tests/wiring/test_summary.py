"""When a day is told: once, at the first decision of the next one, also after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from adapters.journal import SqliteJournal
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import DataError
from daemon.domain.messages import Alert, Decided, Tick
from daemon.domain.units import DAY_MS
from daemon.wiring.summary import DayTeller, day_summary, newest_day

START_MS = 1_706_054_400_000  # 2024-01-24
H_MS = 3_600_000
Told = list[tuple[dict[str, object], Alert]]


def decided(hours: float, equity: float) -> Decided:
    return Decided(
        Decision(
            as_of_ms=START_MS + round(hours * H_MS),
            sequence=0,
            kind=DecisionKind.TRADED,
            bars_digest="",
            absent=(),
            equity=equity,
            marks=np.ones(2),
            weights_before=np.array([0.5, -0.5]),
            predictions=(),
            target=None,
            orders=(),
            refusals=(),
        )
    )


async def seen(
    journal: Path, told: Told, hours: list[float], *, restart_at: float | None = None
) -> None:
    """Write decisions to a journal and let a teller see each once it is there."""

    def tell(values: dict[str, object], alert: Alert) -> None:
        told.append((values, alert))

    teller = DayTeller(journal, tell)
    written = SqliteJournal(journal, state_schema=1, code_version="t", settings_text="")
    async with written, teller.running():
        for one in hours:
            if one == restart_at:
                teller = DayTeller(journal, tell)
            command = decided(one, 1000.0 + one)
            event = Tick(command.decision.as_of_ms)
            await written.append([(event, [command])])
            teller(event, [command], None)  # type: ignore[arg-type]  # it looks at no engine
            await asyncio.gather(*teller._tasks)


async def test_each_day_is_told_once_and_as_the_journal_says(tmp_path: Path) -> None:
    told: Told = []
    journal = tmp_path / "journal.sqlite"
    await seen(journal, told, [1, 2, 23, 24, 25, 48, 49, 73])
    assert [values["day"] for values, _ in told] == ["2024-01-24", "2024-01-25", "2024-01-26"]
    for number, (values, alert) in enumerate(told):
        assert values == day_summary(journal, START_MS + number * DAY_MS)
        assert alert.text.startswith(str(values["day"]))
    assert told[0][0]["pnl"] == pytest.approx(23.0)
    assert told[2][0]["until"] == "2024-01-27T01:00:00Z"  # the decision at midnight was missed
    assert newest_day(journal) == START_MS + 2 * DAY_MS


@pytest.mark.parametrize(
    ("restart_at", "days"),
    [(24, ["2024-01-24"]), (25, ["2024-01-24"]), (2, ["2024-01-24"])],
)
async def test_a_restart_neither_forgets_a_day_nor_tells_it_twice(
    tmp_path: Path, restart_at: float, days: list[str]
) -> None:
    told: Told = []
    await seen(tmp_path / "journal.sqlite", told, [1, 2, 24, 25, 26], restart_at=restart_at)
    assert [values["day"] for values, _ in told] == days


async def test_days_without_a_decision_are_not_told(tmp_path: Path) -> None:
    told: Told = []
    journal = tmp_path / "journal.sqlite"
    await seen(journal, told, [1, 2, 100])
    assert [values["day"] for values, _ in told] == ["2024-01-24"]
    with pytest.raises(DataError, match="no decision on 2024-01-26"):
        day_summary(journal, START_MS + 2 * DAY_MS)
