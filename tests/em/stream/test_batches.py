"""Test batches: what is accepted, what is refused with which sentence, and that the next batch is read ahead."""

import types

import jax
import numpy as np
import pandas
import pytest

import jaxgmm
from jaxgmm.em.stream.batches import Layout, Source
from jaxgmm.row_sums import FirstRows

X = np.arange(12.0, dtype=np.float32).reshape(6, 2)
ONCE = iter([X])


def read(batches, num_features=2):
    return list(Source(batches, Layout(num_features), 2).read())


@pytest.mark.parametrize(
    "batches",
    [
        [X[:4], X[4:]],
        (X[:4], X[4:]),
        lambda: (part for part in (X[:4], X[4:])),
        [jax.numpy.asarray(X[:4]), jax.numpy.asarray(X[4:])],
        [pandas.DataFrame(X[:4]), pandas.DataFrame(X[4:])],
    ],
)
def test_batches_of_all_kinds(batches):
    first, second = read(batches)
    assert (first.place, first.num_rows, second.place, second.num_rows) == (0, 4, 1, 2)
    assert first.x.shape == second.x.shape == (256, 2)
    assert isinstance(first.weight, FirstRows)
    assert int(second.weight.num_rows) == 2
    np.testing.assert_array_equal(np.asarray(first.x)[:4], X[:4])


def test_observations_get_one_form():
    """Each batch gets the parts of the batches before it; their values change nothing."""
    x = np.where(X == 3, np.nan, X)
    parts = [{"labels": [-1, 1, -1, 0, -1, -1]}, {"noise": np.ones((6, 2))}, {"labels": np.eye(2)[[0, 1, 0, 1, 0, 1]] > 0}, {}]
    first, *_, last = read([jaxgmm.observations(X), *(jaxgmm.observations(x, **part) for part in parts)])
    assert first.x.is_plain
    assert last.x.shape == (256, 2)
    assert not last.x.noise.any()
    assert last.x.allowed.all()
    np.testing.assert_array_equal(last.x.observed[:6], x == X)
    assert int(last.weight.num_rows) == 6


class Arrow:
    """The methods of a record batch of Arrow that are used."""

    def __init__(self, x):
        self.x, self.num_columns, self.num_rows = x, x.shape[1], len(x)
        self.schema = types.SimpleNamespace(names=["a", "b"])

    def column(self, i):
        return types.SimpleNamespace(to_numpy=lambda zero_copy_only: self.x[:, i])


def test_record_batches():
    (batch,) = read([Arrow(X)])
    np.testing.assert_array_equal(np.asarray(batch.x)[:6], X)


def test_weights_and_rows_without_weight():
    """Padding has weight 0; a row of weight 0 may hold NaN; a batch without weight is not computed."""
    x = X.copy()
    x[1] = np.nan
    first, second = read([(x, [1, 0, 2, 1, 1, 1]), (X, np.zeros(6))])
    assert first.num_positive == 5
    np.testing.assert_array_equal(np.asarray(first.weight)[:7], [1, 0, 2, 1, 1, 1, 0])
    assert (second.x, second.num_positive, second.num_rows) == (None, 0, 6)


def test_empty_batches_are_counted():
    batches = read([X[:0], X, []])
    assert [(batch.place, batch.num_rows) for batch in batches] == [(0, 0), (1, 6), (2, 0)]


def test_fingerprints_tell_data_apart():
    marks = {read([part])[0].fingerprint for part in (X, X + 1, X[:5], (X, np.ones(6)), (X, np.full(6, 2.0)))}
    assert len(marks) == 5
    assert read([X])[0].fingerprint in marks


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([X, X[:, :1]], r"batch 1: x has 1 features; 2 were expected"),
        ([X, X.astype(float)], r"batch 1: x has dtype float64, and the batches before it float32"),
        ([X, X, np.where(X == 3, np.nan, X)], r"batch 2: x contains NaN in 1 of 6 rows"),
        ([X, (X, -np.ones(6))], r"batch 1: sample_weight"),
        ([(X, None, None)], r"batch 0: it is a tuple of 3 entries"),
        ([X[0]], r"batch 0: x has shape \(2,\)"),
    ],
)
def test_invalid_batches_are_named(batches, message):
    with pytest.raises(ValueError, match=message):
        read(batches)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ((part for part in [X]), "batches is a generator, which can be read only once"),
        (iter([X]), "list_iterator, an iterator, which can be read only once"),
        (lambda: ONCE, "same iterator twice"),
        (X, "batches is one ndarray; a list of batches was expected"),
        (jaxgmm.observations(X), "batches is one Observations; a list of batches was expected"),
        ("x.npy", r"give jaxgmm.read_batches\(name, rows\)"),
        (3, "batches is int"),
        (lambda: 3, r"batches\(\) is int"),
        ([np.array([["a", "b"]])], "batch 0: x holds strings"),
    ],
)
def test_what_cannot_be_read_is_refused(batches, message):
    with pytest.raises(TypeError, match=message):
        read(batches)


def test_every_pass_opens_the_batches_once():
    """A function is called once for each pass, and a single pass may read a generator."""
    calls = []

    def batches():
        calls.append(None)
        return iter([X])

    source = Source(batches, Layout(2), 2)
    assert [len(list(source.read())) for _ in range(3)] == [1, 1, 1]
    assert len(calls) == 3
    assert len(list(Source((part for part in [X]), Layout(2)).read())) == 1


def test_the_next_batch_is_read_ahead():
    """While one batch is used, exactly the next one is read; errors of the source reach the caller."""
    begun = []

    def batches():
        for i in range(4):
            begun.append(i)
            yield X
        raise RuntimeError("the disk is gone")

    found = Source(batches, Layout(2), 2).read()
    next(found)
    assert max(begun) <= 1
    with pytest.raises(RuntimeError, match="disk is gone"):
        list(found)
