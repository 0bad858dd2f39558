"""The operator's side at a distance: sign a request, send it, wait for the answer."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any, Final, Literal

import msgspec

from adapters.clocks import TransportClock
from adapters.control import Answer, is_request_id
from adapters.mqtt_commands import ask_over_mqtt
from adapters.mqtt_status import command_client
from adapters.redis_commands import BLOCK_MS, ask_over_redis
from adapters.redis_status import connect
from daemon.domain.failures import BadPayload, ConfigurationError
from daemon.settings import Settings
from daemon.status.signing import read_answer, signed_request
from daemon.wiring.operating import Told, Wish
from daemon.wiring.remote import control_secret
from daemon.wiring.sinks import mqtt_broker, redis_login
from daemon.wiring.status import status_url

Via = Literal["redis", "mqtt"]
NO_SECRET: Final = (
    "control.secret: none is named; set control.secret_env or control.secret_file to what the "
    "daemon has"
)


def sign(settings: Settings, wish: Wish) -> tuple[str, str]:
    """Give request id and signed payload of a wish, as of now; raises ConfigurationError."""
    secret = control_secret(settings)
    if secret is None:
        raise ConfigurationError(NO_SECRET)
    name = wish.request_id or f"{wish.action}-{secrets.token_hex(6)}"
    if not is_request_id(name):
        raise ConfigurationError(
            f"request id {name!r}: accepted are up to 64 letters, digits, - and _"
        )
    payload = signed_request(
        secret,
        action=str(wish.action),
        run=settings.run.run_name,
        request_id=name,
        asked_ms=TransportClock().wall_ms(),
        reason=wish.reason,
    )
    return name, payload


def answer_told(request_id: str, answer: dict[str, object]) -> Told:
    """Read the answer of a daemon that obeyed; raises BadPayload where another build wrote it."""
    try:
        return Told(request_id, msgspec.convert(answer, Answer))
    except msgspec.ValidationError as e:
        raise BadPayload(f"the daemon's answer is of another version: {e}") from e


def ask_at_a_distance(
    settings: Settings, wish: Wish, via: Via
) -> tuple[str, dict[str, object] | None, str]:
    """Ask over Redis or MQTT; gives (request id, answer, why there is none).

    Raises ConfigurationError where settings name no secret, no server or none that can be.
    """
    name, payload = sign(settings, wish)
    secret, run = control_secret(settings) or b"", settings.run.run_name

    def understood(text: str) -> dict[str, object] | None:
        answer = read_answer(text, secret, run=run)
        return answer if answer is not None and answer.get("request_id") == name else None

    named: dict[str, Any] = {"run": run, "wait_s": wish.wait_s}
    if via == "redis":
        url = status_url(settings)
        if url is None:
            folder = settings.run.state_folder
            return name, None, f"no daemon runs in {folder}: its embedded Redis is not there"
        client = partial(
            connect, url, **redis_login(settings), as_text=False, blocks_s=BLOCK_MS / 1000
        )
        named["namespace"] = settings.redis.namespace
        told = asyncio.run(ask_over_redis(client, payload, understood, **named))
    else:
        if not settings.mqtt.url:
            raise ConfigurationError("mqtt.url: there is none; name the broker")
        linked = partial(command_client, mqtt_broker(settings))
        named |= {"namespace": settings.mqtt.namespace, "request_id": name}
        told = asyncio.run(ask_over_mqtt(linked, payload, understood, **named))
    return name, *told
