"""All parameters at once: distances of normals against closed forms and slow oracles; coordinates there and back; contraction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

import jaxgmm
from jaxgmm.comparison import contraction, joint
from jaxgmm.studies import parameters

from helpers import random_data


def random_normal(seed, p):
    """A mean and a covariance."""
    rng = np.random.default_rng(seed)
    root = np.eye(p) + 0.4 * rng.normal(size=(p, p))
    return rng.normal(size=p), root @ root.T


def test_divergence_of_normals_is_the_integral():
    x = np.linspace(-40, 40, 200001)
    p, q = stats.norm(1.0, 2.0).logpdf(x), stats.norm(-0.5, 3.0).logpdf(x)
    expected = (np.exp(p) * (p - q)).sum() * (x[1] - x[0])
    assert joint.gaussian_kl([1.0], [[4.0]], [-0.5], [[9.0]]) == pytest.approx(expected, rel=1e-9)
    mean, cov = random_normal(0, 4)
    assert joint.gaussian_kl(mean, cov, mean, cov) == pytest.approx(0, abs=1e-12)
    assert joint.gaussian_kl(mean, np.zeros((4, 4)), mean, cov) == np.inf
    # what a change of coordinates leaves as it is
    other, shape = random_normal(1, 4)
    turn = random_normal(2, 4)[1]
    there = joint.gaussian_kl(turn @ mean, turn @ cov @ turn.T, turn @ other, turn @ shape @ turn.T)
    assert there == pytest.approx(joint.gaussian_kl(mean, cov, other, shape), rel=1e-9)


def test_wasserstein_distance_is_bures():
    mean, cov = random_normal(0, 4)
    other, shape = random_normal(1, 4)
    root = linalg.sqrtm(cov)
    square = ((mean - other) ** 2).sum() + np.trace(cov + shape - 2 * linalg.sqrtm(root @ shape @ root).real)
    assert joint.gaussian_w2(mean, cov, other, shape) == pytest.approx(np.sqrt(square), rel=1e-8)
    # of normals on a line the distance between their quantiles
    p = (np.arange(100000) + 0.5) / 100000
    quantiles = stats.norm(1, 2).ppf(p) - stats.norm(-1, 0.5).ppf(p)
    assert joint.gaussian_w2([1], [[4]], [-1], [[0.25]]) == pytest.approx(np.sqrt((quantiles**2).mean()), rel=1e-3)


def test_em_among_the_draws():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(4000, 3)) * [1.0, 2.0, 0.5] + [0.0, 0.0, 1.0]
    density = rng.normal(size=(4, 1000))
    found = joint.compare_jointly(1.0, density, np.array([2.0, 0.0, 1.0]), u)
    mean, cov = u.mean(0), np.cov(u.T)
    step = np.array([2.0, 0.0, 1.0]) - mean
    distance = np.sqrt(step @ np.linalg.inv(cov) @ step)
    assert found["mahalanobis"] == pytest.approx(distance, rel=1e-9)
    farther = [np.sqrt((one - mean) @ np.linalg.inv(cov) @ (one - mean)) > distance for one in u]
    assert found["farther_share"] == pytest.approx(np.mean(farther), abs=1e-9)
    assert found["log_joint_rank"] == (density > 1).mean()
    assert found["log_joint_gap"] == pytest.approx(1 - density.mean())
    assert found["laplace_kl"] == pytest.approx(joint.gaussian_kl(mean, cov, np.zeros(3), np.eye(3)))
    assert found["laplace_w2"] == pytest.approx(np.sqrt(1 + 1 + 0.25), rel=0.05)
    for some in (None, u[:5], np.zeros((100, 3))):  # no approximation, too few draws, draws that are all the same
        assert np.isnan(joint.compare_jointly(1.0, density, np.zeros(3), some)["laplace_kl"])


@pytest.mark.parametrize("kind", [pytest.param("full", marks=pytest.mark.slow), "spherical"])
def test_coordinates_there_and_back(kind):
    """Laplace's draws are located where they came from, and are N(0, I) there; sds are those of `laplace` itself."""
    x = jnp.asarray(random_data(0, 80, 2, 2, spread=6.0), jnp.float32) * jnp.array([1.0, 50.0]) + 300
    prior = jaxgmm.default_prior(x, num_components=2, covariance_type=kind)
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=2, covariance_type=kind)
    mixture = jaxgmm.fit(start, x, prior).mixture
    found = joint.approximate(jax.random.key(0), mixture, x, None, prior)
    assert found.sound
    assert found.khat < 0.8
    u = np.random.default_rng(0).normal(size=(500, len(found.bridge.mode))).astype(np.float32)
    _, draws = joint.chart(found.problem, found.bridge, jax.tree.map(lambda leaf: np.stack([leaf] * 500), mixture), u)
    np.testing.assert_allclose(joint.chart(found.problem, found.bridge, draws, u)[0], u, atol=0.05)
    posterior = jaxgmm.laplace(jax.random.key(1), mixture, x, prior, num_samples=4000)
    ratio = parameters.values(draws).std(0) / parameters.values(posterior.mixture).std((0, 1))
    assert (abs(np.log(ratio)) < 0.25).all()  # 500 draws: 6 standard errors and more
    empty = jaxgmm.make_mixture([1.0, 0.0], mixture.means, mixture.covariances, covariance_type=kind)
    assert joint.approximate(jax.random.key(0), empty, x, None, prior) is None


