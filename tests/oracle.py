"""The definition of each quantity, in slow float64 NumPy loops over observations and components, without importing jaxgmm.

Mixtures and priors may be any objects with the attributes of those of jaxgmm; the results are `Mixture`s of NumPy arrays.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

PSEUDO_COUNT = 1e-6


class Mixture(NamedTuple):
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    covariance_type: str


class Moments(NamedTuple):
    count: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float


def of(mixture) -> Mixture:
    """Return the same mixture in float64 NumPy."""
    return Mixture(
        *(np.asarray(v, float) for v in (mixture.weights, mixture.means, mixture.covariances)), mixture.covariance_type
    )


def dense(mixture, k):
    """Return the covariance matrix (D, D) of component k."""
    covariances, d = np.asarray(mixture.covariances, float), mixture.means.shape[-1]
    return {
        "full": lambda: covariances[k],
        "tied": lambda: covariances[0],
        "diag": lambda: np.diag(covariances[k]),
        "spherical": lambda: covariances[k, 0] * np.eye(d),
    }[mixture.covariance_type]()


def store(matrices, covariance_type):
    """Return K matrices (D, D) of a valid mixture in the storage of the covariance type."""
    if covariance_type == "full":
        return np.array(matrices)
    if covariance_type == "tied":
        return np.array(matrices[:1])
    diagonals = np.array([np.diag(m) for m in matrices])
    return diagonals if covariance_type == "diag" else diagonals[:, :1]


def log_normal(point, mean, matrix):
    """Return log N(x | mu, Sigma): Bishop (2006), eq. 2.43."""
    root = np.linalg.cholesky(matrix)
    z = np.linalg.solve(root, point - mean)
    return -0.5 * z @ z - np.log(np.diag(root)).sum() - len(mean) / 2 * math.log(2 * math.pi)


def log_joint(mixture, x):
    """Return log w_k + log N(x_n | k), (N, K), which is -inf at weight 0."""
    mixture, x = of(mixture), np.asarray(x, float)
    out = np.full((len(x), len(mixture.weights)), -np.inf)
    for k, weight in enumerate(mixture.weights):
        for n, point in enumerate(x):
            if weight > 0:
                out[n, k] = math.log(weight) + log_normal(point, mixture.means[k], dense(mixture, k))
    return out


def log_prob(mixture, x):
    """Return log sum_k w_k N(x_n | k), (N,)."""
    joint = log_joint(mixture, x)
    top = joint.max(1)
    return np.array([t + math.log(sum(math.exp(v - t) for v in row)) for row, t in zip(joint, top, strict=True)])


def responsibilities(mixture, x):
    """Return w_k N(x_n | k) / p(x_n), (N, K): Bishop (2006), eq. 9.13."""
    return np.exp(log_joint(mixture, x) - log_prob(mixture, x)[:, None])


def e_step(mixture, x, sample_weight=None):
    """Return count, first and second in the mixture's whitened coordinates, and the weighted log-likelihood."""
    mixture, x, w = of(mixture), np.asarray(x, float), _weights(x, sample_weight)
    (k_all, d), r, density = mixture.means.shape, responsibilities(mixture, x), log_prob(mixture, x)
    count, first, second = np.zeros(k_all), np.zeros((k_all, d)), np.zeros((k_all, d, d))
    for k in range(k_all):
        root = np.linalg.cholesky(dense(mixture, k))
        for n in range(len(x)):
            z = np.linalg.solve(root, x[n] - mixture.means[k])
            count[k] += w[n] * r[n, k]
            first[k] += w[n] * r[n, k] * z
            second[k] += w[n] * r[n, k] * np.outer(z, z)
    if mixture.covariance_type in ("diag", "spherical"):
        second = np.array([np.diag(m) for m in second])
    return Moments(count, first, second, float(w @ density))


def data_covariance(x, sample_weight, covariance_type):
    """Return V (D, D), the covariance of the data as the type would store it; full and tied add 1e-6 of its diagonal."""
    x, w = np.asarray(x, float), _weights(x, sample_weight)
    center = w @ x / w.sum()
    matrix = sum(weight * np.outer(point - center, point - center) for point, weight in zip(x, w, strict=True)) / w.sum()
    if covariance_type in ("full", "tied"):
        return matrix + 1e-6 * np.diag(np.diag(matrix))
    return np.diag(np.diag(matrix)) if covariance_type == "diag" else np.eye(x.shape[1]) * np.trace(matrix) / x.shape[1]


