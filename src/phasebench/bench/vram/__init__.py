"""The benchmark `vram`."""
