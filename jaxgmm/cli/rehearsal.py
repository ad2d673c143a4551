"""Compile the programs of a comparison in a second thread while the sampler runs.

For a small data set, `jaxgmm compare` spends most of its time on compilation. The rehearsal runs the comparison in advance,
with random numbers in place of the posterior draws. The shapes are those of the real comparison, so `jax.jit` need not compile
the programs again for the real comparison. The results, errors and warnings of the rehearsal are discarded.

No function in this module may trace a NumPyro model. NumPyro keeps its handlers in one list for the whole process. The sampler
traces a model in the main thread at the same time. A second trace can then raise "all sites must have unique names". The
rehearsal therefore omits Laplace's approximation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax
import numpy as np

from ..em.result import Fit
from ..mixture import Mixture
from ..posterior.result import Posterior, PosteriorStatus
from ..priors.interface import MixturePrior

# Largest number of evaluations (draws x rows x features x components) for which a rehearsal saves time. A core does about 1e8
# evaluations per second. Above this number, the comparison spends more time on computation than on compilation, and a rehearsal
# would slow the sampler down.
_MOST_EVALUATIONS = 5e8

_running: list[threading.Thread] = []


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
        _running[:] = [self._thread]

    def wait(self) -> None:
        """Wait until all steps have run."""
        self._thread.join()


def is_running() -> bool:
    """Return whether a rehearsal is still running."""
    return any(thread.is_alive() for thread in _running)


def is_worthwhile(fit: Fit, x: np.ndarray, num_draws: int) -> bool:
    """Return whether a comparison with `num_draws` draws takes less time to compute than to compile."""
    return float(num_draws) * x.size * fit.mixture.num_components <= _MOST_EVALUATIONS


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
    return Posterior(*jax.device_put((draws, log_density, prior, np.asarray(PosteriorStatus.OK, np.int32))), {}, "nuts")


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
