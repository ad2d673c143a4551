"""laplace: the normal approximation against exact posteriors, and statuses and errors where there is none."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import laplace as module
from jaxgmm.posterior.result import PosteriorStatus

from helpers import COVARIANCE_TYPES, check_log_density, independent_prior, random_prior

NUM_SAMPLES, NUM_ROWS = 400, 36  # the last six are padding


def one_feature(**changes):
    """Return thirty points in two groups ten standard deviations apart, with six rows of padding, a start and a prior."""
    x = np.random.default_rng(0).normal(size=(NUM_ROWS, 1)).astype(np.float32)
    x[:12] += 10
    weight = np.where(np.arange(NUM_ROWS) < 30, 1, 0).astype(np.float32)
    start = jaxgmm.make_mixture([0.4, 0.6], np.float32([[10.0], [0.0]]), np.ones((2, 1, 1), np.float32))
    prior = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1, 1], [4.0], 0.01, 3.0, [[1.0]])))
    return dict(x=x, weight=weight, start=start, prior=prior) | changes


def data_sets():
    """Return data sets by name, all of one shape."""
    apart = one_feature()
    x, start, prior = apart["x"], apart["start"], apart["prior"]
    overlapping = np.random.default_rng(4).normal(size=(NUM_ROWS, 1)).astype(np.float32)
    overlapping[:12] += 1
    middle = np.full((2, 1), np.average(x[:30]), np.float32)
    broken, padded = x.copy(), x.copy()
    broken[3], padded[30:] = np.nan, np.nan
    moved = dict(
        x=50 * x + 1000,
        start=dataclasses.replace(start, means=50 * start.means + 1000, covariances=2500 * start.covariances),
        prior=dataclasses.replace(prior, mean=50 * prior.mean + 1000, scale=2500 * prior.scale),
    )
    return {
        "apart": apart,
        "overlapping": one_feature(x=overlapping, start=dataclasses.replace(start, means=np.float32([[1.0], [0.0]]))),
        "saddle": one_feature(start=dataclasses.replace(start, weights=np.float32([0.5, 0.5]), means=middle)),
        "moved": one_feature(**moved),
        "swapped": one_feature(start=jax.tree.map(lambda leaf: leaf[::-1], start)),
        "padded": one_feature(x=padded),
        "broken": one_feature(x=broken),
    }


@jax.jit
@jax.vmap
def many(start, x, prior, weight):
    return jaxgmm.laplace(jax.random.key(0), start, x, prior, sample_weight=weight, num_samples=NUM_SAMPLES, num_chains=2)


@pytest.fixture(scope="module")
def posteriors():
    """Return posteriors by name, from one compiled call over all data sets."""
    given = data_sets()
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given.values())
    together = many(stacked["start"], stacked["x"], stacked["prior"], stacked["weight"])
    return {name: jax.tree.map(lambda leaf, b=b: leaf[b], together) for b, name in enumerate(given)}


def test_draws_and_their_density(posteriors):
    """Draws have the right shapes and types, and the log density that every method reports."""
    for name in ("apart", "overlapping", "moved", "padded"):
        data, posterior = data_sets()[name], posteriors[name]
        assert posterior.mixture.batch_shape == posterior.stats["log_ratio"].shape == (2, NUM_SAMPLES)
        assert posterior.log_density.dtype == posterior.mixture.means.dtype == jnp.float32
        check_log_density(posterior, data["x"], data["prior"], data["weight"])
    assert posteriors["apart"].method == "laplace"


def test_khat_tells_near_from_far(posteriors):
    """The posterior of well-separated groups is about normal, that of overlapping ones is not, as the status reports."""
    assert float(posteriors["apart"].stats["khat"]) < 0.7 < float(posteriors["overlapping"].stats["khat"])
    assert int(posteriors["apart"].status) == PosteriorStatus.OK
    assert int(posteriors["overlapping"].status) == PosteriorStatus.FAR_FROM_NORMAL


def test_singular_information_is_a_status(posteriors):
    """Two equal components are a saddle point that Newton cannot leave: no error is raised, and draws are finite."""
    posterior = posteriors["saddle"]
    assert int(posterior.status) == PosteriorStatus.SINGULAR
    assert float(posterior.stats["min_eigenvalue"]) < 0
    assert np.isfinite(posterior.mixture.means).all()


def test_laws(posteriors):
    """Units, origin, padding and labelling change nothing; NaN in the data is a status."""
    apart, moved, padded, swapped = (posteriors[name] for name in ("apart", "moved", "padded", "swapped"))
    np.testing.assert_allclose(moved.mixture.means, 50 * apart.mixture.means + 1000, rtol=1e-4)
    np.testing.assert_allclose(moved.mixture.covariances, 2500 * apart.mixture.covariances, rtol=5e-3)
    np.testing.assert_array_equal(padded.mixture.means, apart.mixture.means)
    np.testing.assert_allclose(swapped.stats["counts"][::-1], apart.stats["counts"], rtol=1e-3)
    np.testing.assert_allclose(swapped.stats["min_eigenvalue"], apart.stats["min_eigenvalue"], rtol=1e-2)
    sds = apart.mixture.means.std((0, 1))
    # 5 standard errors of a difference of two means of 800 draws: fails 6e-7 of the time for each of two means
    shift = swapped.mixture.means.mean((0, 1))[::-1] - apart.mixture.means.mean((0, 1))
    assert (abs(shift) < 5 * sds * np.sqrt(2 / 800)).all()
    assert int(posteriors["broken"].status) == PosteriorStatus.NONFINITE


def exact_moments(x, prior):
    """Return means and sds of mu and the mean of Sigma, K=1 full: normal-inverse-Wishart; Murphy (2007), section 9."""
    n, d = x.shape
    m, kappa, nu = np.asarray(prior.mean, float), float(prior.mean_precision), float(prior.degrees_of_freedom)
    center, n_kappa, n_nu = x.mean(0), kappa + n, nu + n
    scatter = (x - center).T @ (x - center) + kappa * n / n_kappa * np.outer(center - m, center - m)
    scale = np.asarray(prior.scale, float) + scatter
    return (kappa * m + n * center) / n_kappa, np.sqrt(np.diag(scale) / n_kappa / (n_nu - d - 1)), scale / (n_nu - d - 1)


def test_one_component_is_known_exactly():
    """With many rows draws have the exact moments; with few rows (the others have weight 0) draws weighted by their ratios do.

    The tolerance is 6 standard errors of 4000 draws, and with many rows 2 / sqrt(N) sds more for the approximation; it fails
    1e-8 of the time.
    """
    x = (np.random.default_rng(0).normal(size=(2000, 2)) @ [[1.0, 0.5], [0.0, 2.0]] + [3.0, -1.0]).astype(np.float32)
    prior = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_prior(0, "full", 1, 2))
    for count in (2000, 20):
        weight = (np.arange(2000) < count).astype(np.float32)
        start = jaxgmm.make_mixture([1.0], x[:count].mean(0)[None], np.cov(x[:count].T)[None].astype(np.float32))
        posterior = jaxgmm.laplace(jax.random.key(0), start, x, prior, sample_weight=weight, num_samples=4000)
        ratios = np.asarray(posterior.stats["log_ratio"][0], float)
        weights = np.ones(4000) / 4000 if count == 2000 else np.exp(ratios - ratios.max()) / np.exp(ratios - ratios.max()).sum()
        mean, sd, covariance = exact_moments(x[:count].astype(float), prior)
        slack = 2 / np.sqrt(count) if count == 2000 else 0
        for draws, exact, unit in (
            (np.asarray(posterior.mixture.means[0, :, 0], float), mean, sd),
            (np.asarray(posterior.mixture.covariances[0, :, 0], float), covariance, None),
        ):
            found = np.einsum("s,s...->...", weights, draws)
            unit = np.sqrt(np.einsum("s,s...->...", weights, (draws - found) ** 2)) if unit is None else unit
            error = np.sqrt(np.einsum("s,s...->...", weights**2, (draws - found) ** 2))
            assert (abs(found - exact) < 6 * error + slack * unit).all()
        assert int(posterior.status) == PosteriorStatus.OK


def test_invalid_arguments():
    """Each raises an error that names it."""
    data = one_feature()
    start, x, prior = data["start"], data["x"][:30], data["prior"]
    empty = dataclasses.replace(start, weights=np.float32([1.0, 0.0]))
    failed = dataclasses.replace(start, means=start.means * np.nan)
    improper = dataclasses.replace(prior, degrees_of_freedom=jnp.float32(0.0))
    flat = dataclasses.replace(prior, scale=jnp.zeros((1, 1)))
    for change, error, sentence in (
        (dict(num_chains=0), ValueError, "num_chains is 0"),
        (dict(num_samples=2.0), TypeError, "num_samples is 2.0"),
        (dict(start=empty), ValueError, "start has an empty component .weight 0.: 1"),
        (dict(start=failed), ValueError, "start holds NaN or infinity: the fit that it came from failed"),
        (dict(start=None), TypeError, "start is NoneType"),
        (dict(x=np.where(x > 9, np.nan, x)), ValueError, "x contains NaN"),
        (dict(prior=None), TypeError, "prior is None"),
        (dict(prior=improper), ValueError, "prior.degrees_of_freedom is 0"),
        (dict(prior=flat), ValueError, "prior.scale is not positive definite"),
        (dict(prior=independent_prior("diag", 2, 1, False)), TypeError, "prior.scale is InverseGamma"),
    ):
        given = dict(start=start, x=x, prior=prior) | change
        with pytest.raises(error, match=sentence):
            jaxgmm.laplace(jax.random.key(0), given.pop("start"), given.pop("x"), given.pop("prior"), **given)


@pytest.mark.slow
def test_eager_calls_warn_and_compile_once():
    """Warnings are the status sentences; the same key gives the same draws without a new compilation."""
    data = data_sets()
    call = lambda d: jaxgmm.laplace(jax.random.key(0), d["start"], d["x"], d["prior"], sample_weight=d["weight"])  # noqa: E731
    first, size = call(data["apart"]), module._draw._cache_size()
    np.testing.assert_array_equal(first.log_density, call(data["apart"]).log_density)
    with pytest.warns(RuntimeWarning, match="not positive definite"):
        call(data["saddle"])
    with pytest.warns(RuntimeWarning, match="khat over 0.7"):
        call(data["overlapping"])
    start = data["apart"]["start"]
    with pytest.raises(ValueError, match="no finite posterior density"):
        call(data["apart"] | dict(start=dataclasses.replace(start, means=start.means + 1e25)))
    assert module._draw._cache_size() == size


@pytest.mark.slow
@pytest.mark.parametrize("half_normal", [None, False, True])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_density_under_every_prior(covariance_type, half_normal, x64):
    """Conjugate and independent priors with all laws of covariances, every covariance type, D=2, in float64."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[:20] += 10
    labels = (np.arange(60) >= 20).astype(int)
    start = jaxgmm.from_labels(x, labels, num_components=2, covariance_type=covariance_type)
    prior = (
        random_prior(0, covariance_type, 2, 2) if half_normal is None else independent_prior(covariance_type, 2, 2, half_normal)
    )
    if half_normal is not None:
        prior = dataclasses.replace(prior, mean_covariance=100 * prior.mean_covariance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = jaxgmm.laplace(jax.random.key(0), start, x, prior, num_samples=200)
    check_log_density(posterior, x, prior, np.ones(60), rtol=1e-9)
    assert posterior.log_density.dtype == jnp.float64
    assert float(posterior.stats["min_eigenvalue"]) > 0
