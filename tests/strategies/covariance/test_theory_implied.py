"""Hold the implied correlation to trees worked out by hand, and the taxonomy to its dates."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.repair import nearest_correlation
from strategies.covariance.taxonomy import PACKAGED, read_taxonomy
from strategies.covariance.theory_implied import (
    denoised,
    implied_correlation,
    noise_edges,
    theory_implied,
)
from tests.strategies.covariance.returns import COINS, drawn

OF_THE_RECORDED_DATA = """
ADA ALGO APE ARB AR ATOM AVAX BNB BSV BTC DOGE DOT DYDX ENS EOS ETC ETH FET FTM GALA INJ JTO LAYER
LDO LINK LTC MATIC MKR NEAR NOT OP ORDI PENDLE RUNE SEI SOL STX XMR XRP ZK
"""
RECORDED = OF_THE_RECORDED_DATA.split()


def at(day: str) -> int:
    return (dt.date.fromisoformat(day) - dt.date(1970, 1, 1)).days * DAY_MS


def test_branches_are_completed_before_they_meet() -> None:
    """Rows 0 and 2 are the nearest pair, but stand in different branches."""
    R = np.array(
        [
            [1.0, 0.2, 0.9, 0.1],
            [0.2, 1.0, 0.3, 0.0],
            [0.9, 0.3, 1.0, 0.4],
            [0.1, 0.0, 0.4, 1.0],
        ]
    )
    found = implied_correlation(R, [("a",), ("a",), ("b",), ("b",)])
    assert found[0, 1] == pytest.approx(0.2)
    assert found[2, 3] == pytest.approx(0.4)
    across = np.mean(np.sqrt((1 - np.array([0.9, 0.1, 0.3, 0.0])) / 2))
    assert found[:2, 2:] == pytest.approx(np.full((2, 2), 1 - 2 * across**2))


def test_within_a_branch_the_nearest_meet_first() -> None:
    R = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.1], [0.3, 0.1, 1.0]])
    found = implied_correlation(R, [("a",)] * 3)
    rest = np.mean(np.sqrt((1 - np.array([0.3, 0.1])) / 2))
    assert found[0, 1] == pytest.approx(0.8)
    assert found[2, :2] == pytest.approx(np.full(2, 1 - 2 * rest**2))


def test_deeper_branches_close_before_their_parents() -> None:
    rng = np.random.default_rng(3)
    R = sample_correlation(rng.standard_normal((200, 6)))
    places = [("x", "a"), ("x", "a"), ("x", "b"), ("x", "b"), ("y", "c"), ("y", "c")]
    found = implied_correlation(R, places)
    for first, second in (((0, 1), (2, 3)), ((0, 1, 2, 3), (4, 5))):
        block = found[np.ix_(first, second)]
        assert np.ptp(block) == 0.0  # two whole clusters met at one height
        mean = np.mean(np.sqrt((1 - R[np.ix_(first, second)]) / 2))
        assert block[0, 0] == pytest.approx(1 - 2 * mean**2)


@pytest.mark.parametrize(("rows", "low", "high"), [(720, 0.58415, 1.52696), (160, 0.25, 2.25)])
def test_noise_has_the_published_edges(rows: int, low: float, high: float) -> None:
    assert noise_edges(40, rows) == pytest.approx((low, high), abs=5e-6)


def test_noise_is_levelled_and_the_market_is_kept() -> None:
    z = drawn(400, 10)
    R = sample_correlation(z)
    values = np.linalg.eigvalsh(R)
    found = np.linalg.eigvalsh(denoised(R, 400))
    above = int((values > noise_edges(10, 400)[1]).sum())
    assert 1 <= above < 9
    assert np.ptp(found[: 10 - above]) < 0.6 * np.ptp(values[: 10 - above])
    assert found[-1] == pytest.approx(values[-1], rel=0.05)


def grouped(T: int, seed: int = 6) -> Floats:
    """Draw z whose correlations follow the sectors of the packaged taxonomy."""
    rng = np.random.default_rng(seed)
    places = [read_taxonomy().place(coin, at("2025-06-01")) for coin in RECORDED]
    factor = {place[:depth]: rng.standard_normal(T) for place in places for depth in (0, 1, 2)}
    share = {0: 0.4, 1: 0.25, 2: 0.2}
    z = np.array(
        [sum(np.sqrt(share[k]) * factor[place[:k]] for k in (0, 1, 2)) for place in places]
    ).T
    return np.asarray(z + np.sqrt(0.15) * rng.standard_normal(z.shape), dtype=np.float64)


def test_the_true_tree_forecasts_what_follows_it_better_than_a_permuted_one() -> None:
    z = grouped(20_100)
    truth, seen = sample_correlation(z[100:]), z[:100]
    true_tree = theory_implied(RECORDED, read_taxonomy())(seen, at("2025-06-01"))
    distance = np.linalg.norm(true_tree - truth)
    for seed in range(5):
        control = theory_implied(RECORDED, read_taxonomy(), permuted_by=seed)
        assert np.linalg.norm(control(seen, at("2025-06-01")) - truth) > 1.3 * distance


def test_a_permuted_tree_is_the_same_for_the_same_seed_only() -> None:
    z = drawn(300, 12)
    one, same, other = (
        theory_implied(COINS, read_taxonomy(), permuted_by=seed)(z, at("2025-06-01"))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_what_it_implies_can_be_a_covariance() -> None:
    z = drawn(300, 12)
    found = nearest_correlation(theory_implied(COINS, read_taxonomy())(z, at("2022-01-01")))
    assert Covariance(0, "", np.ones(12), found).problem(12) is None


# ---- the taxonomy --------------------------------------------------------------------------------


def test_all_recorded_coins_and_many_more_are_listed() -> None:
    taxonomy = read_taxonomy()
    assert set(RECORDED) <= set(taxonomy.entries)
    assert len(taxonomy.entries) >= 80
    for coin in taxonomy.entries:
        assert taxonomy.place(coin, at("2026-01-01"))[0] in {
            "money",
            "meme",
            "platform",
            "finance",
            "data",
            "play",
        }


def test_a_place_is_known_from_its_day_on() -> None:
    taxonomy = read_taxonomy()
    assert taxonomy.place("ARB", at("2023-03-23") - 1) == ("alone ARB",)
    assert taxonomy.place("ARB", at("2023-03-23")) == ("platform", "rollup")
    assert taxonomy.place("DOGE", at("2021-05-09")) == ("money", "proof_of_work")
    assert taxonomy.place("DOGE", at("2021-05-10")) == ("meme", "dog")
    assert taxonomy.place("BTC", at("2019-12-31")) == ("alone BTC",)


def test_contracts_over_many_coins_are_of_that_coin_and_strangers_stand_alone() -> None:
    taxonomy = read_taxonomy()
    assert taxonomy.place("1000PEPE", at("2025-01-01")) == ("meme", "other")
    assert taxonomy.place("1INCH", at("2025-01-01")) == ("finance", "exchange")
    assert taxonomy.place("QQQ", at("2025-01-01")) == ("alone QQQ",)


GOOD = """version = 1
[sectors]
"a.b" = "words"
[coins]
BTC = { from = 2020-01-01, sector = "a.b" }
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("version = 1", "version = 0", "version = 0: want a number from 1 on"),
        ("version = 1", "", "the file has coins, sectors; want coins, sectors, version"),
        ("[sectors]", "[sectors", "taxonomy .*line 2"),
        ('sector = "a.b"', 'sector = "a.c"', "BTC: sector = 'a.c' is not listed"),
        ("from = 2020-01-01", 'from = "2020"', "BTC: from = '2020': want a day"),
        ("from = 2020-01-01", "since = 2020-01-01", "BTC has sector, since; want from, sector"),
        ('{ from = 2020-01-01, sector = "a.b" }', "[]", "BTC: want one entry or more"),
        ('{ from = 2020-01-01, sector = "a.b" }', "3", "BTC = 3: want from and sector"),
        (
            '{ from = 2020-01-01, sector = "a.b" }',
            '[{ from = 2020-01-01, sector = "a.b" }, { from = 2020-01-01, sector = "a.b" }]',
            "BTC: want one entry or more, oldest first",
        ),
        ('[sectors]\n"a.b" = "words"', "sectors = 3", "sectors = 3: want a table"),
    ],
)
def test_a_bad_file_says_what_is_wrong(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    file = tmp_path / "tree.toml"
    file.write_text(GOOD.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_taxonomy(file)


def test_a_good_file_is_read_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tree.toml"
    file.write_text(GOOD, encoding="utf-8")
    assert read_taxonomy(file).place("BTC", at("2020-01-01")) == ("a", "b")
    with pytest.raises(ConfigurationError, match=r"taxonomy .*nowhere"):
        read_taxonomy(tmp_path / "nowhere.toml")
    assert read_taxonomy(PACKAGED).version == 1
