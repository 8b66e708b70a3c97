"""The benchmark `recall`."""
