"""Batches hold each data set once, padded by rows of weight 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgmm.chunking import SMALLEST_BUCKET
from jaxgmm.em.batch import data_sets as module
from jaxgmm.em.batch.data_sets import Batch
from jaxgmm.em.batch.input_forms import as_data_sets
from jaxgmm.row_sums import weight_or_ones

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=12).filter(any)


def made_up(lengths):
    """Return data sets of these lengths and their weights."""
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
    return xs, [rng.integers(0, 4, n).astype(np.float32) for n in lengths]


def assert_batches_hold(sets, xs, weights):
    """Check that the batches hold every data set once, with its rows and weights first and rows of weight 0 after them."""
    members = []
    for batch in sets.batches():
        members += batch.members.tolist()
        x, weight = sets.arrays(batch)
        assert isinstance(x, jax.Array)
        assert len(batch.members) <= batch.size
        assert batch.size % batch.width == 0
        x, weight = np.asarray(x), np.asarray(weight_or_ones(weight, x.shape[:-1], x.dtype))
        for slot, b in enumerate(batch.slots):
            n, rows, w = len(xs[b]), x[slot] if x.ndim == 3 else x, weight[slot] if weight.ndim == 2 else weight
            np.testing.assert_array_equal(rows[:n], xs[b])
            np.testing.assert_array_equal(w[:n], weights[b])
            assert not w[n:].any()
    assert sorted(members) == list(range(len(xs)))


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.booleans())
def test_lists(lengths, weighted):
    """Lists of any lengths, with and without weights; few rows share one length, at most twice the longest one or 16."""
    xs, weights = made_up(lengths)
    sets = as_data_sets(xs, sample_weight=weights if weighted else None)
    assert_batches_hold(sets, xs, weights if weighted else [np.ones(n) for n in lengths])
    found = {batch.length for batch in sets.batches()}
    assert len(found) == 1
    assert max(lengths) <= found.pop() <= max(2 * max(lengths), SMALLEST_BUCKET)


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("size", [1, 5, 16, 37])
@pytest.mark.parametrize("weighted", [False, True])
def test_stacks(as_array, size, weighted, monkeypatch):
    """Stacks on the host and on the device, in one batch or in several, of which the last may not be full."""
    monkeypatch.setattr(module, "batch_of_fits", lambda count, rows: (16, 8))
    xs, weights = made_up([6] * size)
    stack, weight = as_array(np.stack(xs)), as_array(np.stack(weights)) if weighted else None
    sets = as_data_sets(stack, sample_weight=weight)
    assert_batches_hold(sets, xs, weights if weighted else np.ones((size, 6)))


def test_arrays_on_the_device_are_not_copied():
    """A whole stack, and data that all fits share, are passed on as they are if their length needs no padding."""
    x, weight = jnp.ones((16, 24, 2)), jnp.ones((16, 24))
    sets = as_data_sets(x, sample_weight=weight)
    (batch,) = sets.batches()
    found, w = sets.arrays(batch)
    assert found.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
    assert w.unsafe_buffer_pointer() == weight.unsafe_buffer_pointer()
    one = jnp.ones((24, 2))
    shared = as_data_sets(one, num_starts=40)
    pointers = {shared.arrays(batch)[0].unsafe_buffer_pointer() for batch in shared.batches()}
    assert pointers == {one.unsafe_buffer_pointer()}


@pytest.mark.parametrize("weight", [None, np.arange(5.0), np.arange(15.0).reshape(3, 5)])
def test_shared_data(weight):
    """One data set for several fits, with weights of its own, or of each fit, or none."""
    x = np.random.default_rng(0).normal(size=(5, 2))
    sets = as_data_sets(x, sample_weight=weight, num_starts=3)
    assert sets.size == 3
    expected = np.ones((3, 5)) if weight is None else np.broadcast_to(weight, (3, 5))
    assert_batches_hold(sets, [x.astype(sets.dtype)] * 3, expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 3))
def test_batch_takes_its_members(size, extra, first):
    """The entries of a stack are those of the members, then copies of the last one, for NumPy and JAX arrays."""
    stack = np.arange(20).reshape(10, 2)
    members = np.arange(first, min(first + size, 10))
    batch = Batch(members, 5, len(members) + extra, 1)
    expected = stack[[*members, *[members[-1]] * extra]]
    np.testing.assert_array_equal(batch.take(stack), expected)
    np.testing.assert_array_equal(batch.take(jnp.asarray(stack)), expected)
    scattered = Batch(np.array([0, 2, 7]), 5, 3, 1)
    np.testing.assert_array_equal(scattered.take(stack), stack[[0, 2, 7]])


def test_values_too_large_become_infinite():
    """Float64 values beyond float32 are infinite after the cast, without a warning: the fit's status reports them."""
    sets = as_data_sets(np.full((1, 3, 1), 1e300))
    (batch,) = sets.batches()
    assert sets.dtype == np.float32
    assert bool(jnp.isinf(sets.arrays(batch)[0]).all())
