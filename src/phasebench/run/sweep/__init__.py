"""Sweeps: points in folders and processes of their own, resumed by what a result depends on."""
