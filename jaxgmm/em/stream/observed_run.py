"""A fit over batches of observations, which may have missing values, noise, labels and limits.

The first pass computes the means and variances of the observed values of each column. If there is neither a prior nor
reg_covar, the penalty needs V, the covariance of a fit of one component. As in `fit`, this fit takes at most ten EM steps. Here
each of them is a pass. The passes of the fit follow. Each row is treated alone: rows with the same missing values do not
share factorisations.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import covariance
from ...chunking import rows_per_chunk
from ...incomplete.observations import Observations
from ...mixture import Mixture
from ...progress import ProgressBar
from ...row_sums import FirstRows, Weight, add_compensated
from ..incomplete_sums import IncompleteData, IncompleteRows, incomplete_sums
from ..kernels import Rows, whitened_sums
from ..loop import EMState, Options, init
from ..problem import CenteredProblem, EMProblem, prepare
from ..single_normal import STEPS, TOL, covariance_of_data, start_of_columns
from .batches import Batch
from .passes import Origin, Sums, Trial, count_batch, finish, first_trial
from .run import Run
from .several_processes import counted


class ColumnSums(NamedTuple):
    """Sums over rows in float64: the total weight (), and of each column the weight, sum and squares of observed values (D,).

    The values are relative to the first one that the first batch holds.
    """

    total: np.ndarray
    weight: np.ndarray
    moment: np.ndarray
    squares: np.ndarray


class ObservedRun(Run):
    """A fit over batches of observations in progress; the arguments are those of `Run`, without `online`.

    Attributes:
        v: V of the penalty, in the storage form; None until it is known.
        use_labels: whether labels restrict the components of rows.
    """

    v: jax.Array | np.ndarray | None = None
    use_labels = True

    def constant_columns(self) -> np.ndarray:
        """Return the indices of the columns whose observed values are constant."""
        sums = self._columns
        return np.flatnonzero((sums.moment == 0) & (sums.squares == 0)) if sums.total > 0 else np.arange(0)

    def make_pass(self, bar: ProgressBar) -> None:
        """Read all batches once. Before the first pass of EM, other passes find V."""
        if self.data_sums is not None and self.problem is None:
            self._find_covariance(bar)
        super().make_pass(bar)

    @property
    def _columns(self) -> ColumnSums:
        """The sums of the first pass."""
        assert self.data_sums is not None
        return self.data_sums[0]

    def _origin_of(self, batch: Batch) -> Origin:
        """Return the first observed value of each column in the first batch, and 0 if there is none."""
        x, observed = np.asarray(batch.x.x)[: batch.num_rows], _observed_values(batch) > 0
        first = np.where(observed.any(0), np.take_along_axis(x, observed.argmax(0)[None], 0)[0], 0).astype(x.dtype)
        return Origin(first, first)

    def _no_data_sums(self) -> Sums:
        """Return the sums of columns before the first batch."""
        zeros = [np.zeros(self.start.num_features) for _ in range(3)]
        return ColumnSums(np.zeros(()), *zeros), None

    def _add(self, batch: Batch) -> None:
        """Add the rows of a batch to the sums of columns, or to those of the E-step."""
        if batch.num_positive and self.problem is None:
            assert self.origin is not None
            assert self.done.data_sums is not None
            self.done.data_sums = _add_columns(self.done.data_sums[0], batch, np.asarray(self.origin.first)), None
        elif batch.num_positive:
            assert self.origin is not None
            rows = batch.x if self.use_labels else dataclasses.replace(batch.x, allowed=None)
            sums = _add_observations(self.done.sums, self.trial, rows, batch.weight, self.origin.center)
            self.done.sums = jax.block_until_ready(sums)
        count_batch(self.done, batch)

    def _end_pass(self) -> None:
        """End the pass over columns, or accept or reject the proposal that an exact pass has evaluated."""
        if self.data_sums is not None:
            super()._end_pass()
            self.trial = _whitened(self.trial)
            return
        self._keep_first_pass()
        empty = np.flatnonzero(self._columns.weight == 0)
        if self.arguments.prior is None and empty.size:
            raise ValueError(f"x has no value in column {', '.join(map(str, empty))}; leave the column out, or use a prior.")
        self._begin_next_pass()

    def _find_covariance(self, bar: ProgressBar) -> None:
        """Compute V, by passes of a fit of one component if the penalty needs it, and make the start the first proposal."""
        total, mean, variances = self._moments()
        center, start = start_of_columns(total, mean, variances, self.start.covariance_type)
        self.v = start.covariances
        if self.arguments.prior is None and self.arguments.reg_covar is None:
            single = ObservedRun(
                start, EMProblem(None, None, None, None), TOL, Options(STEPS, False, None, history=False), self.source
            )
            single.follow(self)
            while not single.ended:
                single.make_pass(bar)
            assert single.problem is not None
            assert single.state is not None
            self.v = covariance_of_data(finish(single.problem, single.state, single.start).mixture, total, center)
        self._begin_steps()
        self.num_passes += 1
        self.save()

    def follow(self, other: ObservedRun) -> None:
        """Begin as the fit of one component for another run, which has made its first pass."""
        self.use_labels, self.v = False, other.v
        self.data_sums, self.first_marks, self.total_rows = other.data_sums, other.first_marks, other.total_rows
        assert other.origin is not None
        self._begin(other.origin)
        self.done.data_sums, self.num_passes = None, other.num_passes
        self._begin_steps()
        if other.checkpoint is not None:
            self.resume(other.checkpoint, "single")
            self.save()
            counted(0)  # from here on, the checkpoints of all processes hold this run

    def _begin_steps(self) -> None:
        """Make the start the mixture that the next pass evaluates."""
        assert self.origin is not None
        self.problem, self.state = self._prepared()
        self.origin = Origin(self.origin.first, self.problem.center)
        self.trial = _whitened(first_trial(self.start, self.origin, self.tol))

    def _prepared(self) -> tuple[CenteredProblem, EMState]:
        """Return the problem and the state before the start is evaluated."""
        total, mean, _ = self._moments()
        data = IncompleteData(None, total, jnp.where(jnp.isfinite(mean), mean, 0), jnp.asarray(self.v))
        return _begin_problem(self.start, self.arguments._replace(x=data), self.tol, self.options)

    def _moments(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the total weight (), and the means and variances (D,) of the observed values of each column."""
        assert self.origin is not None
        sums, dtype = self._columns, self.start.means.dtype
        weight = np.where(sums.weight > 0, sums.weight, 1)
        shift = sums.moment / weight
        mean = np.asarray(self.origin.first, float) + shift
        moments = (sums.total, mean, np.maximum(sums.squares / weight - shift**2, 0))
        total, mean, variances = (jnp.asarray(moment, dtype) for moment in moments)
        return total, mean, variances

    def _parts(self) -> dict:
        """Return the pytrees that make up the present state."""
        return super()._parts() | ({} if self.problem is None else {"v": self.v})

    def _continue_state(self, held: dict[str, np.ndarray]) -> None:
        """Continue with the state that `save` has stored after V was found."""
        self.v = held["v 0"]
        super()._continue_state(held)


