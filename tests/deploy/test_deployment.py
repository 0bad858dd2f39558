"""Show that what we deploy runs without privileges and knows the exit codes of the daemon."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from daemon.domain import failures

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"


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
