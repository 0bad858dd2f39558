"""The collector of cycles rests while modules are imported, and only then."""

from __future__ import annotations

import gc
import importlib

import pytest

from daemon.runtime.collector import not_collecting


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
