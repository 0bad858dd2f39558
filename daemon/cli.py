"""The command line: words users already know, one error line, stable exit codes.

Commands live in `daemon.commands`, one module each, and are imported only when they run, so that
`equipoise --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Final

import click
import typer
from rich.console import Console

from daemon.domain.failures import EquipoiseError
from daemon.package_guard import check_package_names

# name -> (module.function, group shown in the help)
COMMANDS: Final[Mapping[str, str]] = {
    "init": "daemon.commands.setup:init",
    "doctor": "daemon.commands.doctor:doctor",
    "config": "daemon.commands.setup:config",
    "download-data": "daemon.commands.data:download_data",
    "list-data": "daemon.commands.data:list_data",
    "train": "daemon.commands.models:train",
    "models": "daemon.commands.models:models",
    "backtest": "daemon.commands.backtest:backtest",
    "trade": "daemon.commands.trade:trade",
    "rehearse": "daemon.commands.rehearse:rehearse",
    "status": "daemon.commands.status:status",
    "replay": "daemon.commands.replay:replay",
    "compare": "daemon.commands.replay:compare",
}
USAGE_EXIT: Final = 2
INTERRUPTED_EXIT: Final = 130


class _LazyGroup(click.Group):
    """Import a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        function: Callable[..., object] = getattr(importlib.import_module(module), name)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=cmd_name)(function)
        return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; failures become one clear error on stderr."""
    group = _LazyGroup(
        name="equipoise",
        help="Market-neutral trading of crypto perpetuals: paper by default, live on request.",
        no_args_is_help=True,
    )
    try:
        check_package_names()
        result = group.main(arguments, prog_name="equipoise", standalone_mode=False)
    except click.ClickException as e:
        e.show()
        return USAGE_EXIT
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED_EXIT
    except EquipoiseError as e:
        complain(e)
        return e.exit_code
    return result if isinstance(result, int) else 0


def complain(failure: BaseException) -> None:
    """Print a failure as one error, with the notes it gathered on its way."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(str(failure), markup=False)
    for note in getattr(failure, "__notes__", ()):
        console.print(f"  {note}", markup=False)


if __name__ == "__main__":
    main()
