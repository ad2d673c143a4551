"""Priors of mixtures: the interface of prior families, the families, the covariance laws, and the default prior."""
