"""`equipoise backup` and `restore`: a book as one file, taken while the daemon trades."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    packaged_for_journal,
    print_json,
    read_settings,
)
from daemon.settings import Settings
from daemon.wiring.backup import back_up
from daemon.wiring.backup import restore as bring_back

ModelsFolder = Annotated[
    Path | None, typer.Option("--models-folder", help="Model store; default from settings.")
]


def backup(
    target: Annotated[Path, typer.Argument(help="A folder, or a file that is not there yet.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    models: ModelsFolder = None,
    keep: Annotated[
        int, typer.Option(min=0, help="Of the archives in a folder keep so many; 0: all.")
    ] = 0,
) -> None:
    """Write journal, ledger, models and settings into one archive, while the daemon runs.

    All of it is of one instant, and proven before it is written. Secrets are not in it.
    """
    settings = _settings(config, overrides)
    made = back_up(
        state or settings.run.state_folder,
        models or settings.estimator.models_folder,
        target,
        keep=keep,
    )
    size = sum(size for size, _ in made.contents.files.values())
    values = {
        **made.contents.about,
        "path": str(made.path),
        "files": len(made.contents.files),
        "bytes": size,
        "removed": [str(path) for path in made.removed],
    }
    if as_json:
        print_json(values)
        return
    _say(f"{made.path}: {values['files']} files, {size:,} bytes")
    _say(_standing(dict(made.contents.about)))
    for path in made.removed:
        _say(f"removed the older {path}")


def restore(
    archive: Annotated[Path, typer.Argument(help="What `equipoise backup` wrote.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: Annotated[
        Path | None,
        typer.Option("--state-folder", "--state", help="Where to; default from settings."),
    ] = None,
    models: ModelsFolder = None,
    force: Annotated[
        bool, typer.Option("--force", help="Move a folder that holds something aside.")
    ] = False,
) -> None:
    """Bring a book back from an archive, after every part of it is proven.

    A folder in use is refused, one that is not empty too unless --force is said. Start no daemon
    on a real account from an old archive without reading docs/upgrading.md.
    """
    settings = _settings(config, overrides)
    done = bring_back(
        archive,
        state or settings.run.state_folder,
        models or settings.estimator.models_folder,
        force=force,
    )
    values = {
        **done.about,
        "state_folder": str(done.folder),
        "models_added": list(done.models),
        "aside": None if done.aside is None else str(done.aside),
    }
    if as_json:
        print_json(values)
        return
    _say(f"{done.folder}: restored as of {done.about['made_at']}")
    _say(_standing(done.about))
    _say(f"models added: {', '.join(done.models) or 'none'}")
    if done.aside is not None:
        _say(f"what was there before is now {done.aside}")


def _settings(config: list[Path] | None, overrides: list[str] | None) -> Settings:
    return read_settings(config, overrides, base=packaged_for_journal(config, overrides))


def _standing(about: dict[str, Any]) -> str:
    last = about["last_decision"]
    text = "no decision yet"
    if last is not None:
        text = f"last decision at {last['as_of']} ({last['kind']}, {last['orders']} orders)"
    return f"{about['entries']:,} entries, market time {about['market_time']}; {text}"


def _say(text: str) -> None:
    console().print(text, soft_wrap=True, markup=False, highlight=False)
