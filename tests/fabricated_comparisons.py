"""Fits, posteriors, rows and summaries with known contents, for the tests of comparisons, their report and their pictures."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

import jaxgmm
from jaxgmm import covariance
from jaxgmm.comparison.report_columns import ComparisonRow, JointScores, SamplerDiagnostics
from jaxgmm.comparison.result import Comparison
from jaxgmm.comparison.sampler_summary import ComparisonMeta, FitSummary, SamplerSummary
from jaxgmm.comparison.summaries import log_priors
from jaxgmm.comparison.verdict import Finding, Verdict
from jaxgmm.posterior.result import Posterior, PosteriorStatus
from jaxgmm.studies.parameters import parameters, values

CHAINS, DRAWS = 4, 500
# keys of the dictionary and of the JSON file of a Comparison
COMPARISON_KEYS = {"interval", "meta", "samplers", "parameters", "label_free", "joint", "density", "clustering", "modes"}


def two_clusters():
    """Return two clusters 8 standard deviations apart in two features; float32, as most users have."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(8, 1, (40, 2))]).astype(np.float32)


def log_likelihood(mixture, x):
    """Return the log-likelihood of a stack (...) of mixtures, by NumPy; what `compare` reports is checked against this."""
    d = mixture.num_features
    weights, means, stored = (np.asarray(v, float) for v in (mixture.weights, mixture.means, mixture.covariances))
    if covariance.is_dense(mixture.covariance_type):
        matrices = np.broadcast_to(stored, (*means.shape, d))
    else:
        matrices = np.broadcast_to(stored, means.shape)[..., None] * np.eye(d)
    z = np.linalg.solve(np.linalg.cholesky(matrices), np.swapaxes(x - means[..., None, :], -1, -2))  # (..., K, D, N)
    half_log_det = np.log(np.linalg.det(2 * np.pi * matrices)) / 2
    joint = np.log(weights)[..., None] - half_log_det[..., None] - (z**2).sum(-2) / 2  # (..., K, N)
    return logsumexp(joint, axis=-2).sum(-1)


def make_fit(x):
    """Return the mode of `two_clusters` under the default prior."""
    prior = jaxgmm.default_prior(x, num_components=2)
    return jaxgmm.fit(jaxgmm.from_labels(x, (np.arange(100) >= 60).astype(int), num_components=2), x, prior)


def fabricate_fit(x, covariance_type="full", *, k=2, status=jaxgmm.Status.CONVERGED, means=None):
    """Return a fit that maximises nothing, so that it is quick."""
    d = x.shape[1]
    shape = covariance.storage_shape(covariance_type, k, d)
    covariances = np.broadcast_to(np.eye(d) if covariance.is_dense(covariance_type) else 1.0, shape)
    means = [[0.0] * d, [8.0] * d][:k] if means is None else means
    weights = [0.6, 0.4] if k == 2 else [1.0]
    mixture = jaxgmm.make_mixture(weights, means, covariances, covariance_type=covariance_type)
    likelihood = jnp.asarray(log_likelihood(mixture, x), float)
    return jaxgmm.Fit(mixture, likelihood, likelihood, likelihood[None], np.array(0), np.array(status), np.zeros(k, int))


def make_posterior(fit, x, *, noise=0.05, shift=0.0, seed=0, prior=None, swap_chain=None):
    """Return draws around an EM solution: log-normal factors on covariances and weights, normal means; means[0, 0] shifted."""
    rng, m = np.random.default_rng(seed), fit.mixture
    weights = np.asarray(m.weights) * np.exp(noise * rng.normal(size=(CHAINS, DRAWS, m.num_components)))
    weights /= weights.sum(-1, keepdims=True)
    means = np.asarray(m.means) + noise * rng.normal(size=(CHAINS, DRAWS, *m.means.shape))
    means[..., 0, 0] += shift
    factor = np.exp(noise * rng.normal(size=(CHAINS, DRAWS, m.covariances.shape[0])))
    covariances = np.asarray(m.covariances) * factor.reshape(*factor.shape, *[1] * (m.covariances.ndim - 1))
    if swap_chain is not None:
        weights[swap_chain], means[swap_chain] = weights[swap_chain, :, ::-1], means[swap_chain, :, ::-1]
        covariances[swap_chain] = covariances[swap_chain, :, ::-1]
    stack = jaxgmm.Mixture(*(jnp.asarray(v, m.means.dtype) for v in (weights, means, covariances)), m.covariance_type)
    if prior is None:
        prior = jaxgmm.default_prior(x, num_components=m.num_components, covariance_type=m.covariance_type)
    stats = {"diverging": np.zeros((CHAINS, DRAWS), bool)}
    likelihood = jnp.asarray(log_likelihood(stack, x), float)
    posterior = Posterior(stack, likelihood, prior, np.array(PosteriorStatus.OK), stats, "nuts")
    # the program that compare uses too, so that it compiles once; the tests of priors hold its numbers against SciPy's
    return dataclasses.replace(posterior, log_density=jnp.asarray(likelihood + log_priors(fit, posterior)[1], float))


