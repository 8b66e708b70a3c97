"""The benchmark `ppl`."""
