"""The columns of a comparison. Only this module describes them: their types, units, headings, explanations and decimals.

The printed page, the HTML report, CSV, JSON, data frames and pictures read these descriptions. To add a column, add a field
here, and compute its value where the dataclass is created. Headings may contain names in braces, which are replaced by
numbers. `interval` is the probability of the intervals, in percent. `num_folds` is the number of folds. `gap` and `radius`
describe a normal posterior: `gap` is the log joint density at the centre minus the average log joint density of the draws, and
`radius` is the average distance of a draw from the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..studies.columns import Record, column, documented

SECTIONS = {
    "joint": "all parameters at once",
    "distance": "density: EM's and the predictive",
    "prediction": "predictions (nats)",
    "clustering": "clusters",
}
_SHORTER = {"variance": "var.", "covariance": "cov."}
_NAME_WIDTH = 29  # largest number of characters in the name of a quantity, unless the caller gives another number


@documented
@dataclass(frozen=True, kw_only=True)
class ComparisonRow(Record):
    """The values of one quantity under EM and under one posterior.

    The quantity is a parameter, or a label-invariant quantity (one that does not depend on the order of the components).
    Weights have no unit. Means are in data units. Variances and covariances are in products of data units.
    """

    method: str = column("name of the posterior")
    name: str = column('place of the parameter in the Mixture, such as "means[0,1]", or the name of the quantity')
    kind: str = column('"weight", "mean", "variance" or "covariance", or the name of the quantity')
    component: int | None = column("component of the parameter; None: all components share the parameter")
    features: tuple[str, ...] = column("names of the features that the quantity belongs to")
    em: float = column("the EM estimate", short="EM", long="EM", unit="data units", decimals=None)
    em_se: float | None = column(
        "standard error of EM by the observed information", detail="NaN if it is not known",
        default=None, short="its se", long="EM's se", unit="data units", decimals=None, where="parameters",
    )  # fmt: skip
    mean: float = column("posterior mean", short="mean", long="mean", unit="data units", decimals=None)
    median: float = column("posterior median", unit="data units", decimals=None)
    sd: float = column("posterior standard deviation", short="sd", long="sd", unit="data units", decimals=None)
    mcse: float = column("Monte Carlo standard error of the mean", unit="data units", decimals=None)
    lower: float = column(
        "lower end of the central posterior interval",
        long="{interval:g} % from", group="{interval:g} % interval", unit="data units", decimals=None,
    )  # fmt: skip
    upper: float = column(
        "upper end of the central posterior interval",
        long="{interval:g} % to", group="{interval:g} % interval", unit="data units", decimals=None,
    )  # fmt: skip
    z: float = column(
        "(EM - mean) / sd", detail="a mode is not a mean, so that up to about 1 is no contradiction",
        short="z", long="z", decimals=2,
    )  # fmt: skip
    tail: float = column("posterior probability of values below EM plus half of the probability of values equal to EM")
    inside: bool = column("whether EM lies within the interval", short="inside", long="inside")
    r_hat: float = column(
        "convergence statistic of the chains", detail="below 1.01 the chains agree; above, do not trust the other numbers yet",
        short="R-hat", long="R-hat", decimals=3, where="elsewhere",
    )  # fmt: skip
    ess_bulk: float = column(
        "effective number of independent draws", detail="at least 100 for each chain are needed",
        short="ESS", long="ESS", where="elsewhere",
    )  # fmt: skip
    ess_tail: float = column("effective number of independent draws that determine the ends of the interval")
    laplace_sd: float | None = column(
        "standard deviation by Laplace's normal approximation", detail="NaN if it is not known",
        default=None, unit="data units", decimals=None,
    )  # fmt: skip
    sd_ratio: float | None = column(
        "sd by Laplace's normal approximation divided by sd", detail="between 0.8 and 1.25 the approximation is good",
        default=None, short="Lap./sd", long="sd ratio", decimals=2, where="parameters",
    )  # fmt: skip
    contraction: float | None = column(
        "1 - (posterior width / prior width) squared, widths of the central 90 %",
        detail="near 100 % the data determine the parameter, near 0 the prior does",
        default=None, short="learned", long="learned", percent=True, where="parameters",
    )  # fmt: skip

    @property
    def is_log_density(self) -> bool:
        """Whether the quantity is a log density.

        EM is at a mode, so its log density is naturally larger than that of most draws. For a log density, `z` and `inside`
        therefore do not show whether EM and the posterior agree.
        """
        return "nats" in self.kind

    @property
    def full_name(self) -> str:
        """The name of the quantity as sentences use it, such as "mean waiting of component 1"."""
        name = f"{self.kind} {', '.join(self.features)}".rstrip()
        return name if self.component is None else f"{name} of component {self.component}"

    def short_name(self, width: int = _NAME_WIDTH) -> str:
        """Return the name of the quantity in at most `width` characters.

        If the name is too long, the kind is abbreviated. If this is not enough, the names of the features are cut.
        """
        name = f"{self.kind} {', '.join(self.features)}".rstrip()
        if len(name) <= width:
            return name
        head = _SHORTER.get(self.kind, self.kind)
        name = f"{head} {', '.join(self.features)}".rstrip()
        if len(name) > width and self.features:
            share = (width - len(head) - 1 - 2 * (len(self.features) - 1)) // len(self.features)
            name = f"{head} {', '.join(f if len(f) <= share else f[: share - 1] + '…' for f in self.features)}"
        return name[:width]


@documented
@dataclass(frozen=True, kw_only=True)
class SamplerDiagnostics(Record):
    """Diagnostics of one posterior: how its draws were made, and how good they are."""

    method: str = column('"nuts", "gibbs", "laplace", "bootstrap", "smc" or the name of another method')
    chains: int = column("number of chains", short="chains", long="chains")
    draws: int = column("draws of each chain", short="draws", long="draws a chain")
    num_warmup: int | None = column("warm-up steps of each chain", short="warm-up")
    status: str = column("name of the PosteriorStatus")
    prior: Mapping[str, object] | None = column("name and hyperparameters of the prior; None if the prior is unknown")
    r_hat_max: float = column("largest R-hat of all quantities", short="R-hat", long="largest R-hat", decimals=3)
    ess_min: float = column("smallest bulk effective number of draws", short="ESS", long="smallest ESS")
    ess_tail_min: float = column("smallest tail effective number of draws", short="tail ESS")
    divergences: int = column("number of divergent draws", short="divergent", long="divergent")
    tree_depth_max: int | None = column("depth of the deepest tree; None: the method has no trees", short="depth")
    e_bfmi_min: float | None = column("smallest E-BFMI of the chains", detail="above 0.3 is good", short="E-BFMI", decimals=2)
    khat: float | None = column(
        "Pareto k-hat of Laplace's approximation", detail="below 0.7 it is good", short="k-hat", decimals=2
    )
    khat_limit: float | None = column("upper limit of an acceptable k-hat", decimals=2)
    identified: bool = column(
        "whether components keep their identity from draw to draw",
        detail="if they do not, only quantities that do not depend on the order of the components are shown",
        long="labels identified",
    )  # fmt: skip
    switch_rate: float = column(
        "share of draws whose order of components differs from that of the preceding draw",
        short="switching", long="draws that switch", decimals=1, percent=True,
    )  # fmt: skip
    switched_chains: int = column("number of chains in which most draws have another order of components than EM")
    unclear_rate: float = column("share of draws for which another order of components fits nearly as well")
    other_share: float | None = column(
        "probability of another mode as a share of that mode and the first one, by Laplace's approximation; None: no such mode"
    )


@documented
@dataclass(frozen=True, kw_only=True)
class JointScores(Record):
    """Scores of all parameters jointly, in unconstrained space. A score that is not defined is NaN."""

    log_joint_gap: float = column(
        "log joint density of EM minus the mean log joint density of the draws",
        short="log joint density: EM minus draws (~{gap:g})",
        long="log joint density: EM above the draws' mean (nats)",
        unit="nats", decimals=1, section="joint",
    )  # fmt: skip
    log_joint_rank: float = column(
        "share of draws whose log joint density is above that of EM",
        short="share of draws above EM's log joint density", decimals=1, percent=True, section="joint",
    )  # fmt: skip
    mahalanobis: float = column(
        "distance of EM from the draws' mean, in their standard deviations",
        short="EM's distance from the centre (draws: ~{radius:.1f})", long="EM from the draws' centre (their sds)",
        decimals=2, section="joint",
    )  # fmt: skip
    farther_share: float = column(
        "share of draws that lie farther from the draws' mean than EM",
        short="share of draws farther from the centre", long="draws farther out than EM", percent=True, section="joint",
    )  # fmt: skip
    laplace_kl: float = column(
        "KL divergence of Laplace's normal approximation from the draws' normal distribution",
        short="KL divergence to Laplace's normal (nats)", long="KL divergence to Laplace's normal (nats)",
        unit="nats", decimals=3, section="joint",
    )  # fmt: skip
    laplace_w2: float = column(
        "2-Wasserstein distance between the same two distributions, in Laplace's standard deviations",
        short="Wasserstein to Laplace (Laplace's sds)", long="Wasserstein distance to Laplace (Laplace's sds)",
        decimals=2, section="joint",
    )  # fmt: skip


@documented
@dataclass(frozen=True, kw_only=True)
class DensityScores(Record):
    """Distances between the posterior predictive density and EM's density, and scores of the predictions by both.

    A score is None if it was not computed.
    """

    num_draws: int = column("number of draws over which the scores are averaged")
    num_rows: int = column("number of rows of the data that are scored")
    num_points: int = column("number of points at which the densities are compared")
    total_variation: float = column(
        "total variation distance between the predictive density and EM's density, from 0 to 1",
        short="total variation (from 0 to 1)", long="total variation between EM's density and the predictive one",
        decimals=3, error="total_variation_error", section="distance",
    )  # fmt: skip
    total_variation_error: float = column("Monte Carlo standard error of total_variation")
    hellinger: float = column(
        "Hellinger distance between the predictive density and EM's density, from 0 to 1",
        short="Hellinger distance (from 0 to 1)", long="Hellinger distance between them",
        decimals=3, error="hellinger_error", section="distance",
    )  # fmt: skip
    hellinger_error: float = column("Monte Carlo standard error of hellinger")
    kl: float = column(
        "KL divergence of EM's density from the predictive density: the average loss in log density of a new point",
        short="KL divergence to EM's density (nats)", long="KL divergence to EM's density, per point (nats)",
        unit="nats", decimals=4, error="kl_error", section="distance",
    )  # fmt: skip
    kl_error: float = column("Monte Carlo standard error of kl", unit="nats")
    lpd_em: float = column(
        "log density of the data under EM, which was fitted to the same data",
        short="EM: log density per point, same data", unit="nats", decimals=4, per_point=True, section="prediction",
    )  # fmt: skip
    elpd_loo: float | None = column(
        "sum over the rows of the log predictive density of each row given the others, by PSIS-LOO",
        default=None, short="expected log density per point, leave-one-out",
        long="expected log density per point, leave-one-out (nats)",
        unit="nats", decimals=4, per_point=True, error="elpd_loo_se", section="prediction",
    )  # fmt: skip
    elpd_loo_se: float | None = column("standard error of elpd_loo", default=None, unit="nats")
    p_loo: float | None = column(
        "effective number of parameters",
        default=None, short="  effective number of parameters", decimals=1, section="prediction",
    )  # fmt: skip
    khat_max: float | None = column("largest Pareto k-hat of the rows", default=None)
    num_khat_high: int | None = column(
        "number of rows whose k-hat is not below its limit, so that their scores cannot be trusted",
        default=None, short="  points with unreliable score (high k-hat)", section="prediction",
    )  # fmt: skip
    num_folds: int | None = column("number of folds", default=None)
    elpd_folds_em: float | None = column(
        "sum over the folds of the log density of each fold under EM fitted to the other folds",
        default=None, short="EM: expected log density per point, {num_folds} folds",
        unit="nats", decimals=4, per_point=True, error="elpd_folds_em_se", section="prediction",
    )  # fmt: skip
    elpd_folds_em_se: float | None = column("standard error of elpd_folds_em", default=None, unit="nats")
    elpd_folds: float | None = column(
        "sum over the folds of the log predictive density of each fold given the other folds",
        default=None, short="expected log density per point, {num_folds} folds",
        unit="nats", decimals=4, per_point=True, error="elpd_folds_se", section="prediction",
    )  # fmt: skip
    elpd_folds_se: float | None = column("standard error of elpd_folds", default=None, unit="nats")
    elpd_folds_difference: float | None = column(
        "elpd_folds minus elpd_folds_em",
        default=None, short="  posterior minus EM, per point", long="the same by folds, posterior minus EM, per point (nats)",
        unit="nats", decimals=4, per_point=True, error="elpd_folds_difference_se", section="prediction",
    )  # fmt: skip
    elpd_folds_difference_se: float | None = column("standard error of elpd_folds_difference", default=None, unit="nats")
    folds_khat_max: float | None = column("largest Pareto k-hat of the folds", default=None)
    num_folds_khat_high: int | None = column(
        "number of folds whose k-hat is not below its limit, so that their scores cannot be trusted",
        default=None, short="  folds with unreliable score (high k-hat)", section="prediction",
    )  # fmt: skip


@documented
@dataclass(frozen=True, kw_only=True)
class ClusteringScores(Record):
    """Comparison of EM's clusters and responsibilities with those of the posterior.

    A score that needs labels is NaN if labels are not identified.
    """

    adjusted_rand: float = column(
        "adjusted Rand index of EM's labels and the posterior's partition; 1: equal, 0: agreement by chance only",
        short="agreement of groups (adjusted Rand; 1: same)", long="same groups as EM's (adjusted Rand, 1: the same)",
        decimals=3, section="clustering",
    )  # fmt: skip
    membership_difference: float = column(
        "mean absolute difference between EM's responsibilities and the posterior's",
        short="mean difference of responsibilities", long="mean difference of responsibilities",
        decimals=4, section="clustering",
    )  # fmt: skip
    entropy_em: float = column(
        "mean entropy of a point's component under EM",
        short="uncertainty of a point: EM (nats)", unit="nats", decimals=3, section="clustering",
    )  # fmt: skip
    entropy_posterior: float = column(
        "mean entropy of a point's component under the posterior",
        short="uncertainty of a point: posterior (nats)", unit="nats", decimals=3, section="clustering",
    )  # fmt: skip
    entropy_within: float = column("the part of entropy_posterior that would remain if the parameters were known", unit="nats")
    unsure_share: float = column(
        "share of points whose component under EM has posterior probability below 0.9",
        short="share of points less than 90 % sure", long="points less than 90 % sure",
        decimals=1, percent=True, section="clustering",
    )  # fmt: skip
