"""Simulation-based calibration of `gibbs` and `nuts` with incomplete rows.

A truth is drawn from the prior, and incomplete rows from the truth. The ranks of functions of the truth among draws from the
posterior are then uniform. The chains start at the truth, which is itself a draw from the posterior.

False-failure rates: a correct method leaves its bands with probability at most 0.01 over all quantities (exact, Bonferroni). A
method that takes noisy rows for exact ones adds the variance of the noise to that of the components, which is as large.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.calibration.bands import rank_counts, simultaneous_band
from jaxgmm.calibration.quantities import quantities, quantity_names

METHODS = {"gibbs": (jaxgmm.gibbs, 50), "nuts": (jaxgmm.nuts, 200)}
N, K, D = 25, 2, 2
PRIOR = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([3.0, 3.0], np.zeros(D), 0.1, 6.0, 3 * np.eye(D))))


def with_holes(key, x, told):
    """Return rows of which 20 % of the values are missing."""
    del told
    return jaxgmm.observations(jnp.where(jax.random.uniform(key, x.shape) < 0.2, jnp.nan, x))


def with_noise(key, x, told):
    """Return rows with noise of which `told` says how much is known. Its variances are about those within a component."""
    key_noise, key_variances = jax.random.split(key)
    variances = 2 * jax.random.uniform(key_variances, x.shape)
    return jaxgmm.observations(x + jnp.sqrt(variances) * jax.random.normal(key_noise, x.shape), noise=told * variances)


def with_both(key, x, told):
    """Return rows with noise, of which 20 % of the values are missing."""
    key_holes, key_noise = jax.random.split(key)
    noisy = with_noise(key_noise, x, told)
    return jaxgmm.observations(noisy.x, missing=jax.random.uniform(key_holes, x.shape) < 0.2, noise=noisy.noise)


def with_limit(key, x, told):
    """Return rows whose second value is only known to be negative where it is."""
    del key, told
    is_low = (x < 0) & jnp.array([False, True])
    return jaxgmm.observations(jnp.where(is_low, jnp.nan, x), limits=(None, jnp.where(is_low, 0.0, jnp.inf)))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def ranks(name, spoil, covariance_type, num_draws, thin, keys, told):
    """Return the ranks (B, Q) of the truth of each data set among draws."""
    function, num_warmup = METHODS[name]
    options = {"num_samples": num_draws * thin, "num_warmup": num_warmup, "num_chains": 1}
    model = {"num_components": K, "covariance_type": covariance_type}

    def rank(key):
        key_truth, key_rows, key_spoil, key_draws = jax.random.split(key, 4)
        truth = jaxgmm.sample_prior(key_truth, PRIOR, num_samples=1, **model)[0]
        x, _ = jaxgmm.sample(key_rows, truth, N)
        posterior = function(key_draws, truth, spoil(key_spoil, x, told), PRIOR, **options)
        draws = jax.tree.map(lambda leaf: leaf[0, thin - 1 :: thin], posterior.mixture)
        # the first two quantities are functions of the complete rows, whose ranks are not uniform
        return (quantities(draws, x, PRIOR) < quantities(truth, x, PRIOR)).sum(0)[2:]

    return jax.vmap(rank)(keys)


def outside(name, spoil, covariance_type, num_datasets, num_draws, thin, told=1.0):
    """Return the quantities whose ranks leave their bands."""
    keys = jax.random.split(jax.random.key(1), num_datasets)
    found = np.asarray(ranks(name, spoil, covariance_type, num_draws, thin, keys, told))
    names = quantity_names(K, D, covariance_type).names[2:]
    low, high = simultaneous_band(num_datasets, num_draws, 0.01 / len(names))
    counts = [rank_counts(column, num_draws) for column in found.T]
    return [name for name, count in zip(names, counts, strict=True) if ((count < low) | (count > high)).any()]


@pytest.mark.slow
def test_gibbs():
    """Ranks under missing values and noise are inside their bands; with the noise forgotten, they are not.

    In test_observations.py, `test_gibbs_sums_have_the_means_of_em` is a small twin.
    """
    assert outside("gibbs", with_both, "tied", 64, 63, 4) == []
    assert "log det covariance" in outside("gibbs", with_both, "tied", 64, 63, 4, told=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spoil", [with_holes, with_noise, with_limit])
def test_more_data_sets(name, spoil):
    """As above, for each kind of incomplete rows and for both samplers."""
    size = (400, 127, 10) if name == "gibbs" else (200, 127, 2)
    assert outside(name, spoil, "full", *size) == []
    if spoil is with_noise:
        assert "log det covariance" in outside(name, spoil, "full", *size, told=1e-6)
