"""Whether EM and a posterior agree, in words, each with the number and the threshold that caused it.

The words, from the gravest: "chains unmixed" (R-hat or ESS beyond their limits: nothing else is to be believed yet), "labels
not identified" (judged by what no labelling changes), "EM outside" (of at least one interval), "EM inside" (all intervals, but
further than one sd from a mean), "agree".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..posterior.relabel import SMALL_MARGIN, SMALL_SHARE

R_HAT_LIMIT = 1.01  # Vehtari et al. (2021), section 4
ESS_PER_CHAIN = 100  # same
Z_LIMIT = 1.0  # a mode is not a mean: skewed posteriors of sound fits reach about this


def judge(
    rows: Sequence[dict[str, Any]], label_free: Sequence[dict[str, Any]], sampler: dict[str, Any], interval: float
) -> dict[str, Any]:
    """The verdict on one posterior.

    Args:
        rows: of the parameters, as in `Comparison.rows`.
        label_free: of what no labelling changes, the two log densities first.
        sampler: chains, divergences, identified, switch_rate, unclear_rate.
        interval: the intervals' probability.

    Returns:
        word: one of those above. sentences: why, the gravest first.

    Example:
        >>> row = dict(kind="weight", features=[], component=0, em=0.5, mean=0.5, z=0.1, inside=True, r_hat=1.0, ess_bulk=900.0)
        >>> judge([row], [], dict(chains=4, divergences=0, identified=True), 0.95)["word"]
        'agree'
    """
    identified = sampler["identified"]
    mixing = [*label_free, *(rows if identified else [])]
    sentences = _sampling(mixing, sampler)
    word = "chains unmixed" if sentences else None
    if sampler["divergences"]:
        sentences.append(
            f"{sampler['divergences']} draws are divergent, where none is wanted: a part of the posterior may be missing."
        )
    if not identified:
        word = word or "labels not identified"
        sentences.append(
            f"The labels are not identified: {_labels(sampler)}. Single components mean little; what no labelling "
            "changes is shown instead."
        )
    # at a mode the log densities are above those of the draws, always
    compared = list(rows) if identified else [row for row in label_free if "nats" not in row["kind"]]
    nearness, sentence = _nearness(compared, interval)
    return {"word": word or nearness, "sentences": [*sentences, sentence]}


def full_name(row: dict[str, Any]) -> str:
    """A row's name in a sentence.

    Example:
        >>> full_name({"kind": "mean", "features": ["waiting"], "component": 1})
        'mean waiting of component 1'
    """
    name = f"{row['kind']} {', '.join(row['features'])}".rstrip()
    return name if row["component"] is None else f"{name} of component {row['component']}"


def _sampling(rows: Sequence[dict[str, Any]], sampler: dict[str, Any]) -> list[str]:
    sentences, enough = [], ESS_PER_CHAIN * sampler["chains"]
    known = [row for row in rows if row["r_hat"] == row["r_hat"]]  # NaN: a constant, or fewer than four draws
    if not known:
        return ["There are too few draws to tell whether the chains agree; draw at least 100 a chain."] if rows else []
    worst = max(known, key=lambda row: row["r_hat"])
    if worst["r_hat"] >= R_HAT_LIMIT:
        sentences.append(
            f"The chains do not agree: R-hat is {worst['r_hat']:.3f} for {full_name(worst)}, where under {R_HAT_LIMIT} is "
            "wanted. Draw more, or look for several modes, before you believe the rest."
        )
    fewest = min(known, key=lambda row: row["ess_bulk"])
    if fewest["ess_bulk"] < enough:
        sentences.append(
            f"There are few effective draws: {fewest['ess_bulk']:.0f} for {full_name(fewest)}, where at least {enough} "
            f"({ESS_PER_CHAIN} a chain) are wanted. Draw more."
        )
    return sentences


def _labels(sampler: dict[str, Any]) -> str:
    return (
        f"{100 * sampler['unclear_rate']:.1f} % of the draws fit another order of the components nearly as well (margin under "
        f"{SMALL_MARGIN:g}), where at most {100 * SMALL_SHARE:g} % is wanted"
    )


def _nearness(rows: Sequence[dict[str, Any]], interval: float) -> tuple[str, str]:
    furthest = max(rows, key=lambda row: abs(row["z"]))
    outside = [row for row in rows if not row["inside"]]
    where = f"{abs(furthest['z']):.2f} posterior sd from the posterior mean ({full_name(furthest)})"
    if outside:
        worst = max(outside, key=lambda row: abs(row["z"]))
        return "EM outside", (
            f"EM lies outside the {100 * interval:g} % interval for {len(outside)} of {len(rows)} quantities, furthest "
            f"for {full_name(worst)}: {abs(worst['z']):.2f} posterior sd from the posterior mean."
        )
    if abs(furthest["z"]) > Z_LIMIT:
        return "EM inside", (
            f"EM lies inside every {100 * interval:g} % interval, but up to {where}, where at most {Z_LIMIT:g} is called "
            "agreement: the posterior is skewed there, and its mode is not its mean."
        )
    return "agree", f"EM lies inside every {100 * interval:g} % interval, at most {where}."
