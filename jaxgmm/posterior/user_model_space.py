"""The unconstrained space of a NumPyro model written by the user."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import compute_log_probs

from .. import covariance, linalg
from ..chunking import draws_per_batch, stores_pointwise
from ..mixture import Mixture
from .model import mixture_of
from .standardization import StandardizedProblem
from .unconstrained_space import UnconstrainedSpace

FIELDS = ("weights", "means", "covariances")  # names of the sites or deterministics that the model must have

Sites = dict[str, jax.Array]
Statistics = dict[str, jax.Array | Sites]


class UserModelSpace(NamedTuple):
    """The unconstrained space of a user's model for one problem.

    Attributes:
        space: the space. Its function `flatten` returns 0 for the coordinates that a mixture does not determine.
        describe: a function of points z (C, S, P). It returns mixtures (C, S, ...), log densities (C, S), and a dictionary of
            statistics.
        determined: (P,), 1 for coordinates that a mixture determines, 0 for all others.
        invertible: whether the mixture determines all latent sites, so that sites and mixture hold the same information.
    """

    space: UnconstrainedSpace
    describe: Callable[[jax.Array], tuple[Mixture, jax.Array, Statistics]]
    determined: jax.Array
    invertible: bool


def make_user_space(model: Callable[..., object], problem: StandardizedProblem, start: Mixture) -> UserModelSpace:
    """Make the unconstrained space of a model from one trace. Log densities are relative to the log density at the start."""
    arguments, options = (problem.y, problem.prior), _options(problem, start)
    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(*arguments, **options)
    latents = _latent_sites(trace, start)
    shapes = {name: jnp.shape(site["value"]) for name, site in latents.items()}
    known = {name for name, value in _site_values(start).items() if shapes.get(name) == value.shape}
    invertible = _is_invertible(set(latents), known, start)
    to_parts = partial(_unconstrained_parts, latents, known)
    at_start = jax.lax.stop_gradient(to_parts(start))
    flat, unravel = ravel_pytree(at_start)
    determined = ravel_pytree({name: jnp.full(jnp.shape(z), float(name in known)) for name, z in at_start.items()})[0]
    evaluate = _evaluator(model, arguments, options, unravel)
    reference = jax.lax.stop_gradient(evaluate(flat).terms)
    reference = {name: jnp.where(jnp.isfinite(term), term, 0) for name, term in reference.items()}

    def potential(z: jax.Array) -> jax.Array:
        found = evaluate(z)
        return -found.log_det - sum((term - reference[name]).sum() for name, term in found.terms.items())

    def unflatten(z: jax.Array) -> tuple[Mixture, jax.Array]:
        found = evaluate(z)
        weights, means, covariances = (found.values[name] for name in FIELDS)
        mixture = Mixture(weights, means, covariances, start.covariance_type)
        log_det = found.log_det
        if invertible and "covariances" not in latents:
            log_det += mixture_of({name: found.values[name] for name in latents}, start.covariance_type)[1]
        return mixture, log_det

    further = () if invertible else tuple(sorted(set(latents) - set(FIELDS)))
    numbers_per_draw = len(problem.y) * start.num_components * start.num_features
    describe = partial(_describe, evaluate, unflatten, len(problem.y), numbers_per_draw, further)
    space = UnconstrainedSpace(flat.size, potential, lambda m: ravel_pytree(to_parts(m))[0], unflatten, unravel)
    return UserModelSpace(space, describe, determined, invertible)


class _Evaluation(NamedTuple):
    """The result of evaluating a model at one point.

    Attributes:
        terms: the terms of the log density, by name of site.
        values: the values of the sites, by name.
        log_det: (), log|d sites / dz|.
        observed: the names of the observed sites, including the sites of numpyro.factor.
    """

    terms: Sites
    values: Sites
    log_det: jax.Array
    observed: set[str]


def _evaluator(
    model: Callable[..., object], arguments: tuple, options: dict[str, object], unravel: Callable[[jax.Array], Sites]
) -> Callable[[jax.Array], _Evaluation]:
    """Return a function of z (P,) that evaluates the model, even if the support of a site depends on other sites' values."""

    def evaluate(z: jax.Array) -> _Evaluation:
        parts, log_dets = unravel(z), [jnp.zeros(())]

        def substitute(site: dict[str, Any]) -> jax.Array | None:
            if site["type"] != "sample" or site["name"] not in parts:
                return None
            transform, part = biject_to(site["fn"].support), parts[site["name"]]
            value = transform(part)
            log_dets.append(transform.log_abs_det_jacobian(part, value).sum())
            return value

        substituted = handlers.substitute(handlers.seed(model, jax.random.key(0)), substitute_fn=substitute)
        terms, trace = compute_log_probs(substituted, arguments, options, {}, sum_log_prob=False)
        observed = {name for name, site in trace.items() if site["type"] == "sample" and site["is_observed"]}
        values = {name: site["value"] for name, site in trace.items()}
        return _Evaluation(terms, values, sum(log_dets[1:], log_dets[0]), observed)

    return evaluate


