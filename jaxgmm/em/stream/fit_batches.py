"""`fit_batches` fits a mixture to data that are read in batches, by EM in which one pass over the data is one step."""

from __future__ import annotations

import os
from typing import Any

import jax
from numpy.typing import ArrayLike

from ...calls import public
from ...checkpoint import Checkpoint, check_target
from ...devices.processes import check_same_arguments
from ...mixture import MixtureLike, as_mixture
from ...priors.interface import MixturePrior
from ...progress import progress_bar
from ...validation import check_flag, check_progress, is_traced
from ..fit import check_options
from ..fit_warnings import emit_warnings
from ..loop import Options
from ..problem import EMProblem
from ..result import Fit
from .batches import Batches, Layout, Source
from .observed_run import ObservedRun
from .run import Run
from .saved_run import design
from .several_processes import are_several, own_path, same_kind, together


@public
def fit_batches(
    mixture: MixtureLike,
    batches: Batches,
    prior: MixturePrior | None = None,
    *,
    tol: float | jax.Array = 1e-8,
    max_iter: int = 1000,
    reg_covar: ArrayLike | None = None,
    accelerate: bool = False,
    online: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Fit:
    """Fit a mixture by EM to data that do not fit into memory. One pass over the batches is one EM step.

    Apart from rounding, the result is that of `fit` for all rows together: the sums over rows on which a step depends can be
    added over batches. EM makes num_iter + 1 passes, because the last pass evaluates the mixture that is returned. Two
    batches are in memory at a time, because the next one is read while this one is used.

    Batches may be `observations`, with missing values, noise, labels or limits. An additional first pass then computes the
    means and variances of the columns. If there is neither a prior nor reg_covar, two to eleven further passes fit one
    component, whose covariance is V of the penalty, as in `fit`. Each row is treated alone, which takes some ten times as long
    as if rows with the same missing values were treated together.

    After `jax.distributed.initialize()`, all processes must call this function, each with its own batches and with the same
    other arguments. Their sums are added after each pass, and all processes return the same fit.

    Args:
        mixture: the start: a Mixture, as from `initialize_batches`, or a Fit.
        batches: the data: a list of batches, an object that can be iterated again, such as that of `read_batches`, or a
            function without arguments that returns an iterator. A generator is refused, because it can be read only once. A
            batch is an array (n, D), a data frame, a table of Arrow, a pair (x, sample_weight), or Observations. n may differ
            between batches, and empty batches are skipped. All batches must have one dtype. If one batch is Observations, all
            must be.
        prior: as in `fit`.
        tol: as in `fit`.
        max_iter: the largest number of steps.
        reg_covar: as in `fit`.
        accelerate: as in `fit`. Acceleration is most useful here, because each E-step reads all data.
        online: whether to begin with stochastic EM, which takes an M-step after each block of some hundred rows: Cappé &
            Moulines (2009), with the step size (t + 20)^-0.6 and averaged moments. The first pass evaluates the start, at most
            ten stochastic passes follow, and all later passes are exact, so that the fit can end only with an exact pass. All
            passes count as steps, and `history` repeats the objective of the start for the stochastic ones. If they lead to a
            lower objective than that of the start, their result is not used. `online` saves passes where EM converges slowly
            and there are many rows, but a stochastic pass takes about ten times as much computing as an exact one. The order
            of the rows should be random. With `accelerate`, the exact passes are accelerated. `online` is refused for batches
            of Observations, and for several processes, which would have to exchange sums after each block.
        checkpoint: the name of a file. After each pass, and every ten seconds within a pass, the state of the fit is written to
            it. If the same call is made after an interruption, the fit continues from this state, and the result is bitwise
            that of a fit that was not interrupted. The batches must then be the same, in the same order. With several
            processes, each has a file of its own: run.npz becomes run-0.npz, run-1.npz and so on.
        progress: whether to show a progress bar on stderr, with the rows read so far, the pass and the objective. None shows it
            on a terminal.

    Returns:
        A Fit, in the float dtype of the batches.

    Raises:
        ValueError, TypeError: the start or an option is invalid; a batch is invalid (the message names its index); there are no
            rows; a pass reads another number of rows than the first one; the checkpoint cannot be written, or belongs to other
            data or other options; or an argument is traced.

    Warns:
        RuntimeWarning: the fit did not converge, a column is constant, a component holds too few points, all components of the
            start are equal, or the data lie too far from 0 for their float type.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> start = jaxgmm.initialize(jax.random.key(0), x, num_components=2)
        >>> round(float(jaxgmm.fit_batches(start, [x[:100], x[100:]]).log_likelihood), 1)
        -1130.3
    """
    start = as_mixture(mixture, single=True)
    if is_traced(start, prior, tol, reg_covar):
        raise TypeError("an argument is traced, but batches are read on the host; call fit_batches outside jit, vmap and grad.")
    shape = (start.num_components, start.num_features, start.covariance_type)
    numbers: dict[str, Any] = {"tol": tol, "reg_covar": reg_covar}
    if are_several():
        given = {"mixture": start, "prior": prior, **numbers, "max_iter": max_iter, "accelerate": accelerate, "online": online}
        check_same_arguments("fit_batches", given | {"checkpoint": checkpoint is None}, None)
    check_options(prior, shape, max_iter=max_iter, accelerate=accelerate, chunk_size=None, **numbers)
    check_flag(online, "online")
    check_progress(progress)
    if online and are_several():
        raise _refusal("several processes", "but they would exchange sums after each block of some hundred rows")
    path = None if checkpoint is None else own_path(checkpoint)
    together(lambda: check_target(path))
    problem, options = EMProblem(None, None, prior, numbers["reg_covar"]), Options(max_iter, bool(accelerate), None)
    layout = Layout(start.num_features, (start.num_components, start.covariance_type))
    source = together(lambda: Source(batches, layout, 2 if max_iter else 1))
    observed = same_kind(together(source.kind)) == 2
    if observed and online:
        raise _refusal("batches of Observations", "and stochastic EM takes only complete rows")
    kind = ObservedRun if observed else Run
    run = kind(start, problem, tol, options, source, online=bool(online))
    if path is not None:
        made = design(start, problem, tol, options, online=bool(online), observed=observed)
        run.resume(together(lambda: Checkpoint(path, made, "fit")))
    with progress_bar(None, " rows", progress) as bar:
        result = run.to_end(bar)
    emit_warnings(result, run.start, run.arguments, accelerate=bool(accelerate), constant=run.constant_columns())
    return result


def _refusal(other: str, reason: str) -> ValueError:
    """Return the error for a call with online=True and something that stochastic EM cannot use."""
    return ValueError(f"online=True and {other} were both given, {reason}; leave online out: use accelerate=True.")
