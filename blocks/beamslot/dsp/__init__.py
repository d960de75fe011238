"""Arrays in, arrays out: array geometry, channels, beams, estimators, bounds, metrics."""
