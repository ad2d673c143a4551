"""label_assignment: permutations that match mixtures to a reference, and their gains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import covariance
from jaxgmm.component_order import permute_components
from jaxgmm.posterior.label_assignment import (
    METHODS,
    _agreement_scores,
    _divergence_scores,
    match_labels,
    relabel_mixtures,
)

from helpers import COVARIANCE_TYPES, OTHER_TWO_COVARIANCE_TYPES, random_data, random_mixture, slow_unless


def permuted_copies(mixture, num_copies):
    """Return copies (M, ...) of one mixture in random orders, and these orders (M, K)."""
    rng = np.random.default_rng(1)
    orders = jnp.array([rng.permutation(mixture.num_components) for _ in range(num_copies)])
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_copies), mixture)
    return permute_components(copies, orders), orders


CASES = [(method, covariance_type) for method in METHODS for covariance_type in COVARIANCE_TYPES]


@pytest.mark.parametrize(
    ("method", "covariance_type"),
    slow_unless(CASES, [("assignment", "full"), ("stephens", "diag"), ("kl", "spherical")]),
)
def test_relabelling_restores_permuted_copies(covariance_type, method):
    """Copies of the reference return to its order, with the permutation that undoes theirs."""
    mixture = random_mixture(0, covariance_type, 3, 2, spread=8)
    x = jnp.asarray(mixture.means).repeat(5, 0)
    draws, orders = permuted_copies(mixture, 7)
    found, matching = relabel_mixtures(draws, mixture, x, method=method)
    for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(mixture), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(expected, leaf.shape))
    np.testing.assert_array_equal(matching.order, np.argsort(orders, -1))
    assert (matching.margin > 0.9).all()


def test_exchangeable_components_alone_change_places():
    """A permutation is found only among those that `exchangeable` allows."""
    mixture = random_mixture(0, "diag", 3, 2, spread=8)
    draws = permute_components(mixture, jnp.array([2, 1, 0]))
    draws = jax.tree.map(lambda leaf: leaf[None], draws)
    exchangeable = jnp.array([[True, True, False], [True, True, False], [False, False, True]])
    order = match_labels(draws, mixture, method="kl", exchangeable=exchangeable).order
    assert order[0, 2] == 2
    np.testing.assert_array_equal(match_labels(draws, mixture, method="kl").order, [[2, 1, 0]])


def test_data_are_required_except_by_kl():
    """The error of the methods that compare responsibilities says what to do."""
    mixture = random_mixture(0, "full", 2, 2)
    with pytest.raises(ValueError, match="give x, or use method 'kl'"):
        match_labels(jax.tree.map(lambda leaf: leaf[None], mixture), mixture)


def test_agreement_scores(x64):
    """The scores of "assignment" are weighted sums of products of responsibilities."""
    mixture, x = random_mixture(0, "full", 4, 2, spread=1.5), jnp.asarray(random_data(0, 40, 2, 4, spread=1.5))
    table, weight = jaxgmm.responsibilities(mixture, x), jnp.arange(40.0)
    found = _agreement_scores(jax.tree.map(lambda leaf: leaf[None], mixture), table, x, weight)
    np.testing.assert_allclose(found[0], np.asarray(table * weight[:, None]).T @ table, rtol=1e-10)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_divergence_scores_between_mixtures(covariance_type, x64):
    """The scores of "kl" are -w_j (log w_j / w_k + KL(N_j, N_k)), computed here with NumPy."""
    reference, draw = random_mixture(0, covariance_type, 3, 2), random_mixture(1, covariance_type, 3, 2)
    found = _divergence_scores(jax.tree.map(lambda leaf: leaf[None], draw), reference)[0]
    a, b = (np.asarray(covariance.to_dense(m.covariances, covariance_type, 3, 2)) for m in (reference, draw))
    for j, k in itertools.product(range(3), range(3)):
        precision, shift = np.linalg.inv(b[k]), np.asarray(draw.means[k] - reference.means[j])
        kl = np.trace(precision @ a[j]) + shift @ precision @ shift - 2 + np.log(np.linalg.det(b[k]) / np.linalg.det(a[j]))
        w, v = reference.weights[j], draw.weights[k]
        np.testing.assert_allclose(found[j, k], -w * (np.log(w / v) + kl / 2), rtol=1e-10)
