"""What goes wrong in one schedule: which troubles a seed has, and when they strike.

The troubles of every schedule are losses, rejects, delays, parts and repeats. Those drawn here come
on top. Prices that move, trades and transfers of the owner and a delisting move exposures without
the engine: they come in the schedules of a market that moves only, see `Troubles.moves`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from daemon.domain.messages import OperatorAction
from tests.engine.world import at
from tests.simulation.schedules import HISTORY, N

BURST_LOSS: Final = 0.8
OUTAGE_MS: Final = 600_000
SPAN_MS: Final = 5_400_000  # from the first decision on: what strikes later would strike nothing
BUSY_MS: Final = 150_000  # after a decision: when most orders are out
WISHES: Final = (
    OperatorAction.PAUSE,
    OperatorAction.REDUCE_ONLY,
    OperatorAction.FLATTEN,
    OperatorAction.KILL,
)

Window = tuple[int, int]  # [from, to) in market time, ms


@dataclass(frozen=True, slots=True)
class Troubles:
    """Hold what strikes in one schedule, times in market ms.

    moves: prices, owner and venue move the exposures too. lose, reject: shares of messages and of
    orders. slow: how many times longer messages take. bursts, outages: most, and all, answers are
    lost. crumbs: the share of fills of one lot. wishes: of the operator, who resumes later.
    crashes: how many commands of the one that the daemon dies in still leave. halts: columns that a
    venue stops for a while; ends: columns that it delists. trades, transfers: of the owner.
    """

    moves: bool = False
    lose: float = 0.06
    reject: float = 0.05
    slow: float = 1.0
    crumbs: float = 0.02
    bursts: tuple[Window, ...] = ()
    outages: tuple[Window, ...] = ()
    wishes: tuple[tuple[int, OperatorAction], ...] = ()
    crashes: tuple[tuple[int, int], ...] = ()
    halts: tuple[tuple[Window, int], ...] = ()
    ends: tuple[tuple[int, int], ...] = ()
    trades: tuple[int, ...] = ()
    transfers: tuple[int, ...] = field(default=())

    @property
    def last_ms(self) -> int:
        """Give when the last of them begins to strike, 0 where none does."""
        windows = (*self.bursts, *self.outages, *(window for window, _ in self.halts))
        instants = (*self.wishes, *self.crashes, *self.ends)
        starts = [one[0] for one in (*windows, *instants)]
        return max((*starts, *self.trades, *self.transfers), default=0)

    def loss(self, now_ms: int) -> float:
        """Give the share of answers that are lost now."""
        if not self.bursts and not self.outages:
            return self.lose
        for since, to in self.outages:
            if since <= now_ms < to:
                return 1.0
        for since, to in self.bursts:
            if since <= now_ms < to:
                return BURST_LOSS
        return self.lose

    def outage_end(self, now_ms: int) -> int:
        """Give when the venue's answers come through again, `now_ms` where they do."""
        return max((to for since, to in self.outages if since <= now_ms < to), default=now_ms)


def drawn(seed: int) -> Troubles:
    """Give the troubles of a seed; every other schedule is of a market that moves."""
    rng = Random(f"troubles {seed}")
    moves = seed // 4 % 2 == 1  # seeds go through the styles first

    def busy() -> int:
        """Give a moment soon after one of the first two decisions."""
        return at(HISTORY + 2 * rng.randint(1, 2)) + rng.randint(0, BUSY_MS)

    def some(share: float, most: int) -> range:
        return range(rng.randint(1, most) if rng.random() < share else 0)

    bursts = tuple((t, t + rng.randint(20_000, 180_000)) for t in (busy() for _ in some(0.5, 3)))
    outages = tuple((t, t + OUTAGE_MS) for t in (busy() for _ in some(0.25, 1)))
    halted = [(t, t + rng.randint(60_000, 2_400_000)) for t in (busy() for _ in some(0.25, 2))]
    more = Random(f"halts {seed}")  # they strike seldom: few orders leave before the news comes
    if more.random() < 0.5:
        since_ms = at(HISTORY + 2 * more.randint(1, 2)) - more.randint(0, 30_000)
        halted.append((since_ms, since_ms + 600_000))
    return Troubles(
        moves=moves,
        lose=rng.choice((0.03, 0.06, 0.15)),
        reject=rng.choice((0.02, 0.05, 0.2)),
        slow=rng.choice((1.0, 1.0, 6.0)),
        crumbs=rng.choice((0.02, 0.02, 0.2)),
        bursts=bursts,
        outages=outages,
        wishes=tuple((busy(), rng.choice(WISHES)) for _ in some(0.25, 1)),
        crashes=tuple((busy(), rng.randint(0, 4)) for _ in some(0.25, 2)),
        halts=tuple((window, rng.randrange(N // 2)) for window in halted),
        ends=tuple((busy(), rng.randrange(N // 2, N)) for _ in some(0.25 if moves else 0, 1)),
        trades=tuple(busy() for _ in some(0.5 if moves else 0, 4)),
        transfers=tuple(busy() for _ in some(0.5 if moves else 0, 3)),
    )
