"""How many components, of which type: information criteria, and the sweep over both as batches of fits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from . import covariance
from .density import log_prob, responsibilities
from .em.batch.fit_many import best_of, fit_many, has_spike
from .em.initialization import METHODS, initialize_batch, weighted_data
from .em.result import Fit, Status
from .mixture import Mixture, check_mixture
from .tables import Printed, Table
from .validation import (
    as_weighted_data,
    check_choice,
    check_count,
    check_covariance_type,
    check_key,
)

CRITERIA = ("bic", "aic", "icl", "cv")


def bic(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Bayesian information criterion, -2 log L + p log N: lower is better. Schwarz (1978).

    p counts the free parameters of the components present (weight above 0); N is the total weight.

    Args:
        mixture: one (), or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), nats times two.

    Raises:
        ValueError, TypeError: shapes that do not go together.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.bic(mixture, np.zeros((100, 1)))), 2)
        193.0
    """
    log_likelihood, total = _total(mixture, x, sample_weight)
    return -2 * log_likelihood + _free(mixture) * jnp.log(total)


def aic(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Akaike's information criterion, -2 log L + 2 p: lower is better. Akaike (1974). Arguments as in `bic`.

    Args:
        mixture: one (), or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), nats times two.

    Raises:
        ValueError, TypeError: shapes that do not go together.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.aic(mixture, np.zeros((100, 1)))), 2)
        187.79
    """
    return -2 * _total(mixture, x, sample_weight)[0] + 2 * _free(mixture)


def icl(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Integrated completed likelihood, BIC - 2 sum_n w_n log max_k r_nk: lower is better; prefers components that part.

    Source: Biernacki, Celeux & Govaert (2000), with each point in its likeliest component. Arguments as in `bic`.

    Args:
        mixture: one (), or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), nats times two.

    Raises:
        ValueError, TypeError: shapes that do not go together.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> bool(jaxgmm.icl(mixture, np.zeros((9, 1))) == jaxgmm.bic(mixture, np.zeros((9, 1))))
        True
    """
    x, weight = _data(mixture, x, sample_weight)
    clearest = jnp.log(responsibilities(mixture, x).max(-1))  # (..., N)
    return bic(mixture, x, sample_weight=sample_weight) - 2 * jnp.where(weight > 0, weight * clearest, 0).sum(-1)


@dataclass(frozen=True, eq=False)
class Cell:
    """One fit of a sweep.

    Attributes:
        covariance_type, num_components: which.
        criterion: its value, lower is better; inf where the fit broke down.
        log_likelihood: nats, of all data.
        status: a Status.
        spike: whether a component rests on too few points or on the regularisation; such a cell is chosen last.
        fit: the best of its restarts.
    """

    covariance_type: str
    num_components: int
    criterion: float
    log_likelihood: float
    status: Status
    spike: bool
    fit: Fit


@dataclass(frozen=True, eq=False, repr=False)
class Selection(Printed):
    """A sweep over numbers of components and covariance types; prints as a table.

    Attributes:
        criterion: "bic", "aic", "icl" or "cv".
        cells: {(covariance_type, num_components): Cell}.
        best: the cell with the lowest criterion among those without a spike.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> swept = jaxgmm.select(jax.random.key(0), x, num_components=[1, 2], covariance_types=["tied"], num_restarts=2)
        >>> swept.best.num_components, sorted(swept.cells), swept.best.fit.mixture.means.shape
        (2, [('tied', 1), ('tied', 2)], (2, 1))
    """

    criterion: str
    cells: dict[tuple[str, int], Cell]
    best: Cell

    def _tables(self) -> list[Table]:
        kinds = list(dict.fromkeys(kind for kind, _ in self.cells))
        counts = list(dict.fromkeys(k for _, k in self.cells))
        rows = [[str(k), *(self._entry(self.cells[kind, k]) for kind in kinds)] for k in counts]
        marks = "".join(word for row in rows for word in row)
        notes = {"*": "best", "s": "a spike: not chosen", "!": "not converged"}
        below = ", ".join(f"{mark} {meaning}" for mark, meaning in notes.items() if mark in marks)
        return [Table(f"{self.criterion.upper()}, lower is better", ("K", *(f"{kind} " for kind in kinds)), rows, [below])]

    def _entry(self, cell: Cell) -> str:
        mark = "*" if cell is self.best else "s" if cell.spike else " " if cell.status == Status.CONVERGED else "!"
        return f"{cell.criterion:.2f}{mark}"