def _describe(
    evaluate: Callable[[jax.Array], _Evaluation],
    unflatten: Callable[[jax.Array], tuple[Mixture, jax.Array]],
    num_rows: int,
    numbers_per_draw: int,
    further: tuple[str, ...],
    z: jax.Array,
) -> tuple[Mixture, jax.Array, Statistics]:
    """Convert points z (C, S, P) to mixtures (C, S, ...), log densities (C, S) and statistics.

    The statistics are the total log-likelihood (C, S) and, unless the array would be too large, the log-likelihood of each row
    (C, S, N). If the mixture does not determine all latent sites, the values of the latent sites other than weights, means and
    covariances are also statistics.
    """
    points = z.reshape(-1, z.shape[-1])
    by_row = stores_pointwise(len(points), num_rows)

    def describe_one(z: jax.Array) -> tuple[Mixture, jax.Array, Statistics]:
        found = evaluate(z)
        mixture, log_det = unflatten(z)
        totals = {name: term.sum() for name, term in found.terms.items()}
        stats: dict[str, Any] = {"log_likelihood": sum((totals[name] for name in found.observed), jnp.zeros(()))}
        rows = [found.terms[name] for name in sorted(found.observed) if jnp.shape(found.terms[name])[:1] == (num_rows,)]
        if by_row and rows:
            stats["pointwise_log_likelihood"] = sum(term.reshape(num_rows, -1).sum(1) for term in rows)
        if further:
            stats["sites"] = {name: found.values[name] for name in further}
        return mixture, sum(totals.values()) + found.log_det - log_det, stats

    flat = jax.lax.map(describe_one, points, batch_size=draws_per_batch(numbers_per_draw, len(points)))
    return jax.tree.map(lambda leaf: leaf.reshape(*z.shape[:2], *leaf.shape[1:]), flat)


def _options(problem: StandardizedProblem, start: Mixture) -> dict[str, object]:
    """Return the keyword arguments with which the model is called."""
    options: dict[str, object] = {"num_components": start.num_components, "covariance_type": start.covariance_type}
    return options if problem.weight is None else options | {"sample_weight": problem.weight}


def _latent_sites(trace: dict[str, dict], start: Mixture) -> dict[str, dict]:
    """Return the latent sites, or raise ValueError if the model does not describe a mixture."""
    k, d = start.num_components, start.num_features
    shapes = ((k,), (k, d), covariance.storage_shape(start.covariance_type, k, d))
    for name, shape in zip(FIELDS, shapes, strict=True):
        if name not in trace or trace[name]["type"] not in ("sample", "deterministic"):
            raise ValueError(
                f"model has no site {name!r}; sites or deterministics weights, means and covariances were expected."
            )
        if jnp.shape(trace[name]["value"]) != shape:
            raise ValueError(
                f"model's site {name!r} has shape {jnp.shape(trace[name]['value'])}; {shape} was expected, as a "
                f"{start.covariance_type} Mixture stores it."
            )
    latents = {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    for name, site in latents.items():
        if site["fn"].support.is_discrete:
            raise ValueError(f"model's site {name!r} is discrete; sum it out, as NumPyro's MixtureSameFamily does.")
    if not latents:
        raise ValueError("model has no latent site; at least one site that is not observed was expected.")
    return latents


def _site_values(mixture: Mixture) -> Sites:
    """Return a dict of values that a mixture determines: weights, means, covariances, and the sites of `jaxgmm.model`."""
    values = {name: getattr(mixture, name) for name in FIELDS}
    if not covariance.is_dense(mixture.covariance_type):
        return values | {"variances": mixture.covariances, "scales": jnp.sqrt(mixture.covariances)}
    lower = linalg.cholesky(mixture.covariances)
    scales = jnp.sqrt(linalg.diagonal(mixture.covariances))
    return values | {"scale_tril": lower, "scales": scales, "corr_tril": lower / scales[..., None]}


def _unconstrained_parts(latents: dict[str, dict], known: set[str], mixture: Mixture) -> Sites:
    """Return the unconstrained values of the latent sites by name. Sites that the mixture does not determine get 0."""
    inverses = {name: biject_to(site["fn"].support).inv for name, site in latents.items()}
    values = _site_values(mixture)
    return {
        name: inverse(values[name]) if name in known else jnp.zeros_like(inverse(latents[name]["value"]))
        for name, inverse in inverses.items()
    }


def _is_invertible(latents: set[str], known: set[str], start: Mixture) -> bool:
    """Return whether the latent sites can be computed from the mixture, and the mixture from the latent sites."""
    scales = {"scales", "corr_tril"} if covariance.is_dense(start.covariance_type) and start.num_features > 1 else {"scales"}
    forms = [{"covariances"}, {"scale_tril"}, {"variances"}, scales]
    return latents == known and any(latents == {"weights", "means"} | form for form in forms)
