"""The benchmark `koopman`."""
