"""Posterior: what is believed of a mixture after the data, as draws, with its own diagnosis.

Also what every sampler refuses at the door: they take the same arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..mixture import Mixture, mixture_table, mixture_title, standard_deviations
from ..priors.interface import check_prior
from ..status import StatusEnum
from ..tables import Printed, Table, counted, elided, look, number, numbers
from ..validation import (
    as_data,
    as_sample_weight,
    check_count,
    check_key,
    is_positive_definite,
    is_traced,
    warn_at_caller,
    zero_ignored_rows,
)


class PosteriorStatus(StatusEnum):
    """How sampling went, the gravest finding: `PosteriorStatus(int(posterior.status)).sentence` says it in words.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.PosteriorStatus(0).sentence)
        Sampling went well: no divergence, the chains agree.
    """

    OK = 0, "Sampling went well: no divergence, the chains agree."
    FULL_WARMUP = (
        1,
        "The posterior is far from normal around its mode, or short chains disagreed (stats: khat, min_eigenvalue, counts), so "
        "a full warm-up was run; no divergence, the chains agree. Look at it after relabelling before you trust summaries of "
        "single components.",
    )
    POOR_METRIC = (
        2,
        "The posterior is far from normal around its mode (stats: khat, min_eigenvalue, counts), and only the short warm-up was "
        "run, as inside jit or on demand; use adapt_mass_matrix=True.",
    )
    DIVERGENCES = (
        3,
        "Some draws are divergent: part of the posterior may not have been reached. Components may be nearly empty or singular; "
        "use adapt_mass_matrix=True, a target_accept_prob nearer to one, a firmer prior, or fewer components.",
    )
    UNMIXED = (
        4,
        "The chains disagree on quantities that no labelling changes (R-hat of the log density or of the sizes of components): "
        "there may be several modes, or too few draws; draw more, or use fewer components.",
    )
    ALL_DIVERGENT = (
        5,
        "Most draws are divergent or a chain never moved: these are not draws from the posterior. The start may lie outside the "
        "prior's reach, or the data or prior scales may be extreme; fit by EM under the same prior and start there.",
    )
    NONFINITE = (
        6,
        "The start has no finite posterior density, or draws are not finite. The data hold NaN or infinity, or the start or the "
        "prior does; clean them, or give such rows sample_weight 0.",
    )
    FAR_FROM_NORMAL = (
        7,
        "The draws come from the normal approximation at the mode, and the posterior is far from it (stats: khat over 0.7). "
        "Components may overlap or hold few points; use nuts or gibbs, a firmer prior, or fewer components.",
    )
    SINGULAR = (
        8,
        "The information at the mode is not positive definite (stats: min_eigenvalue), so there is no normal approximation and "
        "these are not draws from the posterior. Components may coincide or hold nothing, or Newton ended at a saddle; use "
        "another start, nuts or gibbs, a firmer prior, or fewer components.",
    )
    MULTIMODAL = (
        9,
        "Chains from another start stay at a mode of their own that is not negligible (stats: other_log_density, other_rhat, "
        "other_share): the draws describe the mode of the first start alone; look at each by sampling from its start, or use a "
        "firmer prior or fewer components.",
    )


@partial(
    jax.tree_util.register_dataclass, meta_fields=["method"], data_fields=["mixture", "log_density", "prior", "status", "stats"]
)
@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Printed):
    """Draws of mixtures from a posterior; vmapped, all fields gain a leading (B,).

    Attributes:
        mixture: a Mixture with leading (C, S), in data units.
        log_density: (C, S), log p(x, theta) in nats: weighted log-likelihood plus normalised log-prior, a density in
            (weights, means, covariances).
        prior: the prior that was used, in data units, or None.
        status: (), a PosteriorStatus.
        stats: what the method has to say of its own work, arrays by name.
        method: "nuts", ...

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> start = jaxgmm.from_labels(x, [0] * len(x), num_components=1)
        >>> posterior = jaxgmm.laplace(jax.random.key(0), start, x, prior, num_samples=50)
        >>> posterior.mixture.means.shape, posterior.log_density.shape, posterior.method
        ((1, 50, 1, 1), (1, 50), 'laplace')
    """

    mixture: Mixture
    log_density: jax.Array
    prior: Any
    status: jax.Array
    stats: dict[str, jax.Array]
    method: str = field(default="nuts", metadata={"static": True})

    def _tables(self) -> list[Table]:
        status, density = look(self.status), look(self.log_density)
        if status is None or density is None:
            return [Table(f"Posterior by {self.method}, traced"), mixture_table(self.mixture)]
        if status.ndim:
            good = int((status <= PosteriorStatus.FULL_WARMUP).sum())
            title = f"Posterior by {self.method}, stacked {status.shape}: {good} of {status.size} without complaint"
            notes = [f"lanes: {counted(status, PosteriorStatus)}"] if good < status.size else []
            return [Table(title, notes=notes), mixture_table(self.mixture)]
        chains, draws = density.shape
        title = (
            f"Posterior by {self.method}: {chains} chains x {draws} draws, {PosteriorStatus.name_of(status)}, mean log density "
            f"{density.mean(dtype=float):.4f} nats"
        )
        notes = [PosteriorStatus(int(status)).sentence] if status != PosteriorStatus.OK else []
        stats = {name: look(value) for name, value in self.stats.items() if not isinstance(value, dict)}
        notes += [", ".join(f"{name} {number(value)}" for name, value in stats.items() if value is not None and not value.ndim)]
        return [Table(title, notes=[note for note in notes if note]), self._draws_table()]

    def _draws_table(self) -> Table:
        """Mean and standard deviation of each component over the draws, or their reach where there are too many to look at."""
        mixture = self.mixture
        k, sds = mixture.num_components, standard_deviations(mixture)
        fields = [look(mixture.weights), look(mixture.means), sds]
        if any(field is None for field in fields):
            return mixture_table(mixture)
        averages = [(field.mean((0, 1), dtype=float), field.std((0, 1), dtype=float)) for field in fields]
        (weight, weight_sd), *others = averages
        rows = [
            ["..."] * 7
            if i is None
            else [
                str(i),
                f"{weight[i]:.4f}",
                f"{weight_sd[i]:.4f}",
                *(numbers(value[i], 3) for pair in others for value in pair),
            ]
            for i in elided(k)
        ]
        labels = "" if k == 1 else ", relabelled" if "permutation" in self.stats else ", labels as drawn: see jaxgmm.relabel"
        note = f"mean and standard deviation (+-) of the draws{labels}"
        return Table(mixture_title(mixture), ("k", "weight", "+-", "mean", "+-", "sd", "+-"), rows, [note])


def check_posterior(posterior: Any) -> None:
    """Refuses what is not a Posterior."""
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior is {type(posterior).__name__}; a jaxgmm.Posterior was expected, as from jaxgmm.nuts.")


def in_dtype(tree: Any, dtype: Any) -> Any:
    """Whatever floats a method worked in, the data's dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def warn_if_unreliable(posterior: Posterior) -> None:
    """What an eager posterior has to say of itself, unless it is good."""
    status = PosteriorStatus(int(posterior.status))
    if status > PosteriorStatus.FULL_WARMUP:
        warn_at_caller(status.sentence)


