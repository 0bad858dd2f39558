"""The rehearsal in the words of another venue: one setting, and a book stays with its venue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.wiring.core import REHEARSAL_FILE
from daemon.wiring.instruments import read_instruments
from daemon.wiring.rehearsal import JOURNAL_NAME, PINNED, rehearsal_exchange
from tests.e2e.books import check_books_agree
from tests.e2e.line import SMALL, command, rehearse, settings_of

BYBIT = (*SMALL, "rehearsal.dialect=bybit")


def test_a_rehearsal_speaks_as_bybit_and_its_book_stays_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = command(*rehearse(state, *BYBIT), "--days", "0.25", "--json", cwd=tmp_path)
    assert done.code == 0, done.complaint
    last = json.loads(done.out.splitlines()[-1])
    assert last["decisions"] == 6
    assert last["fills"] > 0
    assert {one.key.venue for one in read_instruments(state)} == {"bybit"}
    check_books_agree(settings_of(state, *BYBIT))
    other = command(*rehearse(state, *SMALL), "--days", "0.25", cwd=tmp_path)
    assert other.code == ConfigurationError.exit_code
    told = " ".join(other.complaint.split())
    assert "rehearsal.dialect = 'binanceusdm'" in told
    assert "begun with 'bybit'" in told


def test_a_book_from_before_there_was_a_choice_is_binances(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, *BYBIT)
    market = {key: getattr(settings.rehearsal, key) for key in PINNED}
    (tmp_path / REHEARSAL_FILE).write_text(json.dumps(market))
    (tmp_path / JOURNAL_NAME).touch()
    said = r"rehearsal.dialect = 'bybit': .* begun with 'binanceusdm'"
    with pytest.raises(ConfigurationError, match=said), rehearsal_exchange(settings):
        pass
