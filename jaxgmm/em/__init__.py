"""Compute point estimates by EM: starts, the E-step, the M-step, fits, derivatives, standard errors, and many data sets."""
