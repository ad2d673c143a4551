"""Posterior distributions of mixtures: samplers, relabelling, diagnostics, predictive distributions and evidence."""
