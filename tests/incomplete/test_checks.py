"""Observations that do not match a mixture, or that leave a column without values, are refused."""

import jax
import numpy as np
import pytest

import jaxgmm

from helpers import random_mixture

NAN = np.nan
X = np.array([[1.0, NAN], [2.0, 3.0], [4.0, 5.0], [0.0, 1.0]])


def test_empty_columns():
    mixture, empty = random_mixture(0, "full", k=1, d=2), jaxgmm.observations(np.where([True, False], X, NAN))
    with pytest.raises(ValueError, match="x has no value in column 1; leave the column out, or use a prior"):
        jaxgmm.fit(mixture, empty)
    with pytest.raises(ValueError, match="x has no value in column 1"):
        jaxgmm.initialize(jax.random.key(0), empty, num_components=1)


def test_mixtures_must_match():
    """Labels, columns, weights and the method must be possible for the mixture."""
    found, mixture = jaxgmm.observations(X, labels=[0, -1, 2, -1]), random_mixture(0, "full", k=2, d=2)
    for function in (jaxgmm.fit, jaxgmm.log_prob, jaxgmm.e_step, jaxgmm.bic, jaxgmm.impute):
        with pytest.raises(ValueError, match="labels has the value 2; labels from 0 to 1"):
            function(mixture, found)
    with pytest.raises(ValueError, match="labels has 3 columns, and there are 2 components"):
        jaxgmm.fit(mixture, jaxgmm.observations(X, labels=np.array([[True, True, False]] * 4)))
    with pytest.raises(ValueError, match="x has 2 features, the mixture 3"):
        jaxgmm.predict(random_mixture(0, "full"), found)
    with pytest.raises(ValueError, match="give the weights to jaxgmm"):
        jaxgmm.fit(mixture, jaxgmm.observations(X), sample_weight=np.ones(4))
    with pytest.raises(ValueError, match="method='patterns' was given, but each row has its own noise or limits"):
        jaxgmm.e_step(mixture, jaxgmm.observations(X, noise=np.ones((4, 2)), method="patterns"))
    with pytest.raises(ValueError, match="method='patterns' was given for traced observations"):
        jax.eval_shape(lambda x: jaxgmm.e_step(mixture, jaxgmm.observations(x, method="patterns")), X)
