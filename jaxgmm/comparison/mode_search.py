"""The search for other modes: which mode of a posterior EM is at, and how much of the posterior the other modes hold.

`jaxgmm.modes` computes the masses of the modes. They are consistent estimates if the draws are by `smc`, which starts from
the prior and does not use EM's solution. EM from new starts may find a mode that holds little of the posterior but has a higher
objective than EM's mode.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsFloat

import jax
import numpy as np
from numpy.typing import ArrayLike

from ..cells import numbers
from ..em.batch.restarts import fit_restarts
from ..em.result import Fit
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..posterior.modes import SAME_OBJECTIVE, Modes, find_among, fit_from, modes_table, with_fit
from ..posterior.modes import modes as find_modes
from ..priors.interface import MixturePrior, reason_without_mode
from ..tables import Table
from .inputs import ComparisonInputs, Subject
from .point_vs_posterior import same_prior
from .verdict import OTHER_MASS, Finding, Verdict

NUM_RESTARTS = 32  # smallest number of new starts of EM in a search


@dataclass(frozen=True, eq=False)
class ModeSearch:
    """The modes of a posterior, and the place of EM among them.

    Attributes:
        modes: the Modes, or None if their masses are not known.
        reason: the reason why the masses of modes are not known, or "".
        source: name of the posterior from whose draws EM converged to the modes, or "" if the modes were given.
        prior: the prior of the fits, or None if no search was made.
        em: index of EM's mode among the modes, or None if EM's mode is not among them.
        em_objective: log-likelihood plus log prior at EM's mode, in nats; NaN if no search was made.
        restart: the best fit of EM from new starts under the prior, or None.
    """

    modes: Modes | None
    reason: str = ""
    source: str = ""
    prior: MixturePrior | None = None
    em: int | None = None
    em_objective: float = float("nan")
    restart: Fit | None = None

    @property
    def mass(self) -> float:
        """The mass of EM's mode: the share of the draws from which EM converges to this mode."""
        return 0.0 if self.modes is None or self.em is None else float(self.modes.mass[self.em])

    @property
    def best(self) -> Mixture | None:
        """The mode with the highest objective among all modes that were found; None if no search was made."""
        modes = self.modes
        if modes is not None and self._highest_of_modes >= self._objective_of_restart:
            return jax.tree.map(lambda leaf: leaf[int(np.argmax(modes.objective))], modes.mixture)
        return None if self.restart is None else self.restart.mixture

    @property
    def gain(self) -> float:
        """The objective of the best mode minus the objective of EM's mode, in nats; NaN if no search was made."""
        return max(self._highest_of_modes, self._objective_of_restart) - self.em_objective

    @property
    def _highest_of_modes(self) -> float:
        return -np.inf if self.modes is None else float(np.max(self.modes.objective))

    @property
    def _objective_of_restart(self) -> float:
        return -np.inf if self.restart is None else float(self.restart.objective)

    def sentence(self) -> str:
        """Return a phrase that says how many modes were found, or why other modes were not searched for."""
        if self.modes is None:
            if self.restart is None:
                return f"not searched for, because {self.reason}"
            found = "a higher one" if self.gain > SAME_OBJECTIVE else "no higher one"
            return f"{found} found by EM from new starts; their masses are not known, because {self.reason}"
        source = f" from draws by {self.source}" if self.source else ""
        source += " and by EM from new starts" if self.restart is not None else ""
        mass = "the mass of a mode is the share of the draws from which EM converges to it"
        return f"{len(self.modes.mass)} found{source}; {mass}"

    def findings(self) -> list[Finding]:
        """Return the findings, the gravest first."""
        poor = [Finding(Verdict.POOR_MODE, self._poor_mode())] if self.gain > SAME_OBJECTIVE else []
        if self.modes is not None:
            return self._findings_on_masses(poor)
        if self.restart is None or poor:
            return poor
        return [Finding(None, "EM from new starts found no mode with a higher objective.")]

    def _findings_on_masses(self, poor: list[Finding]) -> list[Finding]:
        """Return the findings on the masses of the modes and the findings in `poor`, the gravest first.

        poor: a list with the finding of a poor mode, or an empty list.
        """
        assert self.modes is not None
        mass = np.asarray(self.modes.mass, float)
        others = np.delete(np.arange(len(mass)), [] if self.em is None else [self.em])
        share, failed = float(mass[others].sum()), float(1 - mass.sum())
        found = [Finding(Verdict.OTHER_MODES, self._other_modes(int(others[0])))] if share > OTHER_MASS else []
        found += poor
        if failed > OTHER_MASS:
            sentence = (
                f"{percent(failed)} of the draws lead to no mode, because EM failed from them, where at most "
                f"{percent(OTHER_MASS)} is neglected: they may belong to other modes."
            )
            found.append(Finding(Verdict.UNCONFIRMED, sentence))
        if share <= OTHER_MASS:
            sentence = f"EM's mode holds {percent(self.mass)} of the posterior"
            if share > 0:
                sentence += (
                    f"; the other modes together hold {percent(share)}, where at most {percent(OTHER_MASS)} is neglected"
                )
            found.append(Finding(None, f"{sentence}."))
        return found

    def _other_modes(self, largest: int) -> str:
        """Return a sentence on the mass of EM's mode and on the largest other mode, whose index is given."""
        assert self.modes is not None
        own = "No draw leads to EM's mode"
        if self.em is not None and self.mass > 0:
            own = f"EM's mode holds {self._share(self.em)} of the posterior"
        return (
            f"{own}; the largest other, {self._share(largest)}, {_place(self.modes.mixture[largest])}. At most "
            f"{percent(OTHER_MASS)} in other modes is neglected."
        )

    def _poor_mode(self) -> str:
        """Return a sentence on the mode with the highest objective."""
        assert self.best is not None
        held = "it "
        if self.modes is not None:
            place = int(np.argmax(self.modes.objective))
            held = (
                f"it holds {self._share(place)} of the posterior and "
                if self.modes.mass[place] > 0
                else "no draw leads to it; it "
            )
        gain = f"A mode whose objective is {self.gain:.2f} nats higher than EM's was found"
        return f"{gain}: {held}{_place(self.best)}. Start EM from it."

    def _share(self, place: int) -> str:
        """Return, as text, the mass of a mode and its standard error."""
        assert self.modes is not None
        return f"{percent(self.modes.mass[place])} ± {percent(self.modes.mass_error[place])}"

    def tables(self) -> list[Table]:
        """Return a list with the table of the modes, in which EM's mode is marked. The list is empty if no search was made."""
        if self.modes is None:
            return []
        table = modes_table(self.modes)
        rows = [[f"{row[0]} (EM)" if i == self.em else row[0], *row[1:]] for i, row in enumerate(table.rows)]
        return [replace(table, rows=rows)]

    def to_dict(self) -> dict[str, object]:
        """Return all numbers by name."""
        found: dict[str, object] = {"searched": self.modes is not None, "reason": self.reason, "source": self.source}
        if self.prior is not None:
            found |= {"em_objective": self.em_objective, "gain": self.gain}
            found["restart_objective"] = None if self.restart is None else float(self.restart.objective)
        if self.modes is None:
            return found
        found |= {"em": self.em, "em_mass": self.mass}
        names = ("mass", "mass_error", "objective")
        numbers_of_modes = {name: np.asarray(getattr(self.modes, name), float).tolist() for name in names}
        mixture = self.modes.mixture
        parts = {name: np.asarray(getattr(mixture, name), float).tolist() for name in ("weights", "means", "covariances")}
        return found | numbers_of_modes | parts


