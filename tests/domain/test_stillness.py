"""What is certain of a venue while some of its instruments have not been told."""

from itertools import product

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.stillness import FrozenWhen

STANDS, MOVES, ABSENT, UNTOLD = "stands", "moves", "absent", "untold"
fates = st.lists(
    st.tuples(
        st.sampled_from([STANDS, STANDS, MOVES, ABSENT, UNTOLD, UNTOLD]),
        st.integers(0, 3),  # how long it stood still before
        st.integers(0, 1),  # its venue
    ),
    min_size=1,
    max_size=8,
)


@given(fates, st.sampled_from([0.3, 0.5, 0.6, 1.0]), st.integers(1, 5), st.sampled_from([1, 5, 30]))
@example([(STANDS, 3, 0), (UNTOLD, 3, 0), (UNTOLD, 0, 0)], 0.6, 4, 5)
def test_certain_is_what_is_the_same_whatever_comes(
    names: list[tuple[str, int, int]], share: float, least_n: int, minutes: int
) -> None:
    when = FrozenWhen(share, least_n, minutes)
    before = np.array([n for _, n, _ in names], dtype=np.int64)
    venues = np.array([venue for *_, venue in names], dtype=np.int64)
    fate = [name for name, *_ in names]
    untold = np.array([one == UNTOLD for one in fate])

    def state(fate: list[str]) -> tuple[np.ndarray, np.ndarray]:
        stands = np.array([one == STANDS for one in fate])
        return np.where(stands, before + 1, 0), stands | np.array([one == MOVES for one in fate])

    runs, present = state(fate)
    may, must = when.foreseen(runs, present, untold, before, venues)
    ends = []
    for come in product((STANDS, MOVES, ABSENT), repeat=int(untold.sum())):
        rest = iter(come)
        whole = state([next(rest) if one == UNTOLD else one for one in fate])
        ends.append(when.venues(whole[0][None], whole[1][None], venues)[0])
    waiting = runs > 0
    assert may[waiting].tolist() == np.any(ends, axis=0)[waiting].tolist()
    assert must[waiting].tolist() == np.all(ends, axis=0)[waiting].tolist()
