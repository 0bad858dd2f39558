"""Crash after every commit of a rebalance, and in the recovery from that: the book survives."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from adapters.journal import JournalReader
from daemon.domain.units import HOUR_MS, iso
from tests.e2e.books import check_books_agree, check_what_is_left, read_account
from tests.simulation.paper_line import (
    BEGIN_MS,
    Camera,
    Market,
    generated_market,
    run_until,
)

NET_WEIGHT_MAX = 0.25
# The bound is checked when an order is sent. Its cost lowers equity, and prices move while it rests
# and nobody is there to withdraw it: a book may pass the bound by this share of the bound.
NET_PASSED_SHARE_MAX = 0.01
GOES_ON_HOURS = 2
DOWNTIMES_MS = (0, HOUR_MS // 2, 3 * HOUR_MS)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return generated_market(tmp_path_factory.mktemp("market"))


async def recover(
    market: Market, image: Path, state: Path, downtime_ms: int, camera: Camera | None = None
) -> None:
    """Start anew from an image, trade on, and check the book."""
    shutil.copytree(image, state)
    check_what_is_left(market.settings(state))
    before_ms = JournalReader(state / "journal.sqlite").last_event_ms or BEGIN_MS
    begin_ms = before_ms + downtime_ms
    end_ms = begin_ms + GOES_ON_HOURS * HOUR_MS
    decisions = await run_until(market, state, begin_ms, end_ms, camera)
    text = f"{image.name}, down for {downtime_ms // 60_000} min"
    assert any(d.orders for d in decisions), f"{text}: nothing was traded after {iso(begin_ms)}"
    book = check_books_agree(market.settings(state))
    assert book.net_weight_worst <= NET_WEIGHT_MAX * (1 + NET_PASSED_SHARE_MAX), text
    assert book.reconciliations >= 1, text
    shutil.rmtree(state)


async def album_of_a_run(market: Market, folder: Path, hours: int) -> list[tuple[str, Path]]:
    """Trade some hours and give an image of the files after each commit."""
    camera = Camera(folder / "state", folder / "album")
    decisions = await run_until(market, camera.state, BEGIN_MS, BEGIN_MS + hours * HOUR_MS, camera)
    assert sum(bool(d.orders) for d in decisions) >= hours - 1  # the last is not finished
    check_books_agree(market.settings(camera.state))
    account = read_account(camera.state)
    assert account is not None
    assert account.funding, "no funding was settled"
    return camera.shots


async def test_after_a_crash_at_any_commit_of_a_rebalance_the_book_is_the_ledgers(
    market: Market, tmp_path: Path
) -> None:
    shots = await album_of_a_run(market, tmp_path, hours=3)
    names = [name for name, _ in shots]
    cancel = names.index("cancel")  # the second decision begins: the orders that rest go first
    bars = max(n for n in range(cancel) if names[n] == "observe")
    rebalance = shots[bars : cancel + 8]
    assert {"cancel", "journal", "submit", "observe"} <= {name for name, _ in rebalance}
    dice = random.Random(1)
    submitted = shots[names.index("submit") - 1 : names.index("submit") + 2]
    for _, image in [*shots[:3], *submitted, *rebalance]:
        await recover(market, image, tmp_path / f"again-{image.name}", dice.choice(DOWNTIMES_MS))


@pytest.mark.soak(minutes=3)
@pytest.mark.timeout(3600)
async def test_after_crashes_in_the_recovery_from_a_crash_the_book_is_the_ledgers(
    market: Market, tmp_path: Path
) -> None:
    shots = await album_of_a_run(market, tmp_path, hours=6)
    dice, count = random.Random(2), 0
    for _, image in shots[::3]:  # evenly over the run: neighbours fail alike
        state = tmp_path / f"after-{image.name}"
        camera = Camera(state, tmp_path / f"album-{image.name}")
        await recover(market, image, state, dice.choice(DOWNTIMES_MS), camera)
        for _, again in dice.sample(camera.shots, min(3, len(camera.shots))):
            await recover(market, again, tmp_path / f"again-{count}", dice.choice(DOWNTIMES_MS))
            count += 1
        shutil.rmtree(camera.album)
    after = dict(Counter(name for name, _ in shots[::3]))
    print(f"{len(shots[::3])} crashes, after {after}; {count} crashes in their recovery")
