"""Tables as text and HTML, and the reprs made of them, also of stacks, tracers and trees of anything."""

import dataclasses
import html
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import tables as printing
from jaxgmm.selection.select import Cell
from jaxgmm.tables import Layout, Table

from helpers import random_mixture, random_prior


def fit_of(mixture, status=0, component_status=None):
    k = mixture.num_components
    codes = jnp.zeros(k, int) if component_status is None else jnp.asarray(component_status)
    numbers = [jnp.array(-100.5), jnp.array(-101.5), jnp.array([-110.0, -101.5]), jnp.array(1)]
    return jaxgmm.Fit(mixture, *numbers, jnp.array(status), codes)


def posterior_of(mixture, status=0, stats=None):
    draws = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, 5, *leaf.shape)), mixture)
    stats = {"khat": jnp.array(0.25), "counts": jnp.zeros((2, 5, mixture.num_components))} if stats is None else stats
    return jaxgmm.Posterior(draws, jnp.zeros((2, 5)), None, jnp.array(status), stats, "gibbs")


def things():
    mixture = random_mixture(0, "full", 2, 3)
    x = np.random.default_rng(0).normal(size=(20, 3))
    conjugate = random_prior(0, "full", 2, 3)
    independent = [
        jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(3), jnp.eye(3), scale)
        for scale in (
            jaxgmm.InverseWishart(jnp.array(5.0), jnp.eye(3)),
            jaxgmm.InverseGamma(jnp.array(2.0), jnp.ones(3)),
            jaxgmm.HalfNormal(jnp.ones(3), jnp.array(1.0)),
        )
    ]
    errors = jaxgmm.StandardErrors(mixture.weights, mixture.means, mixture.covariances, jnp.array(0))
    return {
        "mixture": mixture,
        "fit": fit_of(mixture),
        "posterior": posterior_of(mixture),
        "errors": errors,
        "moments": jaxgmm.e_step(mixture, x),
        "evidence": jaxgmm.Evidence(*(jnp.array(v) for v in (-3.2, 0.1, 0.2, 4000.0, 0))),
        "prior": conjugate,
        **{type(prior.scale).__name__: prior for prior in independent},
    }


THINGS = things()


