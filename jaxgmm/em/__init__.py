"""Point estimates by EM: starts, the E-step and M-step, fits, their derivatives and standard errors, and many data sets."""
