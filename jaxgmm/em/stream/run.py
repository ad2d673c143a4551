"""A fit over batches in progress: its passes, and the checkpoint from which it can be continued."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any

import jax
import numpy as np

from ...checkpoint import Checkpoint
from ...incomplete.forms import Form
from ...inputs import as_dtype
from ...mixture import Mixture
from ...progress import ProgressBar
from ..fit import check_num_rows
from ..loop import EMState, Options, is_running
from ..problem import CenteredProblem, EMProblem
from ..result import Fit
from .batches import Batch, Source
from .online import OnlineState, accept_average, begin_online, count_pass, end_online, online_rows, stochastic_passes
from .passes import (
    Origin,
    Pass,
    Sums,
    Trial,
    add_batch,
    advance,
    begin,
    count_batch,
    finish,
    first_trial,
    origin_of,
    with_error,
    zero_data_sums,
    zero_sums,
)
from .saved_run import COUNTS, caught_up, restored
from .several_processes import added, are_several, counted, of_first_process, together

SECONDS_BETWEEN_WRITES = 10.0  # seconds between two checkpoints within a pass; each pass ends with a checkpoint, too


class Run:
    """A fit over batches of arrays in progress. `ObservedRun` derives from it for batches of observations.

    Args:
        start: the start, in the user's coordinates.
        problem: the prior and reg_covar, without data.
        tol: as in `fit`.
        options: the static options of the fit.
        source: the batches.
        online: whether passes of stochastic EM follow the first pass; the module `online` describes the order of passes.
    """

    def __init__(
        self, start: Mixture, problem: EMProblem, tol: Any, options: Options, source: Source, *, online: bool = False
    ) -> None:
        """Begin before the first pass. Arguments are cast to the dtype of the data when the first batch is read."""
        self.start, self.arguments, self.tol, self.options, self.source = start, problem, tol, options, source
        self.checkpoint: Checkpoint | None = None
        self.name = "run"
        self.done = Pass()
        self.num_passes = 0
        self.total_rows = 0
        self.origin: Origin | None = None
        self.data_sums: Sums | None = None
        self.first_marks: list[int] | None = None
        self.problem: CenteredProblem | None = None
        self.state: EMState | None = None
        self.trial: Trial | None = None
        self.num_stochastic = stochastic_passes(options.max_iter) if online else 0
        self.online: OnlineState | None = None
        self._written = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether EM has converged, failed or taken all its steps."""
        return self.state is not None and not bool(is_running(jax.tree.map(np.asarray, self.state), self.options))

    def to_end(self, bar: ProgressBar) -> Fit:
        """Make passes over the batches until EM ends, and return the result."""
        if self.ended:
            together(self._check_first_batch)
        while not self.ended:
            self.make_pass(bar)
        assert self.problem is not None
        assert self.state is not None
        return jax.block_until_ready(finish(self.problem, self.state, self.start))

    def constant_columns(self) -> np.ndarray:
        """Return the indices of the columns of the data that are constant."""
        assert self.data_sums is not None
        total, moment, scatter = map(np.asarray, self.data_sums[0])
        squares = scatter.diagonal() if scatter.ndim == 2 else scatter
        return np.flatnonzero((moment == 0) & (squares == 0)) if total > 0 else np.arange(0)

    def make_pass(self, bar: ProgressBar) -> None:
        """Read all batches once, evaluate the present proposal, and make the next one."""
        batches, read = self.source.read(), []
        if self.origin is None:
            read = together(lambda: _until_rows(batches))
            own = self._origin_of(read[-1]) if read and read[-1].num_positive else None
            origin = of_first_process(own)
            if origin is not None:
                self._begin(Origin(*origin))
        together(lambda: self._read(chain(read, batches), bar))
        self._check_enough_rows()
        if are_several():
            self.save()  # if another process is killed after the sums were added, this one can continue after the pass
        self._end_pass()
        self.save()
        objective = "" if self.state is None else f", objective {float(self.state.objective):.9g}"
        bar.set_postfix_str(f"pass {self.num_passes}{objective}")

    def _read(self, batches: Iterable[Batch], bar: ProgressBar) -> None:
        """Use all batches of this process that an interrupted run has not used in this pass."""
        if self.origin is not None and self.num_passes == 0 and are_several():
            self.save()  # all processes have begun together, so that all of them can continue together
        for batch in batches:
            self._check_mark(batch)
            if batch.place >= self.done.next_batch:
                self._use(batch)
            bar.update(batch.num_rows)
            if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
                self.save()
        found = self.done.num_rows
        if self.num_passes and found != self.total_rows:
            raise ValueError(
                f"batches held {self.total_rows} rows in the first pass and {found} in pass {self.num_passes + 1}; every pass "
                "must read the same rows."
            )

    def _use(self, batch: Batch) -> None:
        """Add the rows of a batch to the sums of an exact pass, or take the steps of stochastic EM for them."""
        if self.online is None:
            self._add(batch)
            return
        if batch.num_positive:
            assert self.problem is not None
            self.online = online_rows(self.online, self.problem, batch, self.total_rows)
        count_batch(self.done, batch)

    def _add(self, batch: Batch) -> None:
        """Add the rows of a batch to the sums of an exact pass."""
        add_batch(self.done, batch, self.trial, self.origin)

    def _origin_of(self, batch: Batch) -> Origin:
        """Return the origin of the coordinates, given the first batch with rows of positive weight."""
        return origin_of(batch)

    def _no_data_sums(self) -> Sums:
        """Return the sums that prepare the problem before the first batch."""
        return with_error(zero_data_sums(self.start))

    def _begin(self, origin: Origin) -> None:
        """Cast all arguments to the dtype of the data, and make the start the first proposal."""
        cast = partial(jax.tree.map, partial(as_dtype, dtype=origin.center.dtype))
        self.start, self.arguments, self.tol = cast(self.start), cast(self.arguments), cast(self.tol)
        self.origin, self.trial = origin, first_trial(self.start, origin, self.tol)
        self.done.sums = with_error(zero_sums(self.start))
        self.done.data_sums = self._no_data_sums()

    def _end_pass(self) -> None:
        """Accept or reject the proposal that an exact pass has evaluated, and make the next proposal."""
        if self.online is not None:
            self._end_stochastic_pass()
            return
        assert self.origin is not None
        assert self.done.sums is not None
        sums, center = added(self.done.sums[0]), self.origin.center
        if self.state is None:
            self._keep_first_pass()
            self.problem, self.state = self._prepared()
        assert self.problem is not None
        assert self.trial is not None
        if self.num_stochastic and self.num_passes == self.num_stochastic + 1:
            self.state, self.trial = accept_average(self.problem, self.state, self.trial, sums, self.tol)
        else:
            self.state, self.trial = advance(self.problem, self.state, self.trial, sums, center, self.tol)
        self.origin = Origin(self.origin.first, self.problem.center)
        if self.num_stochastic and self.num_passes == 0:
            self.online = begin_online(self.problem, self.state, self.trial)
        self._begin_next_pass()

    def _keep_first_pass(self) -> None:
        """Store what the first pass has found out about the data, for all later passes."""
        self.data_sums, self.first_marks, self.total_rows = added(self.done.data_sums), self.done.marks, self.done.num_rows

    def _end_stochastic_pass(self) -> None:
        """Count a stochastic pass; after the last one, the next pass evaluates the mixture that they have found."""
        assert self.problem is not None
        assert self.state is not None
        assert self.trial is not None
        assert self.online is not None
        self.state = count_pass(self.state)
        if self.num_passes == self.num_stochastic:
            self.trial, self.online = end_online(self.problem, self.online, self.trial, self.tol), None
        self._begin_next_pass()

    def _begin_next_pass(self) -> None:
        """Count a pass, and begin the next one without sums."""
        self.num_passes += 1
        self.done = Pass(with_error(zero_sums(self.start)))

    def _prepared(self) -> tuple[CenteredProblem, EMState]:
        """Return the problem and the state before the start is evaluated, given the sums of the first pass."""
        assert self.origin is not None
        assert self.data_sums is not None
        return begin(self.start, self.arguments, self.tol, self.origin.first, self.data_sums[0], self.options)

    def _check_enough_rows(self) -> None:
        """Raise ValueError if the first pass found no rows, or too few rows, in all processes together."""
        if self.num_passes:
            return
        if counted(self.done.num_rows) == 0:
            raise ValueError("batches holds no rows; at least one batch with rows was expected.")
        regularised = self.arguments.prior is not None or self.arguments.reg_covar is not None
        check_num_rows(counted(self.done.num_positive), self.start, regularised)

    def _check_first_batch(self) -> None:
        """Raise ValueError if the first batch is not the one with which the finished run of the checkpoint began."""
        batches = self.source.read()
        for batch in batches:
            self._check_mark(batch)
            break
        batches.close()

    def _check_mark(self, batch: Batch) -> None:
        """Raise ValueError if a batch differs from the one that an earlier pass or an interrupted run read in its place."""
        if self.checkpoint is None:
            return
        known = self.first_marks if self.first_marks is not None else self.done.marks[: self.done.next_batch]
        if batch.place < len(known) and known[batch.place] != batch.fingerprint:
            raise ValueError(
                f"'{self.checkpoint.path}' belongs to a fit of other data: batch {batch.place} is not the batch that was read "
                "before; give the same batches in the same order, or another path."
            )

    def resume(self, checkpoint: Checkpoint, name: str = "run") -> None:
        """Store the run in a checkpoint from now on, under a name, and continue from what the checkpoint holds there."""
        self.checkpoint, self.name = checkpoint, name
        held = checkpoint.get(name, dict) if name in checkpoint else None
        if are_several():
            held = caught_up(held, is_whole=name == "run")
        if held is not None:
            self._continue_from(held)

    def _continue_from(self, held: dict[str, np.ndarray]) -> None:
        """Continue from the arrays that `save` has stored."""
        counts = dict(zip(COUNTS, held["counts"].tolist(), strict=True))
        self._begin(Origin(held["origin 0"], held["origin 1"]))
        done, layout = self.done, self.source.layout
        self.num_passes, self.total_rows = counts["pass"], counts["total_rows"]
        done.next_batch, done.num_rows, done.num_positive = counts["next_batch"], counts["num_rows"], counts["num_positive"]
        done.marks, layout.length, layout.form = held["marks"].tolist(), counts["length"], Form(*held["form"].tolist())
        data_sums, done.sums = restored(done.data_sums, held, "data_sums"), restored(done.sums, held, "sums")
        done.data_sums = data_sums
        if self.num_passes:
            self.data_sums, done.data_sums, self.first_marks = data_sums, None, held["first marks"].tolist()
            if "state 0" in held:
                self._continue_state(held)

    def _continue_state(self, held: dict[str, np.ndarray]) -> None:
        """Continue with the state that `save` has stored after the first pass."""
        self.problem, blank = self._prepared()
        trial_and_sums = (self.trial, zero_sums(self.start), self.problem.center)
        _, trial = jax.eval_shape(advance, self.problem, blank, *trial_and_sums, self.tol)
        self.state, self.trial = restored(blank, held, "state"), restored(trial, held, "trial")
        if "online 0" in held:
            self.online = restored(jax.eval_shape(begin_online, self.problem, blank, trial), held, "online")

    def save(self) -> None:
        """Write the present state to the checkpoint, if there is one."""
        if self.checkpoint is None or self.origin is None:
            return
        parts = self._parts()
        arrays = {f"{name} {i}": leaf for name, part in parts.items() for i, leaf in enumerate(jax.tree.leaves(part))}
        done, layout = self.done, self.source.layout
        counts = (self.num_passes, done.next_batch, done.num_rows, done.num_positive, layout.length, self.total_rows)
        marks = {"marks": done.marks, "first marks": self.first_marks or []}
        arrays |= {name: np.asarray(values, np.uint32) for name, values in marks.items()}
        numbers = {"counts": np.asarray(counts, np.int64), "form": np.asarray(layout.form, np.int64)}
        self.checkpoint.put(self.name, arrays | numbers)
        self._written = time.monotonic()

    def _parts(self) -> dict[str, Any]:
        """Return the pytrees that make up the present state."""
        data_sums = self.done.data_sums if self.data_sums is None else self.data_sums
        parts = {"origin": self.origin, "sums": self.done.sums, "data_sums": data_sums}
        parts |= {} if self.state is None else {"state": self.state, "trial": self.trial}
        return parts | ({} if self.online is None else {"online": self.online})


def _until_rows(batches: Iterable[Batch]) -> list[Batch]:
    """Read batches up to the first one with rows of positive weight, and return them."""
    read = []
    for batch in batches:
        read.append(batch)
        if batch.num_positive:
            break
    return read
