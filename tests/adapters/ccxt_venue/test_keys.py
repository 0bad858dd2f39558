"""Credentials: where they may come from, and everywhere they must not appear."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ccxt_venue.keys import (
    Credentials,
    Hidden,
    KeyRights,
    Redactor,
    credentials_from_environment,
    credentials_from_file,
    key_rights,
    redacted,
)
from adapters.ccxt_venue.outcomes import Ask
from daemon.domain.failures import BadPayload, ConfigurationError, InvariantViolated
from tests.adapters.ccxt_venue.loopback import (
    API_KEY,
    PASSPHRASE,
    SECRET,
    Script,
    asked,
    ccxt_of,
    free_port,
    serving,
    shut,
)

VALUES = {"api_key": API_KEY, "secret": SECRET, "passphrase": PASSPHRASE}
CREDENTIALS = Credentials("okx", Hidden(API_KEY), Hidden(SECRET), Hidden(PASSPHRASE))


def shows_nothing(text: str) -> bool:
    return not any(value in text for value in VALUES.values())


def file_of(folder: Path, text: str, *, name: str = "keys.json", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


# ---- never shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [CREDENTIALS, CREDENTIALS.api_key, CREDENTIALS.redactor()])
def test_no_way_of_printing_shows_a_credential(one: object) -> None:
    shown = [repr(one), str(one), f"{one}", f"{one!r}", f"{one!s:>40}", "%s" % (one,)]  # noqa: UP031
    assert all(shows_nothing(text) for text in shown)
    record = logging.LogRecord("x", logging.INFO, "x", 1, "with %s %r", (one, one), None)
    assert shows_nothing(record.getMessage())


@pytest.mark.parametrize("one", [CREDENTIALS, CREDENTIALS.secret, CREDENTIALS.redactor()])
def test_a_credential_is_neither_pickled_nor_copied(one: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(one, protocol)
        assert shows_nothing(str(caught.value))
    with pytest.raises(TypeError):
        copy.deepcopy(one)


def test_a_credential_equals_itself_only() -> None:
    assert Hidden(SECRET) == Hidden(SECRET)
    assert Hidden(SECRET) != Hidden(API_KEY)
    assert Hidden(SECRET) != SECRET
    assert len({Hidden(SECRET), Hidden(SECRET)}) == 1


# ---- where they come from ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400])
@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_private_file_is_read(tmp_path: Path, suffix: str, mode: int) -> None:
    lines = "\n".join(f'{name} = "{value}"' for name, value in VALUES.items())
    text = json.dumps(VALUES) if suffix == "json" else lines
    found = credentials_from_file("okx", file_of(tmp_path, text, name=f"k.{suffix}", mode=mode))
    assert found == CREDENTIALS
    assert found.for_ccxt() == {"apiKey": API_KEY, "secret": SECRET, "password": PASSPHRASE}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o700, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = file_of(tmp_path, json.dumps(VALUES), mode=mode)
    with pytest.raises(ConfigurationError, match=f"{mode:04o}.*0600"):
        credentials_from_file("okx", path)


def test_a_link_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file_of(tmp_path, json.dumps(VALUES)))
    for path in (tmp_path / "link", tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigurationError):
            credentials_from_file("okx", path)


BROKEN = {
    "cut": json.dumps(VALUES)[:-1],
    "list": json.dumps(list(VALUES.values())),
    "unknown": json.dumps({**VALUES, SECRET: SECRET}),
    "spaces": json.dumps({**VALUES, "api_key": f"{API_KEY} {SECRET}"}),
    "number": json.dumps({**VALUES, "api_key": 12345678901}),
    "short": json.dumps({**VALUES, "api_key": "short"}),
    "missing": json.dumps({"api_key": API_KEY, "passphrase": PASSPHRASE}),
    "no passphrase": json.dumps({"api_key": API_KEY, "secret": SECRET}),
    "empty": "",
}


def frames_of(trouble: BaseException) -> str:
    """Print an exception with all that hangs on it, and every variable of our own frames."""
    texts = ["".join(traceback.format_exception(trouble)), repr(trouble.__dict__)]
    behind = (trouble.__context__, trouble.__cause__)
    texts += [repr(vars(one)) for one in behind if one is not None]
    frame: TracebackType | None = trouble.__traceback__
    while frame is not None:
        if "ccxt_venue/keys" in frame.tb_frame.f_code.co_filename:
            texts.append(repr(frame.tb_frame.f_locals))
        frame = frame.tb_next
    return "\n".join(texts)


@pytest.mark.parametrize("suffix", ["json", "toml"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_without_a_word_of_its_content(
    tmp_path: Path, name: str, suffix: str
) -> None:
    path = file_of(tmp_path, BROKEN[name], name=f"keys.{suffix}")
    with pytest.raises(ConfigurationError) as caught:
        credentials_from_file("okx", path)
    assert shows_nothing(frames_of(caught.value))


def test_the_environment_is_read_by_venue() -> None:
    environment = {
        "EQUIPOISE_BYBIT_API_KEY": API_KEY,
        "EQUIPOISE_BYBIT_SECRET": SECRET,
        "EQUIPOISE_OKX_API_KEY": API_KEY,
    }
    found = credentials_from_environment("bybit", environment)
    assert found == Credentials("bybit", Hidden(API_KEY), Hidden(SECRET))
    assert credentials_from_environment("binanceusdm", environment) is None
    with pytest.raises(ConfigurationError, match="also needs secret, passphrase") as caught:
        credentials_from_environment("okx", environment)
    assert shows_nothing(str(caught.value))


# ---- redaction -----------------------------------------------------------------------------------

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


@given(WORDS, WORDS, st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_a_redactor_leaves_no_value_in_any_text(key: str, secret: str, parts: list[str]) -> None:
    redactor = Redactor([Hidden(key), Hidden(secret)])
    coded = [key, secret, quote(secret, safe=""), json.dumps(key), f"signature={secret}&a={key}"]
    for between in (*coded, key + secret, secret[:4] + key + secret[4:]):
        clean = redactor(between.join(parts) + between)
        assert key not in clean
        assert secret not in clean


def test_a_value_that_masking_itself_would_put_together_is_masked_again() -> None:
    redactor = Redactor([Hidden("ab***cdefgh"), Hidden("KEY45678")])
    text = "KEY45678"
    for _ in range(5):
        text = f"ab{text}cdefgh"
        assert redactor(text) == "***"
    # The mask of a signature completes this one.
    assert "ture=***&x=1" not in Redactor([Hidden("ture=***&x=1")])("signature=zzz&x=1")


@pytest.mark.parametrize("short", ["", "*", "**", "1234567"])
def test_what_is_too_short_to_be_masked_is_refused(short: str) -> None:
    with pytest.raises(InvariantViolated):
        Redactor([Hidden(short)])


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_redaction_is_done_after_once(text: str) -> None:
    once = CREDENTIALS.redactor()(text)
    assert CREDENTIALS.redactor()(once) == once


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET /x?a=1&signature=abcDEF012&b=2", "GET /x?a=1&signature=***&b=2"),
        ("x?recvWindow=1&signature=abc", "x?recvWindow=1&signature=***"),
        ("{'X-MBX-APIKEY': 'abc', 'a': 'b'}", "{'X-MBX-APIKEY': '***', 'a': 'b'}"),
        ('{"OK-ACCESS-SIGN": "a+b/c=", "x": 1}', '{"OK-ACCESS-SIGN": "***", "x": 1}'),
        ("OK-ACCESS-PASSPHRASE: hush", "OK-ACCESS-PASSPHRASE: ***"),
        ("X-BAPI-SIGN: abc", "X-BAPI-SIGN: ***"),
        ("wss://h/ws?listenKey=pqia91ma", "wss://h/ws?listenKey=***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ('{\\"signature\\":\\"abc\\"}', '{\\"signature\\":\\"***\\"}'),
        ("design=plain assign=this", "design=plain assign=this"),
        ("nothing to hide: 12 orders", "nothing to hide: 12 orders"),
    ],
)
def test_redaction_masks_what_stands_behind_a_telling_name(text: str, clean: str) -> None:
    assert redacted(text) == clean


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "okx"])
async def test_real_failures_of_ccxt_are_clean_after_redaction(venue: str) -> None:
    echo = json.dumps({"echo": [API_KEY, SECRET, PASSPHRASE]})
    told = []
    async with serving(Script(echo, 502)) as served:
        for port in (served.port, free_port()):
            for ask in Ask:
                exchange = ccxt_of(venue, f"http://127.0.0.1:{port}")
                try:
                    _, trouble = await asked(venue, ask, exchange)
                    told.append(repr(exchange.last_request_headers) + str(trouble))
                finally:
                    await shut(exchange)
    # The raw texts do hold credentials and signatures: this is not a test of nothing.
    assert not all(shows_nothing(text) for text in told)
    redactor = CREDENTIALS.redactor()
    assert all(shows_nothing(redactor(text)) for text in told)
    if venue == "binanceusdm":
        signed = [text for text in told if "signature=" in text]
        assert signed
        assert all("signature=***" in redactor(text) for text in signed)


# ---- what a key may do ---------------------------------------------------------------------------


@pytest.mark.parametrize("withdraws", [False, True])
def test_a_venue_tells_whether_a_key_may_withdraw(withdraws: bool) -> None:
    wallet = ["AccountTransfer", *(["Withdraw"] if withdraws else [])]
    answers = {
        "binanceusdm": {"enableFutures": True, "enableWithdrawals": withdraws},
        "bybit": {
            "result": {
                "readOnly": 0,
                "permissions": {"ContractTrade": ["Order", "Position"], "Wallet": wallet},
            }
        },
        "okx": {"data": [{"perm": "read_only,trade" + (",withdraw" if withdraws else "")}]},
    }
    for venue, answer in answers.items():
        assert key_rights(venue, answer) == KeyRights(may_trade=True, may_withdraw=withdraws)


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "okx", "gate"])
@pytest.mark.parametrize("answer", [None, [], {}, {"data": []}, {"result": {}}, "x"])
def test_an_answer_that_does_not_tell_is_never_read_as_harmless(venue: str, answer: object) -> None:
    with pytest.raises(BadPayload):
        key_rights(venue, answer)


def test_a_read_only_key_may_not_trade() -> None:
    permissions = {"ContractTrade": ["Order"], "Wallet": []}
    answer = {"result": {"readOnly": 1, "permissions": permissions}}
    assert key_rights("bybit", answer) == KeyRights(may_trade=False, may_withdraw=False)
