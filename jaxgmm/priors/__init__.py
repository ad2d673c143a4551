"""Define priors of mixtures: an interface, two families that implement it, laws for covariances, and the default prior."""
