"""Seeded mixtures, data and priors, and checks that several test modules share."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def slow_unless(cases, chosen):
    """Return the cases of a test as parameters, in which those that are not chosen are slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if case in chosen else pytest.mark.slow)
        for case in cases
    ]


# for tests in which two covariance types, a dense and a diagonal one, are enough by default; the tests share them out, so that
# a default run has each type in many tests, and tests of the formulas of each type keep all four
TWO_COVARIANCE_TYPES = slow_unless(COVARIANCE_TYPES, ("full", "diag"))
OTHER_TWO_COVARIANCE_TYPES = slow_unless(COVARIANCE_TYPES, ("tied", "spherical"))


def enabled_x64(enabled=True):
    """A context with 64-bit numbers, or without them; the global configuration stays as it is."""
    enable = getattr(jax, "enable_x64", None)
    if enable is None:
        from jax.experimental import enable_x64 as enable
    return enable(enabled)


def random_mixture(seed, kind, k=3, d=3, *, spread=3.0, scale=1.0, offset=0.0):
    """A validated mixture: means `spread` sds apart about `offset`, correlated covariances of size scale squared."""
    rng = np.random.default_rng(seed)
    root = np.eye(d) + 0.3 * rng.normal(size=(k, d, d))
    dense = root @ np.swapaxes(root, 1, 2)
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    covariances = {
        "full": dense,
        "tied": dense.mean(0, keepdims=True),
        "diag": diagonal,
        "spherical": diagonal.mean(1, keepdims=True),
        "EEI": diagonal.mean(0, keepdims=True),
        "EII": diagonal.mean((0, 1), keepdims=True),
    }[kind]
    weights = rng.dirichlet(np.full(k, 5.0))
    means = offset + scale * spread * rng.normal(size=(k, d))
    return jaxgmm.make_mixture(weights / weights.sum(), means, scale**2 * covariances, covariance_type=kind)


def random_data(seed, n=60, d=3, k=3, *, spread=3.0, scale=1.0, offset=0.0):
    """Points (n, d) about k random centres."""
    rng = np.random.default_rng(seed + 1000)
    centers = spread * rng.normal(size=(k, d))
    return offset + scale * (
        centers[rng.integers(0, k, n)] + rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    )


def random_weight(seed, n=60):
    """Weights (n,): zeros, ones and fractions."""
    rng = np.random.default_rng(seed + 2000)
    return np.where(rng.random(n) < 0.2, 0.0, np.where(rng.random(n) < 0.5, 1.0, rng.gamma(2.0, 1.0, n)))


def random_prior(seed, kind, k=3, d=3):
    """A proper conjugate prior, nothing at its default."""
    rng = np.random.default_rng(seed + 3000)
    root = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    variances = rng.gamma(5.0, 0.2, d)
    scale = {"full": root @ root.T, "tied": root @ root.T, "diag": variances, "EEI": variances, "spherical": 0.7, "EII": 0.7}[
        kind
    ]
    return jaxgmm.Prior(*(jnp.asarray(v, float) for v in (1 + rng.random(k), rng.normal(size=d), 0.3, d + 2.5, scale)))


def assert_mixtures_close(a, b, rtol, *, scale=1.0):
    """Every field equal within rtol of its own magnitude; scale: unit of the data, for entries near zero."""
    for name, unit in (("weights", 1.0), ("means", scale), ("covariances", scale**2)):
        left, right = np.asarray(getattr(a, name), float), np.asarray(getattr(b, name), float)
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * unit, err_msg=name)


def independent_prior(kind, k, d, half_normal):
    rng = np.random.default_rng(7)
    root = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    array = lambda v: jnp.asarray(v, float)  # noqa: E731
    if half_normal:
        scale = jaxgmm.HalfNormal(array(1.3 if kind == "spherical" else rng.gamma(5.0, 0.3, d)), array(1.7))
    elif kind in ("full", "tied"):
        scale = jaxgmm.InverseWishart(array(d + 1.5), array(root @ root.T))
    else:
        scale = jaxgmm.InverseGamma(array(2.5), array(0.7 if kind == "spherical" else rng.gamma(5.0, 0.2, d)))
    return jaxgmm.IndependentPrior(array(1 + rng.random(k)), array(rng.normal(size=d)), array(root.T @ root), scale)


def coupled_prior(kind, k, d):
    """A prior of covariances that share volumes, shapes or orientations, nothing at its default."""
    rng = np.random.default_rng(8)
    root = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    scale = {"VEI": rng.gamma(5.0, 0.2, d), "EVI": rng.gamma(5.0, 0.2, d), "VEE": root @ root.T, "EVV": root @ root.T}.get(
        kind, 0.7
    )
    law = jaxgmm.VolumeShapeOrientation(*(jnp.asarray(v, float) for v in (3.0, scale, 0.8)))
    array = lambda v: jnp.asarray(v, float)  # noqa: E731
    return jaxgmm.IndependentPrior(array(1.5 + rng.random(k)), array(rng.normal(size=d)), array(9 * root.T @ root), law)


