"""Many fits in one call: data sets of any lengths, restarts of one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import covariance
from ...chunking import batch_of_fits
from ...inputs import as_dtype
from ...mixture import Mixture
from ...priors.interface import MixturePrior
from ...progress import progress_bar
from ...validation import check_count, check_flag, is_traced
from ..fit import check_options, emit_warnings, fit
from ..initialization import check_recipe, initialize_batch, weighted_data
from ..loop import EMProblem, Options
from ..result import ComponentStatus, Fit, Status
from .batched_loop import fit_in_rounds
from .data_sets import DataSets, as_data_sets
from .threads import map_threads


def pad(data_sets: Sequence[Any]) -> tuple[jax.Array, jax.Array]:
    """Data sets of different lengths as one stack, and the sample weights that silence the padding.

    Args:
        data_sets: B arrays (N_b, D).

    Returns:
        x (B, N, D) with N the longest length, zeros behind each data set; sample_weight (B, N): 1 for rows, 0 for padding.

    Raises:
        ValueError, TypeError: no data sets, not (N, D) each, different D.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x, sample_weight = jaxgmm.pad([np.ones((3, 2)), np.ones((1, 2))])
        >>> x.shape, sample_weight.sum(1).tolist()
        ((2, 3, 2), [3.0, 1.0])
    """
    sets = as_data_sets(list(data_sets), None, None, None)
    x, weight = sets.block(np.arange(sets.size), max(len(one) for one in sets.x), sets.size)
    return jnp.asarray(x), jnp.asarray(weight)


def fit_many(
    mixtures: Mixture | jax.Array,
    xs: Any,
    prior: MixturePrior | None = None,
    *,
    num_components: int | None = None,
    covariance_type: str = "full",
    method: str = "k-means++",
    groups: Any = None,
    sample_weight: Any = None,
    tol: Any = 1e-8,
    max_iter: int = 1000,
    reg_covar: Any = None,
    accelerate: bool = False,
    chunk_size: int | None = None,
    history: bool = True,
    progress: bool | None = None,
) -> Fit:
    """Fits of many data sets, each as `fit` would: in blocks of lanes, without waiting for the slowest.

    Data sets of different lengths are sorted into buckets (16, 32, 64, ... rows), so that a long one pads no others, and
    each bucket is compiled once. Nothing raises for what a data set holds: its status says, and its neighbours are as if it
    were not there. Traced, or spread over several devices, it is the vmapped `fit`.

    Args:
        mixtures: B starts, stacked; or a random key: then `initialize` makes them.
        xs: a list of B arrays (N_b, D); one array (B, N, D); one long array (N, D) with `groups`; or one data set (N, D)
            that all starts share, as for restarts, or with sample weights of each.
        prior: as in `fit`: one for all, or stacked with a leading (B,).
        num_components: K, to go with a key.
        covariance_type: "full", "tied", "diag" or "spherical", to go with a key.
        method: of `initialize`, to go with a key.
        groups: (N,) labels of any kind that say whose row it is; results in the order of the sorted labels.
        sample_weight: in the form of xs: B arrays (N_b,), (B, N), or (N,); with one data set (B, N) or (N,).
        tol: as in `fit`.
        max_iter: as in `fit`.
        reg_covar: as in `fit`.
        accelerate: as in `fit`.
        chunk_size: as in `fit`.
        history: keep each fit's history; False gives it the shape (B, 0).
        progress: a progress bar; None: on a terminal.

    Returns:
        A Fit with a leading (B,), in the order of the data sets.

    Raises:
        ValueError, TypeError: shapes, kinds of data, starts and options that make no sense.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> xs = [rng.normal(size=(n, 2)) for n in (50, 400, 120)]
        >>> jaxgmm.fit_many(jax.random.key(0), xs, num_components=2).mixture.means.shape
        (3, 2, 2)
    """
    if isinstance(mixtures, Mixture):
        if len(mixtures.batch_shape) != 1:
            raise ValueError(f"mixtures has batch shape {mixtures.batch_shape}; a stack (B,) of starts was expected, or a key.")
        k, kind, begin = mixtures.num_components, mixtures.covariance_type, _as_given
    else:
        if num_components is None:
            raise ValueError("num_components is missing; with a key in place of starts it says how many components to make.")
        check_recipe(mixtures, num_components, covariance_type, method)
        k, kind = num_components, covariance_type
        begin = partial(initialize_batch, num_components=k, covariance_type=kind, method=method)
    check_flag(history, "history")
    options = Options(max_iter, bool(accelerate), chunk_size, bool(history))
    if is_traced(mixtures, xs, sample_weight, prior, tol, reg_covar) or _is_spread(xs):
        if groups is not None:
            raise ValueError(
                "groups were given inside jit, where their sizes are not known; give (B, N, D), as from jaxgmm.pad."
            )
        return _vmapped(mixtures, begin, xs, prior, sample_weight, tol=tol, reg_covar=reg_covar, options=options)
    sets = as_data_sets(xs, groups, sample_weight, mixtures.batch_shape[0] if isinstance(mixtures, Mixture) else None)
    if isinstance(mixtures, Mixture) and (mixtures.batch_shape[0], mixtures.num_features) != (sets.size, sets.num_features):
        raise ValueError(
            f"mixtures holds {mixtures.batch_shape[0]} starts with {mixtures.num_features} features; one for each of {sets.size} data "
            f"sets with {sets.num_features} features was expected."
        )
    one_prior = jax.tree.map(lambda leaf: leaf[0], prior) if _axis(prior) == 0 else prior
    check_options(one_prior, (k, sets.num_features, kind), tol, max_iter, reg_covar, accelerate, chunk_size)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=sets.dtype))
    origin = cast(mixtures) if isinstance(mixtures, Mixture) else jax.random.split(mixtures, sets.size)
    shared = EMProblem(None, None, cast(prior), cast(reg_covar))
    run = partial(_start_block, sets, origin, begin, shared, np.asarray(tol, sets.dtype), options)
    return _gathered(run, sets, progress)


def _as_given(starts: Mixture, x: Any, weight: Any) -> Mixture:
    return starts


def _is_spread(xs: Any) -> bool:
    """Placed over several devices."""
    return isinstance(xs, jax.Array) and not is_traced(xs) and len(xs.devices()) > 1


def _axis(prior: MixturePrior | None) -> int | None:
    """0 for a stack of priors, one a data set."""
    return 0 if prior is not None and jnp.ndim(prior.mean) == 2 else None


def _vmapped(
    mixtures: Any, begin: Callable, xs: Any, prior: Any, sample_weight: Any, *, tol: Any, reg_covar: Any, options: Options
) -> Fit:
    if isinstance(xs, list | tuple):
        raise ValueError("xs is a list, inside jit; (B, N, D) was expected there, as from jaxgmm.pad.")
    shared = xs.ndim == 2
    size = mixtures.batch_shape[0] if isinstance(mixtures, Mixture) else len(sample_weight if shared else xs)
    origin = mixtures if isinstance(mixtures, Mixture) else jax.random.split(mixtures, size)
    axes = (None if shared else 0, None if sample_weight is None or sample_weight.ndim == 1 else 0, _axis(prior))

    def one(start: Mixture, x: Any, weight: Any, prior: Any) -> Fit:
        chosen = {"max_iter": options.max_iter, "accelerate": options.accelerate, "chunk_size": options.chunk_size}
        result = fit(start, x, prior, sample_weight=weight, tol=tol, reg_covar=reg_covar, **chosen)
        return result if options.history else dataclasses.replace(result, history=result.history[:0])

    return jax.vmap(one, in_axes=(0, *axes))(begin(origin, xs, sample_weight), xs, sample_weight, prior)


def _start_block(
    sets: DataSets,
    origin: Any,
    begin: Callable,
    shared: EMProblem,
    tol: np.ndarray,
    options: Options,
    whose: np.ndarray,
    length: int,
) -> Fit:
    """Sends one block of data sets of one padded length on its way; nothing waits for it."""
    size, width = batch_of_fits(len(whose), length)
    lanes = np.concatenate([whose, np.full(size - len(whose), whose[-1])])
    x, weight = (value if value is None else jnp.asarray(value) for value in sets.block(whose, length, size))
    axis = _axis(shared.prior)
    prior = shared.prior if axis is None else jax.tree.map(lambda leaf: leaf[lanes], shared.prior)
    axes = EMProblem(None if sets.shared else 0, None if weight is None else 0, axis, None)
    starts = begin(jax.tree.map(lambda leaf: leaf[lanes], origin), x, weight)
    count = np.asarray(len(whose))
    return fit_in_rounds(starts, EMProblem(x, weight, prior, shared.reg_covar), tol, count, options, axes, width)


def _gathered(run: Callable, sets: DataSets, progress: bool | None) -> Fit:
    """All blocks' fits in the order of the data sets."""

    def blocks() -> Iterator[tuple[np.ndarray, int]]:
        for length, members in sets.buckets():
            size, _ = batch_of_fits(len(members), length)
            for lo in range(0, len(members), size):
                yield members[lo : lo + size], length

    done: list[tuple[np.ndarray, Fit]] = []
    with progress_bar(sets.size, " fits", progress) as bar:
        for (whose, _), result in map_threads(lambda job: run(*job), blocks()):
            done.append((whose, jax.tree.map(lambda leaf, whose=whose: leaf[: len(whose)], result)))
            bar.update(len(whose))
    back = np.argsort(np.concatenate([whose for whose, _ in done]))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[back]), *[result for _, result in done])


