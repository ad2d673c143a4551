"""importance: the density and the draws of a proposal, and its adaptation to a known target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_t

from jaxgmm.posterior.evidence import importance
from jaxgmm.posterior.evidence.importance import DEGREES_OF_FREEDOM, Points

adapt, log_parts, make_proposal = (jax.jit(f) for f in (importance.adapt, importance.log_parts, importance.make_proposal))
draw = jax.jit(importance.draw, static_argnums=2)


def plain_proposal(log_weight, center, scale):
    """Return a proposal without empty components."""
    return make_proposal(log_weight, center, scale, jnp.zeros((0, 1), bool), jnp.zeros((0, center.shape[1]), int))


def in_one_system(z):
    """Return points (..., P) that have one system of coordinates."""
    z = jnp.asarray(z)
    return Points(z[..., None, :], jnp.zeros((*z.shape[:-1], 1)))


@pytest.fixture
def proposal(x64):
    """Return two t distributions in two dimensions, with weights 0.25 and 0.75 before the even fraction."""
    scale = jnp.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 3.0]]])
    return plain_proposal(jnp.log(jnp.array([0.25, 0.75])), jnp.array([[0.0, 0.0], [6.0, -1.0]]), scale)


def test_densities_are_scipys(proposal):
    """Each part is a weight times a multivariate t density; the weights sum to one, a tenth of them spread evenly."""
    weights = np.exp(proposal.log_weight)
    np.testing.assert_allclose(weights, 0.9 * np.array([0.25, 0.75]) + 0.05)
    for z in np.random.default_rng(0).normal(size=(5, 2)):
        found, distance = log_parts(proposal, in_one_system(z))
        for m in range(2):
            law = multivariate_t(proposal.center[m], proposal.scale[m], DEGREES_OF_FREEDOM)
            np.testing.assert_allclose(found[m], np.log(weights[m]) + law.logpdf(z), rtol=1e-9)
            step = z - np.asarray(proposal.center[m])
            np.testing.assert_allclose(distance[m], step @ np.linalg.solve(proposal.scale[m], step), rtol=1e-9)


def test_draws_have_the_moments_of_the_proposal(proposal):
    """Mean and covariance of 40000 draws, within six standard errors or 6 %."""
    z = np.asarray(draw(jax.random.key(0), proposal, 40000)[0])
    weights = np.exp(np.asarray(proposal.log_weight))
    mean = weights @ proposal.center
    spread = np.asarray(proposal.scale) * DEGREES_OF_FREEDOM / (DEGREES_OF_FREEDOM - 2)
    deviation = np.asarray(proposal.center) - mean
    covariance = np.einsum("m,mij->ij", weights, spread + deviation[:, :, None] * deviation[:, None, :])
    assert (abs(z.mean(0) - mean) < 6 * np.sqrt(np.diag(covariance) / 40000)).all()
    np.testing.assert_allclose(np.cov(z.T), covariance, rtol=0.06, atol=0.06)


def test_systematic_sampling_fixes_the_shares(x64):
    """The numbers of draws from well-separated parts differ from their expectations by less than one."""
    proposal = plain_proposal(jnp.log(jnp.array([0.3, 0.7])), jnp.array([[0.0], [1e6]]), jnp.ones((2, 1, 1)))
    z, _ = draw(jax.random.key(1), proposal, 1000)
    assert abs(int((z < 5e5).sum()) - 1000 * float(jnp.exp(proposal.log_weight[0]))) <= 1


def test_adaptation_approaches_the_target(x64):
    """From a wide proposal, centre and scale approach those of a normal target, as a t distribution fits it."""
    mean, sd = np.array([1.0, -2.0]), np.array([0.5, 2.0])
    densities = jax.jit(jax.vmap(log_parts, in_axes=(None, 0)))
    proposal = plain_proposal(jnp.zeros(1), jnp.zeros((1, 2)), 9 * jnp.eye(2)[None])
    for key in jax.random.split(jax.random.key(0), 8):
        z, _ = draw(key, proposal, 4000)
        target = -(((np.asarray(z) - mean) / sd) ** 2).sum(-1) / 2
        points = in_one_system(z)
        proposal = adapt(proposal, points, target - densities(proposal, points)[0][:, 0])
    np.testing.assert_allclose(proposal.center[0], mean, atol=0.1)
    sds = np.sqrt(np.diag(proposal.scale[0]))
    assert (sds < 1.1 * sd).all()
    assert (sds > 0.6 * sd).all()


def test_without_finite_ratios_nothing_changes(proposal):
    """A proposal is returned as it is if no draw has any density under the target."""
    z, _ = draw(jax.random.key(0), proposal, 100)
    same = adapt(proposal, in_one_system(z), jnp.full(100, -jnp.inf))
    for left, right in zip(same, proposal, strict=True):
        np.testing.assert_array_equal(left, right)


def test_singular_scales_are_raised(x64):
    """A scale matrix of rank one gets a root that can be inverted."""
    proposal = plain_proposal(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones((1, 2, 2)))
    assert np.isfinite(proposal.inverse).all()
    np.testing.assert_allclose(proposal.inverse[0] @ proposal.root[0], np.eye(2), atol=1e-9)
