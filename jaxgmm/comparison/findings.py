"""Findings on one posterior. A finding is a sentence with a number and a threshold, and it may cause a verdict.

The draws of the methods `laplace` and `bootstrap` are independent, so the mixing of chains is not checked for them. Draws by
`laplace` are judged first by k-hat. If another posterior comes from chains that mixed, the standard deviations of the draws by
`laplace` are then compared with the standard deviations of that posterior. The standard deviations of a bootstrap are not
compared with Laplace's approximation. Label switching means that chains or draws have different orders of the components.
Relabelling corrects the order, so a finding reports label switching, but does not count it as a failure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..posterior.mixing import ESS_PER_CHAIN, R_HAT_LIMIT
from ..posterior.pareto import MAX_KHAT
from ..posterior.relabel import SMALL_MARGIN, SMALL_SHARE
from ..posterior.result import INDEPENDENT, PosteriorStatus, is_usable
from ..studies.parameters import Parameter
from .report_columns import ComparisonRow, SamplerDiagnostics
from .verdict import MODE_DISTANCE, SD_RATIOS, Z_LIMIT, Finding, Verdict

SETTLED = 1.05  # a chain is settled if R-hat between its two halves is below this value


class ChainsApart(NamedTuple):
    """The quantity in which two chains differ most, and their distance in Monte Carlo standard errors.

    Both chains are settled: the two halves of each chain agree, as defined by `SETTLED`.
    """

    name: str
    distance: float


def judge(
    rows: Sequence[ComparisonRow],
    label_invariant: Sequence[ComparisonRow],
    sampler: SamplerDiagnostics,
    interval: float,
    *,
    laplace_sound: bool = True,
    apart: ChainsApart | None = None,
    rows_by_chains: Sequence[ComparisonRow] = (),
    doubt: str | None = None,
) -> list[Finding]:
    """Judge one posterior.

    Args:
        rows: the rows of the parameters.
        label_invariant: the rows of the label-invariant quantities, which do not depend on the order of the components.
        sampler: the diagnostics of the draws.
        interval: probability of the intervals.
        laplace_sound: whether the information matrix at the mode is positive definite.
        apart: the result of `chains_apart`.
        rows_by_chains: the parameter rows of a posterior from chains. Draws by `laplace` are compared with these rows.
        doubt: the sentence of `conclusion.doubt_about` on why independent draws cannot confirm EM, or None if they can.

    Returns:
        The findings. Those that cause the gravest verdicts come first.
    """
    # Log densities are not compared: EM is at a mode, so its log density is larger than the log densities of nearly all draws.
    compared = list(rows) if sampler.identified else [row for row in label_invariant if not row.is_log_density]
    laplace = sampler.method == "laplace"
    independent = sampler.method in INDEPENDENT
    found: list[Finding] = []
    if not independent:
        found += _mixing([*label_invariant, *(rows if sampler.identified else [])], sampler)
        found += _modes(sampler, apart)
    sound = laplace_sound and (not laplace or bool(is_usable(PosteriorStatus[sampler.status])))
    approximation = _approximation(rows_by_chains if laplace else compared, sampler, sound)
    found += approximation if laplace else []
    if not sampler.identified:
        found.append(_labels(sampler))
    nearness = _nearness(compared, interval, sampler.method)
    found += [nearness] if nearness.verdict == Verdict.EM_OUTSIDE else []
    found += approximation if not independent else []
    found += [Finding(Verdict.UNCONFIRMED, doubt)] if independent and doubt else []
    if nearness.verdict == Verdict.EM_INSIDE or not any(finding.verdict for finding in found):
        found.append(nearness)
    found += _switching(sampler)
    return found if nearness in found else [*found, Finding(None, nearness.sentence)]


def chains_apart(draws: np.ndarray, described: Sequence[Parameter]) -> ChainsApart | None:
    """Return the quantity in which the chains differ most. Return None if the chains agree or are not settled.

    A chain is settled if its two halves agree, as defined by `SETTLED`.

    Args:
        draws: (C, S, Q), draws of label-invariant quantities, which do not depend on the order of the components.
        described: descriptions of the Q quantities.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(4, 400, 1))
        >>> quantity = Parameter("a", "mean", None, ())
        >>> chains_apart(draws, [quantity])
        >>> chains_apart(draws + np.arange(4)[:, None, None], [quantity]).name
        'a'
    """
    from ..posterior.diagnostics import mcse_mean, rhat

    usable = np.isfinite(draws).all((0, 1))
    draws, described = draws[..., usable], [described[i] for i in np.flatnonzero(usable).tolist()]
    num_chains, num_draws, num_quantities = draws.shape
    if num_chains < 2 or num_draws < 8 or not num_quantities:
        return None
    alone = np.moveaxis(draws, 0, -1)[None]  # (1, S, Q, C): each chain is diagnosed by itself
    settled = np.nan_to_num(rhat(alone), nan=1.0).max() < SETTLED
    error = mcse_mean(alone)  # (Q, C)
    means = draws.mean(1).T
    highest, lowest = means.argmax(1), means.argmin(1)
    rows = np.arange(num_quantities)
    width = np.sqrt(error[rows, highest] ** 2 + error[rows, lowest] ** 2)
    distance = np.where(width > 0, np.ptp(means, axis=1) / np.where(width > 0, width, 1), 0.0)
    if not settled or not distance.max() > MODE_DISTANCE:
        return None
    return ChainsApart(described[int(distance.argmax())].name, float(distance.max()))


def _mixing(rows: Sequence[ComparisonRow], sampler: SamplerDiagnostics) -> list[Finding]:
    """Return the findings from R-hat, effective sample sizes and divergences."""
    found, enough, verdict = [], ESS_PER_CHAIN * sampler.chains, Verdict.CHAINS_UNMIXED
    status = PosteriorStatus[sampler.status]
    if not is_usable(status):
        found.append(Finding(verdict, status.sentence))
    known = [row for row in rows if not math.isnan(row.r_hat)]  # R-hat is NaN for constants, and for fewer than 4 draws
    undefined = [row for row in rows if math.isnan(row.r_hat) and row.sd != 0]
    if known and undefined:
        sentence = f"R-hat of {undefined[0].full_name} is not defined, because not all draws are finite."
        found.append(Finding(verdict, sentence))
    if not known and rows:
        found.append(Finding(verdict, "There are too few draws to tell whether the chains agree; draw at least 100 a chain."))
    if known:
        worst, fewest = max(known, key=lambda row: row.r_hat), min(known, key=lambda row: row.ess_bulk)
        if worst.r_hat >= R_HAT_LIMIT:
            sentence = (
                f"The chains do not agree: R-hat is {worst.r_hat:.3f} for {worst.full_name}, where a value below {R_HAT_LIMIT} "
                "is wanted. Draw more, or look for several modes, before you believe the rest."
            )
            found.append(Finding(verdict, sentence))
        if fewest.ess_bulk < enough:
            sentence = (
                f"There are few effective draws: {fewest.ess_bulk:.0f} for {fewest.full_name}, where at least {enough} "
                f"({ESS_PER_CHAIN} a chain) are wanted. Draw more."
            )
            found.append(Finding(verdict, sentence))
    if sampler.divergences:
        sentence = f"{sampler.divergences} draws are divergent, where none is wanted: the draws may miss part of the posterior."
        found.append(Finding(None, sentence))
    return found


def _modes(sampler: SamplerDiagnostics, apart: ChainsApart | None) -> list[Finding]:
    """Return the findings that report several modes, for chains that settled apart or a chain that stays at another mode."""
    found = []
    if apart is not None:
        sentence = (
            f"The chains are at different modes: each is settled, but two means of {apart.name} are {apart.distance:.0f} Monte "
            f"Carlo standard errors apart, where at most {MODE_DISTANCE} is wanted. The draws do not tell how much each mode "
            "weighs."
        )
        found.append(Finding(Verdict.SEVERAL_MODES, sentence))
    if sampler.other_share is not None:
        sentence = (
            "A chain from another start stays at another mode. By Laplace's approximation, this mode has "
            f"{100 * sampler.other_share:.0f} % of the joint probability of both modes, where at most 1 % is neglected: the "
            "draws describe only the first mode."
        )
        found.append(Finding(Verdict.SEVERAL_MODES, sentence))
    return found


def _approximation(rows: Sequence[ComparisonRow], sampler: SamplerDiagnostics, sound: bool) -> list[Finding]:
    """Return the findings about Laplace's approximation, from k-hat and from standard deviations."""
    if not sound:
        sentence = "There is no normal approximation: the information at the mode is not positive definite."
        return [Finding(Verdict.LAPLACE_POOR, sentence)]
    found, limit = [], MAX_KHAT if sampler.khat_limit is None else sampler.khat_limit
    if sampler.khat is not None and sampler.khat >= limit:
        sentence = (
            f"The posterior is far from normal around its mode: k-hat is {sampler.khat:.2f}, where a value below {limit:.2f} "
            "is wanted. Use neither Laplace's approximation nor standard errors."
        )
        found.append(Finding(Verdict.LAPLACE_POOR, sentence))
    ratios = [(row, row.sd_ratio) for row in rows if row.sd_ratio is not None]
    known = [(row, ratio) for row, ratio in ratios if math.isfinite(ratio) and ratio > 0]
    if known:
        worst, ratio = max(known, key=lambda pair: abs(math.log(pair[1])))
        low, high = SD_RATIOS
        if not low <= ratio <= high:
            sentence = (
                f"Laplace's sd is {ratio:.2f} times the posterior's for {worst.full_name}, where {low:g} to {high:g} is wanted."
            )
            found.append(Finding(Verdict.LAPLACE_POOR, sentence))
    return found


