"""Read a real exchange through ccxt: bars, funding and time of one venue, each bar final by proof.

    client ─> stream ─┐
       └────> reader ─┴─> pump (finality gate, instants, funding) ─> feed: the MarketFeed port

`client` owns and guards one ccxt object; `mapping` and `failures` translate its words into ours.
Nothing is imported here: ccxt takes a second to load.
"""
