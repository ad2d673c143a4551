"""Test which files with mixtures commands read, and how columns of new data are matched with the features."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.mixture_files import read_matching_data, read_mixture, read_mixture_or_posterior

from helpers import random_mixture

MIXTURE = random_mixture(0, "diag", 2, 2)


def match(path, names, **options):
    """Read data for MIXTURE, whose features have the given names."""
    defaults = dict.fromkeys(("columns", "drop", "array", "delimiter", "decimal"))
    return read_matching_data(argparse.Namespace(mixture="fit.json", data=str(path), **defaults | options), MIXTURE, names)


def test_files_of_the_package(tmp_path):
    mixture, names = read_mixture(jaxgmm.save(tmp_path / "mixture.npz", MIXTURE))
    assert names is None
    assert mixture.means.tolist() == MIXTURE.means.tolist()
    draws = jax.tree.map(lambda leaf: leaf[None, None], MIXTURE)
    path = jaxgmm.save(tmp_path / "draws.npz", jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {}))
    assert isinstance(read_mixture_or_posterior(path)[0], jaxgmm.Posterior)
    with pytest.raises(ValueError, match="holds draws from a posterior"):
        read_mixture(path)
    with pytest.raises(ValueError, match="is a stack of shape"):
        read_mixture(jaxgmm.save(tmp_path / "stack.npz", draws))
    with pytest.raises(ValueError, match="holds a Prior; a mixture, a fit or a posterior was expected"):
        read_mixture(jaxgmm.save(tmp_path / "prior.npz", jaxgmm.default_prior(np.arange(9.0)[:, None], num_components=1)))
    with pytest.raises(ValueError, match="there is no file"):
        read_mixture(tmp_path / "nowhere.npz")


def test_columns_are_found_by_name(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("id,weight,height\n1,2.5,3.5\n2,7.5,8\n")
    assert match(path, ["height", "weight"]).x.tolist() == [[3.5, 2.5], [8, 7.5]]
    assert match(path, ["height", "weight"], columns="1,2").names == ["weight", "height"]
    assert match(path, None).names == ["weight", "height"]
    assert match(path, ["column 0", "column 1"]).names == ["weight", "height"]
    with pytest.raises(ValueError, match=r"no column 'Height' \(did you mean 'height'\?\), .* id, weight, height"):
        match(path, ["weight", "Height"])
    with pytest.raises(ValueError, match=r"3 columns to use \(id, weight, height\), .* has 2 features; choose one"):
        match(path, ["height", "weight"], columns="0-2")


def test_columns_without_names(tmp_path):
    """The names of an array are those of its places; names of a fit are not taken for places."""
    np.save(tmp_path / "new.npy", np.arange(6.0).reshape(2, 3))
    assert match(tmp_path / "new.npy", ["column 2", "column 0"]).x.tolist() == [[2, 0], [5, 3]]
    with pytest.raises(ValueError, match="no column '1', which is a feature"):
        match(tmp_path / "new.npy", ["1", "2"])
    with pytest.raises(ValueError, match="no column 'column a'"):
        match(tmp_path / "new.npy", ["column a", "column b"])
