"""Predict volatilities and correlations: one file an estimator, found by `known`."""
