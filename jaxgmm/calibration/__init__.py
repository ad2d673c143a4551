"""Simulation-based calibration, which checks whether a method draws from the posterior."""
