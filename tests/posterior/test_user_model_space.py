"""user_model_space: the space of jaxgmm.model as a user's model, and models that a mixture determines in part."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jaxgmm
from jaxgmm import chunking
from jaxgmm.inputs import Inputs
from jaxgmm.posterior import user_model
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space
from jaxgmm.posterior.user_model_space import make_user_space

from helpers import assert_mixtures_close, random_data, random_mixture, random_prior


@pytest.mark.parametrize("covariance_type", ["spherical", pytest.param("full", marks=pytest.mark.slow)])
def test_jaxgmms_own_model_has_the_same_density(covariance_type, x64):
    """Its potential is that of `make_unconstrained_space` up to a constant; log densities of draws are the package's."""
    start, prior, x = (
        random_mixture(0, covariance_type, 2, 2),
        random_prior(0, covariance_type, 2, 2),
        jnp.asarray(random_data(0, 30, 2, 2)),
    )
    weight = jnp.asarray(np.arange(30) % 3, float)
    x = x.at[0].set(jnp.nan)
    assert user_model.mixture_determines_sites(jaxgmm.model, Inputs(start, x, weight, prior))

    @jax.jit
    def both(z):
        problem = user_model.problem_in_data_units(x, weight, prior)
        user = make_user_space(jaxgmm.model, problem, start)
        space = user.space
        ours = make_unconstrained_space(problem, start)
        mixture, density, further = user.describe(z[None, None])
        potentials = [s.potential(z) - s.potential(s.flatten(start)) for s in (space, ours)]
        return potentials, mixture, density, further["log_likelihood"], space.flatten(start) - ours.flatten(start)

    size = {"full": 11, "spherical": 7}[covariance_type]
    (potential, expected_potential), mixture, density, likelihood, apart = both(
        0.3 * jnp.asarray(np.random.default_rng(1).normal(size=size))
    )
    np.testing.assert_allclose(potential, expected_potential, rtol=1e-9)
    np.testing.assert_allclose(apart, 0, atol=1e-12)
    expected = weight @ jaxgmm.log_prob(mixture[0, 0], jnp.nan_to_num(x))
    np.testing.assert_allclose(likelihood, expected[None, None], rtol=1e-9)
    np.testing.assert_allclose(density[0, 0], expected + jaxgmm.log_prior(mixture[0, 0], prior), rtol=1e-9)


def test_a_mixture_is_recovered(x64):
    """For sites named like those of jaxgmm.model, unflatten inverts flatten."""
    start, prior, x = random_mixture(0, "diag", 2, 2), random_prior(0, "diag", 2, 2), jnp.asarray(random_data(0, 30, 2, 2))
    invertible = []

    @jax.jit
    def there_and_back(start):
        user = make_user_space(jaxgmm.model, user_model.problem_in_data_units(x, None, prior), start)
        invertible.append(user.invertible)
        return user.determined, user.space.unflatten(user.space.flatten(start))[0]

    determined, back = there_and_back(start)
    assert invertible == [True]
    assert (determined == 1).all()
    assert_mixtures_close(back, start, 1e-10)


def test_sites_that_a_mixture_does_not_determine(x64, monkeypatch):
    """Their coordinates are marked, 0 after flatten, and described as further sites; rows are stored if they are few."""

    def model(x, prior, *, num_components, covariance_type):
        means = numpyro.sample("means", dist.Normal(0.0, 10.0).expand([num_components, 1]).to_event(2))
        precision = numpyro.sample("precision", dist.Gamma(2.0, 2.0))
        weights = numpyro.deterministic("weights", jnp.ones(num_components) / num_components)
        numpyro.deterministic("covariances", 1 / precision * jnp.ones((1, 1, 1)))
        normal = dist.Normal(means, 1 / jnp.sqrt(precision)).to_event(1)
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(probs=weights), normal).expand([len(x)]), obs=x)

    start = random_mixture(0, "tied", 2, 1)
    problem = user_model.problem_in_data_units(jnp.asarray(random_data(0, 20, 1, 2)), None, None)
    invertible = []

    def described(start):
        user = make_user_space(model, problem, start)
        invertible.append(user.invertible)
        z = user.space.flatten(start)
        return z, user.determined, user.describe(z[None, None])

    z, determined, (mixture, log_density, stats) = jax.jit(described)(start)
    assert invertible == [False]
    assert z.shape == (3,)
    np.testing.assert_allclose(z[determined == 1], start.means.ravel())
    np.testing.assert_array_equal(z[determined == 0], [0.0])
    assert mixture.batch_shape == log_density.shape == stats["log_likelihood"].shape == (1, 1)
    np.testing.assert_allclose(stats["sites"]["precision"], [[1.0]])
    rows = jaxgmm.log_prob(mixture, problem.y)
    expected = rows.sum(-1)
    np.testing.assert_allclose(stats["log_likelihood"], expected, rtol=1e-9)
    np.testing.assert_allclose(stats["pointwise_log_likelihood"], rows, rtol=1e-9)
    monkeypatch.setattr(chunking, "_POINTWISE_NUMBERS", 19)
    assert "pointwise_log_likelihood" not in jax.eval_shape(lambda start: described(start), start)[2][2]
    prior = dist.Normal(0.0, 10.0).log_prob(start.means).sum() + dist.Gamma(2.0, 2.0).log_prob(1.0)
    np.testing.assert_allclose(log_density, expected + prior, rtol=1e-9)
