"""Two sets of results, point by point: what changed, and whether by more than repeats do. Never imports torch."""