def select(
    key: jax.Array,
    x: Any,
    *,
    num_components: Iterable[int] = range(1, 10),
    covariance_types: Iterable[str] = covariance.TYPES,
    criterion: str = "bic",
    num_restarts: int = 10,
    num_folds: int = 5,
    method: str = "k-means++",
    sample_weight: Any = None,
    **options: Any,
) -> Selection:
    """Fits every number of components with every covariance type, as batches, and says which is best.

    A fit with a spike never wins where there is a fit without: a component on fewer than D + 1 points (full), 2 (diag,
    spherical), or at the regularisation's floor; tied has none.

    Args:
        key: a random key.
        x: (N, D).
        num_components: which K to try.
        covariance_types: which types.
        criterion: "bic", "aic", "icl", or "cv": -2 times the log-likelihood of held-out rows, each held out once.
        num_restarts: starts of each cell.
        num_folds: of cross-validation.
        method: of `initialize`.
        sample_weight: (N,) >= 0, or None.
        **options: `fit_many`'s: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Selection.

    Raises:
        ValueError, TypeError: options and data that make no sense; fewer rows than the largest K.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> jaxgmm.select(jax.random.key(0), x, num_components=[1, 2], covariance_types=["tied"], num_restarts=2)
        BIC, lower is better
          K    tied
          1  461.66
          2  392.07*
          * best
    """
    counts, kinds = _check_sweep(key, num_components, covariance_types, criterion, num_restarts, num_folds, method)
    x, weight = weighted_data(x, sample_weight, max(counts))
    key_fits, key_folds, key_held = jax.random.split(key, 3)
    recipe = {"counts": counts, "num_restarts": num_restarts, "method": method, "options": options}
    fold = jax.random.permutation(key_folds, jnp.arange(len(x)) % num_folds)
    held = (fold == jnp.arange(num_folds)[:, None]) * weight  # (F, N)
    cells = {}
    for kind in kinds:
        fits = jax.tree.map(lambda leaf: leaf[:, 0], _sweep(key_fits, x, weight[None], kind, **recipe))
        spikes = has_spike(fits, weight.sum())
        if criterion == "cv":
            trained = _sweep(key_held, x, weight - held, kind, **recipe).mixture  # (len(counts), F)
            densities = jnp.stack([log_prob(trained[:, f], x) for f in range(num_folds)], 1)  # (len(counts), F, N)
            values = -2 * jnp.where(held > 0, held * densities, 0).sum((-2, -1))
        else:
            values = {"bic": bic, "aic": aic, "icl": icl}[criterion](fits.mixture, x, sample_weight=weight)
        for i, k in enumerate(counts):
            fit = _without_absent(jax.tree.map(lambda leaf, i=i: leaf[i], fits), k)
            value = float(values[i]) if jnp.isfinite(fit.log_likelihood) else math.inf
            log_likelihood, status = float(fit.log_likelihood), Status(int(fit.status))
            cells[kind, k] = Cell(
                kind, k, math.inf if math.isnan(value) else value, log_likelihood, status, bool(spikes[i]), fit
            )
    return Selection(criterion, cells, min(cells.values(), key=lambda cell: (cell.spike, cell.criterion)))


def _check_sweep(
    key: Any, num_components: Any, covariance_types: Any, criterion: Any, num_restarts: Any, num_folds: Any, method: Any
) -> tuple[list[int], list[str]]:
    check_key(key)
    check_choice(criterion, "criterion", CRITERIA)
    check_choice(method, "method", METHODS)
    check_count(num_restarts, "num_restarts")
    check_count(num_folds, "num_folds", 2)
    counts = [num_components] if isinstance(num_components, int) else list(num_components)
    kinds = [covariance_types] if isinstance(covariance_types, str) else list(covariance_types)
    for k in counts:
        check_count(k, "num_components")
    for kind in kinds:
        check_covariance_type(kind)
    if not counts or not kinds:
        raise ValueError("num_components or covariance_types is empty; at least one of each was expected.")
    return counts, kinds


def _sweep(
    key: jax.Array,
    x: jax.Array,
    weights: jax.Array,
    covariance_type: str,
    *,
    counts: list[int],
    num_restarts: int,
    method: str,
    options: dict,
) -> Fit:
    """Best fits (len(counts), F) for each number of components and each of F weightings of one data set: one batch."""
    shape = (len(counts), len(weights), num_restarts)
    keys = jax.random.split(key, shape).reshape(-1)
    present = jnp.broadcast_to(jnp.array(counts)[:, None, None], shape).reshape(-1)
    lanes = jnp.broadcast_to(weights[None, :, None], (*shape, len(x))).reshape(-1, len(x))
    recipe = {"num_components": max(counts), "covariance_type": covariance_type, "method": method}
    plain = jnp.broadcast_to(jnp.arange(num_restarts) > 0, shape).reshape(-1)
    starts = initialize_batch(keys, x, lanes, present, plain, **recipe)
    fits = fit_many(starts, x, sample_weight=lanes, **{"history": False} | options)
    fits = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), fits)
    return _best(fits, weights.sum(-1))


@jax.jit
def _best(fits: Fit, totals: jax.Array) -> Fit:
    """The best along the last of three leading axes; totals go with the second."""
    chosen = jax.vmap(jax.vmap(best_of), in_axes=(0, None))(fits, totals)
    return jax.vmap(jax.vmap(lambda fits, i: jax.tree.map(lambda leaf: leaf[i], fits)))(fits, chosen)


def _without_absent(fit: Fit, num_components: int) -> Fit:
    """The first components alone: the others were absent from the start."""
    mixture, k = fit.mixture, num_components
    kept = jnp.arange(k)
    covariances = mixture.covariances
    if covariances.shape[0] == mixture.num_components:
        covariances = covariances[kept]
    mixture = dataclasses.replace(mixture, weights=mixture.weights[kept], means=mixture.means[kept], covariances=covariances)
    return dataclasses.replace(fit, mixture=mixture, component_status=fit.component_status[kept])


def _data(mixture: Mixture, x: Any, sample_weight: Any) -> tuple[jax.Array, jax.Array]:
    check_mixture(mixture)
    x, weight = as_weighted_data(x, sample_weight, check_values=False, num_features=mixture.num_features)
    return x, jnp.ones(len(x), x.dtype) if weight is None else weight


def _total(mixture: Mixture, x: Any, sample_weight: Any) -> tuple[jax.Array, jax.Array]:
    """Log-likelihoods (...) and the total weight."""
    x, weight = _data(mixture, x, sample_weight)
    densities = log_prob(mixture, x)
    return jnp.where(weight > 0, weight * densities, 0).sum(-1), weight.sum()


def _free(mixture: Mixture) -> jax.Array:
    """Free parameters of the components present (...)."""
    k, d = (mixture.weights > 0).sum(-1), mixture.num_features
    return k - 1 + k * d + covariance.num_free(mixture.covariance_type, k, d)
