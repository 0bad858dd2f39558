"""What is written of settings: reference and schema that cannot drift, and files that read back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from daemon.settings import (
    Settings,
    effective_toml,
    settings_reference,
    settings_schema,
    starter_toml,
)
from daemon.settings.describe import all_keys, is_free_table, text_of
from daemon.settings.reference import REFERENCE_FILE, SCHEMA_FILE
from tests.test_settings import LATE_ON_GRID, load, write


def test_reference_and_schema_in_the_tree_are_up_to_date(repository_root: Path) -> None:
    remedy = "run `python -m daemon.settings`"
    page = (repository_root / REFERENCE_FILE).read_text(encoding="utf-8")
    assert page == settings_reference(), remedy
    schema = (repository_root / SCHEMA_FILE).read_text(encoding="utf-8")
    assert schema == settings_schema(), remedy


def test_the_reference_explains_every_key() -> None:
    page = settings_reference()
    for full, field in all_keys():
        row = f"| `{full.split('.')[1]}` | "
        assert row in page
        assert field.description, f"{full} has no description"
        assert field.description.replace("|", "\\|") in page


def test_the_schema_knows_every_section_and_refuses_others() -> None:
    schema = json.loads(settings_schema())
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False
    risk = schema["$defs"]["RiskSettings"]["properties"]["gross_weight_max"]
    assert (risk["exclusiveMinimum"], risk["maximum"]) == (0, 20)


def test_the_starter_file_holds_every_key_and_changes_nothing(tmp_path: Path) -> None:
    text = starter_toml()
    assert load(write(tmp_path, text)) == Settings()
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and "Accepted" not in line else line
        for line in text.splitlines()
    )
    table = tomllib.loads(uncommented)
    for full, field in all_keys():
        section, key = full.split(".")
        assert is_free_table(field) or key in table[section]
    assert load(write(tmp_path, uncommented, "all.toml")) == Settings()


def test_the_effective_settings_are_a_settings_file(tmp_path: Path) -> None:
    settings = load(
        sets=(
            'exchange.options={"urls": {"api.v1": "http://127.0.0.1:1"}, "timeout": 5}',
            LATE_ON_GRID,
            "rehearsal.until=2024-02-01",
            "paper.cash=123.45000",
        )
    )
    assert load(write(tmp_path, effective_toml(settings))) == settings


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_survives_being_written_as_toml(text: str) -> None:
    assert tomllib.loads(f"x = {text_of(text)}")["x"] == text
