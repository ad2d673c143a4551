"""Define the result of a fit, which holds the estimate and status codes. A sentence explains each status code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..cells import REACH, counted, look, reach
from ..covariance import types as covariance_types
from ..data_frames import mixture_frame, with_groups
from ..mixture import Mixture, mixture_table
from ..status import StatusEnum
from ..tables import Printed, Table, elided

if TYPE_CHECKING:
    import pandas


class Status(StatusEnum):
    """A code for how a fit ended. `Status(int(fit.status)).sentence` describes what happened, likely causes, and remedies.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.Status(4).name, jaxgmm.Status(4).sentence)
        EMPTY_DATA There are no data: every sample_weight is 0. The start was returned unchanged.
    """

    CONVERGED = 0, "EM converged: the objective changed by no more than tol per unit of weight."
    MAX_ITER = (
        1,
        "EM reached max_iter before it converged. Components may overlap, or there may be more components than the data "
        "support; raise max_iter or tol, use accelerate=True, or fewer components.",
    )
    SINGULAR = (
        2,
        "A covariance became singular and the last finite state was kept. A component holds too few or collinear points; "
        "leave reg_covar at None, raise it, use a prior, fewer components or a simpler covariance_type.",
    )
    NONFINITE = (
        3,
        "The objective at the start is not finite. The data, the start or the prior hold NaN, infinity or values whose squares "
        "overflow; clean or rescale them, or give such rows sample_weight 0. If NaN stands for missing values, use "
        "jaxgmm.observations.",
    )
    EMPTY_DATA = 4, "There are no data: every sample_weight is 0. The start was returned unchanged."
    DECREASED = (
        5,
        "The objective fell by more than its rounding error and the best state was kept. The float type is not precise enough, "
        "for example for nearly singular components in float32; use float64, a prior, or fewer components.",
    )


class ComponentStatus(StatusEnum):
    """The state of one component; `ComponentStatus(int(fit.component_status[k])).sentence` describes it.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.ComponentStatus(0).sentence)
        The component is sound.
    """

    OK = 0, "The component is sound."
    EMPTY = 1, "The component holds no data (weight 0, or only its prior); use fewer components or another start."
    AT_FLOOR = (
        2,
        "In some direction, only the regularisation keeps the component's covariance from collapsing: the component is "
        "degenerate or a flat cluster; use a prior, fewer components or a simpler covariance_type.",
    )
    FEW_POINTS = (
        3,
        "The component holds fewer observations than a covariance of its own needs (D + 1 for full, 2 for diag and spherical); "
        "use a prior, fewer components or a simpler covariance_type.",
    )


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["mixture", "log_likelihood", "objective", "history", "num_iter", "status", "component_status"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Fit(Printed):
    """A point estimate and the status of the fit. Under vmap, all fields have an additional leading axis (B,).

    Attributes:
        mixture: the estimate, in data units.
        log_likelihood: (), the weighted log-likelihood of all data at `mixture`, nats.
        objective: (), the quantity that EM maximised: the log-likelihood plus the log prior, or minus the penalty, nats.
        history: (max_iter + 1,), the objective at the start and after each step. All entries after step num_iter equal
            `objective`.
        num_iter: (), the number of EM steps taken.
        status: (), a Status.
        component_status: (K,), a ComponentStatus for each component.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0], [9.0], [10.0], [11.0]])
        >>> fit = jaxgmm.fit(jaxgmm.from_labels(x, [0, 0, 0, 1, 1, 1], num_components=2), x)
        >>> jaxgmm.Status(int(fit.status)).name, bool(fit.converged), fit.mixture.means.round(2).tolist()
        ('CONVERGED', True, [[1.0], [10.0]])
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
        """Whether the status is CONVERGED, ()."""
        return self.status == Status.CONVERGED

    def to_dataframe(self, feature_names: Sequence[str] | None = None, groups: ArrayLike | None = None) -> pandas.DataFrame:
        """Return a pandas data frame with one row for each component. For a stack, each component of each fit has a row.

        The columns are the parameters, the status of the component, and the status, the number of steps, the log-likelihood and
        the objective of the fit.

        Args:
            feature_names: D names for the columns of the data; None: "feature 0" and so on.
            groups: (N,) the labels of rows that `fit_many` received as `groups`, for the fits (B,) that it returned. The first
                column, "group", then holds the label of each fit in place of its number.

        Raises:
            ValueError: the number of different labels is not the number of fits.
        """
        numbers = {name: np.asarray(getattr(self, name))[..., None] for name in ("num_iter", "log_likelihood", "objective")}
        states = {"component_status": _names_of(self.component_status, ComponentStatus)}
        states |= {"status": _names_of(self.status, Status)[..., None]}
        frame = mixture_frame(self.mixture, feature_names, **states, **numbers)
        return frame if groups is None else with_groups(frame, groups, self.mixture.batch_shape)

    def _tables(self) -> list[Table]:
        """Return the tables that `repr` shows: the status of the fit, the mixture, and the components with problems."""
        status, components = look(self.status), look(self.component_status)
        if status is None or components is None:
            return [Table("Fit, traced"), mixture_table(self.mixture)]
        if status.ndim:
            return [self._stack_table(status, components), mixture_table(self.mixture)]
        steps = int(self.num_iter)
        title = (
            f"Fit {Status.name_of(status)} after {steps} step{'s' * (steps != 1)}: log-likelihood "
            f"{float(self.log_likelihood):.4f}, objective {float(self.objective):.4f} (nats)"
        )
        notes = [Status(int(status)).sentence] if status != Status.CONVERGED else []
        found = [(state, np.flatnonzero(components == state)) for state in ComponentStatus if state]
        return [
            Table(title, notes=notes),
            mixture_table(self.mixture),
            *(_component_table(state, which) for state, which in found if len(which)),
        ]

    def _stack_table(self, status: np.ndarray, components: np.ndarray) -> Table:
        """Return the table of a stack of fits, with the number of converged fits and the range of each quantity."""
        done = int((status == Status.CONVERGED).sum())
        quantities = {"steps": self.num_iter, "log-likelihood": self.log_likelihood, "objective": self.objective}
        notes = [f"fits: {counted(status, Status)}"] if done < status.size else []
        if components.any():
            notes.append(f"components: {counted(components, ComponentStatus)}")
        rows = [[name, *reach(values)] for name, values in quantities.items()]
        return Table(f"Fit stacked {status.shape}: {done} of {status.size} converged", ("", *REACH), rows, notes, left=(0,))


