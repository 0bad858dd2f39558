"""A contract counted in other units from an instant on, and one whose price is doubted.

A change of units is applied once, by its instant: what is held, its mark, the windows and
half-built bars take the new units, and nobody gains. While a price is doubted the instrument stands
still: no order leaves for it, and its position is valued at the last price that was believed.
"""

from __future__ import annotations

from daemon.domain.messages import Alert, AlertKind, Cancel, Command, PriceDoubted, Rescaled
from daemon.domain.order import Uncertain
from daemon.domain.scales import Doubt
from daemon.domain.units import iso
from daemon.engine.state import EngineState, Phase
from daemon.engine.trader import Trader


def take_units(event: Rescaled, state: EngineState, trader: Trader, out: list[Command]) -> None:
    """Count the instrument in its new units; an event that was taken before changes nothing."""
    index, change = event.index, (event.index, event.at_ms)
    if change in state.rescaled:
        return
    state.rescaled.append(change)
    doubted = state.doubted.pop(index, None)
    book = state.book
    if doubted is not None:
        book.doubt(index, doubted=False)
    since = iso(event.at_ms)
    if event.new_n == event.old_n:
        told = f"{event.key}: its price from {since} on is believed, as the settings say"
        out.append(Alert(AlertKind.INSTRUMENT, event.at_ms, told))
        return
    before = book.ledger.quantity(event.key)
    _give_up_old_sizes(event, state, trader, out)
    book.rescale(index, event.at_ms, event.new_n, event.old_n)
    for window in state.windows.values():
        window.rescale(index, event.at_ms, event.new_n, event.old_n)
    state.builder.rescale(index, event.at_ms, event.new_n, event.old_n)
    held = f"; held {before}, now {book.ledger.quantity(event.key)}" if before else ""
    told = f"{event.key}: {event.new_n} new units for {event.old_n} from {since} on{held}"
    out.append(Alert(AlertKind.INSTRUMENT, event.at_ms, told))


def _give_up_old_sizes(
    event: Rescaled, state: EngineState, trader: Trader, out: list[Command]
) -> None:
    """Send nothing that was sized in the old units, and take back what rests."""
    trader.close_plan(f"{event.key} is counted in other units")
    if state.phase is Phase.CLEARING:
        state.phase = Phase.IDLE
    take_back(event.index, state, out)


def take_back(index: int, state: EngineState, out: list[Command]) -> None:
    """Take back whatever the venue may have of an instrument, save what nobody can tell."""
    for record in state.orders.open.values():
        if record.order.index == index and not isinstance(record.state, Uncertain):
            out.append(Cancel(record.order.order_id, record.order.key))


def doubt_of(event: PriceDoubted) -> Doubt:
    """Give what is known of a doubt after an event."""
    return Doubt(
        event.since_ms,
        event.anchor,
        event.factor,
        event.usual,
        event.traded_n,
        event.logs,
        heard_ms=event.at_ms,
    )


def take_doubt(event: PriceDoubted, state: EngineState, out: list[Command]) -> None:
    """Let an instrument stand still while its price is doubted; people hear of each turn once.

    What it is judged by is kept, so that a restart does not begin to count anew.
    """
    index = event.index
    is_known = index in state.doubted
    if event.active:
        state.doubted[index] = doubt_of(event)
    else:
        state.doubted.pop(index, None)
    if event.active == is_known:
        return
    state.book.doubt(index, doubted=event.active)
    if event.active:
        take_back(index, state, out)
    out.append(Alert(AlertKind.INSTRUMENT, event.at_ms, event.text))
