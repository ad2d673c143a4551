"""Priors of mixtures: the interface of a family, the families, the laws of covariances, and the default prior."""
