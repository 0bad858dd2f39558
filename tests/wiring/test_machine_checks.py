"""What `doctor` sees of this machine, of a broker and of a key, each well and each wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.mqtt_status import Broker, unreachable
from adapters.rehearsal.accounts import KeySettings
from daemon.domain.units import DAY_MS
from daemon.settings import Settings, load_settings
from daemon.wiring import checks, machine_checks
from daemon.wiring.checks import examine
from daemon.wiring.estimator import ModelFacts
from daemon.wiring.findings import Finding, Verdict
from daemon.wiring.timing import wall_ms
from tests.e2e.live_rig import KEY, SECRET, account_of, exchange, live_settings


def settings_of(folder: Path, *overrides: str) -> Settings:
    base = (f"run.state_folder={folder / 'state'}", "estimator.kind=momentum")
    return load_settings(overrides=(*base, *overrides), environment={})


def found(settings: Settings, name: str) -> Finding:
    return next(one for one in examine(settings, offline=True) if one.name == name)


def test_a_secret_that_others_can_read_is_bad_and_so_is_one_that_is_gone(tmp_path: Path) -> None:
    secret = tmp_path / "redis.password"
    secret.write_text("a-password", encoding="utf-8")
    settings = settings_of(tmp_path, f"redis.password_file={secret}")
    secret.chmod(0o644)
    loose = found(settings, "secrets")
    assert loose.verdict is Verdict.BAD
    assert "mode 644" in loose.text
    assert loose.remedy == f"chmod 600 {secret}"
    secret.chmod(0o600)
    assert found(settings, "secrets").verdict is Verdict.GOOD
    secret.unlink()
    assert "is not there" in found(settings, "secrets").text


def test_a_state_folder_that_everybody_can_write_is_bad(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.run.state_folder.mkdir()
    settings.run.state_folder.chmod(0o777)
    open_to_all = found(settings, "state folder")
    assert open_to_all.verdict is Verdict.BAD
    assert "can command the daemon" in open_to_all.remedy
    settings.run.state_folder.chmod(0o755)
    assert found(settings, "state folder").verdict is Verdict.GOOD


def test_the_disk_is_timed_and_nothing_is_left_there(tmp_path: Path) -> None:
    median, worst = machine_checks.sync_ms(tmp_path)
    assert 0.0 < median <= worst
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("median", "verdict"), [(1.0, Verdict.GOOD), (99.0, Verdict.WARNING), (900.0, Verdict.BAD)]
)
def test_a_slow_disk_is_graded(
    median: float, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "sync_ms", lambda folder: (median, median))
    speed = found(settings_of(tmp_path), "disk speed")
    assert speed.verdict is verdict
    assert bool(speed.remedy) == (verdict is not Verdict.GOOD)


def test_the_kernel_is_asked_whether_its_clock_is_kept(tmp_path: Path) -> None:
    kept = machine_checks.is_clock_kept()
    time = found(settings_of(tmp_path), "time")
    assert time.verdict is (Verdict.GOOD if kept else Verdict.WARNING)
    assert "all times here are UTC" in time.text


def test_the_port_of_a_page_is_tried(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        web = SimpleNamespace(enabled=True, host="127.0.0.1", port=port)
        busy = machine_checks.page_port(SimpleNamespace(web=web))  # type: ignore[arg-type]
    assert busy is not None
    assert busy.verdict is Verdict.WARNING
    free = machine_checks.page_port(SimpleNamespace(web=web))  # type: ignore[arg-type]
    assert free is not None
    assert free.verdict is Verdict.GOOD
    assert machine_checks.page_port(SimpleNamespace()) is None  # type: ignore[arg-type]


def test_an_old_model_is_a_warning_and_one_of_a_generated_market_has_no_age() -> None:
    def aged(days: float, *, is_generated: bool = False) -> Finding | None:
        until_ms = wall_ms() - int(days * DAY_MS)
        facts = ModelFacts("id", "ridge", "exchange: x", is_generated, until_ms)
        return machine_checks.model_age(facts)

    young, old = aged(3), aged(300)
    assert young is not None
    assert old is not None
    assert (young.verdict, old.verdict) == (Verdict.GOOD, Verdict.WARNING)
    assert "train" in old.remedy
    assert aged(300, is_generated=True) is None


async def test_a_broker_that_is_not_there_says_why() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert await unreachable(Broker("127.0.0.1", port))


# ---- a key, at an exchange that answers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "verdict", "words"),
    [
        ({}, Verdict.GOOD, "may trade, may not withdraw"),
        ({"may_withdraw": True}, Verdict.BAD, "may withdraw"),
    ],
)
async def test_the_rights_of_a_key_are_asked_and_one_that_may_withdraw_is_bad(
    rights: dict[str, bool], verdict: Verdict, words: str, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"api_key": KEY, "secret": SECRET}), encoding="utf-8")
    key.chmod(0o600)
    accounts = (KeySettings(KEY, SECRET, "50000", **rights),)
    async with exchange(accounts=accounts) as running:
        settings = live_settings(running, tmp_path / "state", f"live.key_file={key}")
        told = await checks._key(settings)
        other = settings.model_copy(
            update={"live": settings.live.model_copy(update={"account": "another"})}
        )
        wrong = await checks._key(other)
        account = account_of(running)
    assert told.verdict is verdict
    assert words in told.text
    assert SECRET not in told.text
    assert bool(told.remedy) == (verdict is Verdict.BAD)
    if verdict is Verdict.GOOD:
        assert account in told.text
        assert wrong.verdict is Verdict.BAD


async def test_without_a_key_none_is_asked(tmp_path: Path) -> None:
    told = await checks._key(settings_of(tmp_path))
    assert (told.verdict, told.text) == (Verdict.GOOD, "none is named: paper needs none")
