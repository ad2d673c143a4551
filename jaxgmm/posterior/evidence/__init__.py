"""The evidence of a model, log p(x), by importance sampling and bridge sampling."""
