"""How often `compare` says "agree" with one and with two modes: a few of the data sets of benchmarks/verdicts.py."""

import jax
import numpy as np
import pytest
from verdicts import MODEL, PRIOR, classify, mode_masses, random_rows, verdict

import jaxgmm


def test_masses_of_mirrored_rows():
    """Rows that are their own mirror image have two modes of equal mass; with the middle rows on one side, there is one."""
    middle = [-0.1, -0.05, 0.05, 0.1]
    rows = np.array([-5.2, -5.0, -4.8, -5.1, *middle, 4.8, 5.0, 5.1, 5.2])[:, None]
    masses = mode_masses(rows)
    np.testing.assert_allclose(masses, [0.5, 0.5], atol=2e-3)
    assert classify(masses) == "bimodal"
    assert classify(mode_masses(np.where(abs(rows) < 1, rows - 4, rows))) == "unimodal"
    assert classify(np.array([0.99, 0.01])) is None


def of_kind(kind, count):
    """Return the seeds and rows of the first data sets of a kind."""
    seeds = range(kind == "unimodal", 400, 2)
    return [(seed, x) for seed in seeds if classify(mode_masses(x := random_rows(seed))) == kind][:count]


@pytest.mark.slow
def test_a_second_mode_is_never_overlooked():
    """By the benchmark, "agree" is said for none of the bimodal data sets and for nearly all of the unimodal ones."""
    assert "agree" not in [verdict(seed, x)[0] for seed, x in of_kind("bimodal", 10)]
    words = [verdict(seed, x)[0] for seed, x in of_kind("unimodal", 10)]
    assert words.count("agree") >= 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runs of `smc` may disagree on the masses more than on the rest
def test_the_masses_by_quadrature_are_those_of_draws():
    """The mass of the larger mode by `smc` and EM is within 5 of its stated errors of that by quadrature."""
    for seed, x in of_kind("bimodal", 3):
        found = jaxgmm.modes(jaxgmm.smc(jax.random.key(seed), x, PRIOR, num_chains=8, **MODEL), x)
        assert float(found.mass[0]) == pytest.approx(max(mode_masses(x)), abs=5 * float(found.mass_error[0]))
