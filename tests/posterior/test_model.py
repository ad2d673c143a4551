"""The NumPyro model agrees with the package's own densities: values, sites, rows of weight 0."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer.util import log_density

import jaxgmm
from jaxgmm.posterior.model import mixture_of, model, sites_of

from helpers import COVARIANCE_TYPES, independent_prior, random_data, random_mixture, random_prior, random_weight, slow_unless


@jax.jit
def both_densities(mixture, prior, x, weight):
    """Return NumPyro's log density of the sites, the package's with log|d covariances / d sites|, a mixture, and the sites."""
    kind, k = mixture.covariance_type, mixture.num_components
    sites = sites_of(mixture, prior)
    again, log_det = mixture_of(sites, kind)
    likelihoods = jaxgmm.log_prob(mixture, jnp.where(jnp.isnan(x), 0, x))
    ours = likelihoods.sum() if weight is None else weight @ likelihoods
    ours += jaxgmm.log_prior(mixture, prior) + log_det
    options = dict(num_components=k, covariance_type=kind, sample_weight=weight)
    theirs, trace = log_density(model, (x, prior), options, sites)
    return theirs, ours, again, {name: site["value"] for name, site in trace.items()}


def check_density(mixture, prior, x, weight):
    if weight is not None:
        x = np.where(weight[:, None] > 0, x, np.nan)
    theirs, ours, again, trace = both_densities(mixture, prior, x, weight)
    np.testing.assert_allclose(theirs, ours, rtol=1e-11, atol=1e-8)
    for covariances in (again.covariances, trace["covariances"]):
        np.testing.assert_allclose(covariances, mixture.covariances, rtol=1e-12, atol=1e-12)
    return trace


SIZES = [(kind, k, d) for kind in (*COVARIANCE_TYPES, "EEI", "EII") for k, d in ((1, 1), (3, 1), (1, 3), (3, 3))]


@pytest.mark.parametrize(
    ("kind", "k", "d"),
    slow_unless(SIZES, [*((kind, 3, 3) for kind in COVARIANCE_TYPES), ("full", 1, 1), ("tied", 3, 1), ("diag", 1, 3)]),
)
def test_density_is_ours(kind, k, d, x64):
    """The densities agree at random points, with and without weights; rows of weight 0 hold NaN."""
    x = random_data(0, 40, d)
    for seed in (0, 1, 2):
        weight = None if (k, d) == (3, 1) else random_weight(seed, 40)
        trace = check_density(random_mixture(seed, kind, k, d), random_prior(seed, kind, k, d), x, weight)
    site = trace["scale_tril" if kind in ("full", "tied") else "variances"]
    shapes = {"full": (k, d, d), "tied": (1, d, d), "diag": (k, d), "spherical": (k, 1), "EEI": (1, d), "EII": (1, 1)}
    assert site.shape == shapes[kind]


LAWS = [(kind, d, half_normal) for kind in COVARIANCE_TYPES for d in (1, 3) for half_normal in (False, True)]


@pytest.mark.parametrize(
    ("kind", "d", "half_normal"),
    slow_unless(
        LAWS,
        [
            *(("full", 3, True), ("tied", 1, False), ("diag", 3, False), ("spherical", 3, True)),
        ],
    ),
)
def test_density_under_independent_priors(kind, d, half_normal, x64):
    """The densities agree under independent priors, with conjugate and with half-normal laws of the covariances."""
    prior = independent_prior(kind, 2, d, half_normal)
    trace = check_density(random_mixture(0, kind, 2, d), prior, random_data(0, 30, d), None)
    assert ("corr_tril" in trace) == (half_normal and d > 1 and kind in ("full", "tied"))


def test_cholesky_jacobian_is_the_written_one(x64):
    """The log-determinant for Cholesky factors is the formula of the module, for scales and correlations the derivative."""
    mixture = random_mixture(2, "full", 1, 3)
    prior = random_prior(2, "full", 1, 3)
    sites = sites_of(mixture, prior)
    diagonal = np.diagonal(sites["scale_tril"][0])
    written = 3 * np.log(2) + 3 * np.log(diagonal[0]) + 2 * np.log(diagonal[1]) + np.log(diagonal[2])
    np.testing.assert_allclose(mixture_of(sites, "full")[1], written, rtol=1e-12)
    lkj = sites_of(mixture, independent_prior("full", 1, 3, True))
    rows, columns = np.tril_indices(3, -1)

    def free(v):  # three scales and the correlations' three entries below the diagonal
        corr = jnp.zeros((3, 3)).at[rows, columns].set(v[3:])
        corr = corr + jnp.diag(jnp.sqrt(1 - (corr**2).sum(1)))
        return mixture_of(lkj | {"scales": v[None, :3], "corr_tril": corr[None]}, "full")[0].covariances[0][np.tril_indices(3)]

    point = jnp.concatenate([lkj["scales"][0], lkj["corr_tril"][0][rows, columns]])
    expected = jnp.linalg.slogdet(jax.jit(jax.jacobian(free))(point))[1]
    np.testing.assert_allclose(mixture_of(lkj, "full")[1], expected, rtol=1e-10)


def test_gradient_with_silenced_rows_is_finite():
    """NaN in rows of weight 0 does not reach any gradient."""
    mixture, prior, x = random_mixture(0, "full", 2, 2), random_prior(0, "full", 2, 2), random_data(0, 20, 2)
    weight = np.ones(20)
    weight[3] = 0
    x[3] = np.nan
    density = lambda sites: log_density(model, (x, prior), dict(num_components=2, sample_weight=weight), sites)[0]  # noqa: E731
    for leaf in jax.tree.leaves(jax.jit(jax.grad(density))(sites_of(mixture, prior))):
        assert np.isfinite(leaf).all()


def test_numpyro_predictive_runs():
    """NumPyro's Predictive runs the model; draws from the prior have the documented sites."""
    x = random_data(0, 20, 2)
    draws = numpyro.infer.Predictive(model, num_samples=3)(
        jax.random.key(0), x, random_prior(0, "tied", 2, 2), num_components=2, covariance_type="tied"
    )
    assert draws["weights"].shape == (3, 2)
    assert draws["covariances"].shape == (3, 1, 2, 2)
