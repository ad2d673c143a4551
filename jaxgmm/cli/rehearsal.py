"""Compile the programs of a comparison in a second thread while EM and the sampler run.

For a small data set, `jaxgmm compare` spends most of its time on compilation. While EM runs, the first rehearsal computes
Laplace's approximation at a mixture that takes the place of EM's. While the sampler runs, the second rehearsal runs the
comparison in advance, with random numbers in place of the posterior draws. The shapes are those of the real comparison, so
`jax.jit` need not compile the programs again for the real comparison. The results, errors and warnings of a rehearsal are
discarded.

Only one thread at a time may trace a NumPyro model, because NumPyro keeps its handlers in one list for the whole process. A
second trace can raise "all sites must have unique names". The first rehearsal traces a model, so it must end before the sampler
starts. The second rehearsal omits Laplace's approximation, because the sampler traces a model at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..em.result import Fit
from ..mixture import Mixture
from ..posterior.result import Posterior, PosteriorStatus
from ..priors.interface import MixturePrior
from ..validation import as_weighted_data

# Largest number of evaluations (draws x rows x features x components) for which a rehearsal saves time. A core does about 1e8
# evaluations per second. Above this number, the comparison spends more time on computation than on compilation, and a rehearsal
# would slow the sampler down.
_MOST_EVALUATIONS = 5e8
_FEW_EVALUATIONS = 1e7  # below this number, computation takes less than a second even in programs that are half as fast


class Rehearsal:
    """A thread that runs functions one after another; the process does not wait for the thread when it exits.

    Example:
        >>> done = []
        >>> Rehearsal(lambda: done.append(1), lambda: 1 / 0, lambda: done.append(2)).wait()
        >>> done
        [1, 2]
    """

    def __init__(self, *steps: Callable[[], object]) -> None:
        """Start the thread. If a step raises an error, the thread continues with the next step."""
        self._thread = threading.Thread(target=_run, args=(steps,), name="jaxgmm-rehearsal", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until all steps have run."""
        self._thread.join()


def is_worthwhile(num_components: int, x: np.ndarray, num_draws: int) -> bool:
    """Return whether computing a comparison with `num_draws` draws takes less time than compiling its programs."""
    return float(num_draws) * x.size * num_components <= _MOST_EVALUATIONS


def is_tiny(num_components: int, x: np.ndarray, num_draws: int) -> bool:
    """Return whether computing a comparison with `num_draws` draws takes so little time that only compilation matters."""
    return float(num_draws) * x.size * num_components <= _FEW_EVALUATIONS


def rehearse_approximation(x: np.ndarray, prior: MixturePrior, num_components: int, covariance_type: str) -> None:
    """Compute Laplace's approximation at a mixture with EM's shapes. NumPyro must not trace another model at the same time."""
    from ..comparison.joint import approximate

    dtype, shape = jnp.result_type(float), covariance.storage_shape(covariance_type, num_components, x.shape[1])
    unit = np.eye(x.shape[1]) if covariance.is_dense(covariance_type) else np.ones(1)
    parameters = (np.full(num_components, 1 / num_components), x[:num_components], np.broadcast_to(x.var() * unit, shape))
    weights, means, covariances = jax.device_put([leaf.astype(dtype) for leaf in parameters])
    mixture = Mixture(weights, means, covariances, covariance_type)
    approximate(jax.random.key(0), mixture, as_weighted_data(x, None)[0], None, prior)


def stand_in(fit: Fit, prior: MixturePrior, num_chains: int, num_samples: int) -> Posterior:
    """Return a Posterior in the form that `nuts` returns. Its draws (C, S) are random perturbations of an EM solution."""
    rng = np.random.default_rng(0)
    mixture = jax.tree.map(np.asarray, fit.mixture)
    shape = (num_chains, num_samples)

    def factors(*trailing: int) -> np.ndarray:
        return np.exp(0.05 * rng.normal(size=(*shape, *trailing))).astype(mixture.means.dtype)

    weights = mixture.weights * factors(mixture.num_components)
    means = mixture.means * factors(*mixture.means.shape)
    covariances = mixture.covariances * factors(*(1 for _ in mixture.covariances.shape))
    draws = Mixture(weights / weights.sum(-1, keepdims=True), means, covariances, mixture.covariance_type)
    log_density = (float(fit.objective) + rng.normal(size=shape)).astype(mixture.means.dtype)
    status = jnp.asarray(PosteriorStatus.OK)  # an integer without a fixed dtype, as the status of `nuts` is
    draws, log_density, prior = jax.device_put((draws, log_density, prior))
    return Posterior(draws, log_density, prior, status, {}, "nuts")


def rehearse_comparison(fit: Fit, posterior: Posterior, x: np.ndarray) -> None:
    """Run all parts of `compare` except Laplace's approximation, which traces a NumPyro model."""
    from ..comparison.compare import compare
    from ..comparison.inputs import ComparisonOptions, prepare_inputs
    from ..comparison.point_vs_posterior import information_errors

    compare(fit, posterior, x, laplace=False, progress=False)
    inputs = prepare_inputs(fit, {posterior.method: posterior}, x, None, None, ComparisonOptions())
    information_errors(inputs, posterior.prior)


def _run(steps: tuple[Callable[[], object], ...]) -> None:
    """Run the steps and ignore their errors, because the real comparison raises the same errors."""
    for step in steps:
        try:
            step()
        except Exception:
            continue
