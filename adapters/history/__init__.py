"""Keep bars and funding rates in Parquet files, fill them from an exchange, and play them back.

`load_panel` and `load_funding` read what `download` stored (or what others left in the same
layout), `ReplayFeed` turns it into market events, `load_rules` says how such instruments trade.
"""

from adapters.history.download import DownloadReport, Progress, download, download_funding
from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import RulesTable, instruments_from, load_rules
from adapters.history.store import Funding, Panel, list_bars, load_funding, load_panel

__all__ = [
    "DownloadReport",
    "Funding",
    "Panel",
    "Progress",
    "ReplayFeed",
    "RulesTable",
    "download",
    "download_funding",
    "instruments_from",
    "list_bars",
    "load_funding",
    "load_panel",
    "load_rules",
]
