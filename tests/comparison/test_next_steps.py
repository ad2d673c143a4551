"""What to do next names functions to a reader of Python, and options of the command to a reader of the command."""

import argparse
import re

import pytest

from jaxgmm.cli.compare import add_options
from jaxgmm.comparison.next_steps import COMMAND_PHRASES, in_words_of, next_step
from jaxgmm.comparison.verdict import Verdict
from jaxgmm.em.result import Status
from jaxgmm.posterior.result import PosteriorStatus

from fabricated_comparisons import summary


@pytest.mark.parametrize("methods", [("nuts",), ("nuts", "smc"), ("laplace",), ("bootstrap",), ("laplace", "bootstrap")])
@pytest.mark.parametrize("verdict", Verdict)
def test_every_case_has_a_step_for_both_readers(verdict, methods):
    samplers = {name: summary(method=name) for name in methods}
    python, command = (next_step(verdict, samplers, reader, searched=False) for reader in ("python", "command"))
    for text in (python, command):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "{" not in text
    assert "--" not in python
    assert "=" not in command
    assert "jaxgmm." not in command
    assert "comparison." not in command


def test_the_options_of_the_command_exist():
    parser = argparse.ArgumentParser()
    add_options(parser)
    known = parser.format_help()
    samplers = {"nuts": summary()}
    steps = [next_step(verdict, samplers, "command", searched=False) for verdict in Verdict]
    for option in set(re.findall(r"--[a-z-]+", " ".join([*steps, *COMMAND_PHRASES.values()]))):
        assert option in known


def test_sentences_of_statuses_name_no_options_of_python_to_the_command():
    """Every phrase that is replaced occurs in a sentence, so that no phrase is out of date."""
    sentences = [member.sentence for kind in (Status, PosteriorStatus) for member in kind]
    sentences += ["A mode with a higher objective was found. Start EM from it."]  # as of jaxgmm.comparison.mode_search
    without_stats = [re.sub(r" \(stats: [^)]*\)", "", sentence) for sentence in sentences]
    for phrase in COMMAND_PHRASES:
        assert any(phrase in sentence for sentence in without_stats), phrase
    for sentence in sentences:
        assert in_words_of("python", sentence) == sentence
        for_command = in_words_of("command", sentence).replace("JAX_ENABLE_X64=1", "")
        assert "every sample_weight" in for_command or not re.search(r"\w=\w|stats:|sample_weight|jaxgmm\.", for_command)


def test_agreement_that_was_searched_needs_no_search():
    samplers = {"nuts": summary()}
    assert "Other modes were not searched for" in next_step(Verdict.AGREE, samplers, "python", searched=False)
    assert "ther modes" not in next_step(Verdict.AGREE, samplers, "python", searched=True)
