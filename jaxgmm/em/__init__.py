"""Point estimates by EM: starts, the E-step and the M-step, fits and their derivatives, standard errors, and many data sets."""