def _observed_values(batch: Batch) -> np.ndarray:
    """Return the weight of each observed value of a batch, (n, D), and 0 for missing values."""
    n = batch.num_rows
    weight = np.ones(n) if isinstance(batch.weight, FirstRows) else np.asarray(batch.weight, float)[:n]
    return np.where(np.asarray(batch.x.mask())[:n], weight[:, None], 0)


def _add_columns(sums: ColumnSums, batch: Batch, first: np.ndarray) -> ColumnSums:
    """Return the sums of columns after the rows of a batch were added."""
    weight = _observed_values(batch)
    x = np.where(weight > 0, np.asarray(batch.x.x, float)[: batch.num_rows] - first, 0)
    total = batch.num_rows if isinstance(batch.weight, FirstRows) else np.asarray(batch.weight, float).sum()
    return ColumnSums(
        np.asarray(sums.total + total),
        sums.weight + weight.sum(0),
        sums.moment + np.einsum("nd,nd->d", weight, x),
        sums.squares + np.einsum("nd,nd,nd->d", weight, x, x),
    )


@jax.jit
def _add_observations(sums: Sums, trial: Trial, rows: Observations, weight: Weight, center: jax.Array) -> Sums:
    """Add the rows of one batch to the sums of an E-step."""
    mixture = trial.proposal.mixture
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    if rows.is_plain:
        chunk = rows_per_chunk(mixture.num_components, mixture.num_features, rows.dtype)
        return add_compensated(*sums, whitened_sums(chunk, mixture, factors, Rows(rows.x, weight, center)))
    return add_compensated(*sums, incomplete_sums(mixture, factors, IncompleteRows(rows, weight, center), None))


@partial(jax.jit, static_argnums=3)
def _begin_problem(start: Mixture, problem: EMProblem, tol: jax.Array, options: Options) -> tuple[CenteredProblem, EMState]:
    """Return the problem and the state before the start is evaluated; the problem contains no rows."""
    centered = prepare(start, problem, tol)._replace(x=None)
    return centered, init(centered, options)


def _whitened(trial: Trial | None) -> Trial:
    """Return a proposal for which the whitened kernel computes all sums, as it does for observations."""
    assert trial is not None
    return trial._replace(far=jnp.ones_like(trial.far, dtype=bool))
