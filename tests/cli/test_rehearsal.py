"""Test the rehearsal: it compiles what the comparison calls, and is neither seen nor waited for."""

import threading

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.rehearsal import (
    Rehearsal,
    is_tiny,
    is_worthwhile,
    rehearse_approximation,
    rehearse_comparison,
    stand_in,
)
from jaxgmm.comparison import point_vs_posterior
from jaxgmm.posterior import gaussian_approximation

from helpers import COVARIANCE_TYPES, fake_method, fitted, random_data, slow_unless


@pytest.mark.parametrize("covariance_type", slow_unless(COVARIANCE_TYPES, ("diag",)))
def test_the_stand_in_is_a_posterior(covariance_type):
    """Its shapes and dtypes are those of a sampler, and it can be relabelled."""
    x = random_data(0, 40, 2, 2).astype(np.float32)
    fit, prior = fitted(x, 2, covariance_type)
    posterior = stand_in(fit, prior, 3, 5)
    assert posterior.mixture.batch_shape == (3, 5)
    assert posterior.log_density.shape == (3, 5)
    assert posterior.mixture.covariance_type == covariance_type
    assert {leaf.dtype for leaf in jax.tree.leaves(posterior.mixture)} == {np.dtype(np.float32)}
    assert np.isfinite(jaxgmm.log_prob(posterior.mixture, x)).all()
    assert jaxgmm.relabel(posterior, fit.mixture, x).mixture.batch_shape == (3, 5)


def test_the_comparison_finds_its_programs_compiled(monkeypatch):
    """The rehearsal of the comparison traces no NumPyro model; the real comparison compiles no large program again."""
    x = random_data(1, 37, 2, 2).astype(np.float32)
    fit, prior = fitted(x, 2)
    with monkeypatch.context() as patch:
        patch.setattr("numpyro.primitives.apply_stack", None)  # so that a NumPyro site would raise
        rehearse_comparison(fit, stand_in(fit, prior, 2, 20), x)
    rehearse_approximation(x, prior, 2, "full")
    programs = [point_vs_posterior.refit, point_vs_posterior._errors, gaussian_approximation.approximate_posterior]
    sizes = [program._cache_size() for program in programs]
    assert min(sizes) >= 1
    posterior = fake_method("nuts", [])(jax.random.key(0), fit.mixture, x, prior, num_chains=2, num_samples=20)
    comparison = jaxgmm.compare(fit, posterior, x)
    assert [program._cache_size() for program in programs] == sizes
    assert all(np.isfinite(row.em_se) for row in comparison.rows)


def test_long_comparisons_are_not_rehearsed():
    assert is_worthwhile(2, np.zeros((272, 2)), 4000)
    assert not is_worthwhile(2, np.zeros((100_000, 2)), 4000)
    assert is_tiny(2, np.zeros((272, 2)), 4000)
    assert not is_tiny(3, np.zeros((4000, 4)), 4000)


def test_jit_finds_what_was_rehearsed():
    compiled = []

    @jax.jit
    def double(x):
        compiled.append(threading.current_thread().name)
        return 2 * x

    Rehearsal(lambda: double(np.ones(3, np.float32))).wait()
    assert double(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    assert compiled == ["jaxgmm-rehearsal"]
