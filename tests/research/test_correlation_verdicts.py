"""The verdicts on H7 and H8, by rules that stand before the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.research.architectures.verdicts import Finding
from daemon.research.correlation.verdicts import Gap, judge_h7, judge_h8

NAMES = ("qlike, 6 h", "variance, 6 h", "qlike, 24 h", "variance, 24 h")
PAST = ("ewma 7d", "sample 30d")
MODELS = ("dcc", "recurrent")


def sets(*members: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict(zip(NAMES, members, strict=True))


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (sets(("dcc",), ("dcc", "oas"), ("dcc", "recurrent"), ("dcc",)), Finding.SUPPORT),
        (sets(("dcc",), ("dcc", "ewma 7d"), ("dcc",), ("dcc",)), Finding.NO_EVIDENCE),
        (sets(("dcc",), ("recurrent",), ("dcc",), ("dcc",)), Finding.NO_EVIDENCE),
        (sets(("oas",), ("oas",), ("oas",), ("oas",)), Finding.NO_EVIDENCE),
        (sets(*(("ewma 7d", "dcc"),) * 4), Finding.REFUTED),
        (sets(*(("ewma 7d",),) * 4), Finding.REFUTED),
        (sets(("ewma 7d",), ("sample 30d",), ("ewma 7d",), ("ewma 7d",)), Finding.NO_EVIDENCE),
    ],
)
def test_h7_asks_for_a_model_in_all_sets_and_nothing_historical_in_any(
    found: dict[str, tuple[str, ...]], finding: Finding
) -> None:
    assert judge_h7(found, PAST, MODELS).finding is finding


def test_h7_is_not_tested_where_a_side_or_the_sets_are_missing() -> None:
    whole = sets(*(("dcc",),) * 4)
    assert judge_h7({}, PAST, MODELS).finding is Finding.NOT_TESTED
    assert judge_h7(whole, (), MODELS).finding is Finding.NOT_TESTED
    assert judge_h7(whole, PAST, ()).finding is Finding.NOT_TESTED


SHAPE = Gap("correlation_qlike, 6 h", -0.01, -0.02, -0.005, better=3, permuted=3)
BOOK = Gap("variance, 6 h", 0.0, -0.1, 0.1, better=1, permuted=3)


@pytest.mark.parametrize(
    ("shape", "book", "finding"),
    [
        (SHAPE, BOOK, Finding.SUPPORT),
        (replace(SHAPE, better=2), BOOK, Finding.NO_EVIDENCE),
        (replace(SHAPE, high=0.001), BOOK, Finding.NO_EVIDENCE),
        (SHAPE, replace(BOOK, low=0.01), Finding.NO_EVIDENCE),
        (replace(SHAPE, mean=0.02, low=0.01, high=0.03), BOOK, Finding.REFUTED),
    ],
)
def test_h8_asks_the_taxonomy_to_beat_the_permuted_ones(
    shape: Gap, book: Gap, finding: Finding
) -> None:
    other = replace(SHAPE, loss="correlation_qlike, 24 h")
    assert judge_h8([shape, book, other]).finding is finding


def test_h8_is_not_tested_without_controls() -> None:
    assert judge_h8([]).finding is Finding.NOT_TESTED