def fit_restarts(
    key: jax.Array,
    x: Any,
    prior: MixturePrior | None = None,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_restarts: int = 10,
    method: str = "k-means++",
    sample_weight: Any = None,
    **options: Any,
) -> Fit:
    """The best of several fits from different starts, run as one batch.

    The first start is `initialize`'s, the likeliest of several draws; the others are single draws, and differ more.

    Best is the largest objective among finite fits. A fit with a spike (a component on fewer than D + 1 points, 2 for diag and
    spherical, or at the regularisation's floor; tied has none) ranks below every fit without one: its likelihood means nothing.

    Args:
        key: a random key.
        x: (N, D).
        prior: for MAP, as in `fit`.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_restarts: how many starts.
        method: of `initialize`.
        sample_weight: (N,) >= 0, or None.
        **options: `fit_many`'s other options: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Fit. Under vmap over keys or data one for each.

    Raises:
        ValueError, TypeError: as `initialize` and `fit`.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", num_restarts=5)
        >>> round(float(best.log_likelihood), 1)
        -1126.3
    """
    check_recipe(key, num_components, covariance_type, method)
    check_count(num_restarts, "num_restarts")
    x, weight = weighted_data(x, sample_weight, num_components)
    recipe = {"num_components": num_components, "covariance_type": covariance_type, "method": method}
    plain = jnp.arange(num_restarts) > 0
    starts = initialize_batch(jax.random.split(key, num_restarts), x, weight, plain=plain, **recipe)
    weight = None if sample_weight is None else weight
    fits = fit_many(starts, x, prior, sample_weight=weight, **options)
    start, result = _take_best(starts, fits, np.asarray(len(x), x.dtype) if weight is None else weight.sum())
    if not is_traced(result):
        emit_warnings(result, start, x, weight)
    return result


