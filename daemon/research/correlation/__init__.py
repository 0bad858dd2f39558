"""The race of covariance estimators: who predicts best what came, and what it is worth."""
