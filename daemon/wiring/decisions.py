"""Decision digests of a run as a small file, and the comparison of two runs.

A line is `as_of_ms digest` and the fields' own digests, so that the first divergence can be named.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adapters.journal import JournalReader
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import DataError
from daemon.domain.units import iso

Turn = tuple[int, int]  # an instant in ms, and how many decisions of the run came before within it


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one decision of a run as it is compared."""

    as_of_ms: int
    digest: str
    orders_n: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Report two runs over the decisions that both took: by instant, and by turn within it."""

    compared: int
    orders: int
    equal: int
    first_difference: str  # plain words, empty when all are equal
    only_left: int  # within the common span
    only_right: int
    outside_left: int  # before or after the common span
    outside_right: int

    @property
    def same(self) -> bool:
        """Tell whether both took the same decisions over the common span; one must exist."""
        alike = not self.first_difference and not self.only_left and not self.only_right
        return alike and self.compared > 0

    @property
    def same_whole(self) -> bool:
        """Tell whether both took the same decisions, none of them outside the common span."""
        return self.same and not self.outside_left and not self.outside_right


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write the digests of a run, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        for decision in decisions:
            line = _line(decision)
            out.write(
                json.dumps(
                    {
                        "as_of_ms": line.as_of_ms,
                        "digest": line.digest,
                        "orders": line.orders_n,
                        "fields": line.fields,
                    }
                )
                + "\n"
            )


def read_run(path: Path) -> list[Line]:
    """Read a run: a state folder, a journal file, or what `write_decisions` wrote."""
    journal = path / "journal.sqlite" if path.is_dir() else path
    if not journal.exists():
        raise DataError(f"{path}: there is no such run; give a state folder or a decisions file")
    if journal.suffix == ".sqlite":
        return [_line(d) for d in JournalReader(journal).decisions()]
    return [_parsed(path, number, text) for number, text in enumerate(_lines(path), start=1)]


def compare_runs(left: list[Line], right: list[Line]) -> Comparison:
    """Compare two runs from the first common instant to the last; count what lies outside."""
    ours, theirs = _by_turn(left), _by_turn(right)
    both = sorted(ours.keys() & theirs.keys())
    first, last = (both[0][0], both[-1][0]) if both else (0, -1)
    inside = {turn for turn in ours.keys() | theirs.keys() if first <= turn[0] <= last}
    differing = [turn for turn in both if ours[turn].digest != theirs[turn].digest]
    return Comparison(
        compared=len(both),
        orders=sum(ours[turn].orders_n for turn in both),
        equal=len(both) - len(differing),
        first_difference=_difference(differing[0], ours, theirs) if differing else "",
        only_left=sum(turn not in theirs for turn in inside),
        only_right=sum(turn not in ours for turn in inside),
        outside_left=len(ours.keys() - inside),
        outside_right=len(theirs.keys() - inside),
    )


def _by_turn(lines: list[Line]) -> dict[Turn, Line]:
    """Key decisions by instant and turn: an operator's flatten adds one to the instant's own."""
    turns: Counter[int] = Counter()
    found: dict[Turn, Line] = {}
    for line in lines:
        found[line.as_of_ms, turns[line.as_of_ms]] = line
        turns[line.as_of_ms] += 1
    return found


def _difference(turn: Turn, ours: dict[Turn, Line], theirs: dict[Turn, Line]) -> str:
    left, right = ours[turn].fields, theirs[turn].fields
    names = [n for n in left | right if left.get(n) != right.get(n)]
    which = f", decision {turn[1] + 1} of that instant" if turn[1] else ""
    return f"first divergence at {iso(turn[0])}{which}: {', '.join(names) or 'digest'} differ"


def _line(decision: Decision) -> Line:
    parts = {name: hashlib.sha256(raw).hexdigest()[:16] for name, raw in decision.named_parts()}
    warming = decision.kind is DecisionKind.WARMING
    return Line(decision.as_of_ms, decision.digest, 0 if warming else len(decision.orders), parts)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as decisions: {e}") from e


def _parsed(path: Path, number: int, text: str) -> Line:
    try:
        raw = json.loads(text)
        return Line(raw["as_of_ms"], raw["digest"], raw["orders"], raw["fields"])
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} line {number}: is no decision record: {e}") from e
