"""Stochastic EM over batches: an M-step after each block of some hundred rows (Cappé & Moulines 2009).

The moments s of a row, averaged over all rows, follow the moments of the blocks:

    s_{t+1} = (1 - g_t) s_t + g_t s(block t; theta_t),    theta_{t+1} = M(s_{t+1}),    g_t = (t + t0)^-0.6

Moments are in the whitened coordinates of the mixture under which they were computed. After each M-step, they are carried to
those of the new mixture. The mixture that results is M of an average of s_t in which s_t has weight t^3 (Shamir & Zhang 2013),
so that it hardly depends on the first blocks.

The first pass over the batches is exact: it evaluates the start, and its moments are s_0. Stochastic passes follow. The next
pass evaluates the mixture that they found, exactly. This mixture is kept only if its objective is not below that of the start.
All later passes are EM steps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ... import covariance
from ...chunking import rows_per_chunk
from ...mixture import Mixture
from ...priors.interface import ComponentSums
from ...row_sums import FirstRows, Weight, nonzero
from ..kernels import Rows, WhitenedSums, unwhiten, whitened_sums
from ..loop import EMState, centered_m_step, propose, with_objective
from ..moments import Moments, carried
from ..problem import CenteredProblem
from .batches import Batch
from .passes import Trial, trial_of
from .sums import finish_sums

_PASSES = 10  # the largest number of stochastic passes; in experiments, further ones gained little more than EM steps
_POWER = 0.6  # the exponent of the step size; Cappé & Moulines (2009) recommend 0.6 together with averaging
_FIRST = 20.0  # t0 of the step size
_AVERAGING = 3.0  # the power of t to which the weight of s_t in the average is proportional
_SMALLEST_BLOCK = 128  # the smallest number of rows between two M-steps


class OnlineState(NamedTuple):
    """The state of stochastic EM.

    Attributes:
        mixture: theta_t, with means relative to the centre of the data.
        moments: s_t, in the coordinates of the mixture.
        average: the average of s_1 to s_t, in the same coordinates.
        step: (), the number t of blocks so far.
    """

    mixture: Mixture
    moments: Moments
    average: Moments
    step: jax.Array


def stochastic_passes(max_iter: int) -> int:
    """Return the number of stochastic passes of a fit that may take `max_iter` steps, of which at least half are EM steps."""
    return max(0, min(_PASSES, max_iter // 2 - 1))


def rows_per_step(num_components: int, num_features: int) -> int:
    """Return the number of rows between two M-steps. Moments of fewer rows would not determine full covariances at first."""
    return max(_SMALLEST_BLOCK, -(-num_components * num_features // 16) * 16)


@jax.jit
def begin_online(problem: CenteredProblem, state: EMState, trial: Trial) -> OnlineState:
    """Return the state before the first stochastic pass, given the exact pass that evaluated the start, and an EM step."""
    mixture, sums, name = trial.proposal.mixture, state.sums, state.mixture.covariance_type
    total = nonzero(problem.total)
    factors = covariance.factorize(mixture.covariances, name, mixture.num_features)
    shift = covariance.transform(factors.whitener, sums.mean - mixture.means, name)
    count = sums.count / total
    second = covariance.transform_scatter(factors.whitener, sums.scatter / covariance.expand(total[None], name), name)
    second += covariance.expand(count, name) * covariance.outer(shift, name)
    moments = Moments(count, count[:, None] * shift, second, state.log_likelihood / total)
    return OnlineState(mixture, moments, moments, jnp.array(0))


def online_rows(state: OnlineState, problem: CenteredProblem, batch: Batch, num_rows: int) -> OnlineState:
    """Return the state after all blocks of a batch, which has rows of positive weight; the data have `num_rows` rows."""
    return jax.block_until_ready(_online_rows(state, problem, batch.x, batch.weight, problem.total / num_rows))


@jax.jit
def _online_rows(
    state: OnlineState, problem: CenteredProblem, x: jax.Array, weight: Weight, mean_weight: jax.Array
) -> OnlineState:
    """Return the state after all blocks of a batch; `mean_weight` () is the average weight of a row of the data.

    A block holds rows from all parts of the batch, in case their order is not random.
    """
    d, name = x.shape[1], state.mixture.covariance_type
    size = rows_per_step(state.mixture.num_components, d)
    number = -(-len(x) // size)
    chunk = rows_per_chunk(state.mixture.num_components, d, x.dtype)

    def divided(rows: jax.Array, fill: jax.Array) -> jax.Array:
        padded = jnp.concatenate([rows, jnp.broadcast_to(fill, (number * size - len(rows), *rows.shape[1:]))])
        return padded.reshape(size, number, *rows.shape[1:]).swapaxes(0, 1)

    def weight_of(i: jax.Array, values: jax.Array | None) -> Weight:
        return FirstRows((weight.num_rows - i + number - 1) // number) if isinstance(weight, FirstRows) else values

    def step(state: OnlineState, block: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[OnlineState, None]:
        i, rows, values = block
        factors = covariance.factorize(state.mixture.covariances, name, d)
        found = Moments(*whitened_sums(chunk, state.mixture, factors, Rows(rows, weight_of(i, values), problem.center)))
        return _step(problem, state, factors, found, mean_weight * size), None

    values = None if isinstance(weight, FirstRows) else divided(jnp.asarray(weight), jnp.zeros((), x.dtype))
    return jax.lax.scan(step, state, (jnp.arange(number), divided(x, x[0]), values))[0]


def _step(
    problem: CenteredProblem, state: OnlineState, factors: covariance.Factors, found: Moments, block_weight: jax.Array
) -> OnlineState:
    """Return the state after one block. A block whose sums are not finite is skipped, and so is an M-step that fails.

    `block_weight` () is the average total weight of a block. For a block of less weight, the step is smaller in proportion.
    """
    mixture, name, dtype = state.mixture, state.mixture.covariance_type, found.count.dtype
    weight = found.count.sum()
    rate = jnp.minimum((state.step + _FIRST) ** -_POWER * weight / nonzero(block_weight), 1).astype(dtype)
    is_finite = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found)]).all() & (weight > 0)
    moments = _toward(state.moments, jax.tree.map(lambda leaf: leaf / nonzero(weight), found), rate, is_finite)
    sums = unwhiten(mixture, factors, *(leaf * problem.total for leaf in (moments.count, moments.first, moments.second)))
    new = centered_m_step(problem, mixture, sums)
    new_factors = covariance.factorize(new.covariances, name, mixture.num_features)
    finite = [jnp.isfinite(leaf).all() for leaf in (*jax.tree.leaves(new), new_factors.half_log_det)]
    new, new_factors = jax.tree.map(
        lambda a, b: jnp.where(jnp.array(finite).all(), a, b), (new, new_factors), (mixture, factors)
    )
    coordinates = (mixture, factors, new, new_factors)
    moments, average = carried(moments, *coordinates), carried(state.average, *coordinates)
    share = ((_AVERAGING + 1) / (state.step + 1 + _AVERAGING)).astype(dtype)
    return OnlineState(new, moments, _toward(average, moments, share, is_finite), state.step + is_finite)


def _toward(old: Moments, new: Moments, rate: jax.Array, applies: jax.Array) -> Moments:
    """Return (1 - rate) old + rate new, or `old` if `applies` is False."""
    return jax.tree.map(lambda a, b: jnp.where(applies, a + rate * (b - a), a), old, new)


@jax.jit
def end_online(problem: CenteredProblem, state: OnlineState, trial: Trial, tol: jax.Array) -> Trial:
    """Return the mixture of the averaged moments as the one that the next pass evaluates."""
    mixture, average = state.mixture, state.average
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    moments = (leaf * problem.total for leaf in (average.count, average.first, average.second))
    found = centered_m_step(problem, mixture, unwhiten(mixture, factors, *moments))
    return trial_of(trial.proposal._replace(mixture=found), tol)


@jax.jit
def count_pass(state: EMState) -> EMState:
    """Return the state after a stochastic pass, which evaluates no mixture: the objective remains that of the start."""
    assert state.history is not None
    return state._replace(step=state.step + 1, history=state.history.at[state.step + 1].set(state.objective))


@jax.jit
def accept_average(
    problem: CenteredProblem, state: EMState, trial: Trial, sums: WhitenedSums, tol: jax.Array
) -> tuple[EMState, Trial]:
    """Return the state after an exact pass under the mixture of stochastic EM, and the mixture that the next pass evaluates.

    The mixture of stochastic EM is kept if its objective is not below that of the start. The fit does not end with this pass,
    because no EM step has shown how far the objective can still rise.
    """
    mixture = trial.proposal.mixture
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    component, log_likelihood = finish_sums(trial.far, mixture, factors, sums)
    value = with_objective(mixture, problem, factors, component, log_likelihood)
    accepted = (value.objective >= state.objective) & ~value.singular & _is_finite(value.sums)
    new = (mixture, value.sums, value.log_likelihood, value.objective)
    old = (state.mixture, state.sums, state.log_likelihood, state.objective)
    mixture, component, log_likelihood, objective = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
    state = state._replace(mixture=mixture, sums=component, log_likelihood=log_likelihood, objective=objective)
    state = count_pass(state)
    return state, trial_of(propose(problem, state), tol)


def _is_finite(sums: ComponentSums) -> jax.Array:
    """Return whether all sums are finite."""
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(sums)]).all()
