"""Keep bars and funding rates in Parquet files, fill them from an exchange, and play them back.

`store.load_panel` and `store.load_funding` read what `download` stored (or what others left in the
same layout), `replay_feed.ReplayFeed` turns it into market events, `rules.load_rules` says how such
instruments trade. Nothing is imported here: reading files needs no network library.
"""
