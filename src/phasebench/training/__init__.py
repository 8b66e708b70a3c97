"""Training: step, loop, optimizer, checkpoints, scoring, trained weights and their cache."""
