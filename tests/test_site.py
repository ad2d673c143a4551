"""Tests of the documentation site: names exist, links have targets, and the site builds if MkDocs is installed.

That its code runs is tested in test_readme.py, because some of it uses the programs that README's code uses.
"""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpyro.diagnostics
import numpyro.infer.autoguide
import pytest

import jaxgmm

SITE = Path(__file__).parents[1] / "notebooks" / "site"
DOCS = SITE / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

spec = importlib.util.spec_from_file_location("site_hooks", SITE / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)


def resolved(name):
    """Return the object at a dotted path in the package, and import modules on the way."""
    thing, path = jaxgmm, "jaxgmm"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = importlib.import_module(path)
    return thing


def slugs(text):
    """Return the anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w]+", "-", title.replace("`", "").lower()).strip("-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    """Every name of the form jaxgmm.something, in text or code, exists."""
    for name in set(re.findall(r"\bjaxgmm(?:\.[A-Za-z_]\w*)+", PAGES[page])):
        resolved(name)


@pytest.mark.parametrize("page", PAGES)
def test_links_have_targets(page):
    """Every link points to an existing page and heading of the site, never to another site."""
    assert "http" not in PAGES[page]
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", PAGES[page])):
        path, _, anchor = target.partition("#")
        target_page = (DOCS / page).parent.joinpath(path).resolve() if path else DOCS / page
        assert target_page.is_file(), f"{page}: {target}"
        assert not anchor or anchor in slugs(target_page.read_text()), f"{page}: {target}"


def test_the_menu_has_every_page():
    """The menu in mkdocs.yml lists every page and every notebook once."""
    listed = re.findall(r": (\S+\.md)$", (SITE / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted([*PAGES, *(f"notebooks/{name}.md" for name in hooks.notebooks())])


def test_the_reference_has_every_public_name():
    """The reference lists every public name once, under the module that defines it, and no other name."""
    pages = [text for page, text in PAGES.items() if page.startswith("api/")]
    listed = [name for text in pages for name in re.findall(r"^::: (\S+)$", text, re.M)]
    public = [name for name in dir(jaxgmm) if name[0] != "_" and name not in ("datasets", *jaxgmm._LAZY_MODULES)]
    elsewhere = ("jaxgmm.datasets.", "jaxgmm.plot.", "jaxgmm.sklearn.")
    things = [resolved(name) for name in listed if not name.startswith(elsewhere)]
    assert len(set(listed)) == len(listed)
    assert {f"jaxgmm.datasets.{name}" for name in ("load", "columns", "labels")} <= set(listed)
    drawn = {resolved(name) for name in listed if name.startswith("jaxgmm.plot.")}
    assert drawn == {f for f in vars(jaxgmm.plot).values() if inspect.isfunction(f)} - {jaxgmm.plot.color}
    names = [thing.__name__ for thing in things]
    assert set(names) == set(public), f"missing: {set(public) - set(names)}, not public: {set(names) - set(public)}"
    assert all(getattr(jaxgmm, thing.__name__) is thing for thing in things)


def test_every_status_is_explained():
    """The troubleshooting page has a heading and advice for each member, and the hook inserts the member's sentence."""
    page = PAGES["troubleshooting.md"]
    text = hooks.with_sentences(page)
    for status_type in hooks.STATUSES:
        for member in getattr(jaxgmm, status_type):
            assert f"### {member.name}\n\n> {member.sentence}\n\n" in text
    assert not re.search(r"### \w+\n+(#|\Z)", page), "a status without advice"
    with pytest.raises(ValueError, match=r"OTHER_DATA.* was expected"):
        hooks.with_sentences(page.replace("### OTHER_DATA\n", ""))
    with pytest.raises(ValueError, match="GONE for Status"):
        hooks.with_sentences(page.replace("### DECREASED\n", "### GONE\n"))


def code_in_column(text, index):
    """Return the code spans in one column of the first table of a page."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row[index])]


def test_names_in_the_glossary_exist():
    """Names in our column are public names, fields or options; names of NumPyro and scikit-learn exist in these packages."""
    things = [getattr(jaxgmm, name) for name in dir(jaxgmm) if name[0] != "_"]
    ours = set(dir(jaxgmm)) | {option for thing in things if callable(thing) for option in inspect.signature(thing).parameters}
    for span in code_in_column(PAGES["glossary.md"], 0):
        for name in re.findall(r"[A-Za-z]\w*", re.sub(r"\([^)]*\)|\".*?\"", "", span)):
            assert name in ours, span
    modules = [numpyro.distributions, numpyro.infer, numpyro.infer.autoguide, numpyro.diagnostics, numpyro.handlers, numpyro]
    theirs = {name for module in modules for name in dir(module)} | set(inspect.signature(numpyro.infer.MCMC).parameters)
    for distribution in ("MultivariateNormal", "InverseWishart", "CategoricalProbs", "Dirichlet"):
        theirs |= {
            *inspect.signature(getattr(numpyro.distributions, distribution)).parameters,
            "potential_energy",
            "log_prob",
            "sample",
        }
    for span in code_in_column(PAGES["glossary.md"], 3):
        for name in re.findall(r"[A-Za-z]\w*", span.replace("model", "")):
            assert name in theirs, span
    mixture = pytest.importorskip("sklearn.mixture")
    documented = mixture.GaussianMixture.__doc__ + mixture.BayesianGaussianMixture.__doc__
    for span in code_in_column(PAGES["glossary.md"], 1):
        name = span.strip('"')
        assert name in documented or hasattr(mixture.GaussianMixture, name), span


def test_notebooks_have_title_and_introduction():
    """Each notebook has the title and the first paragraph that the page of notebooks shows."""
    for name, notebook in hooks.notebooks().items():
        title, words = hooks.introduction(notebook)
        assert title, name
        assert len(words) > 40, name


def test_site_builds(tmp_path):
    """The site builds without a warning, has every page, and loads nothing from the network when it is viewed."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python", "nbconvert", "latex2mathml", "ruff"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(SITE / "mkdocs.yml"), "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.removesuffix(".md") for path in PAGES} <= {
        path.relative_to(tmp_path).with_suffix("").as_posix() for path in tmp_path.rglob("*.html")
    }
    for path in tmp_path.rglob("*.html"):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', path.read_text()), path
    assert jaxgmm.Status.SINGULAR.sentence in (tmp_path / "troubleshooting.html").read_text()
    posteriors = (tmp_path / "api" / "posteriors.html").read_text()
    assert 'id="jaxgmm.posterior.nuts.nuts"' in posteriors
    assert "\n    num_warmup=None,\n" in re.sub("<[^>]+>", "", posteriors)  # a long signature has a line for each parameter
    assert "<td>tree_depth</td>" in posteriors
    for name in hooks.notebooks():
        assert (tmp_path / "files" / f"{name}.ipynb").is_file()
        assert (tmp_path / "notebooks" / f"{name}.html").is_file()
    first = (tmp_path / "notebooks" / "01_em_from_scratch.html").read_text()
    assert "<math" in first
    assert "$$" not in first
    assert '<h2 id="010-unreleased">' in (tmp_path / "changelog.html").read_text()


def test_formulae_become_mathml():
    """LaTeX between dollar signs becomes MathML, in text but not in code."""
    pytest.importorskip("latex2mathml")
    text = hooks.with_mathml("cost $s^2$ of `$HOME` and\n$$\\sum_k w_k$$")
    assert text.count("<math") == 2
    assert text.count('display="block"') == 1
    assert "`$HOME`" in text
    assert "<msup><mi>s</mi><mn>2</mn></msup>" in text
