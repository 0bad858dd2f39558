"""Operators at a distance: the real command over real servers, against a daemon that trades."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.control import LATCH_NAME
from adapters.journal import JournalReader
from daemon.commands.operating import REFUSED_EXIT, UNANSWERED_EXIT
from daemon.domain.messages import Operator
from tests.e2e.line import SMALL, Finished, command, daemon, rehearse, sets
from tests.e2e.servers import Server, Servers, free_port

SECRET = "a-secret-of-this-very-test-01"
SECRET_ENV = {"OPERATOR_SECRET": SECRET}
CONTROL = ("control.secret_env=OPERATOR_SECRET",)


@pytest.fixture
async def servers(
    tmp_path: Path, valkey_binary: Path, mosquitto_binary: Path
) -> AsyncIterator[Servers]:
    redis_port, mqtt_port = free_port(), free_port()
    words = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    file = tmp_path / "mosquitto.conf"
    lines = [f"listener {mqtt_port} 127.0.0.1", "allow_anonymous true"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    both = Servers(
        Server([valkey_binary, *words], redis_port, tmp_path / "redis.log"),
        Server([mosquitto_binary, "-c", file], mqtt_port, tmp_path / "mosquitto.log"),
    )
    for server in (both.redis, both.mqtt):
        server.start()
        await server.ready()
    yield both
    for server in (both.redis, both.mqtt):
        server.kill()


async def say(
    verb: str, via: str, servers: Servers, cwd: Path, *words: str, secret: str = SECRET
) -> Finished:
    chosen = sets([*servers.overrides, *CONTROL, "run.run_name=rehearsal"])
    said = [verb, "--via", via, "--json", *words, *chosen]
    return await asyncio.to_thread(command, *said, cwd=cwd, extra={"OPERATOR_SECRET": secret})


async def test_both_transports_steer_a_running_daemon_and_a_wrong_secret_does_not(
    tmp_path: Path, servers: Servers
) -> None:
    state = tmp_path / "state"
    started = rehearse(state, *SMALL, *servers.overrides, *CONTROL)
    async with daemon(*started, cwd=tmp_path, extra=SECRET_ENV) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 3)
        paused = await say("pause", "redis", servers, tmp_path)
        assert paused.code == 0, paused.complaint + paused.out
        assert paused.values["answer"]["paused"]
        again = await say(
            "pause", "redis", servers, tmp_path, "--request-id", paused.values["request_id"]
        )
        assert again.values["answer"] == paused.values["answer"]
        resumed = await say("resume", "mqtt", servers, tmp_path)
        assert resumed.code == 0, resumed.complaint + resumed.out
        assert not resumed.values["answer"]["paused"]
        for via in ("redis", "mqtt"):
            wrong = await say(
                "flatten", via, servers, tmp_path, "--wait", "1", secret="another-secret-of-16"
            )
            assert wrong.code == UNANSWERED_EXIT
        killed = await say("kill", "mqtt", servers, tmp_path, "--reason", "a test")
        assert killed.code == 0, killed.complaint + killed.out
        assert killed.values["answer"]["trading"] == "halted"
        assert (state / LATCH_NAME).exists()
        refused = await say("resume", "redis", servers, tmp_path)
        assert refused.code == REFUSED_EXIT
        assert "--clear-latch" in refused.values["answer"]["why"]
        assert await running.end(signal.SIGTERM) == 0, running.said
    events = [entry.event for entry in JournalReader(state / "journal.sqlite").read_from(1)]
    wishes = {(str(e.action), e.reason) for e in events if isinstance(e, Operator)}
    assert wishes == {
        ("pause", ""),
        ("resume", ""),
        ("kill", "killed by the operator over mqtt: a test"),
    }
    assert "signature: not of control.secret" in running.said
    assert SECRET not in running.said
