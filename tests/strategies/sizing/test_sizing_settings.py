"""The keys of sizing are read beside the strategy's own, and refused like them."""

from __future__ import annotations

import pytest

from daemon.domain.failures import ConfigurationError
from strategies.knobs import read_settings
from strategies.neutral import NeutralSettings
from strategies.sizing.settings import Sizing, SizingSettings


def test_the_keys_of_sizing_stand_beside_the_strategys_own() -> None:
    read = read_settings(
        NeutralSettings, {"sizing": "kelly", "kelly_fraction": 0.5, "legs_max": 8}, "neutral"
    )
    assert read.sizing == SizingSettings(sizing=Sizing.KELLY, kelly_fraction=0.5)
    assert read.legs_max == 8
    assert NeutralSettings().sizing.sizing is Sizing.NONE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizing": "martingale"}, "none, volatility_target, kelly, risk_leverage"),
        ({"kelly_fracton": 0.5}, "did you mean 'kelly_fraction'"),
        ({"kelly_fraction": 2.0}, "accepted are values from 0 to 1"),
        ({"sizing": "risk_leverage", "volatility_max": 0.0}, "needs volatility_max"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_accepted(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_settings(NeutralSettings, values, "neutral")
