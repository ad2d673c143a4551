"""Names, codes and properties of the fourteen covariance types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import covariance
from jaxgmm.covariance import types as covariance_types
from jaxgmm.covariance.types import CLASSIC, CODES, TYPES


def mclust_counts(k, d):
    """Return the numbers of covariance parameters in mclust (nVarParams), by code."""
    o = d * (d - 1) // 2
    return {
        "EII": 1,
        "VII": k,
        "EEI": d,
        "VEI": k + d - 1,
        "EVI": 1 + k * (d - 1),
        "VVI": k * d,
        "EEE": d + o,
        "VEE": k + d - 1 + o,
        "EVE": 1 + k * (d - 1) + o,
        "VVE": k * d + o,
        "EEV": d + k * o,
        "VEV": k + d - 1 + k * o,
        "EVV": 1 + k * (d + o - 1),
        "VVV": k * (d + o),
    }


@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 1), (1, 4), (3, 4)])
def test_numbers_of_parameters(k, d):
    """They are mclust's, and do not depend on the spelling of the type; for D = 1 and for K = 1, the types collapse."""
    counts = {code: covariance_types.num_free(code, k, d) for code in CODES}
    assert counts == mclust_counts(k, d)
    assert list(counts.values()) == [covariance_types.num_free(name, k, d) for name in TYPES]
    if d == 1:
        assert {counts[code] for code in CODES if code[0] == "E"} == {1}
        assert {counts[code] for code in CODES if code[0] == "V"} == {k}
    if k == 1:
        groups = [{counts[code] for code in CODES if code.endswith(end)} for end in ("II", "EI", "VI", "E", "V")]
        assert groups == [{1}, {d}, {d}, {d * (d + 1) // 2}, {d * (d + 1) // 2}]


def test_spelling():
    """Codes and names are the same types; a code that has a name becomes this name on entry."""
    assert [covariance_types.code_of(name) for name in TYPES] == list(CODES)
    assert {covariance_types.canonical(code): code for code in CODES if covariance_types.canonical(code) != code} == {
        "full": "VVV",
        "tied": "EEE",
        "diag": "VVI",
        "spherical": "VII",
    }
    assert covariance_types.meaning("VEI") == "variable volume, equal shape, identity orientation"
    mixture = jaxgmm.make_mixture([1.0], np.zeros((1, 2)), np.ones((1, 2)), covariance_type="VVI")
    assert mixture.covariance_type == "diag"
    with pytest.raises(ValueError, match=r"'XII'; one of 'full', .*EEV \(equal volume, equal shape, variable orientation\)"):
        jaxgmm.default_prior(np.zeros((3, 2)), num_components=1, covariance_type="XII")


@pytest.mark.parametrize("name", TYPES)
def test_storage(name):
    """Storage, pooling and counts agree: pooled scatters divided by pooled counts have the shape of the covariances."""
    k, d = 3, 5
    shape = covariance_types.storage_shape(name, k, d)
    scatters = jnp.ones((k, d, d) if covariance_types.is_dense(name) else (k, d))
    assert (covariance.pool(scatters, name) / covariance.pool_counts(jnp.ones(k), name)).shape == shape
    assert covariance.permute(jnp.zeros(shape), jnp.array([2, 0, 1]), name).shape == shape
    assert covariance.to_dense(np.ones(shape), name, k, d).shape == (k, d, d)
    assert covariance.to_dense(np.ones((2, *shape)), name, k, d).shape == (2, k, d, d)
    assert (shape[0] == 1) == covariance_types.is_shared(name)
    assert covariance_types.prior_scale_shape(name, d) == ({1: ()}.get(shape[1], shape[1:]))
    expected = {"EII": 4, "EEI": 4, "tied": 8, "VEE": 8, "EVE": 8, "VVE": 8, "diag": 2, "spherical": 2, "VEI": 2, "EVI": 2}
    assert covariance_types.fewest_rows(name, k, d) == expected.get(name, 6)


def test_fewest_points():
    """A component of its own needs D + 1 points; one whose axes alone are its own needs D; one feature needs a variance."""
    numbers = dict(zip(CODES, (covariance_types.fewest_points(code, 4) for code in CODES), strict=True))
    assert {code for code in CODES if numbers[code] == 0} == {"EII", "EEI", "EEE"}
    assert {code for code in CODES if numbers[code] == 5} == {"EVV", "VVV"}
    assert {code for code in CODES if numbers[code] == 4} == {"EEV", "VEV"}
    assert all(covariance_types.fewest_points(code, 1) == (2 if code[0] == "V" else 0) for code in CODES)


def test_what_samplers_refuse():
    """Types with shared parts: `gibbs` and `telescope` refuse them, other samplers refuse a prior without its constant."""
    x = np.random.default_rng(0).normal(size=(20, 2))
    start = jaxgmm.make_mixture([1.0], np.zeros((1, 2)), np.eye(2)[None], covariance_type="VEE")
    prior = jaxgmm.default_prior(x, num_components=1, covariance_type="VEE")
    shape = {"num_components": 1, "covariance_type": "VEE"}
    key = jax.random.key(0)
    for call in (
        lambda: jaxgmm.nuts(key, start, x, prior),
        lambda: jaxgmm.laplace(key, start, x, prior),
        lambda: jaxgmm.smc(key, x, prior, **shape),
        lambda: jaxgmm.sample_prior(key, prior, num_samples=2, **shape),
    ):
        with pytest.raises(TypeError, match=r"Prior, whose density is known only up to a constant .*'VEE'.*normalised=True"):
            call()
    for call in (
        lambda: jaxgmm.gibbs(key, start, x, prior),
        lambda: jaxgmm.telescope(key, x, prior, max_components=2, covariance_type="VEE"),
    ):
        with pytest.raises(
            ValueError, match=r"'VEE' \(variable volume, equal shape, .* does not support.*'EII'.*or sample with nuts"
        ):
            call()
    assert set(CLASSIC) < set(TYPES)
