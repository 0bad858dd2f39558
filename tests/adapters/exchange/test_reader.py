"""Reading by REST: what counts as an answer."""

from __future__ import annotations

import pytest

from adapters.exchange.client import Answers
from adapters.exchange.reader import require_an_answer
from daemon.domain.failures import BadPayload


@pytest.mark.parametrize("raw", [{}, {"msg": "busy"}, {"result": {"next": None}}])
def test_an_empty_result_from_an_answer_without_a_list_is_refused(raw: object) -> None:
    with pytest.raises(BadPayload, match="holds no list"):
        require_an_answer([], Answers(raw=[raw]), "bars")


def test_an_empty_result_without_any_answer_is_refused() -> None:
    with pytest.raises(BadPayload, match="no answer"):
        require_an_answer([], Answers(), "bars")


@pytest.mark.parametrize("raw", [[], {"result": {"list": []}}, [["rows", "outside the range"]]])
def test_a_list_without_our_rows_is_the_venues_word(raw: object) -> None:
    require_an_answer([], Answers(raw=[raw]), "bars")
