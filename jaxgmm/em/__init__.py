"""Point estimates by EM: starts, the E-step, the M-step, fits, derivatives of fits, standard errors, and many data sets."""
