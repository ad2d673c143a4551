"""Priors of mixtures: the interface of all prior families, the families, the laws of covariances, and the default prior."""