def at_the_mode_of(fit, posterior):
    """Return the fit with the objective that it would have under the posterior's prior."""
    return dataclasses.replace(fit, objective=fit.log_likelihood + log_priors(fit, posterior)[0])


def row(**changes):
    """Return a row of a mean on which EM and the posterior agree."""
    base = {"method": "nuts", "name": "means[0,0]", "kind": "mean", "features": ("a",), "component": 0}
    base |= {"em": 0.5, "mean": 0.5, "median": 0.5, "sd": 1.0, "mcse": 0.01, "lower": -1.5, "upper": 2.5, "z": 0.1, "tail": 0.5}
    base |= {"inside": True, "r_hat": 1.0, "ess_bulk": 900.0, "ess_tail": 900.0, "sd_ratio": 1.0}
    return ComparisonRow(**base | changes)


def diagnostics(**changes):
    """Return the diagnostics of chains without faults."""
    base = {"method": "nuts", "chains": 4, "draws": 500, "num_warmup": 200, "status": "OK", "prior": None, "r_hat_max": 1.0}
    base |= {"ess_min": 900.0, "ess_tail_min": 900.0, "divergences": 0, "tree_depth_max": 3, "e_bfmi_min": 0.9, "khat": 0.3}
    base |= {"khat_limit": 0.697, "identified": True, "switch_rate": 0.0, "switched_chains": 0, "unclear_rate": 0.3}
    return SamplerDiagnostics(**base | {"other_share": None} | changes)


def summary(**changes):
    """Return the summary of a posterior with which EM agrees."""
    found = {"notes": (), "findings": (Finding(Verdict.AGREE, "EM lies inside."),)} | changes
    diagnosed = diagnostics(**{name: value for name, value in found.items() if name not in ("notes", "findings")})
    return SamplerSummary(**vars(diagnosed), notes=found["notes"], findings=found["findings"])


def meta(**changes):
    """Return the description of two components of one feature."""
    em = FitSummary("CONVERGED", True, 3, -10.0, -12.0, ["OK", "OK"], None)
    base = {"num_observations": 20, "total_weight": 20.0, "num_features": 1, "feature_names": ["a"], "num_components": 2}
    base |= {"covariance_type": "full", "num_parameters": 5, "dtype": "float32", "seed": 0, "versions": {}, "em": em}
    return ComparisonMeta(**base | changes)


def joint_scores(**changes):
    """Return joint scores of a normal posterior."""
    base = {"log_joint_gap": 2.5, "log_joint_rank": 0.0, "mahalanobis": 0.5, "farther_share": 1.0}
    return JointScores(**base | {"laplace_kl": 0.01, "laplace_w2": 0.1} | changes)


def stack(mixture, shape):
    """Return a stack of the same mixture, each with means moved a little."""
    batch = np.random.default_rng(0).normal(0, 0.1, (*shape, *mixture.means.shape))

    def tile(leaf):
        """Repeat a leaf."""
        return jnp.broadcast_to(leaf, (*shape, *leaf.shape))

    return jaxgmm.Mixture(tile(mixture.weights), mixture.means + batch, tile(mixture.covariances), mixture.covariance_type)


def plane():
    """Return two components of two features."""
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.5, 0.0], [0.0, 0.5]]])
    return jaxgmm.make_mixture([0.3, 0.7], [[0.0, 0.0], [5.0, 5.0]], covariances)


def fabricate_comparison(mixture, shifts=None, *, identified=True):
    """Return a comparison of several methods whose intervals have one posterior sd on each side, moved by a method's shift."""
    shifts = {"nuts": 0.0, "laplace": 0.5} if shifts is None else shifts
    posterior = Posterior(stack(mixture, (2, 50)), jnp.zeros((2, 50)), None, jnp.array(0), {})
    described = parameters(mixture, [f"feature {i}" for i in range(mixture.num_features)])
    rows = []
    for method, shift in shifts.items():
        for i, (entry, em) in enumerate(zip(described, values(mixture).tolist(), strict=True)):
            numbers = {"em": em, "mean": em + shift, "lower": em + shift - 1, "upper": em + shift + 1, "sd": 1.0, "z": float(i)}
            rows.append(row(method=method, **vars(entry) | numbers))
    names = ["largest weight", "log-likelihood (nats)"]
    invariant = [
        dataclasses.replace(one, kind=kind, component=None, features=()) for one, kind in zip(rows, names, strict=False)
    ]
    samplers = {method: summary(method=method, identified=identified) for method in shifts}
    return Comparison(0.95, meta(), rows, invariant, samplers, dict.fromkeys(shifts, posterior))
