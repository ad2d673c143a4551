"""Posterior: a pytree with a repr; statuses; the check that a value is one posterior."""

import jax
import jax.numpy as jnp
import pytest

from jaxgmm.posterior.result import Posterior, PosteriorStatus, check_one_posterior

from helpers import random_mixture


def posterior(chains=2, draws=3):
    mixture = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (chains, draws, *leaf.shape)), random_mixture(0, "diag", 2, 2))
    return Posterior(mixture, jnp.zeros((chains, draws)), None, jnp.array(0), {"khat": jnp.array(0.2)}, "nuts")


def test_is_a_pytree_with_a_repr():
    """A concrete, a stacked and a traced posterior, and trees of other leaves, have a repr."""
    one = posterior()
    assert "2 chains x 3 draws, OK" in repr(one)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)
    assert "2 of 2 without a warning" in repr(stack)
    seen = []
    jax.jit(lambda p: seen.append(repr(p)) or p.log_density)(one)
    assert seen[0].startswith("Posterior by nuts, traced")
    repr(jax.tree.map(lambda leaf: None, one))
    repr(jax.tree.structure(one))


def test_every_status_has_a_sentence():
    """Each begins with a capital letter and ends with a full stop."""
    for status in PosteriorStatus:
        assert status.sentence[0].isupper()
        assert status.sentence.endswith(".")


def test_one_posterior():
    """A single posterior passes; a stack and other types are refused."""
    one = posterior()
    check_one_posterior(one)
    with pytest.raises(ValueError, match=r"leading axes \(2, 2, 3\); \(C, S\) was expected"):
        check_one_posterior(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one))
    with pytest.raises(TypeError, match="posterior is int"):
        check_one_posterior(3)
