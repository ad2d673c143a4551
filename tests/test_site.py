"""The site's pages: what they name exists, their links lead somewhere, their code runs; built where mkdocs is there."""

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
    """The thing at a dotted path in the package, modules imported on the way."""
    thing, path = jaxgmm, "jaxgmm"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = importlib.import_module(path)
    return thing


def slugs(text):
    """Anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w]+", "-", title.replace("`", "").lower()).strip("-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    """Every jaxgmm.something that is spoken of, in prose and in code."""
    for name in set(re.findall(r"\bjaxgmm(?:\.[A-Za-z_]\w*)+", PAGES[page])):
        resolved(name)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Pages and headings that are there; nothing beyond the site."""
    assert "http" not in PAGES[page]
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", PAGES[page])):
        path, _, anchor = target.partition("#")
        there = (DOCS / page).parent.joinpath(path).resolve() if path else DOCS / page
        assert there.is_file(), f"{page}: {target}"
        assert not anchor or anchor in slugs(there.read_text()), f"{page}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if "```" in PAGES[page]])
def test_code_runs(page, capsys):
    """All Python of a page in turn; what is shown below a block is what it prints, up to digits. Other blocks are text."""
    names = {}
    for kind, code in FENCE.findall(PAGES[page]):
        assert kind in ("python", "text"), f"{page}: a block of kind {kind!r}"
        if kind == "python":
            exec(code, names)
            printed = capsys.readouterr().out
        elif code.startswith("Fit "):
            shape = lambda text: re.sub(r"[\d.]+", "0", " ".join(text.split()))  # noqa: E731
            assert shape(code) == shape(printed)


def test_the_menu_has_every_page():
    """Each once."""
    listed = re.findall(r": (\S+\.md)$", (SITE / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(PAGES)


def test_the_reference_has_every_public_name():
    """Each once, from where it is defined, and nothing else."""
    told = [name for page, text in PAGES.items() if page.startswith("api/") for name in re.findall(r"^::: (\S+)$", text, re.M)]
    public = [name for name in dir(jaxgmm) if name[0] != "_" and name not in ("datasets", *jaxgmm._LAZY_MODULES)]
    things = [resolved(name) for name in told if not name.startswith(("jaxgmm.datasets.", "jaxgmm.plot."))]
    assert len(set(told)) == len(told)
    assert {f"jaxgmm.datasets.{name}" for name in ("load", "columns", "labels")} <= set(told)
    drawn = {resolved(name) for name in told if name.startswith("jaxgmm.plot.")}
    assert drawn == {f for f in vars(jaxgmm.plot).values() if inspect.isfunction(f)} - {jaxgmm.plot.color}
    names = [thing.__name__ for thing in things]
    assert set(names) == set(public), f"missing: {set(public) - set(names)}, not public: {set(names) - set(public)}"
    assert all(getattr(jaxgmm, thing.__name__) is thing for thing in things)


def test_every_status_is_told():
    """The page has a heading and advice for each member; the sentence is put there from the package."""
    page = PAGES["troubleshooting.md"]
    text = hooks.with_sentences(page)
    for kind in hooks.STATUSES:
        for member in getattr(jaxgmm, kind):
            assert f"### {member.name}\n\n> {member.sentence}\n\n" in text
    assert not re.search(r"### \w+\n+(#|\Z)", page), "a status without a word of advice"
    with pytest.raises(ValueError, match="OTHER_DATA.* was expected"):
        hooks.with_sentences(page.replace("### OTHER_DATA\n", ""))
    with pytest.raises(ValueError, match="GONE of Status"):
        hooks.with_sentences(page.replace("### DECREASED\n", "### GONE\n"))


def column(text, place):
    """Code spans of one column of a page's first table."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row[place])]


def test_the_glossary_speaks_of_what_there_is():
    """Names in our column are public, fields or options; NumPyro's and scikit-learn's are in theirs."""
    things = [getattr(jaxgmm, name) for name in dir(jaxgmm) if name[0] != "_"]
    ours = set(dir(jaxgmm)) | {option for thing in things if callable(thing) for option in inspect.signature(thing).parameters}
    for span in column(PAGES["glossary.md"], 0):
        for name in re.findall(r"[A-Za-z]\w*", re.sub(r"\([^)]*\)|\".*?\"", "", span)):
            assert name in ours, span
    rooms = [numpyro.distributions, numpyro.infer, numpyro.infer.autoguide, numpyro.diagnostics, numpyro.handlers, numpyro]
    theirs = {name for room in rooms for name in dir(room)} | set(inspect.signature(numpyro.infer.MCMC).parameters)
    for kind in ("MultivariateNormal", "InverseWishart", "CategoricalProbs", "Dirichlet"):
        theirs |= {
            *inspect.signature(getattr(numpyro.distributions, kind)).parameters,
            "potential_energy",
            "log_prob",
            "sample",
        }
    for span in column(PAGES["glossary.md"], 3):
        for name in re.findall(r"[A-Za-z]\w*", span.replace("model", "")):
            assert name in theirs, span
    mixture = pytest.importorskip("sklearn.mixture")
    documented = mixture.GaussianMixture.__doc__ + mixture.BayesianGaussianMixture.__doc__
    for span in column(PAGES["glossary.md"], 1):
        name = span.strip('"')
        assert name in documented or hasattr(mixture.GaussianMixture, name), span


def test_the_notebooks_say_what_they_ask():
    """A title and a first paragraph each: what the page of notebooks shows."""
    for name, (title, words) in hooks.notebooks().items():
        assert title and len(words) > 40, name


def test_it_builds(tmp_path):
    """Without a warning; every page and name there; nothing fetched from elsewhere when it is viewed."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
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
    assert 'id="jaxgmm.posterior.nuts.nuts"' in (tmp_path / "api" / "posteriors.html").read_text()
    assert all((tmp_path / "files" / name).is_file() for name in hooks.notebooks())
