"""Status codes: integers in arrays, sentences for people."""

import jax.numpy as jnp
import pytest

from jaxgmm.status import StatusEnum


class Light(StatusEnum):
    """A small set of codes."""

    GREEN = 0, "The light is green: go."
    RED = 1, "The light is red: stop."


def test_codes_are_integers_with_sentences():
    """A member compares and computes as its integer, can be looked up by it, and has its own sentence."""
    assert Light(1) is Light.RED
    assert Light.RED == 1
    assert Light.GREEN.sentence == "The light is green: go."
    assert Light(int(jnp.array(1))).sentence == "The light is red: stop."
    assert (jnp.array([0, 1, 1]) == Light.RED).tolist() == [False, True, True]
    assert [light.name for light in Light] == ["GREEN", "RED"]


def test_unknown_codes():
    """A look-up of an unknown code raises; `name_of`, which messages use, returns the code itself."""
    with pytest.raises(ValueError, match="7 is not a valid Light"):
        Light(7)
    assert Light.name_of(jnp.array(1)) == "RED"
    assert Light.name_of(7) == "7"
