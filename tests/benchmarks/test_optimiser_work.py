"""The benchmark of the programme solves what it says, as well as the library does."""

from benchmarks.optimiser import covariance, problem_of, race


def test_all_contenders_solve_the_same_problem_and_ours_keeps_its_limits() -> None:
    ours, *theirs = race(problem_of(covariance(30)), 4)
    assert [len(one.objectives) for one in (ours, *theirs)] == [4, 4, 4]
    assert max(ours.violations) < 1e-8
    for one in theirs:
        for mine, other in zip(ours.objectives, one.objectives, strict=True):
            assert abs(mine - other) < 1e-9
