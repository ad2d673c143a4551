"""Test the replicates of a study: the order of components, failed fits, and sizes of batches.

A test in `test_study` compares a batch with the public functions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.coverage import replicates
from jaxgmm.coverage.design import StudyCell


def test_estimates_take_the_order_of_the_truth():
    """Swapped components are swapped back, and a fit that did not converge counts as failed."""
    truth = jaxgmm.Design(num_features=1).truth(4.0, "full")
    swapped = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), truth)
    empty = jnp.zeros(2)
    fits = jaxgmm.Fit(swapped, empty, empty, empty[:, None], empty, jnp.array([0, 1]), jnp.zeros((2, 2), int))
    ordered, failed = replicates._match_to_truth(fits, truth, 100)
    np.testing.assert_array_equal(ordered.mixture.means[1], truth.means)
    assert failed.tolist() == [False, True]


def test_a_fixed_prior_is_that_of_all_data_sets():
    design = jaxgmm.Design(num_observations=(20,), num_features=1, prior={"mean": 2})
    batch = replicates.Batch(jax.random.split(jax.random.key(0), 3), StudyCell("tied", 20, 4.0), design)
    assert batch.prior.mean.tolist() == [[2], [2], [2]]
    assert batch.prior.scale.shape == (3, 1, 1)
    assert batch.x.shape == (3, 20, 1)


def test_the_methods_receive_the_values_that_are_not_missing():
    """The programs of all steps take observations; here they are traced, but not compiled."""
    design = jaxgmm.Design(num_observations=(20,), num_features=2, covariance_types=("diag",), missing=0.3)
    batch = replicates.Batch(jax.random.split(jax.random.key(0), 3), StudyCell("diag", 20, 4.0), design)
    assert isinstance(batch.x, jaxgmm.Observations)
    assert 0.1 < 1 - batch.x.observed.mean() < 0.5
    starts = jax.eval_shape(lambda keys: replicates.Batch(keys, batch.cell, design)._starts(), batch.keys)
    assert starts.means.shape == (3, 2, 2)


def test_failed_methods_have_no_intervals():
    found = replicates.Intervals(jnp.zeros((2, 3)), jnp.ones((2, 3)), jnp.array([True, False, True]))
    kept, lost = (replicates._usable_intervals(found, jnp.array(usable)) for usable in (True, False))
    assert kept["defined"].tolist() == [True, False, True]
    np.testing.assert_array_equal(kept["upper"], 1)
    assert not lost["defined"].any()
    assert jnp.isnan(lost["lower"]).all()


@pytest.mark.parametrize("size", [1, 7, 256, 1000])
def test_runs_have_equal_length(size):
    padded = replicates.padded_size(size)
    assert size <= padded < size + replicates.coverage_runs(size)
    assert padded % replicates.coverage_runs(size) == 0
