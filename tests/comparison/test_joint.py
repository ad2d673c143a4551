"""Joint scores: distances between normal distributions agree with closed forms; the transform has an inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.comparison import joint
from jaxgmm.studies import parameters

from helpers import random_data


def random_normal(seed, p):
    """Return a mean and a covariance."""
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
    # an affine change of coordinates leaves the divergence as it is
    other, shape = random_normal(1, 4)
    turn = random_normal(2, 4)[1]
    there = joint.gaussian_kl(turn @ mean, turn @ cov @ turn.T, turn @ other, turn @ shape @ turn.T)
    assert there == pytest.approx(joint.gaussian_kl(mean, cov, other, shape), rel=1e-9)


def test_em_among_the_draws():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(4000, 3)) * [1.0, 2.0, 0.5] + [0.0, 0.0, 1.0]
    density = rng.normal(size=(4, 1000))
    found = joint.compare_jointly(1.0, density, np.array([2.0, 0.0, 1.0]), u)
    mean, cov = u.mean(0), np.cov(u.T)
    step = np.array([2.0, 0.0, 1.0]) - mean
    distance = np.sqrt(step @ np.linalg.inv(cov) @ step)
    assert found.mahalanobis == pytest.approx(distance, rel=1e-9)
    farther = [np.sqrt((one - mean) @ np.linalg.inv(cov) @ (one - mean)) > distance for one in u]
    assert found.farther_share == pytest.approx(np.mean(farther), abs=1e-9)
    assert found.log_joint_rank == (density > 1).mean()
    assert found.log_joint_gap == pytest.approx(1 - density.mean())
    assert found.laplace_kl == pytest.approx(joint.gaussian_kl(mean, cov, np.zeros(3), np.eye(3)))
    assert found.laplace_w2 == pytest.approx(np.sqrt(1 + 1 + 0.25), rel=0.05)
    for some in (None, u[:5], np.zeros((100, 3))):  # no approximation, too few draws, draws that are all the same
        assert np.isnan(joint.compare_jointly(1.0, density, np.zeros(3), some).laplace_kl)


@pytest.mark.parametrize("kind", [pytest.param("full", marks=pytest.mark.slow), "spherical"])
def test_transform_and_its_inverse(kind):
    """Mixtures made from u have that u, and their standard deviations are those of draws by `laplace`."""
    x = jnp.asarray(random_data(0, 80, 2, 2, spread=6.0), jnp.float32) * jnp.array([1.0, 50.0]) + 300
    prior = jaxgmm.default_prior(x, num_components=2, covariance_type=kind)
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=2, covariance_type=kind)
    mixture = jaxgmm.fit(start, x, prior).mixture
    found = joint.approximate(jax.random.key(0), mixture, x, None, prior)
    assert found.sound
    assert found.khat < 0.8
    u = np.random.default_rng(0).normal(size=(500, len(found.gaussian.mode))).astype(np.float32)
    _, draws = joint.transform(found.problem, found.gaussian, jax.tree.map(lambda leaf: np.stack([leaf] * 500), mixture), u)
    np.testing.assert_allclose(joint.transform(found.problem, found.gaussian, draws, u)[0], u, atol=0.05)
    posterior = jaxgmm.laplace(jax.random.key(1), mixture, x, prior, num_samples=4000)
    ratio = parameters.values(draws).std(0) / parameters.values(posterior.mixture).std((0, 1))
    assert (abs(np.log(ratio)) < 0.25).all()  # 500 draws: over 6 standard errors
    empty = jaxgmm.make_mixture([1.0, 0.0], mixture.means, mixture.covariances, covariance_type=kind)
    assert joint.approximate(jax.random.key(0), empty, x, None, prior) is None