# The `unsoundness` of each Status. It is 0 if EM converged or ran out of steps, and 1 if the objective decreased. It is 3 if
# the fit is the last state before a failure, and 4 or 5 if there is no estimate.
_DISTANCE = {
    Status.CONVERGED: 0,
    Status.MAX_ITER: 0,
    Status.DECREASED: 1,
    Status.SINGULAR: 3,
    Status.EMPTY_DATA: 4,
    Status.NONFINITE: 5,
}
_DEGENERATE = 2  # the `unsoundness` of a fit with a degenerate component


@overload
def unsoundness(status: jax.Array, degenerate: jax.Array, finite: jax.Array) -> jax.Array: ...
@overload
def unsoundness(status: np.ndarray | int, degenerate: np.ndarray | bool, finite: np.ndarray | bool) -> np.ndarray: ...
def unsoundness(
    status: jax.Array | np.ndarray | int, degenerate: jax.Array | np.ndarray | bool, finite: jax.Array | np.ndarray | bool
) -> jax.Array | np.ndarray:
    """Return an integer for each fit: 0 for a sound fit, and a larger number for a worse fit.

    All code that ranks or selects fits uses this rule. A fit is sound if EM converged or ran out of steps, its numbers are
    finite, and no component is degenerate. For other fits, the integer is

    1. if the objective decreased,
    2. if a component is degenerate, so that the likelihood is meaningless,
    3. if EM stopped at a singular covariance,
    4. if there were no data,
    5. if some numbers are not finite.

    If several of these conditions hold, the largest of their integers is returned.

    Args:
        status: the Status of each fit.
        degenerate: for each fit, whether a component is degenerate.
        finite: for each fit, whether the objective and the estimate are finite.
    """
    on_device = any(isinstance(value, jax.Array) for value in (status, degenerate, finite))
    xp = jnp if on_device else np  # results on the host are handled by NumPy, so that printing needs no compilation
    distance = xp.asarray([_DISTANCE[member] for member in Status])[status]
    distance = xp.where(degenerate, xp.maximum(distance, _DEGENERATE), distance)
    return xp.where(finite, distance, _DISTANCE[Status.NONFINITE])


