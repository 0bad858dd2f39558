"""Binance USDM futures' private dialect over the bank: signed REST, user streams, error codes.

The public half of this dialect is in `adapters/rehearsal/dialect.py` and `rest.py`.
"""
