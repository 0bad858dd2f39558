"""The command line: words users already know, one error line, stable exit codes.

Commands live in `daemon.commands`, one module a family, and are imported only when they run, so
that `equipoise --help` answers at once.
"""

from __future__ import annotations

import functools
import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from daemon.commands import READER_GONE_EXIT
from daemon.domain.failures import EquipoiseError, InvariantViolated, JournalError
from daemon.package_guard import check_package_names
from daemon.runtime.collector import not_collecting
from daemon.runtime.logs import configure_logs

COMMANDS: Final[Mapping[str, str]] = {
    "init": "daemon.commands.setup:init",
    "doctor": "daemon.commands.doctor:doctor",
    "config": "daemon.commands.setup:config",
    "download-data": "daemon.commands.data:download_data",
    "list-data": "daemon.commands.data:list_data",
    "import-data": "daemon.commands.importing:import_data",
    "import-series": "daemon.commands.series:import_series",
    "list-series": "daemon.commands.series:list_series",
    "check-data": "daemon.commands.quality:check_data",
    "revisions": "daemon.commands.revisions:revisions",
    "train": "daemon.commands.models:train",
    "models": "daemon.commands.models:models",
    "predict": "daemon.commands.predicting:predict",
    "backtest": "daemon.commands.backtest:backtest",
    "trade": "daemon.commands.trade:trade",
    "rehearse": "daemon.commands.rehearse:rehearse",
    "exchange": "daemon.commands.exchange:exchange",
    "status": "daemon.commands.status:status",
    "notify test": "daemon.commands.notify:notify_test",
    "positions": "daemon.commands.looking:positions",
    "targets": "daemon.commands.looking:targets",
    "orders": "daemon.commands.looking:orders",
    "fills": "daemon.commands.looking:fills",
    "logs": "daemon.commands.logs:logs",
    "pause": "daemon.commands.operating:pause",
    "resume": "daemon.commands.operating:resume",
    "reduce-only": "daemon.commands.operating:reduce_only",
    "reload": "daemon.commands.operating:reload",
    "flatten": "daemon.commands.operating:flatten",
    "kill": "daemon.commands.operating:kill",
    "summary": "daemon.commands.summary:summary",
    "control sign": "daemon.commands.control:sign",
    "why": "daemon.commands.why:why",
    "replay": "daemon.commands.replay:replay",
    "compare": "daemon.commands.replay:compare",
    "report": "daemon.commands.replay:report",
    "backup": "daemon.commands.backup:backup",
    "restore": "daemon.commands.backup:restore",
    "evaluate architectures": "daemon.commands.evaluate.architectures:architectures",
    "evaluate friction": "daemon.commands.evaluate.friction:friction",
    "evaluate correlation": "daemon.commands.evaluate.correlation:correlation",
    "evaluate hypotheses": "daemon.commands.evaluate.hypotheses:hypotheses",
    "evaluate lookahead": "daemon.commands.evaluate.lookahead:lookahead",
    "evaluate null": "daemon.commands.evaluate.null:null",
    "evaluate planted": "daemon.commands.evaluate.planted:planted",
    "evaluate reliability": "daemon.commands.evaluate.reliability:reliability",
    "evaluate report": "daemon.commands.evaluate.report:report",
    "evaluate strategies": "daemon.commands.evaluate.strategies:strategies",
    "evaluate stress": "daemon.commands.evaluate.stress:stress",
    "evaluate trials": "daemon.commands.evaluate.trials:trials",
    "evaluate walkforward": "daemon.commands.evaluate.walkforward:walkforward",
}
FAMILIES: Final[Mapping[str, str]] = {
    "control": "Steer a daemon from a distance.",
    "evaluate": "Judge runs, data and the machine itself.",
    "notify": "Tell people by webhook, Telegram or e-mail.",
}
INTERRUPTED_EXIT: Final = 130
TERMINATED_EXIT: Final = 143
FILE_EXIT: Final = JournalError.exit_code
WIDTHS: Final = {"max_content_width": 100}


class _LazyGroup(TyperGroup):
    """Import a command's module when it is asked for; `prefix` names the family it is one of."""

    prefix = ""

    def list_commands(self, ctx: Any) -> list[str]:
        rest = (name.removeprefix(self.prefix) for name in COMMANDS if name.startswith(self.prefix))
        return list(dict.fromkeys(name.partition(" ")[0] for name in rest))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        full = self.prefix + cmd_name
        if full not in COMMANDS:
            return _family(full) if full in FAMILIES else None
        module, _, name = COMMANDS[full].partition(":")
        with not_collecting():
            function: Callable[..., object] = getattr(importlib.import_module(module), name)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=cmd_name, context_settings=WIDTHS)(_with_exit_code(function))
        return typer.main.get_command(app)


def _family(name: str) -> Any:
    """Make the group of the commands whose names begin with `name`."""
    group = type("_Family", (_LazyGroup,), {"prefix": f"{name} "})
    app = typer.Typer(
        name=name,
        cls=group,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=WIDTHS,
    )
    app.callback(help=FAMILIES[name])(lambda: None)
    return typer.main.get_command(app)


def _with_exit_code(function: Callable[..., object]) -> Callable[..., None]:
    """Let a command return its exit code."""

    @functools.wraps(function)
    def run_command(*args: Any, **options: Any) -> None:
        code = function(*args, **options)
        if isinstance(code, int) and code:
            raise typer.Exit(code)

    return run_command


app = typer.Typer(
    name="equipoise",
    cls=_LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=WIDTHS,
)


@app.callback()
def root() -> None:
    """Market-neutral trading of crypto perpetuals, on paper."""
    # stdout belongs to results; a command that trades sets its own level
    configure_logs("warning")


def _terminate(number: int, frame: object) -> None:
    """Leave so that everything is closed on the way out, which dying at once would not do."""
    typer.echo("told to end before there was anything to stop in order", err=True)
    raise SystemExit(TERMINATED_EXIT)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)  # a session has its own while it runs
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; failures become one clear error on stderr."""
    try:
        check_package_names()
        app(arguments, prog_name="equipoise")
    except SystemExit as e:
        if _is_reader_gone(e):
            return READER_GONE_EXIT
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except EquipoiseError as e:
        complain(e)
        return e.exit_code
    except OSError as e:
        complain(JournalError(f"{e.filename or 'a file'}: {e.strerror or e}"))
        return FILE_EXIT
    except Exception as e:  # noqa: BLE001 - the top of the process: it must say whose mistake it is
        traceback.print_exc()
        complain(InvariantViolated(f"a mistake of ours, please report it: {type(e).__name__} {e}"))
        return InvariantViolated.exit_code
    return 0


def _is_reader_gone(leaving: BaseException) -> bool:
    """Tell whether a command leaves because nobody reads its output any more, as after `| head`.

    click and rich both turn the broken pipe into exit code 1, which is `doctor`'s.
    """
    cause: BaseException | None = leaving
    while cause is not None:
        if isinstance(cause, BrokenPipeError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def complain(failure: BaseException) -> None:
    """Print a failure as one error, with the notes it gathered on its way."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(str(failure), markup=False)
    for note in getattr(failure, "__notes__", ()):
        console.print(f"  {note}", markup=False)


if __name__ == "__main__":
    main()
