"""Verdicts: each is a word and a sentence, and the gravest comes first."""

from jaxgmm.comparison.verdict import Finding, Verdict, gravest, is_mixed


def test_every_verdict_is_a_word_and_a_sentence():
    """A verdict is found by its word, which is what JSON files hold."""
    for verdict in Verdict:
        assert Verdict(verdict.word) is verdict
        assert verdict.value == verdict.word
        assert verdict.sentence.endswith(".")


def test_the_first_verdict_counts():
    findings = [Finding(None, "a"), Finding(Verdict.EM_INSIDE, "b"), Finding(Verdict.AGREE, "c")]
    assert gravest(findings) is Verdict.EM_INSIDE


def test_chains_that_did_not_mix_or_are_at_several_modes():
    unmixed = {verdict for verdict in Verdict if not is_mixed([Finding(verdict, "a"), Finding(None, "b")])}
    assert unmixed == {Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES}
