"""Compare two sets of results point by point: what changed by more than repeats do. No torch."""
