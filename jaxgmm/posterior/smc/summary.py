"""Summarise the runs of `smc`: statistics, and the status that follows from the agreement of the runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ...mixture import Mixture
from ..mixing import Mixing, judge_mixing, label_invariant_draws, measure_mixing
from ..result import PosteriorStatus
from ..standardization import StandardizedProblem, log_volume_of_data
from .particles import Particles, Records

_FEWEST_PARENTS = 0.1  # the status is DEGENERATE if a smaller share of the particles of a run survived a stage
_EVIDENCE_SPREAD = 1.0  # nats; the status is UNMIXED if the log evidences of the runs have at least this standard deviation


def summarise_runs(
    runs: Particles, mixture: Mixture, log_density: jax.Array, standard: StandardizedProblem
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return the statistics and the status of several runs. The mixture holds the draws (C, S, ...) in standardised units."""
    log_evidence = runs.log_evidence + log_volume_of_data(standard)
    mixing = measure_mixing(label_invariant_draws(mixture, log_density), in_time=False)
    stats = {
        "log_evidence": log_evidence,
        "chain_weight": jax.nn.softmax(log_evidence),
        "log_evidence_error": _relative_error(log_evidence, runs.variance),
        "rhat": mixing.rhat,
        "ess": mixing.ess,
        "num_stages": runs.num_stages,
        "effective_size": runs.records.size,
        "parents": runs.records.parents,
        "sweeps": runs.records.sweeps,
        "accept_prob": runs.records.accept_prob,
    }
    degenerate = ~runs.complete.all() | _is_degenerate(runs.records, log_density.shape[1])
    return stats, _judge(log_density, log_evidence, mixing, degenerate)


def _relative_error(log_evidence: jax.Array, variance: jax.Array) -> jax.Array:
    """Return the standard error of the mean evidence over runs (C,), relative to this mean. For one run, the result is NaN.

    The error is computed from the differences between the runs. A few runs may agree by chance. The error is therefore never
    smaller than the error that follows from `variance` (C,), the variances of the log evidences for independent particles.
    """
    evidence = jnp.exp(log_evidence - log_evidence.max())
    count = len(evidence)
    if count == 1:
        return jnp.nan * evidence[0]
    between = evidence.std(ddof=1) / count**0.5 / evidence.mean()
    return jnp.maximum(between, jnp.sqrt((evidence**2 * variance).sum()) / evidence.sum())


def _is_degenerate(records: Records, num_particles: int) -> jax.Array:
    """Return whether only a small share of the particles survived in at least one stage of at least one run, ()."""
    parents = jnp.where(jnp.isnan(records.size), num_particles, records.parents)
    return (parents < _FEWEST_PARENTS * num_particles).any()


def _judge(log_density: jax.Array, log_evidence: jax.Array, mixing: Mixing, degenerate: jax.Array) -> jax.Array:
    """Return the most severe PosteriorStatus that applies, (). For one run, it is FEW_DRAWS or more severe."""
    status = jnp.asarray(PosteriorStatus.FEW_DRAWS)
    if len(log_density) > 1:
        status = judge_mixing(mixing, *log_density.shape)
        status = jnp.where(log_evidence.std(ddof=1) < _EVIDENCE_SPREAD, status, PosteriorStatus.UNMIXED)
    status = jnp.where(degenerate, PosteriorStatus.DEGENERATE, status)
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(log_evidence).all()
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
