"""Settings: layers, one clear error for every mistake, and masks."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import ConfigurationError
from daemon.settings import (
    Secret,
    Settings,
    check_settings,
    effective,
    effective_toml,
    load_settings,
    mask_login,
    read_secret,
)
from daemon.settings.describe import all_keys, is_free_table
from daemon.settings.layers import Merged

LATE_OFF_GRID = (
    'rehearsal.irregularities=[{"kind":"late","symbol":"A","open":"2024-01-01T00:10:00Z"}]'
)
LATE_ON_GRID = LATE_OFF_GRID.replace("00:10", "00:30").replace("}]", ',"delay_s":5}]')
CONFIG_FILES = ("paper", "rehearsal", "backtest")


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(
    *files: Path, sets: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> Settings:
    return load_settings(files, overrides=sets, environment=environment or {})


def message(*files: Path, **layers: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*files, **layers)
    assert caught.value.exit_code == 78
    return str(caught.value)


# ---- layers --------------------------------------------------------------------------------------


def test_without_any_layer_the_defaults_hold() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.paper.cash == Decimal("10000.0")
    assert settings.market.timeframes == ("1h", "90m", "2h")
    assert settings.universe.symbols == "top:12"


def test_later_layers_win_in_the_documented_order(tmp_path: Path) -> None:
    first = write(tmp_path, "[paper]\nfee_bps = 1\nhalf_spread_bps = 1\nimpact_bps = 1", "1.toml")
    second = write(tmp_path, "[paper]\nfee_bps = 2\nhalf_spread_bps = 2\nimpact_bps = 2", "2.toml")
    environment = {
        "EQUIPOISE__PAPER__FEE_BPS": "3",
        "EQUIPOISE__PAPER__HALF_SPREAD_BPS": "3",
    }
    paper = load(first, second, sets=("paper.fee_bps=4",), environment=environment).paper
    assert (paper.fee_bps, paper.half_spread_bps, paper.impact_bps) == (4, 3, 2)
    assert paper.latency_bps == Settings().paper.latency_bps


def test_tables_melt_into_each_other_and_lists_are_replaced(tmp_path: Path) -> None:
    first = write(
        tmp_path,
        '[exchange.options]\ntimeout = 5\n[exchange.options.urls]\napi = "a"\n'
        '[market]\ntimeframes = ["1h", "2h"]',
        "1.toml",
    )
    second = write(
        tmp_path,
        '[exchange.options.urls]\nws = "b"\n[market]\ntimeframes = ["90m"]',
        "2.toml",
    )
    settings = load(first, second)
    assert settings.exchange.options == {"timeout": 5, "urls": {"api": "a", "ws": "b"}}
    assert settings.market.timeframes == ("90m",)


FREE_TABLES = [key for key, field in all_keys() if is_free_table(field)]
STRICT = """
[risk]
gross_weight_max = 1.0
net_weight_max = 0.01
[exchange.options]
timeout = 5
[exchange.options.urls]
api = "a"
[strategy.parameters]
gross_weight = 1.5
"""


@pytest.mark.parametrize("base", CONFIG_FILES)
@pytest.mark.parametrize("header", [*Settings.model_fields, *FREE_TABLES, "exchange.options.urls"])
def test_a_bare_header_changes_nothing_that_a_lower_layer_set(
    base: str, header: str, tmp_path: Path
) -> None:
    packaged, strict = Path(f"config/{base}.toml"), write(tmp_path, STRICT)
    bare = write(tmp_path, f"[{header}]\n", "bare.toml")
    assert load(packaged, strict, bare) == load(packaged, strict)
    assert load(packaged, strict, bare).risk.gross_weight_max == 1.0


@pytest.mark.parametrize("section", list(Settings.model_fields))
def test_an_empty_section_from_a_text_layer_changes_nothing(section: str, tmp_path: Path) -> None:
    strict = write(tmp_path, STRICT)
    assert load(strict, sets=(f"{section}={{}}",)) == load(strict)
    assert load(strict, environment={f"EQUIPOISE__{section.upper()}": "{}"}) == load(strict)


def test_an_empty_table_said_in_the_environment_or_by_set_empties_a_free_table(
    tmp_path: Path,
) -> None:
    strict = write(tmp_path, STRICT)
    assert load(strict, sets=("exchange.options.urls={}",)).exchange.options == {
        "timeout": 5,
        "urls": {},
    }
    assert load(strict, sets=("exchange.options={}",)).exchange.options == {}
    told = load(strict, environment={"EQUIPOISE__STRATEGY__PARAMETERS": "{}"})
    assert told.strategy.parameters == {}


def test_an_unknown_bare_header_is_still_named(tmp_path: Path) -> None:
    assert "unknown section rsk; did you mean risk?" in message(write(tmp_path, "[rsk]"))
    assert "unknown key risk.gross" in message(write(tmp_path, "[risk.gross]"))


def tables_in(values: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield (*at, key)
            yield from tables_in(value, (*at, key))


FREE_VALUES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
FREE = st.dictionaries(st.sampled_from("abc"), FREE_VALUES, max_size=3)
LAYER = st.fixed_dictionaries(
    {},
    optional={
        "risk": st.fixed_dictionaries({}, optional={"gross_weight_max": st.floats(0.1, 3.0)}),
        "exchange": st.fixed_dictionaries({}, optional={"options": FREE, "id": st.just("kraken")}),
        "strategy": st.fixed_dictionaries({}, optional={"parameters": FREE}),
    },
)


@given(layer=LAYER, data=st.data())
def test_merging_an_empty_table_at_any_path_is_the_identity(
    layer: dict[str, Any], data: st.DataObject
) -> None:
    merged = Merged()
    for key, value in layer.items():
        merged.put((key,), value, "below")
    before = copy.deepcopy(merged.values)
    places = list(tables_in(before))
    for path in data.draw(st.lists(st.sampled_from(places), max_size=4)) if places else []:
        nested: dict[str, Any] = {}
        for key in reversed(path[1:]):
            nested = {key: nested}
        merged.put((path[0],), nested, "above")
    assert merged.values == before


def test_the_environment_brings_json_lists_tables_and_plain_texts() -> None:
    settings = load(
        environment={
            "EQUIPOISE__MARKET__TIMEFRAMES": '["1h", "2h"]',
            "EQUIPOISE__EXCHANGE__OPTIONS__urls__api": "http://127.0.0.1:1",
            "EQUIPOISE__EXCHANGE__OPTIONS__enableRateLimit": "false",
            "EQUIPOISE__STRATEGY__PARAMETERS": '{"gross_weight": 1.5}',
            "EQUIPOISE__RUN__RUN_NAME": "123",
            "EQUIPOISE__RUN__LOG_JSON": "True",
            "EQUIPOISE__PAPER__CASH": "2500.50",
            "EQUIPOISE__UNIVERSE__SYMBOLS": "top:5",
            "EQUIPOISE__REHEARSAL__PACE": "60",
            "EQUIPOISE__REHEARSAL__START": "2024-06-01",
            "EQUIPOISE_MOSQUITTO": "is not ours to read",
            "PATH": "neither",
        }
    )
    assert settings.market.timeframes == ("1h", "2h")
    assert settings.exchange.options == {
        "urls": {"api": "http://127.0.0.1:1"},
        "enableRateLimit": False,
    }
    assert settings.strategy.parameters == {"gross_weight": 1.5}
    assert settings.run.run_name == "123"
    assert settings.run.log_json is True
    assert settings.paper.cash == Decimal("2500.50")
    assert settings.universe.symbols == "top:5"
    assert settings.rehearsal.pace == 60.0
    assert settings.rehearsal.start == datetime(2024, 6, 1, tzinfo=UTC)


def test_toml_dates_and_instants_are_read_as_utc(tmp_path: Path) -> None:
    path = write(
        tmp_path, "[backtest]\nsince = 2024-01-01\nuntil = 2024-01-02T02:00:00+02:00\nsymbols=['A']"
    )
    backtest = load(path).backtest
    assert backtest.since == datetime(2024, 1, 1, tzinfo=UTC)
    assert backtest.until == datetime(2024, 1, 2, tzinfo=UTC)
    assert backtest.symbols == ("A",)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().run.log_json = True


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("market.suorce=1h", ["unknown key market.suorce", "did you mean market.source?"]),
        ("riks.gross_weight_max=1", ["unknown section riks", "did you mean risk?"]),
        (
            "strategy.gross_weight_max=1",
            ["unknown key strategy.gross_weight_max", "did you mean risk.gross_weight_max?"],
        ),
        ("run.zzz=1", ["unknown key run.zzz", "accepted: state_folder, run_name"]),
        ("market.window_bars=1", ["market.window_bars = 1", "from 2 to 5000, in bars"]),
        ("market.window_bars=many", ['market.window_bars = "many"', "a whole number"]),
        ("market.window_bars=true", ["market.window_bars = true", "a whole number"]),
        ("market.decision=7h", ['market.decision = "7h"', "divides the day"]),
        ('market.timeframes=["1h","soon"]', ['market.timeframes[1] = "soon"', "30m, 90m, 2h"]),
        ("market.timeframes=[]", ["market.timeframes = []", "not empty"]),
        ("paper.cash=lots", ['paper.cash = "lots"', "exact amount", "USDT"]),
        ("paper.cash=NaN", ['paper.cash = "NaN"', "exact amount"]),
        ("paper.cash=-5", ['paper.cash = "-5"', "above 0"]),
        ("paper.fee_bps=NaN", ["paper.fee_bps", "a number from -10 to 100"]),
        ("paper.participation_share=1.1", ["paper.participation_share = 1.1", "from 0 to 1"]),
        ("run.log_level=loud", ['run.log_level = "loud"', "one of debug, info, warning, error"]),
        ("run.run_name=A B", ['run.run_name = "A B"', "small letters"]),
        ("universe.symbols=top:0", ['universe.symbols = "top:0"', "top:12"]),
        ('universe.symbols=["A","A"]', ["a symbol is listed twice"]),
        ("universe.symbols=[1]", ["universe.symbols = [1]", "a list of symbols"]),
        ("rehearsal.pace=-1", ["rehearsal.pace = -1", "lockstep"]),
        ("rehearsal.start=soon", ['rehearsal.start = "soon"', "2024-06-01"]),
        ("redis.url=http://host", ["redis.url", "redis://, rediss:// or unix://"]),
        ("mqtt.url=tcp://host", ["mqtt.url", "mqtts://host:8883"]),
        ("risk=5", ["risk = 5", "a table"]),
        (
            'rehearsal.irregularities=[{"kind":"absent","symbl":"A"}]',
            [
                "rehearsal.irregularities[0].symbol is missing",
                "unknown key rehearsal.irregularities[0].symbl",
            ],
        ),
        ("nonsense", ["accepted: section.key=value"]),
    ],
)
def test_a_mistake_is_named_with_key_value_and_what_is_accepted(
    override: str, parts: list[str]
) -> None:
    text = message(sets=(override,))
    for part in parts:
        assert part in text
    assert "--set" in text


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["market.source=45m"], ["market.decision", "not a multiple of market.source 45m"]),
        (['market.timeframes=["1h","1h"]'], ["a bar length is listed twice"]),
        (["risk.name_weight_max=3"], ["risk.name_weight_max = 3.0", "gross_weight_max 2.0"]),
        (["risk.net_weight_max=3"], ["risk.net_weight_max", "gross_weight_max 2.0"]),
        (["risk.order_weight_max=1.1"], ["risk.order_weight_max", "twice risk.name_weight_max"]),
        (["market.decision=30m", "market.source=30m", "market.decision_deadline_s=600"], []),
        (["exchange.market_time=lockstep"], ["exchange.lockstep_url", "is needed"]),
        (
            ["exchange.stream_patience_s=17"],
            ["exchange.stream_patience_s = 17.0", "shorter than market.decision_deadline_s 20.0"],
        ),
        (["exchange.stream_patience_s=16.9"], []),
        (["mqtt.password_env=X"], ["mqtt.username", "is needed with a password"]),
        (["redis.password_env=X", "redis.password_file=y"], ["exclude each other"]),
        (["mqtt.tls_ca_file=x"], ["mqtt.url", "must begin with mqtts://"]),
        (["mqtt.url=mqtts://h", "mqtt.tls_key_file=x"], ["are needed together"]),
        (["rehearsal.base_minutes=7"], ["rehearsal.base_minutes = 7", "must divide"]),
        (
            ["rehearsal.start=2024-01-02", "rehearsal.until=2024-01-01"],
            ["rehearsal.until", "must be after rehearsal.start"],
        ),
        (
            ["backtest.since=2024-01-02", "backtest.until=2024-01-02"],
            ["backtest.until", "must be after backtest.since"],
        ),
        (
            [LATE_OFF_GRID],
            ["irregularities[0].open must be an opening of 30m bars", "delay_s must be above 0"],
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    overrides: list[str], parts: list[str]
) -> None:
    if not parts:
        load(sets=tuple(overrides))
        return
    text = message(sets=tuple(overrides))
    for part in parts:
        assert part in text


def test_a_deadline_as_long_as_the_decision_bar_is_refused() -> None:
    text = message(
        sets=("market.source=5m", "market.decision=5m", "market.decision_deadline_s=300")
    )
    assert "market.decision_deadline_s = 300.0: must be shorter than market.decision 5m" in text


def test_all_mistakes_of_all_layers_are_listed_with_their_places(tmp_path: Path) -> None:
    path = write(tmp_path, "[market]\nwindow_bars = 0\n[wat]\nx = 1\n[paper]\ncash = 5.5")
    text = message(
        path,
        sets=("run.log_level=loud",),
        environment={"EQUIPOISE__RISK__GROSS_WEIGHT_MAX": "-1"},
    )
    assert text.startswith("5 settings are wrong:")
    assert f"{path}: market.window_bars = 0" in text
    assert f"{path}: unknown section wat" in text
    assert f"{path}: paper.cash = 5.5" in text
    assert "environment EQUIPOISE__RISK__GROSS_WEIGHT_MAX: risk.gross_weight_max = -1" in text
    assert "--set run.log_level: run.log_level" in text


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert "absent.toml: cannot be read: No such file" in message(tmp_path / "absent.toml")
    broken = write(tmp_path, "[market]\nsource = \n")
    assert "mine.toml: not TOML" in message(broken)
    assert "line 2" in message(broken)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "binary.toml: not UTF-8" in message(binary)
    assert "cannot be read" in message(tmp_path)


def test_an_environment_variable_of_ours_without_a_key_is_refused() -> None:
    assert "accepted: EQUIPOISE__SECTION__KEY" in message(environment={"EQUIPOISE__RUN__": "x"})


def test_settings_changed_by_code_are_checked_again() -> None:
    settings = Settings()
    check_settings(settings)
    market = settings.market.model_copy(update={"source": "45m"})
    with pytest.raises(ConfigurationError, match=r"not a multiple of market\.source 45m"):
        check_settings(settings.model_copy(update={"market": market}))


# ---- secrets -------------------------------------------------------------------------------------


def test_a_secret_prints_as_a_mask_everywhere() -> None:
    secret = Secret("hunter2")
    assert [str(secret), repr(secret), f"{secret}", f"{[secret]}"] == ["***"] * 3 + ["[***]"]
    assert secret.reveal() == "hunter2"


def test_a_secret_is_read_from_environment_or_file(tmp_path: Path) -> None:
    file = write(tmp_path, "from-file\n", "secret")
    environment = {"PW": "from-env"}
    both = [
        read_secret("mqtt.password", variable="PW", file="", environment=environment),
        read_secret("mqtt.password", variable="", file=str(file), environment={}),
    ]
    assert [secret.reveal() for secret in both if secret] == ["from-env", "from-file"]
    assert read_secret("mqtt.password", variable="", file="") is None


def test_a_secret_that_is_named_but_absent_stops_the_start(tmp_path: Path) -> None:
    empty = write(tmp_path, " \n", "empty")
    for variable, file, part in [
        ("PW", "", "mqtt.password_env = 'PW'"),
        ("", str(tmp_path / "no"), "cannot be read"),
        ("", str(empty), "is empty"),
    ]:
        with pytest.raises(ConfigurationError, match=r"mqtt\.password") as caught:
            read_secret("mqtt.password", variable=variable, file=file, environment={})
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["apiKey", "secret", "privateKey", "password"])
def test_credentials_in_exchange_options_are_refused_without_showing_them(
    tmp_path: Path, name: str
) -> None:
    path = write(tmp_path, f'[exchange.options]\n{name} = "hunter2"')
    text = message(path)
    assert f"{name} is a credential" in text
    assert "hunter2" not in text


def test_logins_inside_addresses_are_refused_or_masked() -> None:
    text = message(sets=("redis.url=redis://me:hunter2@host:1",))
    assert "redis.password_env" in text
    assert "hunter2" not in text
    settings = load(sets=("exchange.options.httpsProxy=http://me:hunter2@proxy:1",))
    for shown in (json.dumps(effective(settings)), effective_toml(settings)):
        assert "hunter2" not in shown
        assert "http://***@proxy:1" in shown
    assert mask_login("plain text a@b") == "plain text a@b"


# ---- files and pages -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_the_shipped_files_load_and_name_their_schema(repository_root: Path, name: str) -> None:
    path = repository_root / "config" / f"{name}.toml"
    load(path)
    assert path.read_text(encoding="utf-8").startswith("#:schema ./equipoise.schema.json")
    assert (path.parent / "equipoise.schema.json").is_file()


def test_the_default_file_says_what_the_defaults_are(repository_root: Path) -> None:
    assert load(repository_root / "config" / "paper.toml") == Settings()
