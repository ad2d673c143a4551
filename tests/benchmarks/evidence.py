"""log_evidence against exact values: one cluster of a few points, two components, under conjugate priors.

    python tests/benchmarks/evidence.py --keys 24

The exact value is a sum over all 2^N allocations of closed forms. Each line of the printed table is one Dirichlet concentration
and one method by which the draws were made. "beyond" counts the estimates that say OK although they are more than three of
their stated errors from the exact value.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln, logsumexp

import jaxgmm
from jaxgmm.posterior.evidence.log_evidence import EvidenceStatus

METHODS = ("laplace", "gibbs", "nuts")


def exact_log_evidence(x, prior):
    """Return log p(x) for rows (N, 1) and two components, by a sum over all 2^N allocations at once.

    The marginal likelihood of the points of one component is that of Murphy (2007), Conjugate Bayesian analysis of the Gaussian
    distribution, eq. 95, with nu degrees of freedom and scale S for the variance.
    """
    x, c = np.asarray(x, float)[:, 0], np.asarray(prior.weight_concentration, float)
    m, kappa, nu, scale = (
        float(np.asarray(v).ravel()[0]) for v in (prior.mean, prior.mean_precision, prior.degrees_of_freedom, prior.scale)
    )
    first = (np.arange(2 ** len(x))[:, None] >> np.arange(len(x))) & 1
    total = gammaln(c.sum()) - gammaln(c.sum() + len(x))
    for member, concentration in ((first, c[0]), (1 - first, c[1])):
        n = member.sum(1)
        mean = member @ x / np.maximum(n, 1)
        scatter = (member * (x - mean[:, None]) ** 2).sum(1) + kappa * n / (kappa + n) * (mean - m) ** 2
        total = total + gammaln(concentration + n) - gammaln(concentration)
        total = total + gammaln((nu + n) / 2) - gammaln(nu / 2) + 0.5 * np.log(kappa / (kappa + n)) - n / 2 * math.log(math.pi)
        total = total + nu / 2 * math.log(scale) - (nu + n) / 2 * np.log(scale + scatter)
    return float(logsumexp(total))


def one_cluster(seed, num_observations, concentration):
    """Return rows from one normal distribution, and a prior that is made from them, with a given Dirichlet concentration."""
    x = np.random.default_rng(seed).normal(size=(num_observations, 1))
    prior = jaxgmm.default_prior(x, num_components=2)
    return x, dataclasses.replace(prior, weight_concentration=jnp.full(2, concentration, prior.mean.dtype))


def estimate(seed, x, prior, method, num_samples):
    """Return an estimate from draws by one method, which start at a MAP estimate under the prior with concentration 1."""
    keys = jax.random.split(jax.random.key(seed), 3)
    flat = dataclasses.replace(prior, weight_concentration=jnp.ones_like(prior.weight_concentration))
    fit = jaxgmm.fit(jaxgmm.initialize(keys[0], x, num_components=2), x, flat)
    options = {} if method == "laplace" else {"num_chains": 2}
    posterior = getattr(jaxgmm, method)(keys[1], fit.mixture, x, prior, num_samples=500, **options)
    return jaxgmm.log_evidence(keys[2], posterior, x, num_samples=num_samples)


def compare_with_exact(concentration, method, num_keys, num_observations, num_samples):
    """Return status, error, stated error, k-hat and effective samples of one estimate for each key, (keys,) each."""
    rows = []
    for seed in range(num_keys):
        x, prior = one_cluster(seed, num_observations, concentration)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = estimate(seed, x, prior, method, num_samples)
        error = float(found.value) - exact_log_evidence(x, prior)
        rows.append((int(found.status), error, float(found.error), float(found.khat), float(found.ess)))
    return np.array(rows).T


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=24)
    parser.add_argument("--observations", type=int, default=12)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--concentrations", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    print("    c  method   OK  beyond  not OK  largest error / stated  median stated  largest k-hat  least ESS")
    for concentration, method in itertools.product(options.concentrations, options.methods):
        found = compare_with_exact(concentration, method, options.keys, options.observations, options.samples)
        status, error, stated, khat, ess = found
        good = status == EvidenceStatus.OK
        ratio = np.where(good, abs(error) / np.maximum(stated, 1e-9), 0)
        print(
            f"{concentration:5g}  {method:8}{good.sum():3d}{(ratio > 3).sum():8d}{(~good).sum():8d}{ratio.max():24.2f}"
            f"{np.median(stated):15.4f}{khat.max():15.2f}{ess.min():11.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
