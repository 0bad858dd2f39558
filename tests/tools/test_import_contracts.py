"""Show that the import contracts refuse what they must, on imports written out by hand."""

import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from tools.import_contracts import find_strangers_that_meet, find_trespasses, parse_rooms, room_of

ROOT = Path(__file__).resolve().parent.parent.parent


def configured_rooms() -> dict[str, tuple[str, ...]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return parse_rooms(next(c["may_import"] for c in contracts if c["type"] == "rooms"))


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("strategies.neutral", "adapters.exchange.feed"),
        ("strategies.neutral", "daemon.ports"),
        ("strategies.neutral", "daemon.engine.state"),
        ("adapters.exchange.feed", "daemon.engine.engine"),
        ("adapters.exchange.feed", "daemon.settings"),
        ("adapters.estimate_worker", "strategies.forecast.inference"),
        ("daemon.engine.engine", "strategies.neutral"),
        ("daemon.engine.engine", "daemon.statistics.ic"),
        ("daemon.domain.bar", "daemon.ports"),
        ("daemon.runtime.live", "adapters.clocks"),
        ("daemon.research.walk_forward", "adapters.paper_venue"),
        ("daemon.cli", "adapters.paper_venue"),
        ("daemon.cli", "strategies.neutral"),
        ("daemon.report.tear_sheet", "daemon.runtime.replay"),
    ],
)
def test_an_import_against_the_house_is_refused(importer: str, imported: str) -> None:
    pair = (importer, imported)
    assert list(find_trespasses([pair], configured_rooms())) == [pair]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("daemon.cli", "daemon.wiring"),
        ("daemon.wiring", "adapters.exchange.feed"),
        ("daemon.wiring", "strategies.neutral"),
        ("daemon.research.walk_forward", "strategies.forecast.training.network_training"),
        ("daemon.runtime.live", "daemon.engine.engine"),
        ("daemon.engine.engine", "daemon.engine.state"),
        ("strategies.neutral", "daemon.statistics.ic"),
        ("adapters.journal", "daemon.codec"),
        ("adapters.rehearsal.server", "adapters.rehearsal.market"),
    ],
)
def test_an_import_along_the_house_is_welcome(importer: str, imported: str) -> None:
    assert list(find_trespasses([(importer, imported)], configured_rooms())) == []


def test_adapters_meet_only_within_one_room() -> None:
    imports = [
        ("adapters.exchange.feed", "adapters.exchange.mapping"),
        ("adapters.rehearsal.server", "adapters.rehearsal.market"),
        ("adapters.paper_venue", "adapters.journal"),
        ("adapters.rehearsal.server", "adapters.history"),
        ("adapters.mqtt_status", "adapters.exchange.feed"),
        ("daemon.wiring", "adapters.journal"),
    ]
    met = list(find_strangers_that_meet(imports, "adapters"))
    assert met == imports[2:5]


def test_the_innermost_room_answers_for_a_module() -> None:
    assert room_of("daemon.engine.risk", ["daemon", "daemon.engine"]) == "daemon.engine"
    assert room_of("daemon.engineering", ["daemon.engine"]) is None


def test_a_line_without_an_arrow_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="must read 'room -> room"):
        parse_rooms(["daemon.engine daemon.ports"])


def test_the_command_fails_and_names_the_line_of_a_bad_import(tmp_path: Path) -> None:
    for package in ("floor", "roof"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "floor" / "base.py").write_text("import roof.top\n", encoding="utf-8")
    (tmp_path / "roof" / "top.py").write_text("x = 1\n", encoding="utf-8")
    settings = """
        [tool.importlinter]
        root_packages = ["floor", "roof"]
        contract_types = ["rooms: tools.import_contracts.RoomsContract"]
        [[tool.importlinter.contracts]]
        name = "house"
        type = "rooms"
        may_import = ["roof -> floor", "floor -> "]
    """
    (tmp_path / "pyproject.toml").write_text(dedent(settings), encoding="utf-8")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from importlinter.cli import lint_imports\n"
        "sys.exit(lint_imports(no_cache=True))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "floor.base must not import roof.top (l.1)" in done.stdout
