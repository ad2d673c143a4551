"""Test EM over batches of observations: step by step it is the EM of all rows in memory, also after interruptions."""

import jax
import numpy as np
import pytest
from streamed_problem import Failing, Interrupted

import jaxgmm
from jaxgmm.em.stream import run

from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_prior

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
CUTS = [12, 30, 30, 45]  # complete rows, missing values, no rows, noise, and labels or limits
OPTIONS = {"tol": 0.0, "max_iter": 4}


def incomplete(extras, dtype=float):
    """Return rows of three clusters as one set of observations, and in batches that differ in what they lack."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) + 2.5 * rng.integers(0, 3, 60)[:, None]
    weight = rng.gamma(2.0, size=60)
    gone = (np.arange(60) >= 12)[:, None] & (rng.random((60, 3)) < 0.3)
    gone[np.arange(60), rng.integers(0, 3, 60)] = False
    fields = {"sample_weight": weight}
    if "noise" in extras:
        fields["noise"] = (np.arange(60) >= 30)[:, None] * rng.gamma(1.0, 0.2, size=(60, 3))
    if "matrices" in extras:
        fields["noise"] = (np.arange(60) >= 30)[:, None, None] * np.cov(rng.normal(size=(3, 9)))
    if "labels" in extras:
        fields["labels"] = np.where(np.arange(60) < 45, -1, rng.integers(-1, 3, 60))
    x = np.where(gone, np.nan, x).astype(dtype)
    limits = np.where(gone & (gone.cumsum(1) == 1) & (np.arange(60) >= 45)[:, None], 1.0, np.inf)
    upper = {"upper": limits} if "limits" in extras else {}

    def made(x, upper=None, **fields):
        return jaxgmm.observations(x, limits=None if upper is None else (None, upper), **fields)

    parts = zip(np.split(x, CUTS), *(np.split(field, CUTS) for field in (fields | upper).values()), strict=True)
    batches = [made(part, **dict(zip(fields | upper, rest, strict=True))) for part, *rest in parts if len(part)]
    return made(x, **fields, **upper), batches


def assert_same(found, expected, rtol=1e-10):
    np.testing.assert_allclose(found.history, expected.history, rtol=rtol)
    assert_mixtures_close(found.mixture, expected.mixture, 10 * rtol)
    assert (int(found.num_iter), int(found.status)) == (int(expected.num_iter), int(expected.status))


def test_steps_are_those_in_memory_despite_interruptions(x64, tmp_path, monkeypatch):
    """Each step is that of `fit`, to 1e-10. Interruptions in any of the kinds of passes do not change a bit."""
    monkeypatch.setattr(run, "SECONDS_BETWEEN_WRITES", -1.0)
    whole, batches = incomplete({"noise"})
    start = jaxgmm.make_mixture([1.0], [[1.0, 2.0, 3.0]], 4 * np.eye(3)[None])
    found = jaxgmm.fit_batches(start, batches, **OPTIONS)
    assert_same(found, jaxgmm.fit(start, whole, **OPTIONS))
    path = tmp_path / "run.npz"
    for place in ((1, 2), (3, 1), (1, 0), (9, 2)):  # over columns, of the fit of one component, and of the fit itself
        with pytest.raises(Interrupted):
            jaxgmm.fit_batches(start, Failing(batches, place), checkpoint=path, **OPTIONS)
    again = jaxgmm.fit_batches(start, batches, checkpoint=path, **OPTIONS)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="belongs to another fit: its observations is true, here it is false"):
        jaxgmm.fit_batches(start, [np.ones((4, 3))], checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match="online=True and batches of Observations"):
        jaxgmm.fit_batches(start, batches, online=True)


@pytest.mark.slow
@pytest.mark.parametrize("regularisation", [None, "prior", "reg_covar"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_all_types_and_parts(kind, regularisation, x64):
    """The same holds with noise, labels, limits, each covariance type and regularisation; starts are equal too."""
    prior = random_prior(0, kind, d=3) if regularisation == "prior" else None
    options = OPTIONS | {"reg_covar": 1e-6 if regularisation == "reg_covar" else None}
    key, choice = jax.random.key(0), {"num_components": 3, "covariance_type": kind}
    for extras in ({}, {"noise", "labels"}, {"matrices"}, {"limits"}):
        whole, batches = incomplete(extras)
        start = jaxgmm.initialize_batches(key, batches, **choice)
        assert_mixtures_close(start, jaxgmm.initialize(key, whole, **choice), 1e-9)
        assert_same(jaxgmm.fit_batches(start, batches, prior, **options), jaxgmm.fit(start, whole, prior, **options))


@pytest.mark.slow
def test_fits_in_float32():
    """In float32, the fit converges where `fit` converges, with acceleration too."""
    whole, batches = incomplete({"noise"}, np.float32)
    start = jaxgmm.initialize_batches(jax.random.key(0), batches, num_components=2, covariance_type="diag")
    for accelerate in (False, True):
        found = jaxgmm.fit_batches(start, batches, accelerate=accelerate)
        expected = jaxgmm.fit(start, whole, accelerate=accelerate)
        assert found.converged
        np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=1e-5)


def test_columns_without_values_are_refused(x64):
    """A column without values needs a prior; a batch of another kind is named."""
    start = jaxgmm.make_mixture([1.0], [[1.0, 2.0, 3.0]], 4 * np.eye(3)[None])
    whole, batches = incomplete({"noise"})
    x = np.where([True, False, True], 1.0 * np.arange(4)[:, None], np.nan)
    with pytest.raises(ValueError, match="x has no value in column 1; leave the column out, or use a prior"):
        jaxgmm.fit_batches(start, [jaxgmm.observations(x)] * 2, **OPTIONS)
    with pytest.raises(ValueError, match="batch 1: x is an array, and the batches before it are Observations"):
        jaxgmm.fit_batches(start, [whole, np.ones((4, 3))], **OPTIONS)
    with pytest.raises(ValueError, match="batch 1: x is Observations, and the batches before it are an array"):
        jaxgmm.fit_batches(start, [np.ones((4, 3)), *batches], **OPTIONS)
    with pytest.raises(ValueError, match="batch 1: sample_weight was given with Observations"):
        jaxgmm.fit_batches(start, [whole, (whole, np.ones(60))], **OPTIONS)
    labelled = jaxgmm.observations(x[:, [0, 0, 2]], labels=[-1, 1, -1, 0])
    with pytest.raises(ValueError, match="batch 1: labels has the value 1"):
        jaxgmm.fit_batches(start, [whole, labelled], **OPTIONS)
