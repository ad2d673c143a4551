"""bridge_sampling: a known ratio from correlated draws, its stated error, a part of p that q misses, draws without density."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.posterior.evidence.bridge_sampling import bridge_sampling

LOG_R, SHIFT, PERSISTENCE = 3.0, 1.0, 0.8


def log_ratio(z):
    """Return log(p / q) for q = N(0, 1) and p = e^LOG_R N(SHIFT, 1)."""
    return LOG_R - 0.5 * (z - SHIFT) ** 2 + 0.5 * z**2


estimate = jax.jit(jax.vmap(lambda q, p: bridge_sampling(q, p, jnp.full(4, 0.25), in_time=True)))
of_runs = jax.jit(jax.vmap(lambda q, p, w: bridge_sampling(q, p, w, in_time=False)))


def chains(rng, count):
    """Return chains (count, 4, 400) of an autoregressive process, whose draws are from N(0, 1)."""
    z = rng.normal(size=(count, 4, 400))
    for t in range(1, 400):
        z[..., t] = PERSISTENCE * z[..., t - 1] + np.sqrt(1 - PERSISTENCE**2) * z[..., t]
    return z


def test_stated_errors_are_those_of_200_repetitions():
    """The sd of error / stated error is in [0.8, 1.25] if it is 1 (4.5 of its own sds), and the mean is near 0."""
    rng = np.random.default_rng(0)
    of_q = log_ratio(rng.normal(size=(200, 800)))
    value, error = estimate(jnp.float32(of_q), jnp.float32(log_ratio(SHIFT + chains(rng, 200))))
    scaled = (np.asarray(value) - LOG_R) / np.asarray(error)
    print(scaled.mean(), scaled.std(), np.asarray(error).mean())
    assert 0.8 < scaled.std() < 1.25
    assert abs(scaled.mean()) < 0.35


def test_a_part_that_q_misses_counts():
    """A third of the draws is where q has almost no mass: the estimate is log 1.5 above that of importance sampling."""
    rng = np.random.default_rng(1)
    of_q = log_ratio(rng.normal(size=(1, 800)))
    of_p = log_ratio(SHIFT + rng.normal(size=(1, 4, 399)))
    of_p[..., ::3] = 60.0
    value, error = estimate(jnp.float32(of_q), jnp.float32(of_p))
    assert abs(float(value[0]) - LOG_R - np.log(1.5)) < 5 * float(error[0])
    assert float(error[0]) < 0.08


def test_draws_without_density_give_nan():
    of_q = jnp.zeros((1, 800))
    value, error = estimate(of_q, jnp.zeros((1, 4, 400)).at[0, 1, 2].set(-jnp.inf))
    assert jnp.isnan(value[0])
    assert jnp.isnan(error[0])
    value, error = estimate(of_q, jnp.zeros((1, 4, 400)))  # q is proportional to p
    np.testing.assert_allclose([value[0], error[0]], 0, atol=1e-5)


def test_runs_count_by_their_weights():
    """A run of weight 0 does not change the estimate. The error is at least that between the runs."""
    rng = np.random.default_rng(2)
    of_q = log_ratio(rng.normal(size=(1, 800)))
    of_p = log_ratio(SHIFT + rng.normal(size=(1, 4, 400)))
    of_p[:, 3] = 60.0
    value, error = of_runs(jnp.float32(of_q), jnp.float32(of_p), jnp.array([[1.0, 1.0, 1.0, 0.0]]) / 3)
    assert abs(float(value[0]) - LOG_R) < 5 * float(error[0])
    assert float(error[0]) < 0.1
    apart, wide = of_runs(jnp.float32(of_q), jnp.float32(of_p), jnp.full((1, 4), 0.25))
    assert float(apart[0]) > float(value[0]) + 0.1
    assert float(wide[0]) > 0.2
