"""Test EM over batches: step by step it is the EM of all rows in memory, and invalid input is refused."""

import jax
import numpy as np
import pytest
from streamed_problem import OPTIONS, problem

import jaxgmm
from jaxgmm.em.stream import passes
from jaxgmm.em.stream.sums import additive_sums

from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_prior


def assert_same_fit(found, expected, rtol=1e-10):
    np.testing.assert_allclose(found.history, expected.history, rtol=rtol)
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=rtol)
    np.testing.assert_array_equal(found.component_status, expected.component_status)
    assert_mixtures_close(found.mixture, expected.mixture, rtol)
    assert (int(found.num_iter), int(found.status)) == (int(expected.num_iter), int(expected.status))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_are_those_in_memory(x64, monkeypatch):
    """In float64, each step in seven unequal batches is that of `fit`, to 1e-10."""
    start, x, w, batches = problem()
    expected = jaxgmm.fit(start, x, sample_weight=w, **OPTIONS)
    traced = []
    monkeypatch.setattr(passes, "additive_sums", lambda *args: traced.append(None) or additive_sums(*args))
    found = jaxgmm.fit_batches(start, batches, **OPTIONS)
    assert len(traced) <= 1, "one program serves all batches"
    assert_same_fit(found, expected)
    np.testing.assert_allclose(jaxgmm.log_prob(found, x) @ w, found.log_likelihood, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("regularisation", [None, "prior", "reg_covar"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_all_options_in_batches(kind, regularisation, accelerate, x64):
    """Regularisations, accelerated steps and convergence agree with `fit` for each covariance type."""
    start, x, w, batches = problem(kind)
    prior = random_prior(0, kind) if regularisation == "prior" else None
    reg_covar = 1e-6 if regularisation == "reg_covar" else None
    options = {"reg_covar": reg_covar, "accelerate": accelerate and reg_covar is None, "tol": 1e-7}
    assert_same_fit(
        jaxgmm.fit_batches(start, batches, prior, **options), jaxgmm.fit(start, x, prior, sample_weight=w, **options), 1e-8
    )
    found = jaxgmm.fit_batches(start, [x for x, _ in batches], prior, **options)
    assert_same_fit(found, jaxgmm.fit(start, x, prior, **options), 1e-8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_sums_in_float32_are_compensated():
    """The log-likelihood of 20000 batches in float32 is that of one batch, up to its rounding error."""
    start, x, _, _ = problem()
    start, x = jax.tree.map(np.float32, (start, x[:20]))
    options = {"tol": 0.0, "max_iter": 0}
    one, many = (jaxgmm.fit_batches(start, [x] * n, **options) for n in (1, 20000))
    np.testing.assert_allclose(many.log_likelihood, 20000 * one.log_likelihood, rtol=3e-7)


def test_batches_without_rows_are_refused():
    start, x, _, _ = problem()
    for batches in ([], [x[:0]]):
        with pytest.raises(ValueError, match="batches holds no rows"):
            jaxgmm.fit_batches(start, batches)


def test_invalid_arguments_are_refused(tmp_path):
    """Options are checked before the first pass, and so is the path of the checkpoint."""

    def unread():
        raise AssertionError("the data were read")
        yield

    start, *_ = problem()
    for options, message in (
        ({"tol": -1.0}, "tol is -1"),
        ({"max_iter": 1.5}, "max_iter is 1.5"),
        ({"accelerate": True, "reg_covar": 0.0}, "accelerate and reg_covar"),
        ({"progress": "yes"}, "progress is 'yes'"),
        ({"checkpoint": tmp_path / "none" / "run.npz"}, "is no folder that can be written to"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jaxgmm.fit_batches(start, unread, **options)
    with pytest.raises(TypeError, match="call fit_batches outside jit"):
        jax.jit(lambda start: jaxgmm.fit_batches(start, unread))(start)


def test_a_source_that_shrinks_is_refused(x64):
    """The second pass must read as many rows as the first one."""
    start, _, _, batches = problem()
    left = [len(batches), len(batches) - 1]
    with pytest.raises(ValueError, match="held 200 rows in the first pass and 190 in pass 2"):
        jaxgmm.fit_batches(start, lambda: iter(batches[: left.pop(0)]), **OPTIONS)


def test_constant_columns_and_few_rows(x64):
    """A constant column is named in a warning; fewer rows than components are refused."""
    start, x, w, _ = problem()
    x[:, 1] = 7.0
    with pytest.warns(RuntimeWarning) as found:
        jaxgmm.fit_batches(start, [(x[:3], w[:3]), (x[3:], w[3:])], **OPTIONS)
    assert any("constant in column 1:" in str(warning.message) for warning in found)
    with pytest.raises(ValueError, match="x has 2 rows and the mixture 3 components"):
        jaxgmm.fit_batches(start, [(x[:2], np.ones(2))], **OPTIONS)
