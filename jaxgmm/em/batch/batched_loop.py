"""Run EM on a batch of data sets in one compiled program. Data sets that have converged take no further steps.

A vmapped `while_loop` would run every data set until the slowest one has converged. This program works in rounds instead. It
divides the batch into sub-batches of `width` data sets. The data sets of a sub-batch are advanced at the same time. In one
round, each sub-batch takes up to `STEPS_PER_ROUND` steps. Then the data sets that are still running are sorted to the front, so
that the next round has fewer sub-batches. All rounds run inside the program.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...chunking import STEPS_PER_ROUND
from ...devices.host import Tree
from ...mixture import Mixture
from ...row_sums import weight_array
from ..incomplete_sums import Blocks, IncompleteData
from ..loop import EMState, Options, finalize, init, is_running, step
from ..problem import CenteredProblem, EMProblem, prepare
from ..result import Fit


class _Batch(NamedTuple):
    """The inputs that are the same in all rounds.

    Attributes:
        problems: the data sets; each field has a leading axis (M,) or is shared by all data sets.
        centered: the centred problems (M, ...) without their data. The data stay in `problems`, so that they are not copied
            when the problems are sorted. The member also stays there, because all data sets share it.
        num_wanted: the number of data sets whose results are needed; these data sets come first.
        width: the number of data sets in a sub-batch.
    """

    problems: EMProblem
    centered: CenteredProblem
    num_wanted: jax.Array
    width: int


class _Round(NamedTuple):
    """The state between two rounds; in `states`, `data_set` and `history`, the running data sets come first.

    Attributes:
        states: (M, ...), the states of the data sets.
        data_set: (M,), for each entry, the index of its data set.
        num_running: (), the number of entries that are still running.
        num_steps: (), the number of steps that each running entry has taken.
        history: (M, steps), the objectives, or None.
    """

    states: EMState
    data_set: jax.Array
    num_running: jax.Array
    num_steps: jax.Array
    history: jax.Array | None


def batch_axes(problem: EMProblem) -> EMProblem:
    """Return the `in_axes` of a problem for vmap: 0 for fields with a leading axis of data sets, None for shared fields."""
    prior_axis = 0 if problem.prior is not None and jnp.ndim(problem.prior.mean) == 2 else None
    x_axis, weight_axis = _data_axes(problem)
    return problem._replace(x=x_axis, weight=weight_axis, prior=prior_axis, reg_covar=None, member=None)


def _data_axes(problem: EMProblem | CenteredProblem) -> tuple[Any, int | None]:
    """Return the `in_axes` of data and weights for vmap: 0 for a leading axis of data sets, None for shared arrays."""
    weight, x = weight_array(problem.weight), problem.x
    if isinstance(x, IncompleteData):
        assert x.rows is not None  # only batches from disk come without rows
        own: Any = 0 if x.center.ndim == 2 else None
        rows: Any = 0 if x.rows.x.ndim == 3 else None
        if isinstance(x.rows, Blocks):  # all fits share the rows, but their weights may differ
            none: list[Any] = [None] * len(Blocks._fields)
            rows = Blocks(*none)._replace(weight=0 if x.rows.weight.ndim == 3 else None)
        axes: Any = IncompleteData(rows, own, own, own)
    else:
        axes = 0 if x.ndim == 3 else None
    return axes, None if weight is None or weight.ndim == 1 else 0


@partial(jax.jit, static_argnums=(4, 5))
def fit_batch(starts: Mixture, problems: EMProblem, tol: jax.Array, count: jax.Array, options: Options, width: int) -> Fit:
    """Fit the first `count` of M data sets, where M is a multiple of `width`; the results of the others are meaningless.

    Args:
        starts: (M, ...), a start for each data set.
        problems: the data sets; `batch_axes` says which fields have a leading axis (M,) and which are shared.
        tol: as in `fit`.
        count: the number of data sets to fit. It is traced, so that one program serves full and partly filled batches.
        options: the options of the fits; if `options.history` is False, the history has shape (M, 0).
        width: the number of data sets that are advanced at the same time.
    """
    silent = options._replace(history=False)  # if the state held the history, every step would copy it
    centre = jax.vmap(lambda start, problem: _without_data(prepare(start, problem, tol)), in_axes=(0, batch_axes(problems)))
    batch = _Batch(problems, centre(starts, problems), count, width)
    size, dtype = len(starts.weights), batch.centered.center.dtype
    columns = -(-(options.max_iter + 1) // STEPS_PER_ROUND) * STEPS_PER_ROUND
    history = jnp.zeros((size, columns), dtype) if options.history else None
    states = jax.vmap(partial(init, options=silent))(batch.centered)
    first = _Round(states, jnp.arange(size), jnp.minimum(count, size), jnp.array(0), history)
    last = jax.lax.while_loop(lambda now: now.num_running > 0, partial(_next_round, batch, options=silent), first)
    order = jnp.argsort(last.data_set)
    states, history = jax.tree.map(lambda leaf: leaf[order], (last.states, last.history))
    history = jnp.zeros((size, 0), dtype) if history is None else history[:, : options.max_iter + 1]
    centered = batch.centered._replace(member=problems.member)
    axes = jax.tree.map(lambda _: 0, batch.centered)._replace(member=None)
    return jax.vmap(finalize, in_axes=(axes, 0, 0))(centered, states._replace(history=history), starts)


def _without_data(problem: CenteredProblem) -> CenteredProblem:
    """Return a centred problem without its data and weights, and without the member."""
    return problem._replace(x=None, weight=None, member=None)


def _next_round(batch: _Batch, now: _Round, options: Options) -> _Round:
    """Advance every sub-batch that contains a running data set, and sort the running data sets to the front."""

    def one_sub_batch(number: jax.Array, carry: tuple) -> tuple:
        states, history = carry
        start = number * batch.width
        part, index = _sub_batch((states, now.data_set), start, batch.width)
        part, objectives = _advance(_problems_at(batch, index), part, options)
        if history is not None:
            history = jax.lax.dynamic_update_slice(history, objectives, (start, now.num_steps))
        return jax.tree.map(partial(_put, start=start), states, part), history

    num_sub_batches = (now.num_running + batch.width - 1) // batch.width
    states, history = jax.lax.fori_loop(0, num_sub_batches, one_sub_batch, (now.states, now.history))
    running = _are_running(states, options) & (now.data_set < batch.num_wanted)
    order = jnp.argsort(~running, stable=True)
    states, data_set, history = jax.tree.map(lambda leaf: leaf[order], (states, now.data_set, history))
    return _Round(states, data_set, running.sum(), now.num_steps + STEPS_PER_ROUND, history)


def _sub_batch(tree: Tree, start: jax.Array, width: int) -> Tree:
    """Return the `width` entries of each leaf that begin at `start`."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, width), tree)


