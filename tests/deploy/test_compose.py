"""Show that the services of `deploy/compose.yaml` have no rights and no open doors."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped] # its types are a package of their own

from daemon.cli import COMMANDS
from daemon.settings import Settings

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
NAMES: Final = sorted(SERVICES)


def test_the_services_are_those_that_the_page_names() -> None:
    assert NAMES == ["equipoise", "grafana", "mosquitto", "prometheus", "redis"]


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_no_rights_and_cannot_write_its_own_files(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert service["logging"]["options"] == {"max-size": "20m", "max-file": "10"}
    if name != "equipoise":  # its image says both itself
        assert service["user"].split(":")[0] not in {"0", "root"}
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert ":" in service["image"], "an image without a version changes by itself"


def test_only_this_machine_reaches_the_page_and_grafana() -> None:
    ports = [port for name in NAMES for port in SERVICES[name].get("ports", ())]
    assert sorted(ports) == ["127.0.0.1:3000:3000", "127.0.0.1:8787:8787"]
    assert COMPOSE["networks"]["status"] == {"internal": True}
    inside = [name for name in NAMES if SERVICES[name]["networks"] == ["status"]]
    assert inside == ["mosquitto", "prometheus", "redis"]


def test_secrets_are_files_and_each_is_declared_and_used() -> None:
    declared = COMPOSE["secrets"]
    used = {secret for name in NAMES for secret in SERVICES[name].get("secrets", ())}
    assert set(declared) == used
    assert all(list(one) == ["file"] for one in declared.values())
    for name in NAMES:
        for key, value in SERVICES[name].get("environment", {}).items():
            if any(word in key for word in ("PASSWORD", "TOKEN", "SECRET")):
                assert str(value).startswith("/run/secrets/"), key
                assert Path(value).name in SERVICES[name]["secrets"], key


def test_every_volume_is_declared_and_every_file_is_read_only() -> None:
    for name in NAMES:
        for volume in SERVICES[name].get("volumes", ()):
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert mode == ["ro"], volume
            else:
                assert source in COMPOSE["volumes"]


def test_the_daemon_is_started_by_a_command_and_settings_that_exist() -> None:
    daemon = SERVICES["equipoise"]
    assert daemon["command"][0] in COMMANDS
    for key in daemon["environment"]:
        _, section, name = key.lower().split("__")
        found = Settings.model_fields[section].annotation
        assert name in found.model_fields, key  # type: ignore[union-attr]


def test_compose_scrapes_as_the_example_does() -> None:
    ours = yaml.safe_load((DEPLOY / "compose-prometheus.yml").read_text("utf-8"))
    (job,) = ours["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["equipoise:8787"]}]
    names = SERVICES["equipoise"]["environment"]["EQUIPOISE__WEB__NAMES"]
    assert '"equipoise:8787"' in names, "the page refuses names that it does not know"
    example = DEPLOY / "prometheus" / "prometheus.yml"
    if example.exists():
        (theirs,) = yaml.safe_load(example.read_text("utf-8"))["scrape_configs"]
        assert {**theirs, "static_configs": job["static_configs"]} == job
