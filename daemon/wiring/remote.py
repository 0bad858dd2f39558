"""Operators at a distance: check what arrives over Redis and MQTT, and lay it into the spool.

From there on it is a request like any other: journalled, obeyed once, answered. A kill sets the
halt latch first, as the command on this machine does. What is not signed with our secret is met
with silence: it is counted, and logged once a burst.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from adapters.clocks import TransportClock
from adapters.control import Answer, Halt, Latches, Request, Spool, is_request_id
from adapters.mqtt_commands import MqttCommands
from adapters.mqtt_status import command_client
from adapters.redis_commands import BLOCK_MS, RedisCommands
from adapters.redis_status import connect
from daemon.domain.failures import BadPayload, ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import OperatorAction
from daemon.settings import Settings, read_secret
from daemon.status.signing import (
    SECRET_BYTES_MIN,
    SignedRequest,
    read_request,
    signed_answer,
)
from daemon.wiring.control import KILLED
from daemon.wiring.sinks import mqtt_broker, redis_login
from daemon.wiring.status import status_url

LOOK_S: Final = 0.1
ANSWER_S_MAX: Final = 60.0
BURST_S: Final = 60.0
WAITING_MAX: Final = 100  # requests of ours that the daemon has not answered

log = structlog.get_logger()


def control_secret(settings: Settings) -> bytes | None:
    """Read the secret of remote control; None where none is named.

    Raises ConfigurationError for one that cannot be read or is too short.
    """
    control = settings.control
    named = read_secret("control.secret", variable=control.secret_env, file=control.secret_file)
    if named is None:
        return None
    secret = named.reveal().encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"control.secret: {len(secret)} bytes; at least {SECRET_BYTES_MIN} are needed, for "
            "example from `openssl rand -hex 32`"
        )
    return secret


@dataclass(slots=True)
class _Refusals:
    """Count what was refused unanswered, and log the first of a burst and then the count."""

    clock: TransportClock
    count: int = 0
    unlogged: int = 0
    logged_s: float = -BURST_S

    def note(self, why: str, via: str) -> None:
        self.count += 1
        self.unlogged += 1
        now_s = self.clock.monotonic()
        if now_s - self.logged_s >= BURST_S:
            log.warning(
                LogEvent.COMMANDS_REFUSED,
                why=why,
                via=via,
                since_last=self.unlogged,
                all=self.count,
            )
            self.logged_s, self.unlogged = now_s, 0


@dataclass(frozen=True, slots=True)
class _Settled:
    """Hold an answer that is known already."""

    payload: str

    async def answer(self) -> str | None:
        return self.payload


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Wait until the daemon has answered a request in the spool."""

    desk: RemoteDesk
    request_id: str

    async def answer(self) -> str | None:
        async with asyncio.timeout(ANSWER_S_MAX):
            while True:
                told = await asyncio.to_thread(self.desk.spool.answer, self.request_id)
                if told is not None:
                    return self.desk.written(told)
                await asyncio.sleep(LOOK_S)


