"""The conclusion of a comparison: one or two sentences on whether all posteriors together confirm EM.

If chains start from different points and mix, they have explored the posterior. Draws by `laplace` and `bootstrap` are
independent draws around EM, so they always look mixed. If there are chains and none of them mixed, these independent draws
cannot confirm EM. A bootstrap does not draw from a posterior, so it can confirm EM only together with a posterior.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..calls import join_names
from ..posterior.result import INDEPENDENT
from .sampler_summary import SamplerSummary
from .verdict import Verdict, is_mixed

ORDER = {"laplace": 1, "bootstrap": 2}  # the position of a method in the order of judging; all other methods have position 0


def doubt_about(method: str, judged: Mapping[str, SamplerSummary]) -> str | None:
    """Return a sentence that says why independent draws by a method cannot confirm EM. Return None if they can.

    Args:
        method: the method of the draws.
        judged: the summaries of the posteriors that have already been judged, by name. `ORDER` says which are judged first.
    """
    chains = _chains(judged)
    if method not in INDEPENDENT or any(is_mixed(sampler.findings) for sampler in chains.values()):
        return None
    if chains:
        return (
            f"No sampler with chains mixed ({join_names(chains)}). These draws around EM cannot notice other modes, so they "
            "do not confirm EM."
        )
    if method == "laplace" or any(_is_sound(sampler) for sampler in judged.values() if sampler.method == "laplace"):
        return None
    return (
        "The replicate fits of a bootstrap are not draws from a posterior: they show how much EM varies from sample to sample, "
        "and do not confirm EM against the posterior."
    )


def conclude(samplers: Mapping[str, SamplerSummary], *, searched: bool = False) -> str:
    """Return one or two sentences that say whether all posteriors of a comparison together confirm EM.

    Args:
        samplers: the summaries of the posteriors, by name.
        searched: whether other modes of the posterior were searched for.
    """
    chains = _chains(samplers)
    mixed = {name: sampler for name, sampler in chains.items() if is_mixed(sampler.findings)}
    if chains and not mixed:
        others = [name for name in samplers if name not in chains]
        cannot = f", and {join_names(others)} cannot tell in their place" if others else ""
        reasons = join_names(f"{name}: {_reason(sampler)}" for name, sampler in chains.items())
        return f"No sampler mixed ({reasons}). This comparison does not tell whether EM agrees with the posterior{cannot}."
    believed = mixed or {name: sampler for name, sampler in samplers.items() if sampler.method == "laplace"}
    if not believed:
        return "No posterior was sampled: a bootstrap shows how much EM varies, and says nothing about the posterior."
    by_word: dict[str, list[str]] = {}
    for name, sampler in believed.items():
        by_word.setdefault(sampler.verdict.word, []).append(name)
    sentence = f"{'; '.join(f'by {join_names(names)}: {word}' for word, names in by_word.items())}."
    unmixed = [name for name in chains if name not in mixed]
    left_out = f" The chains of {join_names(unmixed)} did not mix, so they are not counted." if unmixed else ""
    approximate = (
        "" if mixed or searched else " No chains were run, so other modes of the posterior would not have been noticed."
    )
    return sentence[0].upper() + sentence[1:] + left_out + approximate


def _chains(samplers: Mapping[str, SamplerSummary]) -> dict[str, SamplerSummary]:
    """Return the summaries of the posteriors whose draws come from chains."""
    return {name: sampler for name, sampler in samplers.items() if sampler.method not in INDEPENDENT}


def _is_sound(sampler: SamplerSummary) -> bool:
    """Return whether no finding calls Laplace's approximation poor."""
    return Verdict.LAPLACE_POOR not in sampler.verdicts


def _reason(sampler: SamplerSummary) -> str:
    """Return the reason why chains count as unmixed, in a few words."""
    modes = Verdict.SEVERAL_MODES in sampler.verdicts
    return "several modes" if modes else f"R-hat {sampler.r_hat_max:.3f}, ESS {sampler.ess_min:.0f}"
