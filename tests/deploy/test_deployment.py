"""Show that what we deploy runs without privileges and knows the exit codes of the daemon."""

import json
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from daemon.cli import COMMANDS
from daemon.domain import failures
from daemon.settings import read_secret

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
UNITS = ("equipoise.service", "equipoise-backup.service", "equipoise-backup.timer")
ANALYSE = shutil.which("systemd-analyze")  # other systems start nothing by these units
EXPOSURE_MAX = {"equipoise.service": 1.6, "equipoise-backup.service": 1.0}


@pytest.fixture
def service() -> dict[str, str]:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their capitals
    parser.read(DEPLOY / "equipoise.service", encoding="utf-8")
    return dict(parser["Service"])


def test_no_restart_follows_a_failure_that_only_a_person_can_mend(service: dict[str, str]) -> None:
    prevented = {int(code) for code in service["RestartPreventExitStatus"].split()}
    needs_a_person = (
        failures.ConfigurationError,
        failures.DataError,
        failures.ModelError,
        failures.JournalError,
        failures.AlreadyRunning,
    )
    assert prevented == {failure.exit_code for failure in needs_a_person}


def test_a_crash_is_followed_by_a_restart(service: dict[str, str]) -> None:
    assert service["Restart"] == "on-failure"
    prevented = service["RestartPreventExitStatus"].split()
    assert str(failures.InvariantViolated.exit_code) not in prevented
    assert str(failures.VenueError.exit_code) not in prevented


def test_a_loop_that_hangs_is_ended_and_begun_again(service: dict[str, str]) -> None:
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert 0 < int(service["WatchdogSec"]) <= 120
    assert service["Restart"] in {"on-failure", "on-watchdog", "always"}
    assert service["TimeoutStartSec"] == "infinity", "training comes before the first message"
    assert "AF_UNIX" in service["RestrictAddressFamilies"]


def test_the_service_has_no_privileges(service: dict[str, str]) -> None:
    assert service["CapabilityBoundingSet"] == ""
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["DynamicUser"] == "yes"


@pytest.mark.parametrize("unit", UNITS)
def test_what_a_unit_starts_is_a_command_of_ours(unit: str) -> None:
    text = (DEPLOY / unit).read_text(encoding="utf-8")
    started = [shlex.split(line)[1] for line in re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)]
    assert set(started) <= set(COMMANDS)
    assert bool(started) == unit.endswith(".service")


def analysed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYSE is not None
    return subprocess.run(
        [ANALYSE, *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if ANALYSE is None:
        return
    program = tmp_path / "equipoise"  # stands for the installed one, which lies elsewhere here
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for unit in UNITS:
        text = (DEPLOY / unit).read_text(encoding="utf-8")
        text = text.replace("/opt/equipoise/.venv/bin/equipoise", str(program))
        (tmp_path / unit).write_text(text, encoding="utf-8")
    done = analysed("verify", "--man=no", *(tmp_path / unit for unit in UNITS))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", sorted(EXPOSURE_MAX))
def test_the_exposure_that_systemd_rates_stays_low(unit: str) -> None:
    if ANALYSE is None:
        return
    done = analysed("security", "--offline=yes", "--no-pager", DEPLOY / unit)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_MAX[unit]


def test_a_secret_that_the_service_manager_hands_over_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "equipoise_redis-password").write_text("of the service\n", encoding="utf-8")
    around = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    found = read_secret(
        "redis.password", variable="", file="equipoise_redis-password", environment=around
    )
    assert found is not None
    assert found.reveal() == "of the service"
    with pytest.raises(failures.ConfigurationError, match="cannot be read"):
        read_secret("redis.password", variable="", file="./absent", environment=around)


def test_the_daemon_gets_its_secrets_from_the_service_manager(service: dict[str, str]) -> None:
    assert service["LoadCredential"] == "equipoise:/etc/equipoise/credentials"


def final_stage() -> str:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    return re.split(r"^FROM ", text, flags=re.MULTILINE)[-1]


def test_the_container_ends_its_set_up_as_an_ordinary_user() -> None:
    users = re.findall(r"^USER (\S+)$", final_stage(), flags=re.MULTILINE)
    assert users == ["10001"]


def test_the_container_takes_every_package_and_its_build_context_lets_each_through() -> None:
    build = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    context = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", build, flags=re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert {"daemon", "strategies", "adapters", "config"} <= names
    assert {f"!{name}" for name in names} <= set(context)


def test_the_health_check_of_the_image_is_a_command_of_ours() -> None:
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.+\])", final_stage())
    assert found, "the image has no health check"
    program, command, *options = json.loads(found[1])
    assert (program, options) == ("equipoise", ["--json"])
    assert command in COMMANDS


def test_everything_the_image_copies_exists() -> None:
    build = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", build, flags=re.MULTILINE):
        for name in line.split():
            assert (DEPLOY.parent / name).exists(), name
