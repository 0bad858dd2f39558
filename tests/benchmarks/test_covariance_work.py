"""The benchmark of covariance estimators times what it says, and checks what comes of it."""

from benchmarks.covariance import drawn_returns, named, timed
from strategies.covariance.interface import HISTORY_HOURS


def test_a_day_has_one_first_question_and_twenty_three_hours() -> None:
    returns = drawn_returns(HISTORY_HOURS + 24, 4)
    done = timed(named("rolling+sample", 4), returns, 1)
    assert (len(done.firsts_ms), len(done.hours_ms)) == (1, 23)
    assert named("cdcc", 3).name == "ewma+cdcc"
