"""as_distribution: the density, moments and draws of a mixture as a NumPyro distribution, alone and inside models."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jaxgmm

from helpers import TWO_COVARIANCE_TYPES, random_data, random_mixture

MIXTURE = random_mixture(0, "full", 3, 2)
STACK = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[random_mixture(seed, "full", 3, 2) for seed in range(4)])


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_density_and_moments(covariance_type):
    """log_prob is that of jaxgmm and of NumPyro's own mixture; moments are those of the definition."""
    mixture = random_mixture(0, covariance_type, 3, 2)
    x = jnp.asarray(random_data(0, 12, 2))
    found = jaxgmm.as_distribution(mixture)
    assert found.batch_shape == ()
    assert found.event_shape == (2,)
    assert found.support is dist.constraints.real_vector
    np.testing.assert_array_equal(found.log_prob(x), jaxgmm.log_prob(mixture, x))

    def of_numpyro(weights, means, covariances):
        dense = jaxgmm.covariance.to_dense(covariances, covariance_type, 3, 2)
        own = dist.MixtureSameFamily(dist.Categorical(weights), dist.MultivariateNormal(means, dense))
        return own.log_prob(x), own.mean, own.variance

    log_prob, mean, variance = jax.jit(of_numpyro)(mixture.weights, mixture.means, mixture.covariances)
    np.testing.assert_allclose(found.log_prob(x), log_prob, rtol=2e-5)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-4)


def test_stacks_are_batches():
    """Values broadcast against the batch shape, as in every NumPyro distribution."""
    stack = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).reshape(2, 2, *leaf.shape[1:])), STACK)
    found, x = jaxgmm.as_distribution(stack), random_data(0, 5, 2).astype(np.float32)
    log_prob = jax.jit(lambda found, value: found.log_prob(value))
    assert found.batch_shape == (2, 2)
    every = jaxgmm.log_prob(stack, x)  # (2, 2, 5)
    np.testing.assert_allclose(log_prob(found, x[:, None, None]), np.moveaxis(np.asarray(every), -1, 0), rtol=1e-5)
    np.testing.assert_allclose(log_prob(found, x[:2]), np.asarray(every)[:, [0, 1], [0, 1]], rtol=1e-5)
    assert found.mean.shape == found.variance.shape == (2, 2, 2)
    assert jax.eval_shape(lambda key: found.sample(key, (3,)), jax.random.key(0)).shape == (3, 2, 2, 2)
    assert log_prob(found.to_event(1), x[0]).shape == (2,)
    assert jax.eval_shape(found.expand((7, 2, 2)).sample, jax.random.key(0)).shape == (7, 2, 2, 2)


def test_draws_have_the_moments():
    """Means of 20000 draws lie within five standard errors: a failure by chance has probability 1e-5."""
    found = jaxgmm.as_distribution(STACK)
    describe = jax.jit(lambda found, key: (found.sample(key, (20_000,)), found.mean, found.variance))
    draws, mean, variance = (np.asarray(values, float) for values in describe(found, jax.random.key(0)))
    error = np.sqrt(variance / len(draws))
    assert (abs(draws.mean(0) - mean) < 5 * error).all()
    spread = (draws - draws.mean(0)) ** 2
    assert (abs(spread.mean(0) - variance) < 5 * spread.std(0) / np.sqrt(len(draws))).all()


def test_transforms():
    """Inside jit, vmap and grad, with the distribution made inside or passed in."""
    x = jnp.asarray(random_data(0, 4, 2))  # one point for each member
    expected = jnp.stack([jaxgmm.log_prob(STACK[i], x[i : i + 1])[0] for i in range(4)])
    inside = jax.jit(jax.vmap(lambda mixture, point: jaxgmm.as_distribution(mixture).log_prob(point)))
    np.testing.assert_allclose(inside(STACK, x), expected, rtol=1e-5)
    passed = jax.jit(jax.vmap(lambda found, point: found.log_prob(point)))
    np.testing.assert_allclose(passed(jaxgmm.as_distribution(STACK), x), expected, rtol=1e-5)
    returned = jax.vmap(jaxgmm.as_distribution)(STACK)
    assert returned.batch_shape == (4,)
    ours = jax.grad(lambda mixture: jaxgmm.log_prob(mixture, x).sum())(MIXTURE)
    theirs = jax.grad(lambda mixture: jaxgmm.as_distribution(mixture).log_prob(x).sum())(MIXTURE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_weights_of_zero_and_singular_covariances():
    """The values and derivatives stay those of jaxgmm.log_prob."""
    mixture = jaxgmm.Mixture(jnp.array([1.0, 0.0]), jnp.zeros((2, 1)), jnp.array([[1.0], [0.0]]), "diag")
    x = jnp.array([[0.5]])
    np.testing.assert_array_equal(jaxgmm.as_distribution(mixture).log_prob(x), jaxgmm.log_prob(mixture, x))
    assert np.isfinite(jax.grad(lambda w: jaxgmm.as_distribution(jaxgmm.Mixture(w, *jax.tree.leaves(mixture)[1:], "diag"))
                                .log_prob(x).sum())(mixture.weights)).all()  # fmt: skip


def test_in_models():
    """An observed site counts with its plate; Predictive draws a latent site."""
    x = jnp.asarray(random_data(0, 6, 2))

    def observed(x):
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", jaxgmm.as_distribution(MIXTURE), obs=x)

    total, _ = numpyro.infer.util.log_density(observed, (x,), {}, {})
    np.testing.assert_allclose(total, jaxgmm.log_prob(MIXTURE, x).sum(), rtol=1e-6)

    def latent():
        numpyro.sample("z", jaxgmm.as_distribution(MIXTURE).expand([5]).mask(True))

    draws = numpyro.infer.Predictive(latent, num_samples=3)(jax.random.key(0))
    assert draws["z"].shape == (3, 5, 2)


def test_validation():
    with pytest.raises(TypeError, match="mixture is str"):
        jaxgmm.as_distribution("full")
    found = jaxgmm.posterior.distribution.MixtureDistribution(MIXTURE, validate_args=True)
    with pytest.warns(UserWarning, match="Out-of-support"):
        assert found.log_prob(np.array([np.nan, 0.0])) == -np.inf
