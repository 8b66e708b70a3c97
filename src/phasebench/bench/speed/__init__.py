"""The benchmark `speed`."""
