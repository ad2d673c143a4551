"""hamiltonian_moves: scales, and moves that leave a normal density unchanged."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.posterior.smc.hamiltonian_moves import Movers, move_by_trajectories, scales_of_particles

SD = np.float32([1.0, 10.0, 0.1])


def log_density(z):
    return -0.5 * ((z / SD) ** 2).sum(-1)


def test_scales_are_standard_deviations_of_a_normal_density_and_widths_of_modes():
    z = SD * np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    np.testing.assert_allclose(scales_of_particles(z, -z / SD**2), SD, rtol=0.1)
    apart = z + np.float32([100, 0, 0]) * np.sign(z[:, 1:2])  # two modes, whose distance is 200 times their width
    assert 5 < scales_of_particles(apart, -z / SD**2)[0] < 15
    assert scales_of_particles(z, 0 * z).tolist() == [1, 1, 1]


def test_moves_leave_the_density_unchanged_and_adapt_the_step_size():
    """Means and variances of the squares stay within 5 standard errors, which fails by chance with probability 1e-5."""
    key, num = jax.random.key(0), 4000
    start = Movers(SD * jax.random.normal(key, (num, 3)), jnp.log(0.3), jnp.zeros(()))
    one = jax.jit(lambda key, movers: move_by_trajectories(key, movers, log_density, jnp.asarray(SD)))
    movers = start
    for i in range(8):
        movers = one(jax.random.key(i), movers)
    scaled = np.asarray(movers.z / SD)
    assert abs(scaled.mean(0)).max() < 5 / num**0.5
    assert abs((scaled**2).mean(0) - 1).max() < 5 * (2 / num) ** 0.5
    assert abs(np.corrcoef(scaled[:, 0], start.z[:, 0])[0, 1]) < 0.1
    assert 0.5 < np.exp(movers.log_step_size) < 2
    assert 0.7 < movers.accept_prob / 8 <= 1
