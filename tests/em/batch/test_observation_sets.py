"""fit_many of observations: the fits of a loop, whatever fields the sets have, and in all forms of data."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.batch.input_forms import sets_of_observations

from helpers import random_data

OPTIONS = {"tol": 1e-6, "max_iter": 300}


def rows_of(seed, n, noise=None, labels=None):
    """Return two clusters with weights; a fifth of the values is missing."""
    rng = np.random.default_rng(seed)
    x = random_data(seed, n=n, d=2) + 6 * (np.arange(n) % 2)[:, None]
    weight = 1.0 + rng.integers(2, size=n)
    missing = (rng.random(x.shape) < 0.2) & (np.arange(2) == rng.integers(2, size=(n, 1)))
    return jaxgmm.observations(x, missing=missing, noise=noise, labels=labels, sample_weight=weight)


def some_sets():
    """Return sets of which each has other fields and another length."""
    labels = np.where(np.arange(23) % 4, -1, np.arange(23) % 2)
    return [rows_of(0, 20), rows_of(1, 24, noise=np.diag([0.1, 0.2])), rows_of(2, 23, labels=labels, noise=np.full(2, 0.1))]


def assert_same(many, others, rtol):
    """Compare the fits of a batch with single fits: steps and statuses exactly."""
    for b, one in enumerate(others):
        for a, c in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[b], c, rtol=rtol, atol=rtol)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_list_gives_the_fits_of_a_loop():
    """The starts of a key are those of `initialize`, and all fields agree to 1e-10. The float32 list below is a small twin."""
    sets, keys = some_sets(), jax.random.split(jax.random.key(0), 3)
    many = jaxgmm.fit_many(jax.random.key(0), sets, num_components=2, **OPTIONS)
    starts = [jaxgmm.initialize(key, rows, num_components=2) for key, rows in zip(keys, sets, strict=True)]
    fits = [jaxgmm.fit(start, rows, **OPTIONS) for start, rows in zip(starts, sets, strict=True)]
    assert_same(many, fits, 1e-10)


def three_parts():
    """Return a set of rows, its three parts as a list and as a stack, a start, and three copies of the start."""
    long = rows_of(0, 60)
    parts = [jax.tree.map(lambda leaf, b=b: leaf[b::3], long) for b in range(3)]
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [6.0, 6.0]], [np.eye(2)] * 2)
    return long, parts, stack, start, jax.tree.map(lambda leaf: np.stack([leaf] * 3), start)


@pytest.mark.usefixtures("x64")
def test_stacks_groups_and_shared_rows_give_the_fits_of_a_loop():
    """A stack, rows with group labels, and one set with several starts and weights."""
    long, parts, stack, start, starts = three_parts()
    loop = [jaxgmm.fit(start, part, **OPTIONS) for part in parts]
    assert_same(jaxgmm.fit_many(starts, stack, **OPTIONS), loop, 1e-10)
    assert_same(jaxgmm.fit_many(starts, long, groups=np.arange(60) % 3, **OPTIONS), loop, 1e-10)
    weights = np.random.default_rng(0).integers(3, size=(3, 60)).astype(float)
    weighted = [dataclasses.replace(long, weight=long.weight * weight) for weight in weights]
    loop = [jaxgmm.fit(start, rows, **OPTIONS) for rows in weighted]
    assert_same(jaxgmm.fit_many(starts, long, sample_weight=weights, **OPTIONS), loop, 1e-10)
    grouped = dataclasses.replace(long, method="patterns")
    assert_same(jaxgmm.fit_many(starts, grouped, sample_weight=weights, **OPTIONS), loop, 1e-10)


@pytest.mark.usefixtures("x64")
def test_shared_rows_are_grouped_by_pattern():
    """With many rows and few patterns, without being told so; labels and common weights are kept."""
    long = rows_of(0, 1100, labels=np.where(np.arange(1100) % 9, -1, np.arange(1100) % 2))
    starts = jax.tree.map(lambda leaf: np.stack([leaf] * 2), jaxgmm.initialize(jax.random.key(0), long, num_components=2))
    assert sets_of_observations(long, None, None, 2, (2, "full")).blocks is not None
    many = jaxgmm.fit_many(starts, long, **OPTIONS)
    one = jaxgmm.fit(starts[0], dataclasses.replace(long, method="rows"), **OPTIONS)
    assert_same(many, [one, one], 1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_vmap_and_jit_give_the_fits_of_a_loop():
    """`fit` under vmap, and `fit_many` under jit."""
    _, parts, stack, start, starts = three_parts()
    loop = [jaxgmm.fit(start, part, **OPTIONS) for part in parts]
    assert_same(jax.vmap(lambda rows: jaxgmm.fit(start, rows, **OPTIONS))(stack), loop, 1e-10)
    assert_same(jax.jit(lambda rows: jaxgmm.fit_many(starts, rows, **OPTIONS))(stack), loop, 1e-10)


def test_float32_agrees_with_a_loop():
    """In float32, the log-likelihoods of a list agree with those of a loop."""
    sets = [rows_of(seed, 20, noise=np.full(2, 0.1)) for seed in range(2)]
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [6.0, 6.0]], [np.eye(2)] * 2)
    many = jaxgmm.fit_many(jax.tree.map(lambda leaf: np.stack([leaf] * 2), start), sets, **OPTIONS)
    fits = [jaxgmm.fit(start, rows, **OPTIONS) for rows in sets]
    assert many.log_likelihood.dtype == np.float32
    np.testing.assert_allclose(many.log_likelihood, [fit.log_likelihood for fit in fits], rtol=1e-4)


def test_sets_that_do_not_match_are_refused():
    """Other members of a list, weights beside observations, labels beyond K and groups of another length are named."""
    rows = rows_of(0, 20)
    stack = jax.tree.map(lambda leaf: np.stack([leaf] * 2), rows)
    labelled = rows_of(1, 20, labels=np.arange(20) % 3)
    cases = [
        (TypeError, r"xs\[1\] is ndarray", [rows, np.ones((5, 2))], {}),
        (ValueError, "give the weights to jaxgmm.observations", [rows], {"sample_weight": [np.ones(20)]}),
        (ValueError, "xs is a list, which is grouped already", [rows], {"groups": np.ones(20)}),
        (ValueError, "groups has shape", rows, {"groups": np.ones(3)}),
        (ValueError, "groups has shape", stack, {"groups": np.ones(20)}),
        (ValueError, "labels has the value 2", [labelled], {}),
        (ValueError, "several sets were expected", rows, {}),
    ]
    for error, message, xs, options in cases:
        with pytest.raises(error, match=message):
            jaxgmm.fit_many(jax.random.key(0), xs, num_components=2, **options)


@pytest.mark.usefixtures("x64")
def test_one_bad_set_changes_no_other():
    """A column without values, and rows of weight 0 only, do not raise; the other fits do not change by a bit."""
    x = np.where([True, False], random_data(0, n=20, d=2), np.nan)
    good, column = rows_of(0, 20), jaxgmm.observations(x)
    silent = dataclasses.replace(good, weight=np.zeros(20))
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [6.0, 6.0]], [np.eye(2)] * 2)
    starts = jax.tree.map(lambda leaf: np.stack([leaf] * 3), start)
    clean = jaxgmm.fit_many(starts, [good, good, good], **OPTIONS)
    mixed = jaxgmm.fit_many(starts, [good, column, silent], **OPTIONS)
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert mixed.status[2] == jaxgmm.Status.EMPTY_DATA