def _labels(sampler: SamplerDiagnostics) -> Finding:
    """Return the finding that labels are not identified, with the reason."""
    sentence = (
        f"The labels are not identified: {100 * sampler.unclear_rate:.1f} % of the draws fit another order of the components "
        f"nearly as well (margin below {SMALL_MARGIN:g}), where at most {100 * SMALL_SHARE:g} % is wanted. Single components "
        "mean little; quantities that no order of the components changes are shown instead."
    )
    return Finding(Verdict.LABELS_NOT_IDENTIFIED, sentence)


def _switching(sampler: SamplerDiagnostics) -> list[Finding]:
    """Return a finding on how often labels switched, if labels are identified after relabelling."""
    rate, chains = sampler.switch_rate, sampler.switched_chains
    if not sampler.identified or not (rate or chains):
        return []
    found = [f"{chains} of {sampler.chains} chains were in another order of the components than EM"] if chains else []
    found += [f"{100 * rate:.1f} % of the draws switch order"] if rate else []
    return [Finding(None, f"{' and '.join(found)}; relabelling put them in one order: label switching is no failure.")]


def _nearness(rows: Sequence[ComparisonRow], interval: float, method: str) -> Finding:
    """Return the finding on where EM lies among the draws.

    If a user's own model fixes a quantity, the posterior sd of this quantity is 0. Such quantities are left out, unless all
    quantities are fixed.
    """
    rows = [row for row in rows if math.isfinite(row.z)] or rows
    sd, centre, name = "posterior sd", "the posterior mean", f"{100 * interval:g} % interval"
    if method == "bootstrap":
        sd, centre, name = "sd of the replicate fits", "their mean", f"{100 * interval:g} % interval of the replicate fits"
    furthest = max(rows, key=lambda row: abs(row.z))
    outside = [row for row in rows if not row.inside]
    where = f"{abs(furthest.z):.2f} {sd} from {centre} ({furthest.full_name})"
    if outside:
        worst = max(outside, key=lambda row: abs(row.z))
        sentence = (
            f"EM lies outside the {name} for {len(outside)} of {len(rows)} quantities, farthest for "
            f"{worst.full_name}: {abs(worst.z):.2f} {sd} from {centre}."
        )
        return Finding(Verdict.EM_OUTSIDE, sentence)
    if abs(furthest.z) > Z_LIMIT:
        reason = "EM is biased there" if method == "bootstrap" else "the posterior is skewed there, so its mode is not its mean"
        sentence = f"EM lies inside every {name}, but up to {where}, where at most {Z_LIMIT:g} counts as agreement: {reason}."
        return Finding(Verdict.EM_INSIDE, sentence)
    return Finding(Verdict.AGREE, f"EM lies inside every {name}, at most {where}.")
