"""Settings of stored data: what a running daemon writes, and which bars are removed as bad."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


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
    remove_impossible: bool = setting(
        True, "Remove bars that no market makes: high below low, tenfold and back within a bar."
    )
    remove_frozen_venue: bool = setting(
        True, "Remove still bars without a trade while most instruments of the venue stand still."
    )
    frozen_share: float = setting(
        0.6,
        "From this share of a venue's instruments on, at least 3, the venue itself is frozen.",
        unit="share of instruments",
        gt=0,
        le=1,
    )
    remove_zero_volume: bool = setting(
        True, "Remove bars of an instrument that stands still without a trade for too long."
    )
    zero_volume_minutes_max: int = setting(
        120, "Still bars are kept for so long.", unit="minutes", ge=0, le=100_000
    )
    remove_rescaled: bool = setting(
        True, "Remove bars while the price stands a power of ten away from where it was."
    )
    remove_repeated: bool = setting(
        True, "Remove bars that repeat all five numbers of the bar before, although it moved."
    )
    flag_extremes: bool = setting(
        True, "Name suspected splits, wicks and crashes in reports; they are never removed."
    )
    wick_range: float = setting(
        0.12,
        "Log of high over low from which a 15 minute bar is extreme; grows with the root of the "
        "length.",
        unit="log of price",
        gt=0,
        le=5,
    )
