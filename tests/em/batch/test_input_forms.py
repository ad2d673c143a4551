"""Every form of input gives the same data sets, or an error that names what was expected."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxgmm
from jaxgmm.em.batch.input_forms import as_data_sets

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=12).filter(any)


def made_up(lengths):
    """Return data sets of these lengths and their weights."""
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
    return xs, [rng.integers(0, 4, n).astype(np.float32) for n in lengths]


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_groups(lengths, random):
    """Rows in any order with labels give the data sets of a list, in the order of the labels; empty groups do not exist."""
    xs, weights = made_up([n for n in lengths if n])
    labels = np.repeat([f"set {b:02d}" for b in range(len(xs))], [len(x) for x in xs])
    order = list(range(len(labels)))
    random.shuffle(order)
    sets = as_data_sets(np.concatenate(xs)[order], labels[order], np.concatenate(weights)[order])
    assert sets.size == len(xs)
    for b, (x, weight) in enumerate(zip(xs, weights, strict=True)):
        given_rows, found = np.column_stack([x, weight]), np.column_stack([sets.x[b], sets.weight[b]])
        np.testing.assert_array_equal(found[np.lexsort(found.T)], given_rows[np.lexsort(given_rows.T)])


@settings(max_examples=30, deadline=None)
@given(LENGTHS)
def test_pad(lengths):
    """The stack holds the rows of each data set with weight 1, then zeros with weight 0."""
    xs, _ = made_up(lengths)
    x, weight = map(np.asarray, jaxgmm.pad(xs))
    assert x.shape == (len(xs), max(lengths), 2)
    for one, rows, w in zip(xs, x, weight, strict=True):
        np.testing.assert_array_equal(rows[: len(one)], one)
        np.testing.assert_array_equal(w, np.arange(max(lengths)) < len(one))
        assert not rows[len(one) :].any()


def test_dtypes(x64):
    """The widest float of the data sets is kept; integers become the default float."""
    single, double = np.ones((3, 1), np.float32), np.ones((3, 1))
    assert as_data_sets([single, single]).dtype == np.float32
    assert as_data_sets([single, double]).dtype == np.float64
    assert as_data_sets([np.ones((3, 1), int)]).dtype == np.float64
    assert as_data_sets(jnp.ones((2, 3, 1), jnp.float32)).dtype == np.float32


def test_errors():
    """Errors say what was expected and what was given."""
    x = np.ones((3, 4, 2))
    for arguments, message in [
        (([np.ones((4, 2)), np.ones((4, 3))],), r"xs\[1\] has 3 features"),
        (([np.ones(4)],), r"xs\[0\] has shape \(4,\); \(N, D\) was expected"),
        ((np.ones((4, 2)), [1, 2]), "one label per row"),
        ((np.ones((4, 2)), [1, 1, 2, 2], np.ones(3)), "one weight per row"),
        ((list(x), [0, 1]), "omit groups"),
        ((x, [0, 1]), r"\(N, D\) to go with groups"),
        ((x[0],), "see fit_restarts"),
        (([],), "no data set"),
        ((x, None, -np.ones((3, 4))), "negative"),
        ((jnp.asarray(x), None, -jnp.ones((3, 4))), "negative"),
        ((x, None, np.ones((2, 4))), "2 members"),
        ((x, None, np.ones((3, 5))), r"sample_weight\[0\] has shape \(5,\)"),
        ((x[0], None, np.ones(3), 2), r"sample_weight\[0\] has shape \(3,\)"),
        ((list(x), None, [np.ones(4)] * 2 + [np.ones(3)]), r"sample_weight\[2\] has shape \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            as_data_sets(*arguments)
