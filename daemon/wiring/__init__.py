"""THE composition root: chooses clock, feed, venue, estimator and sinks for a run.

Only the modules of this package name concrete adapters and strategies. Nothing below it asks which
mode it is in.
"""
