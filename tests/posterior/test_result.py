"""Posterior: a pytree with a repr, and what samplers refuse at the door."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.result import Posterior, PosteriorStatus, validate_sampler_inputs

from helpers import random_data, random_mixture, random_prior


def posterior(chains=2, draws=3):
    mixture = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (chains, draws, *leaf.shape)), random_mixture(0, "diag", 2, 2))
    return Posterior(mixture, jnp.zeros((chains, draws)), None, jnp.array(0), {"khat": jnp.array(0.2)}, "nuts")


def test_is_a_pytree_with_a_repr():
    """Concrete, stacked and traced; trees of anything."""
    one = posterior()
    assert "2 chains x 3 draws, OK" in repr(one)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)
    assert "2 of 2 without complaint" in repr(stack)
    seen = []
    jax.jit(lambda p: seen.append(repr(p)) or p.log_density)(one)
    assert seen[0].startswith("Posterior by nuts, traced")
    repr(jax.tree.map(lambda leaf: None, one))
    repr(jax.tree.structure(one))


def test_every_status_has_a_sentence():
    """A capital, a full stop."""
    for status in PosteriorStatus:
        assert status.sentence[0].isupper()
        assert status.sentence.endswith(".")


def test_refused_at_the_door():
    """Each by name, in a sentence."""
    key, x = jax.random.key(0), random_data(0, 30, 2)
    start, prior = random_mixture(0, "full", 2, 2), random_prior(0, "full", 2, 2)
    ok = dict(key=key, start=start, x=x, prior=prior, sample_weight=None, num_samples=5, num_chains=2)
    validate_sampler_inputs(**ok)
    nan = np.array(x)
    nan[3, 1] = np.nan
    validate_sampler_inputs(**ok | {"x": nan, "sample_weight": (np.arange(30) != 3) * 1.0})
    half = dataclasses.replace(start, covariances=-start.covariances)
    cases = [
        (dict(num_chains=0), ValueError, "num_chains is 0"),
        (dict(num_samples=True), TypeError, "num_samples is True"),
        (dict(x=nan), ValueError, "x contains NaN in 1 of 30 rows"),
        (dict(x=x[:, :1]), ValueError, "1 features, the mixture 2"),
        (dict(x=x[:0]), ValueError, "no rows"),
        (dict(key=0), TypeError, "key is int"),
        (dict(prior=None), TypeError, "prior is None"),
        (dict(start=dataclasses.replace(start, weights=jnp.array([1.0, 0.0]))), ValueError, "empty component .*: 1;"),
        (dict(start=dataclasses.replace(start, means=start.means * jnp.nan)), ValueError, "the fit that it came from failed"),
        (dict(start=half), ValueError, "not positive definite"),
        (dict(start=jax.tree.map(lambda leaf: leaf[None], start)), ValueError, "a stack of shape"),
        (dict(start=jaxgmm.fit(start, x)), TypeError, "give its .mixture"),
        (dict(start=3), TypeError, "start is int"),
        (dict(prior=random_prior(0, "diag", 2, 2)), ValueError, "prior.scale has shape"),
        (dict(prior=dataclasses.replace(prior, degrees_of_freedom=jnp.array(0.5))), ValueError, "improper"),
        (dict(prior=dataclasses.replace(prior, scale=-prior.scale)), ValueError, "not positive definite"),
    ]
    for change, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            validate_sampler_inputs(**ok | change)
