"""Convert mixtures from scikit-learn and to scikit-learn, which is an optional dependency."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from . import covariance
from .calls import public
from .covariance.estimates import narrow
from .covariance.types import as_covariance_type, is_classic, is_dense, is_spherical
from .mixture import Mixture, MixtureLike, as_mixture, make_mixture
from .rounding import positive_factors
from .validation import is_traced

if TYPE_CHECKING:
    import sklearn.mixture

MISSING = "needs scikit-learn 1.6 or later, an optional dependency: pip install 'jaxgmm[sklearn]'."


@public
def from_sklearn(estimator: Any) -> Mixture:
    """Return the mixture that an estimator of scikit-learn has fitted.

    Args:
        estimator: a fitted sklearn.mixture.GaussianMixture or BayesianGaussianMixture, or another estimator with the attributes
            covariance_type, weights_, means_ and covariances_ in the shapes that these two have. The `predict` of a
            BayesianGaussianMixture also uses other attributes, so its results can differ from those of jaxgmm. The
            covariance_type may also be a code such as "VEE", as in `jaxgmm.sklearn.GaussianMixture`; the shapes are then those
            of the type that `to_sklearn` would give.

    Returns:
        A Mixture. It is in float32 if float64 is not enabled in JAX.

    Raises:
        TypeError: `estimator` is not an estimator of a mixture.
        ValueError: `estimator` is not fitted, or its parameters are not those of a mixture.

    Example:
        >>> import jaxgmm, sklearn.mixture
        >>> x = jaxgmm.datasets.load("faithful")
        >>> estimator = sklearn.mixture.GaussianMixture(2, random_state=0).fit(x)
        >>> bool(abs(jaxgmm.log_prob(jaxgmm.from_sklearn(estimator), x).mean() - estimator.score(x)) < 1e-4)
        True
    """
    if not hasattr(estimator, "covariance_type"):
        raise TypeError(
            f"estimator is {type(estimator).__name__}; a fitted sklearn.mixture.GaussianMixture was expected: from a pipeline, "
            "take the last step, as pipeline[-1]."
        )
    if not all(hasattr(estimator, name) for name in ("weights_", "means_", "covariances_")):
        raise ValueError(f"estimator, a {type(estimator).__name__}, is not fitted; call its method fit first.")
    name = as_covariance_type(estimator.covariance_type)
    means, covariances = np.asarray(estimator.means_), np.asarray(estimator.covariances_)
    shape = covariance.storage_shape(sklearn_type(name), *means.shape)
    if covariances.size != np.prod(shape):
        raise ValueError(
            f"covariances_ has shape {covariances.shape}, which is not that of {len(means)} {sklearn_type(name)!r} covariances "
            f"of {means.shape[1]} features; give an estimator as scikit-learn fits it."
        )
    covariances = covariances.reshape(shape)
    if name != sklearn_type(name):
        covariances = narrow(covariances, name)
    return make_mixture(estimator.weights_, means, covariances, covariance_type=name)


@public
def to_sklearn(mixture: MixtureLike) -> sklearn.mixture.GaussianMixture:
    """Return a mixture as a fitted sklearn.mixture.GaussianMixture, in float64.

    The methods predict, predict_proba, score, score_samples, bic, aic and sample of the result work as for an estimator that
    scikit-learn has fitted. scikit-learn takes logarithms of weights, so components of weight 0 get the smallest positive
    weight instead. The result does not store how the mixture was fitted. If you call the method fit of the result, it fits anew
    and does not start from the mixture. For an estimator that is fitted by jaxgmm, use `jaxgmm.sklearn.GaussianMixture`.

    scikit-learn has four of the fourteen covariance types. Covariances of the other types become those of the simplest of the
    four that holds them without change: spherical for EII; diag for EEI, VEI and EVI; full for VEE, EVE, VVE, EEV, VEV and EVV.
    The density stays the same, but bic and aic of the result count the parameters of the new type, which are more. For the
    criteria of the mixture itself, use `jaxgmm.bic` and `jaxgmm.aic`.

    Args:
        mixture: one Mixture or one Fit, not traced.

    Returns:
        An sklearn.mixture.GaussianMixture. If `mixture` is a Fit, the attributes converged_ and n_iter_ have the values of the
        Fit. If it is a Mixture, they are True and 0. The attribute lower_bound_ is -inf, because its value depends on data.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError: `mixture` is neither a Mixture nor a Fit, or is traced.
        ValueError: `mixture` is a stack, or a parameter is not finite.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[-3.0], [3.0]], [[1.0], [1.0]], covariance_type="spherical")
        >>> jaxgmm.to_sklearn(mixture).predict([[-2.0], [2.5]]).tolist()
        [0, 1]
    """
    try:
        estimators = importlib.import_module("sklearn.mixture")
    except ImportError as error:
        raise ImportError(f"to_sklearn {MISSING}") from error
    one = as_mixture(mixture, single=True)
    if is_traced(one):
        raise TypeError("to_sklearn works on the host: call it outside jit and vmap.")
    parameters = sklearn_parameters(one)
    if not all(np.isfinite(value).all() for value in parameters.values()):
        raise ValueError("mixture holds NaN or infinity: the fit that it came from failed; look at its status.")
    estimator = estimators.GaussianMixture(one.num_components, covariance_type=sklearn_type(one.covariance_type))
    for name, value in parameters.items():
        setattr(estimator, name, value)
    estimator.weights_ = np.maximum(estimator.weights_, np.finfo(float).tiny)
    estimator.weights_ /= estimator.weights_.sum()
    estimator.n_features_in_ = one.num_features
    estimator.converged_ = bool(getattr(mixture, "converged", True))
    estimator.n_iter_ = int(getattr(mixture, "num_iter", 0))
    estimator.lower_bound_ = -np.inf
    return estimator


def sklearn_parameters(mixture: Mixture) -> dict[str, np.ndarray]:
    """Return the parameters of one mixture in float64, with the names and shapes of scikit-learn's attributes.

    The shapes are those of the type that `sklearn_type` returns.
    """
    mixture = _as_sklearn_stores(mixture)
    factors = _precision_factors(mixture)
    dense = covariance.is_dense(mixture.covariance_type)
    squares = np.matmul(factors, np.swapaxes(factors, -1, -2)) if dense else factors**2
    arrays = {"covariances_": np.asarray(mixture.covariances, float), "precisions_cholesky_": factors, "precisions_": squares}
    return {
        "weights_": np.array(mixture.weights, float),
        "means_": np.array(mixture.means, float),
        **{name: covariance.without_shared_axis(array, mixture.covariance_type) for name, array in arrays.items()},
    }


def sklearn_type(covariance_type: str) -> str:
    """Return the simplest covariance type of scikit-learn that holds all covariances of a type."""
    if is_classic(covariance_type):
        return covariance_type
    if is_dense(covariance_type):
        return "full"
    return "spherical" if is_spherical(covariance_type) else "diag"


def _as_sklearn_stores(mixture: Mixture) -> Mixture:
    """Return one mixture with its covariances stored as those of `sklearn_type`."""
    name = sklearn_type(mixture.covariance_type)
    if name == mixture.covariance_type:
        return mixture
    shape = covariance.storage_shape(name, mixture.num_components, mixture.num_features)
    covariances = np.broadcast_to(np.asarray(mixture.covariances), shape)
    return Mixture(mixture.weights, mixture.means, jnp.asarray(covariances), name)


def _precision_factors(mixture: Mixture) -> np.ndarray:
    """Return the upper triangular factors P of the precisions P P'; for diag and spherical, return 1 / standard deviation.

    Covariances that are not positive definite are treated as in `log_prob`.
    """
    covariances = np.asarray(mixture.covariances, float)
    if not covariance.is_dense(mixture.covariance_type):
        if (covariances > 0).all():
            return 1 / np.sqrt(covariances)
        return np.asarray(positive_factors(mixture).whitener, float)
    try:
        whitener = np.linalg.inv(np.linalg.cholesky(covariances))
    except np.linalg.LinAlgError:
        whitener = np.asarray(positive_factors(mixture).whitener, float)
    return np.triu(np.swapaxes(whitener, -1, -2))
