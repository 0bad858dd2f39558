"""Variables of the environment that were meant as settings."""

from __future__ import annotations

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.settings import Settings, load_settings


def test_a_variable_with_single_underscores_is_refused_and_the_right_one_named() -> None:
    meant = r"EQUIPOISE_PAPER_FEE_BPS: .*EQUIPOISE__PAPER__FEE_BPS"
    with pytest.raises(ConfigurationError, match=meant):
        load_settings([], environment={"EQUIPOISE_PAPER_FEE_BPS": "3"})
    assert load_settings([], environment={"EQUIPOISE_REDIS_SECRET": "mine"}) == Settings()
