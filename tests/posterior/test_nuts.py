"""nuts: draws from the right density near the EM solution, under jit and vmap, and statuses and errors where sampling fails."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import chains
from jaxgmm.posterior import nuts as module
from jaxgmm.posterior.diagnostics import e_bfmi, ess_bulk, rhat
from jaxgmm.posterior.gaussian_approximation import approximate_posterior
from jaxgmm.posterior.result import PosteriorStatus

from helpers import check_log_density, fitted, independent_prior, two_groups


@pytest.fixture(scope="module")
def faithful():
    """Return data, fit, prior, two starts that differ in the order of their components, and a posterior."""
    x = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] < 3).astype(int), num_components=2), x, prior)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), fit.mixture)
    return x, fit, prior, starts, jaxgmm.nuts(jax.random.key(1), starts, x, prior, num_samples=400)


def test_faithful(faithful):
    """No divergence, R-hat below 1.03, over 400 effective draws of 1600 (typically 1.005, 2000), EM within a posterior sd."""
    x, fit, prior, _, posterior = faithful
    assert posterior.mixture.batch_shape == (4, 400)
    assert int(posterior.status) == PosteriorStatus.OK
    assert posterior.mixture.means.dtype == posterior.log_density.dtype == jnp.float32
    assert not posterior.stats["diverging"].any()
    assert not bool(posterior.stats["adapted"])
    for name in ("weights", "means", "covariances"):
        draws, point = np.asarray(getattr(posterior.mixture, name)), np.asarray(getattr(fit.mixture, name))
        assert rhat(draws).max() < 1.03
        assert ess_bulk(draws).min() > 400
        assert (abs(draws.mean((0, 1)) - point) < draws.std((0, 1))).all()
    assert (e_bfmi(posterior.stats["energy"]) > 0.3).all()
    check_log_density(posterior, x, prior)
    # the mode lies above all draws, by about half a nat per parameter
    assert 2 < float(fit.objective - posterior.log_density.mean()) < 12


def test_same_key_same_draws_and_nothing_compiled_anew(faithful):
    """A second call with the same shapes uses the compiled programs of the first and returns the same draws."""
    x, _, prior, starts, posterior = faithful
    sizes = approximate_posterior._cache_size(), chains.sample_chains._cache_size()
    again = jaxgmm.nuts(jax.random.key(1), starts, x, prior, num_samples=400)
    assert (approximate_posterior._cache_size(), chains.sample_chains._cache_size()) == sizes
    np.testing.assert_array_equal(again.log_density, posterior.log_density)


def test_chains_from_other_starts_stay_outside(faithful):
    """A mode that differs only by its labelling agrees; another partition of three groups is reported and biases nothing.

    Data and prior equal their mirror image, so the other mode has half of the mass.
    """
    _, _, prior, starts, posterior = faithful
    assert posterior.stats["other_log_density"].shape == (1, 400)
    assert float(posterior.stats["other_rhat"][0]) < 1.05
    assert int(posterior.status) == PosteriorStatus.OK
    np.testing.assert_allclose(posterior.stats["other_share"], 0.5, atol=0.01)
    half = 0.5 * np.random.default_rng(0).normal(size=(136, 2)).astype(np.float32)
    half[::2, 0] += 12
    x = np.concatenate([half, -half])
    groups = np.r_[np.arange(136) % 2 == 0, 2 * (np.arange(136) % 2 == 0)]  # half of the rows are in the middle
    two = [jaxgmm.from_labels(x, (groups == away).astype(int), num_components=2) for away in (2, 1)]
    prior = dataclasses.replace(prior, mean=jnp.zeros(2, jnp.float32), scale=jnp.eye(2, dtype=jnp.float32))
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *two)
    with pytest.warns(RuntimeWarning, match="another start"):
        found = jaxgmm.nuts(jax.random.key(1), stack, x, prior, num_samples=400, adapt_mass_matrix=False)
    assert int(found.status) == PosteriorStatus.MULTIMODAL
    assert float(found.stats["rhat"]) < 1.05
    np.testing.assert_allclose(found.stats["other_share"], 0.5, atol=0.01)
    assert float(found.stats["other_rhat"][0]) > 1.3
    # the draws are those of the first mode, in which the group at -12 has a component of its own
    assert abs(float(found.mixture.means[..., 1, 0].mean()) + 12) < 0.5
    with pytest.raises(ValueError, match="empty component"):
        jaxgmm.nuts(jax.random.key(1), dataclasses.replace(starts, weights=starts.weights.at[1, 0].set(0)), x, prior)


@pytest.mark.slow
def test_float64_diag_far_from_the_origin(x64):
    """float64 data give float64 draws, and far offsets and extreme units lose no accuracy; one chain."""
    x, start, prior = two_groups(0, 60, 2, "diag", np.float64)
    shift, scale = 1e4, np.array([1e-3, 1e3])
    start = dataclasses.replace(start, means=start.means * scale + shift, covariances=start.covariances * scale**2)
    prior = dataclasses.replace(prior, mean=prior.mean * scale + shift, scale=prior.scale * scale**2)
    x = x * scale + shift
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status may not be OK after 60 draws
        posterior = jaxgmm.nuts(jax.random.key(0), start, x, prior, num_samples=60, num_chains=1, adapt_mass_matrix=False)
    assert posterior.log_density.dtype == jnp.float64
    assert posterior.mixture.batch_shape == (1, 60)
    check_log_density(posterior, x, prior, rtol=1e-9)


@pytest.mark.slow
def test_tied_with_weights_under_a_half_normal_prior():
    """Rows of weight 0 may hold NaN; means are independent of covariances, scales are half-normal; D=2."""
    x, start, _ = two_groups(3, 60, 2, "tied")
    weight = np.ones(60, np.float32)
    weight[:5], weight[5:10] = 0, 2
    x[:5] = np.nan
    prior = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), independent_prior("tied", 2, 2, True))
    prior = dataclasses.replace(prior, mean_covariance=100 * prior.mean_covariance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = jaxgmm.nuts(
            jax.random.key(0), start, x, prior, num_samples=50, num_chains=2, sample_weight=weight, adapt_mass_matrix=False
        )
    assert posterior.mixture.covariances.shape == (2, 50, 1, 2, 2)
    check_log_density(posterior, x, prior, weight)


@pytest.mark.slow
def test_vmap_over_data_starts_and_priors():
    """In test_user_model.py, `nuts` is vmapped by default.

    Each result is the posterior of its own data, one of which is padded; NaN in one data set is a status, no error."""
    data_sets = [two_groups(seed, 40, 1, "spherical") for seed in range(3)]
    xs = np.stack([x for x, _, _ in data_sets])
    starts, priors = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *part) for part in list(zip(*data_sets, strict=True))[1:])
    weights = np.ones((3, 40), np.float32)
    weights[1, 30:] = 0
    xs[2, 0] = np.nan

    def many(key, start, x, prior, weight):
        return jaxgmm.nuts(key, start, x, prior, num_samples=80, num_chains=2, sample_weight=weight, max_tree_depth=6)

    arguments = jax.random.split(jax.random.key(0), 3), starts, xs, priors, weights
    # this option halves the time of compilation and multiplies that of the run
    compiled = jax.jit(jax.vmap(many)).lower(*arguments).compile(compiler_options={"xla_backend_optimization_level": 0})
    posteriors = compiled(*arguments)
    assert posteriors.mixture.batch_shape == (3, 2, 80)
    sound = (PosteriorStatus.OK, PosteriorStatus.POOR_METRIC, PosteriorStatus.DIVERGENCES, PosteriorStatus.FEW_DRAWS)
    assert np.isin(np.asarray(posteriors.status)[:2], sound).all()
    assert int(posteriors.status[2]) == PosteriorStatus.NONFINITE
    for b in range(2):
        one = jax.tree.map(lambda leaf, b=b: leaf[b], posteriors)
        check_log_density(one, xs[b], data_sets[b][2], weights[b])


def test_invalid_options(faithful):
    """Each raises an error that names it."""
    x, fit, prior, *_ = faithful
    for change, error, sentence in (
        (dict(num_warmup=-1), ValueError, "num_warmup is -1"),
        (dict(adapt_mass_matrix="yes"), TypeError, "adapt_mass_matrix is 'yes'"),
        (dict(target_accept_prob=1.5), ValueError, "target_accept_prob is 1.5"),
        (dict(max_tree_depth=0), ValueError, "max_tree_depth is 0"),
        (dict(num_chains=0), ValueError, "num_chains is 0"),
    ):
        with pytest.raises(error, match=sentence):
            jaxgmm.nuts(jax.random.key(0), fit.mixture, x, prior, **change)


def test_a_start_without_density_is_refused(faithful):
    """A start so far from the data that its density underflows to zero."""
    x, _, prior, starts, _ = faithful
    far = dataclasses.replace(starts, means=starts.means + 1e25)
    with pytest.raises(ValueError, match="no finite posterior density"):
        jaxgmm.nuts(jax.random.key(0), far, x, prior)


def test_full_warmup_follows_poor_draws(monkeypatch, faithful):
    """Outside jit, a full warm-up follows a short one whose draws are not good enough."""
    x, _, prior, starts, posterior = faithful
    ran = []

    def fake(*arguments):
        adapt = arguments[-1]
        ran.append(adapt)
        status = PosteriorStatus.FULL_WARMUP if adapt else PosteriorStatus.DIVERGENCES
        return dataclasses.replace(posterior, status=jnp.array(status))

    monkeypatch.setattr(module, "_run", fake)
    assert int(jaxgmm.nuts(jax.random.key(0), starts, x, prior).status) == PosteriorStatus.FULL_WARMUP
    assert ran == [False, True]
    with pytest.warns(RuntimeWarning, match="divergent"):
        jaxgmm.nuts(jax.random.key(0), starts, x, prior, adapt_mass_matrix=False)
    assert ran == [False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "k", "covariance_type"), [("iris", 3, "tied"), ("iris", 3, "diag"), ("galaxies", 3, "spherical")]
)
def test_log_density_on_real_data(name, k, covariance_type):
    """The log density is right, and no chain from an over-dispersed start is lost: its R-hat is below 1.05."""
    x = np.asarray(jaxgmm.datasets.load(name), np.float32)
    fit, prior = fitted(x, k, covariance_type)
    posterior = jaxgmm.nuts(jax.random.key(0), fit.mixture, x, prior, num_chains=8, num_samples=500)
    check_log_density(posterior, x, prior)
    assert rhat(posterior.log_density) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faithful", "galaxies"])
def test_overfitting_is_reported(name):
    """With four components the full warm-up is run, the status is not OK, and labels are not identified.

    Galaxies under the prior of Chib (1995): mu ~ N(20, 10^2), variance ~ IG(3, 20), Dirichlet(1).
    """
    x = np.asarray(jaxgmm.datasets.load(name), np.float32)
    fit, prior = fitted(x, 4)
    if name == "galaxies":
        array = lambda *v: jnp.asarray(v[0] if len(v) == 1 else v, jnp.float32)  # noqa: E731
        scale = jaxgmm.InverseWishart(array(6.0), array([[40.0]]))
        prior = jaxgmm.IndependentPrior(array(1.0, 1.0, 1.0, 1.0), array([20.0]), array([[100.0]]), scale)
        fit = jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = jaxgmm.nuts(jax.random.key(0), fit.mixture, x, prior, num_samples=500)
    assert bool(posterior.stats["adapted"])
    assert int(posterior.status) != PosteriorStatus.OK
    found = jaxgmm.relabel(posterior, fit.mixture, x)
    assert not bool(found.stats["labels_identified"])
    assert jaxgmm.diagnose(found)["parameters"] is None