def search_modes(inputs: ComparisonInputs, subjects: Sequence[Subject]) -> ModeSearch | None:
    """Return the modes, and the place of EM among them. Return None if the option `modes` is False."""
    wanted = inputs.options.modes
    if wanted is False:
        return None
    known = [subject for subject in subjects if subject.posterior.prior is not None and not subject.own_likelihood]
    by_smc = [subject for subject in known if subject.posterior.method == "smc"]
    subject = next(iter(known if isinstance(wanted, Modes) else [*by_smc, *known]), None)
    if subject is None or subject.posterior.prior is None:
        return ModeSearch(None, "no posterior has a prior and the likelihood of the mixture")
    prior = subject.posterior.prior
    reason = reason_without_mode(prior)
    if reason is not None:
        return ModeSearch(None, reason)
    fit, restart = inputs.fit, inputs.options.restart
    objective = float(fit.log_likelihood) + subject.em_log_prior
    if wanted is None and not by_smc:
        reason = "there are no draws by smc; chains that start at EM may miss other modes"
        if restart is None:
            return ModeSearch(None, reason)
        if float(restart.objective) - objective > SAME_OBJECTIVE:  # the user's fit may not be at a mode under this prior
            objective = float(fit_from(fit.mixture, inputs.x, inputs.weight, prior).objective)
        return ModeSearch(None, reason, "", prior, None, objective, restart)
    found, source = wanted, ""
    if not isinstance(found, Modes):
        source = subject.name
        x, weight = inputs.weighted_rows
        found = find_modes(subject.posterior, x, prior, sample_weight=weight, progress=False)
        restart = _restart(inputs, prior) if restart is None else restart
    if restart is not None:
        found = with_fit(found, restart, inputs.x, inputs.weight)
    em, objective = find_among(found, fit.mixture, objective, inputs.x, inputs.weight, prior)
    return ModeSearch(found, "", source, prior, em, objective, restart)


