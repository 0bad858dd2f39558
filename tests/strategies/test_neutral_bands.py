"""The fixed band of the default strategy, which is there to be compared with."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.failures import ConfigurationError
from strategies.neutral import NeutralSettings, NeutralStrategy, build
from strategies.rebalance import Band
from tests.strategies.test_neutral import Run, World, run

HOURS = 60


def traded_by(**knobs: object) -> Run:
    strategy = NeutralStrategy(NeutralSettings(**knobs))  # type: ignore[arg-type]
    return run(World.make(HOURS, alpha_sd=0.06, seed=5), HOURS, strategy)


def test_a_band_of_nothing_holds_the_ideal_book_at_every_decision() -> None:
    seen = traded_by(band=Band.FIXED, band_weight=0.0)
    for target in seen.targets:
        assert target.weights == pytest.approx(target.ideal, abs=1e-12)
        assert not target.band.any()


def test_a_wider_fixed_band_trades_less_and_stays_neutral_at_its_gross() -> None:
    narrow, wide = (traded_by(band=Band.FIXED, band_weight=w) for w in (0.005, 0.04))
    assert np.sum(wide.traded) < 0.7 * np.sum(narrow.traded)
    for seen in (narrow, wide):
        assert max(abs(net) for net in seen.net) < 0.0055
        assert min(seen.gross) >= 0.8
    assert {float(b) for t in narrow.targets for b in t.band} <= {0.005}


def test_the_cube_root_rule_is_what_is_used_unless_asked_otherwise() -> None:
    plain, named = traded_by(), traded_by(band=Band.CUBE_ROOT, band_weight=0.5)
    assert plain.traded == named.traded


def test_the_band_is_chosen_by_name_and_checked() -> None:
    built = build({"band": "fixed", "band_weight": 0.03})
    assert (built.settings.band, built.settings.band_weight) == (Band.FIXED, 0.03)
    with pytest.raises(ConfigurationError, match="cube_root, fixed, confidence, calendar"):
        build({"band": "wide"})
    with pytest.raises(ConfigurationError, match="band_weight"):
        build({"band_weight": -0.1})
