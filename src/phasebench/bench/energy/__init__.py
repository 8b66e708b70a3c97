"""The benchmark `energy`."""
