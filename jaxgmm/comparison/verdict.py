"""Whether EM and a posterior agree, in words, each with the number and the threshold that caused it.

A verdict is a word, the gravest finding, and a sentence for each finding; `words` names them all. From the gravest:

"chains unmixed"        R-hat is 1.01 or more, or bulk ESS under 100 a chain: nothing else is to be believed yet.
"several modes"         Each chain is settled by itself, but in a place of its own, more than 5 Monte Carlo standard errors from
                        another's; or a chain from another start stays at a mode that is not negligible. How much each
                        mode weighs cannot be told from the draws.
"labels not identified" More than 5 % of the draws fit another order of the components nearly as well: single components mean
                        nothing, and what no labelling changes is judged instead.
"EM outside"            EM lies outside of at least one interval.
"Laplace poor"          k-hat is not under min(0.7, 1 - 1 / log10 S) (S ratios; Vehtari et al. 2024), or an sd by Laplace is not
                        within [0.8, 1.25] of the posterior's: no normal approximation at the mode, nor standard errors, will do.
                        Of draws by Laplace itself it is the gravest; their sds are held against those of chains, if there are.
"EM inside"             EM lies inside every interval, but further than one posterior sd from a mean.
"agree"                 None of these: R-hat < 1.01, bulk ESS >= 100 a chain, labels identified, k-hat under its limit, all
                        |z| <= 1, all sd ratios in [0.8, 1.25].

Draws by Laplace or bootstrap are independent and have no chains to mix. A bootstrap has no Laplace of its own: its sds are not
judged by one. Switching (chains in several orders that relabelling puts right) is no failure, and said in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..posterior.gaussian_approximation import MAX_KHAT
from ..posterior.relabel import SMALL_MARGIN, SMALL_SHARE
from ..studies.parameters import Parameter

R_HAT_LIMIT = 1.01  # Vehtari et al. (2021), section 4
ESS_PER_CHAIN = 100  # same
Z_LIMIT = 1.0  # a mode is not a mean: skewed posteriors of sound fits reach about this
SD_RATIOS = (0.8, 1.25)  # of Laplace's to the posterior's
MODE_DISTANCE = 5  # Monte Carlo standard errors between chains that are each settled
SETTLED = 1.05  # R-hat of a chain's two halves
WORDS = ("chains unmixed", "several modes", "labels not identified", "EM outside", "Laplace poor", "EM inside", "agree")
INDEPENDENT = ("laplace", "bootstrap")  # methods without chains


def khat_limit(num_ratios: int) -> float:
    """What k-hat of that many importance ratios must stay under. Vehtari et al. (2024), eq. 11.

    Example:
        >>> round(khat_limit(100), 2), khat_limit(10**6)
        (0.5, 0.7)
    """
    return min(MAX_KHAT, 1 - 1 / math.log10(max(num_ratios, 11)))


def judge(
    rows: Sequence[dict[str, Any]], label_free: Sequence[dict[str, Any]], sampler: dict[str, Any], interval: float
) -> dict[str, Any]:
    """The verdict on one posterior.

    Args:
        rows: of the parameters, as in `Comparison.rows`.
        label_free: of what no labelling changes, the two log densities first.
        sampler: chains, divergences, identified, unclear_rate; and, as far as they are known, method, switch_rate,
            switched_chains, khat, khat_limit, laplace_sound, apart (as from `chains_apart`), other_share, and beside: for draws
            by Laplace, rows of a posterior by chains.
        interval: the intervals' probability.

    Returns:
        word: the gravest of those above. words: all that hold, the gravest first. sentences: why, in that order.

    Example:
        >>> row = dict(kind="weight", features=[], component=0, em=0.5, mean=0.5, z=0.1, inside=True, r_hat=1.0, ess_bulk=900.0)
        >>> judge([row], [], dict(chains=4, divergences=0, identified=True), 0.95)["word"]
        'agree'
    """
    identified, method = sampler["identified"], sampler.get("method", "nuts")
    # at a mode the log densities are above those of the draws, always
    compared = list(rows) if identified else [row for row in label_free if "nats" not in row["kind"]]
    found: list[tuple[str, str]] = []
    if method not in INDEPENDENT:
        found += _sampling([*label_free, *(rows if identified else [])], sampler)
        found += _modes(sampler)
    laplace = _laplace(compared, sampler) if method != "bootstrap" else []
    found += laplace if method == "laplace" else []
    if not identified:
        found.append(("labels not identified", f"The labels are not identified: {_labels(sampler)}. {_INSTEAD}"))
    nearness = _nearness(compared, interval)
    found += [nearness] if nearness[0] == "EM outside" else []
    found += laplace if method != "laplace" else []
    if nearness[0] == "EM inside" or not any(word for word, _ in found):
        found.append(nearness)
    words = list(dict.fromkeys(word for word, _ in found if word))
    sentences = [sentence for _, sentence in found] + _switching(sampler)
    if nearness not in found:
        sentences.append(nearness[1])
    return {"word": words[0], "words": words, "sentences": sentences}


_INSTEAD = "Single components mean little; what no labelling changes is shown instead."


def full_name(row: dict[str, Any]) -> str:
    """A row's name in a sentence.

    Example:
        >>> full_name({"kind": "mean", "features": ["waiting"], "component": 1})
        'mean waiting of component 1'
    """
    name = f"{row['kind']} {', '.join(row['features'])}".rstrip()
    return name if row["component"] is None else f"{name} of component {row['component']}"


def chains_apart(draws: np.ndarray, described: Sequence[Parameter]) -> dict[str, Any] | None:
    """Where chains stay, each by itself settled, in places of their own: the quantity where they are furthest apart, or None.

    Args:
        draws: (C, S, Q), of quantities that no labelling changes.
        described: what the Q quantities are.

    Returns:
        name and distance, in Monte Carlo standard errors of the chains' means; or None.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(4, 400, 1))
        >>> quantity = Parameter("a", "mean", None, ())
        >>> chains_apart(draws, [quantity])
        >>> chains_apart(draws + np.arange(4)[:, None, None], [quantity])["name"]
        'a'
    """
    from ..posterior.diagnostics import mcse_mean, rhat

    c, s, q = draws.shape
    if c < 2 or s < 8 or not q:
        return None
    alone = np.moveaxis(draws, 0, -1)[None]  # (1, S, Q, C): each chain by itself
    settled = np.nan_to_num(rhat(alone), nan=1.0).max() < SETTLED
    error = mcse_mean(alone)  # (Q, C)
    means = draws.mean(1).T
    far, near = means.argmax(1), means.argmin(1)
    rows = np.arange(q)
    width = np.sqrt(error[rows, far] ** 2 + error[rows, near] ** 2)
    distance = np.where(width > 0, np.ptp(means, axis=1) / np.where(width > 0, width, 1), 0.0)
    if not settled or not distance.max() > MODE_DISTANCE:
        return None
    return {"name": described[int(distance.argmax())].name, "distance": float(distance.max())}


def _sampling(rows: Sequence[dict[str, Any]], sampler: dict[str, Any]) -> list[tuple[str, str]]:
    found, enough, word = [], ESS_PER_CHAIN * sampler["chains"], "chains unmixed"
    known = [row for row in rows if row["r_hat"] == row["r_hat"]]  # NaN: a constant, or fewer than four draws
    if not known and rows:
        found.append((word, "There are too few draws to tell whether the chains agree; draw at least 100 a chain."))
    if known:
        worst = max(known, key=lambda row: row["r_hat"])
        if worst["r_hat"] >= R_HAT_LIMIT:
            found.append(
                (
                    word,
                    f"The chains do not agree: R-hat is {worst['r_hat']:.3f} for {full_name(worst)}, where under {R_HAT_LIMIT} "
                    "is wanted. Draw more, or look for several modes, before you believe the rest.",
                )
            )
        fewest = min(known, key=lambda row: row["ess_bulk"])
        if fewest["ess_bulk"] < enough:
            found.append(
                (
                    word,
                    f"There are few effective draws: {fewest['ess_bulk']:.0f} for {full_name(fewest)}, where at least {enough} "
                    f"({ESS_PER_CHAIN} a chain) are wanted. Draw more.",
                )
            )
    if sampler["divergences"]:
        sentence = (
            f"{sampler['divergences']} draws are divergent, where none is wanted: a part of the posterior may be missing."
        )
        found.append(("", sentence))
    return found


def _modes(sampler: dict[str, Any]) -> list[tuple[str, str]]:
    found, apart, share = [], sampler.get("apart"), sampler.get("other_share")
    if apart:
        found.append(
            (
                "several modes",
                f"Chains stay in places of their own: each is settled, but two means of {apart['name']} are {apart['distance']:.0f} "
                f"Monte Carlo standard errors apart, where at most {MODE_DISTANCE} is wanted. There are several modes, and how "
                "much each weighs cannot be told from these draws.",
            )
        )
    if share is not None:
        found.append(
            (
                "several modes",
                f"A chain from another start stays at a mode that holds {100 * share:.0f} % beside the first one's, by Laplace, "
                "where at most 1 % is neglected: the draws describe the first mode alone.",
            )
        )
    return found


def _laplace(rows: Sequence[dict[str, Any]], sampler: dict[str, Any]) -> list[tuple[str, str]]:
    found, khat, limit = [], sampler.get("khat"), sampler.get("khat_limit", MAX_KHAT)
    if not sampler.get("laplace_sound", True):
        return [("Laplace poor", "There is no normal approximation: the information at the mode is not positive definite.")]
    if khat is not None and not khat < limit:
        found.append(
            (
                "Laplace poor",
                f"The posterior is far from normal around its mode: k-hat is {khat:.2f}, where under {limit:.2f} is wanted. Do not "
                "use Laplace's approximation, nor standard errors.",
            )
        )
    rows = sampler.get("beside", []) if sampler.get("method") == "laplace" else rows
    known = [row for row in rows if math.isfinite(row.get("sd_ratio", math.nan)) and row["sd_ratio"] > 0]
    if known:
        worst = max(known, key=lambda row: abs(math.log(row["sd_ratio"])))
        low, high = SD_RATIOS
        if not low <= worst["sd_ratio"] <= high:
            found.append(
                (
                    "Laplace poor",
                    f"Laplace's sd is {worst['sd_ratio']:.2f} times the posterior's for {full_name(worst)}, where {low:g} to "
                    f"{high:g} is wanted.",
                )
            )
    return found


def _labels(sampler: dict[str, Any]) -> str:
    return (
        f"{100 * sampler['unclear_rate']:.1f} % of the draws fit another order of the components nearly as well (margin under "
        f"{SMALL_MARGIN:g}), where at most {100 * SMALL_SHARE:g} % is wanted"
    )


def _switching(sampler: dict[str, Any]) -> list[str]:
    rate, chains = sampler.get("switch_rate", 0.0), sampler.get("switched_chains", 0)
    if not sampler["identified"] or not (rate or chains):
        return []
    found = [f"{chains} of {sampler['chains']} chains were in another order of the components than EM"] if chains else []
    found += [f"{100 * rate:.1f} % of the draws switch order"] if rate else []
    return [f"{' and '.join(found)}; relabelling put them in one: switching, no failure."]


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
