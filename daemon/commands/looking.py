"""`equipoise positions`, `targets`, `orders`, `fills`: one table each, for people or programs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.text import Text

from daemon.commands.completing import symbol_names
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    print_json,
)
from daemon.commands.running_settings import Meant, meant
from daemon.domain.units import iso
from daemon.report.figures import QUIET, clock
from daemon.report.terminal_tables import TABLES
from daemon.status.codec import plain
from daemon.wiring.looking import Looked, Source, Wanted, journal_rows, shown_rows

ROWS_N: Final = 20


class From(StrEnum):
    """Name where to read."""

    AUTO = "auto"
    REDIS = "redis"
    JOURNAL = "journal"


Chosen = Annotated[
    list[str] | None,
    typer.Option(
        "--symbol",
        "-s",
        help="BTC, BTC/USDT or BTCUSDT; more than one is welcome.",
        autocompletion=symbol_names,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(help="30m, 2h, 3d before the newest market time, or an instant in UTC."),
]
Count = Annotated[int, typer.Option("-n", help="The newest so many; 0: all.", min=0)]
Where = Annotated[
    From, typer.Option("--from", help="auto: Redis while a daemon runs, else the journal.")
]


def positions(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    symbol: Chosen = None,
    where: Where = From.AUTO,
) -> None:
    """Show what is held, its value and its gain.

    It says where it was read: in Redis while a daemon runs, else in the journal.
    """
    wanted = Wanted(tuple(symbol or ()))
    _tell("positions", meant(config, overrides, state), wanted, where, as_json=as_json)


def targets(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    symbol: Chosen = None,
    where: Where = From.AUTO,
) -> None:
    """Show what the newest decision wants: rank, forecasts, ideal weight, band and target.

    It says where it was read: in Redis while a daemon runs, else in the journal.
    """
    wanted = Wanted(tuple(symbol or ()))
    _tell("targets", meant(config, overrides, state), wanted, where, as_json=as_json)


def orders(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    symbol: Chosen = None,
    since: Since = None,
    count: Count = ROWS_N,
    where: Where = From.AUTO,
) -> None:
    """Show the newest orders with what became of them; `why ORDER` tells the reason of one.

    The journal tells refusals, answers and slippage as well: --from journal, also while it runs.
    """
    wanted = Wanted(tuple(symbol or ()), since, count or None)
    _tell("orders", meant(config, overrides, state), wanted, where, as_json=as_json)


def fills(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    symbol: Chosen = None,
    since: Since = None,
    count: Count = ROWS_N,
    where: Where = From.AUTO,
) -> None:
    """Show the newest fills: price, notional and fee.

    Redis keeps the newest of a run only; --from journal has all of them.
    """
    wanted = Wanted(tuple(symbol or ()), since, count or None)
    _tell("fills", meant(config, overrides, state), wanted, where, as_json=as_json)


def _tell(topic: str, run: Meant, wanted: Wanted, where: From, *, as_json: bool) -> None:
    found = _look(topic, run, wanted, where)
    at = None if found.at_ms is None else iso(found.at_ms)
    if as_json:
        rows = plain(list(found.rows))
        print_json({"source": found.source, "where": found.where, "as_of": at, topic: rows})
        return
    out = console()
    out.print(TABLES[topic](found.rows, out.width))
    time = "" if at is None else f", market time {clock(at)}"
    origin = "shown by the daemon" if found.source is Source.REDIS else "from the journal"
    words = f"{len(found.rows)} {topic} {origin} ({found.where}){time}"
    out.print(Text(words, QUIET), soft_wrap=True)


def _look(topic: str, run: Meant, wanted: Wanted, where: From) -> Looked:
    if run.values is not None and where is not From.JOURNAL:
        return shown_rows(run.values, topic, wanted)
    if where is From.REDIS:
        return Looked(Source.REDIS, f"{run.settings.run.run_name}: no daemon runs", None, ())
    return journal_rows(run.settings, topic, wanted)
