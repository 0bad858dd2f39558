"""Runs are compared decision by decision; the first difference is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from adapters.journal import SqliteJournal
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import DataError
from daemon.domain.messages import Decided, Tick
from daemon.domain.units import HOUR_MS
from daemon.wiring.decisions import Line, compare_runs, read_run, write_decisions
from tests.adapters.journal_samples import START_MS, decided


def decisions(n: int, first: int = 0) -> list[Decision]:
    return [decided(i, START_MS + i * HOUR_MS).decision for i in range(first, first + n)]


def lines(found: list[Decision], path: Path) -> list[Line]:
    write_decisions(path, found)
    return read_run(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "run.jsonl"


def test_a_run_is_written_and_read_back(file: Path) -> None:
    some = decisions(3)
    found = lines(some, file)
    assert [x.digest for x in found] == [d.digest for d in some]
    assert [x.as_of_ms for x in found] == [d.as_of_ms for d in some]
    assert [x.orders_n for x in found] == [1, 1, 1]
    assert set(found[0].fields) >= {"as_of", "kind", "bars", "marks", "orders", "target"}


async def test_a_journal_and_a_file_of_the_same_run_are_the_same(
    file: Path, tmp_path: Path
) -> None:
    some = decisions(4)
    state = tmp_path / "state"
    state.mkdir()
    async with SqliteJournal(state / "journal.sqlite", state_schema=1, code_version="t") as journal:
        await journal.append([(Tick(d.as_of_ms), [Decided(d)]) for d in some])
    found = compare_runs(read_run(state), lines(some, file))
    assert found.same
    assert (found.compared, found.equal, found.orders) == (4, 4, 4)
    assert read_run(state / "journal.sqlite") == read_run(file)


def test_the_first_difference_is_named_with_its_instant_and_parts(file: Path) -> None:
    some = decisions(5)
    other = list(some)
    other[2] = replace(some[2], marks=np.array([101.0, 3.0, np.nan]), equity=1.0)
    other[4] = replace(some[4], kind=DecisionKind.HELD)
    found = compare_runs(lines(some, file), lines(other, file))
    assert not found.same
    assert (found.compared, found.equal) == (5, 3)
    assert found.first_difference == (
        "first divergence at 2023-11-15T02:00:00Z: equity, marks differ"
    )


def test_an_instant_only_one_run_decided_at_is_a_difference(file: Path) -> None:
    some = decisions(6)
    found = compare_runs(
        lines([some[0], some[2], some[5]], file), lines([some[0], some[1], *some[3:]], file)
    )
    assert (found.only_left, found.only_right) == (1, 3)
    assert not found.same
    assert found.first_difference == ""


def test_two_decisions_at_one_instant_are_both_compared(file: Path) -> None:
    some = decisions(3)
    flattened = replace(some[1], sequence=99, kind=DecisionKind.REDUCED)
    twice = [some[0], some[1], flattened, some[2]]
    same = compare_runs(lines(twice, file), lines(twice, file))
    assert same.same
    assert (same.compared, same.orders) == (4, 4)
    missing = compare_runs(lines(twice, file), lines(some, file))
    assert (missing.compared, missing.only_left, missing.only_right) == (3, 1, 0)
    assert not missing.same
    other = [some[0], some[1], replace(flattened, equity=1.0), some[2]]
    found = compare_runs(lines(twice, file), lines(other, file))
    assert found.equal == 3
    assert found.first_difference == (
        "first divergence at 2023-11-15T01:00:00Z, decision 2 of that instant: equity differ"
    )
    first = [some[0], replace(some[1], equity=1.0), flattened, some[2]]
    assert not compare_runs(lines(twice, file), lines(first, file)).same  # the last one alone was


def test_runs_of_another_length_are_compared_where_they_overlap(file: Path) -> None:
    found = compare_runs(lines(decisions(8), file), lines(decisions(8, first=4), file))
    assert (found.compared, found.only_left, found.only_right) == (4, 0, 0)
    assert found.same
    assert (found.outside_left, found.outside_right) == (4, 4)
    assert not found.same_whole
    found = compare_runs(lines(decisions(3), file), lines(decisions(5), file))
    assert (found.outside_left, found.outside_right) == (0, 2)
    assert not found.same_whole
    assert compare_runs(lines(decisions(3), file), lines(decisions(3), file)).same_whole


def test_runs_that_never_met_lie_wholly_outside(file: Path) -> None:
    found = compare_runs(lines(decisions(2), file), lines(decisions(3, first=5), file))
    assert (found.outside_left, found.outside_right) == (2, 3)
    assert not found.same
    assert not found.same_whole


@pytest.mark.parametrize("first", [0, 10])
def test_runs_that_never_decided_at_the_same_instant_are_not_the_same(
    file: Path, first: int
) -> None:
    found = compare_runs(lines(decisions(first // 2), file), lines(decisions(3, first), file))
    assert found.compared == 0
    assert not found.same


def test_warming_decisions_count_no_orders(file: Path) -> None:
    warming = [replace(d, kind=DecisionKind.WARMING) for d in decisions(1)]
    assert lines(warming, file)[0].orders_n == 0


def test_what_is_no_run_is_refused_with_its_path_and_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such run"):
        read_run(tmp_path / "nowhere")
    write_decisions(file, decisions(2))
    with file.open("a", encoding="utf-8") as out:
        out.write('{"as_of_ms": 1}\n')
    with pytest.raises(DataError, match=r"run\.jsonl line 3: is no decision record"):
        read_run(file)
    file.write_text("7\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        read_run(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as decisions"):
        read_run(file)
