"""The benchmark `grad`."""
