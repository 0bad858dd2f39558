"""What a venue says of an instrument later: new rules, another standing, a spare column taken."""

from __future__ import annotations

from daemon.domain.instrument import Standing
from daemon.domain.messages import Alert, AlertKind, Command, InstrumentChanged
from daemon.engine.state import EngineState
from daemon.engine.trader import Trader


def change_column(
    event: InstrumentChanged, state: EngineState, trader: Trader, out: list[Command]
) -> None:
    """Take it; what may not rest any more is taken back, and people are told what is new."""
    book, index = state.book, event.index
    before = book.universe.instruments[index], book.standing_of_its_own(index)
    book.stand(index, event.instrument, event.standing)
    joins = before[0].key != event.instrument.key
    if not joins and (before[0].rules, before[1]) == (event.instrument.rules, event.standing):
        return
    if joins:  # whether it may be held is for its age, its liquidity and the windows to say
        state.ripeness.begin(index)
    trader.read_rules()
    if event.standing is not Standing.TRADING:
        trader.leave(index)
    says = f"takes {before[0].key.symbol}" if joins else f"is {event.standing.words}"
    text = f"{event.instrument.key} {says}: {event.why}"
    out.append(Alert(AlertKind.INSTRUMENT, event.at_ms, text))
