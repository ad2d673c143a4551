"""The class Posterior, which is the result of every sampler, and the class PosteriorStatus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..cells import counted, look, number, numbers
from ..data_frames import parameter_values
from ..devices.host import Tree
from ..mixture import Mixture, mixture_table, mixture_title, standard_deviations
from ..priors.interface import MixturePrior
from ..spread import mean_and_sd, quantiles
from ..status import StatusEnum
from ..tables import Printed, Table, elided
from ..validation import warn_at_caller
from . import diagnostics
from .pooling import pool

if TYPE_CHECKING:
    import pandas

INDEPENDENT = ("laplace", "bootstrap")  # methods that make independent draws, for which the mixing of chains is not judged


class PosteriorStatus(StatusEnum):
    """The most severe problem of a sampler's run; `PosteriorStatus(int(posterior.status)).sentence` explains the problem.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.PosteriorStatus(0).sentence)
        Sampling went well: no divergence, the chains agree.
    """

    OK = 0, "Sampling went well: no divergence, the chains agree."
    FULL_WARMUP = (
        1,
        "A full warm-up was run, because it was requested, because the model has no normal approximation, or because the "
        "approximation is poor or the chains disagreed after a short warm-up (stats: khat, min_eigenvalue, counts, NaN where "
        "there is no approximation); no divergence, the chains agree. Relabel the draws and look at them before you trust "
        "summaries of single components.",
    )
    POOR_METRIC = (
        2,
        "The posterior is far from normal around its mode, or the model has no normal approximation (stats: khat, "
        "min_eigenvalue, counts), but the mass matrix was not adapted, because this was requested or the call is inside jit; "
        "use adapt_mass_matrix=True.",
    )
    DIVERGENCES = (
        3,
        "Some draws are divergent, so part of the posterior may not have been reached. Components may be nearly empty or "
        "singular; use adapt_mass_matrix=True if the mass matrix was not adapted (stats: adapted), a target_accept_prob closer "
        "to one, a more informative prior, or fewer components.",
    )
    UNMIXED = (
        4,
        "The chains disagree on label-invariant quantities or, after relabel, on parameters: R-hat is 1.05 or more, or there "
        "are fewer than 20 effective draws for each chain (stats: rhat, ess). There may be several modes, or too few draws; "
        "draw more, or use fewer components.",
    )
    ALL_DIVERGENT = (
        5,
        "Most draws are divergent, or a chain never moved: these are not draws from the posterior. The prior density at the "
        "start may be almost zero, or the data or the prior may have extreme scales; start from a fit under the same prior, "
        "or under jaxgmm.default_prior if fit does not take that prior.",
    )
    NONFINITE = (
        6,
        "The start has no finite posterior density, or draws are not finite. The data, the start or the prior contain NaN or "
        "infinity; remove these values, or give such rows sample_weight 0.",
    )
    FAR_FROM_NORMAL = (
        7,
        "The draws come from the normal approximation at the mode, and the posterior is far from it (stats: khat over 0.7). "
        "Components may overlap or hold few points; use nuts, or gibbs if it takes the prior, a more informative prior, or "
        "fewer components.",
    )
    SINGULAR = (
        8,
        "The information at the mode is not positive definite (stats: min_eigenvalue), so there is no normal approximation, "
        "and these are not draws from the posterior. Components may coincide or be empty, or Newton's method ended at a "
        "saddle point; use another start, nuts, or gibbs if it takes the prior, a more informative prior, or fewer components.",
    )
    MULTIMODAL = (
        9,
        "A chain from another start stays at another mode that has considerable mass (stats: other_log_density, other_rhat, "
        "other_share), so the draws describe only the mode of the first start. Sample from each start separately and compare "
        "the results, or use a more informative prior or fewer components.",
    )
    FEW_DRAWS = (
        10,
        "There are too few draws to tell whether the chains agree: R-hat is 1.01 or more, or there are fewer than 100 "
        "effective draws for each chain (stats: rhat, ess); draw more before you trust summaries.",
    )
    DEGENERATE = (
        11,
        "Only a small share of the particles survived a stage, or not all rows entered within the largest number of stages "
        "(stats: effective_size, parents, num_stages); use more particles (num_samples), or a more informative prior.",
    )
    TRUNCATED = (
        12,
        "The number of occupied components reached max_components (stats: num_occupied), so the data may need more components "
        "than were allowed; increase max_components, or use a more informative prior.",
    )


def is_good(status: jax.Array | np.ndarray | int) -> Any:
    """Return whether sampling went well, for each PosteriorStatus in an array."""
    return (status == PosteriorStatus.OK) | (status == PosteriorStatus.FULL_WARMUP)


def needs_warning(status: jax.Array | np.ndarray | int) -> Any:
    """Return whether a sampler issues a warning, for each PosteriorStatus in an array.

    FEW_DRAWS causes no warning, because the caller chose the number of draws. The status itself reports it.
    """
    return ~(is_good(status) | (status == PosteriorStatus.FEW_DRAWS))


def is_usable(status: jax.Array | np.ndarray | int) -> Any:
    """Return whether the draws describe at least a part of the posterior, for each PosteriorStatus in an array."""
    failed = (PosteriorStatus.ALL_DIVERGENT, PosteriorStatus.NONFINITE, PosteriorStatus.SINGULAR)
    return (status != failed[0]) & (status != failed[1]) & (status != failed[2])


@partial(
    jax.tree_util.register_dataclass, meta_fields=["method"], data_fields=["mixture", "log_density", "prior", "status", "stats"]
)
@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Printed):
    """Draws of mixtures from a posterior distribution.

    Under vmap, all fields gain a leading axis (B,).

    Attributes:
        mixture: a Mixture with leading axes (C, S), in data units.
        log_density: (C, S), log p(x, theta) in nats: the weighted log-likelihood plus the log density of the normalised prior.
            The prior is a density in (weights, means, covariances).
        prior: the prior that was used, in data units; None for a model of your own, and for a bootstrap without a prior.
        status: (), a PosteriorStatus.
        stats: a dictionary of arrays, the statistics of the run. The documentation of each method lists its statistics.
        method: the name of the method, such as "nuts".

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
    prior: MixturePrior | None
    status: jax.Array
    stats: dict[str, Any]
    method: str = field(default="nuts", metadata={"static": True})

    def to_dataframe(self, feature_names: Sequence[str] | None = None) -> pandas.DataFrame:
        """Return a summary of the draws as a pandas data frame, with one row for each parameter of each component.

        Call `jaxgmm.relabel` first. Otherwise, a row may average over different components.

        Args:
            feature_names: D names for the columns of the data; None: "feature 0" and so on.

        Returns:
            A data frame with the columns parameter, component, mean, sd, median, the ends of the central 95 % interval (lower
            and upper), r_hat and ess_bulk.
        """
        import pandas

        check_one_posterior(self)
        values = parameter_values(self.mixture, feature_names)
        draws = np.stack(list(values.values()), -2)  # (C, S, P, K)
        flat = pool(draws, self.stats)
        mean, sd = mean_and_sd(flat)
        lower, median, upper = quantiles(flat, [0.025, 0.5, 0.975])
        few = np.full(draws.shape[2:], np.nan)
        r_hat, ess = (diagnostics.rhat(draws), diagnostics.ess_bulk(draws)) if draws.shape[1] >= 4 else (few, few)
        columns = {"mean": mean, "sd": sd, "median": median, "lower": lower, "upper": upper, "r_hat": r_hat, "ess_bulk": ess}
        k = self.mixture.num_components
        names = {"parameter": np.repeat(list(values), k), "component": np.tile(np.arange(k), len(values))}
        return pandas.DataFrame(names | {name: column.ravel() for name, column in columns.items()})

    def _tables(self) -> list[Table]:
        status, density = look(self.status), look(self.log_density)
        if status is None or density is None:
            return [Table(f"Posterior by {self.method}, traced"), mixture_table(self.mixture)]
        if status.ndim:
            good = int(needs_warning(status).size - needs_warning(status).sum())
            title = f"Posterior by {self.method}, stacked {status.shape}: {good} of {status.size} without a warning"
            notes = [f"statuses: {counted(status, PosteriorStatus)}"] if good < status.size else []
            return [Table(title, notes=notes), mixture_table(self.mixture)]
        chains, draws = density.shape
        title = (
            f"Posterior by {self.method}: {chains} chains x {draws} draws, {PosteriorStatus.name_of(status)}, mean log density "
            f"{density.mean(dtype=float):.4f} nats"
        )
        notes = [PosteriorStatus(int(status)).sentence] if status != PosteriorStatus.OK else []
        stats = {name: look(value) for name, value in self.stats.items() if not isinstance(value, dict)}
        notes += [", ".join(f"{name} {number(value)}" for name, value in stats.items() if value is not None and not value.ndim)]
        table = self._numbers_table() if "prob_components" in self.stats else self._draws_table()
        return [Table(title, notes=[note for note in notes if note]), table]

    def _numbers_table(self) -> Table:
        """Return a table of the posterior probabilities of the numbers of components."""
        names = ("prob_components", "prob_occupied")
        both = [value for value in (look(self.stats[name]) for name in names) if value is not None]
        rows = [[str(k), *(f"{p:.4f}" for p in pair)] for k, pair in enumerate(zip(*both, strict=True), 1) if max(pair) > 5e-5]
        note = "components: those of the mixture; occupied: those with at least one row, see jaxgmm.condition_on_occupied"
        return Table("", ("k", "p(k components)", "p(k occupied)"), rows, [note])

    def _draws_table(self) -> Table:
        """Return a table of the posterior mean and standard deviation of the parameters of each component."""
        mixture = self.mixture
        k, fields = mixture.num_components, [look(mixture.weights), look(mixture.means), standard_deviations(mixture)]
        known = [field for field in fields if field is not None]
        if len(known) < len(fields):
            return mixture_table(mixture)
        averages = [mean_and_sd(pool(field, self.stats), ddof=0) for field in known]
        (weight, weight_sd), *others = averages
        rows = []
        for i in elided(k):
            if i is None:
                rows.append(["..."] * 7)
                continue
            entries = (numbers(value[i], 3) for pair in others for value in pair)
            rows.append([str(i), f"{weight[i]:.4f}", f"{weight_sd[i]:.4f}", *entries])
        labels = "" if k == 1 else ", relabelled" if "permutation" in self.stats else ", labels as drawn: see jaxgmm.relabel"
        note = f"mean and standard deviation (+-) of the draws{labels}"
        return Table(mixture_title(mixture), ("k", "weight", "+-", "mean", "+-", "sd", "+-"), rows, [note])


