"""nuts: draws from the right density, near EM, under jit and vmap; loud where something is wrong."""

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
from jaxgmm.posterior.result import PosteriorStatus

from helpers import check_log_density, fitted, independent_prior, two_groups


@pytest.fixture(scope="module")
def faithful():
    """The second start is the first one's with its components the other way round."""
    x = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] < 3).astype(int), num_components=2), x, prior)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), fit.mixture)
    return x, fit, prior, starts, jaxgmm.nuts(jax.random.key(1), starts, x, prior, num_samples=400)


def test_faithful(faithful):
    """No divergence, R-hat under 1.03, over 400 effective draws of 1600 (seen: 1.005, 2000); EM within a standard deviation."""
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
    # the mode lies above all draws: about half a nat a parameter
    assert 2 < float(fit.objective - posterior.log_density.mean()) < 12


def test_same_key_same_draws_and_nothing_compiled_anew(faithful):
    """A second call with the same shapes runs what the first one compiled."""
    x, _, prior, starts, posterior = faithful
    sizes = module._bridge._cache_size(), chains.sample_chains._cache_size()
    again = jaxgmm.nuts(jax.random.key(1), starts, x, prior, num_samples=400)
    assert (module._bridge._cache_size(), chains.sample_chains._cache_size()) == sizes
    np.testing.assert_array_equal(again.log_density, posterior.log_density)


def test_chains_from_other_starts_stay_outside(faithful):
    """A mode that only labels set apart agrees; one of another partition of three groups is told, and biases nothing.

    Data and prior are their own mirror image, so the other mode's share is a half.
    """
    _, _, prior, starts, posterior = faithful
    assert posterior.stats["other_log_density"].shape == (1, 400)
    assert float(posterior.stats["other_rhat"][0]) < 1.05
    assert int(posterior.status) == PosteriorStatus.OK
    np.testing.assert_allclose(posterior.stats["other_share"], 0.5, atol=0.01)
    half = 0.5 * np.random.default_rng(0).normal(size=(136, 2)).astype(np.float32)
    half[::2, 0] += 12
    x = np.concatenate([half, -half])
    groups = np.r_[np.arange(136) % 2 == 0, 2 * (np.arange(136) % 2 == 0)]  # half of the rows in the middle
    two = [jaxgmm.from_labels(x, (groups == away).astype(int), num_components=2) for away in (2, 1)]
    prior = dataclasses.replace(prior, mean=jnp.zeros(2, jnp.float32), scale=jnp.eye(2, dtype=jnp.float32))
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *two)
    with pytest.warns(RuntimeWarning, match="another start"):
        found = jaxgmm.nuts(jax.random.key(1), stack, x, prior, num_samples=400, adapt_mass_matrix=False)
    assert int(found.status) == PosteriorStatus.MULTIMODAL
    assert float(found.stats["rhat"]) < 1.05
    np.testing.assert_allclose(found.stats["other_share"], 0.5, atol=0.01)
    assert float(found.stats["other_rhat"][0]) > 1.3
    # the draws are those of the first mode: its lonely group stays where it is
    assert abs(float(found.mixture.means[..., 1, 0].mean()) + 12) < 0.5
    with pytest.raises(ValueError, match="empty component"):
        jaxgmm.nuts(jax.random.key(1), dataclasses.replace(starts, weights=starts.weights.at[1, 0].set(0)), x, prior)


@pytest.mark.slow
def test_float64_diag_far_from_the_origin(x64):
    """Double precision in, double precision out; offsets and units cost nothing. One chain."""
    x, start, prior = two_groups(0, 60, 2, "diag", np.float64)
    shift, scale = 1e4, np.array([1e-3, 1e3])
    start = dataclasses.replace(start, means=start.means * scale + shift, covariances=start.covariances * scale**2)
    prior = dataclasses.replace(prior, mean=prior.mean * scale + shift, scale=prior.scale * scale**2)
    x = x * scale + shift
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 60 draws may not do
        posterior = jaxgmm.nuts(jax.random.key(0), start, x, prior, num_samples=60, num_chains=1, adapt_mass_matrix=False)
    assert posterior.log_density.dtype == jnp.float64
    assert posterior.mixture.batch_shape == (1, 60)
    check_log_density(posterior, x, prior, rtol=1e-9)


@pytest.mark.slow
def test_tied_with_weights_under_a_half_normal_prior():
    """Rows of weight 0 may hold NaN; means free of covariances, scales half-normal. D=2."""
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


