"""Advice on what to do after a comparison. The wording depends on the interface that the reader has used.

The reader of a comparison has either called `compare` in Python, or run the command `jaxgmm compare`. In the first case, the
advice names functions and their options. In the second case, the advice names options of the command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from ..posterior.result import INDEPENDENT
from .sampler_summary import SamplerSummary
from .verdict import Verdict

Reader = Literal["python", "command"]

_STEPS = {
    Verdict.CHAINS_UNMIXED: "Draw more ({more}). If R-hat stays high, {smc} to see whether there are several modes, "
    "or use fewer components ({select}).",
    Verdict.SEVERAL_MODES: "To learn how much each mode weighs, {smc}; or use fewer components ({select}).",
    Verdict.OTHER_MODES: "Do not report EM's estimates alone: {weighed}, or use fewer components ({select}).",
    Verdict.POOR_MODE: "{restart}, and compare again.",
    Verdict.LABELS_NOT_IDENTIFIED: "Report quantities that do not depend on the order of the components ({invariant}), or use "
    "fewer components ({select}).",
    Verdict.EM_OUTSIDE: "Report the posterior's means and intervals instead of EM's estimates.",
    Verdict.LAPLACE_POOR: "Report intervals from the draws instead of EM's standard errors.",
    Verdict.UNCONFIRMED: "Search for other modes with more draws by smc ({more}).",
    Verdict.EM_INSIDE: "Report the posterior's means and intervals, at least where |z| is above 1; there, EM is the mode of a "
    "skewed posterior.",
    Verdict.AGREE: "EM's estimates can be reported with their standard errors, or with the intervals of the posterior.",
}
_WORDS: Mapping[Reader, Mapping[str, str]] = {
    "python": {
        "more": "num_samples={more}",
        "nuts": "draw by jaxgmm.nuts and compare again",
        "smc": "add draws by jaxgmm.smc to the posteriors",
        "select": "jaxgmm.select",
        "restart": "Start jaxgmm.fit from comparison.search.best",
        "invariant": "comparison.label_invariant",
    },
    "command": {
        "more": "--num-samples {more}",
        "nuts": "add nuts to --methods",
        "smc": "add smc to --methods",
        "select": "jaxgmm select",
        "restart": "Run the command with more starts (--restarts 50) or another --seed",
        "invariant": "the table of the whole mixture",
    },
}
# The sentences of statuses contain phrases that name options of Python functions. This dict maps each such phrase to the phrase
# that the command prints in its place.
COMMAND_PHRASES = {
    "use adapt_mass_matrix=True if the mass matrix was not adapted, a target_accept_prob closer to one, a "
    "more informative prior, or fewer components": "use fewer components (-k) or a simpler --covariance-type",
    "; use adapt_mass_matrix=True": "",
    "use nuts, or gibbs if it takes the prior, a more informative prior, or fewer components": "use nuts or "
    "gibbs (--methods), or fewer components (-k)",
    "use another start, nuts, or gibbs if it takes the prior, a more informative prior, or fewer components": "use nuts or "
    "gibbs (--methods), or fewer components (-k)",
    "use more particles (num_samples), or a more informative prior": "use more particles (--num-samples)",
    "draw more, or use fewer components": "draw more (--num-samples) or use fewer components (-k)",
    "start from a fit under the same prior, or under jaxgmm.default_prior if fit does not take that prior": "rescale the data",
    "remove these values, or give such rows sample_weight 0": "remove these values",
    "raise max_iter or tol, use accelerate=True, or fewer components": "use fewer components (-k)",
    "leave reg_covar at None, raise it, use a prior, fewer components or a simpler covariance_type": "use fewer components "
    "(-k) or a simpler --covariance-type",
    "clean or rescale them, or give such rows sample_weight 0": "clean or rescale them",
    "If NaN stands for missing values, use jaxgmm.observations": "If empty cells are missing values, use --missing",
    "Start EM from it": "Run EM with more starts (--restarts 50) or another --seed",
    "use float64, a prior, or fewer components": "set the environment variable JAX_ENABLE_X64=1, or use fewer components (-k)",
}


def next_step(verdict: Verdict, samplers: Mapping[str, SamplerSummary], reader: Reader, *, searched: bool) -> str:
    """Return one or two sentences on what to do after a comparison.

    Args:
        verdict: the verdict of the whole comparison.
        samplers: the summaries of the posteriors, by name.
        reader: "python" if the advice names functions of Python, "command" if it names options of the command.
        searched: whether other modes of the posterior were searched for.
    """
    words = dict(_WORDS[reader])
    words["more"] = words["more"].format(more=4 * max(sampler.draws for sampler in samplers.values()))
    methods = {sampler.method for sampler in samplers.values()}
    words["weighed"] = words["smc"]
    if "smc" in methods:
        words |= {"smc": "look at the draws by smc", "weighed": "report the draws by smc, which weigh the modes"}
    if methods <= set(INDEPENDENT):
        return _without_chains(verdict, methods, words)
    step = _STEPS[verdict].format(**words)
    if verdict is Verdict.AGREE and not searched:
        step += f" Other modes were not searched for by smc; to exclude them, {words['smc']}."
    return step


def _without_chains(verdict: Verdict, methods: set[str], words: Mapping[str, str]) -> str:
    """Return what to do if no posterior comes from chains: only Laplace's approximation, a bootstrap, or both were used."""
    if methods == {"bootstrap"}:
        return f"Report the bootstrap's intervals as confidence intervals. To compare EM with a posterior, {words['nuts']}."
    nuts = words["nuts"]
    if verdict in (Verdict.AGREE, Verdict.EM_INSIDE):
        return f"{_STEPS[verdict]} To make sure that the posterior is normal and has one mode, {nuts}."
    if verdict is Verdict.LAPLACE_POOR:
        return f"{nuts[0].upper()}{nuts[1:]}: the draws by Laplace's approximation do not describe the posterior."
    return _STEPS[verdict].format(**words)


def in_words_of(reader: Reader, text: str) -> str:
    """Return a sentence of a status for a reader. For "command", replace phrases as in `COMMAND_PHRASES`.

    Example:
        >>> in_words_of("command", "There may be too few draws; draw more, or use fewer components.")
        'There may be too few draws; draw more (--num-samples) or use fewer components (-k).'
    """
    if reader == "python":
        return text
    text = re.sub(r" \(stats: [^)]*\)", "", text)
    for phrase, replacement in COMMAND_PHRASES.items():
        text = text.replace(phrase, replacement)
    return text