def check_posterior(posterior: object) -> None:
    """Raise TypeError if a value is not a Posterior."""
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior is {type(posterior).__name__}; a jaxgmm.Posterior was expected, as from jaxgmm.nuts.")


def check_one_posterior(posterior: Posterior) -> None:
    """Raise TypeError or ValueError if a value is not one Posterior with draws (C, S, ...)."""
    check_posterior(posterior)
    if posterior.log_density.ndim != 2:
        raise ValueError(
            f"posterior has leading axes {posterior.log_density.shape}; (C, S) was expected: use jax.vmap, or pass one "
            "posterior at a time."
        )


def check_one_number(posterior: Posterior, function: str) -> None:
    """Raise ValueError if the draws have different numbers of components.

    function: the name of a function that cannot use such draws.
    """
    if "num_occupied" in posterior.stats:
        raise ValueError(
            f"posterior is from telescope, and its draws have different numbers of components; {function} expects draws with "
            "one number of components: use jaxgmm.condition_on_occupied(posterior, x)."
        )


def in_dtype(tree: Tree, dtype: DTypeLike) -> Tree:
    """Convert the floating-point leaves of a tree to a given dtype, such as that of the data."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def warn_if_unreliable(posterior: Posterior) -> None:
    """Issue a warning with the sentence of a posterior's status, unless the status is good. The status must not be traced."""
    status = PosteriorStatus(int(posterior.status))
    if needs_warning(np.asarray(status)):
        warn_at_caller(status.sentence)
