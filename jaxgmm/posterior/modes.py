"""modes: find the modes of a posterior, and the mass of each mode, by EM that starts from draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..cells import look, numbers
from ..density import log_prob
from ..em.batch.fit_many import fit_many
from ..em.batch.restarts import identified
from ..em.result import Fit, Status, unsoundness
from ..incomplete.checks import check_match
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import rows_at
from ..inputs import as_rows
from ..mixture import Mixture
from ..priors.interface import MixturePrior, check_prior
from ..tables import Printed, Table
from ..validation import check_count, check_progress, is_traced
from .label_assignment import relabel_mixtures
from .result import Posterior, check_one_number, check_one_posterior

# Two fits are the same mode if their objectives differ by at most 0.1 nats and their log densities at the rows by at most 0.05
# in root mean square. Fits that converge to the same mode differ by much less, and fits at different modes by much more.
SAME_OBJECTIVE, _SAME_DENSITY = 0.1, 0.05
_MOST_ROWS = 4096  # the densities of fits are compared at no more rows than this
_EM_OPTIONS: dict[str, Any] = {"tol": 1e-9, "max_iter": 5000, "accelerate": True, "history": False}
_MOST_SHOWN = 8  # largest number of modes in the printed table


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["mixture", "objective", "mass", "mass_error", "status"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Modes(Printed):
    """The modes of a posterior that EM reaches from the draws. The mode with the largest mass is the first.

    Attributes:
        mixture: a Mixture with the leading axis (M,), the modes in data units. Their components are in the order that matches
            the first mode best.
        objective: (M,), log-likelihood plus log prior at each mode, in nats.
        mass: (M,), the share of the draws from which EM converges to the mode. The sum is less than 1 if some fits failed.
        mass_error: (M,), the standard error of the mass.
        status: (M,), a Status that says how EM ended at the mode.

    Example:
        >>> import jaxgmm, jax.numpy as jnp
        >>> mixture = jaxgmm.make_mixture([[1.0]], [[[0.0]]], [[[[1.0]]]])
        >>> jaxgmm.Modes(mixture, jnp.array([-9.0]), jnp.array([1.0]), jnp.array([0.0]), jnp.array([0])).mass.tolist()
        [1.0]
    """

    mixture: Mixture
    objective: jax.Array
    mass: jax.Array
    mass_error: jax.Array
    status: jax.Array

    def _tables(self) -> list[Table]:
        return [modes_table(self)]


def modes_table(modes: Modes) -> Table:
    """Return a table with one line for each mode."""
    values = (modes.mass, modes.mass_error, modes.objective, modes.status, modes.mixture.weights, modes.mixture.means)
    fields = [value for value in map(look, values) if value is not None]
    if len(fields) < len(values):
        return Table("Modes, traced")
    mass, error, objective, status, weights, means = fields
    rows = [
        [
            str(i),
            f"{100 * mass[i]:.1f} %",
            f"{100 * error[i]:.1f} %",
            f"{objective[i]:.3f}",
            numbers(weights[i], 3),
            "; ".join(numbers(mean, 4) for mean in means[i]),
        ]
        for i in range(min(len(mass), _MOST_SHOWN))
    ]
    notes = [f"{len(mass) - _MOST_SHOWN} further modes hold {100 * mass[_MOST_SHOWN:].sum():.1f} %"]
    notes = notes if len(mass) > _MOST_SHOWN else []
    notes += [Status(int(s)).sentence for s in np.unique(status) if s != Status.CONVERGED]
    if mass.sum() < 1 - 1e-6:
        notes.append(f"{100 * (1 - mass.sum()):.1f} % of the draws belong to no mode, because their fits failed")
    columns = ("mode", "mass", "+-", "objective", "weights", "means")
    return Table(f"Modes of a posterior: {len(mass)} found", columns, rows, notes)


@public
def modes(
    posterior: Posterior,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    *,
    num_starts: int = 400,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> Modes:
    """Find the modes of a posterior, and the mass of each mode, by EM that starts from draws.

    EM starts from draws that are evenly spaced in each chain. From each draw, it converges to a mode of the objective

        objective(theta) = sum_n w_n log p(x_n | theta) + log p(theta)

    in (weights, means, covariances). Fits that differ only by a permutation of the components are one mode: they have the same
    objective, within 0.1 nats, and the same log densities at the rows, within 0.05 in root mean square. The mass of a mode is
    the share of the draws from which EM converges to the mode. If the posterior is from `smc`, its runs have unequal weights,
    stats["chain_weight"], and each run enters with its weight.

    With draws by `smc`, the masses are consistent estimates. Chains by `nuts` and `gibbs` may stay near their starts. The
    masses then include only the modes that the chains visit.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), the data of the posterior, or `observations`.
        prior: the prior of the fits; None: the prior of the posterior. EM needs a Prior, or an IndependentPrior whose scale is
            InverseWishart or InverseGamma, with concentrations of at least 1.
        num_starts: number of draws from which EM starts. It is rounded up, because each chain contributes the same number of
            draws. If there are fewer draws, all are used.
        sample_weight: (N,) >= 0, the weights of the posterior.
        progress: whether to show a progress bar; None: show it on a terminal.

    Returns:
        Modes. The standard error of a mass is computed from the differences between the chains, but it is never smaller than
        the error for independent draws. For a single chain, the error for independent draws is returned, which is too small if
        the draws are correlated.

    Raises:
        ValueError, TypeError: the posterior is not a single Posterior or has no prior; it is from `telescope` and was not given
            to `condition_on_occupied`; EM cannot use the prior; the data do not match the draws; or a value is traced (the
            number of modes depends on the values).

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> posterior = jaxgmm.smc(jax.random.key(0), x, prior, num_components=1, num_samples=200, num_chains=2)
        >>> jaxgmm.modes(posterior, x, num_starts=20).mass.tolist()
        [1.0]
    """
    check_one_posterior(posterior)
    check_one_number(posterior, "modes")
    check_count(num_starts, "num_starts")
    check_progress(progress)
    if is_traced(posterior, x, prior, sample_weight):
        raise TypeError("modes returns as many modes as it finds, so it cannot be traced; call it outside jit and vmap.")
    prior = posterior.prior if prior is None else prior
    if prior is None:
        raise TypeError("posterior has no prior, but EM looks for modes of the posterior; pass the prior as prior=.")
    mixture = posterior.mixture
    check_prior(prior, mixture.num_components, mixture.num_features, mixture.covariance_type, mode=True)
    rows, weight = as_rows(x, sample_weight, num_features=mixture.num_features)
    check_match(rows, mixture.num_components, mixture.covariance_type)
    starts, chain = _choose_starts(mixture, num_starts)
    fits = fit_many(starts, rows, prior, sample_weight=weight, progress=progress, **_EM_OPTIONS)
    groups = _group(fits, rows, weight)
    if not groups:
        raise ValueError("no draw leads to a mode: all fits failed; check that the posterior was made from these data.")
    concentration = identified(rows, prior.weight_concentration)
    return _collect(fits, groups, _Shares(chain, _chain_weights(posterior)), concentration)


class _Shares(NamedTuple):
    """The chain (R,) that each start came from, and the weights (C,) of the chains, which sum to 1."""

    chain: np.ndarray
    weights: np.ndarray

    def mass(self, members: np.ndarray) -> tuple[float, float]:
        """Return the weighted share of the starts where `members` (R,) is True, and the standard error of this share."""
        count = len(self.weights)
        shares = np.array([members[self.chain == c].mean() for c in range(count)])
        mass, sizes = float(self.weights @ shares), np.bincount(self.chain, minlength=count)
        independent = max(mass * (1 - mass), 0) * (self.weights**2 / sizes).sum()
        between = (self.weights**2 * (shares - mass) ** 2).sum() * count / (count - 1) if count > 1 else 0.0
        return mass, float(np.sqrt(max(independent, between)))


def _choose_starts(mixture: Mixture, num_starts: int) -> tuple[Mixture, np.ndarray]:
    """Return draws (R, ...) that are evenly spaced in each chain, and the index (R,) of the chain of each draw."""
    chains, draws = mixture.batch_shape
    each = min(draws, -(-num_starts // chains))
    places = np.linspace(0, draws - 1, each).round().astype(int)
    chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[:, places].reshape(chains * each, *leaf.shape[2:]), mixture)
    return chosen, np.repeat(np.arange(chains), each)


def _chain_weights(posterior: Posterior) -> np.ndarray:
    """Return the weights (C,) of the chains, which sum to 1."""
    chains = len(posterior.log_density)
    weights = np.asarray(posterior.stats.get("chain_weight", np.ones(chains)), float)
    return weights / weights.sum()


def _group(fits: Fit, x: Data, weight: jax.Array | None) -> list[np.ndarray]:
    """Divide the fits into groups, one group for each mode. Return for each group booleans (R,), True for its members.

    Each group consists of the best fit that is not yet in a group, and of all fits that lie at the same mode.
    """
    objective = np.asarray(fits.objective, float)
    left = _are_sound(fits)
    density, w = _densities(fits.mixture, x, weight)
    groups = []
    while left.any():
        best = np.where(left, objective, -np.inf).argmax()
        same = left & _are_same(objective, density, best, w)
        groups.append(same)
        left = left & ~same
    return groups


def _are_sound(fits: Fit) -> np.ndarray:
    """Return booleans (R,), True for the fits that ended at a mode."""
    return (unsoundness(np.asarray(fits.status), False, True) == 0) & np.isfinite(np.asarray(fits.objective))


def _densities(mixture: Mixture, x: Data, weight: jax.Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the log densities (R, n) of mixtures at some rows, and the weights (n,) of these rows, which sum to 1."""
    w = np.ones(len(x)) if weight is None else np.asarray(weight, float)
    rows = np.flatnonzero(w > 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).round().astype(int)]
    return np.asarray(log_prob(mixture, rows_at(x, rows)), float), w[rows] / w[rows].sum()


