"""diagnose: all diagnostics by name, and single components only where labels are identified."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import diagnostics
from jaxgmm.posterior.diagnose import label_invariants

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_mixture


def posterior(covariance_type="full", **stats):
    rng = np.random.default_rng(0)
    one = random_mixture(0, covariance_type, 2, 2, spread=8)
    draws = jax.tree.map(lambda leaf: np.asarray(leaf) * (1 + 0.01 * rng.random((4, 50, *[1] * leaf.ndim))), one)
    return jaxgmm.Posterior(draws, rng.normal(size=(4, 50)), None, np.array(3), stats)


def test_figures_are_those_of_diagnostics():
    """Each quantity has seven diagnostics; statistics that a method does not have are None."""
    plain = posterior()
    found = jaxgmm.diagnose(plain)
    assert found["status"] == "DIVERGENCES"
    assert (found["num_chains"], found["num_samples"]) == (4, 50)
    assert all(found[name] is None for name in ("divergences", "tree_depth", "e_bfmi", "labels_identified", "parameters"))
    for name, draws in ({"log_density": plain.log_density} | label_invariants(plain.mixture)).items():
        quantity = found["label_invariant"][name]
        np.testing.assert_array_equal(quantity["mean"], draws.mean((0, 1)))
        for figure in ("mcse_mean", "mcse_sd", "rhat", "ess_bulk", "ess_tail"):
            np.testing.assert_array_equal(quantity[figure], getattr(diagnostics, figure)(draws))
    energy = np.random.default_rng(1).normal(size=(4, 50))
    stats = {"diverging": np.eye(4, 50) > 0, "tree_depth": np.full((4, 50), 3), "energy": energy}
    found = jaxgmm.diagnose(posterior(**stats))
    assert (found["divergences"], found["tree_depth"]) == (4, 3)
    np.testing.assert_array_equal(found["e_bfmi"], diagnostics.e_bfmi(energy))


def test_components_wait_for_labels():
    """They are diagnosed after relabelling, and only if it found the labels identified."""
    assert jaxgmm.diagnose(posterior(labels_identified=np.array(False)))["parameters"] is None
    named = posterior(labels_identified=np.array(True))
    found = jaxgmm.diagnose(named)["parameters"]
    assert {name: figures["rhat"].shape for name, figures in found.items()} == {
        "weights": (2,),
        "means": (2, 2),
        "covariances": (2, 2, 2),
    }
    np.testing.assert_array_equal(found["means"]["rhat"], diagnostics.rhat(named.mixture.means))


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_label_invariants(covariance_type):
    """They do not depend on the order of the components, and are the moments of the mixture."""
    mixture = random_mixture(0, covariance_type, 3, 2)
    swapped = dataclasses.replace(
        mixture,
        weights=mixture.weights[::-1],
        means=mixture.means[::-1],
        covariances=jaxgmm.covariance.permute(mixture.covariances, jnp.array([2, 1, 0]), covariance_type),
    )
    found, again = label_invariants(mixture), label_invariants(swapped)
    for name in found:
        np.testing.assert_allclose(found[name], again[name], rtol=1e-6)
    x, _ = jaxgmm.sample(jax.random.key(0), mixture, 20000)
    np.testing.assert_allclose(found["overall_mean"], x.mean(0), atol=0.2)
    np.testing.assert_allclose(found["overall_sd"], x.std(0), rtol=0.05)


def test_refused():
    """Invalid arguments raise errors that name them."""
    one = posterior()
    with pytest.raises(TypeError, match="posterior is Mixture"):
        jaxgmm.diagnose(one.mixture)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(jaxgmm.diagnose)(one)
    with pytest.raises(ValueError, match="leading axes"):
        jaxgmm.diagnose(jax.tree.map(lambda leaf: leaf[None], one))
