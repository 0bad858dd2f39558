"""The rehearsal exchange's private half: accounts, orders, matching, margin and the statement.

It knows no venue's dialect, opens no socket and reads no clock: market time is handed to it. The
door is `bank.Bank`; whoever speaks a dialect translates to and from the values in `terms` and
`records`.
"""