def _restart(inputs: ComparisonInputs, prior: MixturePrior) -> Fit:
    """Return the best fit from new starts. Its warnings are dropped, because they would not be about the user's fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, weight = inputs.weighted_rows
        return best_of_restarts(jax.random.key(inputs.options.seed), inputs.fit, x, prior, sample_weight=weight)


def best_of_restarts(
    key: jax.Array,
    fit: Fit,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    sample_weight: ArrayLike | None = None,
    at_once: int = NUM_RESTARTS,
) -> Fit:
    """Fit the model of `fit` under a prior from at least 32 new starts, and return the best of the new fits.

    at_once: the number of restarts in each call of `fit_restarts`. A call takes less time if `fit_restarts` is already
    compiled for this number.
    """
    model = {"num_components": fit.mixture.num_components, "covariance_type": fit.mixture.covariance_type}
    keys = [jax.random.fold_in(key, i) for i in range(-(-NUM_RESTARTS // at_once))]
    options = {"num_restarts": at_once, "sample_weight": sample_weight, "progress": False}
    fits = [fit_restarts(one, x, prior, **model, **options) for one in keys]
    return max(fits, key=lambda fit: np.nan_to_num(float(fit.objective), nan=-np.inf))


def findings_for(search: ModeSearch | None, subject: Subject) -> list[Finding]:
    """Return the findings of a search that apply to a posterior. They apply if the search was made under its prior."""
    if search is None or search.prior is None:
        return []
    posterior = subject.posterior
    applies = posterior.method == "bootstrap" or same_prior(posterior.prior, search.prior)
    return search.findings() if applies and not subject.own_likelihood else []


def percent(share: SupportsFloat) -> str:
    """Return a share in percent, with two digits, or three digits near 100 %."""
    return f"{100 * float(share):.{3 if float(share) >= 0.95 else 2}g} %"


def _place(mixture: Mixture) -> str:
    """Return a phrase that states the weights and means of a mixture."""
    weights, means = np.asarray(mixture.weights), np.asarray(mixture.means)
    rest = "; ..." if len(means) > 4 else ""
    return f"has weights {numbers(weights, 4)} and means {'; '.join(numbers(mean, 4) for mean in means[:4])}{rest}"
