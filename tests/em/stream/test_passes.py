"""Test the parts of a pass: the origin of the coordinates, and sums of batches that add up."""

import numpy as np
from streamed_problem import problem

from jaxgmm.em.stream import passes
from jaxgmm.em.stream.batches import Layout


def test_the_origin_is_that_of_the_rows_with_weight(x64):
    """The first row of positive weight, and the weighted mean of the batch without its padding."""
    x, w = np.array([[np.nan, 1.0], [3.0, 5.0], [9.0, 2.0]]), np.array([0.0, 1.0, 2.0])
    origin = passes.origin_of(Layout(2).batch((x, w), 0))
    np.testing.assert_array_equal(origin.first, [3.0, 5.0])
    np.testing.assert_allclose(origin.center, [7.0, 3.0])
    np.testing.assert_allclose(passes.origin_of(Layout(2).batch(x[1:], 0)).center, [6.0, 3.5])


def test_sums_of_batches_add_up(x64):
    """A pass counts batches and rows, and sums the weights; a batch without weight only counts."""
    start, x, w, batches = problem()
    layout, done = Layout(3), passes.Pass(passes.with_error(passes.zero_sums(start)))
    origin = passes.origin_of(layout.batch(batches[0], 0))
    trial = passes.first_trial(start, origin, np.asarray(0.0))
    for i, batch in enumerate([*batches, (x, np.zeros(200))]):
        passes.add_batch(done, layout.batch(batch, i), trial, origin)
    assert (done.next_batch, done.num_rows, done.num_positive) == (8, 400, (w > 0).sum())
    np.testing.assert_allclose(done.sums[0][0].sum(), w.sum(), rtol=1e-12)
    assert done.sums[1] is None