def _put(leaf: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    """Return an array in which `part` replaces the entries that begin at `start`."""
    return jax.lax.dynamic_update_slice_in_dim(leaf, part, start, 0)


def _are_running(states: EMState, options: Options) -> jax.Array:
    """Return, for each state, whether EM has to take another step."""
    return jax.vmap(partial(is_running, options=options))(states)


def _problems_at(batch: _Batch, index: jax.Array) -> CenteredProblem:
    """Return the centred problems of the data sets `index`, together with their data."""
    x, weight, *_, member = batch.problems
    x_axis, weight_axis = _data_axes(batch.problems)
    if isinstance(x, IncompleteData):
        x = IncompleteData(*(_at(part, axis, index) for part, axis in zip(x, x_axis, strict=True)))
    else:
        x = _at(x, x_axis, index)
    weight = weight if weight_axis is None else jax.tree.map(lambda leaf: leaf[index], weight)
    return jax.tree.map(lambda leaf: leaf[index], batch.centered)._replace(x=x, weight=weight, member=member)


def _at(tree: Any, axis: int | Blocks | None, index: jax.Array) -> Any:
    """Return the entries `index` of a tree that has a leading axis of data sets, or the tree itself if all share it."""
    if isinstance(axis, Blocks):
        return tree if axis.weight is None else tree._replace(weight=tree.weight[index])
    return tree if axis is None else jax.tree.map(lambda leaf: leaf[index], tree)


def _advance(problems: CenteredProblem, states: EMState, options: Options) -> tuple[EMState, jax.Array]:
    """Advance a sub-batch of W data sets by up to STEPS_PER_ROUND steps; return states and objectives (W, STEPS_PER_ROUND)."""
    x_axis, weight_axis = _data_axes(problems)
    axes = jax.tree.map(lambda _: 0, problems)._replace(x=x_axis, weight=weight_axis, member=None)
    step_all = jax.vmap(partial(step, options=options), in_axes=(axes, 0))

    def one_step(carry: tuple) -> tuple:
        i, states, objectives = carry
        new, running = step_all(problems, states), _are_running(states, options)
        states = jax.tree.map(lambda a, b: jnp.where(running.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, states)
        return i + 1, states, objectives.at[:, i].set(new.objective)

    objectives = jnp.zeros((len(states.step), STEPS_PER_ROUND), states.objective.dtype)
    _, states, objectives = jax.lax.while_loop(
        lambda carry: (carry[0] < STEPS_PER_ROUND) & _are_running(carry[1], options).any(),
        one_step,
        (jnp.array(0), states, objectives),
    )
    return states, objectives
