"""The collector of cycles rests while modules are imported, and only then."""

from __future__ import annotations

import gc
import importlib
from typing import cast

import pytest

from daemon.commands.running import settled_start
from daemon.domain.messages import Started
from daemon.engine.engine import Engine
from daemon.runtime.collector import not_collecting

MADE_N = 10_000


def test_the_collector_rests_inside_and_goes_on_afterwards_even_after_a_failure() -> None:
    assert gc.isenabled()
    with not_collecting():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), not_collecting():
        importlib.import_module("equipoise_absent")
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with not_collecting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_start_has_made_is_not_looked_at_again() -> None:
    engine = cast(Engine, None)  # it is not asked
    before_n = gc.get_freeze_count()
    made = [[n] for n in range(MADE_N)]
    try:
        settled_start(Started(0, "run", warming=True), (), engine)
        assert gc.get_freeze_count() == before_n
        settled_start(Started(0, "run"), (), engine)
        assert gc.get_freeze_count() >= before_n + len(made)
        kept: list[list[int]] = [[]]
        assert gc.is_tracked(kept), "what comes later is looked at as ever"
    finally:
        gc.unfreeze()
