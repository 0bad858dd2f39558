"""The live venue through ccxt.

`opening` connects and verifies, `venue` is the port; below it `desk` sends and asks about orders,
`account` reads what is held and happened, `news` and `streams` bring hints. Pure parts need neither
socket nor ccxt: `wire` notes what really went out and came back, `codes` and `outcomes` judge it,
`client_ids` names orders at the venue, `keys` keeps credentials out of every text, `quirks` and the
`rows_*` modules turn a venue's own records into exact values.
"""
