"""The verdicts on whether EM and a posterior agree, and the thresholds that they mention.

The module `findings` decides which verdict applies. The verdict on a posterior is the gravest verdict of its findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from ..posterior.mixing import ESS_PER_CHAIN, R_HAT_LIMIT
from ..posterior.relabel import SMALL_SHARE

# z is (EM - posterior mean) / posterior standard deviation. EM agrees with the posterior if |z| is at most this number. With a
# skewed posterior, |z| of a correct fit can be about this large.
Z_LIMIT = 1.0
SD_RATIOS = (0.8, 1.25)  # acceptable range of the ratio: Laplace's standard deviation / posterior standard deviation
OTHER_MASS = 0.02  # EM agrees with the posterior only if the other modes together hold at most this share of it
MODE_DISTANCE = 5  # chains are at two modes if their means are more than this number of Monte Carlo standard errors apart


class Verdict(Enum):
    """The possible verdicts on one posterior, ordered from the gravest to the mildest.

    Attributes:
        word: the verdict in a few words.
        sentence: a sentence that explains the meaning and the cause of the verdict.

    Example:
        >>> Verdict.EM_OUTSIDE.word, Verdict("agree") is Verdict.AGREE
        ('EM outside', True)
    """

    word: str
    sentence: str

    def __new__(cls, word: str, sentence: str) -> Verdict:
        """Create a verdict whose value is its word."""
        member = object.__new__(cls)
        member._value_ = member.word = word
        member.sentence = sentence
        return member

    CHAINS_UNMIXED = (
        "chains unmixed",
        f"R-hat is {R_HAT_LIMIT} or more, or the bulk effective number of draws is below {ESS_PER_CHAIN} for each chain: do "
        "not believe anything else yet.",
    )
    SEVERAL_MODES = (
        "several modes",
        f"Every chain is settled by itself, but the means of two are more than {MODE_DISTANCE} Monte Carlo standard errors "
        "apart, or a chain from another start stays at a mode that is not negligible: the draws do not tell how much each "
        "mode weighs.",
    )
    OTHER_MODES = (
        "other modes",
        f"EM is at one of several modes: from more than {100 * OTHER_MASS:g} % of the draws, EM converges to the others.",
    )
    POOR_MODE = (
        "poor mode",
        "EM stopped at a mode, but a mode with a higher objective was found: start EM from that mode.",
    )
    LABELS_NOT_IDENTIFIED = (
        "labels not identified",
        f"More than {100 * SMALL_SHARE:g} % of the draws fit another order of the components nearly as well: single "
        "components mean nothing, and quantities that no order of the components changes are judged instead.",
    )
    EM_OUTSIDE = "EM outside", "EM lies outside at least one interval."
    LAPLACE_POOR = (
        "Laplace poor",
        "Pareto k-hat is not below min(0.7, 1 - 1 / log10 S) for S importance ratios (Vehtari et al. 2024), or a standard "
        f"deviation by Laplace's approximation is not within {list(SD_RATIOS)} of the posterior's: use neither a normal "
        "approximation at the mode nor standard errors.",
    )
    UNCONFIRMED = (
        "unconfirmed",
        "These draws cannot tell whether EM agrees with the posterior: they are independent draws around EM that do not notice "
        "other modes, and no sampler with chains mixed; or they come from a bootstrap, which does not draw from a posterior, "
        "and there is no posterior beside them; or a search for other modes was made, but too many of its fits failed.",
    )
    EM_INSIDE = (
        "EM inside",
        f"EM lies inside every interval, but farther than {Z_LIMIT:g} posterior standard deviation from a posterior mean.",
    )
    AGREE = (
        "agree",
        f"R-hat is below {R_HAT_LIMIT}, there are {ESS_PER_CHAIN} effective draws for each chain, labels are identified, "
        f"k-hat is below its limit, every |z| is at most {Z_LIMIT:g} and every ratio of standard deviations is within "
        f"{list(SD_RATIOS)}. If other modes were searched for, they hold at most {100 * OTHER_MASS:g} % of the posterior, and "
        "none has a higher objective.",
    )


# A bootstrap does not draw from a posterior, so its verdicts are described in other words.
BOOTSTRAP_WORDS = {Verdict.AGREE: "EM stable", Verdict.EM_INSIDE: "EM biased", Verdict.UNCONFIRMED: "no posterior"}


class Finding(NamedTuple):
    """One sentence about a posterior, and the verdict that it causes (None if it causes no verdict)."""

    verdict: Verdict | None
    sentence: str


def gravest(findings: Sequence[Finding]) -> Verdict:
    """Return the verdict of the first finding that causes a verdict. In a list of findings, the gravest come first.

    Example:
        >>> gravest([Finding(None, "3 draws are divergent."), Finding(Verdict.AGREE, "EM lies inside every interval.")]).word
        'agree'
    """
    return next(finding.verdict for finding in findings if finding.verdict is not None)


def insert(findings: Sequence[Finding], others: Sequence[Finding]) -> list[Finding]:
    """Insert the findings `others` into a list of findings, so that the gravest come first, and return the new list.

    If one of the findings `others` causes a verdict, the findings that caused the verdict AGREE cause no verdict any more.

    Example:
        >>> found = [Finding(Verdict.AGREE, "EM lies inside.")]
        >>> [finding.verdict for finding in insert(found, [Finding(Verdict.POOR_MODE, "A higher mode was found.")])]
        [<Verdict.POOR_MODE: 'poor mode'>, None]
    """
    order = {verdict: place for place, verdict in enumerate(Verdict)}
    found = list(findings)
    if any(finding.verdict is not None for finding in others):
        found = [Finding(None, f.sentence) if f.verdict is Verdict.AGREE else f for f in found]
    for other in others:
        place = len(found)
        if other.verdict is not None:
            graver = [i for i, f in enumerate(found) if f.verdict is not None and order[f.verdict] <= order[other.verdict]]
            place = max(graver, default=-1) + 1
        found.insert(place, other)
    return found


def is_mixed(findings: Sequence[Finding]) -> bool:
    """Return True unless a finding says that the chains are unmixed or at several modes."""
    return not {finding.verdict for finding in findings} & {Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES}
