"""The sweep of the telescoping sampler: the law of the number of components given the clusters, and the first states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_evidence import allocation_terms
from scipy.special import gammaln, logsumexp

import jaxgmm
from jaxgmm.posterior import telescope_moves as module
from jaxgmm.posterior.conditionals import LabelledData

PRIOR_ON_K = np.array([0.5, 0.3, 0.2])
X = np.array([[0.0], [0.4], [3.0], [3.5], [-1.0]])


def prior_of(k, concentration):
    values = (np.full(k, concentration), [0.5], 0.5, 4.0, [[2.0]])
    return jaxgmm.Prior(*(jnp.asarray(value, jnp.float32) for value in values))


def largest_difference(dynamic):
    """Return the largest difference between p(K | clusters) and its value by summing over all labellings of five points."""
    concentration = 0.7 / np.arange(1, 4) if dynamic else np.full(3, 0.7)
    joint, counts = {}, {}
    for k in range(1, 4):
        terms, _ = allocation_terms(X, prior_of(k, concentration[k - 1]), "full")
        for labels, term in zip(itertools.product(range(k), repeat=len(X)), terms, strict=True):
            clusters = tuple(list(dict.fromkeys(labels)).index(label) for label in labels)  # names in order of appearance
            joint.setdefault(clusters, np.zeros(3))[k - 1] += PRIOR_ON_K[k - 1] * np.exp(term)
            counts[clusters] = np.bincount(clusters, minlength=3)
    law = module.NumberPrior(jnp.log(PRIOR_ON_K), jnp.asarray(concentration))
    clusters = list(joint)
    found = jax.jit(jax.vmap(lambda n: jax.nn.softmax(module.log_prob_given_clusters(n, law))))(
        jnp.array([np.roll(counts[c], i) for i, c in enumerate(clusters)], jnp.float32)  # the order of the counts is free
    )
    expected = np.stack([joint[c] / joint[c].sum() for c in clusters])
    return np.abs(np.asarray(found) - expected).max()


@pytest.mark.parametrize("dynamic", [False, True])
def test_number_given_clusters_is_exact(dynamic):
    """p(K | clusters) is that of all labellings with the same clusters."""
    assert largest_difference(dynamic) < 1e-5


@pytest.mark.parametrize(("factor", "dynamic"), [("gammaln", False), ("betaln", False), ("gammaln", True), ("betaln", True)])
def test_a_forgotten_factor_is_seen(monkeypatch, factor, dynamic):
    """Without K! / (K - K+)!, or without the ratios of gamma functions, the test above fails."""
    monkeypatch.setattr(module, factor, lambda *args: sum(0.0 * a for a in args))
    assert largest_difference(dynamic) > 0.1


log_prob = jax.jit(lambda counts, law: jax.nn.log_softmax(module.log_prob_given_clusters(counts, law)))


def test_large_counts_are_accurate_in_float32():
    """With a million rows, log gamma functions are about 1e7, and their float32 values are one apart."""
    counts = np.array([4e5, 5e5, 1e5, 0.0, 0.0, 0.0])
    k = np.arange(1, 7)
    for c in (np.full(6, 1.0), 0.5 / k):
        law = module.NumberPrior(jnp.zeros(6), jnp.asarray(c, jnp.float32))
        found = log_prob(jnp.asarray(counts, jnp.float32), law)
        of_clusters = (gammaln(counts[:3] + c[:, None]) - gammaln(c[:, None])).sum(1)
        expected = gammaln(k + 1) - gammaln(np.maximum(k - 3, 0) + 1) + gammaln(c * k) - gammaln(c * k + 1e6) + of_clusters
        np.testing.assert_allclose(found[2:], expected[2:] - logsumexp(expected[2:]), atol=1e-3)
        assert (np.asarray(found[:2]) == -np.inf).all()


def test_without_rows_the_prior_remains():
    prior = np.float32([*PRIOR_ON_K, 0, 0, 0])
    found = log_prob(jnp.zeros(6), module.NumberPrior(jnp.log(prior), jnp.ones(6)))
    np.testing.assert_allclose(np.exp(found), prior, rtol=1e-5)


def test_present_components():
    """All occupied components are present, and the first empty ones as far as they are needed."""
    counts = jnp.array([0.0, 3.0, 0.0, 2.0, 0.0])
    assert module.choose_present(counts, jnp.array(2)).tolist() == [False, True, False, True, False]
    assert module.choose_present(counts, jnp.array(4)).tolist() == [True, True, True, True, False]


def test_first_states():
    """The number of components lies between 1 and the largest K that is possible; means are rows of positive weight."""
    y = jnp.arange(6.0)[:, None]
    data = LabelledData(y, jnp.array([1.0, 1, 0, 2, 0, 1]))
    law = module.NumberPrior(jnp.log(jnp.array([0.5, 0.3, 0.2, 0.0])), jnp.ones(4))
    start = jax.jit(lambda share: module.first_state(jax.random.key(0), data, law, share, "diag"))
    for share, number in ((0.0, 1), (0.5, 2), (1.0, 3)):
        state = start(share)
        assert (np.asarray(state.log_weights) > -np.inf).tolist() == [k < number for k in range(4)]
        assert set(state.means.ravel().tolist()) <= {0.0, 1.0, 3.0, 5.0}
