"""The compiled programs of a fit over batches, and one pass over the batches.

The programs are `begin`, `advance` and `finish`, which run once for each fit or pass, and `add_rows` and `add_data_sums`,
which run once for each batch. All batches have one shape, so that each program is compiled once. In float32, sums over batches
are compensated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import covariance
from ...devices.host import on_host
from ...mixture import Mixture
from ...row_sums import Weight, add_compensated, error_of
from ..kernels import Rows, WhitenedSums, are_far
from ..loop import EMState, Options, Proposal, accept, finalize, init, propose, with_objective
from ..problem import CenteredProblem, DataSums, EMProblem, from_sums, sums_about
from ..result import Fit
from .batches import Batch
from .sums import additive_sums, finish_sums

Sums = tuple[Any, Any]  # a sum over batches and its rounding error, which is None in float64


class Trial(NamedTuple):
    """The proposal that a pass evaluates, and which components need the whitened kernel."""

    proposal: Proposal
    far: jax.Array


class Origin(NamedTuple):
    """The first row of positive weight, and the centre of the coordinates, both (D,).

    In the first pass, the centre is the mean of the first batch. Later, it is the mean of all rows, as in `fit`.
    """

    first: Any
    center: Any


@dataclass
class Pass:
    """What a pass over the batches has found so far.

    Attributes:
        sums: the sums of the E-step.
        data_sums: the sums that prepare the problem; only the first pass computes them, later passes have None.
        next_batch: the index of the next batch.
        num_rows: the number of rows so far.
        num_positive: the number of rows of positive weight so far.
        marks: the fingerprints of the batches so far.
    """

    sums: Sums | None = None
    data_sums: Sums | None = None
    next_batch: int = 0
    num_rows: int = 0
    num_positive: int = 0
    marks: list[int] = dataclasses.field(default_factory=list)


def origin_of(batch: Batch) -> Origin:
    """Return the origin of the coordinates, given the first batch with rows of positive weight."""
    x = np.asarray(on_host(batch.x) if isinstance(batch.x, jax.Array) else batch.x)[: batch.num_rows]
    if isinstance(batch.weight, jax.Array | np.ndarray):
        weight = np.asarray(batch.weight)[: batch.num_rows]
        x, weight = x[weight > 0], weight[weight > 0]
    else:
        weight = None
    center = x[0] + np.average(x - x[0], 0, weight).astype(x.dtype)
    return Origin(x[0], np.where(np.isfinite(center), center, 0).astype(x.dtype))


def zero_sums(mixture: Mixture) -> Any:
    """Return the sums of an E-step over no rows."""
    k, d = mixture.means.shape
    dense = covariance.is_dense(mixture.covariance_type)
    shapes = ((k,), (k, d), (k, d, d) if dense else (k, d), ())
    return tuple(np.zeros(shape, mixture.means.dtype) for shape in shapes)


def zero_data_sums(mixture: Mixture) -> Any:
    """Return the sums that prepare a problem, over no rows."""
    _, first, second, total = zero_sums(mixture)
    return DataSums(total, first[0], second[0])


def with_error(zero: Any) -> Sums:
    """Return a sum over batches before the first batch."""
    return zero, error_of(zero, jax.tree.leaves(zero)[0].dtype)


@jax.jit
def add_rows(sums: Sums, trial: Trial, x: jax.Array, weight: Weight, center: jax.Array) -> Sums:
    """Add the rows of one batch to the sums of an E-step."""
    mixture = trial.proposal.mixture
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return add_compensated(*sums, additive_sums(trial.far, mixture, factors, Rows(x, weight, center), None))


@partial(jax.jit, static_argnums=4)
def add_data_sums(sums: Sums, first: jax.Array, x: jax.Array, weight: Weight, covariance_type: str) -> Sums:
    """Add the rows of one batch to the sums that prepare the problem."""
    return add_compensated(*sums, sums_about(first, x, weight, covariance_type))


@partial(jax.jit, static_argnums=5)
def begin(
    start: Mixture, problem: EMProblem, tol: jax.Array, first: jax.Array, data_sums: DataSums, options: Options
) -> tuple[CenteredProblem, EMState]:
    """Return the problem and the state before the start is evaluated, given the sums of all rows relative to the first one."""
    centered = from_sums(start, problem, tol, first, data_sums)
    return centered, init(centered, options)


@jax.jit
def first_trial(start: Mixture, origin: Origin, tol: jax.Array) -> Trial:
    """Return the start as the mixture that the first pass evaluates."""
    centered = dataclasses.replace(start, means=start.means - origin.center[None])
    return trial_of(Proposal(centered, None, jnp.array(False)), tol)


@jax.jit
def advance(
    problem: CenteredProblem, state: EMState, trial: Trial, sums: WhitenedSums, center: jax.Array, tol: jax.Array
) -> tuple[EMState, Trial]:
    """Return the state after a pass has evaluated a mixture, and the mixture that the next pass evaluates.

    `center` (D,) is the centre of the coordinates in this pass; in the first pass, it is not that of the problem.
    """
    mixture = trial.proposal.mixture
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    component, log_likelihood = finish_sums(trial.far, mixture, factors, sums)
    component = dataclasses.replace(component, mean=component.mean + (center - problem.center)[None])
    means = jnp.where(state.step < 0, problem.start.means, mixture.means)
    mixture = dataclasses.replace(mixture, means=means)
    value = with_objective(mixture, problem, factors, component, log_likelihood)
    memory = state.memory if trial.proposal.memory is None else trial.proposal.memory
    state = accept(problem, state, Proposal(mixture, memory, trial.proposal.extrapolated), value)
    return state, trial_of(propose(problem, state), tol)


@jax.jit
def finish(problem: CenteredProblem, state: EMState, start: Mixture) -> Fit:
    """Return the result of a fit."""
    return finalize(problem, state, start)


def trial_of(proposal: Proposal, tol: jax.Array) -> Trial:
    """Return a proposal with the choice of the kernel for it."""
    mixture = proposal.mixture
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return Trial(proposal, are_far(mixture, factors, tol))


def add_batch(done: Pass, batch: Batch, trial: Trial | None, origin: Origin | None) -> None:
    """Add a batch to the sums of a pass in place, and wait for the result, so that few batches are in memory at a time."""
    if batch.num_positive:
        assert trial is not None
        assert origin is not None
        done.sums = add_rows(done.sums, trial, batch.x, batch.weight, origin.center)
        if done.data_sums is not None:
            rows = (origin.first, batch.x, batch.weight)
            done.data_sums = add_data_sums(done.data_sums, *rows, trial.proposal.mixture.covariance_type)
        jax.block_until_ready((done.sums, done.data_sums))
    count_batch(done, batch)


def count_batch(done: Pass, batch: Batch) -> None:
    """Count a batch and its rows in place."""
    done.next_batch += 1
    done.num_rows += batch.num_rows
    done.num_positive += batch.num_positive
    done.marks.append(batch.fingerprint)
