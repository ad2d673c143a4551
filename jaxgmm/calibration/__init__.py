"""Simulation-based calibration: whether a method draws from the posterior."""
