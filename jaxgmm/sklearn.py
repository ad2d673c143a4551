"""Define `GaussianMixture`, an estimator for scikit-learn's pipelines and searches. This module imports scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .conversions import MISSING, sklearn_parameters
from .density import log_prob, predict, responsibilities
from .devices.host import to_host
from .em.batch.restarts import fit_one_start, fit_restarts
from .em.initialization import METHODS, StartOptions
from .em.result import Fit, Status
from .mixture import Mixture
from .posterior.result import Posterior
from .priors.defaults import default_prior
from .priors.interface import MixturePrior
from .sampling import sample
from .selection import criteria
from .validation import check_choice, check_count, warn_at_caller

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"jaxgmm.sklearn {MISSING}") from error


class GaussianMixture(DensityMixin, BaseEstimator):
    """A Gaussian mixture with the interface of scikit-learn, fitted by `jaxgmm.fit` or by `jaxgmm.fit_restarts`.

    It can take the place of sklearn.mixture.GaussianMixture in pipelines, in searches over parameters and in pickles. The
    methods are fit, fit_predict, predict, predict_proba, score, score_samples, sample, bic and aic. In addition, fit, score,
    bic and aic take `sample_weight`. With a prior, the estimate is the posterior mode. The estimator can also draw from the
    posterior and keep the draws. Numbers are in float32 unless float64 is enabled in JAX, as by JAX_ENABLE_X64=1.

    Args:
        n_components: the number of components.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        prior: None for maximum likelihood; "default" for the posterior mode under `jaxgmm.default_prior` of the data that are
            given to fit; or a Prior or IndependentPrior.
        tol: as in `jaxgmm.fit`: the change of the objective per unit of weight at which EM has converged.
        reg_covar: None for the regularisation of `jaxgmm.fit`, or a number that is added to each variance, as in scikit-learn.
        max_iter: the largest number of EM steps.
        n_init: the number of starts; the best sound fit is kept.
        init_params: the method of the starts, "k-means++" or "k-means".
        accelerate: whether to accelerate EM, as in `jaxgmm.fit`.
        posterior: None, or the method that draws from the posterior after the fit: "nuts", "gibbs" or "laplace", which need a
            prior, or "bootstrap".
        posterior_options: options of this method, such as {"num_samples": 500}.
        random_state: None, an integer or a RandomState. It determines the random keys of the starts and of the draws.

    Attributes:
        weights_, means_, covariances_, precisions_, precisions_cholesky_: the estimate, in scikit-learn's shapes. The
            components are ordered by weight, the largest first, as in `fit_restarts`. For the covariance types that
            scikit-learn lacks, the shapes are those of the type that `to_sklearn` would give.
        converged_: whether EM converged. If it did not, fit issues a ConvergenceWarning.
        n_iter_: the number of EM steps of the best fit.
        lower_bound_: the log-likelihood of the data per unit of weight, in nats.
        n_features_in_, feature_names_in_: the number of columns, and their names if X is a data frame with names.
        mixture_: the estimate as a Mixture of NumPy arrays, for all functions of jaxgmm.
        fit_: the Fit, whose status says how EM ended.
        prior_: the prior that was used, or None.
        posterior_: the Posterior; exists only if `posterior` is given.

    Example:
        >>> import jaxgmm.sklearn
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> x = jaxgmm.datasets.load("faithful")
        >>> estimator = jaxgmm.sklearn.GaussianMixture(2, prior="default", random_state=0)
        >>> pipeline = make_pipeline(StandardScaler(), estimator).fit(x)
        >>> sorted(map(int, abs(pipeline[-1].weights_ * 272).round()))
        [97, 175]
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        prior: MixturePrior | str | None = None,
        tol: float = 1e-8,
        reg_covar: float | None = None,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "k-means++",
        accelerate: bool = False,
        posterior: str | None = None,
        posterior_options: Mapping[str, object] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        """Store the parameters; `fit` checks them."""
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.prior = prior
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.accelerate = accelerate
        self.posterior = posterior
        self.posterior_options = posterior_options
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> GaussianMixture:
        """Fit the mixture to the rows of X (N, D), and draw from the posterior if `posterior` is given.

        Args:
            X: (N, D), with at least two rows.
            y: ignored.
            sample_weight: (N,) >= 0, or None. A row with an integer weight w counts as w equal rows.
        """
        check_count(self.n_components, "n_components")
        check_count(self.n_init, "n_init")
        check_choice(self.init_params, "init_params", METHODS)
        x = self._validated(X, ensure_min_samples=2)
        weight = None if sample_weight is None else np.asarray(sample_weight)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero in every row; give at least one row a positive weight.")
        key = self._key()
        prior = self._prior_for(x, weight)
        best = to_host(self._best_fit(key, x, prior, weight))
        self.fit_, self.mixture_, self.prior_ = best, best.mixture, to_host(prior)
        for name, value in sklearn_parameters(best.mixture).items():
            setattr(self, name, value.astype(best.mixture.means.dtype))
        self.converged_, self.n_iter_ = bool(best.converged), int(best.num_iter)
        self.lower_bound_ = float(best.log_likelihood) / float(len(x) if weight is None else weight.sum())
        if hasattr(self, "posterior_"):
            del self.posterior_
        if self.posterior is not None:
            self.posterior_ = to_host(self._draw(jax.random.fold_in(key, 1), x, prior, weight))
        return self

    def fit_predict(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> np.ndarray:
        """Fit the mixture and return the component (N,) of each row; the arguments are those of `fit`."""
        return self.fit(X, y, sample_weight).predict(X)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable component of each row, (N,)."""
        return np.asarray(predict(*self._with_points(X)))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each component for each row, (N, K)."""
        return np.asarray(responsibilities(*self._with_points(X)))

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Return the log-density of each row, (N,), in nats."""
        return np.asarray(log_prob(*self._with_points(X)))

    def score(  # pyright: ignore[reportIncompatibleMethodOverride] (the base class returns nothing)
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the average log-density of the rows, weighted by `sample_weight`, in nats; higher is better."""
        weight = None if sample_weight is None else np.asarray(sample_weight)
        return float(np.average(self.score_samples(X).astype(float), weights=weight))

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the Bayesian information criterion; lower is better."""
        return float(criteria.bic(*self._with_points(X), sample_weight=sample_weight))

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Akaike's information criterion; lower is better."""
        return float(criteria.aic(*self._with_points(X), sample_weight=sample_weight))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw points (n_samples, D) from the mixture; return them and their components (n_samples,)."""
        check_is_fitted(self)
        check_count(n_samples, "n_samples")
        x, labels = sample(self._key(), jax.tree.map(jnp.asarray, self.mixture_), n_samples)
        return np.asarray(x), np.asarray(labels)

    def _key(self) -> jax.Array:
        """Return a random key that `random_state` determines."""
        return jax.random.key(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _with_points(self, X: ArrayLike) -> tuple[Mixture, np.ndarray]:
        """Return the mixture and the rows of X, which must have the columns of the data that the mixture was fitted to."""
        check_is_fitted(self)
        return jax.tree.map(jnp.asarray, self.mixture_), self._validated(X, reset=False)

    def _validated(self, X: Any, **options: Any) -> np.ndarray:
        """Return X as a float array, checked by scikit-learn's rules."""
        return np.asarray(validate_data(self, X, dtype=[np.float64, np.float32], **options))

    def _prior_for(self, x: np.ndarray, weight: np.ndarray | None) -> MixturePrior | None:
        """Return the prior for these data that the parameter `prior` asks for, or None."""
        if not isinstance(self.prior, str):
            return self.prior
        check_choice(self.prior, "prior", ("default",))
        return default_prior(x, num_components=self.n_components, covariance_type=self.covariance_type, sample_weight=weight)

    def _best_fit(self, key: jax.Array, x: np.ndarray, prior: MixturePrior | None, weight: np.ndarray | None) -> Fit:
        """Return the best of several fits. If EM did not converge, issue scikit-learn's own type of warning."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = self._run_em(key, x, prior, weight)
        status = Status(int(result.status))
        for warning in caught:
            text = str(warning.message)
            did_not_converge = status != Status.CONVERGED and text.startswith(status.cause)
            warn_at_caller(text, ConvergenceWarning if did_not_converge else warning.category)
        return result

    def _run_em(self, key: jax.Array, x: np.ndarray, prior: MixturePrior | None, weight: np.ndarray | None) -> Fit:
        """Return the fit from one start, or the best fit from several, with its components ordered by weight."""
        start_options = StartOptions(self.n_components, self.covariance_type, self.init_params)
        options = {
            "tol": self.tol,
            "max_iter": self.max_iter,
            "reg_covar": self.reg_covar,
            "accelerate": self.accelerate,
        }
        if self.n_init == 1:  # this compiles in half the time of `fit_restarts`
            return fit_one_start(key, x, prior, start_options, weight, options)
        more = {"num_restarts": self.n_init, "sample_weight": weight, "progress": False}
        return fit_restarts(key, x, prior, **start_options._asdict(), **more, **options)

    def _draw(self, key: jax.Array, x: np.ndarray, prior: MixturePrior | None, weight: np.ndarray | None) -> Posterior:
        """Return the posterior that the parameter `posterior` asks for."""
        # imported on first use, because the module imports numpyro, which fits do not need
        from .studies.methods import as_method

        assert self.posterior is not None
        _, draw = as_method(self.posterior, **(self.posterior_options or {}))
        return draw(key, jax.tree.map(jnp.asarray, self.mixture_), x, prior, sample_weight=weight)
