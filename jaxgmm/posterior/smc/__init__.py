"""Sequential Monte Carlo: particles that move from the prior to the posterior."""
