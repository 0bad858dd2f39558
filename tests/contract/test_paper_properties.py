"""Whatever the bars and orders are: money is conserved, capacity kept, nothing is too good."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from daemon import codec
from daemon.domain.messages import FundingPaid, OrderFilled, VenueEvent
from daemon.domain.order import Fill, Order, OrderId
from tests.contract.paper_world import (
    NAN,
    START_MS,
    account_of,
    at,
    bars,
    key,
    make_universe,
    make_venue,
    order,
    rates,
    settings,
)

COSTS: dict[str, object] = {
    "fee_bps": 4.5,
    "half_spread_bps": 1.3,
    "latency_bps": 0.4,
    "impact_bps": 37.0,
    "participation_share": 0.07,
}
SHARE = Decimal("0.07")


@dataclass(frozen=True)
class Step:
    """Hold one thing that happens to a venue, in plain values that print well when a test fails."""

    kind: str
    a: tuple[float, ...] = ()
    b: tuple[float, ...] = ()
    lots: tuple[tuple[int, int, bool, int], ...] = ()
    back: int = 0


def triples(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(values, values, values)


def maybe(values: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    return st.one_of(values, values, values, st.just(NAN))


prices = maybe(st.integers(900, 1_100_000).map(lambda n: n / 1_000))
volumes = st.one_of(st.just(0.0), st.floats(0.01, 3_000.0))
signed_lots = st.integers(-60_000, 60_000)
one_order = st.tuples(st.integers(0, 2), signed_lots, st.booleans(), st.integers(0, 12_000))
steps = st.lists(
    st.one_of(
        st.builds(Step, st.just("bars"), triples(prices), triples(volumes)),
        st.builds(Step, st.just("part"), triples(prices), triples(volumes)),
        st.builds(Step, st.just("late"), triples(prices), triples(volumes)),
        st.builds(
            Step, st.just("orders"), lots=st.lists(one_order, min_size=1, max_size=5).map(tuple)
        ),
        st.builds(
            Step,
            st.just("rates"),
            triples(maybe(st.floats(-0.01, 0.01))),
            back=st.integers(-1, 3),
        ),
        st.builds(Step, st.just("cancel"), back=st.integers(0, 9)),
    ),
    min_size=4,
    max_size=25,
)


class Story:
    """Apply steps to a venue and remember what it was shown and what it answered."""

    def __init__(self, venue: PaperVenue) -> None:
        self.venue = venue
        self.number = 0
        self.ids = 0
        self.is_final = True
        self.events: list[VenueEvent] = []
        self.opens: dict[tuple[int, int], float] = {}
        self.volumes: dict[tuple[int, int], float] = {}
        self.known: set[tuple[int, int]] = set()
        self.play(Step("bars", (100.0, 10.0, 1.0), (500.0,) * 3))

    def play(self, step: Step) -> None:
        """Let one step happen."""
        match step.kind:
            case "bars" | "part" | "late":
                self._show(step)
            case "orders":
                self.events += self.venue.submit([self._order(*lots) for lots in step.lots])
            case "rates":
                self.events += self.venue.observe(rates(self.number - step.back, step.a))
            case "cancel":
                order_id = OrderId(f"o{self.ids - step.back}")
                self.venue.cancel(order_id, key(0))  # repeats fills that were told before

    def _order(self, index: int, lots: int, reduces: bool, limit: int) -> Order:
        self.ids += 1
        return order(
            f"o{self.ids}",
            str(Decimal(lots) / 1_000),
            index=index,
            number=self.number,
            limit=str(Decimal(limit) / 10) if limit % 3 == 0 else None,
            reduce_only=reduces and limit % 2 == 0,
        )

    def _show(self, step: Step) -> None:
        """Close bars: all that will come, a first part, or a later part of the same instant."""
        if step.kind != "late":
            self.number += 1
            self.is_final = False
        event = bars(self.number, step.a, volumes=step.b, final=step.kind == "bars")
        for i, close in enumerate(step.a):
            here = (at(self.number), i)
            self.volumes.setdefault(here, self.volumes.get((at(self.number - 1), i), 0.0))
            if close == close:
                self.opens.setdefault(here, close)
                if here not in self.known and not self.is_final:
                    self.known.add(here)
                    self.volumes[here] = step.b[i]
        self.is_final = self.is_final or event.final
        self.events += self.venue.observe(event)


def fills(events: Sequence[VenueEvent]) -> list[Fill]:
    return [e.fill for e in events if isinstance(e, OrderFilled)]


def play_all(plan: Sequence[Step]) -> Story:
    story = Story(make_venue(MemoryStore(), **COSTS))
    for step in plan:
        story.play(step)
    return story


@limits(max_examples=80)
@given(plan=steps)
def test_money_and_quantities_are_conserved_exactly(plan: list[Step]) -> None:
    story = play_all(plan)
    cash, quantities = Decimal(10_000), defaultdict[object, Decimal](Decimal)
    for event in story.events:
        if isinstance(event, FundingPaid):
            cash += event.amount
    for fill in fills(story.events):
        cash -= fill.quantity * fill.price + fill.fee
        quantities[fill.key] += fill.quantity
    account = account_of(story.venue)
    assert list(account.cash.values()) == [cash]
    assert dict(account.quantities) == {k: q for k, q in quantities.items() if q}
    told = list(story.venue.snapshot(1)[:-1])
    assert told == [e for e in story.events if isinstance(e, OrderFilled | FundingPaid)]


@limits(max_examples=80)
@given(plan=steps)
def test_no_instant_fills_more_than_its_share_of_the_last_volume(plan: list[Step]) -> None:
    story = play_all(plan)
    taken = defaultdict[tuple[int, int], Decimal](Decimal)
    for fill in fills(story.events):
        taken[fill.at_ms, fill.index] += abs(fill.quantity)
    for where, size in taken.items():
        assert size <= SHARE * Decimal(repr(story.volumes[where]))


@limits(max_examples=80)
@given(plan=steps)
def test_no_fill_is_better_than_the_open_and_all_are_on_tick_and_lot(plan: list[Step]) -> None:
    story = play_all(plan)
    for fill in fills(story.events):
        reference = Decimal(repr(story.opens[fill.at_ms, fill.index]))
        assert fill.price > reference if fill.quantity > 0 else fill.price < reference
        assert not fill.price % Decimal("0.1")
        assert not fill.quantity % Decimal("0.001")
        fee = abs(fill.quantity) * fill.price * Decimal("0.00045")
        # said in so many words, because ccxt changes the rounding of whoever shares its thread
        assert fill.fee == fee.quantize(Decimal("1e-8"), ROUND_HALF_EVEN)


@limits(max_examples=80)
@given(plan=steps)
def test_no_order_is_overfilled_and_reduce_only_never_grows_a_position(plan: list[Step]) -> None:
    story = play_all(plan)
    filled, positions = defaultdict[str, Decimal](Decimal), defaultdict[int, Decimal](Decimal)
    wanted = {order_id: r.order for order_id, r in story.venue._orders.items()}
    for fill in fills(story.events):
        before = positions[fill.index]
        positions[fill.index] += fill.quantity
        filled[fill.order_id] += fill.quantity
        order_ = wanted[fill.order_id]
        assert abs(filled[fill.order_id]) <= abs(order_.quantity)
        assert fill.quantity * order_.quantity > 0
        if order_.reduce_only:
            assert abs(positions[fill.index]) < abs(before)
            assert positions[fill.index] * before >= 0


@limits(max_examples=25)
@given(plan=steps)
def test_memory_and_sqlite_even_restarted_at_every_step_answer_alike(plan: list[Step]) -> None:
    reference = play_all(plan)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "paper.db"

        def reopen() -> tuple[SqliteStore, PaperVenue]:
            store = SqliteStore(path)
            return store, PaperVenue(make_universe(), settings(**COSTS), store, opened_ms=START_MS)

        store, venue = reopen()
        story = Story(venue)
        for step in plan:
            store.close()
            store, story.venue = reopen()
            story.play(step)
        durable = story.venue.snapshot(0)
        store.close()
    assert [codec.encode_message(e) for e in story.events] == [
        codec.encode_message(e) for e in reference.events
    ]
    assert durable == reference.venue.snapshot(0)
