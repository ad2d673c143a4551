"""The report page: it holds what the comparison says, loads nothing, runs nothing, and escapes all text."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.verdict import Finding, Verdict
from jaxgmm.posterior.result import Posterior

from helpers import slow_unless

NASTY = "<script>alert('$x$')</script> & \"kg\""
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """A parsed page: its tags with their attributes and its text; tags must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def parts():
    """Return a fabricated fit of two clusters in one feature, the data, and a comparison with draws around it."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 30), rng.normal(8, 1, 20)])[:, None].astype(np.float32)
    mixture = jaxgmm.make_mixture(*(np.asarray(v, np.float32) for v in ([0.6, 0.4], [[0.0], [8.0]], [[[1.0]], [[1.0]]])))
    log_likelihood = jaxgmm.log_prob(mixture, x).sum()
    history = np.array([log_likelihood - 9, log_likelihood - 1, log_likelihood, log_likelihood])
    fit = jaxgmm.Fit(mixture, log_likelihood, log_likelihood, history, np.array(2), np.array(0), np.zeros(2, int))
    factor = np.exp(0.1 * rng.normal(size=(2, 120, 2))).astype(np.float32)
    weights = np.asarray(mixture.weights) * factor
    draws = jaxgmm.Mixture(
        weights / weights.sum(-1, keepdims=True),
        np.asarray(mixture.means) + 0.1 * rng.normal(size=(2, 120, 2, 1)).astype(np.float32),
        np.asarray(mixture.covariances) * factor[..., None, None],
        "full",
    )
    density = np.asarray(jaxgmm.log_prob(draws, x)).sum(-1)
    posteriors = {m: Posterior(draws, density, None, np.array(0), {}, m) for m in ("nuts", "laplace")}
    return fit, x, jaxgmm.compare(fit, posteriors, x, feature_names=[NASTY])


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    fit, x, comparison = parts
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert jaxgmm.write_report(path, comparison, fit, x, title=f"Rain {NASTY}", details={"seed": 3, NASTY: [1, 2]}) == path
    return path


def test_nothing_is_loaded_and_nothing_runs(written):
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "svg"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import|javascript:", text)
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for source in sources:
        picture = base64.b64decode(source.partition(",")[2]).decode()
        assert picture.count("<svg") == 1
        assert "<script" not in picture
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_it_can_be_read_by_all(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert all(cell.get("scope") in ("row", "col", "rowgroup") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 7
    assert len(page.all("h1")) == 1
    assert len(page.all("figcaption")) == 5
    text = written.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "invert(" in text  # pictures are dark in dark mode
    assert "width=device-width" in text


def test_it_says_what_the_comparison_says(written, parts):
    _, _, comparison = parts
    page = Page(written.read_text(encoding="utf-8"))
    words = page.words()
    assert words.index("Verdict") < words.index("Pictures") < words.index("Numbers") < words.index("How to read this")
    assert comparison.conclusion in words
    for sampler in comparison.samplers.values():
        for finding in sampler.findings:
            assert " ".join(finding.sentence.split()) in words
    row = next(row for row in comparison.rows if row.name == "means[1,0]")
    assert f"mean {NASTY} {row.em:.3f} {row.mean:.3f}" in words
    assert words.count("component 1") > 2
    assert f"Rain {NASTY}" in words
    assert "seed 3" in words
    assert "of 50 points" in words
    assert "The number of points whose most probable component" in words
    assert f"jaxgmm {jaxgmm.__version__}" in words
    assert jax.__version__ in words


GRADES = [("agree", "good"), ("unconfirmed", "mixed"), ("chains unmixed", "bad")]


@pytest.mark.parametrize(("verdict", "grade"), slow_unless(GRADES, GRADES[:2]))
def test_only_agreement_is_green(parts, tmp_path, verdict, grade):
    fit, x, comparison = parts
    findings = (Finding(Verdict(verdict), "Because."),)
    samplers = {name: dataclasses.replace(sampler, findings=findings) for name, sampler in comparison.samplers.items()}
    path = jaxgmm.write_report(tmp_path / "a.html", dataclasses.replace(comparison, samplers=samplers), fit.mixture, x)
    boxes = [
        attrs["class"] for attrs in Page(path.read_text(encoding="utf-8")).all("div") if "verdict" in attrs.get("class", "")
    ]
    assert boxes == [f"verdict {grade}"] * 2


def test_labels_that_are_not_identified_have_no_parameters(parts, tmp_path):
    fit, x, comparison = parts
    samplers = {name: dataclasses.replace(sampler, identified=False) for name, sampler in comparison.samplers.items()}
    path = jaxgmm.write_report(tmp_path / "a.html", dataclasses.replace(comparison, samplers=samplers), fit.mixture, x)
    page = Page(path.read_text(encoding="utf-8"))
    words = page.words()
    assert "Parameters, by" not in words
    assert "2nd-largest weight" in words
    assert "NO" in words
    assert len(page.all("img")) == 4  # a mixture alone has no history


def test_the_same_bytes_whatever_the_style(written, parts, tmp_path):
    import matplotlib

    fit, x, comparison = parts
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30}):
        again = jaxgmm.write_report(
            tmp_path / "b.html", comparison, fit, x, title=f"Rain {NASTY}", details={"seed": 3, NASTY: [1, 2]}
        )
        assert matplotlib.rcParams["font.size"] == 30
    assert again.read_bytes() == written.read_bytes()


def test_the_name_of_the_data_is_at_the_top(parts, tmp_path):
    fit, x, comparison = parts
    path = jaxgmm.write_report(tmp_path / "a.html", comparison, fit.mixture, x, details={"data": "folder/rain.csv"})
    words = Page(path.read_text(encoding="utf-8")).words()
    assert words.startswith("EM against the posterior: rain.csv")
    assert "Data rain.csv: 50 observations of" in words


def test_what_is_refused(parts, tmp_path):
    fit, x, comparison = parts
    with pytest.raises(ValueError, match=r"\(50, 1\)"):
        jaxgmm.write_report(tmp_path / "c.html", comparison, fit, x[:-1])
    with pytest.raises(TypeError, match="Comparison was expected"):
        jaxgmm.write_report(tmp_path / "c.html", str(comparison), fit, x)
    with pytest.raises(TypeError, match="Fit that was compared"):
        jaxgmm.write_report(tmp_path / "c.html", comparison, x, x)
    with pytest.raises(ValueError, match="no folder"):
        jaxgmm.write_report(tmp_path / "none" / "c.html", comparison, fit, x)
    assert not list(tmp_path.iterdir())
