"""List the stored files of funding; each is read whole, since they are small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.history.parquet_file import read_rates
from adapters.history.store import FUNDING_FOLDER
from daemon.domain.failures import DataError

_SUFFIX: Final = "-funding.parquet"


@dataclass(frozen=True, slots=True)
class FundingListing:
    """Describe one stored file of funding; `problem` says why it cannot be used, else None."""

    venue: str
    symbol: str
    rows: int
    first_ms: int | None
    last_ms: int | None
    problem: str | None = None


def list_funding(root: Path, venue: str | None = None) -> list[FundingListing]:
    """List all stored funding by venue and symbol; a broken file is listed with its fault."""
    paths = sorted((root / FUNDING_FOLDER).glob(f"{venue or '*'}/*{_SUFFIX}"))
    return [_listing(path) for path in paths if not path.name.startswith(".")]


def _listing(path: Path) -> FundingListing:
    venue, symbol = path.parent.name, path.name.removesuffix(_SUFFIX)
    try:
        times = read_rates(path).settle_ms
    except DataError as e:
        return FundingListing(venue, symbol, 0, None, None, str(e))
    first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    return FundingListing(venue, symbol, len(times), first, last)