def marginals(prior, kind, d):
    """Distributions of one weight of two, the mean and the variance of the first feature under the conjugate prior."""
    c, kappa, nu = (np.asarray(v, float) for v in (prior.weight_concentration, prior.mean_precision, prior.degrees_of_freedom))
    scale = np.asarray(prior.scale, float)
    first = scale[0, 0] if scale.ndim == 2 else scale.ravel()[0]
    degrees = nu - d + 1 if kind in ("full", "tied") else nu
    spread = np.sqrt(first / (kappa * degrees))
    return {
        "weights[0]": stats.beta(c[0], c[1]),
        "means[0,0]": stats.t(degrees, float(prior.mean[0]), spread),
        "covariances": stats.invgamma(degrees / 2, scale=first / 2),
    }


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_prior_widths_are_those_of_its_marginals(kind):
    """4000 draws or more a width: within 10 %, five standard errors of these tails."""
    d = 2
    scale = {"full": [[2.0, 0.5], [0.5, 3.0]], "tied": [[2.0, 0.5], [0.5, 3.0]], "diag": [2.0, 3.0], "spherical": 2.0}[kind]
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([2.0, 2.0], [1.0, -1.0], 0.5, 7.0, scale)))
    covariances = {
        "full": np.stack([np.eye(2)] * 2),
        "tied": np.eye(2)[None],
        "diag": np.ones((2, 2)),
        "spherical": np.ones((2, 1)),
    }
    mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, d)), covariances[kind], covariance_type=kind)
    names = [parameter.name for parameter in parameters.parameters(mixture, ["a", "b"])]
    found = contraction.widths(mixture, prior, 0)
    for name, marginal in marginals(prior, kind, d).items():
        p = next(i for i, full in enumerate(names) if full.startswith(name))
        assert found[p] == pytest.approx(np.ptp(marginal.ppf([0.05, 0.95])), rel=0.1), name
    # a prior knows no labels: what a component has the other one has too
    assert found[0] == found[1]
    assert found[2] == found[2 + d]


def test_contraction_of_draws_made_up():
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1.0], [0.0], 1.0, 9.0, [[9.0]])))
    mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    width = contraction.widths(mixture, prior, 0)
    draws = np.random.default_rng(0).uniform(-1, 1, (4, 1000, 3)) * width / 2 / 0.9  # central 90 % of the prior's width
    np.testing.assert_allclose(contraction.contractions(mixture, prior, draws, 0)[1:], 0, atol=0.05)
    np.testing.assert_allclose(contraction.contractions(mixture, prior, draws / 2, 0)[1:], 0.75, atol=0.02)
    assert np.isnan(contraction.contractions(mixture, prior, draws, 0)[0])  # the only weight is 1


@pytest.mark.slow
def test_prior_widths_without_closed_conditionals():
    """A half-normal's standard deviation, squared."""
    scale = jaxgmm.HalfNormal(jnp.array(2.0), jnp.array(1.0))
    prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(1), jnp.eye(1), scale)
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[1.0], [1.0]], covariance_type="spherical")
    expected = np.ptp(stats.halfnorm(scale=2).ppf([0.05, 0.95]) ** 2)
    assert contraction.widths(mixture, prior, 0)[-1] == pytest.approx(expected, rel=0.1)