def independent_prior_with(scale):
    """An IndependentPrior of three components in two dimensions with a given law of the covariances."""
    root = np.array([[1.5, 0.0], [0.4, 0.8]])
    return jaxgmm.IndependentPrior(jnp.array([1.5, 2.0, 1.0]), jnp.array([0.5, -1.0]), jnp.asarray(root @ root.T), scale)


def fitted(x, k, kind="full"):
    prior = jaxgmm.default_prior(x, num_components=k, covariance_type=kind)
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=k, covariance_type=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jaxgmm.fit(start, x, prior), prior


def two_groups(seed, n, d, kind, dtype=np.float32):
    """Data, a start and a prior without a fit: Newton finds the mode from there. Groups ten standard deviations apart."""
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)
    x[: n // 3] += 10
    covariances = {
        "full": np.stack([np.eye(d)] * 2),
        "tied": np.eye(d)[None],
        "diag": np.ones((2, d)),
        "spherical": np.ones((2, 1)),
    }
    means = np.stack([np.full(d, 10.0), np.zeros(d)]).astype(dtype)
    start = jaxgmm.make_mixture([1 / 3, 2 / 3], means, covariances[kind].astype(dtype), covariance_type=kind)
    prior = jax.tree.map(lambda leaf: leaf.astype(dtype), random_prior(seed, kind, 2, d))
    return x, start, dataclasses.replace(prior, mean_precision=jnp.asarray(0.01, dtype))


log_prior, log_prob = jax.jit(jaxgmm.log_prior), jax.jit(jaxgmm.log_prob)  # whole: step by step they compile for seconds


def check_log_density(posterior, x, prior, weight=None, rtol=1e-5):
    """log p(x, theta) in (weights, means, covariances), in data units, recomputed without NumPyro."""
    clean = x if weight is None else np.where(weight[:, None] > 0, x, 0)
    likelihoods = log_prob(posterior.mixture, clean)
    expected = (likelihoods if weight is None else likelihoods * weight).sum(-1) + log_prior(posterior.mixture, prior)
    np.testing.assert_allclose(posterior.log_density, expected, rtol=rtol, atol=rtol)


def study_of(design):
    """Return a made-up Study of one weight and one mean, where coverage is a tenth of the separation, but 1 for "map"."""
    from jaxgmm.coverage.study import Study
    from jaxgmm.coverage.summary import IntervalCoverage, StudyRow

    rows = []
    for cell in design.cells():
        for method in design.methods:
            for p, kind in enumerate(("weight", "mean")):
                share = 1.0 if method == "map" else cell.separation / 10 + p / 100
                found = {
                    0.5: IntervalCoverage(0.5, 0.1, 0.5, 0.1, 1.0, 0.1, 1.0),
                    0.9: IntervalCoverage(share, 0.05, share, 0.05, 1.0, 0.1, 1.0),
                }
                row = StudyRow(
                    **vars(cell),
                    method=method,
                    seconds_per_dataset=0.001,
                    statuses={"CONVERGED": 20},
                    name=f"{kind}s[0]",
                    kind=kind,
                    component=0,
                    features=("0",) * p,
                    truth=0.5,
                    num_datasets=20,
                    num_estimates=20,
                    bias=0.0,
                    bias_se=0.01,
                    rmse=0.1,
                    rmse_se=0.01,
                    intervals=found,
                    share_undefined=0.0,
                    share_undefined_se=0.0,
                    share_failed=0.0,
                    share_failed_se=0.0,
                )
                rows.append(row)
    return Study(design, {"dtype": "float32"}, rows)


def fake_method(name, calls):
    """A method that draws close around its start, and notes what it was given."""
    from jaxgmm.posterior.result import Posterior

    def draw(key, start, x, prior, **options):
        calls.append((name, jax.random.key_data(key).tolist(), options))
        shape = (options["num_chains"], options["num_samples"])
        rng = np.random.default_rng(0)
        factor = np.exp(0.05 * rng.normal(size=(*shape, start.num_components))).astype(np.float32)
        weights = np.asarray(start.weights) * factor
        means = np.asarray(start.means) + 0.05 * rng.normal(size=(*shape, *start.means.shape)).astype(np.float32)
        covariances = np.asarray(start.covariances) * factor[..., None, None]
        draws = jaxgmm.Mixture(weights / weights.sum(-1, keepdims=True), means, covariances, start.covariance_type)
        density = np.asarray(jaxgmm.log_prob(draws, x)).sum(-1) + np.asarray(jaxgmm.log_prior(draws, prior))
        return Posterior(draws, density, prior, np.array(0), {}, name)

    return draw
