"""The command: Hydra, one job, sweeps, errors."""
