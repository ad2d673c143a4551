"""The race between candidates for a start: short runs of EM show which candidates are promising.

The likelihood after short runs of EM tells which candidates are promising ("small EM": Biernacki, Celeux & Govaert 2003). All
candidates take a few steps. The better ones take more steps, and the best of these are fitted to the end. A candidate stops
when its likelihood has settled, so the longer runs cost little if EM is fast. If several candidates reach the same solution,
only one of them is used. If a component of a candidate degenerates, a sound candidate takes its place, even if the sound
candidate was left out earlier.

Some solutions are reached from few candidates of any kind, but they often differ from a solution that was found in one
component. Candidates that were left out are therefore replaced by variants of the better ones, in which one component begins
anew at a random row ("random swap EM": Zhao, Hautamaki, Karkkainen & Franti 2012). This component gets a covariance that is up
to 20 times smaller, because a narrow cluster inside a wide one is otherwise overlooked.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import rows_per_chunk, short_runs_per_batch
from ..component_order import permute_components
from ..density import log_joint, safe_log
from ..mixture import Mixture
from ..row_sums import nonzero, vary_with
from .kernels import Rows, whitened_component_sums
from .loop import centered_m_step, component_status, fewest_points
from .problem import CenteredProblem
from .result import ComponentStatus

# nats per row: a run ends if its gain per step is below this number, and runs whose ends differ by less are the same
SHORT_TOL = 1e-5
_HOPELESS = 0.05  # nats per row: a run that ends this far below the best is replaced by the best
_NARROWEST = 3.0  # a component that moves gets a covariance that is divided by at most exp(3)


class _Phase(NamedTuple):
    """A phase of the race between candidates. The numbers of runs are multiples of the number of starts that are fitted.

    Attributes:
        steps: the largest number of EM steps of a run.
        taking_part: the number of runs that take these steps, the best ones.
        tol: the tolerance at which a run ends, as a multiple of SHORT_TOL.
        parents: the number of the best runs of which variants take the places of the other runs, before the steps; 0: none do.
    """

    steps: int
    taking_part: float
    tol: float = 1.0
    parents: int = 0


# In the last phases, slow collapses are noticed, and other runs take the places of those that collapse.
_PHASES = (
    _Phase(4, math.inf),
    _Phase(16, 5),
    _Phase(8, math.inf, parents=4),
    _Phase(16, 4),
    _Phase(8, 10, parents=3),
    _Phase(16, 4),
    _Phase(8, 10, parents=2),
    _Phase(48, 2),
    _Phase(48, 1, tol=0.1),
    _Phase(48, 1, tol=0.1),
)


class _Runs(NamedTuple):
    """M short runs of EM: the mixtures, with means relative to the centre of the data, and the values that rank them.

    Attributes:
        mixture: the mixtures after the last steps.
        objective: the log-likelihood of the mixtures before the last steps, plus their log prior density if there is a prior.
        degenerate: (M, K), whether each component is degenerate. If a number is not finite, all components count as degenerate.
    """

    mixture: Mixture
    objective: jax.Array
    degenerate: jax.Array

    @property
    def unsound(self) -> jax.Array:
        """Whether each run has a degenerate component, (M,)."""
        return self.degenerate.any(-1)


def race(key: jax.Array, starts: Mixture, problem: CenteredProblem, num_wanted: int) -> Mixture:
    """Make short runs of EM from starts (M,) and from variants of the better runs, and return the best (num_wanted,)."""
    size = len(starts.weights)
    swaps = jax.random.uniform(key, (len(_PHASES), size, 3), problem.x.dtype)
    width = min(size, short_runs_per_batch(problem.x.size * starts.num_components))
    counts = jnp.array([min(size, num_wanted * phase.taking_part) for phase in _PHASES])
    parents = jnp.array([min(size, num_wanted * phase.parents) for phase in _PHASES])
    steps = jnp.array([phase.steps for phase in _PHASES])
    tols = problem.tol * jnp.array([phase.tol for phase in _PHASES], problem.x.dtype)
    run = jax.vmap(lambda start, steps, tol: _short_run(start, steps, problem._replace(tol=tol)), in_axes=(0, None, None))

    def one_phase(phase: jax.Array, runs: _Runs) -> _Runs:
        def one_batch(batch: jax.Array, runs: _Runs) -> _Runs:
            part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, batch * width, width), runs.mixture)
            new = run(part, steps[phase], tols[phase])
            return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, batch * width, 0), runs, new)

        number = jnp.arange(size)
        vary = partial(_with_variants, num_parents=parents[phase], num_runs=counts[phase], problem=problem)
        mixture = jax.lax.cond(parents[phase] > 0, vary, lambda runs, _: runs.mixture, runs, swaps[phase])
        runs = runs._replace(mixture=mixture)
        runs = jax.lax.fori_loop(0, -(-counts[phase] // width), one_batch, runs)
        order = _order(runs, number < counts[phase], problem.tol)
        return jax.tree.map(lambda leaf: leaf[order], runs)

    begin = vary_with(_Runs(starts, jnp.zeros(size, problem.x.dtype), jnp.zeros(starts.weights.shape, bool)), starts, problem)
    runs = jax.lax.fori_loop(0, len(_PHASES), one_phase, begin)
    best = jax.tree.map(lambda leaf: leaf[:num_wanted], runs)
    is_hopeless = best.objective < best.objective[0] - _HOPELESS * problem.total
    index = jnp.where(is_hopeless | (best.unsound & ~best.unsound[0]), 0, jnp.arange(num_wanted))
    return jax.tree.map(lambda leaf: leaf[index], best.mixture)


def _with_variants(
    runs: _Runs, swaps: jax.Array, *, num_parents: jax.Array, num_runs: jax.Array, problem: CenteredProblem
) -> Mixture:
    """Return the mixtures (M,) of sorted runs. Variants of the first ones, the parents, replace the others among `num_runs`."""
    number = jnp.arange(len(swaps))
    parents = jax.tree.map(lambda leaf: leaf[number % num_parents], runs)
    variants = jax.vmap(lambda run, swap: _swap_component(run, swap, problem))(parents, swaps)
    changes = (number >= num_parents) & (number < num_runs)

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(changes.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, variants, runs.mixture)


def _swap_component(run: _Runs, swap: jax.Array, problem: CenteredProblem) -> Mixture:
    """Return the mixture of one run, in which one component begins anew at a random row.

    Two components share the weight of the component that is most likely to have made the row: this component and the one that
    moves to the row. The one that moves also gets this component's covariance, divided by a random number. If some components
    are degenerate, one of these moves; otherwise any other component may move.

    Args:
        run: one run.
        swap: (3,), uniform random numbers, which choose the row, the component that moves, and the divisor.
        problem: the data.
    """
    mixture, kind = run.mixture, run.mixture.covariance_type
    ends = jnp.cumsum(jnp.asarray(problem.weight))
    row = problem.x[jnp.searchsorted(ends, swap[0] * ends[-1], side="right")] - problem.center
    factors = covariance.factorize(mixture.covariances, kind, mixture.num_features)
    split = log_joint(safe_log(mixture.weights), mixture.means, factors, row[:, None], kind)[0][:, 0].argmax()
    number = jnp.arange(mixture.num_components)
    may_move = (mixture.weights > 0) & (number != split)
    degenerate = may_move & run.degenerate
    ranks = jnp.cumsum(jnp.where(degenerate.any(), degenerate, may_move).astype(swap.dtype))
    is_moved = number == jnp.searchsorted(ranks, swap[1] * ranks[-1], side="right")  # all False if no component may move
    copy = permute_components(mixture, jnp.where(is_moved, split, number))
    weights = jnp.where(is_moved | (is_moved.any() & (number == split)), 0.5, 1) * copy.weights
    narrow = copy.covariances * jnp.exp(-_NARROWEST * swap[2])
    if not covariance.is_shared(kind):
        copy = dataclasses.replace(copy, covariances=covariance.select_components(is_moved, narrow, copy.covariances, kind))
    return dataclasses.replace(
        copy, weights=weights / nonzero(weights.sum()), means=jnp.where(is_moved[:, None], row, copy.means)
    )


def _order(runs: _Runs, took_part: jax.Array, tol: jax.Array) -> jax.Array:
    """Return the order (M,) of the runs, the best first.

    The order depends first on whether a run is sound, then on whether it took part in the last phase. Unsound runs are behind
    all sound runs, even behind those that were left out earlier. Otherwise nothing sound would remain if all runs that took
    part degenerated. If several runs reach the same objective, only the first of them keeps its rank, so that the result does
    not depend on rounding. The others add nothing, and are placed behind all other sound runs that took part.
    """
    score, number = runs.objective, jnp.arange(len(took_part))
    repeats = ((abs(score[:, None] - score) <= tol) & (number < number[:, None])).any(1)
    return jnp.lexsort((-score, repeats, ~took_part, runs.unsound))


def _short_run(start: Mixture, num_steps: jax.Array, problem: CenteredProblem) -> _Runs:
    """Return the run of at most `num_steps` EM steps from a start."""
    covariance_type, d = start.covariance_type, start.num_features
    problem = problem._replace(start=start)
    chunk = rows_per_chunk(start.num_components, d, start.means.dtype)
    rows = Rows(problem.x, problem.weight, problem.center)

    def one_step(state: tuple) -> tuple:
        number, mixture, _, last, _ = state
        factors = covariance.factorize(mixture.covariances, covariance_type, d)
        sums, objective = whitened_component_sums(chunk, mixture, factors, rows)
        if problem.prior is not None:
            objective += problem.prior.log_density(mixture, factors, problem.start.weights > 0)
        return number + 1, centered_m_step(problem, mixture, sums), sums.count, objective, abs(objective - last) > problem.tol

    begin = vary_with((jnp.array(0), start, start.weights, -jnp.inf + problem.total, jnp.array(True)), start, problem)
    end = jax.lax.while_loop(lambda state: (state[0] < num_steps) & state[-1], one_step, begin)
    _, mixture, count, objective, _ = end
    status = component_status(problem, mixture, count)
    degenerate = (status == ComponentStatus.FEW_POINTS) | (status == ComponentStatus.AT_FLOOR)
    can_degenerate = jnp.asarray(fewest_points(problem)) > 0
    return _Runs(mixture, objective, ~jnp.isfinite(objective) | (can_degenerate & degenerate))
