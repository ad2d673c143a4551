"""The words of a page: its title, its verdict, and the sentences in the words of the reader."""

from jaxgmm.comparison.page_contents import PageContents
from jaxgmm.comparison.verdict import Finding, Verdict

from fabricated_comparisons import meta, summary


def page(samplers, reader="python"):
    """Return the contents of a page without rows and scores."""
    return PageContents(0.95, meta(), samplers, [], [], {"joint": {}, "density": {}, "clustering": {}}, None, reader)


def test_a_bootstrap_has_words_of_its_own():
    replicates = summary(method="bootstrap", findings=(Finding(Verdict.UNCONFIRMED, "No draws."),))
    alone = page({"bootstrap": replicates})
    assert alone.title == "EM and its bootstrap"
    assert alone.word == "no posterior"
    beside = page({"nuts": summary(), "bootstrap": summary(method="bootstrap")})
    assert beside.title == "EM against the posterior"
    assert beside.word == "agree"
    assert "EM stable" in beside.conclusion.sentence


def test_sentences_are_in_the_words_of_the_reader():
    sentence = "There may be too few draws; draw more, or use fewer components."
    unmixed = summary(findings=(Finding(Verdict.CHAINS_UNMIXED, sentence),), notes=(sentence,))
    assert page({"nuts": unmixed}).findings(unmixed) == [sentence]
    for said in (page({"nuts": unmixed}, "command").findings(unmixed), page({"nuts": unmixed}, "command").notes(unmixed)):
        assert "--num-samples" in said[0]
