"""What a fit returns: the estimate, and its own diagnosis in codes that are sentences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import jax
import numpy as np

from ..checks import is_traced
from ..mixture import Mixture, describe


class Status(IntEnum):
    """How a fit ended. `Status(int(fit.status)).sentence` says it in words."""

    CONVERGED = 0
    MAX_ITER = 1
    SINGULAR = 2
    NONFINITE = 3
    EMPTY_DATA = 4
    DECREASED = 5

    @property
    def sentence(self) -> str:
        """What happened, likely causes, what to try."""
        return _STATUS_SENTENCES[self]


_STATUS_SENTENCES = {
    Status.CONVERGED: "EM converged: the objective changed by no more than tol per unit of weight.",
    Status.MAX_ITER: "EM stopped at max_iter before the objective settled to tol. Components may overlap, or there may be more "
    "of them than the data show; raise max_iter or tol, use accelerate=True, or fewer components.",
    Status.SINGULAR: "A covariance became singular and the last finite state was kept. A component sits on too few or collinear "
    "points; leave reg_covar at None, raise it, use a prior, fewer components or a simpler covariance_type.",
    Status.NONFINITE: "The start has no finite objective. The data hold NaN or infinity or squares that overflow, or the start "
    "or the prior does; clean or rescale them, or give such rows sample_weight 0.",
    Status.EMPTY_DATA: "There are no data: every sample_weight is 0. The start was returned as it came.",
    Status.DECREASED: "The objective fell by more than rounding and the best state was kept. The precision is exhausted, as by "
    "nearly singular components in float32; use float64, a prior, or fewer components.",
}


class ComponentStatus(IntEnum):
    """What is to be said of one component. `.sentence` says it in words."""

    OK = 0
    EMPTY = 1
    AT_FLOOR = 2
    FEW_POINTS = 3

    @property
    def sentence(self) -> str:
        """What it means, and what to try."""
        return _COMPONENT_SENTENCES[self]


_COMPONENT_SENTENCES = {
    ComponentStatus.OK: "The component is sound.",
    ComponentStatus.EMPTY: "The component holds no data (weight 0, or only its prior); use fewer components or another start.",
    ComponentStatus.AT_FLOOR: "The component's covariance is held up by the regularisation in some direction: a spike or a flat "
    "cluster; use a prior, fewer components or a simpler covariance_type.",
    ComponentStatus.FEW_POINTS: "The component holds fewer than D + 1 observations, too few for a covariance; use a prior, fewer "
    "components or a simpler covariance_type.",
}


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["mixture", "log_likelihood", "objective", "history", "num_iter", "status", "component_status"],
)
@dataclass(frozen=True, eq=False)
class Fit:
    """A point estimate with its diagnosis; vmapped, all fields gain a leading (B,).

    Attributes:
        mixture: the estimate, in data units.
        log_likelihood: (), weighted total at `mixture`, nats.
        objective: (), what was maximised: the log-likelihood plus log-prior or minus penalty, nats.
        history: (max_iter + 1,), the objective at the start and after each step, NaN after num_iter.
        num_iter: (), EM steps taken.
        status: (), a Status.
        component_status: (K,), a ComponentStatus each.
    """

    mixture: Mixture
    log_likelihood: jax.Array
    objective: jax.Array
    history: jax.Array
    num_iter: jax.Array
    status: jax.Array
    component_status: jax.Array

    @property
    def converged(self) -> jax.Array:
        """(), boolean: status is CONVERGED, and nothing else."""
        return self.status == Status.CONVERGED

    def __repr__(self) -> str:
        if is_traced(self) or not isinstance(self.status, jax.Array | np.ndarray):
            return "Fit(traced)"
        if self.status.ndim:
            done = int((np.asarray(self.status) == Status.CONVERGED).sum())
            return f"Fit stacked {self.status.shape}: {done} of {self.status.size} converged\n{describe(self.mixture)}"
        words = [
            f"Fit {Status(int(self.status)).name} after {int(self.num_iter)} steps: log-likelihood "
            f"{float(self.log_likelihood):.4f}, objective {float(self.objective):.4f} (nats)",
            describe(self.mixture),
        ]
        words += [f"  component {k}: {ComponentStatus(int(s)).name}" for k, s in enumerate(self.component_status) if s]
        return "\n".join(words)
