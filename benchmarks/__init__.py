"""Speed and memory of the ordinary `backtest` command beside a reference and a peer.

One market, one rule, one question: 20 and 200 instruments over two years of hourly bars; rank by
the return of a day, long the five best, short the five worst, a band of 1 % of equity, 5 bps. Run
with `make bench`, or `python -m benchmarks --help` for parts of it.
"""
