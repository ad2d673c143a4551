"""EM on many data sets in one program: lanes side by side in blocks, a few steps a round, the finished sorted out between rounds.

A vmapped `while_loop` runs every lane until the slowest ends. Here a round takes up to `STEPS_PER_ROUND` steps of each block of
`width` lanes; then the lanes that still run are moved to the front, so that the next round has fewer blocks. All of it
happens inside one compiled program, whatever the number of rounds.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...chunking import STEPS_PER_ROUND
from ...mixture import Mixture
from ..loop import CenteredProblem, EMProblem, EMState, Options, finalize, init, is_running, prepare, step
from ..result import Fit


class _Carry(NamedTuple):
    """Lanes in their present order. at: steps taken by those that run, all the same. order: whose lane it is."""

    states: EMState
    order: jax.Array
    active: jax.Array
    at: jax.Array
    history: jax.Array | None


@partial(jax.jit, static_argnums=(4, 5, 6))
def fit_in_rounds(
    starts: Mixture, problems: EMProblem, tol: jax.Array, count: jax.Array, options: Options, axes: EMProblem, width: int
) -> Fit:
    """Fits of the first `count` of M data sets, M a multiple of width; what the others give means nothing.

    axes: 0 where a field of `problems` has a leading (M,), None where all lanes share it. options.history: whether the fits keep
    theirs.
    """
    silent = options._replace(history=False)
    prepare_all = jax.vmap(lambda start, problem: _without_data(prepare(start, problem, tol)), in_axes=(0, axes))
    frames = prepare_all(starts, problems)
    size = len(starts.weights)
    running = jax.vmap(partial(is_running, options=silent))
    columns = -(-(options.max_iter + 1) // STEPS_PER_ROUND) * STEPS_PER_ROUND

    def one_round(carry: _Carry) -> _Carry:
        def one_block(block: jax.Array, slots: tuple) -> tuple:
            begins = block * width
            lanes, ids = (_slice(part, begins, width) for part in (slots[0], carry.order))
            lanes, slab = _advance(_frames_of(frames, problems, axes, ids), lanes, silent, axes)
            history = slots[1]
            if history is not None:
                history = jax.lax.dynamic_update_slice(history, slab, (begins, carry.at))
            return jax.tree.map(lambda all_, new: _put(all_, new, begins), slots[0], lanes), history

        blocks = (carry.active + width - 1) // width
        states, history = jax.lax.fori_loop(0, blocks, one_block, (carry.states, carry.history))
        alive = running(states) & (carry.order < count)
        front = jnp.argsort(~alive, stable=True)
        states, order, history = jax.tree.map(lambda leaf: leaf[front], (states, carry.order, history))
        return _Carry(states, order, alive.sum(), carry.at + STEPS_PER_ROUND, history)

    history = jnp.full((size, columns), jnp.nan, frames.center.dtype) if options.history else None
    states = jax.vmap(lambda fixed: init(fixed, silent))(frames)
    carry = _Carry(states, jnp.arange(size), jnp.minimum(count, size), jnp.array(0), history)
    carry = jax.lax.while_loop(lambda c: c.active > 0, one_round, carry)
    back = jnp.argsort(carry.order)
    states, history = jax.tree.map(lambda leaf: leaf[back], (carry.states, carry.history))
    history = jnp.zeros((size, 0), frames.center.dtype) if history is None else history[:, : options.max_iter + 1]
    return jax.vmap(finalize)(frames, states._replace(history=history), starts)


def _without_data(fixed: CenteredProblem) -> CenteredProblem:
    """Data are neither copied nor permuted: lanes look them up."""
    return fixed._replace(x=None, weight=None)


def _slice(tree: Any, begins: jax.Array, width: int) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begins, width), tree)


def _put(leaf: jax.Array, new: jax.Array, begins: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(leaf, new, begins, 0)


def _frames_of(frames: CenteredProblem, problems: EMProblem, axes: EMProblem, ids: jax.Array) -> CenteredProblem:
    """The frames of some lanes, with their data, or those that all share."""
    x, weight = (
        value if value is None or axis is None else value[ids]
        for value, axis in ((problems.x, axes.x), (problems.weight, axes.weight))
    )
    return jax.tree.map(lambda leaf: leaf[ids], frames)._replace(x=x, weight=weight)


def _advance(fixed: CenteredProblem, lanes: EMState, options: Options, axes: EMProblem) -> tuple[EMState, jax.Array]:
    """Up to STEPS_PER_ROUND steps of a block of lanes, and the objectives after each (W, STEPS_PER_ROUND)."""
    width = len(lanes.step)
    frame_axes = jax.tree.map(lambda _: 0, fixed)._replace(x=axes.x, weight=axes.weight)
    take = jax.vmap(partial(step, options=options), in_axes=(frame_axes, 0))
    running = jax.vmap(partial(is_running, options=options))

    def one_step(carry: tuple) -> tuple:
        i, lanes, slab = carry
        new, alive = take(fixed, lanes), running(lanes)
        value = jnp.where(alive & (new.step > lanes.step), new.objective, jnp.nan)
        lanes = jax.tree.map(lambda a, b: jnp.where(alive.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, lanes)
        return i + 1, lanes, slab.at[:, i].set(value)

    slab = jnp.full((width, STEPS_PER_ROUND), jnp.nan, lanes.objective.dtype)
    begun = (jnp.array(0), lanes, slab)
    return jax.lax.while_loop(lambda carry: (carry[0] < STEPS_PER_ROUND) & running(carry[1]).any(), one_step, begun)[1:]
