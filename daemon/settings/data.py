"""Settings of stored data: what a running daemon writes, and which bars are removed as bad."""

from __future__ import annotations

from typing import Literal

from daemon.settings.fields import Ratio, Section, Stated, setting


class RescaledContract(Section):
    """State that a contract was split or redenominated, or that a doubted price is a real one."""

    venue: str = setting("", "Where; empty takes every venue that has the symbol.")
    symbol: str = setting(..., "Unified or venue symbol.", min_length=1)
    at: Stated = setting(..., "From when on prices and amounts are in new units.")
    factor: Ratio = setting(
        ..., "With 10 a price of 5 becomes 0.5 and a position of 3 becomes 30; 1: it really moved."
    )

    @property
    def ratio(self) -> tuple[int, int]:
        """Give new units and the old ones that they replace."""
        new_n, _, old_n = self.factor.partition("/")
        return int(new_n), int(old_n or 1)


class DataSettings(Section):
    """Say what is stored of a running daemon's bars, and which bars are kept from use."""

    record: bool = setting(
        True, "Write the final bars of a running daemon into the bar store, with their proofs."
    )
    folder: str = setting(
        "",
        "Root of that bar store; empty takes data, or for a generated market the folder bars "
        "inside run.state_folder.",
    )
    record_every_h: float = setting(
        24.0,
        "How often each symbol's file is written; the end of a run writes too.",
        unit="hours of market time",
        gt=0,
        le=720,
    )
    series: Literal["wanted", "always", "never"] = setting(
        "wanted",
        "Collect open interest, mark and index price of the venue while running: where a model "
        "reads them, always or never. Needs data.record.",
    )
    series_every_min: float = setting(
        60.0,
        "How often they are asked for, two minutes before each multiple of it; 0 never.",
        unit="minutes of market time",
        ge=0,
        le=1440,
    )
    remove_impossible: bool = setting(
        True, "Remove bars that no market makes: high below low, tenfold and back within a bar."
    )
    remove_frozen_venue: bool = setting(
        True, "Remove still bars without a trade while most instruments of the venue stand still."
    )
    frozen_share: float = setting(
        0.6,
        "From this share of a venue's instruments on the venue itself is frozen.",
        unit="share of instruments",
        gt=0,
        le=1,
    )
    frozen_least_n: int = setting(
        3,
        "Where fewer instruments of a venue show a bar, it is frozen if all of them stand still: "
        "for 10 minutes longer with each that is missing.",
        unit="instruments",
        ge=1,
        le=200,
    )
    remove_zero_volume: bool = setting(
        True, "Remove bars of an instrument that stands still without a trade for too long."
    )
    zero_volume_minutes_max: int = setting(
        120, "Still bars are kept for so long.", unit="minutes", ge=0, le=100_000
    )
    remove_rescaled: bool = setting(
        True,
        "Doubt a price that jumps by a round factor while no other moves: its bars are removed, "
        "and the instrument stands still until it is known why.",
    )
    rescaled_patience_h: float = setting(
        48.0,
        "A doubted price that is traded for so long is believed as a real move; 0 never by itself.",
        unit="hours of market time",
        ge=0,
        le=8760,
    )
    rescaled: tuple[RescaledContract, ...] = setting(
        (), "Splits and redenominations, stated by a person."
    )
    remove_repeated: bool = setting(
        True, "Remove bars that repeat all five numbers of the bar before, although it was traded."
    )
    flag_extremes: bool = setting(
        True, "Name wicks and crashes in reports; they are never removed."
    )
    wick_range: float = setting(
        0.12,
        "Log of high over low from which a 15 minute bar is extreme; grows with the root of the "
        "length.",
        unit="log of price",
        gt=0,
        le=5,
    )
