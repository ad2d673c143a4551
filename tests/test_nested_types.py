"""Laws that relate the fourteen covariance types to each other; one program fits all dense types, and one all others.

By default, the laws are tested for the six types whose covariances are variances, which compile fast.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.covariance.estimates import Member, narrow
from jaxgmm.covariance.types import CODES, TYPES, canonical, code_of, is_dense
from jaxgmm.em.batch.fit_many import fit_members
from jaxgmm.em.result import ComponentStatus, Status

from helpers import assert_mixtures_close, random_data

N, D, K, SIZE = 60, 2, 3, len(CODES)
DENSE = tuple(name for name in TYPES if is_dense(name))
DIAGONAL = tuple(name for name in TYPES if not is_dense(name))
FAMILIES = [pytest.param(DIAGONAL, id="diagonal"), pytest.param(DENSE, id="dense", marks=pytest.mark.slow)]
ORDER = "IEV"  # a letter restricts covariances more than the letters after it
OPTIONS = {"tol": 1e-11, "max_iter": 3000, "progress": False}


def wide(mixture):
    """Return a mixture of any type with its covariances in wide storage."""
    name, (k, d) = mixture.covariance_type, mixture.means.shape
    shape = (k, d, d) if is_dense(name) else (k, d)
    covariances = jnp.broadcast_to(mixture.covariances, shape)
    return jaxgmm.Mixture(mixture.weights, mixture.means, covariances, Member((name,), 0).wide_type)


def fit_all(starts, x, name, **options):
    """Return the fits from starts of wide types, by the program that serves all types like this one; pad to one batch size."""
    types = DENSE if is_dense(name) else DIAGONAL
    count = len(starts)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts, *[starts[0]] * (SIZE - count))
    fits = fit_members(stacked, x, Member(types, np.asarray(types.index(name))), None, {**OPTIONS, **options})
    return jax.tree.map(lambda leaf: leaf[:count], fits)


def labelled(x, name, seed=0, k=K):
    """Return a start in wide storage whose components are the nearest of k rows; the last of the K components may be absent."""
    centers = x[np.random.default_rng(seed).choice(len(x), k, replace=False)]
    labels = ((x[:, None] - centers) ** 2).sum(-1).argmin(1)
    return wide(jaxgmm.from_labels(x, labels, num_components=K, covariance_type=name))


def as_dense(mixture):
    """Return a mixture of a wide type with matrices instead of variances."""
    if mixture.covariances.ndim == 3:
        return mixture
    covariances = mixture.covariances[..., None] * jnp.eye(mixture.num_features)
    return jaxgmm.Mixture(mixture.weights, mixture.means, covariances, "any dense")


def is_nested(inner, outer):
    """Return whether each letter of one code restricts covariances at least as much as the letter of the other."""
    return inner != outer and all(ORDER.index(a) <= ORDER.index(b) for a, b in zip(inner, outer, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_nested_types(family, x64):
    """EM with a less restricted type, from the best fit of any type that it contains, does not end with a lower likelihood."""
    x = random_data(3, N, D, spread=1.5)
    best, num_pairs = {}, 0
    for code in CODES if family == DENSE else map(code_of, DIAGONAL):
        name = canonical(code)
        inner = [best[other] for other in best if is_nested(other, code)]
        starts = [as_dense(fit.mixture) if is_dense(name) else fit.mixture for fit in inner] or [labelled(x, name)]
        fits = fit_all(starts, x, name)
        assert (np.asarray(fits.status) == Status.CONVERGED).all()
        for fit, value in zip(inner, fits.log_likelihood, strict=False):
            assert value >= fit.log_likelihood - 1e-4  # the default regularisation moves the maximum by less
            num_pairs += 1
        chosen = int(fits.log_likelihood.argmax())
        best[code] = jax.tree.map(lambda leaf, i=chosen: leaf[i], fits)
    assert num_pairs == (12 if family == DIAGONAL else 61)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32(family, x64):
    """In float32, each type reaches the log-likelihood and the parameters that it reaches in float64."""
    x = random_data(3, N, D, spread=3.0)
    for name in family:
        exact, rounded = (fit_all([labelled(data, name)], data, name, tol=1e-8) for data in (x, x.astype(np.float32)))
        assert rounded.mixture.covariances.dtype == np.float32
        assert rounded.status[0] == Status.CONVERGED
        np.testing.assert_allclose(rounded.log_likelihood, exact.log_likelihood, rtol=1e-5)
        assert_mixtures_close(rounded.mixture[0], exact.mixture[0], 1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_component(family, x64):
    """With one component that is present, the types fall into three groups: spherical, diagonal and full."""
    x = random_data(5, N, D)
    values = {name: float(fit_all([labelled(x, name, k=1)], x, name).log_likelihood[0]) for name in family}
    for groups in (("EII", "spherical"), ("EEI", "VEI", "EVI", "diag"), DENSE):
        if groups[0] in family:
            np.testing.assert_allclose([values[name] for name in groups], values[groups[0]], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("family", [DIAGONAL, DENSE], ids=["diagonal", "dense"])
def test_one_feature(family, x64):
    """With one feature, only the letter of the volume counts; the default regularisation may count it once or K times."""
    x = random_data(5, N, 1)
    fits = {name: fit_all([labelled(x, name)], x, name) for name in family}
    for name, fit in fits.items():
        like = next(other for other in family if code_of(other)[0] == code_of(name)[0])
        np.testing.assert_allclose(fit.log_likelihood, fits[like].log_likelihood, rtol=1e-7)
        assert_mixtures_close(fit.mixture[0], fits[like].mixture[0], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_fit_alone(name, x64):
    """A program that serves several types gives the fit that `fit` gives, also if a component is absent."""
    x = random_data(3, N, D, spread=3.0)
    starts = [labelled(x, name), labelled(x, name, k=2)]
    together = fit_all(starts, x, name, accelerate=True)
    for i, start in enumerate(starts):
        narrowed = dataclasses.replace(
            start, covariances=jnp.asarray(narrow(np.asarray(start.covariances), name)), covariance_type=name
        )
        alone = jaxgmm.fit(narrowed, x, tol=1e-11, max_iter=3000, accelerate=True)
        np.testing.assert_allclose(together.log_likelihood[i], alone.log_likelihood, rtol=1e-9)
        np.testing.assert_allclose(together.objective[i], alone.objective, rtol=1e-9)
        assert_mixtures_close(together.mixture[i], wide(alone.mixture), 1e-5)  # both end within tol of the maximum
        np.testing.assert_array_equal(together.component_status[i], alone.component_status)


@pytest.mark.parametrize("family", FAMILIES)
def test_hard_input(family, x64):
    """A component far from all rows becomes empty, a component on equal rows is reported, and fewer rows than features do."""
    x = random_data(3, N, D, spread=3.0)
    x[:12] = x[0]  # a spike
    for name in family:
        spread = 4 * np.eye(D) if is_dense(name) else np.full(D, 4.0)
        start = wide(
            jaxgmm.make_mixture(
                np.full(K, 1 / K), np.array([x[20], x[40], x[0] + 1e6]), _stored(name, spread), covariance_type=name
            )
        )
        far = jax.tree.map(lambda leaf: leaf[0], fit_all([start], x, name))
        assert far.status == Status.CONVERGED
        assert far.component_status[2] == ComponentStatus.EMPTY
        assert np.isfinite(far.mixture.covariances).all()
        labels = np.where(np.arange(N) < 12, 2, np.arange(N) % 2)
        spike = wide(jaxgmm.from_labels(x, labels, num_components=K, covariance_type=name))
        found = jax.tree.map(lambda leaf: leaf[0], fit_all([spike], x, name))
        assert found.status in (Status.CONVERGED, Status.MAX_ITER)
        assert np.isfinite(found.log_likelihood)
        if code_of(name) in ("VII", "VVI", "VVV"):
            assert found.component_status[2] == ComponentStatus.AT_FLOOR


def _stored(name, covariance):
    """Return the covariances of K components that are all equal to one covariance."""
    variances = np.diagonal(covariance) if covariance.ndim == 2 else covariance
    stored = {"dense": covariance, "diagonal": variances}["dense" if is_dense(name) else "diagonal"]
    return np.asarray(narrow(np.stack([stored] * K), name))
