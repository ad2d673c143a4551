"""Joint scores of all parameters in unconstrained space.

The scores show where EM lies among the draws, and how far the distribution of the draws is from Laplace's normal approximation.

    u = root^-1 (z - mode)

Here z is the vector of NumPyro's unconstrained parameters. Laplace's approximation of its distribution is N(mode, H^-1), where
H is the information at the mode, and root is a matrix square root of H^-1. In the coordinates u, the approximation is N(0, I).
Distances in u are therefore measured in standard deviations of the approximation, and they do not depend on the units of the
data. For the 2-Wasserstein (Bures) distance between normal distributions see Dowson & Landau (1982), J. Multivariate Anal. 12,
450-455.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import linalg
from ..incomplete.observations import Data
from ..mixture import Mixture, num_parameters
from ..padding import pad_data
from ..posterior.gaussian_approximation import GaussianApproximation, approximate_posterior
from ..posterior.newton import MIN_EIGENVALUE
from ..posterior.standardization import StandardizedProblem, from_standard, to_standard
from ..posterior.unconstrained_space import make_unconstrained_space
from ..priors.interface import MixturePrior
from ..wasserstein import gaussian_w2_squared
from .report_columns import JointScores

NUM_RATIOS = 2000  # number of importance ratios from which k-hat of Laplace's approximation is estimated
_CHEAP = 2e9  # largest number of multiplications with which Laplace's approximation counts as fast (a few seconds)
_FEWEST = 2  # the covariance matrix of the draws is used only if the number of draws exceeds this multiple of P


class Approximation(NamedTuple):
    """Laplace's approximation in unconstrained space.

    `sound` is True if the information matrix at the mode is positive definite.
    """

    problem: StandardizedProblem
    gaussian: GaussianApproximation
    khat: float
    sound: bool


def is_cheap(mixture: Mixture, num_observations: int) -> bool:
    """Return whether the mode, the information and k-hat can be computed within seconds."""
    p = num_parameters(mixture)
    return num_observations * mixture.num_components * mixture.num_features * (NUM_RATIOS + 40.0 * p) + 40.0 * p**3 <= _CHEAP


def approximate(
    key: jax.Array, mixture: Mixture, x: Data, weight: jax.Array | None, prior: MixturePrior
) -> Approximation | None:
    """Return Laplace's approximation at the mode that Newton's method reaches from an EM solution.

    Return None if the solution has an empty component, or if the log density at the mode is not finite.
    """
    if not (np.asarray(mixture.weights) > 0).all():
        return None
    start, prior = jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), (mixture, prior))
    problem, gaussian = approximate_posterior(key, start, *pad_data(x, weight), prior)
    if not np.isfinite(float(gaussian.value)):
        return None
    return Approximation(problem, gaussian, float(gaussian.khat), float(gaussian.min_eigenvalue) > MIN_EIGENVALUE)


@jax.jit
def transform(
    problem: StandardizedProblem, gaussian: GaussianApproximation, draws: Mixture, u: jax.Array
) -> tuple[jax.Array, Mixture]:
    """Transform the mixtures `draws` to coordinates, and the coordinates `u` to mixtures, in one compiled program.

    Return the coordinates (M, P) of `draws`, and the mixtures (M, ...) whose coordinates are `u`. The mixtures `draws` (M, ...)
    and the coordinates `u` (M, P) need not belong together. All mixtures are in data units.
    """
    space = make_unconstrained_space(problem, gaussian.start)
    z = jax.vmap(lambda draw: space.flatten(to_standard(draw, problem)))(draws)
    back = gaussian.mode + jnp.matmul(u, gaussian.root.T, precision="highest")
    mixtures = from_standard(jax.vmap(lambda one: space.unflatten(one)[0])(back), problem)
    return linalg.solve(gaussian.root, (z - gaussian.mode).T).T, mixtures


def gaussian_kl(mean: ArrayLike, cov: ArrayLike, other_mean: ArrayLike, other_cov: ArrayLike) -> float:
    """Return KL(N(mean, cov) || N(other_mean, other_cov)) in nats; infinite if cov is singular.

    Example:
        >>> round(gaussian_kl([0.0], [[1.0]], [1.0], [[1.0]]), 3)
        0.5
    """
    mean, cov, other_mean, other_cov = (np.asarray(v, float) for v in (mean, cov, other_mean, other_cov))
    (sign, log_det), (_, other_log_det) = np.linalg.slogdet(cov), np.linalg.slogdet(other_cov)
    if sign <= 0:
        return math.inf
    step = other_mean - mean
    ratio = np.linalg.solve(other_cov, cov)
    quadratic = step @ np.linalg.solve(other_cov, step)
    return float(max((np.trace(ratio) + quadratic - len(mean) + other_log_det - log_det) / 2, 0.0))


def compare_jointly(em_density: float, density: np.ndarray, em_u: np.ndarray | None, u: np.ndarray | None) -> JointScores:
    """Compare EM with the draws. Fit a normal distribution to the draws, and compare it with Laplace's approximation.

    Args:
        em_density: log joint density of EM's parameters and the data, in nats; NaN if it is not known.
        density: (C, S), log joint density of the parameters and the data for each draw, in nats.
        em_u: (P,), EM in the coordinates u, in which Laplace's approximation is N(0, I); None without an approximation.
        u: (M, P), the coordinates of the draws; None without an approximation.

    Returns:
        The scores; a score that is not defined is NaN.

    Example:
        >>> u = np.random.default_rng(0).normal(size=(4000, 2))
        >>> found = compare_jointly(0.0, np.full((4, 1000), -1.0), np.array([3.0, 0.0]), u)
        >>> round(found.mahalanobis, 1), found.log_joint_rank, found.laplace_kl < 0.01
        (3.0, 0.0, True)
    """
    known = math.isfinite(em_density)
    return JointScores(
        log_joint_gap=float(em_density - density.mean()) if known else math.nan,
        log_joint_rank=float((density > em_density).mean()) if known else math.nan,
        **_distances(em_u, u),
    )


def _distances(em_u: np.ndarray | None, u: np.ndarray | None) -> dict[str, float]:
    """Return the scores that need the coordinates u. They are NaN if there are too few draws or the draws do not vary."""
    found: dict[str, float] = dict.fromkeys(("mahalanobis", "farther_share", "laplace_kl", "laplace_w2"), math.nan)
    if u is None:
        return found
    u = np.asarray(u, float)
    u = u[np.isfinite(u).all(1)]
    p = u.shape[1]
    if len(u) <= _FEWEST * p or not p:
        return found
    mean, cov = u.mean(0), np.cov(u.T).reshape(p, p)
    if not (np.linalg.eigvalsh(cov) > 0).all():
        return found
    whitener = np.linalg.inv(np.linalg.cholesky(cov))
    if em_u is not None and np.isfinite(em_u).all():
        distance = float(np.linalg.norm(whitener @ (em_u - mean)))
        found["mahalanobis"] = distance
        found["farther_share"] = float((np.linalg.norm((u - mean) @ whitener.T, axis=1) > distance).mean())
    found["laplace_kl"] = gaussian_kl(mean, cov, np.zeros(p), np.eye(p))
    found["laplace_w2"] = float(np.sqrt(gaussian_w2_squared(mean, cov, np.zeros(p), np.eye(p))))
    return found
