"""Point estimates by EM: starts, E-step and M-step, fits and their derivatives, standard errors, and fits of many data sets."""