def m_step(mixture, x, sample_weight=None, prior=None, reg_covar=None):
    """Take one EM step: maximum likelihood with the penalty or with reg_covar (0: plain), or the mode under a prior.

    Components may not be empty, except for those of weight exactly 0, which stay as they are (with a prior they take its mode).
    """
    mixture, x, w = of(mixture), np.asarray(x, float), _weights(x, sample_weight)
    covariance_type, (k_all, d) = mixture.covariance_type, mixture.means.shape
    r, present = responsibilities(mixture, x), mixture.weights > 0
    count, means, scatters = np.zeros(k_all), mixture.means.copy(), np.zeros((k_all, d, d))
    for k in np.flatnonzero(present):
        for n in range(len(x)):
            count[k] += w[n] * r[n, k]
        means[k] = sum(w[n] * r[n, k] * x[n] for n in range(len(x))) / count[k]
        for n in range(len(x)):
            scatters[k] += w[n] * r[n, k] * np.outer(x[n] - means[k], x[n] - means[k])
    if prior is not None:
        return _posterior_mode(mixture, prior, count, means, scatters)
    e = PSEUDO_COUNT if reg_covar is None else 0.0
    total, numbers = _pool(scatters, count, covariance_type)
    matrices = []
    for k in range(k_all):
        ml = (total[k] + e * data_covariance(x, w, covariance_type)) / (numbers[k] + e) if numbers[k] > 0 else dense(mixture, k)
        matrices.append(ml + (reg_covar or 0.0) * np.eye(d) if numbers[k] > 0 else ml)
    return Mixture(count / count.sum(), means, store(matrices, covariance_type), covariance_type)


def _pool(scatters, count, covariance_type):
    """Return the scatter (D, D) and the number of observations that each component's covariance is made of."""
    if covariance_type == "full":
        return scatters, count
    if covariance_type == "tied":
        return [scatters.sum(0)] * len(count), np.full(len(count), count.sum())
    diagonals = [np.diag(np.diag(s)) for s in scatters]
    if covariance_type == "diag":
        return diagonals, count
    return [np.eye(len(s)) * np.trace(s) / len(s) for s in diagonals], count


def _posterior_mode(mixture, prior, count, centers, scatters):
    """Return the mode of Dirichlet x inverse Wishart (gamma) x N(m, Sigma / kappa) times the weighted complete-data likelihood.

    The power of |Sigma|^-1/2 is nu + D + 1 from the inverse Wishart (nu + 2 from the inverse gamma of a variance), plus one for
    the prior of each mean, plus one for each observation.
    """
    covariance_type, (k_all, d), present = mixture.covariance_type, mixture.means.shape, mixture.weights > 0
    c, m, kappa, nu, scale = hyperparameters(prior)
    weights = np.where(present, count + c - 1, 0)
    means = (count[:, None] * centers + kappa * m) / (count + kappa)[:, None]
    about = [
        scatters[k] + kappa * count[k] / (kappa + count[k]) * np.outer(centers[k] - m, centers[k] - m) for k in range(k_all)
    ]
    if covariance_type == "tied":
        matrices = [(scale + sum(about)) / (nu + d + 1 + count.sum() + present.sum())] * k_all
    elif covariance_type == "full":
        matrices = [(scale + about[k]) / (nu + d + 1 + count[k] + present[k]) for k in range(k_all)]
    elif covariance_type == "diag":
        matrices = [np.diag((scale + np.diag(about[k])) / (nu + 2 + count[k] + present[k])) for k in range(k_all)]
    else:
        matrices = [np.eye(d) * (scale + np.trace(about[k])) / (nu + 2 + d * (count[k] + present[k])) for k in range(k_all)]
    return Mixture(weights / weights.sum(), means, store(matrices, covariance_type), covariance_type)


def hyperparameters(prior):
    """Return c (K,), m (D,), kappa, nu and S in float64, scalars as Python numbers."""
    values = (
        np.asarray(v, float)
        for v in (prior.weight_concentration, prior.mean, prior.mean_precision, prior.degrees_of_freedom, prior.scale)
    )
    return tuple(v if v.ndim else float(v) for v in values)


def objective(mixture, x, sample_weight=None, prior=None, reg_covar=None):
    """Return what EM maximises: the weighted log-likelihood plus the log prior or minus the penalty."""
    mixture, w = of(mixture), _weights(x, sample_weight)
    total = float(w @ log_prob(mixture, x))
    if prior is not None:
        return total + log_prior(mixture, prior)
    if reg_covar is not None:
        return total
    distinct = [0] if mixture.covariance_type == "tied" else np.flatnonzero(mixture.weights > 0)
    v = data_covariance(x, w, mixture.covariance_type)
    return total - PSEUDO_COUNT / 2 * sum(
        np.trace(v @ np.linalg.inv(dense(mixture, k))) + np.linalg.slogdet(dense(mixture, k))[1] for k in distinct
    )


