"""assignment_problems: the best orders and their gains, by enumeration and by SciPy."""

import itertools

import numpy as np
import pytest

from jaxgmm.posterior.assignment_problems import _enumerate, _solve_assignment, best_orders


def by_hand(scores, mass):
    """Return the best order of one problem, and its smallest gain over another order."""
    orders = list(itertools.permutations(range(len(mass))))
    totals = {order: sum(scores[j, k] for j, k in enumerate(order)) for order in orders}
    best = max(orders, key=totals.get)
    moved = {order: sum(m for m, j, k in zip(mass, best, order, strict=True) if j != k) for order in orders}
    return best, min((totals[best] - totals[order]) / moved[order] for order in orders if order != best)


def test_enumeration_and_the_host_agree_with_loops(x64):
    rng = np.random.default_rng(0)
    scores, mass = rng.normal(size=(8, 4, 4)), rng.dirichlet(np.ones(4))
    orders, gains = _enumerate(scores, mass, np.ones((4, 4), bool))
    for s in range(8):
        best, gain = by_hand(scores[s], mass)
        order, found = _solve_assignment(scores[s], mass)
        assert tuple(order) == tuple(np.asarray(orders[s])) == best
        assert [found, float(gains[s])] == pytest.approx([gain, gain], rel=1e-9)


def test_more_components_than_are_enumerated(x64):
    """Seven components that are clearly matched by the order that reverses them, unless this is not allowed."""
    scores, mass = np.eye(7)[None, ::-1] + 0.01, np.full(7, 1 / 7)
    order, gain = best_orders(scores, mass, np.ones((7, 7), bool))
    np.testing.assert_array_equal(order[0], np.arange(7)[::-1])
    assert float(gain[0]) == pytest.approx(7, rel=1e-9)
    order, gain = best_orders(scores, mass, np.eye(7, dtype=bool))
    np.testing.assert_array_equal(order[0], np.arange(7))
    assert np.isinf(gain[0])
