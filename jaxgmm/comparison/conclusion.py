"""The conclusion of a comparison: one verdict on EM from all posteriors, the reasons for this verdict, and what to do next.

If chains start from different points and mix, they have explored the posterior. Draws by `laplace` and `bootstrap` are
independent draws around EM, so they always look mixed. If there are chains and none of them mixed, these independent draws
cannot confirm EM. A bootstrap does not draw from a posterior, so it can confirm EM only together with a posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..calls import join_names
from ..posterior.result import INDEPENDENT
from .next_steps import Reader, next_step
from .sampler_summary import SamplerSummary
from .verdict import Verdict, is_mixed

ORDER = {"laplace": 1, "bootstrap": 2}  # the position of a method in the order of judging; all other methods have position 0

_CLAIMS = {
    Verdict.OTHER_MODES: "EM is at one of several modes of the posterior",
    Verdict.POOR_MODE: "EM stopped at a mode that is not the best one",
    Verdict.LABELS_NOT_IDENTIFIED: "The data do not tell the components apart",
    Verdict.EM_OUTSIDE: "EM disagrees with the posterior",
    Verdict.LAPLACE_POOR: "The posterior is not normal around EM, so EM's standard errors cannot be trusted",
    Verdict.UNCONFIRMED: "It is not known whether EM agrees with the posterior",
    Verdict.EM_INSIDE: "EM lies inside every interval of the posterior, but not everywhere near its mean",
    Verdict.AGREE: "EM agrees with the posterior",
}


class Conclusion(NamedTuple):
    """One verdict on EM from all posteriors, the sentences that give the reasons, and what to do next."""

    verdict: Verdict
    sentence: str
    next_step: str

    def __str__(self) -> str:
        """Return the sentences of the conclusion, followed by the advice on what to do next."""
        return f"{self.sentence} What to do: {self.next_step}"


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


def conclude(samplers: Mapping[str, SamplerSummary], reader: Reader = "python", *, searched: bool = False) -> Conclusion:
    """Return one verdict on EM from all posteriors of a comparison, and what to do next.

    Args:
        samplers: the summaries of the posteriors, by name.
        reader: "python" if the advice names functions of Python, "command" if it names options of the command.
        searched: whether other modes of the posterior were searched for.
    """
    verdict, sentence = _verdict(samplers, searched)
    return Conclusion(verdict, sentence, next_step(verdict, samplers, reader, searched=searched))


def _verdict(samplers: Mapping[str, SamplerSummary], searched: bool) -> tuple[Verdict, str]:
    """Return one verdict on EM from all posteriors, and sentences that give the reasons."""
    chains = _chains(samplers)
    mixed = {name: sampler for name, sampler in chains.items() if is_mixed(sampler.findings)}
    if chains and not mixed:
        others = [name for name in samplers if name not in chains]
        cannot = f", and {join_names(others)} cannot tell in their place" if others else ""
        reasons = join_names(f"{name}: {_reason(sampler)}" for name, sampler in chains.items())
        sentence = f"No sampler mixed ({reasons}). This comparison does not tell whether EM agrees with the posterior{cannot}."
        return _gravest(chains), sentence
    believed = mixed or {name: sampler for name, sampler in samplers.items() if sampler.method == "laplace"}
    if not believed:
        sentence = "No posterior was sampled: a bootstrap shows how much EM varies from sample to sample"
        return _gravest(samplers), f"{sentence}, and says nothing about the posterior."
    verdict = _gravest(believed)
    agreeing = [name for name, sampler in believed.items() if sampler.verdict is verdict]
    sentences = [f"{_CLAIMS[verdict]}, by {join_names(agreeing)}."]
    others = [f"by {name}: {sampler.verdict.word}" for name, sampler in believed.items() if name not in agreeing]
    sentences += [f"{_capitalised('; '.join(others))}."] if others else []
    unmixed = [name for name in chains if name not in mixed]
    sentences += [f"The chains of {join_names(unmixed)} did not mix, so they are not counted."] if unmixed else []
    if not mixed and not searched:
        sentences.append("No chains were run, so other modes of the posterior would not have been noticed.")
    replicates = [sampler for sampler in samplers.values() if sampler.method == "bootstrap"]
    sentences += [f"From one bootstrap replicate of the data to another: {sampler.word}." for sampler in replicates[:1]]
    return verdict, " ".join(sentences)


def _gravest(samplers: Mapping[str, SamplerSummary]) -> Verdict:
    """Return the most severe of the verdicts that some posteriors give."""
    order = list(Verdict)
    return min((sampler.verdict for sampler in samplers.values()), key=order.index)


def _capitalised(text: str) -> str:
    """Return a text that starts with a capital letter."""
    return text[0].upper() + text[1:]


def _chains(samplers: Mapping[str, SamplerSummary]) -> dict[str, SamplerSummary]:
    """Return the summaries of the posteriors whose draws come from chains."""
    return {name: sampler for name, sampler in samplers.items() if sampler.method not in INDEPENDENT}


def _is_sound(sampler: SamplerSummary) -> bool:
    """Return True unless a finding says that Laplace's approximation is poor."""
    return Verdict.LAPLACE_POOR not in sampler.verdicts


def _reason(sampler: SamplerSummary) -> str:
    """Return in a few words why chains count as unmixed."""
    modes = Verdict.SEVERAL_MODES in sampler.verdicts
    return "several modes" if modes else f"R-hat {sampler.r_hat_max:.3f}, ESS {sampler.ess_min:.0f}"