def unsoundness_of(fits: Fit, total: jax.Array | np.ndarray, fewest: jax.Array | None = None) -> jax.Array:
    """Return the `unsoundness` of each fit in a stack; the arguments are those of `has_degenerate_component`."""
    mixture, axes = fits.mixture, fits.status.ndim
    numbers = (fits.objective, fits.log_likelihood, mixture.weights, mixture.means, mixture.covariances)
    finite = jnp.array(True)
    for leaf in numbers:
        finite &= jnp.isfinite(leaf).all(tuple(range(axes, leaf.ndim)))
    return unsoundness(fits.status, has_degenerate_component(fits, total, fewest), finite)


def is_sound(fits: Fit, total: jax.Array) -> jax.Array:
    """Return whether each fit in a stack is sound, as defined by `unsoundness`. `total` is the total weight of the data."""
    return unsoundness_of(fits, total) == 0


def has_degenerate_component(fits: Fit, total: jax.Array | np.ndarray, fewest: jax.Array | None = None) -> jax.Array:
    """Return whether each fit in a stack has a degenerate component. The result is False for tied covariances.

    A component is degenerate if it holds too few points for a covariance of its own, or if only the regularisation keeps its
    covariance from collapsing.

    Args:
        fits: the fits.
        total: the total weight of the data.
        fewest: (), the smallest number of points that determine the covariance of one component, or 0 if the components share
            one; None: the number of the covariance type of the fits.
    """
    mixture = fits.mixture
    if fewest is None:
        number = covariance_types.fewest_points(mixture.covariance_type, mixture.num_features)
        if not number:
            return jnp.zeros(mixture.batch_shape, bool)
        fewest = jnp.asarray(number)
    few = (mixture.weights > 0) & holds_too_few(mixture.weights * total[..., None], fewest)
    return (fewest > 0) & (few | (fits.component_status == ComponentStatus.AT_FLOOR)).any(-1)


def holds_too_few(count: jax.Array, fewest: jax.Array | int) -> jax.Array:
    """Return whether numbers of points are below the smallest number allowed, by more than rounding can explain.

    A component that holds exactly as many points as are needed would otherwise be judged by the last digit of its weight.
    """
    allowance = 1 - float(jnp.finfo(count.dtype).eps) ** 0.5
    return count < allowance * jnp.asarray(fewest, count.dtype)


def _names_of(codes: Any, kind: type[StatusEnum]) -> np.ndarray:
    """Return the names of status codes of any shape, as an array of strings."""
    codes = np.asarray(codes)
    return np.array([kind.name_of(code) for code in codes.ravel()], object).reshape(codes.shape)


def _component_table(state: ComponentStatus, which: np.ndarray) -> Table:
    """Return the table of the components with the indices `which`; all of these components have the status `state`."""
    names = ", ".join("..." if i is None else str(which[i]) for i in elided(len(which)))
    return Table(f"component{'s' if len(which) > 1 else ''} {names}: {state.name}", notes=[state.sentence])
