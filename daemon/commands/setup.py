"""`equipoise init` and `config`: a settings file to start from, and what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.options import (
    OWN_FILE,
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.failures import ConfigurationError
from daemon.settings import effective, effective_toml, settings_schema, starter_toml


def init(
    folder: Annotated[Path, typer.Argument(help="Where to begin.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a settings file to start from.

    Every key is in it, commented out, and a schema for editors lies beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / OWN_FILE
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists already; --force replaces it")
    path.write_text("#:schema ./equipoise.schema.json\n" + starter_toml(), encoding="utf-8")
    schema = folder / "equipoise.schema.json"
    schema.write_text(settings_schema(), encoding="utf-8")
    if as_json:
        print_json({"settings": str(path), "schema": str(schema)})
        return
    console().print(f"wrote {path}; it is read by every command started in that folder")


def config(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    base: Annotated[str, typer.Option(help="paper, rehearsal or backtest.")] = "paper",
) -> None:
    """Show the settings in force, secrets masked."""
    if base not in ("paper", "rehearsal", "backtest"):
        raise ConfigurationError(f"--base {base!r}: accepted are paper, rehearsal, backtest")
    settings = read_settings(config, overrides, base=f"{base}.toml")
    if as_json:
        print_json(dict(effective(settings)))
    else:
        typer.echo(effective_toml(settings))
