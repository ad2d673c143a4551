"""Test the memberships that commands print and write. Whole commands are tested in test_readme.py and test_select.py."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.data import Data
from jaxgmm.cli.memberships import (
    Memberships,
    check_labels_file,
    memberships_at,
    posterior_memberships,
    size_table,
    write_labels,
    write_memberships,
)
from jaxgmm.io.read_table import WholeTable

from helpers import random_mixture

X = np.array([[0.0], [4.0], [9.0], [5.0]])


def draws(distance):
    """A mixture of two components and a relabelled posterior of ten draws around it."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [distance]], [[[1.0]], [[1.0]]])
    shift = 0.3 * np.random.default_rng(0).normal(size=(2, 5, 2, 1))
    stack = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, 5, *leaf.shape)), mixture)
    stack = jaxgmm.Mixture(stack.weights, stack.means + shift, stack.covariances, "full")
    posterior = jaxgmm.Posterior(stack, jnp.zeros((2, 5)), None, jnp.array(0), {}, "laplace")
    return mixture, jaxgmm.relabel(posterior, mixture, X)


def table(header, rows, *, used):
    """Data whose table holds the given rows, of which the used columns are numbers."""
    x = np.array([[float(str(row[header.index(name)]).replace(",", ".")) for name in used] for row in rows])
    return Data(x, used, WholeTable(header, lambda: rows))


def test_at_an_estimate():
    mixture = random_mixture(0, "diag", 3, 1)
    found = memberships_at(mixture, X)
    assert found.probabilities == pytest.approx(np.asarray(jaxgmm.responsibilities(mixture, X)))
    assert found.labels.tolist() == jaxgmm.predict(mixture, X).tolist()
    assert sum(found.sizes) == 4
    assert len(found.sizes) == 3
    text = size_table(found.sizes, mixture.weights).text()
    assert f"{float(mixture.weights[2]):.4f}" in text
    assert [line.split()[1:4] for line in text.splitlines()[2:]] == [[str(n), f"{25.0 * n:.1f}", "%"] for n in found.sizes]


def test_from_a_posterior(monkeypatch):
    """They are averages over the draws, and the batches of rows do not matter."""
    mixture, posterior = draws(9.0)
    monkeypatch.setattr("jaxgmm.chunking._DRAW_NUMBERS", 60)  # three of the four rows
    found = posterior_memberships(posterior, mixture, X)
    each = np.asarray(jaxgmm.responsibilities(posterior.mixture, X), float).reshape(10, 4, 2)
    assert found.probabilities == pytest.approx(np.asarray(jaxgmm.predictive_responsibilities(posterior, X)), abs=1e-6)
    assert found.sd == pytest.approx(each.std(0, ddof=1), abs=1e-6)
    assert found.entropy == pytest.approx(np.asarray(jaxgmm.assignment_entropy(posterior, X, kind="within")))


def test_labels_that_are_not_identified(capsys):
    mixture, posterior = draws(0.0)
    found = posterior_memberships(posterior, mixture, X)
    assert found.probabilities.tolist() == [[0.5, 0.5]] * 4
    assert found.sd is None
    assert found.entropy == pytest.approx(np.asarray(jaxgmm.assignment_entropy(posterior, X, kind="within")))
    assert "not identified" in capsys.readouterr().err
    with pytest.raises(ValueError, match="use a fit instead"):
        posterior_memberships(posterior, None, X)


def test_all_columns_are_written_in_order(tmp_path):
    """Cells are kept as they were written; numbers of used columns have decimal points; text like a formula is quoted."""
    rows = [["007", "-1.50", "=1+1", None], ["008", "2,5", 'a "b", c', 3]]
    data = table(["id", "x", "note", "n"], rows, used=["x"])
    found = Memberships(np.array([[0.25, 0.75], [1.0, 1e-9]]), np.array([[0.1, 0.1], [0.0, 0.0]]), np.array([0.5, 0.0]))
    write_memberships(tmp_path / "a.csv", found, data)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "id,x,note,n,component,probability_0,probability_1,probability_sd_0,probability_sd_1,entropy",
        '007,-1.50,"=1+1",,1,0.25,0.75,0.1,0.1,0.5',
        '008,2.5,"a ""b"", c",3,0,1,1e-09,0,0,0',
    ]


def test_columns_that_have_the_names_of_memberships(capsys):
    write_memberships(None, Memberships(np.ones((1, 1))), table(["x", "component"], [["1", "5"]], used=["x"]))
    assert capsys.readouterr().out == "x,component,jaxgmm_component,jaxgmm_probability_0\n1,5,0,1\n"


def test_the_file_is_checked_first(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    arguments = argparse.Namespace(labels=path, data=str(path), force=True)
    with pytest.raises(ValueError, match="is the file that the data are read from"):
        check_labels_file(arguments)
    arguments.data = "faithful"
    check_labels_file(arguments)
    arguments.force = False
    with pytest.raises(ValueError, match="would be overwritten"):
        check_labels_file(arguments)
    arguments.labels = None
    check_labels_file(arguments)
    assert write_labels(arguments, Memberships(np.ones((1, 1))), None) == []
