"""The rule's numbers, as every contender has them; ours stand once more in the settings files."""

LEGS_EACH_SIDE = 5
LOOKBACK_BARS = 24
BAND_WEIGHT = 0.01
FEE_BPS = 5.0
CASH = 1_000_000.0