@jax.jit  # whole: operation by operation it costs a second of a first call
def _take_best(starts: Mixture, fits: Fit, total: jax.Array) -> tuple[Mixture, Fit]:
    chosen = best_of(fits, total)
    return jax.tree.map(lambda leaf: leaf[chosen], (starts, fits))


def best_of(fits: Fit, total: jax.Array) -> jax.Array:
    """Index of the best of a stack of fits (R,) to data of the same total weight."""
    finite = jnp.isfinite(fits.objective) & (fits.status != Status.NONFINITE) & (fits.status != Status.EMPTY_DATA)
    sound = finite & ~has_spike(fits, total)
    rank = jnp.where(sound.any(), sound, finite)
    return jnp.where(rank, fits.objective, -jnp.inf).argmax()


def has_spike(fits: Fit, total: jax.Array) -> jax.Array:
    """Whether a fit (...) has a component on too few points, or at the floor; never for tied."""
    mixture = fits.mixture
    fewest = covariance.fewest_points(mixture.covariance_type, mixture.num_features)
    if not fewest:
        return jnp.zeros(mixture.batch_shape, bool)
    few = (mixture.weights > 0) & (mixture.weights * total[..., None] < fewest)
    return (few | (fits.component_status == ComponentStatus.AT_FLOOR)).any(-1)
