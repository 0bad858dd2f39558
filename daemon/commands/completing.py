"""What a shell offers at the Tab key: order ids, instruments, models, keys of settings.

`equipoise` is asked for it by the scripts that typer makes (docs/terminal.md). Whatever is wrong,
nothing is offered and nothing is said: a person is in the middle of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import typer

from daemon.commands.options import packaged_for_journal, read_settings
from daemon.domain.failures import EquipoiseError
from daemon.settings import Settings

ORDERS_MAX: Final = 50
Offer = tuple[str, str]  # what to write, and what it is


def _settings(context: typer.Context) -> Settings:
    """Read the settings that the line names so far."""
    given = context.params
    config, overrides, state = (given.get(name) for name in ("config", "overrides", "state"))
    chosen = [*(overrides or ()), *([f"run.state_folder={state}"] if state else [])]
    base = packaged_for_journal(list(config or ()), chosen)
    return read_settings([Path(str(one)) for one in config or ()], chosen, base=base)


def _offered(incomplete: str, make: Callable[[], Iterable[Offer]]) -> list[Offer]:
    """Give what begins as the word does, or nothing where it cannot be found out."""
    try:
        return [one for one in make() if one[0].startswith(incomplete)]
    except (EquipoiseError, OSError):
        return []


def order_names(context: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the newest order ids, and SYMBOL@latest."""

    def make() -> Iterator[Offer]:
        settings = _settings(context)
        yield from ((f"{name}@latest", what) for name, what in _symbols(settings))
        yield from islice(_orders(settings), ORDERS_MAX)

    return _offered(incomplete, make)


def _orders(settings: Settings) -> Iterator[Offer]:
    from daemon.wiring.looking import Wanted, journal_rows  # slow to import, and rarely asked

    rows = journal_rows(settings, "orders", Wanted(count=ORDERS_MAX)).rows
    for row in reversed(rows):
        yield str(row["order_id"]), f"{row['quantity']:+f} {row['symbol']} {row['at']}"


def symbol_names(context: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the instruments of the book."""
    return _offered(incomplete, lambda: _symbols(_settings(context)))


def _symbols(settings: Settings) -> list[Offer]:
    from daemon.wiring.instruments import read_instruments

    instruments = read_instruments(settings.run.state_folder)
    return [(one.base, str(one.key)) for one in instruments if not one.is_spare]


def model_names(context: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the models of the registry, the champion said to be it."""

    def make() -> Iterator[Offer]:
        from daemon.wiring.estimator import list_models

        given = context.params
        config = [Path(str(one)) for one in given.get("config") or ()]
        settings = read_settings(config, given.get("overrides"), base="paper.toml")
        for one in list_models(settings):
            yield one.model_id, f"{one.kind}, {one.origin}{', champion' if one.is_champion else ''}"

    return _offered(incomplete, make)


def setting_names(incomplete: str) -> list[Offer]:
    """Offer the keys of settings as --set takes them."""
    from daemon.settings.describe import sections

    keys = (
        (f"{name}.{key}=", str(field.description))
        for name, section in sections().items()
        for key, field in section.model_fields.items()
    )
    return _offered(incomplete, lambda: keys)
