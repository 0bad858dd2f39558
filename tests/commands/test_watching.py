"""What a session prints beside its log: each thing once."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from daemon.commands.watching import Watcher
from daemon.domain.messages import Operator, OperatorAction
from daemon.runtime.logs import configure_logs
from tests.engine.world import at
from tests.runtime.rig import WARM_BARS, line_of, panel_of

KILLED = "killed by the operator"


@pytest.mark.parametrize("options", [{}, {"quiet": True}, {"as_json": True}], ids=str)
async def test_an_alert_is_told_once_at_the_usual_log_level(
    options: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    log, screen = io.StringIO(), io.StringIO()
    configure_logs("warning", stream=log)
    watcher = Watcher(Console(file=screen, width=120), **{"as_json": False, **options})
    line = line_of(panel_of(20))
    parts = line.shell._parts
    line.shell._parts = dataclasses.replace(parts, observers=(*parts.observers, watcher))
    await line.shell.put(Operator(OperatorAction.KILL, "1", at(WARM_BARS)))
    await line.run()
    as_json = options.get("as_json", False)
    told = screen.getvalue() + log.getvalue() + capsys.readouterr().out
    shapes = ("! halted", '"type": "alert"', "alert_raised")
    assert [told.count(shape) for shape in shapes] == [not as_json, as_json, 0]
    assert KILLED in told


async def test_the_whole_log_tells_alerts_too() -> None:
    log = io.StringIO()
    configure_logs("info", as_json=True, stream=log)
    line = line_of(panel_of(20))
    await line.shell.put(Operator(OperatorAction.KILL, "1", at(WARM_BARS)))
    await line.run()
    assert "alert_raised" in log.getvalue()


async def test_a_session_that_never_placed_an_order_says_why_at_the_end() -> None:
    screen = io.StringIO()
    watcher = Watcher(Console(file=screen, width=120), as_json=False, quiet=True)
    line = line_of(panel_of(20))
    parts = line.shell._parts
    line.shell._parts = dataclasses.replace(parts, observers=(*parts.observers, watcher))
    watcher.on_ready(parts.engine)
    await line.shell.put(Operator(OperatorAction.PAUSE, "1", at(WARM_BARS)))
    await line.run()
    watcher.finish()
    assert "no order was placed; the last decision says: paused by the operator" in " ".join(
        screen.getvalue().split()
    )
