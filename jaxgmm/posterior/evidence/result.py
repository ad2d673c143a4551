"""The result of `log_evidence`: the class Evidence, and the class EvidenceStatus."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax

from ...cells import REACH, look, reach
from ...status import StatusEnum
from ...tables import Printed, Table


class EvidenceStatus(StatusEnum):
    """The reliability of an estimate of the evidence. `EvidenceStatus(int(evidence.status)).sentence` explains the status.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.EvidenceStatus(0).sentence)
        The importance ratios are well behaved.
    """

    OK = 0, "The importance ratios are well behaved."
    UNRELIABLE = (
        1,
        "A few importance ratios dominate (k-hat over 0.7, or less for few samples; or fewer than 100 effective samples), so "
        "neither the value nor its error can be trusted. The posterior may have more modes, or heavier tails, than the "
        "proposal; raise num_samples or num_modes, give other optima as modes, or use fewer components.",
    )
    OTHER_DATA = (
        2,
        "The posterior was not made from these data: with them, the log density of its best draw has another value. Give the x "
        "and sample_weight that the posterior was made from.",
    )
    NONFINITE = (
        3,
        "The evidence is not finite: draws, data or prior contain NaN or infinity, or no mode with a finite density was found. "
        "Look at the posterior's status.",
    )
    MISSED_MODES = (
        4,
        "The draws miss at least one of the given modes that holds more than 2 % of the posterior. The value counts this mode, "
        "but the draws do not, so averages over them are wrong. Draw with smc, or start nuts from all modes, as in "
        "nuts(key, modes.mixture, x, prior, start_mass=modes.mass).",
    )
    DISAGREEMENT = (
        5,
        "Importance sampling (value) and bridge sampling (bridge) differ by more than three standard errors. The draws may "
        "visit a mode that the proposal does not cover, or the chains may not have mixed; draw more, raise num_modes, or give "
        "other optima as modes.",
    )


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["value", "error", "khat", "ess", "status", "bridge", "bridge_error"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Printed):
    """An estimate of log p(x), which unpacks as `value, error = log_evidence(...)`.

    Under vmap, all fields gain a leading axis (B,).

    Attributes:
        value: (), the estimate of log p(x) by importance sampling, nats.
        error: (), Monte Carlo standard error of the value, nats.
        khat: (), Pareto k-hat of the importance ratios. The error is meaningful only if k-hat is below the limit for S samples,
            min(0.7, 1 - 1 / log10 S) (Vehtari et al. 2024).
        ess: (), effective number of samples, (sum of ratios)^2 / sum of squared ratios.
        status: (), an EvidenceStatus.
        bridge: (), a second estimate of log p(x), nats, by bridge sampling from the same samples and from the posterior's
            draws. It is NaN if a draw has a weight that was rounded to 0 or to the smallest positive number. It is None if
            there are fewer than 100 draws, or if they are from `laplace` or `bootstrap`, because bridge sampling needs draws
            from the posterior itself.
        bridge_error: (), the standard error of `bridge`, nats.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> value, error = jaxgmm.Evidence(*(jnp.array(v) for v in (-247.1, 0.01, 0.2, 3900.0, 0)))
        >>> round(float(value), 1), round(float(error), 2)
        (-247.1, 0.01)
    """

    value: jax.Array
    error: jax.Array
    khat: jax.Array
    ess: jax.Array
    status: jax.Array
    bridge: jax.Array | None = None
    bridge_error: jax.Array | None = None

    def __iter__(self) -> Iterator[jax.Array]:
        """Return an iterator over value and error."""
        return iter((self.value, self.error))

    def _tables(self) -> list[Table]:
        status, value = look(self.status), look(self.value)
        if status is None or value is None:
            return [Table("Evidence, traced")]
        if status.ndim:
            good = int((status == EvidenceStatus.OK).sum())
            fields = {"log p(x)": value, "error": self.error, "k-hat": self.khat, "effective samples": self.ess}
            fields |= {} if self.bridge is None else {"by bridge sampling": self.bridge, "its error": self.bridge_error}
            rows = [[name, *reach(values)] for name, values in fields.items()]
            return [Table(f"Evidence stacked {status.shape}: {good} of {status.size} OK", ("", *REACH), rows, left=(0,))]
        title = (
            f"Evidence {EvidenceStatus.name_of(status)}: log p(x) = {float(value):.4f} +- {float(self.error):.4f} nats, k-hat "
            f"{float(self.khat):.2f}, {float(self.ess):.0f} effective samples"
        )
        bridge, error = look(self.bridge), look(self.bridge_error)
        notes = [] if bridge is None or error is None else [_describe_bridge(float(bridge), float(error))]
        return [Table(title, notes=notes + ([EvidenceStatus(int(status)).sentence] if status != EvidenceStatus.OK else []))]


def _describe_bridge(value: float, error: float) -> str:
    """Return a sentence about the estimate by bridge sampling."""
    if math.isnan(value):
        return "Bridge sampling is not available, because a draw has a weight that is too small for its number format."
    return f"Bridge sampling from the same samples and the draws: log p(x) = {value:.4f} +- {error:.4f} nats"
