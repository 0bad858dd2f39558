"""A quickly made value is the dataclass it was before: frozen, equal and checked."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from daemon.domain.failures import InvariantViolated
from daemon.domain.quick import quickly_made


@dataclass(frozen=True, slots=True)
class Slow:
    name: str
    size: int = 3
    note: str = ""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size {self.size}")


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    name: str
    size: int = 3
    note: str = ""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size {self.size}")


def test_it_takes_the_same_arguments_in_any_form_and_knows_the_defaults() -> None:
    assert Quick("a") == Quick(name="a", size=3, note="")
    assert replace(Quick("a"), size=5) == Quick("a", 5)
    assert hash(Quick("a", 1)) == hash(Quick("a", 1))
    assert repr(Quick("a", 1)) == repr(Slow("a", 1)).replace("Slow", "Quick")
    assert [f.name for f in fields(Quick)] == [f.name for f in fields(Slow)]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Quick("a", colour=1)  # type: ignore[call-arg]


def test_nobody_can_change_it_afterwards() -> None:
    value = Quick("a")
    with pytest.raises(FrozenInstanceError):
        value.size = 4  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del value.size
    assert value.size == 3


def test_its_own_check_still_runs() -> None:
    with pytest.raises(ValueError, match="size -1"):
        Quick("a", -1)


def test_fields_that_need_more_than_an_argument_are_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class WithFactory:
        items: list[int] = field(default_factory=list)

    with pytest.raises(InvariantViolated, match="items is no plain field"):
        quickly_made(WithFactory)
