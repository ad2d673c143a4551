"""Ratios of normalising constants of successive targets: bias, error, several times, particles that do not move."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior.smc import stage_ratios
from jaxgmm.posterior.smc.stage_ratios import Sample, first_constant, one_sample

times_ratio = jax.jit(stage_ratios.times_ratio)
M, R, SHIFT = 200, 400, 0.8  # w = 2 exp(SHIFT z) takes the effective size of normal particles to about one half


def log_weight(z):
    return jnp.log(2.0) + SHIFT * z


def targets(seed, shape):
    """Return normal particles with the means 0, SHIFT and 2 SHIFT, which are three successive targets."""
    return np.random.default_rng(seed).normal(size=(3, *shape)) + SHIFT * np.arange(3).reshape(-1, *[1] * len(shape))


@pytest.fixture(scope="module")
def constants():
    """Return estimates from R replicates: the log value and its stated variance, and the log means of both weights."""

    def one(z):
        samples = [one_sample(log_weight(particles)) for particles in z]
        constant = first_constant(M, z.dtype)
        for before, after in itertools.pairwise(samples):
            constant = times_ratio(constant, before, after)
        plain = sum(jax.nn.logsumexp(log_weight(particles)) - jnp.log(M) for particles in z[:2])
        return constant.log_value, constant.total_variance(), plain

    return jax.jit(jax.vmap(one))(jnp.asarray(np.moveaxis(targets(0, (R, M)), 1, 0), jnp.float32))


def test_the_stated_variance_is_the_real_one(constants):
    """The mean is within 5 standard errors; the sd of 400 values is within 5 of its errors (4 % each); it is halved nearly."""
    value, variance, plain = map(np.asarray, constants)
    exact = 2 * np.log(2) + SHIFT**2 / 2 + 1.5 * SHIFT**2
    print(value.mean() - exact, value.std(), np.sqrt(variance.mean()), plain.std())
    assert abs(value.mean() - exact) < 5 * value.std() / np.sqrt(R)
    assert value.std() == pytest.approx(np.sqrt(variance.mean()), rel=0.18)
    assert value.std() < 0.75 * plain.std()


def test_particles_that_do_not_move_leave_the_mean_weight():
    """If each particle is repeated in proportion to its weight, the ratio is the mean weight."""
    w = np.random.default_rng(0).integers(1, 5, 100)
    before, after = (jnp.asarray(np.log(values), jnp.float32) for values in (w, np.repeat(w, w)))
    found = times_ratio(first_constant(100, jnp.float32), one_sample(before), one_sample(after))
    np.testing.assert_allclose(found.log_value, np.log(w.mean()), rtol=1e-5)


def test_only_valid_times_count():
    z = targets(1, (M,)).astype(np.float32)
    before, after = (np.float32(np.log(2) + SHIFT * np.stack([particles, -particles])) for particles in z[:2])
    start = first_constant(M, z.dtype)
    one = times_ratio(start, one_sample(before[0]), one_sample(after[0]))
    first = times_ratio(start, Sample(before, jnp.array(1)), Sample(after, jnp.array(1)))
    np.testing.assert_allclose(first.log_value, one.log_value, rtol=1e-6)
    both = times_ratio(start, Sample(before, jnp.array(2)), Sample(after[:1], jnp.array(1)))
    assert both.log_value != one.log_value


def test_no_weight_is_positive():
    nothing = one_sample(jnp.full(5, -jnp.inf))
    assert not jnp.isfinite(times_ratio(first_constant(5, jnp.float32), nothing, one_sample(jnp.zeros(5))).log_value)
