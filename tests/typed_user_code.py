"""Code as a user with type annotations writes it. pyright checks it; nothing runs it.

`test_typed_user_code.py` and `.ci/run` run pyright on this file and fail if a public annotation is too narrow or too wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm import Fit, IndependentPrior, InverseWishart, Mixture, Posterior, Prior, Status


def fit_by_hand(key: jax.Array, x: np.ndarray) -> Mixture:
    """EM from a start, with and without a prior; a status is a sentence."""
    start = jaxgmm.initialize(key, x, num_components=2)
    assert_type(start, Mixture)
    fit = jaxgmm.fit(start, x)
    assert_type(fit, Fit)
    status = Status(int(fit.status))
    sentence: str = status.sentence
    print(status.name, sentence, float(fit.log_likelihood), fit.converged)
    again = jaxgmm.fit(fit.mixture, x, jaxgmm.default_prior(x, num_components=2), tol=1e-6, max_iter=50, accelerate=True)
    print(jaxgmm.predict(again, x), jaxgmm.bic(again, x), jaxgmm.standard_errors(again, x).means, jaxgmm.marginal(again, 0))
    moments = jaxgmm.e_step(again, x)
    return jaxgmm.m_step(again.mixture, moments + moments)


def fit_under_an_independent_prior(start: Mixture, x: np.ndarray) -> Fit:
    """Every prior family is accepted wherever a prior is."""
    prior = IndependentPrior(jnp.ones(2), jnp.zeros(2), jnp.eye(2), InverseWishart(jnp.asarray(4.0), jnp.eye(2)))
    log_prior: jax.Array = jaxgmm.log_prior(start, prior)
    print(log_prior, jaxgmm.sample_prior(jax.random.key(0), prior, num_components=2, num_samples=5).means)
    return jaxgmm.fit(start, x, prior)


def fit_under_a_prior_of_numbers(start: Mixture, x: list[list[float]]) -> Fit:
    """Data may be lists, and hyperparameters arrays."""
    prior = Prior(jnp.ones(1), jnp.zeros(1), jnp.asarray(0.1), jnp.asarray(3.0), jnp.eye(1))
    return jaxgmm.fit(start, x, prior, sample_weight=[1.0] * len(x))


def transforms(start: Mixture, stacks: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """vmap over data sets, jit, and a gradient through a fit."""
    fits = jax.vmap(lambda rows: jaxgmm.fit(start, rows))(stacks)
    fitted: Fit = jax.jit(jaxgmm.fit)(start, x)
    influence = jax.grad(lambda rows: jaxgmm.fit(start, rows).mixture.weights[0])(x)
    statuses = [Status(int(code)).sentence for code in fits.status]
    print(statuses, fitted.history)
    return fits.mixture.means, influence


def densities(mixture: Mixture, x: np.ndarray) -> jax.Array:
    """Densities, memberships and draws of a mixture."""
    labels: jax.Array = jaxgmm.predict(mixture, x)
    points, components = jaxgmm.sample(jax.random.key(0), mixture, 10)
    first = jaxgmm.marginal(mixture, [0])
    print(labels, points.shape, components.shape, first.num_features, jaxgmm.num_parameters(mixture))
    return jaxgmm.log_prob(mixture, x) + jaxgmm.responsibilities(mixture, x)[:, 0]


def posteriors(key: jax.Array, fit: Fit, x: np.ndarray, prior: Prior) -> Mapping[str, Posterior]:
    """Each method returns a Posterior."""
    nuts = jaxgmm.nuts(key, fit.mixture, x, prior, num_samples=100, num_chains=2)
    found = {
        "nuts": nuts,
        "gibbs": jaxgmm.gibbs(key, fit.mixture, x, prior),
        "laplace": jaxgmm.laplace(key, fit.mixture, x, prior),
    }
    evidence = jaxgmm.log_evidence(key, nuts, x)
    print(float(evidence.value), jaxgmm.PosteriorStatus(int(nuts.status)).sentence, nuts.mixture.means.mean((0, 1)))
    return found


def compare(fit: Fit, found: Mapping[str, Posterior], x: np.ndarray, folder: Path) -> list[str]:
    """A comparison, its rows, its files, and its data frame."""
    comparison = jaxgmm.compare(fit, found, x, interval=0.9, feature_names=["length", "width"])
    names = [row.name for row in comparison.rows if row.inside and row.sd > 0.0]
    comparison.to_json(folder / "comparison.json")
    print(comparison.to_dataframe().describe(), comparison.to_csv())
    jaxgmm.write_report(folder / "page.html", comparison, fit, x)
    return names


def choose(key: jax.Array, x: np.ndarray) -> Fit:
    """The best of several models."""
    selection = jaxgmm.select(key, x, num_components=[1, 2, 3], covariance_types=["full", "tied"])
    best = selection.best
    print(best.num_components, best.covariance_type, best.criterion, jaxgmm.bic(best.fit.mixture, x))
    return best.fit


def files(fit: Fit, path: Path) -> Path:
    """Saved under a string or a path; statuses of standard errors are sentences too."""
    written = jaxgmm.save(path, fit)
    errors = jaxgmm.standard_errors(fit.mixture, np.asarray(jaxgmm.datasets.load("faithful")))
    print(jaxgmm.InformationStatus(int(errors.status)).sentence, jaxgmm.load(str(written)))
    return written