def cells(text):
    """Return the words of an HTML table, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[html.unescape(word) for word in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize("name", THINGS)
def test_one_stacked_and_traced(name):
    """Single, stacked and traced objects print as short tables, with the same words in text and in HTML."""
    thing = THINGS[name]
    seen = []
    jax.eval_shape(lambda tree: seen.append(tree._tables()) or tree, thing)
    for tables_of in (thing._tables(), jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), thing)._tables(), seen[0]):
        assert tables_of
        assert all(len(line) <= 110 for table in tables_of for line in table.text().splitlines())
        assert 1 <= sum(len(table.text().splitlines()) for table in tables_of) <= 20
    assert type(thing).__name__ in repr(thing).splitlines()[0]
    rows = [list(row) for table in thing._tables() for row in ([table.header, *table.rows] if table.header else [])]
    assert cells(thing._repr_html_()) == rows


@pytest.mark.parametrize("name", THINGS)
def test_trees_of_anything(name):
    """Leaves of any kind (None, words, shapes, wrong axes, deleted arrays) print something, as text and as HTML."""
    thing = THINGS[name]
    gone = jax.tree.map(lambda leaf: leaf + 0, thing)
    jax.tree.map(lambda leaf: leaf.delete(), gone)
    leaves = [
        lambda leaf: None,
        lambda leaf: 0,
        lambda leaf: "<i>&",
        lambda leaf: object(),
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        lambda leaf: np.zeros(7),
        lambda leaf: np.zeros((0, 0, 0)),
        lambda leaf: np.full(leaf.shape, np.nan),
        lambda leaf: np.asarray(leaf, "float16"),
    ]
    for make in leaves:
        tree = jax.tree.map(make, thing)
        assert type(thing).__name__ in repr(tree)
        assert "<i>" not in tree._repr_html_()
    assert type(thing).__name__ in repr(gone)
    repr(jax.tree.structure(thing))
    repr(jax.tree.map(lambda leaf: leaf.sharding, thing))


def test_what_it_falls_back_to_names_the_fields():
    """The fallback shows the shapes of arrays and no numbers."""
    mixture = jaxgmm.Mixture(None, np.zeros(3), {"a": np.ones((2, 2))}, "diag")
    assert repr(mixture) == ("Mixture(weights=None, means=float64[3], covariances={a: float64[2,2]}, covariance_type='diag')")


def test_numbers_of_a_fit():
    """A fit shows status, steps and likelihood, the sentence of a bad status, and the components with a bad status."""
    mixture = random_mixture(0, "diag", 3, 2)
    good = repr(fit_of(mixture)).splitlines()
    assert good[0] == "Fit CONVERGED after 1 step: log-likelihood -100.5000, objective -101.5000 (nats)"
    assert good[1].startswith("Mixture diag, K=3")
    assert len(good) == 6
    poor = " ".join(repr(fit_of(mixture, 1, [0, 2, 2])).split())
    assert jaxgmm.Status.MAX_ITER.sentence in poor
    assert "components 1, 2: AT_FLOOR" in poor
    fits = jax.tree.map(lambda *leaves: jnp.stack(leaves), fit_of(mixture), fit_of(mixture), fit_of(mixture, 2, [0, 1, 0]))
    text = repr(fits)
    assert text.startswith("Fit stacked (3,): 2 of 3 converged")
    assert "fits: 2 CONVERGED, 1 SINGULAR" in text
    assert "components: 8 OK, 1 EMPTY" in text
    assert re.search(r"log-likelihood +-100.5 +-100.5 +-100.5", text)


def test_numbers_of_a_posterior():
    """A posterior shows means and standard deviations over the draws, the scalars of stats, and whether it is relabelled."""
    mixture = jaxgmm.make_mixture([0.25, 0.75], [[0.0], [5.0]], [[4.0], [9.0]], covariance_type="spherical")
    posterior = posterior_of(mixture)
    moved = dataclasses.replace(mixture, means=mixture.means + jnp.linspace(-1, 1, 10).reshape(2, 5, 1, 1))
    posterior = dataclasses.replace(posterior, mixture=dataclasses.replace(posterior.mixture, means=moved.means))
    lines = repr(posterior).splitlines()
    assert lines[0] == "Posterior by gibbs: 2 chains x 5 draws, OK, mean log density 0.0000 nats"
    assert lines[1].strip() == "khat 0.25"
    sd = np.linspace(-1, 1, 10).std()
    assert lines[-2].split() == ["1", "0.7500", "0.0000", "[5]", f"[{sd:.4g}]", "[3]", "[0]"]
    assert "labels as drawn" in lines[-1]
    assert "relabelled" in repr(posterior_of(mixture, stats={"permutation": jnp.zeros((2, 5, 2), int)}))
    assert jaxgmm.PosteriorStatus.UNMIXED.sentence in " ".join(repr(posterior_of(mixture, 4)).split())


def test_many_components_and_features_are_elided():
    """The first and the last are shown, and dots stand for the others."""
    k = 500
    mixture = jaxgmm.make_mixture(
        np.full(k, 1 / k), np.arange(k * 40.0).reshape(k, 40), np.ones((k, 40)), covariance_type="diag"
    )
    lines = repr(mixture).splitlines()
    assert len(lines) == 2 + printing.MAX_ROWS
    assert max(map(len, lines)) < 110
    assert lines[-1].split()[0] == "499"
    assert "..." in lines[-2]
    assert "19999]" in lines[-1]


def test_nothing_is_compiled_and_large_arrays_are_left_alone():
    """Printing compiles nothing, so that a debugger that prints everything stays fast."""
    large = random_mixture(0, "full", 2, 2)
    large = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (300_000, *leaf.shape)) + 0, large)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    for thing in (large, *THINGS.values()):
        repr(thing), thing._repr_html_()
    assert not [event for event in compiled if "compile" in event or "trace" in event]
    assert len(repr(large).splitlines()) == 1


def test_a_selection_prints_its_marks():
    """The best cell, degenerate ones and those that did not converge are marked."""
    fit = fit_of(random_mixture(0, "diag", 1, 1))
    cell = lambda k, criterion, status, spike: Cell("diag", k, criterion, -1.0, jaxgmm.Status(status), spike, fit)  # noqa: E731
    grid = [cell(1, 10.0, 0, False), cell(2, 5.0, 0, True), cell(3, 7.0, 1, False)]
    text = repr(jaxgmm.Selection("bic", {("diag", c.num_components): c for c in grid}, grid[0]))
    assert [line.split() for line in text.splitlines()[1:5]] == [["K", "diag"], ["1", "10.00*"], ["2", "5.00s"], ["3", "7.00!"]]
    assert text.endswith("* best, s a degenerate component: not chosen, ! not converged")


def test_priors_written_by_hand_print_too():
    """Hyperparameters may be plain numbers and lists instead of arrays."""
    rows = [line.split() for line in repr(jaxgmm.InverseGamma(2.0, np.array([1.0, 3.5]))).splitlines()]
    assert rows[2][:3] == ["shape", "()", "2"]
    assert rows[3][:4] == ["rate", "(2,)", "[1", "3.5]"]
    by_hand = jaxgmm.Prior(np.ones(2), np.zeros(1), 0.01, 3, np.array([[4.0]]))
    assert "InverseWishart(nu, S)" in repr(by_hand)
    assert "0.01" in repr(by_hand)
    diagonal = jaxgmm.Prior(np.ones(2), np.zeros(2), 0.01, 3, np.ones(2))
    assert "InverseGamma(nu / 2, S / 2)" in repr(diagonal)


def test_html_is_escaped():
    """Title, words, header and notes are escaped."""
    nasty = "<script>alert('&')</script>"
    text = Table(nasty, (nasty,), ((nasty,),), (nasty,)).html()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 4


def test_every_status_is_a_number_and_a_sentence():
    """Members keep their numbers and are found by them; an unknown code prints as it is."""
    for kind in (
        jaxgmm.Status,
        jaxgmm.ComponentStatus,
        jaxgmm.PosteriorStatus,
        jaxgmm.InformationStatus,
        jaxgmm.EvidenceStatus,
    ):
        assert [int(member) for member in kind] == list(range(len(kind)))
        for member in kind:
            assert kind(int(member)) is member
            assert kind.name_of(np.int32(member)) == member.name
            assert member.sentence[0].isupper()
            assert member.sentence.endswith(".")
        assert kind.name_of(99) == "99"


def test_columns_are_aligned_under_their_groups():
    """The heading of a group is above its columns, or in their place if they have no headings."""
    groups = [("", 1), ("interval", 2), ("by chains", 2)]
    table = Table("Shares", ("", "", "", "R-hat", "ESS"), [["a", "0.1", "0.3", "1.00", "9"]], left=(0,), column_groups=groups)
    title, above, header, row = table.text().splitlines()
    assert title == "Shares"
    assert above.split() == ["by", "chains"]
    assert header.split() == ["interval", "R-hat", "ESS"]
    assert row.split() == ["a", "0.1", "0.3", "1.00", "9"]
    assert {len(line) for line in (above, header, row)} == {len(row)}
    assert header.index("interval") + len("interval") == row.index("0.3") + len("0.3")
    text = table.html()
    assert '<th scope="colgroup" colspan="2" style="text-align:right">interval</th>' in text
    assert text.count("<tr>") == 3


def test_rows_stand_under_their_group():
    table = Table("T", ("name", "x"), [["a", "1"], ["b", "NO"]], left=(0,), row_groups=[("first", 1), ("second", 1)])
    assert table.text().splitlines() == ["T", "  name   x", "  first", "    a    1", "  second", "    b   NO"]
    text = table.html()
    assert text.count("<tbody>") == text.count("</tbody>") == 2
    assert '<th scope="rowgroup" colspan="2" style="text-align:left">second</th>' in text
    assert "<strong>NO</strong>" in text


def test_names_are_cut_to_the_width():
    rows = [["a name of many words", "1"], ["short", "2"]]
    table = Table("", ("quantity", "value"), rows, left=(0,), layout=Layout(max_width=22, gap=1))
    assert [len(line) for line in table.text().splitlines()] == [22, 22, 22]
    assert "  a name of man… " in table.text()
    assert table.name_width == 14
    wide = dataclasses.replace(table, layout=Layout(max_width=60, stretch=True)).text().splitlines()
    assert [len(line) for line in wide] == [60, 60, 60]


def test_columns_that_do_not_fit_move_below():
    """Every block repeats the first column, and a group moves as a whole."""
    header, groups = ("what", *"abcd"), [("", 1), ("one", 2), ("two", 2)]
    table = Table("", header, [["quantity", *["1234567890"] * 4]], left=(0,), column_groups=groups, layout=Layout(max_width=40))
    lines = table.text().splitlines()
    assert max(map(len, lines)) <= 40
    assert [line.split() for line in lines[1::3]] == [["what", "a", "b"], ["what", "c", "d"]]
    assert [line.split()[0] for line in lines[2::3]] == ["quantity", "quantity"]
