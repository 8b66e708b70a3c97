"""phasebench: train and measure language models whose layers integrate a Hamiltonian ODE."""

__version__ = "0.1.0"
