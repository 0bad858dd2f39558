"""The live venue through ccxt: so far its pure parts, which need no socket and no ccxt.

`wire` notes what really went out and came back; `codes` and `outcomes` judge it; `client_ids` names
orders at the venue; `keys` holds credentials and keeps them out of every text; `quirks` and the
`rows_*` modules turn a venue's own records into exact values.
"""
