"""The exact evidence of a few points under a conjugate prior: a sum over all allocations of the points to components."""

import dataclasses
import itertools
import math

import numpy as np
from scipy.special import gammaln, multigammaln

import oracle


def log_marginal(groups, weights, prior, covariance_type):
    """Return log p(x | allocation), normal-inverse-Wishart marginals of Murphy (2007), eq. 234; weights are exponents."""
    _, m, kappa, nu, scale = oracle.hyperparameters(prior)
    d = groups[0].shape[1]
    counts = [w.sum() for w in weights]
    about = []
    for x, w, n in zip(groups, weights, counts, strict=True):
        center = w @ x / n if n else np.zeros(d)
        scatter = (w[:, None] * (x - center)).T @ (x - center)
        about.append(scatter + kappa * n / (kappa + n) * np.outer(center - m, center - m))
    means = sum(d / 2 * math.log(kappa / (kappa + n)) for n in counts)

    def scales(count, scatter, scale, nu):  # of one covariance (D, D) or variance
        scatter, scale = np.atleast_2d(scatter), np.atleast_2d(scale)
        size = len(scale)
        logs = [np.linalg.slogdet(v)[1] for v in (scale, scale + scatter)]
        ratio = multigammaln((nu + count) / 2, size) - multigammaln(nu / 2, size)
        return ratio + nu / 2 * logs[0] - (nu + count) / 2 * logs[1] - count * size / 2 * math.log(math.pi)

    if covariance_type == "tied":
        return means + scales(sum(counts), sum(about), scale, nu)
    if covariance_type == "full":
        return means + sum(scales(n, a, scale, nu) for n, a in zip(counts, about, strict=True))
    if covariance_type == "diag":
        return means + sum(scales(n, a[i, i], scale[i], nu) for n, a in zip(counts, about, strict=True) for i in range(d))
    return means + sum(scales(d * n, np.trace(a), scale, nu) for n, a in zip(counts, about, strict=True))


def log_marginal_by_feature(groups, weights, prior):
    """Return log p(x | allocation) for diagonal covariances: a product over the features, each over its observed values."""
    total = 0.0
    for j in range(groups[0].shape[1]):
        own = dataclasses.replace(prior, mean=np.asarray(prior.mean)[[j]], scale=np.asarray(prior.scale)[[j]])
        kept = [~np.isnan(x[:, j]) for x in groups]
        parts = zip(groups, weights, kept, strict=True)
        columns, masses = zip(*[(x[seen][:, [j]], w[seen]) for x, w, seen in parts], strict=True)
        total += log_marginal(columns, masses, own, "diag")
    return total


def allocation_terms(x, prior, covariance_type, weight=None):
    """Return log p(x, allocation) and the number of components with points, each (K^N,), for all allocations of the points."""
    weight = np.ones(len(x)) if weight is None else np.asarray(weight, float)
    x, weight = np.asarray(x, float)[weight > 0], weight[weight > 0]
    c = np.asarray(prior.weight_concentration, float)
    terms, occupied = [], []
    for labels in itertools.product(range(len(c)), repeat=len(x)):
        mine = [np.array(labels) == k for k in range(len(c))]
        counts = np.array([weight[m].sum() for m in mine])
        allocation = gammaln(c.sum()) - gammaln(c.sum() + counts.sum()) + (gammaln(c + counts) - gammaln(c)).sum()
        groups, masses = [x[m] for m in mine], [weight[m] for m in mine]
        if covariance_type == "diag":
            terms.append(allocation + log_marginal_by_feature(groups, masses, prior))
        else:
            terms.append(allocation + log_marginal(groups, masses, prior, covariance_type))
        occupied.append((counts > 0).sum())
    return np.array(terms), np.array(occupied)


def exact_log_evidence(x, prior, covariance_type, weight=None):
    """Return the sum over all K^N allocations without rows of weight 0; fractional weights are allowed for K=1 only."""
    return np.logaddexp.reduce(allocation_terms(x, prior, covariance_type, weight)[0])


def exact_numbers(x, prior_of, prior_on_k, covariance_type):
    """Return p(K | x) and p(occupied K | x) for K = 1, ..., M, from the priors prior_of(K) and M probabilities p(K)."""
    size = len(prior_on_k)
    joint = np.zeros((size, size))  # over K and the number of occupied components
    for k in range(1, size + 1):
        terms, occupied = allocation_terms(x, prior_of(k), covariance_type)
        for j in range(1, k + 1):
            joint[k - 1, j - 1] = prior_on_k[k - 1] * np.exp(terms[occupied == j]).sum()
    joint /= joint.sum()
    return joint.sum(1), joint.sum(0)
