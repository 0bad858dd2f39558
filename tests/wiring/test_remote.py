"""Requests over real servers, against a real shell in memory: signed, fresh, once, and answered."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from msgspec import json as msgspec_json
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from redis.asyncio import Redis
from structlog.testing import capture_logs

from adapters.clocks import TransportClock
from adapters.embedded_redis import embedded_redis
from adapters.mqtt_commands import MqttCommands, ask_over_mqtt
from adapters.mqtt_status import Broker, broker_of, command_client
from adapters.redis_commands import BLOCK_MS, COMMANDS_MAX, RedisCommands, ask_over_redis
from adapters.redis_status import connect
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import OperatorAction
from daemon.settings import load_settings
from daemon.status import listening
from daemon.status.signing import PAYLOAD_BYTES_MAX, SignedRequest, read_answer, signed_request
from daemon.wiring import control
from daemon.wiring.remote import WAITING_MAX, RemoteDesk, control_secret
from tests.e2e.servers import Server, free_port
from tests.wiring.test_control import Desk, desk, traded

SECRET = b"a-secret-of-this-very-test-01"
NS, RUN = "equipoise", "paper"
NAMES: dict[str, Any] = {"namespace": NS, "run": RUN}
COMMANDS, ANSWERS = f"{NS}:{RUN}:commands", f"{NS}:{RUN}:answers"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.005)
    monkeypatch.setattr(listening, "PAUSE_S_MIN", 0.02)
    monkeypatch.setattr(listening, "PAUSE_S_MAX", 0.1)


def payload_of(
    action: str, name: str, *, secret: bytes = SECRET, ago_s: float = 0.0, **changed: Any
) -> str:
    """Sign a request as an operator does; `changed` alters it before it is signed."""
    asked_ms = TransportClock().wall_ms() - round(1000 * ago_s)
    values = {"run": RUN, "request_id": name, "asked_ms": asked_ms, **changed}
    return signed_request(secret, action=action, **values)


@dataclass
class Rig:
    """Hold a session in memory with the desk of its operators at a distance."""

    made: Desk
    remote: RemoteDesk

    async def told(self, payload: str | bytes, refusal: str = "") -> dict[str, object] | None:
        """Hand in a payload and wait for its answer; None for silence."""
        raw = payload.encode() if isinstance(payload, str) else payload
        ticket = await self.remote.take(raw, via="test", refusal=refusal)
        if ticket is None:
            return None
        said = await ticket.answer()
        assert said is not None
        answer = read_answer(said, SECRET, run=RUN)
        assert answer is not None
        return answer

    @property
    def wished(self) -> list[tuple[str, str]]:
        return [(str(wish.action), wish.request_id) for wish in self.made.wishes]


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    async with desk(folder) as made:
        await traded(made)
        # the session's own clock stands still; requests are judged by the machine's
        made_spool = made.spool
        remote = RemoteDesk(
            run=RUN,
            secret=SECRET,
            age_s_max=30.0,
            spool=made_spool,
            latches=made.latches,
            clock=TransportClock(),
        )
        yield Rig(made, remote)


# ---- what is obeyed and what is not --------------------------------------------------------------


async def test_a_signed_request_is_journalled_and_its_answer_is_signed(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        answer = await one.told(payload_of("pause", "p1"))
        assert answer is not None
        assert (answer["obeyed"], answer["paused"], answer["request_id"]) == (True, True, "p1")
        assert one.wished == [("pause", "p1")]


async def test_a_replay_is_answered_again_and_obeyed_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        payload = payload_of("pause", "p1")
        first = await one.told(payload)
        assert await one.told(payload) == first
        assert one.wished == [("pause", "p1")]
        other = await one.told(payload_of("reduce_only", "p1"))
        assert other is not None
        assert not other["obeyed"]
        assert str(other["why"]).startswith("request_id: stands for pause")


async def test_a_kill_sets_the_latch_and_its_replay_after_a_resume_does_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        payload = payload_of("kill", "k1", reason="odd fills")
        answer = await one.told(payload)
        assert answer is not None
        assert answer["trading"] == "halted"
        halt = one.made.latches.found()
        assert halt is not None
        assert halt.reason == "killed by the operator over test: odd fills"
        one.made.latches.clear()
        assert await one.told(payload) == answer
        assert one.made.latches.found() is None
        again = replace_memory(one)
        assert await again.told(payload) == answer  # also of a daemon that was started anew
        assert one.made.latches.found() is None


def replace_memory(one: Rig) -> Rig:
    """Give a rig whose desk remembers nothing, as after a restart."""
    made = one.made
    remote = RemoteDesk(
        run=RUN,
        secret=SECRET,
        age_s_max=30.0,
        spool=made.spool,
        latches=made.latches,
        clock=TransportClock(),
    )
    return replace(one, remote=remote)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"ago_s": 31.0}, "asked_ms"),
        ({"ago_s": -31.0}, "asked_ms"),
        ({"run": "another"}, "run"),
        ({"request_id": "../../etc"}, "request_id"),
        ({"action": "explode"}, "action"),
    ],
)
async def test_what_is_signed_but_wrong_is_refused_by_the_name_of_its_field(
    tmp_path: Path, changed: dict[str, Any], field: str
) -> None:
    async with rig(tmp_path) as one:
        values = {"action": "pause", "name": "p1", **changed}
        answer = await one.told(payload_of(**values))
        assert answer is not None
        assert not answer["obeyed"]
        assert str(answer["why"]).startswith(f"{field}: ")
        assert one.wished == []
        assert one.made.spool.waiting().requests == ()


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "payload"),
        (b"\xff\xfe", "payload"),
        (b"[" * 4000, "payload"),
        (b"x" * (PAYLOAD_BYTES_MAX + 1), "payload"),
        (b'{"action": "pause"}', "`run`"),
        (payload_of("pause", "p").replace('"asked_ms":', '"asked_ms":"1","x":').encode(), "asked"),
        (payload_of("pause", "p", reason="r" * 201).encode(), "reason"),
        (payload_of("pause", "p", reason="a\nb").encode(), "reason"),
        (payload_of("pause", "p", secret=b"another-secret-of-16").encode(), "signature"),
        (payload_of("pause", "p").replace("pause", "flatten", 1).encode(), "signature"),
        (payload_of("pause", "p").replace('"reason":""', '"reason":"x"').encode(), "signature"),
    ],
)
async def test_what_cannot_be_believed_is_met_with_silence_and_logged_by_its_field(
    tmp_path: Path, payload: bytes, field: str
) -> None:
    async with rig(tmp_path) as one:
        with capture_logs() as logs:
            assert await one.told(payload) is None
        (entry,) = [e for e in logs if e["event"] == LogEvent.COMMANDS_REFUSED]
        assert field in entry["why"]
        assert one.wished == []
        assert one.remote.refused_n == 1


async def test_a_burst_of_wrong_signatures_is_logged_once_and_counted(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        with capture_logs() as logs:
            for number in range(500):
                wrong = payload_of("kill", f"k{number}", secret=b"another-secret-of-16")
                assert await one.told(wrong) is None
        assert len([e for e in logs if e["event"] == LogEvent.COMMANDS_REFUSED]) == 1
        assert one.remote.refused_n == 500
        assert one.made.latches.found() is None


async def test_too_many_good_requests_are_refused_and_a_kill_is_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        one.remote._seen = {str(n): TransportClock().wall_ms() for n in range(WAITING_MAX)}
        refused = await one.told(payload_of("pause", "p1"))
        assert refused is not None
        assert not refused["obeyed"]
        killed = await one.told(payload_of("kill", "k1"))
        assert killed is not None
        assert killed["obeyed"]


async def test_a_signature_of_every_wrong_length_and_letter_is_refused() -> None:
    right = msgspec_json.decode(payload_of("kill", "k").encode(), type=SignedRequest)
    assert right.is_signed_with(SECRET)
    for wrong in ("", right.signature[:-1], right.signature.upper(), "é" * 64, "0" * 64):
        assert not replace_signature(right, wrong).is_signed_with(SECRET)


def replace_signature(request: SignedRequest, signature: str) -> SignedRequest:
    values = {name: getattr(request, name) for name in request.__struct_fields__}
    return SignedRequest(**{**values, "signature": signature})


def test_a_short_secret_is_refused_and_none_means_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "tooshort")
    base = [f"run.state_folder={tmp_path}"]
    assert control_secret(load_settings([], overrides=base, environment={})) is None
    short = load_settings([], overrides=[*base, "control.secret_env=SHORT"], environment={})
    with pytest.raises(ConfigurationError, match="at least 16"):
        control_secret(short)


# ---- over Redis ----------------------------------------------------------------------------------


@asynccontextmanager
async def over_redis(one: Rig, folder: Path) -> AsyncIterator[Redis]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(embedded_redis(folder))
        heard = RedisCommands(linked(url), one.remote, **NAMES, server=url)
        await stack.enter_async_context(heard.running())
        client = connect(url, as_text=False, blocks_s=BLOCK_MS / 1000)
        stack.push_async_callback(client.aclose)
        yield client


def linked(url: str) -> partial[Redis]:
    return partial(connect, url, as_text=False, blocks_s=BLOCK_MS / 1000)


def understood(name: str) -> Any:
    def read(text: str) -> dict[str, object] | None:
        answer = read_answer(text, SECRET, run=RUN)
        return answer if answer is not None and answer["request_id"] == name else None

    return read


async def test_redis_brings_requests_and_bounded_answers_and_forgets_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as one, over_redis(one, tmp_path) as client:
        url = f"unix://{client.connection_pool.connection_kwargs['path']}"
        # what nobody can read must neither end the listener nor stay
        for poison in ({"payload": b"\xff\xfe"}, {"nothing": "here"}, {"payload": b"x" * 300_000}):
            await client.xadd(COMMANDS, poison)  # type: ignore[arg-type]
        payload = payload_of("pause", "p1")
        answer, why = await ask_over_redis(
            linked(url), payload, understood("p1"), **NAMES, wait_s=20
        )
        assert answer is not None, why
        assert answer["paused"]
        assert await client.xlen(COMMANDS) == 0
        assert 0 < await client.pttl(ANSWERS) <= 3_600_000
        assert one.remote.refused_n == 3
        forged = json.dumps({"request_id": "x1", "answer": "{}", "signature": "0" * 64})
        await client.xadd(ANSWERS, {"payload": forged})
        assert understood("x1")(forged) is None


async def test_a_flood_while_the_daemon_was_away_is_cut_and_a_request_after_it_is_heard(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as one, embedded_redis(tmp_path) as url:
        client = connect(url, as_text=False)
        for _ in range(20):
            pipe = client.pipeline(transaction=False)
            for _ in range(200):
                pipe.xadd(COMMANDS, {"payload": "garbage"})
            await pipe.execute()
        heard = RedisCommands(linked(url), one.remote, **NAMES, server=url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("adapters.redis_commands.REFUSED_PAUSE_S", 0.0)
            async with heard.running():
                answer, why = await ask_over_redis(
                    linked(url), payload_of("pause", "p1"), understood("p1"), **NAMES, wait_s=30
                )
        assert answer is not None, why
        assert one.remote.refused_n <= COMMANDS_MAX
        await client.aclose()


# ---- over MQTT -----------------------------------------------------------------------------------


@asynccontextmanager
async def broker(folder: Path, program: Path) -> AsyncIterator[tuple[Server, Broker]]:
    port, file = free_port(), folder / "mosquitto.conf"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    server = Server([program, "-c", file], port, folder / "mosquitto.log")
    server.start()
    await server.ready()
    try:
        yield server, broker_of(f"mqtt://127.0.0.1:{port}")
    finally:
        server.kill()


async def heard_by(listener: listening.Listener) -> None:
    async with asyncio.timeout(20):
        while listener._heard_from_s is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_mqtt_answers_where_it_was_asked_to_with_the_correlation_data(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    async with rig(tmp_path) as one, broker(tmp_path, mosquitto_binary) as (_, there):
        link = partial(command_client, there)
        told = MqttCommands(link, one.remote, **NAMES, server=there.address)
        async with told.running():
            await heard_by(told.listener)
            payload = payload_of("pause", "p1")
            answer, why = await ask_over_mqtt(
                link, payload, understood("p1"), **NAMES, request_id="p1", wait_s=20
            )
            assert answer is not None, why
            assert answer["paused"]
            # a response topic outside our own is not written to: the answer comes where it belongs
            async with command_client(there) as client:
                await client.subscribe("#", qos=1)
                stray = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                stray.ResponseTopic = f"{NS}/{RUN}/status"
                stray.CorrelationData = b"abc"
                topic = f"{NS}/{RUN}/cmd"
                await client.publish(topic, payload, qos=1, properties=stray)
                heard = await next_beside(client, topic)
                assert str(heard.topic) == f"{topic}/answer"
                assert getattr(heard.properties, "CorrelationData", b"") == b"abc"


async def next_beside(client: aiomqtt.Client, topic: str) -> aiomqtt.Message:
    async with asyncio.timeout(20):
        async for message in client.messages:
            if str(message.topic) != topic:
                return message
    raise AssertionError("nothing came")


async def test_a_retained_request_is_refused_now_and_not_heard_at_the_next_start(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    async with rig(tmp_path) as one, broker(tmp_path, mosquitto_binary) as (_, there):
        link = partial(command_client, there)
        told = MqttCommands(link, one.remote, **NAMES, server=there.address)
        async with command_client(there) as client, told.running():
            await heard_by(told.listener)
            await client.subscribe(f"{NS}/{RUN}/cmd/answer/#", qos=1)
            retained = payload_of("flatten", "f1")
            await client.publish(f"{NS}/{RUN}/cmd", retained, qos=1, retain=True)
            message = await next_beside(client, "")
            assert isinstance(message.payload, bytes)
            answer = read_answer(message.payload.decode(), SECRET, run=RUN)
            assert answer is not None
            assert str(answer["why"]).startswith("retained: ")
        anew = MqttCommands(link, one.remote, **NAMES, server=there.address)
        with capture_logs() as logs:
            async with anew.running():
                await heard_by(anew.listener)
                paused = payload_of("pause", "p")
                answer, why = await ask_over_mqtt(
                    link, paused, understood("p"), **NAMES, request_id="p", wait_s=20
                )
                assert answer is not None, why
        assert not [e for e in logs if e["event"] == LogEvent.OPERATOR_REFUSED]
        assert one.wished == [("pause", "p")]
        assert one.remote.refused_n == 0


async def test_a_broker_that_flaps_is_heard_again_and_never_holds_up_the_loop(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    async with rig(tmp_path) as one, broker(tmp_path, mosquitto_binary) as (server, there):
        link = partial(command_client, there)
        told = MqttCommands(link, one.remote, **NAMES, server=there.address)
        async with told.running(), measured_lag() as lags:
            for _ in range(4):
                await heard_by(told.listener)
                server.kill()
                await asyncio.sleep(0.1)
                told.listener._heard_from_s = None
                server.start()
                await server.ready()
            await heard_by(told.listener)
            payload = payload_of("pause", "p1")
            answer, why = await ask_over_mqtt(
                link, payload, understood("p1"), **NAMES, request_id="p1", wait_s=30
            )
            assert answer is not None, why
        lags.sort()
        assert lags[int(0.99 * len(lags))] < LAG_S_MAX, lags[-5:]


LAG_S_MAX = 0.25  # of a busy machine; a call that waited for the broker would take 2 s
LOOK_S = 0.005


@asynccontextmanager
async def measured_lag() -> AsyncIterator[list[float]]:
    """Measure by how much later than asked the loop comes back."""
    lags: list[float] = []
    loop = asyncio.get_running_loop()

    async def measure() -> None:
        while True:
            before_s = loop.time()
            await asyncio.sleep(LOOK_S)
            lags.append(loop.time() - before_s - LOOK_S)

    task = asyncio.create_task(measure())
    try:
        yield lags
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_words_of_actions_are_those_that_are_signed() -> None:
    assert [str(action) for action in OperatorAction] == [
        "pause", "resume", "reduce_only", "flatten", "kill", "reload"
    ]  # fmt: skip
