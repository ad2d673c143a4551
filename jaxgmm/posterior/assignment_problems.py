"""Solve linear assignment problems: find the order of the components of a mixture that maximises a sum of scores.

The smallest gain of the best order over another order shows how clear the choice is. For few components, all orders are
compared, which works inside jit. For more components, SciPy solves the problem on the host.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import draws_per_batch

MAX_ENUMERATED = 6  # for K up to this number, all K! permutations are compared, which works inside jit
_FORBIDDEN = -1e30  # score of a pair of components that may not be matched


class Optimum(NamedTuple):
    """The best permutation for each of M problems, (M, K), and its smallest gain over any other permutation, (M,).

    The gain over another permutation is the difference between the scores of the two permutations, divided by the weight of the
    components in which they differ.
    """

    order: jax.Array
    gain: jax.Array


def best_orders(scores: jax.Array, mass: jax.Array, exchangeable: jax.Array, likeness: jax.Array | None = None) -> Optimum:
    """Solve M assignment problems: find the best order by the scores (M, K, K), and the smallest gain of this order.

    mass (K,): the weight of each component of the reference. likeness (M, K, K): the scores from which the gain is computed;
    None: the gain is computed from `scores`.
    """
    if len(mass) <= MAX_ENUMERATED:
        return _enumerate(scores, mass, exchangeable, likeness)
    allowed = np.asarray(exchangeable)

    def tables(values: jax.Array) -> np.ndarray:
        return np.where(allowed, np.nan_to_num(np.asarray(values, float)), _FORBIDDEN)

    weight, both = np.asarray(mass, float), (tables(scores), tables(scores if likeness is None else likeness))
    found = [_solve_assignment(one, weight, other) for one, other in zip(*both, strict=True)]
    return Optimum(jnp.array([order for order, _ in found]), jnp.array([gain for _, gain in found], mass.dtype))


@jax.jit
def _enumerate(scores: jax.Array, mass: jax.Array, exchangeable: jax.Array, likeness: jax.Array | None = None) -> Optimum:
    """Solve M assignment problems by comparing all K! permutations."""
    k = len(mass)
    orders = jnp.array(list(itertools.permutations(range(k))))  # (K!, K)
    possible = exchangeable[jnp.arange(k), orders].all(-1)

    def totals_of(table: jax.Array) -> jax.Array:
        return jnp.where(possible, table[jnp.arange(k), orders].sum(-1), _FORBIDDEN)

    def solve(tables: tuple[jax.Array, jax.Array | None]) -> Optimum:
        totals = totals_of(tables[0])
        best = totals.argmax()
        totals = totals if tables[1] is None else totals_of(tables[1])
        moved = jnp.where(orders[best] != orders, mass, 0).sum(-1)
        # If no other permutation is allowed, the best permutation is certain, and its gain is infinite.
        other = (moved > 0) & ~(totals <= _FORBIDDEN)
        gain = jnp.where(other, (totals[best] - totals) / jnp.where(moved > 0, moved, 1), jnp.inf)
        return Optimum(orders[best], gain.min())

    return jax.lax.map(solve, (scores, likeness), batch_size=draws_per_batch(len(orders) * k, len(scores)))


def _solve_assignment(scores: np.ndarray, mass: np.ndarray, likeness: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Solve one assignment problem on the host. Return the best permutation and its smallest gain over another permutation.

    The loss of another permutation is the score of the best permutation minus the score of the other permutation. The gain over
    the other permutation is this loss, divided by the weight of the components in which the two permutations differ.
    Dinkelbach's method (1967, Management Science 13, 492-498) finds the smallest gain. It repeatedly looks for a permutation
    whose loss is less than the smallest gain so far times this weight. The gain over such a permutation is smaller.
    """
    from scipy.optimize import linear_sum_assignment

    rows = np.arange(len(scores))
    best = linear_sum_assignment(scores, maximize=True)[1]
    scores = scores if likeness is None else likeness
    loss = scores[rows, best][:, None] - scores
    moved = np.where(rows == best[:, None], 0.0, mass[:, None])
    possible = (scores > _FORBIDDEN) & (moved > 0)
    if not possible.any():
        return best, np.inf
    gain, certain = 1 + abs(loss[possible] / moved[possible]).max(), True
    while True:
        other = linear_sum_assignment(np.where(scores > _FORBIDDEN, loss - gain * moved, -_FORBIDDEN))[1]
        weight = moved[rows, other].sum()
        if weight <= 0 or not (scores[rows, other] > _FORBIDDEN).all():
            return best, np.inf if certain else float(gain)
        smaller = loss[rows, other].sum() / weight
        if not smaller < gain - 1e-12 * abs(gain):
            return best, float(gain)
        gain, certain = smaller, False