def validate_sampler_inputs(
    key: Any, start: Any, x: Any, prior: Any, sample_weight: Any, num_samples: Any, num_chains: Any, *, any_prior: bool = False
) -> tuple[Mixture, jax.Array, jax.Array | None, Any]:
    """Start, data, weights and prior as a sampler takes them, in one float dtype, or a sentence why not.

    any_prior: the prior is an affair between a person and their own model, and is handed on as it is.
    """
    check_key(key)
    check_count(num_samples, "num_samples")
    check_count(num_chains, "num_chains")
    if hasattr(start, "mixture"):
        raise TypeError(f"start is a {type(start).__name__}; a jaxgmm.Mixture was expected: give its .mixture.")
    if not isinstance(start, Mixture):
        raise TypeError(
            f"start is {type(start).__name__}; a jaxgmm.Mixture to start from was expected, as from jaxgmm.fit(...).mixture."
        )
    if start.batch_shape:
        raise ValueError(f"start is a stack of shape {start.batch_shape}; one mixture was expected: use jax.vmap.")
    x = as_data(zero_ignored_rows(x, sample_weight), check_values=True, num_features=start.num_features)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    if not any_prior:
        if prior is None:
            raise TypeError(
                "prior is None; a posterior needs a proper prior, as from jaxgmm.default_prior(x, num_components="
                f"{start.num_components})."
            )
        check_prior(prior, start.num_components, start.num_features, start.covariance_type)
    if not is_traced(start):
        check_start(start)
    cast = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, x.dtype))
    return cast(start), x, weight, prior if any_prior else cast(prior)


def check_start(start: Mixture) -> None:
    """A concrete start that a failed fit left behind is refused."""
    start = jax.tree.map(np.asarray, start)  # on the host: nothing to compile
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(start)):
        raise ValueError(
            "start holds NaN or infinity: the fit that it came from failed; look at its status, and start from "
            "one that converged."
        )
    weights = start.weights
    if (weights <= 0).any():
        empty = ", ".join(map(str, np.flatnonzero(weights <= 0)))
        raise ValueError(
            f"start has an empty component (weight 0): {empty}; every component must hold something to be "
            "sampled: use fewer components, or another start."
        )
    dense = covariance.is_dense(start.covariance_type)
    if not (is_positive_definite(start.covariances) if dense else (start.covariances > 0).all()):
        raise ValueError(
            "start has a covariance that is not positive definite: the fit that it came from failed, or x has "
            "collinear columns; start from a fit under the same prior."
        )
