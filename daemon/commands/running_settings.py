"""Find out whose daemon is meant: one that runs, else the one whose state folder is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.commands.options import (
    ConfigFiles,
    Overrides,
    packaged_for_journal,
    read_settings,
)
from daemon.settings import Settings
from daemon.wiring.looking import running_status
from daemon.wiring.status import is_shown


@dataclass(frozen=True, slots=True)
class Meant:
    """Hold the settings of the run that is meant, and what it shows if it runs."""

    settings: Settings
    values: Mapping[str, Any] | None


def meant(config: ConfigFiles, overrides: Overrides, state: Path | None = None) -> Meant:
    """Choose a rehearsal that runs with these settings, else a paper run that does.

    Where neither runs it is the one with a server to read from, else the one whose state folder is
    there; `state` names the folder for all of them.
    """
    chosen = [*(overrides or []), *([f"run.state_folder={state}"] if state else [])]
    read = {
        base: read_settings(config, chosen, base=base) for base in ("rehearsal.toml", "paper.toml")
    }
    for settings in read.values():
        values = running_status(settings)
        if values is not None:
            return Meant(settings, values)
    if is_shown(read["paper.toml"]):
        return Meant(read["paper.toml"], None)
    base = packaged_for_journal(config, chosen if overrides or state is None else None)
    return Meant(read_settings(config, chosen, base=base), None)
