"""`equipoise revisions`: which bars were revised, and which decisions had used them."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    print_json,
    state_folder,
)
from daemon.domain.units import iso
from daemon.wiring.revisions import read_revisions


def revisions(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    state: StateFolder = None,
    as_json: AsJson = False,
) -> int:
    """List the bars that a venue changed after we had used them, and the decisions concerned.

    Reads the journal of a run, also while the daemon writes it.
    """
    found = read_revisions(state_folder(config, overrides, state))
    if as_json:
        print_json(asdict(found))
        return 0
    out = console()
    if found.revised:
        table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("bar closed", "symbol", "close was", "close is", "seen", "by", "decisions"):
            table.add_column(name, no_wrap=name != "decisions")
        for one in found.revised:
            table.add_row(
                iso(one.close_ms)[:16],
                one.symbol,
                f"{one.before[3]:g}",
                f"{one.after[3]:g}",
                iso(one.seen_ms)[:16] if one.seen_ms else "",
                one.shown_by,
                ", ".join(iso(at)[:16] for at in one.decisions) or "none",
            )
        out.print(table)
    for venue in found.venues:
        out.print(
            f"{venue.venue}: {venue.revised_n} of {venue.bars_n:,} bars revised "
            f"({venue.rate_per_million:.1f} in a million), {venue.decisions_n} decisions flagged",
            soft_wrap=True,
        )
    if not found.venues:
        out.print("no bar was seen yet")
    return 0
