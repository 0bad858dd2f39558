"""Options that many commands share, and how their settings are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from daemon.commands import READER_GONE_EXIT
from daemon.settings import Settings, load_settings
from daemon.wiring.packaged import packaged_file


def _setting_names(incomplete: str) -> list[tuple[str, str]]:
    """Offer keys at the Tab key; what that takes is imported only then."""
    from daemon.commands.completing import setting_names

    return setting_names(incomplete)


ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", "-c", help="Settings file; later ones lie on top.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="section.key=value, above files and environment.",
        autocompletion=_setting_names,
    ),
]
Accepted = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        help="A setting that may differ from the last start although the book is open; or `all`.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

StateFolder = Annotated[
    Path | None, typer.Option("--state", help="State folder; default from settings.")
]

OWN_FILE: Final = "equipoise.toml"  # read when it lies in the working folder and no -c is given


def packaged(name: str) -> Path:
    """Give the path of a settings file that comes with the program."""
    return packaged_file(f"config/{name}")


BACKTEST_FILE: Final = "backtest.toml"


def read_settings(
    config: Sequence[Path] | None, overrides: Sequence[str] | None, *, base: str
) -> Settings:
    """Load the packaged `base` file, then the user's files, environment and overrides."""
    files = list(config or ())
    if not files and Path(OWN_FILE).exists():
        files = [Path(OWN_FILE)]
    return load_settings(
        [packaged(base), *files],
        overrides=list(overrides or ()),
        of_backtest=base == BACKTEST_FILE,
    )


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on stdout; what is not known (NaN) becomes null, as JSON has no NaN."""
    typer.echo(json.dumps(_known(values), default=str, sort_keys=True, allow_nan=False))


def _known(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _known(one) for key, one in value.items()}
        case list() | tuple():
            return [_known(one) for one in value]
        case _:
            return value


class _Screen(Console):
    """Leave with the documented exit code when nobody reads any more; rich takes `doctor`'s 1."""

    def on_broken_pipe(self) -> None:
        """Keep quiet from here on, and leave."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            # the code itself, not the cause, is what survives a task of asyncio
            raise SystemExit(READER_GONE_EXIT) from None


def console() -> Console:
    """Give the console for people: stdout, width of the terminal."""
    return _Screen(highlight=False)


def packaged_for_journal(config: Sequence[Path] | None, overrides: Sequence[str] | None) -> str:
    """Choose whose journal is meant when nobody says which state folder.

    Who has settings of his own means the paper run they make, or the rehearsal where only that one
    was ever made; who has none means the rehearsal made here, if there is one.
    """
    wanted = ["rehearsal.toml", "paper.toml"]
    if config or overrides or Path(OWN_FILE).exists():
        wanted.reverse()
    for base in wanted:
        if read_settings(config, overrides, base=base).run.state_folder.exists():
            return base
    return "paper.toml"


def state_folder(
    config: Sequence[Path] | None, overrides: Sequence[str] | None, state: Path | None
) -> Path:
    """Give the state folder that a reading command means: named, else from settings."""
    if state is not None:
        return state
    base = packaged_for_journal(config, overrides)
    return read_settings(config, overrides, base=base).run.state_folder