class RemoteDesk:
    """Take requests of all transports for one run."""

    def __init__(
        self,
        *,
        run: str,
        secret: bytes,
        age_s_max: float,
        spool: Spool,
        latches: Latches,
        clock: TransportClock,
    ) -> None:
        self.spool = spool
        self._run = run
        self._secret = secret
        self._age_s_max = age_s_max
        self._latches = latches
        self._clock = clock
        self._refusals = _Refusals(clock)
        self._seen: dict[str, int] = {}  # asked_ms by id, of those young enough to come again

    @property
    def refused_n(self) -> int:
        """Count the payloads that were met with silence."""
        return self._refusals.count

    async def take(
        self, payload: bytes, *, via: str, refusal: str = ""
    ) -> _Settled | _Waiting | None:
        """Lay a request into the spool, or refuse it; None is to be met with silence."""
        try:
            request = read_request(payload)
        except BadPayload as e:
            self._refusals.note(str(e), via)
            return None
        if not request.is_signed_with(self._secret):
            self._refusals.note("signature: not of control.secret", via)
            return None
        why = refusal or self._objection(request)
        if why:
            return self._refused(request, why, via)
        return await self._kept(request, OperatorAction(request.action), via)

    def written(self, told: Answer) -> str:
        """Write an answer of the daemon as a signed payload."""
        answer = msgspec.json.encode(told).decode()
        return signed_answer(self._secret, run=self._run, request_id=told.request_id, answer=answer)

    def _objection(self, request: SignedRequest) -> str:
        """Say what is wrong with a request that is signed, "" where nothing is; name the field."""
        if request.action not in tuple(OperatorAction):
            return f"action: {request.action!r}; accepted are {', '.join(OperatorAction)}"
        if request.run != self._run:
            return f"run: {request.run!r}; this is {self._run!r}"
        if not is_request_id(request.request_id):
            return "request_id: accepted are up to 64 letters, digits, - and _"
        age_s = (self._clock.wall_ms() - request.asked_ms) / 1000
        if abs(age_s) > self._age_s_max:
            way = "ago" if age_s > 0 else "ahead"
            return (
                f"asked_ms: {abs(age_s):,.0f} s {way} by this machine's clock, at most "
                f"{self._age_s_max:g} s; ask again"
            )
        return ""

    def _refused(self, request: SignedRequest, why: str, via: str) -> _Settled:
        name = request.request_id[:64]
        log.warning(LogEvent.OPERATOR_REFUSED, action=request.action[:32], request_id=name, why=why)
        values = {"request_id": request.request_id, "action": request.action, "obeyed": False}
        answer = msgspec.json.encode({**values, "why": why}).decode()
        payload = signed_answer(
            self._secret, run=self._run, request_id=request.request_id, answer=answer
        )
        return _Settled(payload)

    async def _kept(
        self, request: SignedRequest, action: OperatorAction, via: str
    ) -> _Settled | _Waiting:
        """Keep a good request, unless it came before; what the disk refuses is told."""
        name = request.request_id
        told = await asyncio.to_thread(self.spool.answer, name)
        if told is not None and told.action is action:
            return _Settled(self.written(told))
        if told is not None:
            return self._refused(request, f"request_id: stands for {told.action} already", via)
        if name in self._seen:
            return _Waiting(self, name)
        if len(self._young()) >= WAITING_MAX and action is not OperatorAction.KILL:
            why = f"over {WAITING_MAX} requests came within {2 * self._age_s_max:g} s"
            return self._refused(request, why, via)
        try:
            await asyncio.to_thread(self._keep, request, action, via)
        except (OSError, ConfigurationError) as e:
            return self._refused(request, str(e), via)
        self._seen[name] = request.asked_ms
        log.info(LogEvent.COMMAND_TAKEN, action=str(action), request_id=name, via=via)
        return _Waiting(self, name)

    def _keep(self, request: SignedRequest, action: OperatorAction, via: str) -> None:
        name, now_ms = request.request_id, self._clock.wall_ms()
        latched: OSError | None = None
        if action is OperatorAction.KILL:
            said = f"{KILLED} over {via}"
            reason = f"{said}: {request.reason}" if request.reason else said
            try:
                self._latches.set(Halt(reason, name, now_ms))
            except OSError as e:  # the daemon itself may still be told
                latched = e
        self.spool.send(Request(action, name, now_ms))
        if latched is not None:
            raise latched

    def _young(self) -> dict[str, int]:
        """Forget what is too old to be taken again; give the others."""
        until_ms = self._clock.wall_ms() - round(2000 * self._age_s_max)
        self._seen = {name: at_ms for name, at_ms in self._seen.items() if at_ms > until_ms}
        return self._seen


@asynccontextmanager
async def remote_control(settings: Settings, latches: Latches) -> AsyncIterator[RemoteDesk | None]:
    """Listen to operators at a distance for as long as the context lasts; None where it is off.

    Enter it after the spool was opened and the sinks were, whose embedded server it may use.
    """
    secret = control_secret(settings)
    if secret is None:
        yield None
        return
    control, run = settings.control, settings.run.run_name
    desk = RemoteDesk(
        run=run,
        secret=secret,
        age_s_max=control.age_s_max,
        spool=Spool(settings.run.state_folder),
        latches=latches,
        clock=TransportClock(),
    )
    async with AsyncExitStack() as stack:
        url = status_url(settings) if control.redis and settings.redis.enabled else None
        if url is not None:
            client = partial(
                connect, url, **redis_login(settings), as_text=False, blocks_s=BLOCK_MS / 1000
            )
            named: dict[str, Any] = {"namespace": settings.redis.namespace, "run": run}
            heard = RedisCommands(client, desk, **named, server=url)
            await stack.enter_async_context(heard.running())
        if control.mqtt and settings.mqtt.url:
            broker = mqtt_broker(settings)
            named = {"namespace": settings.mqtt.namespace, "run": run}
            told = MqttCommands(
                partial(command_client, broker), desk, **named, server=broker.address
            )
            await stack.enter_async_context(told.running())
        yield desk