def _are_same(objective: np.ndarray, density: np.ndarray, best: int | np.integer, w: np.ndarray) -> np.ndarray:
    """Return booleans (R,), True for the fits that lie at the same mode as the fit with the index `best`."""
    difference = np.sqrt((density - density[best]) ** 2 @ w)
    return (abs(objective - objective[best]) <= SAME_OBJECTIVE) & (difference <= _SAME_DENSITY)


def find_among(
    modes: Modes, estimate: Mixture, objective: float, x: Data, weight: jax.Array | None, prior: MixturePrior
) -> tuple[int | None, float]:
    """Find the mode at which an EM estimate with a given objective lies. Return its index and its objective in nats.

    If the estimate is near none of the modes, EM starts from it. The index is None if the mode that is reached is not among
    `modes`, or if this fit failed.
    """
    place = _place_among(modes, estimate, objective, x, weight)
    if place is not None:
        return place, float(modes.objective[place])
    fit = fit_from(estimate, x, weight, prior)
    reached = float(fit.objective)
    return (_place_among(modes, fit.mixture, reached, x, weight) if _are_sound(fit).all() else None), reached


def fit_from(estimate: Mixture, x: Data, weight: jax.Array | None, prior: MixturePrior) -> Fit:
    """Return the fit that EM reaches from one mixture under a prior."""
    start = jax.tree.map(lambda leaf: leaf[None], estimate)
    fit = fit_many(start, x, prior, sample_weight=weight, progress=False, **_EM_OPTIONS)
    return jax.tree.map(lambda leaf: leaf[0], fit)


