"""Write down the settings for people and editors: reference page, JSON schema, starter file.

All three come from the models, so they cannot drift from what is accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from daemon.settings.data import RescaledContract
from daemon.settings.describe import accepted, is_free_table, sections, text_of
from daemon.settings.exchange import OtherExchange
from daemon.settings.sections import Irregularity, LaterListing, Settings

REFERENCE_FILE = Path("docs/settings.md")
SCHEMA_FILE = Path("config/equipoise.schema.json")
COMMAND = "python -m daemon.settings"

_HEAD = f"""# Settings

This page is written by `{COMMAND}` from the models in `daemon/settings/sections.py`.

Settings come in layers, later ones win:

1. the defaults of this page,
2. the file in `config/` that the command starts from: `rehearsal.toml` for `rehearse` and `replay`,
   `backtest.toml` for `backtest`, `paper.toml` for the others,
3. TOML files given with `-c FILE`, in the order given; tables melt into each other, lists are
   replaced. A table without keys, such as the bare header `[risk]`, changes nothing; what empties
   `strategy.parameters` or `exchange.options` is `{{}}` in the environment or after `--set`.
   Without `-c`, the file `equipoise.toml` in the working folder, if there is one,
4. environment variables `EQUIPOISE__SECTION__KEY` (two underscores; lists and tables as JSON), for
   example `EQUIPOISE__PAPER__CASH=25000` or `EQUIPOISE__MARKET__TIMEFRAMES='["1h", "2h"]'`,
5. `--set section.key=value` on the command line.

`equipoise config` shows what is in force.

An unknown key or a value out of range stops the start with exit code 78 and one message that lists
every mistake: where it stands, the key, the value, what is accepted, and the nearest known key.
Instants without an offset mean UTC. Passwords and keys never stand in a settings file: a setting
that ends in `_env` names an environment variable, one that ends in `_file` names a file. Editors
that know JSON schemas complete and check the files through `config/equipoise.schema.json`.
"""


_TABLES: Final[dict[str, type[BaseModel]]] = {
    "data.rescaled": RescaledContract,
    "exchange.others": OtherExchange,
    "rehearsal.irregularities": Irregularity,
    "rehearsal.listings": LaterListing,
}


def settings_reference() -> str:
    """Write the reference page: a table for each section."""
    defaults = Settings()
    blocks = [_HEAD]
    for name, section in sections().items():
        rows = [f"## [{name}]", "", section.__doc__ or "", ""]
        rows += ["| key | default | accepted | meaning |", "| --- | --- | --- | --- |"]
        for key, field in section.model_fields.items():
            default = text_of(getattr(getattr(defaults, name), key))
            cells = (f"`{key}`", f"`{default}`", accepted(field), field.description or "")
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        blocks.append("\n".join(rows) + "\n")
    blocks += [_table(name, model) for name, model in _TABLES.items()]
    return "\n".join(blocks)


def _table(name: str, model: type[BaseModel]) -> str:
    rows = [f"## [[{name}]]", "", model.__doc__ or "", ""]
    rows += ["| key | default | accepted | meaning |", "| --- | --- | --- | --- |"]
    for key, field in model.model_fields.items():
        missing = field.default is PydanticUndefined
        default = "needed" if missing else f"`{text_of(field.default)}`"
        rows.append(f"| `{key}` | {default} | {accepted(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def settings_schema() -> str:
    """Write the JSON schema that editors use to complete and check settings files."""
    schema = Settings.model_json_schema()
    schema["title"] = "Equipoise settings"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def starter_toml() -> str:
    """Write a settings file with every key at its default, commented out, each explained.

    For `equipoise init`: removing a `#` is all it takes to change a setting.
    """
    defaults = Settings()
    lines = ["# Settings of Equipoise. Every line shows a default: remove the # and change it."]
    for name, section in sections().items():
        lines += ["", f"# {section.__doc__}", f"[{name}]"]
        for key, field in section.model_fields.items():
            if not is_free_table(field):
                lines += [f"# {field.description} Accepted: {accepted(field)}."]
                lines += [f"# {key} = {text_of(getattr(getattr(defaults, name), key))}"]
        for key, field in section.model_fields.items():  # last: what follows belongs to the table
            if is_free_table(field):
                lines += [
                    f"# {field.description} Accepted: {accepted(field)}.",
                    f"# [{name}.{key}]",
                ]
    return "\n".join(lines) + "\n"


def write_reference(root: Path) -> tuple[Path, Path]:
    """Renew the reference page and the schema below the checkout `root`; give their paths."""
    page, schema = root / REFERENCE_FILE, root / SCHEMA_FILE
    page.write_text(settings_reference(), encoding="utf-8")
    schema.write_text(settings_schema(), encoding="utf-8")
    return page, schema
