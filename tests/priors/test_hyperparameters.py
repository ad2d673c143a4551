"""Tables and checks of hyperparameters."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.priors.hyperparameters import host_values, hyperparameter_table, require_positive, require_positive_definite


def test_table():
    """One row per hyperparameter; a stack shows shapes only."""
    thing = SimpleNamespace(a=jnp.array(2.0), b=jnp.ones(2))
    table = hyperparameter_table(thing, {"a": "the law of a", "b": "that of b"})
    assert [list(row) for row in table.rows] == [["a", "()", "2", "the law of a"], ["b", "(2,)", "[1 1]", "that of b"]]
    stack = SimpleNamespace(a=jnp.ones(3), b=jnp.ones((3, 2)))
    assert [row[2] for row in hyperparameter_table(stack, {"a": "", "b": ""}).rows] == ["", ""]


def test_checks():
    """Positive numbers and positive definite matrices pass; NaN, zero and indefinite matrices are named."""
    require_positive(jnp.array([0.1, 2.0]), "a")
    require_positive_definite(np.eye(2), "a")
    require_positive_definite(np.array(0.5), "a")
    assert isinstance(host_values([1, 2], "a"), np.ndarray)
    for check, value, sentence in [
        (require_positive, [1.0, 0.0], "a has 0; values > 0"),
        (require_positive, np.nan, "a contains NaN"),
        (require_positive_definite, -np.eye(2), "a is not positive definite"),
        (require_positive_definite, [1.0, 0.0], "a is not positive definite"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            check(value, "a")