def log_prior(mixture, prior):
    """Return the normalised log density of (weights, means, covariances) from scipy's distributions; weight 0 means absent."""
    mixture, present = of(mixture), np.flatnonzero(np.asarray(mixture.weights) > 0)
    covariance_type = mixture.covariance_type
    c, m, kappa, nu, scale = hyperparameters(prior)
    weights = mixture.weights[present] / mixture.weights[present].sum()
    total = stats.dirichlet(c[present]).logpdf(weights) if len(present) > 1 else 0.0
    for k in present:
        total += stats.multivariate_normal(m, dense(mixture, k) / kappa).logpdf(mixture.means[k])
    for k in present[:1] if covariance_type == "tied" else present:
        if covariance_type in ("full", "tied"):
            total += stats.invwishart(nu, scale).logpdf(dense(mixture, k))
        elif covariance_type == "diag":
            total += stats.invgamma(nu / 2, scale=scale / 2).logpdf(mixture.covariances[k]).sum()
        else:
            total += stats.invgamma(nu / 2, scale=scale / 2).logpdf(mixture.covariances[k, 0])
    return float(total)


def em(mixture, x, num_steps, sample_weight=None, prior=None, reg_covar=None):
    """Return the mixtures of num_steps of EM, the start included."""
    path = [of(mixture)]
    for _ in range(num_steps):
        path.append(m_step(path[-1], x, sample_weight, prior, reg_covar))
    return path


def _weights(x, sample_weight):
    """Return the weights in float64, ones if there are none."""
    return np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, float)


def mixture_of_groups(x, r, w, covariance_type):
    """Return the M-step of responsibilities without regularisation: weights, means, covariances divided by n."""
    r = r * w[:, None]
    count = r.sum(0)
    means = (r.T @ x) / count[:, None]
    scatters = np.array(
        [sum(r[n, k] * np.outer(x[n] - means[k], x[n] - means[k]) for n in range(len(x))) for k in range(r.shape[1])]
    )
    matrices = [scatters.sum(0) / count.sum()] * len(count) if covariance_type == "tied" else scatters / count[:, None, None]
    if covariance_type == "spherical":
        matrices = [np.eye(x.shape[1]) * np.trace(m) / x.shape[1] for m in matrices]
    return Mixture(count / count.sum(), means, store(matrices, covariance_type), covariance_type)


def observed_row(mixture, k, point, noise):
    """Return log N(y | k), E[x | y, k] and Cov[x | y, k] of a row with NaN in place of missing values, and noise (D, D)."""
    o = np.flatnonzero(~np.isnan(point))
    mean, matrix = mixture.means[k], dense(mixture, k)
    if not len(o):
        return 0.0, mean, matrix
    total = (matrix + noise)[np.ix_(o, o)]
    gain = matrix[:, o] @ np.linalg.inv(total)
    return log_normal(point[o], mean[o], total), mean + gain @ (point[o] - mean[o]), matrix - gain @ matrix[o]


def observed_log_joint(mixture, x, noise=None, allowed=None):
    """Return log w_k + log N(y_n | k), (N, K), -inf where component k is not allowed in row n."""
    mixture, d = of(mixture), x.shape[1]
    out = np.full((len(x), len(mixture.weights)), -np.inf)
    for n in range(len(x)):
        for k, weight in enumerate(mixture.weights):
            if weight > 0 and (allowed is None or allowed[n, k]):
                s = np.zeros((d, d)) if noise is None else noise[n]
                out[n, k] = math.log(weight) + observed_row(mixture, k, x[n], s)[0]
    return out


def observed_e_step(mixture, x, sample_weight=None, noise=None, allowed=None):
    """Return the moments of incomplete rows: expectations given what each row observes."""
    mixture, w, joint = of(mixture), _weights(x, sample_weight), observed_log_joint(mixture, x, noise, allowed)
    density = np.logaddexp.reduce(joint, 1)
    (k_all, d), r = mixture.means.shape, np.exp(joint - density[:, None])
    count, first, second = np.zeros(k_all), np.zeros((k_all, d)), np.zeros((k_all, d, d))
    for k in range(k_all):
        root = np.linalg.cholesky(dense(mixture, k))
        for n in range(len(x)):
            s = np.zeros((d, d)) if noise is None else noise[n]
            _, mean, spread = observed_row(mixture, k, x[n], s)
            z = np.linalg.solve(root, mean - mixture.means[k])
            count[k] += w[n] * r[n, k]
            first[k] += w[n] * r[n, k] * z
            second[k] += w[n] * r[n, k] * (np.outer(z, z) + np.linalg.solve(root, np.linalg.solve(root, spread).T))
    if mixture.covariance_type in ("diag", "spherical"):
        second = np.array([np.diag(m) for m in second])
    return Moments(count, first, second, float(w @ density))
