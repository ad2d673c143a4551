"""`fit_many` fits many data sets in one call; the data sets may differ in length."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from numpy.typing import ArrayLike

from ...calls import public
from ...covariance.estimates import Member
from ...devices.host import to_host
from ...devices.row_shards import ShardedRows, row_axes, shard_weight
from ...incomplete.observations import Observations
from ...inputs import as_dtype
from ...mixture import Mixture, MixtureLike, as_mixture
from ...priors.interface import MixturePrior
from ...progress import progress_bar
from ...row_sums import FirstRows, weight_array
from ...validation import check_flag, check_progress, is_traced
from ..fit import check_options, fit
from ..initialization import (
    StartOptions,
    check_start_options,
    initialize,
    initialize_batch,
    initialize_incomplete_batch,
)
from ..loop import Options
from ..problem import EMProblem
from ..result import Fit
from ..single_normal import incomplete_batch
from .batched_loop import batch_axes, fit_batch
from .data_sets import Batch, DataSets
from .input_forms import as_data_sets, sets_of_observations
from .observation_sets import has_observations
from .threads import map_threads


class EMOptions(TypedDict, total=False):
    """The options that `fit_restarts`, `select` and others accept and pass to `fit_many`."""

    tol: float | jax.Array
    max_iter: int
    reg_covar: ArrayLike | None
    accelerate: bool
    chunk_size: int | None
    history: bool
    progress: bool | None


EM_OPTIONS = tuple(EMOptions.__annotations__)
_COVARIANCE_TYPE, _METHOD = "full", "k-means++"  # default options of starts that are made from a key
_TOL, _MAX_ITER = 1e-8, 1000


@public
def fit_many(
    mixtures: MixtureLike | jax.Array,
    xs: Any | Observations,
    prior: MixturePrior | None = None,
    *,
    num_components: int | None = None,
    covariance_type: str = _COVARIANCE_TYPE,
    method: str = _METHOD,
    groups: ArrayLike | None = None,
    sample_weight: Any = None,
    tol: float | jax.Array = _TOL,
    max_iter: int = _MAX_ITER,
    reg_covar: Any = None,
    accelerate: bool = False,
    chunk_size: int | None = None,
    history: bool = True,
    progress: bool | None = None,
) -> Fit:
    """Fit many data sets, each as `fit` would fit it. Data sets that have converged take no further steps.

    Data sets of different lengths are padded to the next of 16, 32, 64, ... rows, so that one long data set does not increase
    the padding of all other data sets. One program is compiled for each of these lengths. Invalid values in a data set do not
    raise an error: the status of its fit reports them, and the other fits do not change. Traced data, and data on several
    devices, are fitted by the vmapped `fit`.

    Args:
        mixtures: a stack of B starts (a Mixture or a Fit), or a random key, from which `initialize` makes the starts.
        xs: a list of B arrays (N_b, D); one array (B, N, D); one long array or data frame (N, D) with `groups`; or one
            data set (N, D) that all fits share, with several starts or with weights (B, N). In each of these forms,
            `observations` may take the place of the arrays; a stack (B, N, D) of them comes from jax.vmap.
        prior: as in `fit`. It is one prior for all data sets, or a stack of priors with a leading axis (B,).
        num_components: K; required with a key.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`; used with a key.
        method: as in `initialize`; used with a key.
        groups: (N,) labels of any kind; each label names the data set of a row. Results are in the order of the sorted
            labels.
        sample_weight: weights in the same form as xs: a list of B arrays (N_b,), one array (B, N), or one array (N,) with
            `groups`. For one data set, the shape is (B, N), or (N,) if all fits share the weights. Observations have their
            own weights; only the weights (B, N) of one set of observations are given here, and multiply its own.
        tol: as in `fit`.
        max_iter: as in `fit`.
        reg_covar: as in `fit`.
        accelerate: as in `fit`.
        chunk_size: as in `fit`.
        history: whether to keep the objectives of the steps; if False, the history has shape (B, 0).
        progress: whether to show a progress bar; with None, a bar is shown on a terminal.

    Returns:
        A Fit with a leading axis (B,), in the order of the data sets.

    Raises:
        ValueError: shapes do not match, a weight is negative, or an option is out of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> xs = [rng.normal(size=(n, 2)) for n in (50, 40, 60)]
        >>> jaxgmm.fit_many(jax.random.key(0), xs, num_components=2).mixture.means.shape
        (3, 2, 2)
    """
    starts, start_options = _starts_or_key(mixtures, num_components, covariance_type, method)
    check_flag(history, "history")
    check_progress(progress)
    options = Options(max_iter, bool(accelerate), chunk_size, bool(history))
    if is_traced(starts, xs, sample_weight, prior, tol, reg_covar) or is_spread(xs):
        _check_traced(xs, groups)
        problem = EMProblem(xs, sample_weight, prior, reg_covar)
        if not isinstance(starts, Mixture):
            starts = jax.random.split(starts, _num_data_sets(problem))
        if xs.ndim == 3 and not isinstance(xs, Observations) and row_axes(xs):
            return _fit_on_devices(starts, problem, tol, start_options, options, shard_weight(None, xs))
        return _vmapped_fit(starts, start_options, problem, tol, options)
    num_starts = len(starts.weights) if isinstance(starts, Mixture) else None
    if has_observations(xs):
        sets = sets_of_observations(xs, groups, sample_weight, num_starts, start_options[:2])
    else:
        sets = as_data_sets(xs, groups, sample_weight, num_starts)
    if isinstance(starts, Mixture):
        _check_starts(starts, sets)
    one_prior = jax.tree.map(lambda leaf: leaf[0], prior) if _is_stack(prior) else prior
    shape = (start_options.num_components, sets.num_features, start_options.covariance_type)
    arguments = {"max_iter": max_iter, "reg_covar": reg_covar, "accelerate": accelerate, "chunk_size": chunk_size}
    check_options(one_prior, shape, tol=tol, **arguments)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=sets.dtype))
    starts = cast(starts) if isinstance(starts, Mixture) else jax.random.split(starts, sets.size)
    return _Fits(sets, starts, start_options, cast(prior), cast(reg_covar), np.asarray(tol, sets.dtype), options).run(progress)


def fit_members(
    starts: Mixture, x: jax.Array, member: Member, sample_weight: jax.Array | np.ndarray | None, em_options: EMOptions
) -> Fit:
    """Return the fits of one data set from several starts (B,), by a program that serves several covariance types.

    Args:
        starts: the starts, which have the wide type of `member`.
        x: (N, D), on one device.
        member: the covariance type of the fits. The result has the wide type.
        sample_weight: (N,), (B, N) or None.
        em_options: the options of `fit_many`, without reg_covar.
    """
    options = Options(
        em_options.get("max_iter", _MAX_ITER),
        bool(em_options.get("accelerate", False)),
        em_options.get("chunk_size"),
        em_options.get("history", True),
    )
    tol, progress = em_options.get("tol", _TOL), em_options.get("progress")
    check_progress(progress)
    sets = as_data_sets(x, None, sample_weight, len(starts.weights))
    shape = (starts.num_components, sets.num_features, starts.covariance_type)
    checked = {"max_iter": options.max_iter, "accelerate": options.accelerate, "chunk_size": options.chunk_size}
    check_options(None, shape, tol=tol, reg_covar=None, **checked)
    starts = jax.tree.map(partial(as_dtype, dtype=sets.dtype), starts)
    start_options = StartOptions(starts.num_components, starts.covariance_type, _METHOD)
    fits = _Fits(sets, starts, start_options, None, None, np.asarray(tol, sets.dtype), options, member)
    return fits.run(progress)


def _starts_or_key(
    mixtures: MixtureLike | jax.Array, num_components: int | None, covariance_type: str, method: str
) -> tuple[Mixture | jax.Array, StartOptions]:
    """Return a stack of starts or a random key, and the options with which starts are made from a key."""
    if isinstance(mixtures, jax.Array) or not isinstance(getattr(mixtures, "mixture", mixtures), Mixture):
        options = _start_options(mixtures, num_components, covariance_type, method)
        assert isinstance(mixtures, jax.Array)  # `_start_options` raises an error unless `mixtures` is a random key
        return mixtures, options
    starts = _as_starts(mixtures, num_components, covariance_type, method)
    return starts, StartOptions(starts.num_components, starts.covariance_type, method)


def _as_starts(starts: MixtureLike, num_components: int | None, covariance_type: str, method: str) -> Mixture:
    """Return a stack (B,) of starts; raise ValueError or TypeError for other values, and for options that need a key."""
    starts = as_mixture(starts, "mixtures")
    if len(starts.batch_shape) != 1:
        raise ValueError(
            f"mixtures has leading axes {starts.batch_shape}; a stack (B,) of starts, one for each data set, was expected, or "
            "a random key: for one start and one data set use jaxgmm.fit."
        )
    ignored = {
        "num_components": num_components is not None,
        "covariance_type": covariance_type not in (_COVARIANCE_TYPE, starts.covariance_type),
        "method": method != _METHOD,
    }
    for name, given in ignored.items():
        if given:
            raise ValueError(
                f"{name} was given together with starts, which decide it (K={starts.num_components}, "
                f"{starts.covariance_type!r}): leave it out, or give a random key in place of the starts."
            )
    return starts


def _start_options(key: object, num_components: int | None, covariance_type: str, method: str) -> StartOptions:
    """Return the options of starts that are made from a key, after validation."""
    if num_components is None:
        raise ValueError("num_components is missing; with a key in place of starts it says how many components to make.")
    return check_start_options(key, StartOptions(num_components, covariance_type, method))


def _check_starts(starts: Mixture, sets: DataSets) -> None:
    """Raise ValueError unless there is one start for each data set, with the same number of features."""
    if (len(starts.weights), starts.num_features) != (sets.size, sets.num_features):
        raise ValueError(
            f"mixtures holds {len(starts.weights)} starts with {starts.num_features} features; one for each of {sets.size} "
            f"data sets with {sets.num_features} features was expected."
        )


def _check_traced(xs: object, groups: object) -> None:
    """Raise ValueError if traced data sets come as a list or with groups, because their shapes are then unknown."""
    if groups is not None:
        raise ValueError("groups were given inside jit, where their sizes are not known; give (B, N, D), as from jaxgmm.pad.")
    if isinstance(xs, list | tuple):
        raise ValueError("xs is a list, inside jit; (B, N, D) was expected there, as from jaxgmm.pad.")


def is_spread(xs: object) -> bool:
    """Return whether an array is placed on several devices."""
    return isinstance(xs, jax.Array) and not is_traced(xs) and len(xs.devices()) > 1


def _is_stack(prior: MixturePrior | None) -> bool:
    """Return whether there is one prior for each data set."""
    return prior is not None and jnp.ndim(prior.mean) == 2


def _num_data_sets(problem: EMProblem) -> int:
    """Return the number of data sets, or the number of their weights if all fits share one data set."""
    weight = weight_array(problem.weight)
    return len(weight) if problem.x.ndim == 2 and weight is not None else problem.x.shape[0]


@partial(jax.jit, static_argnums=(3, 4))
def _fit_on_devices(
    starts: Mixture | jax.Array,
    problem: EMProblem,
    tol: float | jax.Array,
    start_options: StartOptions,
    options: Options,
    sets: ShardedRows,
) -> Fit:
    """Fit data sets that are divided among devices. Each device fits its own data sets, without waiting for the others."""
    by_set, shared = PartitionSpec(sets.axes), PartitionSpec()
    axes = batch_axes(problem)
    specs = jax.tree.map(lambda axis: shared if axis is None else by_set, axes, is_leaf=lambda axis: axis is None)

    def of_device(starts: Mixture | jax.Array, problem: EMProblem, tol: float | jax.Array) -> Fit:
        return _vmapped_fit(starts, start_options, problem, tol, options)

    mapped = jax.shard_map(of_device, mesh=sets.mesh, in_specs=(by_set, specs, shared), out_specs=by_set)
    return mapped(starts, problem, tol)


def _vmapped_fit(
    starts: Mixture | jax.Array,
    start_options: StartOptions,
    problem: EMProblem,
    tol: float | jax.Array,
    options: Options,
) -> Fit:
    """Fit data sets that are traced or that lie on several devices; `starts` holds a start or a random key for each."""
    if isinstance(starts, Mixture):
        mixtures = starts
    elif isinstance(problem.x, Observations):
        mixtures = jax.vmap(lambda key, x: initialize(key, x, **start_options._asdict()), (0, 0))(starts, problem.x)
    else:
        mixtures = initialize_batch(starts, problem.x, problem.weight, start_options)

    def one(start: Mixture, problem: EMProblem) -> Fit:
        x, weight, prior, reg_covar, _ = problem
        if isinstance(x, Observations) and isinstance(weight, jax.Array):
            x, weight = dataclasses.replace(x, weight=weight if x.weight is None else x.weight * weight), None
        assert not isinstance(weight, FirstRows | ShardedRows)  # the data are not padded
        chosen = {"max_iter": options.max_iter, "accelerate": options.accelerate, "chunk_size": options.chunk_size}
        result = fit(start, x, prior, sample_weight=weight, tol=tol, reg_covar=reg_covar, **chosen)
        return result if options.history else dataclasses.replace(result, history=result.history[:0])

    return jax.vmap(one, in_axes=(0, batch_axes(problem)))(mixtures, problem)


@dataclass(frozen=True, eq=False)
class _Fits:
    """The arguments of one call of `fit_many`; for each data set, `starts` holds a start or a random key for a start."""

    data_sets: DataSets
    starts: Mixture | jax.Array
    start_options: StartOptions
    prior: MixturePrior | None
    reg_covar: Any
    tol: np.ndarray
    options: Options
    member: Member | None = None  # the covariance type, if the program serves several types

    def run(self, progress: bool | None) -> Fit:
        """Return all fits in the order of the data sets."""
        done: list[tuple[Batch, Fit]] = []
        with progress_bar(self.data_sets.size, " fits", progress) as bar:
            for batch, result in map_threads(self._fit_batch, self.data_sets.batches()):
                done.append((batch, result))
                bar.update(len(batch.members))
        if len(done) == 1:
            return _first(done[0][1], self.data_sets.size)
        # join the results on the host, because joining on a device needs one compiled program for each number of batches
        sizes = [len(batch.members) for batch, _ in done]
        order = np.argsort(np.concatenate([batch.members for batch, _ in done]))

        def join(*leaves: np.ndarray) -> jax.Array:
            return jnp.asarray(np.concatenate([leaf[:size] for leaf, size in zip(leaves, sizes, strict=True)])[order])

        return jax.tree.map(join, *[to_host(result) for _, result in done])

    def _fit_batch(self, batch: Batch) -> Fit:
        """Start the fits of one batch and return their results. JAX computes the results in the background."""
        x, weight = self.data_sets.arrays(batch)
        starts = jax.tree.map(batch.take, self.starts)
        if isinstance(x, Observations):
            rows = x
            x, single = incomplete_batch(rows, weight, self.start_options.covariance_type)
            if not isinstance(starts, Mixture):
                starts = initialize_incomplete_batch(starts, rows, weight, single, self.start_options)
            if (blocks := self.data_sets.blocks_of(batch)) is not None:
                x, weight = x._replace(rows=blocks), None
        elif not isinstance(starts, Mixture):
            starts = initialize_batch(starts, x, weight, self.start_options)
        prior = jax.tree.map(batch.take, self.prior) if _is_stack(self.prior) else self.prior
        problems = EMProblem(x, weight, prior, self.reg_covar, self.member)
        return fit_batch(starts, problems, self.tol, np.asarray(len(batch.members)), self.options, batch.width)


@partial(jax.jit, static_argnums=1)
def _first(fits: Fit, count: int) -> Fit:
    """Return the first `count` fits of a batch."""
    return jax.tree.map(lambda leaf: leaf[:count], fits)
