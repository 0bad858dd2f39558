"""`equipoise notify test`: does what is told reach anybody."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.runtime.logs import configure_logs
from daemon.wiring.notifying import try_out

NOT_TOLD_EXIT: Final = 1


def notify_test(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="webhook, telegram or email; default all.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Send one message by each way of [notify] and report each answer.

    Exit code 1 if one did not arrive.
    """
    settings = read_settings(config, overrides, base="paper.toml")
    configure_logs("error")
    answers = asyncio.run(try_out(settings, to or ()))
    if as_json:
        print_json({n: {"delivered": good, "answer": said} for n, (good, said) in answers.items()})
    else:
        for name, (good, said) in answers.items():
            verdict = "delivered" if good else "NOT delivered"
            console().print(f"{name}: {verdict}: {said}", markup=False)
    return 0 if all(good for good, _ in answers.values()) else NOT_TOLD_EXIT
