"""`equipoise control sign`: a ready payload for those who send it with a client of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.commands.options import ConfigFiles, Overrides, read_settings
from daemon.domain.messages import OperatorAction
from daemon.wiring.operating import Wish
from daemon.wiring.remote_asking import sign as signed


def sign(
    action: Annotated[OperatorAction, typer.Argument(help="What is asked for.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    request_id: Annotated[
        str, typer.Option("--request-id", help="Name the request; one is made up without.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Kept in latch and journal.")] = "",
) -> int:
    """Print a signed request, one line of JSON: field `payload` of the stream, or the MQTT message.

    It is as of now and soon too old. It is for the run of `run.run_name`, signed with the secret of
    `control.secret_env` or `control.secret_file`.
    """
    settings = read_settings(config, overrides, base="paper.toml")
    _, payload = signed(settings, Wish(action, request_id, reason=reason))
    typer.echo(payload)
    return 0
