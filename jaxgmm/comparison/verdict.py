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
        "and there is no posterior beside them.",
    )
    EM_INSIDE = (
        "EM inside",
        f"EM lies inside every interval, but farther than {Z_LIMIT:g} posterior standard deviation from a posterior mean.",
    )
    AGREE = (
        "agree",
        f"R-hat is below {R_HAT_LIMIT}, there are {ESS_PER_CHAIN} effective draws for each chain, labels are identified, "
        f"k-hat is below its limit, every |z| is at most {Z_LIMIT:g} and every ratio of standard deviations is within "
        f"{list(SD_RATIOS)}.",
    )


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


def is_mixed(findings: Sequence[Finding]) -> bool:
    """Return whether no finding says that the chains are unmixed or at several modes."""
    return not {finding.verdict for finding in findings} & {Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES}
