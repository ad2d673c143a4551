"""Tests of starts from incomplete rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.incomplete_start import labelled_clusters, mixture_of_clusters
from jaxgmm.incomplete.rows import is_allowed

from helpers import assert_mixtures_close

RNG = np.random.default_rng(0)
CENTERS = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
TRUTH = np.arange(48) % 3
COMPLETE = CENTERS[TRUTH] + 0.5 * RNG.normal(size=(48, 2))
X = np.where(RNG.random(COMPLETE.shape) < 0.2, np.nan, COMPLETE)
X[np.isnan(X).all(1)] = COMPLETE[np.isnan(X).all(1)]


@pytest.mark.usefixtures("x64")
def test_labels_keep_their_components():
    """The rows of a label are in its cluster, and a cluster without labelled rows begins far from the others."""
    uniform = jax.random.uniform(jax.random.key(0), (3, 3))
    for known in ([0, 1, 2], [2, 0], [1]):
        labels = np.where(np.isin(TRUTH, known) & (np.arange(48) < 12), TRUTH, -1)
        may = is_allowed(jnp.asarray(labels), 3)
        found = np.asarray(labelled_clusters(uniform, jnp.asarray(COMPLETE.T), jnp.ones(48), may))
        np.testing.assert_array_equal(found[labels >= 0], labels[labels >= 0])
        for k in known:
            assert (found[k == TRUTH] == k).all()


@pytest.mark.usefixtures("x64")
def test_moments_of_clusters():
    """For complete rows, the start has the moments of the clusters."""
    single = jaxgmm.make_mixture([1.0], [[2.0, 2.0]], [np.eye(2) * 9.0])
    rows = jaxgmm.observations(COMPLETE)
    found = jax.jit(lambda single, rows: mixture_of_clusters(single, rows, None, TRUTH, (3, "full"), 0.0))(single, rows)
    assert_mixtures_close(found, jaxgmm.from_labels(COMPLETE, TRUTH, num_components=3), 1e-9)


@pytest.mark.usefixtures("x64")
def test_start_of_labelled_rows():
    """`initialize` puts each component of a label where its rows are, although values are missing."""
    labels = np.where(np.arange(48) < 24, TRUTH, -1)
    start = jaxgmm.initialize(jax.random.key(0), jaxgmm.observations(X, labels=labels), num_components=3)
    np.testing.assert_allclose(start.means, CENTERS, atol=1.0)