def test_vmap_over_data_starts_and_priors():
    """Spherical and padded: each lane is a posterior of its own data; a lane of NaN says so, and raises nothing."""
    lanes = [two_groups(seed, 40, 1, "spherical") for seed in range(3)]
    xs = np.stack([x for x, _, _ in lanes])
    starts, priors = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *part) for part in list(zip(*lanes, strict=True))[1:])
    weights = np.ones((3, 40), np.float32)
    weights[1, 30:] = 0
    xs[2, 0] = np.nan

    def many(key, start, x, prior, weight):
        return jaxgmm.nuts(key, start, x, prior, num_samples=80, num_chains=2, sample_weight=weight, max_tree_depth=6)

    arguments = jax.random.split(jax.random.key(0), 3), starts, xs, priors, weights
    # compiled in half the time, run at a few times it
    compiled = jax.jit(jax.vmap(many)).lower(*arguments).compile(compiler_options={"xla_backend_optimization_level": 0})
    posteriors = compiled(*arguments)
    assert posteriors.mixture.batch_shape == (3, 2, 80)
    assert (np.asarray(posteriors.status)[:2] < PosteriorStatus.UNMIXED).all()
    assert int(posteriors.status[2]) == PosteriorStatus.NONFINITE
    for b in range(2):
        lane = jax.tree.map(lambda leaf, b=b: leaf[b], posteriors)
        check_log_density(lane, xs[b], lanes[b][2], weights[b])


def test_options_that_make_no_sense(faithful):
    """Each refused by name."""
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
    """A start so far out that its density underflows to nothing."""
    x, _, prior, starts, _ = faithful
    far = dataclasses.replace(starts, means=starts.means + 1e25)
    with pytest.raises(ValueError, match="no finite posterior density"):
        jaxgmm.nuts(jax.random.key(0), far, x, prior)


def test_judgement_finds_the_gravest(faithful):
    """Divergences, chains apart, stuck chains and NaN each have their status."""
    x, _, prior, starts, posterior = faithful
    _, bridge, _ = module._bridge(jax.random.key(0), starts, jnp.asarray(x), None, prior, model=None)
    bridge = jax.tree.map(lambda leaf: leaf[0], bridge)
    good, quiet = posterior.log_density, jnp.zeros((4, 400), bool)

    def judge(log_density=good, diverging=quiet, rhat=1.0, bridge=bridge, adapted=False):
        return int(chains.judge(bridge, log_density, diverging, jnp.asarray(rhat), adapted))

    assert judge() == PosteriorStatus.OK
    assert judge(adapted=True) == PosteriorStatus.FULL_WARMUP
    assert judge(bridge=bridge._replace(sound=jnp.array(False))) == PosteriorStatus.POOR_METRIC
    assert judge(diverging=quiet.at[0, 0].set(True)) == PosteriorStatus.DIVERGENCES
    assert judge(rhat=1.2) == judge(rhat=np.nan) == PosteriorStatus.UNMIXED
    assert judge(diverging=~quiet) == judge(log_density=good.at[0].set(1.0)) == PosteriorStatus.ALL_DIVERGENT
    assert judge(log_density=good.at[0, 0].set(jnp.nan)) == PosteriorStatus.NONFINITE
    shifted = good + 100 * jnp.arange(4)[:, None]
    assert float(chains.split_rhat(shifted)) > 2 > float(chains.split_rhat(good))


def test_gate_distrusts_a_component_of_few_points(faithful):
    """Six points in two dimensions do not make a component normal; the gate's figures are in the bridge."""
    prior = faithful[2]
    x = np.random.default_rng(0).normal(size=(272, 2)).astype(np.float32)
    x[:6] += 9
    start = jaxgmm.from_labels(x, (np.arange(272) >= 6).astype(int), num_components=2)
    start = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
    prior = dataclasses.replace(prior, mean=jnp.zeros(2, jnp.float32), scale=jnp.eye(2, dtype=jnp.float32))
    _, bridge, _ = module._bridge(jax.random.key(0), start, jnp.asarray(x), None, prior, model=None)
    assert not bridge.sound.any()
    assert bridge.counts.min() < 10


def test_falls_back_where_draws_disappoint(monkeypatch, faithful):
    """Eager: a short run that does not satisfy is followed by a full warm-up; so is a gate that says no."""
    x, _, prior, starts, posterior = faithful
    ran = []

    def fake(*args, adapt, **options):
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
@pytest.mark.parametrize(("name", "k", "kind"), [("iris", 3, "tied"), ("iris", 3, "diag"), ("galaxies", 3, "spherical")])
def test_log_density_on_real_data(name, k, kind):
    """And no chain is lost, from over-dispersed starts: R-hat of the log density under 1.05."""
    x = np.asarray(jaxgmm.datasets.load(name), np.float32)
    fit, prior = fitted(x, k, kind)
    posterior = jaxgmm.nuts(jax.random.key(0), fit.mixture, x, prior, num_chains=8, num_samples=500)
    check_log_density(posterior, x, prior)
    assert rhat(posterior.log_density) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faithful", "galaxies"])
def test_overfitting_is_found_out(name):
    """Four components: the gate says no or the draws do, a full warm-up is run, and labels are not identified.

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