def with_fit(modes: Modes, fit: Fit, x: Data, weight: jax.Array | None) -> Modes:
    """Return the modes. If a fit is sound and is not among the modes, add the fit as a mode of mass 0."""
    if not _are_sound(fit).all() or _place_among(modes, fit.mixture, float(fit.objective), x, weight) is not None:
        return modes
    none: Any = np.zeros(())
    further = Modes(fit.mixture, fit.objective, none, none, fit.status)
    return jax.tree.map(lambda many, one: np.concatenate([many, np.asarray(one, many.dtype)[None]]), modes, further)


def _place_among(modes: Modes, one: Mixture, objective: float, x: Data, weight: jax.Array | None) -> int | None:
    """Return the index of the mode that is the same as a mixture with a given objective, or None if there is no such mode."""
    stack = jax.tree.map(lambda one, many: np.concatenate([np.asarray(one)[None], many]), one, modes.mixture)
    density, w = _densities(stack, x, weight)
    same = _are_same(np.concatenate([[objective], np.asarray(modes.objective, float)]), density, 0, w)[1:]
    return int(same.argmax()) if same.any() else None


def _collect(fits: Fit, groups: list[np.ndarray], shares: _Shares, concentration: jax.Array | np.ndarray) -> Modes:
    """Return the Modes of groups of fits, the mode with the largest mass first.

    Components may exchange places if their concentrations (K,) are equal.
    """
    found = np.array([shares.mass(members) for members in groups])
    order = np.argsort(-found[:, 0], kind="stable")
    objective = np.asarray(fits.objective)
    best = np.array([np.where(groups[i], objective, -np.inf).argmax() for i in order])
    mixture = jax.tree.map(lambda leaf: leaf[best], fits.mixture)
    exchangeable = concentration[:, None] == concentration[None, :]
    first = jax.tree.map(lambda leaf: leaf[0], mixture)
    mixture, _ = relabel_mixtures(mixture, first, method="kl", exchangeable=exchangeable)
    mass, error = found[order].T.astype(objective.dtype)
    return Modes(mixture, fits.objective[best], mass, error, fits.status[best])
